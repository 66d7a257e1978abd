// Writes an object spec as a relocatable ELF file that libbpf, bpftool, iproute2 and LLVM read.
//
//   xdp, tc, …       the entry functions, several programs of one kind in one section, found by symbol or as the first
//   .text            their subprograms
//   .maps            maps as BTF describes them: one variable a map, a structure of pointers that only BTF looks at
//   .rodata.N .data.N  one-entry arrays with contents: the only contents that ELF can hold
//   license .BTF .BTF.ext .symtab .strtab and .rel sections
//
// Line info carries the origin of each instruction as its source line.

import { CodecError } from "../base/errors.js";
import { SLOT_BYTES } from "../isa/opcode.js";
import { decodeSlots } from "../asm/disassemble.js";
import { CALL, OP, PSEUDO } from "../isa/opcode.js";
import { BTF_MAGIC, BtfBuilder, type TypeId } from "./btf.js";
import {
  describeMap,
  describeProgram,
  FUNC_INFO_BYTES,
  LINE_INFO_BYTES,
  putFuncInfo,
  putLineInfo,
  type DescribedProgram,
} from "./describe.js";
import {
  DATA_SECTION,
  EHDR_BYTES,
  EM_BPF,
  ET_REL,
  R_BPF,
  REL_BYTES,
  sectionOf,
  SHDR_BYTES,
  SHF,
  SHT,
  STB,
  STT,
  SYM_BYTES,
} from "./elf.js";
import { MAP_FLAGS, MAP_TYPES, type MapSpec, type ObjectSpec, type ProgramSpec } from "./spec.js";
import { ByteWriter, StringTable } from "./writer.js";

/** A section being filled. */
interface Section {
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly align: number;
  readonly body: ByteWriter;
  readonly relocations: { readonly at: number; readonly symbol: Symbol; readonly type: number }[];
}

interface Symbol {
  readonly name: string;
  readonly type: number;
  readonly binding: number;
  readonly section: Section;
  readonly value: number;
  readonly size: number;
}

/** A piece of a program in its section. */
interface Placed {
  readonly section: Section;
  /** Slot in the program and byte in the section. */
  readonly start: number;
  readonly end: number;
  readonly at: number;
}

const fail = (problem: string): CodecError => new CodecError("write an ELF object", -1, problem);

/** What a map becomes. */
type Storage = "btf" | "rodata" | "data";

const C_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * Where a map goes. A map whose value a program addresses must be a data section, also when it starts as zeros.
 * @throws {@link CodecError} for what ELF cannot hold
 */
const storageOf = (map: MapSpec, addressed: ReadonlySet<string>): Storage => {
  if (map.type === "array_of_maps" || map.type === "hash_of_maps")
    throw fail(`map "${map.name}" is a ${map.type}, whose inner map the spec does not describe`);
  const data = DATA_SECTION.test(map.name) || addressed.has(map.name) || (map.entries ?? []).length > 0;
  if (!data && C_NAME.test(map.name)) return "btf";
  if (!data) throw fail(`map "${map.name}" needs a name of A-Z a-z 0-9 _ that starts with no digit`);
  const oneEntry = map.type === "array" && map.maxEntries === 1 && map.keySize === 4;
  const flags = map.flags & ~MAP_FLAGS.MMAPABLE;
  if (!oneEntry || (flags !== 0 && flags !== MAP_FLAGS.RDONLY_PROG))
    throw fail(
      `map "${map.name}" has contents or is used by address, but only a one-entry array can be so in a file: ` +
        "put contents in after loading",
    );
  return flags === MAP_FLAGS.RDONLY_PROG ? "rodata" : "data";
};

class ObjectWriter {
  private readonly sections: Section[] = [];
  private readonly symbols: Symbol[] = [];
  private readonly btf = new BtfBuilder();
  private readonly mapSymbols = new Map<string, Symbol>();
  private readonly infos: { readonly placed: readonly Placed[]; readonly described: DescribedProgram }[] = [];

  constructor(private readonly object: ObjectSpec) {}

  write(): Uint8Array {
    const names = new Set<string>();
    for (const { name } of [...this.object.programs, ...this.object.maps]) {
      if (names.has(name)) throw fail(`two programs or maps are named "${name}"`);
      names.add(name);
    }
    const addressed = new Set(
      this.object.programs.flatMap((p) => p.relocations.filter((r) => r.kind === "map_value").map((r) => r.map)),
    );
    this.putMaps(addressed);
    for (const program of this.object.programs) this.putProgram(program);
    this.putLicense();
    this.section(".BTF", SHT.progbits, 0, 4).body.append(this.btfBytes());
    return this.link();
  }

