// Links one program: its entry function, then every function it can reach, each once, with calls and map references
// resolved. What comes out is what the assembler makes: one run of slots, relative calls, marked map references.

import { sameOrigin } from "../asm/assemble.js";
import { NotSupportedError, type CodecError } from "../base/errors.js";
import { CALL, OP, PSEUDO, SLOT_BYTES } from "../isa/opcode.js";
import type { Origin } from "../isa/insn.js";
import type { SectionLine } from "./btf-read.js";
import { R_BPF, SHN_LORESERVE, SHN_UNDEF } from "./elf.js";
import type { ElfSymbol } from "./elf-read.js";
import type { ByteReader } from "./reader.js";
import type { ProgramSpec, Relocation } from "./spec.js";

/** A relocation of a code section. */
export interface SymbolicRelocation {
  readonly type: number;
  readonly symbol: ElfSymbol;
  /** Byte offset of the relocation in the file. */
  readonly at: number;
}

/** A section of instructions. */
export interface CodeSection {
  readonly name: string;
  readonly body: ByteReader;
  /** Byte offsets and sizes in the section. */
  readonly functions: readonly { readonly name: string; readonly at: number; readonly size: number }[];
  /** By byte offset. */
  readonly relocations: ReadonlyMap<number, SymbolicRelocation>;
  readonly lines: readonly SectionLine[];
}

/** What programs are linked from. */
export interface Linkable {
  /** By section number. */
  readonly code: ReadonlyMap<number, CodeSection>;
  readonly maps: ReadonlyMap<number, { readonly data: string } | { readonly at: ReadonlyMap<number, string> }>;
}

/** A function taken into the program. */
interface Piece {
  readonly section: number;
  readonly at: number;
  readonly slots: number;
  /** Its first slot in the program. */
  readonly start: number;
}

/** BPF_COMPLEXITY_LIMIT_INSNS: no kernel takes more. */
const MAX_SLOTS = 1_000_000;

class Linker {
  private readonly pieces: Piece[] = [];
  private readonly relocations: Relocation[] = [];
  private readonly lines: { insn: number; origin: Origin }[] = [];
  private slots = 0;

  constructor(private readonly from: Linkable) {}

  link(section: number, at: number): Pick<ProgramSpec, "code" | "relocations" | "lines"> {
    this.piece(section, at, (problem) => this.from.code.get(section)!.body.error(at, problem));
    const parts: Uint8Array[] = [];
    // The list grows while it is walked.
    for (const piece of this.pieces) parts.push(this.resolve(piece));
    const code = new Uint8Array(this.slots * SLOT_BYTES);
    this.pieces.forEach((piece, i) => code.set(parts[i]!, piece.start * SLOT_BYTES));
    return { code, relocations: this.relocations, lines: this.lines };
  }

  /**
   * First slot of the function at byte `at` of a section, which is taken in if it is new.
   * @param complain - makes the error that there is none, naming who wants it
   */
  private piece(section: number, at: number, complain: (problem: string) => CodecError): number {
    const known = this.pieces.find((piece) => piece.section === section && piece.at === at);
    if (known) return known.start;
    const code = this.from.code.get(section);
    const found = code?.functions.find((f) => f.at === at);
    if (!code || !found) throw complain(`want a function in section ${section} at offset ${at}, got none`);
    if (at % SLOT_BYTES !== 0 || found.size % SLOT_BYTES !== 0 || found.size === 0)
      throw code.body.error(at, `want function "${found.name}" to be whole instructions, got ${found.size} bytes`);
    code.body.window(at, found.size);
    const start = this.slots;
    this.slots += found.size / SLOT_BYTES;
    if (this.slots > MAX_SLOTS) throw code.body.error(at, `want a program of at most ${MAX_SLOTS} instructions`);
    this.pieces.push({ section, at, slots: found.size / SLOT_BYTES, start });
    return start;
  }

