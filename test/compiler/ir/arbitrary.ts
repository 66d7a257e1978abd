// Random well-formed programs for property tests: arithmetic over mutable registers, stack slots, packet bytes, branches
// that join again, small loops, map lookups with atomic additions, early returns. Enough registers to force spilling.

import fc from "fast-check";
import { IrBuilder, type AluOp, type Cond, type Operand, type Program, type Size, type VReg } from "#compiler";

/** The array map that random programs use: `VALUES` values of 16 bytes. */
export const MAP = "table";
export const VALUES = 4;
export const VALUE_SIZE = 16;
/** The devmap that random programs look ports up in, always in vain: it has {@link PORTS} entries, all empty. */
export const PORT_MAP = "ports";
export const PORTS = 4;
/** Bytes of packet that random programs may read; runs with shorter packets take the early way out. */
export const READ_BYTES = 32;

const SLOT_SIZE = 24;

type Source = { readonly reg: number } | { readonly imm: number | bigint };

type Statement =
  | { readonly do: "alu"; readonly op: AluOp; readonly wide: boolean; dst: number; a: Source; b: Source }
  | { readonly do: "swap"; readonly bits: 16 | 32 | 64; dst: number; src: number }
  | { readonly do: "copy"; dst: number; src: Source }
  | { readonly do: "packet"; readonly size: Size; dst: number; readonly off: number }
  /** Two neighbours, put together (`want` undefined) or compared one after the other. */
  | {
      readonly do: "pair";
      readonly size: "u8" | "u16" | "u32";
      dst: number;
      readonly off: number;
      readonly want?: number;
    }
  | { readonly do: "load"; readonly size: Size; dst: number; readonly index: number }
  | { readonly do: "store"; readonly size: Size; src: Source; readonly index: number }
  | { readonly do: "redirect"; key: number; flags: number; dst: number }
  /** `word`: which four bytes of the scratch slot hold the key; beyond it, a slot of its own does. */
  | { readonly do: "count"; readonly index: number; readonly word: number; src: number; dst: number }
  | {
      readonly do: "if";
      readonly cond: Cond;
      readonly wide: boolean;
      a: number;
      b: Source;
      readonly then: readonly Statement[];
      readonly else: readonly Statement[];
      readonly likely: "then" | "else" | undefined;
    }
  | { readonly do: "repeat"; readonly times: number; readonly body: readonly Statement[] }
  | { readonly do: "leave"; readonly cond: Cond; a: number; b: Source; value: Source };

/** A random program before it is built. */
export interface Recipe {
  readonly nRegs: number;
  readonly body: readonly Statement[];
}

const ALU_OPS: readonly AluOp[] = ["add", "sub", "mul", "div", "mod", "and", "or", "xor", "lsh", "rsh", "arsh"];
const CONDS: readonly Cond[] = ["eq", "ne", "gt", "ge", "lt", "le", "sgt", "sge", "slt", "sle", "set"];
const SIZES: readonly Size[] = ["u8", "u16", "u32", "u64"];
const BYTES: Readonly<Record<Size, number>> = { u8: 1, u16: 2, u32: 4, u64: 8 };

const interesting = fc.constantFrom(0, 1, -1, 2, 8, 255, 0xff00, 65535, 0x7fff_ffff, -0x8000_0000);
const wideConstants = fc.constantFrom(0x8000_0000n, 0xffff_ffffn, 0xffff_0000n, 1n << 32n, 1n << 63n, (1n << 64n) - 1n);
const imm = fc.oneof(interesting, fc.integer(), wideConstants, fc.bigInt({ min: 1n << 31n, max: (1n << 64n) - 1n }));

