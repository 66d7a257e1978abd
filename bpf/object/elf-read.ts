// Reads a relocatable BPF ELF file, ours or clang's, into an object spec: BTF-defined maps, global variables as one-entry
// arrays, programs with the functions they call linked in, license, source lines. What the spec cannot say (CO-RE,
// externs, maps of maps, other program types) is a NotSupportedError; bytes that are no such file are a CodecError with
// their offset.

import { NotSupportedError } from "../base/errors.js";
import { BTF_KIND } from "./btf.js";
import { BtfTypes, readBtfExt, type BtfExt, type BtfType } from "./btf-read.js";
import {
  DATA_SECTION,
  EHDR_BYTES,
  EM_BPF,
  ET_REL,
  REL_BYTES,
  sectionKind,
  SHDR_BYTES,
  SHF,
  SHT,
  STB,
  STT,
  SYM_BYTES,
} from "./elf.js";
import { linkProgram, type CodeSection, type Linkable, type SymbolicRelocation } from "./link.js";
import { ByteReader } from "./reader.js";
import {
  MAP_FLAGS,
  MAP_TYPES,
  type MapSpec,
  type MapType,
  type Member,
  type ObjectSpec,
  type ProgramSpec,
} from "./spec.js";

/** A section header with its contents. */
interface Section {
  readonly index: number;
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  /** Also of a section without contents (.bss). */
  readonly size: number;
  readonly link: number;
  readonly info: number;
  readonly body: ByteReader;
}

/** A symbol table entry. */
export interface ElfSymbol {
  readonly name: string;
  readonly type: number;
  readonly binding: number;
  /** Section number; 0 = defined elsewhere. */
  readonly section: number;
  readonly value: number;
  readonly size: number;
}

/** Largest global data section: the kernel's limit for a value is lower. */
const MAX_DATA = 0x4000_0000;
/** BPF_OBJ_NAME_LEN without its NUL. */
const MAX_NAME = 15;

const readSections = (file: ByteReader): Section[] => {
  const ident = [0x7f, 0x45, 0x4c, 0x46, 2, 1];
  const wrong = ident.findIndex((byte, i) => file.u8(i) !== byte);
  if (wrong >= 0) throw file.error(wrong, "want a little-endian ELF64 file");
  if (file.u16(16) !== ET_REL || file.u16(18) !== EM_BPF)
    throw file.error(16, `want a relocatable BPF file, got type ${file.u16(16)} of machine ${file.u16(18)}`);
  if (file.u16(52) < EHDR_BYTES || file.u16(58) !== SHDR_BYTES)
    throw file.error(58, `want section headers of ${SHDR_BYTES} bytes, got ${file.u16(58)}`);
  const table = file.u64(40);
  const count = file.u16(60);
  const headers = Array.from({ length: count }, (_, index) => {
    const header = file.window(table + index * SHDR_BYTES, SHDR_BYTES);
    const type = header.u32(4);
    const size = header.u64(32);
    const empty = type === SHT.nobits || type === SHT.null;
    return {
      index,
      name: header.u32(0),
      type,
      flags: header.u64(8),
      size,
      link: header.u32(40),
      info: header.u32(44),
      body: empty ? file.window(0, 0) : file.window(header.u64(24), size),
    };
  });
  const names = headers[file.u16(62)];
  if (!names) throw file.error(62, `want a section of 0..${count - 1} with names, got ${file.u16(62)}`);
  return headers.map((header) => ({ ...header, name: header.type === SHT.null ? "" : names.body.string(header.name) }));
};

const readSymbols = (file: ByteReader, sections: readonly Section[]): ElfSymbol[] => {
  const table = sections.find((section) => section.type === SHT.symtab);
  if (!table) throw file.error(0, "want a symbol table");
  const names = sections[table.link];
  if (!names) throw table.body.error(0, `want a section with names, got number ${table.link}`);
  return Array.from({ length: Math.floor(table.body.length / SYM_BYTES) }, (_, i) => {
    const at = i * SYM_BYTES;
    const info = table.body.u8(at + 4);
    return {
      name: names.body.string(table.body.u32(at)),
      type: info & 0x0f,
      binding: info >> 4,
      section: table.body.u16(at + 6),
      value: table.body.u64(at + 8),
      size: table.body.u64(at + 16),
    };
  });
};

/** Relocations of each section, by section number and then by byte offset. */
const readRelocations = (
  sections: readonly Section[],
  symbols: readonly ElfSymbol[],
): Map<number, Map<number, SymbolicRelocation>> => {
  const all = new Map<number, Map<number, SymbolicRelocation>>();
  for (const { type, info, body } of sections) {
    const target = sections[info];
    if ((type !== SHT.rel && type !== SHT.rela) || !target || !isCode(target)) continue;
    if (type === SHT.rela) throw body.error(0, "want relocations without addends (REL)");
    const list = all.get(info) ?? new Map<number, SymbolicRelocation>();
    all.set(info, list);
    for (let at = 0; at + REL_BYTES <= body.length; at += REL_BYTES) {
      const symbol = symbols[body.u32(at + 12)];
      if (!symbol) throw body.error(at + 12, `want a symbol of 0..${symbols.length - 1}, got ${body.u32(at + 12)}`);
      list.set(body.u64(at), { type: body.u32(at + 8), symbol, at: body.base + at });
    }
  }
  return all;
};

