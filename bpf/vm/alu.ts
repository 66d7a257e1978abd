// 64-bit multiplication and division on register pairs: `R[d]` low and `R[d + 1]` high word.

/** The upper 32 bits of the 64-bit product of two unsigned words. */
const mulHigh = (a: number, b: number): number => {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const low = a1 * b0 + ((a0 * b0) >>> 16);
  const middle = a0 * b1 + (low & 0xffff);
  return a1 * b1 + Math.floor(low / 0x10000) + Math.floor(middle / 0x10000);
};

/** `d = d * s`, modulo 2^64. */
export const mul64 = (R: Int32Array, d: number, s: number): void => {
  const al = R[d]!;
  const bl = R[s]!;
  R[d + 1] = mulHigh(al, bl) + Math.imul(R[d + 1]!, bl) + Math.imul(al, R[s + 1]!);
  R[d] = Math.imul(al, bl);
};

const unsigned = (R: Int32Array, at: number): bigint => (BigInt(R[at + 1]! >>> 0) << 32n) | BigInt(R[at]! >>> 0);
const signed = (R: Int32Array, at: number): bigint => BigInt.asIntN(64, unsigned(R, at));
const set = (R: Int32Array, at: number, value: bigint): void => {
  R[at] = Number(BigInt.asIntN(32, value));
  R[at + 1] = Number(BigInt.asIntN(32, value >> 32n));
};
const isZero = (R: Int32Array, at: number): boolean => R[at] === 0 && R[at + 1] === 0;

/** `d = d / s` unsigned, 0 when `s` is 0. */
export const div64 = (R: Int32Array, d: number, s: number): void => {
  if (R[d + 1] === 0 && R[s + 1] === 0) R[d] = R[s] === 0 ? 0 : (R[d]! >>> 0) / (R[s]! >>> 0);
  else set(R, d, isZero(R, s) ? 0n : unsigned(R, d) / unsigned(R, s));
};

/** `d = d % s` unsigned, unchanged when `s` is 0. */
export const mod64 = (R: Int32Array, d: number, s: number): void => {
  if (isZero(R, s)) return;
  if (R[d + 1] === 0 && R[s + 1] === 0) R[d] = (R[d]! >>> 0) % (R[s]! >>> 0);
  else set(R, d, unsigned(R, d) % unsigned(R, s));
};

/** `d = d / s` signed, rounded to zero; 0 when `s` is 0, the smallest number divided by -1 is itself. */
export const sdiv64 = (R: Int32Array, d: number, s: number): void => {
  set(R, d, isZero(R, s) ? 0n : signed(R, d) / signed(R, s));
};

/** `d = d % s` signed, with the sign of `d`; unchanged when `s` is 0. */
export const smod64 = (R: Int32Array, d: number, s: number): void => {
  if (!isZero(R, s)) set(R, d, signed(R, d) % signed(R, s));
};

/** The bytes of a word in reverse. */
export const swap32 = (x: number): number => (x << 24) | ((x & 0xff00) << 8) | ((x >>> 8) & 0xff00) | (x >>> 24);