  private section(name: string, type: number = SHT.progbits, flags: number = SHF.alloc, align = 8): Section {
    const known = this.sections.find((section) => section.name === name);
    if (known) return known;
    const section = { name, type, flags, align, body: new ByteWriter(), relocations: [] };
    this.sections.push(section);
    return section;
  }

  private symbol(symbol: Symbol): Symbol {
    this.symbols.push(symbol);
    return symbol;
  }

  // --- maps

  private putMaps(addressed: ReadonlySet<string>): void {
    const stored = this.object.maps.map((map) => ({ map, storage: storageOf(map, addressed) }));
    const vars = stored.filter(({ storage }) => storage === "btf").map(({ map }) => this.putBtfMap(map));
    if (vars.length > 0)
      this.btf.datasec(
        ".maps",
        vars.reduce((sum, variable) => sum + variable.size, 0),
        vars,
      );
    for (const { map, storage } of stored) if (storage !== "btf") this.putDataMap(map, storage);
  }

  /** A number as BTF can say it: a pointer to an array of so many ints. */
  private numberType(value: number): TypeId {
    return this.btf.ptr(this.btf.array(this.btf.int("int", 4, true), value));
  }

  private putBtfMap(map: MapSpec): { type: TypeId; offset: number; size: number } {
    const types = describeMap(this.btf, map);
    const members: [name: string, type: TypeId][] = [["type", this.numberType(MAP_TYPES[map.type])]];
    if (map.maxEntries > 0) members.push(["max_entries", this.numberType(map.maxEntries)]);
    if (map.flags > 0) members.push(["map_flags", this.numberType(map.flags)]);
    if (types.key > 0) members.push(["key", this.btf.ptr(types.key)]);
    else if (map.keySize > 0) members.push(["key_size", this.numberType(map.keySize)]);
    if (types.value > 0) members.push(["value", this.btf.ptr(types.value)]);
    else if (map.valueSize > 0) members.push(["value_size", this.numberType(map.valueSize)]);
    const size = members.length * 8;
    const struct = this.btf.struct(
      "",
      size,
      members.map(([name, type], i) => ({ name, type, offset: i * 8 })),
    );
    const section = this.section(".maps", SHT.progbits, SHF.alloc | SHF.write);
    const offset = section.body.length;
    section.body.append(new Uint8Array(size));
    this.mapSymbols.set(
      map.name,
      this.symbol({ name: map.name, type: STT.object, binding: STB.global, section, value: offset, size }),
    );
    return { type: this.btf.var(map.name, struct, "global"), offset, size };
  }

  private putDataMap(map: MapSpec, storage: "rodata" | "data"): void {
    const name = DATA_SECTION.test(map.name) ? map.name : `.${storage}.${map.name}`;
    const value = map.entries?.[0]?.[1] ?? new Uint8Array(map.valueSize);
    if (value.length !== map.valueSize)
      throw fail(`the entry of map "${map.name}" has ${value.length} bytes, want ${map.valueSize}`);
    const zeros = name === ".bss";
    if (zeros && value.some((byte) => byte !== 0))
      throw fail(`map ".bss" has contents, but a .bss section is all zeros`);
    const flags = storage === "rodata" ? SHF.alloc : SHF.alloc | SHF.write;
    const section = this.section(name, zeros ? SHT.nobits : SHT.progbits, flags);
    section.body.append(value);
    const symbolName = map.name.replace(/^\./, "").replace(/\W/g, "_");
    const size = map.valueSize;
    this.mapSymbols.set(
      map.name,
      this.symbol({ name: symbolName, type: STT.object, binding: STB.global, section, value: 0, size }),
    );
    const described = describeMap(this.btf, map).value;
    const type = described > 0 ? described : this.btf.array(this.btf.int("__u8", 1), size);
    this.btf.datasec(name, size, [{ type: this.btf.var(symbolName, type, "global"), offset: 0, size }]);
  }

  // --- programs

