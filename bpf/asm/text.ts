// Reads assembly text: the form that disassemble.ts, the verifier log, `bpftool prog dump xlated` and (up to raw bytes)
// `llvm-objdump -d` print, with labels besides.
//
//   start:                       a label, alone or before an instruction
//     4: (61) r1 = *(u32 *)(r6 +4)     number and opcode are optional; an opcode that is given must be right
//     if r1 != 0x8 goto start    targets are labels or distances (`pc+3`)
//     r2 = map[flows]            the map `flows` of the object; map[config][0]+8 is an address inside its value
//     r3 = 0x5 ll                64-bit constant; `r3 = 5` is a sign-extended 32-bit one
//     call bpf_map_lookup_elem#1 number optional; `call start` is a subprogram
//     .8byte 0x95                one slot as a number
//   ; comment, // comment
//
// Every complaint names file, line and column, and all lines are looked at before it is raised.

import { CompileError, type Diagnostic } from "../base/errors.js";
import { HELPERS, type HelperName } from "../isa/helpers.js";
import { Label, type Code, type Insn, type Origin } from "../isa/insn.js";
import { CALL, OP, PSEUDO } from "../isa/opcode.js";
import { assemble, type Assembled, type AssembleOptions } from "./assemble.js";
import { fill, pcTarget, READABLE_FORMS, type Field, type Form, type Slot } from "./forms.js";
import { lex, type Token } from "./lex.js";

/** A complaint about a column of the line being read; leaves this file as a {@link Diagnostic}. */
class Complaint {
  constructor(
    readonly column: number,
    readonly message: string,
  ) {}
}

/** Finds or makes the label of a name. */
type LabelOf = (name: string, column: number) => Label;
/** What a statement means, from its operand tokens. */
type Meaning = (operands: readonly Token[], labelOf: LabelOf) => readonly Insn[];

/** The grammar: token kinds lead from node to node; where a statement may end, its meaning stands. */
interface Node {
  readonly next: Map<string, Node>;
  meaning?: Meaning;
}

const plain = (slot: Partial<Slot> & { code: number }): Insn => ({ dst: 0, src: 0, off: 0, imm: 0, ...slot });

const number = (token: Token, min: number, max: number): number => {
  if (token.value >= min && token.value <= max) return Number(token.value);
  throw new Complaint(token.column, `want a number of ${min}..${max}, got ${token.text}`);
};

/** Hexadecimal means 32 bits as they are, decimal a signed value: the kernel prints both. */
const imm32 = (token: Token): number =>
  number(token, -0x8000_0000, /0x/i.test(token.text) ? 0xffff_ffff : 0x7fff_ffff) | 0;

const register = (token: Token): number => {
  if (token.value <= 10) return Number(token.value);
  throw new Complaint(token.column, `want a register of ${token.text[0]}0..${token.text[0]}10, got ${token.text}`);
};

const DISTANCE = /^(?:pc)?[-+]\d+$/;

/** The distance that a jump target states, or undefined if it is a name. */
const distance = (token: Token, bits: 16 | 32): number | undefined => {
  if (!DISTANCE.test(token.text)) return undefined;
  const reach = 2 ** (bits - 1);
  const value = Number(token.text.replace("pc", ""));
  if (value >= -reach && value < reach) return value;
  throw new Complaint(token.column, `want a distance of ${-reach}..${reach - 1}, got ${value}`);
};

/** The fields that an operand sets. */
const READ: Record<Field, (token: Token, labelOf: LabelOf) => Partial<Insn>> = {
  dst: (token) => ({ dst: register(token) }),
  src: (token) => ({ src: register(token) }),
  zero: (token) => {
    if (token.value !== 0) throw new Complaint(token.column, `want ${token.text[0]}0, got ${token.text}`);
    return {};
  },
  off: (token) => ({ off: number(token, -0x8000, 0x7fff) }),
  imm: (token) => ({ imm: imm32(token) }),
  hex: (token) => ({ imm: imm32(token) }),
  pc: (token, labelOf) => {
    const off = distance(token, 16);
    return off === undefined ? { to: labelOf(token.text, token.column) } : { off };
  },
  pcl: (token, labelOf) => {
    const imm = distance(token, 32);
    return imm === undefined ? { to: labelOf(token.text, token.column) } : { imm };
  },
  to: (token) => ({ imm: number(token, 0, 0xffff) << 16 }),
  from: (token) => ({ imm: number(token, 0, 0xffff) }),
};

