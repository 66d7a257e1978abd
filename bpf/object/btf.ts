// BTF, the type information that the kernel wants with maps and programs: section `.BTF`, little endian. Numbers and
// layouts: uapi/linux/btf.h and Documentation/bpf/btf.rst.

import { AssembleError } from "../base/errors.js";
import { ByteWriter, StringTable } from "./writer.js";

export const BTF_MAGIC = 0xeb9f;
/** Bytes of `struct btf_header`. */
export const BTF_HEADER_BYTES = 24;

/** BTF_KIND_*. */
export const BTF_KIND = {
  int: 1,
  ptr: 2,
  array: 3,
  struct: 4,
  union: 5,
  enum: 6,
  fwd: 7,
  typedef: 8,
  volatile: 9,
  const: 10,
  restrict: 11,
  func: 12,
  func_proto: 13,
  var: 14,
  datasec: 15,
  float: 16,
  decl_tag: 17,
  type_tag: 18,
  enum64: 19,
} as const;

/** Linkage of variables and functions. */
export const LINKAGE = { static: 0, global: 1, extern: 2 } as const;

/** A type number; 0 is void. */
export type TypeId = number;

/** Most members, parameters or variables of one type: BTF_MAX_VLEN. */
const MAX_VLEN = 0xffff;

/** Puts types together; each method adds one type and returns its number. */
export class BtfBuilder {
  readonly strings = new StringTable();
  private readonly types = new ByteWriter();
  private readonly ints = new Map<string, TypeId>();
  private last: TypeId = 0;

  /** An integer of `size` bytes; one number for one name. */
  int(name: string, size: 1 | 2 | 4 | 8, sign = false): TypeId {
    const known = this.ints.get(name);
    if (known !== undefined) return known;
    const id = this.type(BTF_KIND.int, name, size);
    this.types.u32((sign ? 1 << 24 : 0) | (size * 8));
    this.ints.set(name, id);
    return id;
  }

  ptr(to: TypeId): TypeId {
    return this.type(BTF_KIND.ptr, "", to);
  }

  array(of: TypeId, count: number): TypeId {
    const index = this.int("unsigned int", 4);
    const id = this.type(BTF_KIND.array, "", 0);
    this.types.u32(of).u32(index).u32(count);
    return id;
  }

  /** A structure; offsets in bytes. */
  struct(
    name: string,
    size: number,
    members: readonly { readonly name: string; readonly type: TypeId; readonly offset: number }[],
  ): TypeId {
    const id = this.type(BTF_KIND.struct, name, size, members.length);
    for (const member of members)
      this.types
        .u32(this.strings.add(member.name))
        .u32(member.type)
        .u32(member.offset * 8);
    return id;
  }

  funcProto(result: TypeId, params: readonly { readonly name: string; readonly type: TypeId }[] = []): TypeId {
    const id = this.type(BTF_KIND.func_proto, "", result, params.length);
    for (const param of params) this.types.u32(this.strings.add(param.name)).u32(param.type);
    return id;
  }

  func(name: string, proto: TypeId, linkage: keyof typeof LINKAGE): TypeId {
    return this.type(BTF_KIND.func, name, proto, LINKAGE[linkage]);
  }

  var(name: string, type: TypeId, linkage: keyof typeof LINKAGE): TypeId {
    const id = this.type(BTF_KIND.var, name, type);
    this.types.u32(LINKAGE[linkage]);
    return id;
  }

  /** A section of variables, ascending by offset (bytes). */
  datasec(
    name: string,
    size: number,
    vars: readonly { readonly type: TypeId; readonly offset: number; readonly size: number }[],
  ): TypeId {
    const id = this.type(BTF_KIND.datasec, name, size, vars.length);
    for (const variable of vars) this.types.u32(variable.type).u32(variable.offset).u32(variable.size);
    return id;
  }

  /** The section `.BTF`. */
  bytes(): Uint8Array {
    const types = this.types.bytes();
    const strings = this.strings.bytes();
    return new ByteWriter()
      .u16(BTF_MAGIC)
      .u8(1)
      .u8(0)
      .u32(BTF_HEADER_BYTES)
      .u32(0)
      .u32(types.length)
      .u32(types.length)
      .u32(strings.length)
      .append(types)
      .append(strings)
      .bytes();
  }

  /** `struct btf_type`; what follows it depends on the kind. */
  private type(kind: number, name: string, sizeOrType: number, vlen = 0): TypeId {
    if (vlen > MAX_VLEN)
      throw new AssembleError(`Cannot describe ${name || "a type"}: ${vlen} parts, want at most ${MAX_VLEN}`);
    this.types
      .u32(this.strings.add(name))
      .u32((kind << 24) | vlen)
      .u32(sizeOrType);
    return ++this.last;
  }
}
