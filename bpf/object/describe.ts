// The type information of an object spec: BTF types of its maps' keys and values, and of every program its functions and
// the lines (origins) they come from. The ELF writer stores it as .BTF and .BTF.ext, a loader hands it to bpf(2).

import type { Origin } from "../isa/insn.js";
import { CALL, OP, PSEUDO } from "../isa/opcode.js";
import { decodeSlots } from "../asm/disassemble.js";
import { BtfBuilder, type TypeId } from "./btf.js";
import type { MapSpec, Member, ObjectSpec, ProgramSpec } from "./spec.js";
import { ByteWriter } from "./writer.js";

/** A function of a program: the slots `start` up to `end`. The first one is the program's entry. */
export interface FunctionRange {
  readonly name: string;
  readonly start: number;
  readonly end: number;
}

/** A C identifier near to `name`: BTF and the kernel's symbol names want one. */
const identifier = (name: string): string => name.replace(/\W/g, "_").replace(/^(?=\d)/, "_");

/**
 * The functions of a program: the entry, and whatever a local call or a subprogram address leads to. Each reaches up to
 * the next one, as the verifier sees it.
 */
export const functionsOf = (program: Pick<ProgramSpec, "name" | "code">): FunctionRange[] => {
  const slots = decodeSlots(program.code);
  const starts = new Set([0]);
  slots.forEach((slot, i) => {
    const call = slot.code === OP.call && slot.src === CALL.local;
    const address = slot.code === OP.ldImm64 && slot.src === PSEUDO.func;
    const to = i + 1 + slot.imm;
    if ((call || address) && to > 0 && to < slots.length) starts.add(to);
  });
  const sorted = [...starts].sort((a, b) => a - b);
  const name = identifier(program.name);
  return sorted.map((start, i) => ({
    name: i === 0 ? name : `${name}_${i}`,
    start,
    end: sorted[i + 1] ?? slots.length,
  }));
};

/** One line of a program's line info. */
export interface DescribedLine {
  readonly insn: number;
  readonly fileOffset: number;
  readonly textOffset: number;
  /** Line number from 1, 0 = unknown. */
  readonly line: number;
}

/** A program's functions with their BTF types, and its lines; slots count from the start of the program. */
export interface DescribedProgram {
  readonly functions: readonly (FunctionRange & { readonly type: TypeId })[];
  /** Empty, or every function starts with a line. */
  readonly lines: readonly DescribedLine[];
}

/** Types of a map's key and value; 0 = opaque bytes. */
export interface DescribedMap {
  readonly key: TypeId;
  readonly value: TypeId;
}

const U = { 1: "__u8", 2: "__u16", 4: "__u32", 8: "__u64" } as const;
const isWordSize = (size: number): size is keyof typeof U => size in U;

const memberType = (btf: BtfBuilder, size: number): TypeId =>
  isWordSize(size) ? btf.int(U[size], size) : btf.array(btf.int(U[1], 1), size);

/** A structure of `fields`; the integer itself where there is only one: array maps insist on an integer key. */
const fieldsType = (btf: BtfBuilder, name: string, fields: readonly Member[]): TypeId => {
  if (fields.length === 1 && isWordSize(fields[0]!.size)) return memberType(btf, fields[0]!.size);
  let offset = 0;
  const members = fields.map((field) => {
    const at = offset;
    offset += field.size;
    return { name: identifier(field.name), type: memberType(btf, field.size), offset: at };
  });
  return btf.struct(name, offset, members);
};

/** Adds the types of a map's key and value: of both or of none, as the kernel wants it. */
export const describeMap = (btf: BtfBuilder, map: MapSpec): DescribedMap => {
  const type = (part: string, size: number, fields: readonly Member[] = []): TypeId =>
    fields.length > 0 ? fieldsType(btf, `${identifier(map.name)}_${part}`, fields) : memberType(btf, size);
  if (!map.keyFields?.length && !map.valueFields?.length) return { key: 0, value: 0 };
  return { key: type("key", map.keySize, map.keyFields), value: type("value", map.valueSize, map.valueFields) };
};

const UNKNOWN: Origin = { text: "" };