/** A statement of the table: every operand sets its field, and a field named twice must agree. */
const tableMeaning =
  (form: Form): Meaning =>
  (operands, labelOf) => {
    const insn: { -readonly [K in keyof Insn]?: Insn[K] } = {};
    form.fields.forEach((field, i) => {
      const token = operands[i]!;
      const set = READ[field](token, labelOf);
      const again = (field === "dst" || field === "src") && insn[field] !== undefined && insn[field] !== set[field];
      if (again) throw new Complaint(token.column, `want ${token.text[0]}${insn[field]} again, got ${token.text}`);
      if (field === "from") insn.imm = insn.imm! | set.imm!;
      else Object.assign(insn, set);
    });
    return [{ ...plain({ code: form.code, ...form.fixed }), ...insn }];
  };

const isHelper = (name: string): name is HelperName => Object.hasOwn(HELPERS, name);

const callMeaning: Meaning = ([target], labelOf) => {
  const { text, column } = target!;
  const local = distance(target!, 32);
  if (local !== undefined) return [plain({ code: OP.call, src: CALL.local, imm: local })];
  const [name = "", given] = text.split("#");
  const known = name.startsWith("bpf_") ? name.slice(4) : "";
  if (isHelper(known)) {
    if (given !== undefined && Number(given) !== HELPERS[known])
      throw new Complaint(column, `want ${name}#${HELPERS[known]}, got ${text}`);
    return [plain({ code: OP.call, imm: HELPERS[known] })];
  }
  const imm = Number(given ?? (/^\d/.test(text) ? text : undefined));
  if (imm > 0x7fff_ffff) throw new Complaint(column, `want a function number of 0..2147483647, got ${text}`);
  // A number alone is a helper; a number after a name that is no helper is a BTF id.
  if (given === undefined && imm >= 0) return [plain({ code: OP.call, imm })];
  if (given !== undefined) return [plain({ code: OP.call, src: name === "unknown" ? CALL.helper : CALL.kfunc, imm })];
  return [{ ...plain({ code: OP.call, src: CALL.local }), to: labelOf(text, column) }];
};

const wideMeaning: Meaning = ([dst, value]) => {
  const big = BigInt(value!.value);
  if (big < -(1n << 63n) || big >= 1n << 64n)
    throw new Complaint(value!.column, `want a number of 64 bits, got ${value!.text}`);
  const imm64 = { kind: "const", value: BigInt.asUintN(64, big) } as const;
  return [{ ...plain({ code: OP.ldImm64, dst: register(dst!) }), imm64 }];
};

/** A `ld_imm64` of a kind that has no symbol. */
const rawWide = (dst: number, src: number, low: number, high: number): Insn[] => [
  plain({ code: OP.ldImm64, dst, src, imm: low }),
  plain({ code: 0, imm: high }),
];

const MAP_REF = /^map\[(?:(fd|idx):(\d+)|([\w.]+))\](?:\[0\]\+(\d+))?$/;
const FUNC_REF = /^subprog\[(?:([-+]\d+)|([A-Za-z_.$][\w.$]*))\]$/;
const MAP_SRC = { fd: [PSEUDO.mapFd, PSEUDO.mapValue], idx: [PSEUDO.mapIdx, PSEUDO.mapIdxValue] } as const;

