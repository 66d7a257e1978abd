// The plan of the first program, before any packet came.

import {
  FIRST_SHAPE,
  keyLayout,
  plan,
  shape,
  shapeOf,
  type DatapathPlan,
  type DpAction,
  type KeyLayout,
  type Member,
  type PlanOptions,
  type Shape,
} from "#compiler";

/** Shapes that every program has: a packet sent out of one port. */
export const SEED_SHAPES: readonly (readonly DpAction[])[] = [[{ kind: "output", port: 0 }]];

/** Shapes of a first plan at most: each is code, and some will never be used. */
const FIRST_SHAPES_MAX = 16;

/** The members that a program always has in its key. */
const BASE_MEMBERS: readonly Member[] = ["in_port", "dl_type"];
/** Members that later fragments have none of: where they matter, so do the fragment bits. */
const L4_MEMBERS: readonly Member[] = ["tp_src", "tp_dst", "tcp_flags"];

/** The layout of a key with `members` and what it needs with them. */
export const layoutWith = (members: Iterable<Member>): KeyLayout => {
  const all = new Set([...BASE_MEMBERS, ...members]);
  if (L4_MEMBERS.some((member) => all.has(member))) all.add("nw_frag");
  return keyLayout(all);
};

/**
 * Bytes of the upcall ring: 64 GSO packets of 64 KiB, or 16,384 small ones, which is a quarter of a second at the rate that
 * the slow path keeps up with.
 */
const RING_SIZE = 1 << 22;

/**
 * A first plan for tables to which `members` can matter.
 * @param actions - lists that are to be expected; those that user space must carry out anyway are of no use
 */
export const firstPlan = (
  members: Iterable<Member>,
  actions: Iterable<readonly DpAction[]> = [],
  options: Pick<PlanOptions, "portSlots" | "tunnels"> = {},
): DatapathPlan => {
  const shapes = new Map<string, Shape>();
  for (const list of [...SEED_SHAPES, ...actions]) {
    const text = shapeOf(list);
    if (list.length > 0 && !shapes.has(text) && shapes.size < FIRST_SHAPES_MAX)
      shapes.set(text, shape(FIRST_SHAPE + shapes.size, list));
  }
  return plan({ key: layoutWith(members), shapes: [...shapes.values()], ringSize: RING_SIZE, ...options });
};
