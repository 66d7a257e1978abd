// How instructions are spelled: the text form of the kernel's verifier log and of `bpftool prog dump xlated`. One table,
// two readers: the disassembler fills a form in, the text assembler recognises it. What a form does not show has a
// fixed value, so a slot has at most one spelling and spelling is the inverse of parsing. `call` and `ld_imm64` are not
// in the table; disassemble.ts and text.ts spell them.
//
// Placeholders: {dst} {src} register numbers; {zero} the number of r0, implied by the instruction; {off} signed decimal
// offset; {imm} signed decimal, {hex} unsigned hexadecimal immediate; {pc} and {pcl} jump distance in `off` and in `imm`;
// {to} and {from} address spaces, the halves of `imm`.

import { ALU, ATOMIC, ATOMIC_FETCH, CLASS, JMP, MODE, OP, SIZE, SOURCE } from "../isa/opcode.js";

/** The fields of one encoded slot. */
export interface Slot {
  readonly code: number;
  readonly dst: number;
  readonly src: number;
  readonly off: number;
  readonly imm: number;
}

export type Field = "dst" | "src" | "zero" | "off" | "imm" | "hex" | "pc" | "pcl" | "to" | "from";

/** One spelling. */
export interface Form {
  readonly code: number;
  /** Placeholders in the order of the text. */
  readonly fields: readonly Field[];
  /** The text between the placeholders: one piece more than there are fields. */
  readonly pieces: readonly string[];
  /** Values of the fields that the text does not show. */
  readonly fixed: Partial<Omit<Slot, "code">>;
}

/** Which field of the slot a placeholder shows. */
const SHOWS: Record<Field, keyof Slot | undefined> = {
  dst: "dst",
  src: "src",
  zero: undefined,
  off: "off",
  imm: "imm",
  hex: "imm",
  pc: "off",
  pcl: "imm",
  to: "imm",
  from: "imm",
};

/** Operators of two-operand arithmetic. */
const ALU_SIGN = {
  add: "+=",
  sub: "-=",
  mul: "*=",
  div: "/=",
  or: "|=",
  and: "&=",
  lsh: "<<=",
  rsh: ">>=",
  mod: "%=",
  xor: "^=",
  mov: "=",
  arsh: "s>>=",
} as const;

/** Comparisons of conditional jumps. */
const JMP_SIGN = {
  jeq: "==",
  jgt: ">",
  jge: ">=",
  jset: "&",
  jne: "!=",
  jsgt: "s>",
  jsge: "s>=",
  jlt: "<",
  jle: "<=",
  jslt: "s<",
  jsle: "s<=",
} as const;

const SIZES = ["u8", "u16", "u32", "u64"] as const;

type FixedFields = Form["fixed"];

const form = (code: number, template: string, fixed: FixedFields = {}): Form => {
  const parts = template.split(/\{(\w+)\}/);
  const fields = parts.filter((_, i) => i % 2 === 1) as Field[];
  const pieces = parts.filter((_, i) => i % 2 === 0);
  const shown = new Set(fields.map((field) => SHOWS[field]));
  const hidden = (["dst", "src", "off", "imm"] as const).filter((name) => !shown.has(name));
  return { code, fields, pieces, fixed: Object.fromEntries(hidden.map((name) => [name, fixed[name] ?? 0])) };
};

const keysOf = <T extends object>(table: T): (keyof T)[] => Object.keys(table) as (keyof T)[];