const referenceMeaning: Meaning = ([to, ref], labelOf) => {
  const dst = register(to!);
  const { text, column } = ref!;
  const int31 = (digits: string): number =>
    number({ ...ref!, text: digits, value: Number(digits) }, -0x8000_0000, 0x7fff_ffff);
  const func = FUNC_REF.exec(text);
  if (func?.[1] !== undefined) return rawWide(dst, PSEUDO.func, int31(func[1]), 0);
  const wide = plain({ code: OP.ldImm64, dst });
  if (func?.[2] !== undefined)
    return [
      { ...wide, src: PSEUDO.func, imm64: { kind: "func", label: labelOf(func[2], column + "subprog[".length) } },
    ];
  const [, space, id, map, offset] = MAP_REF.exec(text) ?? [];
  if (space !== undefined && id !== undefined) {
    const [object, value] = MAP_SRC[space as keyof typeof MAP_SRC];
    return rawWide(dst, offset === undefined ? object : value, int31(id), int31(offset ?? "0"));
  }
  if (map === undefined)
    throw new Complaint(column, `want map[NAME], map[NAME][0]+OFFSET or subprog[LABEL], got ${text}`);
  if (offset === undefined) return [{ ...wide, src: PSEUDO.mapFd, imm64: { kind: "map", map } }];
  return [{ ...wide, src: PSEUDO.mapValue, imm64: { kind: "map_value", map, offset: int31(offset) } }];
};

const rawMeaning: Meaning = ([value]) => {
  const word = BigInt(value!.value);
  if (word < 0n || word >= 1n << 64n)
    throw new Complaint(value!.column, `want a number of 64 bits, got ${value!.text}`);
  const at = (bit: number, bits: number): number => Number((word >> BigInt(bit)) & ((1n << BigInt(bits)) - 1n));
  const code = at(0, 8);
  return [plain({ code, dst: at(8, 4), src: at(12, 4), off: (at(16, 16) << 16) >> 16, imm: at(32, 32) | 0 })];
};

const OPERANDS: ReadonlySet<string> = new Set(["r#", "w#", "#", "target", "ref"]);

/** Every statement by an example of it. */
const GRAMMAR: Node = (() => {
  const root: Node = { next: new Map() };
  const add = (example: string, meaning: Meaning): void => {
    let node = root;
    for (const { kind } of lex(example)) {
      let next = node.next.get(kind);
      if (!next) node.next.set(kind, (next = { next: new Map() }));
      node = next;
    }
    node.meaning ??= meaning;
  };
  const slot = { dst: 1, src: 1, off: 1, imm: 1 };
  for (const form of READABLE_FORMS) add(fill(form, { code: form.code, ...slot }, pcTarget), tableMeaning(form));
  add("call pc+1", callMeaning);
  add("r1 = 1 ll", wideMeaning);
  add("r1 = map[m]", referenceMeaning);
  add(".8byte 1", rawMeaning);
  return root;
})();

const KIND_WORDS: Readonly<Record<string, string>> = {
  "r#": "a 64-bit register",
  "w#": "a 32-bit register",
  "#": "a number",
  target: "a label or a distance",
  ref: "a map",
};

const expected = (node: Node): string => {
  const kinds = [...node.next.keys()].map((kind) => KIND_WORDS[kind] ?? `"${kind}"`);
  if (node.meaning) kinds.push("the end of the line");
  return kinds.length > 1 ? `${kinds.slice(0, -1).join(", ")} or ${kinds.at(-1)}` : kinds.join("");
};

/** Walks the grammar along the tokens. */
const understand = (tokens: readonly Token[], end: number): { meaning: Meaning; operands: Token[] } => {
  let node = GRAMMAR;
  for (const token of tokens) {
    const next = node.next.get(token.kind);
    if (!next)
      throw new Complaint(
        token.column,
        node === GRAMMAR ? `want an instruction, got "${token.text}"` : `want ${expected(node)}, got "${token.text}"`,
      );
    node = next;
  }
  if (!node.meaning) throw new Complaint(end + 1, `want ${expected(node)}, got the end of the line`);
  return { meaning: node.meaning, operands: tokens.filter((token) => OPERANDS.has(token.kind)) };
};

const LABEL = /\s*([A-Za-z_.$][\w.$]*):/y;
/** `12: (61)` of the kernel, `12: 61 61 04 00 00 00 00 00` of LLVM. */
const PREFIX = /\s*\d+:\s*(?:\(([0-9a-f]{2})\)|(?:[0-9a-f]{2} ){7}[0-9a-f]{2}\s)?/y;
const OPCODE_ALONE = /\s*\(([0-9a-f]{2})\)(?=\s)/y;
const COMMENT = /;.*|\/\/.*/;
/** LLVM says where a jump goes. */
const LLVM_TARGET = /\s<[^<>\s]+>\s*$/;