const statements = (nRegs: number): fc.Arbitrary<readonly Statement[]> => {
  const reg = fc.nat({ max: nRegs - 1 });
  const source: fc.Arbitrary<Source> = fc.oneof(
    { weight: 3, arbitrary: fc.record({ reg }) },
    { weight: 2, arbitrary: fc.record({ imm }) },
  );
  const size = fc.constantFrom(...SIZES);
  const wide = fc.boolean();
  const simple: fc.Arbitrary<Statement>[] = [
    fc.record({ do: fc.constant("alu"), op: fc.constantFrom(...ALU_OPS), wide, dst: reg, a: source, b: source }),
    fc.record({ do: fc.constant("alu"), op: fc.constantFrom(...ALU_OPS), wide, dst: reg, a: source, b: source }),
    fc.record({ do: fc.constant("swap"), bits: fc.constantFrom(16, 32, 64), dst: reg, src: reg }),
    fc.record({ do: fc.constant("copy"), dst: reg, src: source }),
    fc.record({ do: fc.constant("packet"), size, dst: reg, off: fc.nat({ max: READ_BYTES - 8 }) }),
    fc.record(
      {
        do: fc.constant("pair"),
        size: fc.constantFrom("u8", "u16", "u32"),
        dst: reg,
        off: fc.nat({ max: READ_BYTES - 8 }),
        want: fc.nat({ max: 1 }),
      },
      { requiredKeys: ["do", "size", "dst", "off"] },
    ),
    fc.record({ do: fc.constant("load"), size, dst: reg, index: fc.nat({ max: SLOT_SIZE - 1 }) }),
    fc.record({ do: fc.constant("store"), size, src: source, index: fc.nat({ max: SLOT_SIZE - 1 }) }),
    fc.record({ do: fc.constant("redirect"), key: reg, flags: reg, dst: reg }),
    fc.record({
      do: fc.constant("count"),
      index: fc.nat({ max: VALUES }),
      word: fc.nat({ max: SLOT_SIZE / 4 }),
      src: reg,
      dst: reg,
    }),
    fc.record({ do: fc.constant("leave"), cond: fc.constantFrom(...CONDS), a: reg, b: source, value: source }),
  ] as fc.Arbitrary<Statement>[];
  const list = (depth: number, max: number): fc.Arbitrary<readonly Statement[]> => {
    if (depth === 0) return fc.array(fc.oneof(...simple), { maxLength: max });
    const branch = fc.record({
      do: fc.constant("if" as const),
      cond: fc.constantFrom(...CONDS),
      wide,
      a: reg,
      b: source,
      then: list(depth - 1, 4),
      else: list(depth - 1, 4),
      likely: fc.constantFrom("then" as const, "else" as const, undefined),
    });
    const repeat = fc.record({
      do: fc.constant("repeat" as const),
      times: fc.integer({ min: 1, max: 3 }),
      body: list(depth - 1, 4),
    });
    return fc.array(
      fc.oneof(
        { weight: 6, arbitrary: fc.oneof(...simple) },
        { weight: 2, arbitrary: branch },
        { weight: 1, arbitrary: repeat },
      ),
      { maxLength: max },
    );
  };
  return list(2, 14);
};

/** Random recipes, small when shrunk. */
export const recipes: fc.Arbitrary<Recipe> = fc
  .constantFrom(2, 5, 9, 16)
  .chain((nRegs) => fc.record({ nRegs: fc.constant(nRegs), body: statements(nRegs) }));