const isCode = (section: Section): boolean =>
  section.type === SHT.progbits && (section.flags & SHF.execinstr) !== 0 && section.size > 0;

// --- maps

const TYPE_NAMES = new Map(Object.entries(MAP_TYPES).map(([name, number]) => [number as number, name as MapType]));

/** Members of a structure as the spec names them, or undefined if they do not tile it. */
const fieldsOf = (btf: BtfTypes, type: BtfType): Member[] | undefined => {
  if (type.kind !== BTF_KIND.struct) return undefined;
  let end = 0;
  for (const member of type.members) {
    if (member.name === "" || member.offset !== end * 8) return undefined;
    end += btf.sizeOf(member.type);
  }
  if (end !== type.sizeOrType) return undefined;
  return type.members.map((member) => ({ name: member.name, size: btf.sizeOf(member.type) }));
};

/** Members of a map definition that are pointers to the type they talk about, and those that are a number. */
const readBtfMap = (btf: BtfTypes, name: string, definition: BtfType, file: ByteReader): MapSpec => {
  const bad = (problem: string) => file.error(definition.at, `map "${name}": ${problem}`);
  const map = { type: 0, max_entries: 0, map_flags: 0, key_size: 0, value_size: 0 };
  let keyFields: Member[] | undefined;
  let valueFields: Member[] | undefined;
  for (const member of definition.members) {
    const pointer = btf.resolve(member.type);
    if (member.name === "values") throw new NotSupportedError(`Map "${name}" with inner maps or programs in the file`);
    if (member.name === "pinning" || member.name === "numa_node" || member.name === "map_extra") continue;
    if (pointer.kind !== BTF_KIND.ptr) throw bad(`want member "${member.name}" to be a pointer`);
    if (member.name === "key" || member.name === "value") {
      const size = btf.sizeOf(pointer.sizeOrType);
      const fields = fieldsOf(btf, btf.resolve(pointer.sizeOrType));
      if (member.name === "key") [map.key_size, keyFields] = [size, fields];
      else [map.value_size, valueFields] = [size, fields];
    } else if (Object.hasOwn(map, member.name)) {
      const array = btf.resolve(pointer.sizeOrType);
      if (array.kind !== BTF_KIND.array) throw bad(`want member "${member.name}" to point to an array`);
      map[member.name as keyof typeof map] = array.count;
    } else throw bad(`want a map member that libbpf knows, got "${member.name}"`);
  }
  const type = TYPE_NAMES.get(map.type);
  if (type === undefined) throw new NotSupportedError(`Map "${name}" of type ${map.type}`);
  if (type === "array_of_maps" || type === "hash_of_maps") throw new NotSupportedError(`Map "${name}" of type ${type}`);
  return {
    name,
    type,
    keySize: map.key_size,
    valueSize: map.value_size,
    maxEntries: map.max_entries,
    flags: map.map_flags,
    ...(keyFields && { keyFields }),
    ...(valueFields && { valueFields }),
  };
};

/** The one entry of a data section; the kernel clears what it creates, so zeros need none. */
const entriesOf = (section: Section): Pick<MapSpec, "entries"> =>
  section.body.bytes.some((byte) => byte !== 0) ? { entries: [[new Uint8Array(4), section.body.bytes.slice()]] } : {};

const readDataMap = (section: Section, symbols: readonly ElfSymbol[], taken: ReadonlySet<string>): MapSpec => {
  const [, kind, suffix] = DATA_SECTION.exec(section.name)!;
  if (section.size > MAX_DATA)
    throw section.body.error(0, `want a data section below 1 GiB, got ${section.size} bytes`);
  // `.rodata.config` that is wholly the variable `config` was written from a map of that name.
  const whole = symbols.some(
    (s) =>
      s.section === section.index &&
      s.type === STT.object &&
      s.name === suffix &&
      s.value === 0 &&
      s.size === section.size,
  );
  const wanted = whole && suffix !== undefined ? suffix : section.name;
  let name = wanted.slice(0, MAX_NAME);
  for (let n = 2; taken.has(name); n++) name = `${wanted.slice(0, MAX_NAME - 1 - String(n).length)}_${n}`;
  return {
    name,
    type: "array",
    keySize: 4,
    valueSize: section.size,
    maxEntries: 1,
    flags: kind === "rodata" ? MAP_FLAGS.RDONLY_PROG : MAP_FLAGS.MMAPABLE,
    ...entriesOf(section),
  };
};

interface Maps {
  readonly specs: readonly MapSpec[];
  /** By section number: the map of a data section, or the maps of `.maps` by their offset. */
  readonly bySection: Linkable["maps"];
}

