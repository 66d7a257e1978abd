// Netlink attributes as codec values. A codec says how a value lies in bytes and, by its type, what the value is: the type
// of a message is inferred from its codec and never written twice. Reading refuses what it cannot account for and says
// where; unknown attributes are skipped, as the netlink rules want of every reader.
//
// Attributes are `struct nlattr`: u16 length (header included), u16 type, payload, zero padding to 4 bytes. Integers are in
// host order unless the codec's name ends in `be`; the supported machines are all little-endian.

import { CodecError, roundUp } from "ebpf-assembler";

/** Bytes of an attribute header. */
export const NLA_HDRLEN = 4;
/** Set in the type of attributes whose payload is attributes (uapi/linux/netlink.h). */
const NLA_F_NESTED = 0x8000;
/** Set in the type of attributes in network order. */
const NLA_F_NET_BYTEORDER = 0x4000;
const TYPE_MASK = ~(NLA_F_NESTED | NLA_F_NET_BYTEORDER) & 0xffff;
/** The length field is a u16. */
export const NLA_MAX_PAYLOAD = 0xffff - NLA_HDRLEN;

/** How values of type `T` lie in bytes. */
export interface Codec<T> {
  /** Whether the payload is attributes itself: the attribute's type carries NLA_F_NESTED then. */
  readonly isNested: boolean;
  /** Bytes that {@link Codec.put} writes for `value`, without padding behind. */
  size(value: T): number;
  /**
   * Writes `value` at `at`.
   * @param path - names the value in errors, e.g. `upcall.key`
   * @throws {@link CodecError} for a value that does not fit
   */
  put(value: T, out: DataView, at: number, path: string): void;
  /**
   * Reads the `size` bytes at `at`. Byte strings are views into `from`, not copies.
   * @throws {@link CodecError}
   */
  get(from: DataView, at: number, size: number, path: string): T;
}

/** Any codec, for constraints: values of unknown type come out and nothing can be put in. */
interface SomeCodec {
  readonly isNested: boolean;
  size(value: never): number;
  put(value: never, out: DataView, at: number, path: string): void;
  get(from: DataView, at: number, size: number, path: string): unknown;
}
/** The type of the values of a codec. */
export type ValueOf<C extends SomeCodec> = ReturnType<C["get"]>;

const wantSize = (size: number, want: number, at: number, path: string): void => {
  if (size !== want) throw new CodecError(`decode ${path}`, at, `want ${want} bytes, got ${size}`);
};

const wantInteger = (value: number, max: number, path: string): void => {
  if (!Number.isInteger(value) || value < 0 || value > max)
    throw new CodecError(`encode ${path}`, -1, `want an integer from 0 to ${max}, got ${value}`);
};

type Width = 8 | 16 | 32;

/** An unsigned integer of up to 32 bits. */
const unsigned = (bits: Width, littleEndian: boolean): Codec<number> => {
  const bytes = bits >>> 3;
  return {
    isNested: false,
    size: () => bytes,
    put: (value, out, at, path) => {
      wantInteger(value, 2 ** bits - 1, path);
      if (bits === 8) out.setUint8(at, value);
      else if (bits === 16) out.setUint16(at, value, littleEndian);
      else out.setUint32(at, value, littleEndian);
    },
    get: (from, at, size, path) => {
      wantSize(size, bytes, at, path);
      if (bits === 8) return from.getUint8(at);
      return bits === 16 ? from.getUint16(at, littleEndian) : from.getUint32(at, littleEndian);
    },
  };
};

const unsigned64 = (littleEndian: boolean): Codec<bigint> => ({
  isNested: false,
  size: () => 8,
  put: (value, out, at, path) => {
    if (BigInt.asUintN(64, value) !== value)
      throw new CodecError(`encode ${path}`, -1, `want an integer from 0 to 2^64 - 1, got ${value}`);
    out.setBigUint64(at, value, littleEndian);
  },
  get: (from, at, size, path) => {
    wantSize(size, 8, at, path);
    return from.getBigUint64(at, littleEndian);
  },
});

/** One byte. */
export const u8 = unsigned(8, true);
/** Two bytes, host order. */
export const u16 = unsigned(16, true);
/** Four bytes, host order. */
export const u32 = unsigned(32, true);
/** Eight bytes, host order. Attributes are aligned to 4 bytes, so it may lie across an 8-byte boundary. */
export const u64 = unsigned64(true);
/** Two bytes, network order. */
export const u16be = unsigned(16, false);
/** Four bytes, network order. */
export const u32be = unsigned(32, false);
/** Eight bytes, network order. */
export const u64be = unsigned64(false);

/** A byte string of any length. Decoded ones are views: copy what is to be kept. */
export const bytes: Codec<Uint8Array> = {
  isNested: false,
  size: (value) => value.length,
  put: (value, out, at) => new Uint8Array(out.buffer, out.byteOffset + at, value.length).set(value),
  get: (from, at, size) => new Uint8Array(from.buffer, from.byteOffset + at, size),
};

/** A byte string of exactly `length` bytes, such as a MAC address. */
export const fixed = (length: number): Codec<Uint8Array> => ({
  isNested: false,
  size: () => length,
  put: (value, out, at, path) => {
    if (value.length !== length)
      throw new CodecError(`encode ${path}`, -1, `want ${length} bytes, got ${value.length}`);
    bytes.put(value, out, at, path);
  },
  get: (from, at, size, path) => {
    wantSize(size, length, at, path);
    return bytes.get(from, at, size, path);
  },
});