const describeLines = (btf: BtfBuilder, program: ProgramSpec, functions: readonly FunctionRange[]): DescribedLine[] => {
  // The kernel wants a line for the first instruction of every function: repeat the one in force there.
  const origins = new Map(program.lines.map((line) => [line.insn, line.origin]));
  let next = 0;
  let inForce = UNKNOWN;
  for (const { start } of functions) {
    for (let line = program.lines[next]; line && line.insn <= start; line = program.lines[++next])
      inForce = line.origin;
    if (!origins.has(start)) origins.set(start, inForce);
  }
  // A line that starts at the second slot of a ld_imm64 is refused by the kernel; the assembler makes none.
  return [...origins]
    .sort(([a], [b]) => a - b)
    .map(([insn, origin]) => ({
      insn,
      fileOffset: btf.strings.add(origin.file ?? ""),
      textOffset: btf.strings.add(origin.text),
      line: origin.line ?? 0,
    }));
};

/**
 * Adds the functions and lines of a program. The entry is global, other functions are static, as callbacks must be.
 *
 * @param withLines - whether to describe lines, with an empty one where the program has none: libbpf complains of a
 *   program without
 */
export const describeProgram = (btf: BtfBuilder, program: ProgramSpec, withLines: boolean): DescribedProgram => {
  const functions = functionsOf(program);
  const int = btf.int("int", 4, true);
  const entry = btf.funcProto(int, [{ name: "ctx", type: btf.ptr(0) }]);
  const other = functions.length > 1 ? btf.funcProto(int) : 0;
  return {
    functions: functions.map((f, i) => ({
      ...f,
      type: i === 0 ? btf.func(f.name, entry, "global") : btf.func(f.name, other, "static"),
    })),
    lines: withLines ? describeLines(btf, program, functions) : [],
  };
};

/** Highest line number that `line_col` has room for. */
const MAX_LINE = (1 << 22) - 1;

/** `struct bpf_func_info`: two words. `insnOff` in the unit of where it goes (slots for the kernel, bytes in ELF). */
export const putFuncInfo = (out: ByteWriter, insnOff: number, type: TypeId): void => void out.u32(insnOff).u32(type);

/** `struct bpf_line_info`: four words. */
export const putLineInfo = (out: ByteWriter, insnOff: number, line: DescribedLine): void =>
  void out
    .u32(insnOff)
    .u32(line.fileOffset)
    .u32(line.textOffset)
    .u32((Math.min(line.line, MAX_LINE) << 10) >>> 0);

/** Bytes of `struct bpf_func_info` and `struct bpf_line_info`. */
export const FUNC_INFO_BYTES = 8;
export const LINE_INFO_BYTES = 16;

/** Type information in the form that bpf(2) takes. */
export interface KernelTypes {
  /** For BPF_BTF_LOAD. */
  readonly btf: Uint8Array;
  /** By program name: arrays of `struct bpf_func_info` and `struct bpf_line_info`, for BPF_PROG_LOAD. */
  readonly programs: ReadonlyMap<string, { readonly funcInfo: Uint8Array; readonly lineInfo: Uint8Array }>;
  /** By map name, for BPF_MAP_CREATE. */
  readonly maps: ReadonlyMap<string, DescribedMap>;
}

/** The types of an object for a loader that calls bpf(2) itself. */
export const kernelTypes = (object: Pick<ObjectSpec, "maps" | "programs">): KernelTypes => {
  const btf = new BtfBuilder();
  const maps = new Map(object.maps.map((map) => [map.name, describeMap(btf, map)]));
  const programs = new Map(
    object.programs.map((program) => {
      const described = describeProgram(btf, program, program.lines.length > 0);
      const [funcs, lines] = [new ByteWriter(), new ByteWriter()];
      for (const f of described.functions) putFuncInfo(funcs, f.start, f.type);
      for (const line of described.lines) putLineInfo(lines, line.insn, line);
      return [program.name, { funcInfo: funcs.bytes(), lineInfo: lines.bytes() }] as const;
    }),
  );
  return { btf: btf.bytes(), programs, maps };
};
