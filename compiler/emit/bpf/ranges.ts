// Sets of half-open ranges of program positions, sorted and disjoint: when a virtual register holds something that is
// still wanted. A range set is a flat array [start0, end0, start1, end1, ...].

export type Ranges = readonly number[];

/** Index in `r` of the first range that ends after `position`, or `r.length`. */
const firstEndingAfter = (r: Ranges, position: number): number => {
  let low = 0;
  let high = r.length >> 1;
  while (low < high) {
    const mid = (low + high) >> 1;
    if (r[2 * mid + 1]! > position) high = mid;
    else low = mid + 1;
  }
  return 2 * low;
};

/** Whether some position lies in both. */
export const intersects = (a: Ranges, b: Ranges): boolean => {
  if (a.length === 0 || b.length === 0) return false;
  let i = firstEndingAfter(a, b[0]!);
  let j = firstEndingAfter(b, a[0]!);
  while (i < a.length && j < b.length) {
    if (a[i + 1]! <= b[j]!) i += 2;
    else if (b[j + 1]! <= a[i]!) j += 2;
    else return true;
  }
  return false;
};

/** Whether `position` lies in `r`. */
export const contains = (r: Ranges, position: number): boolean => {
  const i = firstEndingAfter(r, position);
  return i < r.length && r[i]! <= position;
};

/** Positions that lie in either. */
export const union = (a: Ranges, b: Ranges): Ranges => {
  const out: number[] = [];
  for (let i = 0, j = 0; i < a.length || j < b.length;) {
    const fromA = j >= b.length || (i < a.length && a[i]! <= b[j]!);
    const start = fromA ? a[i]! : b[j]!;
    const end = fromA ? a[i + 1]! : b[j + 1]!;
    if (fromA) i += 2;
    else j += 2;
    const last = out.length - 1;
    if (last > 0 && start <= out[last]!) out[last] = Math.max(out[last]!, end);
    else out.push(start, end);
  }
  return out;
};

/** How many positions lie in `r`. */
export const extent = (r: Ranges): number => {
  let n = 0;
  for (let i = 0; i < r.length; i += 2) n += r[i + 1]! - r[i]!;
  return n;
};

/** First position in `r` and the one after its last. */
export const bounds = (r: Ranges): readonly [start: number, end: number] => [r[0] ?? 0, r.at(-1) ?? 0];