function* aluForms(): Generator<Form> {
  for (const [r, cls] of [
    ["r", CLASS.alu64],
    ["w", CLASS.alu],
  ] as const) {
    for (const op of keysOf(ALU_SIGN)) {
      yield form(cls | ALU[op] | SOURCE.k, `${r}{dst} ${ALU_SIGN[op]} {imm}`);
      yield form(cls | ALU[op] | SOURCE.x, `${r}{dst} ${ALU_SIGN[op]} ${r}{src}`);
    }
    for (const op of ["div", "mod"] as const) {
      yield form(cls | ALU[op] | SOURCE.k, `${r}{dst} s${ALU_SIGN[op]} {imm}`, { off: 1 });
      yield form(cls | ALU[op] | SOURCE.x, `${r}{dst} s${ALU_SIGN[op]} ${r}{src}`, { off: 1 });
    }
    for (const bits of cls === CLASS.alu64 ? [8, 16, 32] : [8, 16])
      yield form(cls | ALU.mov | SOURCE.x, `${r}{dst} = (s${bits})${r}{src}`, { off: bits });
    yield form(cls | ALU.neg, `${r}{dst} = -${r}{dst}`);
  }
  for (const bits of [16, 32, 64]) {
    yield form(OP.toLe, `r{dst} = le${bits} r{dst}`, { imm: bits });
    yield form(OP.toBe, `r{dst} = be${bits} r{dst}`, { imm: bits });
    yield form(OP.bswap, `r{dst} = bswap${bits} r{dst}`, { imm: bits });
  }
  yield form(CLASS.alu64 | ALU.mov | SOURCE.x, "r{dst} = addr_space_cast(r{src}, {to}, {from})", { off: 1 });
}

function* memoryForms(): Generator<Form> {
  for (const size of SIZES) {
    yield form(CLASS.ldx | MODE.mem | SIZE[size], `r{dst} = *(${size} *)(r{src} {off})`);
    yield form(CLASS.stx | MODE.mem | SIZE[size], `*(${size} *)(r{dst} {off}) = r{src}`);
    yield form(CLASS.st | MODE.mem | SIZE[size], `*(${size} *)(r{dst} {off}) = {imm}`);
    const atomic = CLASS.stx | MODE.atomic | SIZE[size];
    yield form(atomic, `r{dst} = load_acquire((${size} *)(r{src} {off}))`, { imm: ATOMIC.loadAcquire });
    yield form(atomic, `store_release((${size} *)(r{dst} {off}), r{src})`, { imm: ATOMIC.storeRelease });
    if (size === "u64") continue;
    yield form(CLASS.ldx | MODE.memsx | SIZE[size], `r{dst} = *(${size.replace("u", "s")} *)(r{src} {off})`);
    yield form(CLASS.ld | MODE.abs | SIZE[size], `r{zero} = *(${size} *)skb[{imm}]`);
    yield form(CLASS.ld | MODE.ind | SIZE[size], `r{zero} = *(${size} *)skb[r{src} + {imm}]`);
  }
}

function* atomicForms(): Generator<Form> {
  for (const [size, wide] of [
    ["u32", ""],
    ["u64", "64"],
  ] as const) {
    const code = CLASS.stx | MODE.atomic | SIZE[size];
    const at = `(${size} *)(r{dst} {off})`;
    for (const op of ["add", "or", "and", "xor"] as const) {
      yield form(code, `lock *${at} ${ALU_SIGN[op]} r{src}`, { imm: ATOMIC[op] });
      yield form(code, `r{src} = atomic${wide}_fetch_${op}(${at}, r{src})`, { imm: ATOMIC[op] | ATOMIC_FETCH });
    }
    yield form(code, `r{src} = atomic${wide}_xchg(${at}, r{src})`, { imm: ATOMIC.xchg });
    yield form(code, `r{zero} = atomic${wide}_cmpxchg(${at}, r{zero}, r{src})`, { imm: ATOMIC.cmpxchg });
  }
}

function* jumpForms(): Generator<Form> {
  for (const [r, cls] of [
    ["r", CLASS.jmp],
    ["w", CLASS.jmp32],
  ] as const)
    for (const op of keysOf(JMP_SIGN)) {
      yield form(cls | JMP[op] | SOURCE.k, `if ${r}{dst} ${JMP_SIGN[op]} {hex} goto {pc}`);
      yield form(cls | JMP[op] | SOURCE.x, `if ${r}{dst} ${JMP_SIGN[op]} ${r}{src} goto {pc}`);
    }
  yield form(OP.ja, "goto {pc}");
  yield form(OP.gotol, "gotol {pcl}");
  yield form(OP.mayGoto, "may_goto {pc}");
  yield form(OP.exit, "exit");
}

