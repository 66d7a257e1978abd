// Reads .BTF and .BTF.ext of an object file: the types that describe maps, and which source line each instruction is from.

import type { Origin } from "../isa/insn.js";
import { BTF_HEADER_BYTES, BTF_KIND, BTF_MAGIC, type TypeId } from "./btf.js";
import { ByteReader } from "./reader.js";

/** One type as it is stored; which fields count depends on the kind. */
export interface BtfType {
  readonly kind: number;
  readonly name: string;
  /** Bytes for int, struct, union, enum, float and datasec; a type for the others. */
  readonly sizeOrType: number;
  /** Of struct and union; `offset` in bits. */
  readonly members: readonly { readonly name: string; readonly type: TypeId; readonly offset: number }[];
  /** Of an array. */
  readonly of: TypeId;
  readonly count: number;
  /** Of a datasec: types of its variables. */
  readonly vars: readonly TypeId[];
  /** Byte offset in the file. */
  readonly at: number;
}

/** Bytes behind `struct btf_type`: fixed part and part per member (vlen). */
const TAIL: Readonly<Record<number, readonly [fixed: number, each: number]>> = {
  [BTF_KIND.int]: [4, 0],
  [BTF_KIND.ptr]: [0, 0],
  [BTF_KIND.array]: [12, 0],
  [BTF_KIND.struct]: [0, 12],
  [BTF_KIND.union]: [0, 12],
  [BTF_KIND.enum]: [0, 8],
  [BTF_KIND.fwd]: [0, 0],
  [BTF_KIND.typedef]: [0, 0],
  [BTF_KIND.volatile]: [0, 0],
  [BTF_KIND.const]: [0, 0],
  [BTF_KIND.restrict]: [0, 0],
  [BTF_KIND.func]: [0, 0],
  [BTF_KIND.func_proto]: [0, 8],
  [BTF_KIND.var]: [4, 0],
  [BTF_KIND.datasec]: [0, 12],
  [BTF_KIND.float]: [0, 0],
  [BTF_KIND.decl_tag]: [4, 0],
  [BTF_KIND.type_tag]: [0, 0],
  [BTF_KIND.enum64]: [0, 12],
};

const SIZED: ReadonlySet<number> = new Set([
  BTF_KIND.int,
  BTF_KIND.struct,
  BTF_KIND.union,
  BTF_KIND.enum,
  BTF_KIND.enum64,
  BTF_KIND.float,
  BTF_KIND.datasec,
]);
/** Kinds that only qualify another type. */
const MODIFIERS: ReadonlySet<number> = new Set([
  BTF_KIND.typedef,
  BTF_KIND.volatile,
  BTF_KIND.const,
  BTF_KIND.restrict,
  BTF_KIND.type_tag,
]);
/** Typedefs and arrays deeper than this are a cycle. */
const MAX_DEPTH = 64;

/** The types of a `.BTF` section. */
export class BtfTypes {
  private readonly types: (BtfType | undefined)[] = [undefined];
  private readonly strings: ByteReader;

  /** @throws CodecError for bytes that are no BTF */
  constructor(private readonly reader: ByteReader) {
    if (reader.u16(0) !== BTF_MAGIC) throw reader.error(0, "want the BTF magic number 0xeb9f");
    const header = reader.u32(4);
    if (header < BTF_HEADER_BYTES)
      throw reader.error(4, `want a header of at least ${BTF_HEADER_BYTES} bytes, got ${header}`);
    this.strings = reader.window(header + reader.u32(16), reader.u32(20));
    const types = reader.window(header + reader.u32(8), reader.u32(12));
    for (let at = 0; at < types.length;) at += this.readType(types, at);
  }

  string(offset: number): string {
    return this.strings.string(offset);
  }

  /** The type `id`. @throws CodecError if there is none */
  get(id: TypeId): BtfType {
    const type = this.types[id];
    if (!type) throw this.reader.error(0, `want a BTF type of 1..${this.types.length - 1}, got ${id}`);
    return type;
  }

  /** The type behind typedefs and qualifiers. */
  resolve(id: TypeId): BtfType {
    let type = this.get(id);
    for (let depth = 0; MODIFIERS.has(type.kind); depth++) {
      if (depth > MAX_DEPTH) throw this.reader.error(type.at, "want a type, got a cycle of typedefs");
      type = this.get(type.sizeOrType);
    }
    return type;
  }

