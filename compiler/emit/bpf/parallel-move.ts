// Puts register values into argument registers as if all moves happened at once.

/** `to = from`, machine register numbers. */
export interface Move {
  readonly to: number;
  readonly from: number;
}

/**
 * Orders `moves` so that no value is overwritten before it is read.
 * @param moves - no two with one `to`, none with `to` = `scratch`
 * @param scratch - a register whose value is wanted by these moves only; breaks cycles
 */
export const orderMoves = (moves: readonly Move[], scratch: number): readonly Move[] => {
  const out: Move[] = [];
  let waiting = moves.filter((m) => m.to !== m.from);
  while (waiting.length > 0) {
    const ready = waiting.filter((m) => waiting.every((other) => other === m || other.from !== m.to));
    if (ready.length > 0) {
      out.push(...ready);
      waiting = waiting.filter((m) => !ready.includes(m));
      continue;
    }
    // Only cycles are left, and none of them reads the scratch register: it is no target, so it would be ready.
    const [first] = waiting;
    out.push({ to: scratch, from: first!.from });
    waiting = waiting.map((m) => (m.from === first!.from ? { ...m, from: scratch } : m));
  }
  return out;
};