/** What a line refers to and defines, told to the whole text. */
interface Surroundings {
  readonly labelOf: LabelOf;
  place(name: string, column: number): void;
}

/** The instructions that one line says, and the column where they do. */
const readLine = (line: string, around: Surroundings): { insns: readonly Insn[]; text: string } | undefined => {
  const text = line.replace(COMMENT, "").replace(LLVM_TARGET, "").trimEnd();
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) at = pattern.lastIndex;
    return found;
  };
  for (let label; (label = take(LABEL));) around.place(label[1]!, at - label[1]!.length);
  const opcode = (take(PREFIX) ?? take(OPCODE_ALONE))?.[1];
  const tokens = lex(text, at);
  if (tokens.length === 0) return undefined;
  // The kernel prints the 64-bit constant without mark; the opcode tells it from a 32-bit one.
  if (opcode === "18" && tokens.map((token) => token.kind).join(" ") === "r# = #")
    tokens.push({ kind: "ll", text: "ll", column: text.length + 1, value: 0 });
  const { meaning, operands } = understand(tokens, text.length);
  const insns = meaning(operands, around.labelOf);
  if (opcode !== undefined && parseInt(opcode, 16) !== insns[0]!.code)
    throw new Complaint(tokens[0]!.column, `want an instruction of opcode (${opcode}), got ${text.slice(at).trim()}`);
  return { insns, text: text.slice(tokens[0]!.column - 1) };
};

/**
 * Reads assembly text into instructions and labels, ready for `assemble()`. Each instruction's origin is its line.
 * Jump distances (`pc+3`) are taken as written, labels are resolved by the assembler.
 *
 * @param file - name for diagnostics and origins
 * @throws {@link CompileError} with a diagnostic for every line that is wrong
 */
export const parseAssembly = (text: string, file = "<asm>"): Code => {
  const diagnostics: Diagnostic[] = [];
  const code: (Insn | Label)[] = [];
  const labels = new Map<string, Label>();
  const placed = new Map<Label, number>();
  const uses: { label: Label; line: number; column: number }[] = [];
  const named = (name: string): Label => {
    const label = labels.get(name) ?? new Label(name);
    labels.set(name, label);
    return label;
  };

  let line = 0;
  const complain = (column: number, message: string): void => void diagnostics.push({ file, line, column, message });
  const around: Surroundings = {
    labelOf(name, column) {
      const label = named(name);
      uses.push({ label, line, column });
      return label;
    },
    place(name, column) {
      const label = named(name);
      if (placed.has(label)) complain(column, `label "${name}" is already placed in line ${placed.get(label)}`);
      else {
        placed.set(label, line);
        code.push(label);
      }
    },
  };
  for (const content of text.split("\n")) {
    line++;
    try {
      const read = readLine(content, around);
      if (!read) continue;
      const from: Origin = { text: read.text, file, line };
      for (const insn of read.insns) code.push({ ...insn, from });
    } catch (error) {
      if (!(error instanceof Complaint)) throw error;
      complain(error.column, error.message);
    }
  }

  const last = code.findLastIndex((item) => !(item instanceof Label));
  const atEnd = new Set(code.slice(last + 1));
  for (const { label, line, column } of uses) {
    if (!placed.has(label)) diagnostics.push({ file, line, column, message: `label "${label.hint}" is not placed` });
    else if (atEnd.has(label))
      diagnostics.push({ file, line, column, message: `label "${label.hint}" stands after the last instruction` });
  }
  if (diagnostics.length > 0)
    throw new CompileError(diagnostics.sort((a, b) => a.line - b.line || a.column - b.column));
  return code;
};

/** Assembles text. @throws {@link CompileError} naming file, line and column @see parseAssembly */
export const assembleText = (text: string, options: AssembleOptions & { readonly file?: string } = {}): Assembled =>
  assemble(parseAssembly(text, options.file), options);
