/** Longest time that a packet can still be inside a program after its slot was set, or hold on to an entry that it found. */
export const GRACE_MS = 20;
