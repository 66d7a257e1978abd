// Ones' complement sums as the kernel computes them on a little-endian machine: 32-bit sums of little-endian words with
// end-around carry, folded to the 16 bits that stand in the packet (net/checksum.h).

/** Sum of two 32-bit sums. */
export const csumAdd = (a: number, b: number): number => {
  const sum = (a >>> 0) + (b >>> 0);
  return sum > 0xffffffff ? (sum - 0xffffffff) >>> 0 : sum >>> 0;
};

export const csumSub = (a: number, b: number): number => csumAdd(a, ~b);

/** The sum of bytes, as if zero bytes followed up to a multiple of 4; started with `seed`. */
export const csumPartial = (bytes: Uint8Array, seed: number): number => {
  let sum = seed >>> 0;
  // Bytes beyond the end are undefined, which counts as 0 in a bitwise operation.
  for (let i = 0; i < bytes.length; i += 4) {
    sum = csumAdd(sum, bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24));
  }
  return sum;
};

/** A 32-bit sum folded to 16 bits. */
export const from32to16 = (sum: number): number => {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
};

/** The checksum field for a sum: folded and inverted. */
export const csumFold = (sum: number): number => ~from32to16(sum) & 0xffff;

/** A checksum field after `from` in the data under it was replaced by `to` (both 32-bit, as they stand in memory). */
export const replace4 = (field: number, from: number, to: number): number =>
  csumFold(csumAdd(csumSub(~field, from), to));

/** The same for 16-bit values (csum_replace2). */
export const replace2 = (field: number, from: number, to: number): number =>
  ~add16(add16(~field & 0xffff, ~from & 0xffff), to & 0xffff) & 0xffff;

/** The same for a difference of sums. */
export const replaceByDiff = (field: number, diff: number): number => csumFold(csumAdd(diff, ~field));

const add16 = (a: number, b: number): number => {
  const sum = a + b;
  return (sum & 0xffff) + (sum >>> 16);
};
