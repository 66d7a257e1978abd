// murmurhash3 as OVS uses it (lib/hash.h, the build without SSE4.2 that Debian ships), in 32-bit integers.

const rotate = (x: number, k: number): number => (x << k) | (x >>> (32 - k));

/** Its constants: factors, signed, and turns and shifts in bits. */
export const MURMUR = {
  before: 0xcc9e2d51 | 0,
  turn: 15,
  after: 0x1b873593,
  hashTurn: 13,
  times: 5,
  plus: 0xe6546b64 | 0,
  finish: [
    { shift: 16, times: 0x85ebca6b | 0 },
    { shift: 13, times: 0xc2b2ae35 | 0 },
  ],
  lastShift: 16,
} as const;

/** `hash_add`. */
export const murmurAdd = (hash: number, data: number): number => {
  hash ^= Math.imul(rotate(Math.imul(data, MURMUR.before), MURMUR.turn), MURMUR.after);
  return (Math.imul(rotate(hash, MURMUR.hashTurn), MURMUR.times) + MURMUR.plus) | 0;
};

/** `hash_finish`; unsigned. */
export const murmurFinish = (hash: number, final: number): number => {
  hash ^= final;
  for (const { shift, times } of MURMUR.finish) hash = Math.imul(hash ^ (hash >>> shift), times);
  return (hash ^ (hash >>> MURMUR.lastShift)) >>> 0;
};
