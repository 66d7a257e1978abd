// Big-endian words in byte strings. The caller has checked that the bytes are there.

export const read16 = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;

export const read32 = (bytes: Uint8Array, at: number): number =>
  ((read16(bytes, at) << 16) | read16(bytes, at + 2)) >>> 0;

export const write16 = (bytes: Uint8Array, at: number, value: number): void => {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value & 0xff;
};

export const write32 = (bytes: Uint8Array, at: number, value: number): void => {
  write16(bytes, at, value >>> 16);
  write16(bytes, at + 2, value & 0xffff);
};