  private putProgram(program: ProgramSpec): void {
    const name = sectionOf(program);
    if (name === undefined)
      throw fail(
        `program "${program.name}" of type ${program.type} has flags ${program.flags}, which no section means`,
      );
    const described = describeProgram(this.btf, program, true);
    const placed = described.functions.map((f, i): Placed => {
      const section = this.section(i === 0 ? name : ".text", SHT.progbits, SHF.alloc | SHF.execinstr);
      const at = section.body.length;
      section.body.append(program.code.subarray(f.start * SLOT_BYTES, f.end * SLOT_BYTES));
      this.symbol({
        name: i === 0 ? program.name : f.name,
        type: STT.func,
        binding: i === 0 ? STB.global : STB.local,
        section,
        value: at,
        size: (f.end - f.start) * SLOT_BYTES,
      });
      return { section, start: f.start, end: f.end, at };
    });
    this.infos.push({ placed, described });
    this.putMapRelocations(program, placed);
    this.putCallRelocations(program, placed);
  }

  private putMapRelocations(program: ProgramSpec, placed: readonly Placed[]): void {
    for (const relocation of program.relocations) {
      const symbol = this.mapSymbols.get(relocation.map);
      if (!symbol) throw fail(`program "${program.name}" refers to map "${relocation.map}", which the object lacks`);
      if (relocation.kind === "map" && symbol.section.name !== ".maps")
        throw fail(`program "${program.name}" takes map "${relocation.map}" itself, which in a file is a data section`);
      const { section, at } = place(placed, relocation.insn);
      section.relocations.push({ at, symbol, type: R_BPF.imm64 });
      // A loader sets `src` itself; the offset into a value is in the first immediate.
      section.body.patch(at, [OP.ldImm64, program.code[relocation.insn * SLOT_BYTES + 1]! & 0x0f, 0, 0]);
      section.body.patchU32(at + 4, relocation.offset);
      section.body.patchU32(at + 12, 0);
    }
  }

  /** Calls and addresses of subprograms, which are all in `.text`: relative to its section symbol, as LLVM does. */
  private putCallRelocations(program: ProgramSpec, placed: readonly Placed[]): void {
    decodeSlots(program.code).forEach((slot, i) => {
      const call = slot.code === OP.call && slot.src === CALL.local;
      if (!call && !(slot.code === OP.ldImm64 && slot.src === PSEUDO.func)) return;
      const target = placed.find((p) => p.start === i + 1 + slot.imm);
      if (!target || target === placed[0])
        throw fail(`program "${program.name}" calls slot ${i + 1 + slot.imm}, where no subprogram starts`);
      const { section, at } = place(placed, i);
      section.relocations.push({
        at,
        symbol: this.sectionSymbol(target.section),
        type: call ? R_BPF.call : R_BPF.imm64,
      });
      section.body.patchU32(at + 4, (call ? target.at / SLOT_BYTES - 1 : target.at) >>> 0);
    });
  }

  private sectionSymbol(section: Section): Symbol {
    const known = this.symbols.find((symbol) => symbol.type === STT.section && symbol.section === section);
    return known ?? this.symbol({ name: "", type: STT.section, binding: STB.local, section, value: 0, size: 0 });
  }

  private putLicense(): void {
    const section = this.section("license", SHT.progbits, SHF.alloc | SHF.write, 1);
    section.body.append(new TextEncoder().encode(this.object.license)).u8(0);
    this.symbol({
      name: "_license",
      type: STT.object,
      binding: STB.global,
      section,
      value: 0,
      size: section.body.length,
    });
  }

  // --- type information

  /** `.BTF`; adds `.BTF.ext`, whose strings are in `.BTF`. */
  private btfBytes(): Uint8Array {
    const funcs = this.infoPart(FUNC_INFO_BYTES, ({ placed, described }, section, out) =>
      described.functions.forEach((f, i) => {
        if (placed[i]!.section === section) putFuncInfo(out, placed[i]!.at, f.type);
      }),
    );
    const lines = this.infoPart(LINE_INFO_BYTES, ({ placed, described }, section, out) =>
      described.lines.forEach((line) => {
        const where = place(placed, line.insn);
        if (where.section === section) putLineInfo(out, where.at, line);
      }),
    );
    const header = new ByteWriter().u16(BTF_MAGIC).u8(1).u8(0).u32(24);
    header.u32(0).u32(funcs.length).u32(funcs.length).u32(lines.length);
    this.section(".BTF.ext", SHT.progbits, 0, 4).body.append(header.bytes()).append(funcs).append(lines);
    return this.btf.bytes();
  }

  /** One part of `.BTF.ext`: the record size, then for each section its name, the number of records and the records. */
  private infoPart(
    recordBytes: number,
    put: (info: (typeof this.infos)[number], section: Section, out: ByteWriter) => void,
  ): Uint8Array {
    const all = new ByteWriter().u32(recordBytes);
    for (const section of this.sections) {
      const records = new ByteWriter();
      for (const info of this.infos) put(info, section, records);
      if (records.length === 0) continue;
      all
        .u32(this.btf.strings.add(section.name))
        .u32(records.length / recordBytes)
        .append(records.bytes());
    }
    return all.length > 4 ? all.bytes() : new Uint8Array(0);
  }