/** All spellings that the disassembler uses. */
export const FORMS: readonly Form[] = [...aluForms(), ...memoryForms(), ...atomicForms(), ...jumpForms()];

/** LLVM's spellings of the same instructions where they differ; understood, never printed. */
function* llvmForms(): Generator<Form> {
  for (const [size, r] of [
    ["u32", "w"],
    ["u64", "r"],
  ] as const) {
    const code = CLASS.stx | MODE.atomic | SIZE[size];
    for (const op of ["add", "or", "and", "xor"] as const) {
      const at = `(${size} *)(r{dst} {off})`;
      if (size === "u32") yield form(code, `lock *${at} ${ALU_SIGN[op]} w{src}`, { imm: ATOMIC[op] });
      yield form(code, `${r}{src} = atomic_fetch_${op}(${at}, ${r}{src})`, { imm: ATOMIC[op] | ATOMIC_FETCH });
    }
    const name = size === "u32" ? "32_32" : "_64";
    yield form(code, `${r}{src} = xchg${name}(r{dst} {off}, ${r}{src})`, { imm: ATOMIC.xchg });
    yield form(code, `${r}{zero} = cmpxchg${name}(r{dst} {off}, ${r}{zero}, ${r}{src})`, { imm: ATOMIC.cmpxchg });
  }
  for (const size of ["u8", "u16", "u32"] as const) {
    yield form(CLASS.ldx | MODE.mem | SIZE[size], `w{dst} = *(${size} *)(r{src} {off})`);
    yield form(CLASS.stx | MODE.mem | SIZE[size], `*(${size} *)(r{dst} {off}) = w{src}`);
  }
}

/** All spellings that the text assembler understands. */
export const READABLE_FORMS: readonly Form[] = [...FORMS, ...llvmForms()];

const BY_CODE: readonly (readonly Form[])[] = Array.from({ length: 256 }, (_, code) =>
  FORMS.filter((f) => f.code === code),
);

/** The form that spells `slot` without loss, or undefined: an unknown opcode, register or stray bits. */
export const formOf = (slot: Slot): Form | undefined =>
  slot.dst > 10 || slot.src > 10
    ? undefined
    : BY_CODE[slot.code]!.find(({ fixed }) =>
        (["dst", "src", "off", "imm"] as const).every(
          (name) => fixed[name] === undefined || fixed[name] === slot[name],
        ),
      );

/** Signed decimal with its sign, as C's `%+d`. */
export const signed = (n: number): string => (n < 0 ? String(n) : `+${n}`);

const PRINT: Record<Field, (slot: Slot, target: Target) => string> = {
  dst: (s) => String(s.dst),
  src: (s) => String(s.src),
  zero: () => "0",
  off: (s) => signed(s.off),
  imm: (s) => String(s.imm),
  hex: (s) => `0x${(s.imm >>> 0).toString(16)}`,
  pc: (s, target) => target(s.off),
  pcl: (s, target) => target(s.imm),
  to: (s) => String(s.imm >>> 16),
  from: (s) => String(s.imm & 0xffff),
};

/** How a jump distance is spelled. */
export type Target = (distance: number) => string;

/** Distances as the kernel prints them. */
export const pcTarget: Target = (distance) => `pc${signed(distance)}`;

/** The text of a slot in a form. */
export const fill = ({ fields, pieces }: Form, slot: Slot, target: Target): string => {
  let text = pieces[0]!;
  fields.forEach((field, i) => (text += PRINT[field](slot, target) + pieces[i + 1]!));
  return text;
};