/** Builds the program of a recipe: for a packet shorter than {@link READ_BYTES} it returns 0. */
export const build = (recipe: Recipe): Program => {
  const b = new IrBuilder("random", "xdp");
  const short = b.block("short");
  const data = b.ctx("data");
  b.unless("gt", b.alu("add", data, READ_BYTES), b.ctx("data_end"), short);
  const slot = b.slot("scratch", SLOT_SIZE);
  const key = b.slot("key", 4, 4);
  for (let off = 0; off < SLOT_SIZE; off += 8)
    b.store("u64", slot, off, (0x0123_4567_89ab_cdefn * BigInt(off + 1)) & ((1n << 64n) - 1n));
  const regs: VReg[] = [];
  for (let i = 0; i < recipe.nRegs; i++) regs.push(b.load(SIZES[i % 4]!, data, i, `v${i}`));
  const reg = (i: number): VReg => regs[i]!;
  const operand = (s: Source): Operand => ("reg" in s ? reg(s.reg) : s.imm);

  const alu = (s: Statement & { do: "alu" }): void => {
    let right = operand(s.b);
    const width = s.wide ? 64 : 32;
    if (typeof right !== "object") {
      const shift = s.op === "lsh" || s.op === "rsh" || s.op === "arsh";
      if (shift) right = Number(BigInt.asUintN(5, BigInt(right)));
      const isZero = BigInt.asUintN(width, BigInt(right)) === 0n;
      if (isZero && (s.op === "div" || s.op === "mod")) right = 3;
    }
    const left = operand(s.a);
    // Through a new register now and then, so that not everything is two-address already.
    if (s.dst % 3 === 0) b.mov(reg(s.dst), b.alu(s.op, left, right, "t", width));
    else if (typeof left === "object" && left === reg(s.dst)) b.aluTo(s.op, reg(s.dst), right, width);
    else b.mov(reg(s.dst), b.alu(s.op, left, right, "u", width));
  };

  const run = (s: Statement): void => {
    switch (s.do) {
      case "alu":
        return alu(s);
      case "swap":
        return b.mov(reg(s.dst), s.bits === 64 ? b.forgotten(reg(s.src)) : b.swap(s.bits, reg(s.src)));
      case "copy":
        return b.mov(reg(s.dst), operand(s.src));
      case "packet":
        return b.loadTo(reg(s.dst), s.size, data, s.off);
      case "pair": {
        const low = b.load(s.size, data, s.off, "low");
        if (s.want === undefined) {
          const high = b.load(s.size, data, s.off + BYTES[s.size], "high");
          return b.mov(reg(s.dst), b.alu("or", low, b.alu("lsh", high, 8 * BYTES[s.size])));
        }
        const differ = b.block("differ");
        b.unless("ne", low, s.want, differ);
        b.unless("ne", b.load(s.size, data, s.off + BYTES[s.size], "high"), s.want, differ);
        b.aluTo("xor", reg(s.dst), 0x77);
        b.place(differ);
        return;
      }
      case "load":
        return b.loadTo(reg(s.dst), s.size, slot, s.index - (s.index % BYTES[s.size]));
      case "store":
        return b.store(s.size, slot, s.index - (s.index % BYTES[s.size]), operand(s.src));
      case "redirect": {
        // Both values live on in registers of the caller's choice, so arguments get moved across each other.
        const flags = b.alu("and", reg(s.flags), 3, "flags");
        const index = b.alu("or", reg(s.key), PORTS, "index");
        return b.mov(reg(s.dst), b.call("redirect_map", [{ map: PORT_MAP }, index, flags]));
      }
      case "count": {
        const missed = b.block("missed");
        const done = b.block("done");
        const inScratch = 4 * s.word < SLOT_SIZE;
        const place = inScratch ? { at: slot, off: 4 * s.word } : { at: key, off: 0 };
        if (inScratch) {
          b.store("u16", slot, place.off, s.index);
          b.store("u16", slot, place.off + 2, 0);
        } else b.store("u32", key, 0, s.index);
        const value = b.call("map_lookup_elem", [{ map: MAP }, place], "map_value");
        b.unless("eq", value, 0, missed);
        b.atomicAdd("u64", value, 0, reg(s.src));
        b.atomicAdd("u32", value, 8, reg(s.src));
        b.loadTo(reg(s.dst), "u64", value, 8);
        b.jump(done);
        b.place(missed);
        b.aluTo("xor", reg(s.dst), 0x55);
        b.place(done);
        return;
      }
      case "if": {
        const [then, otherwise, join] = [b.block("then"), b.block("else"), b.block("join")];
        b.branch(s.cond, reg(s.a), operand(s.b), then, otherwise, s.likely, s.wide ? 64 : 32);
        b.place(then);
        s.then.forEach(run);
        b.jump(join);
        b.place(otherwise);
        s.else.forEach(run);
        b.place(join);
        return;
      }
      case "repeat": {
        const [again, after] = [b.block("again"), b.block("after")];
        const left = b.value("left", s.times);
        b.place(again);
        s.body.forEach(run);
        b.aluTo("sub", left, 1);
        b.branch("ne", left, 0, again, after);
        b.place(after);
        return;
      }
      case "leave": {
        const [leave, stay] = [b.block("leave"), b.block("stay")];
        b.branch(s.cond, reg(s.a), operand(s.b), leave, stay, "else");
        b.place(leave);
        b.ret(operand(s.value));
        b.place(stay);
      }
    }
  };
  recipe.body.forEach(run);

  // Everything that was computed decides the result, so that nothing is dead.
  const mix = b.value("mix", 1);
  const blend = (x: Operand): void => {
    b.aluTo("mul", mix, 0x0100_0193);
    b.aluTo("xor", mix, x);
    b.aluTo("xor", mix, b.alu("rsh", mix, 29));
  };
  regs.forEach(blend);
  for (let off = 0; off < SLOT_SIZE; off += 8) blend(b.load("u64", slot, off));
  blend(b.ctx("packet_len"));
  b.ret(mix);
  b.place(short);
  b.ret(0);
  return b.finish();
};