  // --- the file

  private link(): Uint8Array {
    const strings = new StringTable();
    // Local symbols come first.
    const symbols = [...this.symbols].sort((a, b) => a.binding - b.binding);
    const indexOf = new Map(symbols.map((symbol, i) => [symbol, i + 1]));
    const sectionIndex = new Map(this.sections.map((section, i) => [section, i + 1]));
    const related = this.sections.filter((section) => section.relocations.length > 0);
    const symtabIndex = this.sections.length + related.length + 1;

    const file = new ByteWriter().append(new Uint8Array(EHDR_BYTES));
    const headers = new ByteWriter().append(new Uint8Array(SHDR_BYTES));
    const put = (
      name: string,
      body: Uint8Array,
      header: { type: number; flags?: number; link?: number; info?: number; align: number; entry?: number },
    ): void => {
      file.align(header.align);
      const contents = header.type === SHT.nobits ? new Uint8Array(0) : body;
      headers
        .u32(strings.add(name))
        .u32(header.type)
        .u64(header.flags ?? 0)
        .u64(0)
        .u64(file.length)
        .u64(body.length);
      headers
        .u32(header.link ?? 0)
        .u32(header.info ?? 0)
        .u64(header.align)
        .u64(header.entry ?? 0);
      file.append(contents);
    };

    for (const { name, body, type, flags, align } of this.sections) put(name, body.bytes(), { type, flags, align });
    for (const section of related) {
      const body = new ByteWriter();
      for (const { at, symbol, type } of [...section.relocations].sort((a, b) => a.at - b.at))
        body.u64(at).u32(type).u32(indexOf.get(symbol)!);
      const info = sectionIndex.get(section)!;
      put(`.rel${section.name}`, body.bytes(), {
        type: SHT.rel,
        flags: SHF.infoLink,
        link: symtabIndex,
        info,
        align: 8,
        entry: REL_BYTES,
      });
    }
    const table = new ByteWriter().append(new Uint8Array(SYM_BYTES));
    for (const { name, type, binding, section, value, size } of symbols)
      table
        .u32(strings.add(name))
        .u8((binding << 4) | type)
        .u8(0)
        .u16(sectionIndex.get(section)!)
        .u64(value)
        .u64(size);
    const firstGlobal = symbols.filter((symbol) => symbol.binding === STB.local).length + 1;
    put(".symtab", table.bytes(), {
      type: SHT.symtab,
      link: symtabIndex + 1,
      info: firstGlobal,
      align: 8,
      entry: SYM_BYTES,
    });
    strings.add(".strtab");
    put(".strtab", strings.bytes(), { type: SHT.strtab, align: 1 });

    file.align(8);
    const sectionHeadersAt = file.length;
    const bytes = file.append(headers.bytes()).bytes();
    bytes.set(elfHeader(sectionHeadersAt, symtabIndex + 2, symtabIndex + 1));
    return bytes;
  }
}

/** Where a slot of the program went. */
const place = (placed: readonly Placed[], slot: number): { section: Section; at: number } => {
  const part = placed.findLast((p) => p.start <= slot)!;
  return { section: part.section, at: part.at + (slot - part.start) * SLOT_BYTES };
};

const elfHeader = (sectionHeadersAt: number, sections: number, namesIndex: number): Uint8Array =>
  new ByteWriter()
    .append(new Uint8Array([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
    .u16(ET_REL)
    .u16(EM_BPF)
    .u32(1)
    .u64(0)
    .u64(0)
    .u64(sectionHeadersAt)
    .u32(0)
    .u16(EHDR_BYTES)
    .u16(0)
    .u16(0)
    .u16(SHDR_BYTES)
    .u16(sections)
    .u16(namesIndex)
    .bytes();

/**
 * The ELF file of an object.
 *
 * Programs are grouped by section, otherwise in their order; data sections come after other maps when read back.
 * Contents of maps are kept only for one-entry arrays (as `.rodata` with RDONLY_PROG, else `.data`); such a map can be
 * used by the address of its value only.
 *
 * @throws {@link CodecError} for what a file cannot hold: contents of other maps, maps of maps, unusual program flags,
 *   references to maps that the object lacks
 */
export const writeElf = (object: ObjectSpec): Uint8Array => new ObjectWriter(object).write();
