// Values of any width as big-endian bytes and as numbers.

/** The low `size` bytes of a number, big-endian. */
export const toBytes = (value: bigint, size: number): Uint8Array => {
  const bytes = new Uint8Array(size);
  let rest = value;
  for (let i = size - 1; i >= 0 && rest !== 0n; i--) {
    bytes[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return bytes;
};

/** Big-endian bytes as a number. */
export const fromBytes = (bytes: Uint8Array): bigint => {
  if (bytes.length === 8) return new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0);
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return value;
};