  /** The code of a piece with everything it refers to. */
  private resolve(piece: Piece): Uint8Array {
    const section = this.from.code.get(piece.section)!;
    const body = section.body.window(piece.at, piece.slots * SLOT_BYTES);
    const code = body.bytes.slice();
    const view = new DataView(code.buffer);
    for (let slot = 0; slot < piece.slots; slot++) {
      const at = slot * SLOT_BYTES;
      const wide = code[at] === OP.ldImm64;
      if (wide && slot + 1 >= piece.slots) throw body.error(at, "want the second half of a ld_imm64");
      const relocation = section.relocations.get(piece.at + at);
      if (relocation) this.relocate(view, piece, slot, relocation, body);
      else if (isRelative(code, at)) {
        // Without a relocation the target is in the same section.
        const target = piece.at + at + SLOT_BYTES * (1 + view.getInt32(at + 4, true));
        this.pointTo(
          view,
          piece,
          slot,
          this.piece(piece.section, target, (problem) => body.error(at, problem)),
        );
      }
      if (wide) slot++;
    }
    this.takeLines(section, piece);
    return code;
  }

  private relocate(view: DataView, piece: Piece, slot: number, relocation: SymbolicRelocation, body: ByteReader): void {
    const { symbol, type } = relocation;
    const at = slot * SLOT_BYTES;
    const code = view.getUint8(at);
    const imm = view.getInt32(at + 4, true);
    const complain = (problem: string): CodecError => body.error(at, problem);
    const fits = type === R_BPF.call ? code === OP.call : type === R_BPF.imm64 && code === OP.ldImm64;
    if (!fits) throw body.error(at, `want an instruction for relocation type ${type}, got opcode ${code}`);
    if (symbol.section === SHN_UNDEF || symbol.section >= SHN_LORESERVE)
      throw new NotSupportedError(`Symbol "${symbol.name}" from outside the file`);
    if (code === OP.call) {
      this.pointTo(view, piece, slot, this.piece(symbol.section, symbol.value + (imm + 1) * SLOT_BYTES, complain));
      return;
    }
    const maps = this.from.maps.get(symbol.section);
    if (maps) this.referToMap(view, piece, slot, symbol, imm, maps, body);
    else {
      view.setUint8(at + 1, (view.getUint8(at + 1) & 0x0f) | (PSEUDO.func << 4));
      this.pointTo(view, piece, slot, this.piece(symbol.section, symbol.value + imm, complain));
    }
  }

  private referToMap(
    view: DataView,
    piece: Piece,
    slot: number,
    symbol: ElfSymbol,
    imm: number,
    maps: { readonly data: string } | { readonly at: ReadonlyMap<number, string> },
    body: ByteReader,
  ): void {
    const at = slot * SLOT_BYTES;
    const data = "data" in maps;
    const map = data ? maps.data : maps.at.get(symbol.value);
    if (map === undefined) throw body.error(at, `want a map at offset ${symbol.value} of .maps`);
    const offset = data ? symbol.value + imm : 0;
    if (offset < 0 || offset > 0x7fff_ffff) throw body.error(at + 4, `want an offset into "${map}", got ${offset}`);
    this.relocations.push({ insn: piece.start + slot, kind: data ? "map_value" : "map", map, offset });
    view.setUint8(at + 1, (view.getUint8(at + 1) & 0x0f) | ((data ? PSEUDO.mapValue : PSEUDO.mapFd) << 4));
    view.setInt32(at + 4, 0, true);
    view.setInt32(at + 12, offset, true);
  }

  private pointTo(view: DataView, piece: Piece, slot: number, target: number): void {
    view.setInt32(slot * SLOT_BYTES + 4, target - (piece.start + slot) - 1, true);
  }

  /** Lines of a piece; one that repeats the line before says nothing, nor does one without text. */
  private takeLines(section: CodeSection, piece: Piece): void {
    for (const { at, origin } of section.lines) {
      const slot = (at - piece.at) / SLOT_BYTES;
      const inside = Number.isInteger(slot) && slot >= 0 && slot < piece.slots;
      if (!inside || origin.text === "" || sameOrigin(this.lines.at(-1)?.origin, origin)) continue;
      this.lines.push({ insn: piece.start + slot, origin });
    }
  }
}

/** Whether the slot is a local call or the address of a subprogram. */
const isRelative = (code: Uint8Array, at: number): boolean => {
  const src = code[at + 1]! >> 4;
  return (code[at] === OP.call && src === CALL.local) || (code[at] === OP.ldImm64 && src === PSEUDO.func);
};

/**
 * The program that starts at byte `at` of code section `section`.
 *
 * @throws CodecError for calls and references that lead nowhere
 * @throws {@link NotSupportedError} for symbols from outside the file
 */
export const linkProgram = (
  from: Linkable,
  section: number,
  at: number,
): Pick<ProgramSpec, "code" | "relocations" | "lines"> => new Linker(from).link(section, at);