  /** Bytes of a value of type `id`. */
  sizeOf(id: TypeId, depth = 0): number {
    const type = this.resolve(id);
    if (SIZED.has(type.kind)) return type.sizeOrType;
    if (type.kind === BTF_KIND.ptr) return 8;
    if (type.kind !== BTF_KIND.array || depth > MAX_DEPTH)
      throw this.reader.error(type.at, "want a type that has a size");
    const size = type.count * this.sizeOf(type.of, depth + 1);
    if (size > 0x7fff_ffff) throw this.reader.error(type.at, `want a type below 2 GiB, got ${size} bytes`);
    return size;
  }

  /** All types of a kind. */
  *ofKind(kind: number): Generator<BtfType> {
    for (const type of this.types) if (type?.kind === kind) yield type;
  }

  private readType(types: ByteReader, at: number): number {
    const info = types.u32(at + 4);
    const kind = (info >>> 24) & 0x1f;
    const vlen = info & 0xffff;
    const tail = TAIL[kind];
    if (!tail) throw types.error(at, `want a BTF kind of 1..19, got ${kind}`);
    const bytes = 12 + tail[0] + tail[1] * vlen;
    const body = types.window(at, bytes);
    const each = (n: number): number => 12 + tail[0] + tail[1] * n;
    const list = <T>(make: (at: number) => T): T[] => Array.from({ length: vlen }, (_, n) => make(each(n)));
    const composite = kind === BTF_KIND.struct || kind === BTF_KIND.union;
    // With kind_flag the high byte of a member's offset is the width of a bit field.
    const offsetMask = info >>> 31 ? 0xff_ffff : 0xffff_ffff;
    this.types.push({
      kind,
      name: this.string(body.u32(0)),
      sizeOrType: body.u32(8),
      members: composite
        ? list((m) => ({
            name: this.string(body.u32(m)),
            type: body.u32(m + 4),
            offset: (body.u32(m + 8) & offsetMask) >>> 0,
          }))
        : [],
      of: kind === BTF_KIND.array ? body.u32(12) : 0,
      count: kind === BTF_KIND.array ? body.u32(20) : 0,
      vars: kind === BTF_KIND.datasec ? list((m) => body.u32(m)) : [],
      at: types.base + at,
    });
    return bytes;
  }
}

/** A line of a section's line info; `at` counts bytes from the start of the section. */
export interface SectionLine {
  readonly at: number;
  readonly origin: Origin;
}

/** What `.BTF.ext` says. */
export interface BtfExt {
  /** By section name, ascending. */
  readonly lines: ReadonlyMap<string, readonly SectionLine[]>;
  /** Whether code must be patched to the running kernel's types (CO-RE). */
  readonly hasCoreRelocations: boolean;
}

/** Reads `.BTF.ext`. @throws CodecError for bytes that are none */
export const readBtfExt = (reader: ByteReader, btf: BtfTypes): BtfExt => {
  if (reader.u16(0) !== BTF_MAGIC) throw reader.error(0, "want the BTF magic number 0xeb9f");
  const header = reader.u32(4);
  const lines = new Map<string, SectionLine[]>();
  const part = reader.window(header + reader.u32(16), reader.u32(20));
  const recordBytes = part.length > 0 ? part.u32(0) : 0;
  if (part.length > 0 && recordBytes < 16)
    throw part.error(0, `want line records of at least 16 bytes, got ${recordBytes}`);
  for (let at = 4; at < part.length;) {
    const section = btf.string(part.u32(at));
    const count = part.u32(at + 4);
    const records = part.window(at + 8, count * recordBytes);
    const list = lines.get(section) ?? [];
    lines.set(section, list);
    for (let n = 0; n < count; n++) list.push(readLine(records, n * recordBytes, btf));
    at += 8 + records.length;
  }
  for (const list of lines.values()) list.sort((a, b) => a.at - b.at);
  return { lines, hasCoreRelocations: header >= 32 && reader.u32(28) > 0 };
};

const readLine = (records: ByteReader, at: number, btf: BtfTypes): SectionLine => {
  const file = btf.string(records.u32(at + 4));
  const text = btf.string(records.u32(at + 8)).trim();
  const line = records.u32(at + 12) >>> 10;
  const origin = { text, ...(file === "" ? {} : { file }), ...(line === 0 ? {} : { line }) };
  return { at: records.u32(at), origin };
};