const readMaps = (
  file: ByteReader,
  sections: readonly Section[],
  symbols: readonly ElfSymbol[],
  btf: BtfTypes | undefined,
): Maps => {
  const specs: MapSpec[] = [];
  const taken = new Set<string>();
  const bySection = new Map<number, { readonly data: string } | { readonly at: ReadonlyMap<number, string> }>();
  const add = (spec: MapSpec): void => {
    specs.push(spec);
    taken.add(spec.name);
  };
  for (const section of sections) {
    if (section.name === "maps")
      throw new NotSupportedError('Maps in a section "maps"', "define them in .maps with BTF");
    if (section.name !== ".maps") continue;
    const at = new Map<number, string>();
    for (const symbol of symbols)
      if (symbol.section === section.index && symbol.type === STT.object) at.set(symbol.value, symbol.name);
    bySection.set(section.index, { at });
    const types = btf && [...btf.ofKind(BTF_KIND.datasec)].find((type) => type.name === ".maps");
    if (!btf || !types) throw section.body.error(0, "want BTF that describes .maps");
    const definitions = new Map(types.vars.map((id) => [btf.get(id).name, btf.resolve(btf.get(id).sizeOrType)]));
    for (const [offset, name] of [...at].sort(([a], [b]) => a - b)) {
      const definition = definitions.get(name);
      if (definition?.kind !== BTF_KIND.struct)
        throw section.body.error(offset, `want BTF that describes map "${name}"`);
      if (taken.has(name.slice(0, MAX_NAME))) throw section.body.error(offset, `map "${name}" is there twice`);
      add({ ...readBtfMap(btf, name, definition, file), name: name.slice(0, MAX_NAME) });
      at.set(offset, name.slice(0, MAX_NAME));
    }
  }
  for (const section of sections) {
    if (!DATA_SECTION.test(section.name) || section.size === 0 || (section.flags & SHF.alloc) === 0) continue;
    const spec = readDataMap(section, symbols, taken);
    add(spec);
    bySection.set(section.index, { data: spec.name });
  }
  return { specs, bySection };
};

// --- the object

const readLicense = (sections: readonly Section[]): string => {
  const section = sections.find(({ name, size }) => name === "license" && size > 0);
  return section ? section.body.string(0) : "";
};

const readPrograms = (
  linkable: Linkable,
  sections: readonly Section[],
  symbols: readonly ElfSymbol[],
): ProgramSpec[] => {
  const programs: ProgramSpec[] = [];
  const names = new Set<string>();
  for (const section of sections) {
    if (!isCode(section) || section.name === ".text") continue;
    const kind = sectionKind(section.name);
    if (!kind) throw new NotSupportedError(`A program of section "${section.name}"`);
    const entries = symbols.filter(
      (s) => s.section === section.index && s.type === STT.func && s.binding !== STB.local,
    );
    for (const symbol of entries.sort((a, b) => a.value - b.value)) {
      const name = symbol.name.slice(0, MAX_NAME);
      if (names.has(name)) throw section.body.error(symbol.value, `program "${name}" is there twice`);
      names.add(name);
      programs.push({
        name,
        type: kind.type,
        flags: kind.flags,
        ...linkProgram(linkable, section.index, symbol.value),
      });
    }
  }
  return programs;
};

/**
 * Reads an object file.
 *
 * Names are cut to the kernel's 15 characters. `.rodata` becomes a one-entry array with RDONLY_PROG, `.data` and `.bss`
 * one with MMAPABLE, as libbpf makes them.
 *
 * @throws CodecError for bytes that are no BPF object, with their offset
 * @throws {@link NotSupportedError} for a sound object that needs what a spec cannot say
 */
export const readElf = (bytes: Uint8Array): ObjectSpec => {
  // Not a Buffer: the slices of those share memory.
  const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  const file = new ByteReader(plain, "read an ELF object");
  const sections = readSections(file);
  const symbols = readSymbols(file, sections);
  const named = (name: string): Section | undefined => sections.find((section) => section.name === name);
  const btfSection = named(".BTF");
  const btf = btfSection && new BtfTypes(btfSection.body);
  const extSection = named(".BTF.ext");
  const ext: BtfExt | undefined = btf && extSection && readBtfExt(extSection.body, btf);
  if (ext?.hasCoreRelocations) throw new NotSupportedError("A program with CO-RE relocations");
  const maps = readMaps(file, sections, symbols, btf);
  const relocations = readRelocations(sections, symbols);
  const code = new Map<number, CodeSection>();
  for (const section of sections)
    if (isCode(section))
      code.set(section.index, {
        name: section.name,
        body: section.body,
        functions: symbols
          .filter((s) => s.section === section.index && s.type === STT.func)
          .map((s) => ({ name: s.name, at: s.value, size: s.size })),
        relocations: relocations.get(section.index) ?? new Map(),
        lines: ext?.lines.get(section.name) ?? [],
      });
  const programs = readPrograms({ code, maps: maps.bySection }, sections, symbols);
  return { license: readLicense(sections), maps: maps.specs, programs };
};