/** Presence alone: an attribute without payload. */
export const flag: Codec<true> = {
  isNested: false,
  size: () => 0,
  put: () => undefined,
  get: (_from, at, size, path) => {
    wantSize(size, 0, at, path);
    return true;
  },
};

/** One attribute of a set: its number, the codec of its payload, and whether it may be absent. */
type Row = readonly [type: number, codec: SomeCodec] | readonly [type: number, codec: SomeCodec, presence: "optional"];
type Rows = Readonly<Record<string, Row>>;
type Optional<R extends Rows> = {
  [K in keyof R]: R[K] extends readonly [number, SomeCodec, "optional"] ? K : never;
}[keyof R];
type AttrValues<R extends Rows> = { readonly [K in Exclude<keyof R, Optional<R>>]: ValueOf<R[K][1]> } & {
  readonly [K in Optional<R>]?: ValueOf<R[K][1]>;
};
/** Shows an intersection as one object type in messages and editors. */
type Flat<T> = { [K in keyof T]: T[K] };

/** A set of attributes, written in the order of `rows`. */
export const attrs = <const R extends Rows>(rows: R): Codec<Flat<AttrValues<R>>> => {
  // The types hold by construction: row K's codec encodes field K of the value.
  type Any = Codec<unknown>;
  const list = Object.entries(rows).map(([name, [type, codec, presence]]) => ({
    name,
    type,
    codec: codec as Any,
    isOptional: presence === "optional",
  }));
  const byType = new Map(list.map((row) => [row.type, row]));
  const field = (value: unknown, name: string): unknown => (value as Record<string, unknown>)[name];

  return {
    isNested: true,
    size: (value) => {
      let at = 0;
      for (const { name, codec } of list) {
        const part = field(value, name);
        if (part !== undefined) at = roundUp(at, 4) + NLA_HDRLEN + codec.size(part);
      }
      return at;
    },
    put: (value, out, start, path) => {
      let at = start;
      for (const { name, type, codec, isOptional } of list) {
        const part = field(value, name);
        if (part === undefined) {
          if (isOptional) continue;
          throw new CodecError(`encode ${path}.${name}`, -1, "want a value, got none");
        }
        const size = codec.size(part);
        if (size > NLA_MAX_PAYLOAD)
          throw new CodecError(`encode ${path}.${name}`, -1, `want at most ${NLA_MAX_PAYLOAD} bytes, got ${size}`);
        at = start + roundUp(at - start, 4);
        out.setUint16(at, NLA_HDRLEN + size, true);
        out.setUint16(at + 2, type | (codec.isNested ? NLA_F_NESTED : 0), true);
        codec.put(part, out, at + NLA_HDRLEN, `${path}.${name}`);
        at += NLA_HDRLEN + size;
      }
    },
    get: (from, start, size, path) => {
      const value: Record<string, unknown> = {};
      const end = start + size;
      for (let at = start; at < end;) {
        if (end - at < NLA_HDRLEN)
          throw new CodecError(`decode ${path}`, at, `want an attribute header, got ${end - at} bytes`);
        const length = from.getUint16(at, true);
        if (length < NLA_HDRLEN || at + length > end)
          throw new CodecError(
            `decode ${path}`,
            at,
            `want an attribute length from ${NLA_HDRLEN} to ${end - at}, got ${length}`,
          );
        const row = byType.get(from.getUint16(at + 2, true) & TYPE_MASK);
        if (row !== undefined) {
          const inner = `${path}.${row.name}`;
          if (row.name in value) throw new CodecError(`decode ${inner}`, at, "want one attribute, got a second one");
          value[row.name] = row.codec.get(from, at + NLA_HDRLEN, length - NLA_HDRLEN, inner);
        }
        // Padding behind the last attribute may be missing.
        at = Math.min(end, start + roundUp(at - start + length, 4));
      }
      for (const { name, isOptional } of list) {
        if (!isOptional && !(name in value))
          throw new CodecError(`decode ${path}.${name}`, start, "want this attribute, got none");
      }
      return value as Flat<AttrValues<R>>;
    },
  };
};

type Fields = Readonly<Record<string, Codec<number>>>;

/** A C struct of integers without holes. */
export const struct = <const F extends Fields>(fields: F): Codec<{ readonly [K in keyof F]: number }> => {
  const list = Object.entries(fields);
  const total = list.reduce((n, [, codec]) => n + codec.size(0), 0);
  return {
    isNested: false,
    size: () => total,
    put: (value, out, start, path) => {
      let at = start;
      for (const [name, codec] of list) {
        codec.put(value[name]!, out, at, `${path}.${name}`);
        at += codec.size(0);
      }
    },
    get: (from, start, size, path) => {
      wantSize(size, total, start, path);
      const value: Record<string, number> = {};
      let at = start;
      for (const [name, codec] of list) {
        value[name] = codec.get(from, at, codec.size(0), `${path}.${name}`);
        at += codec.size(0);
      }
      return value as { readonly [K in keyof F]: number };
    },
  };
};

/** Encodes into a new byte string. @throws {@link CodecError} */
export const encode = <T>(codec: Codec<T>, value: T, path: string): Uint8Array => {
  const out = new Uint8Array(codec.size(value));
  codec.put(value, new DataView(out.buffer), 0, path);
  return out;
};

/** Decodes a whole byte string. @throws {@link CodecError} */
export const decode = <T>(codec: Codec<T>, from: Uint8Array, path: string): T =>
  codec.get(new DataView(from.buffer, from.byteOffset, from.length), 0, from.length, path);
