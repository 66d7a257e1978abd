// The numbers of the eBPF instruction set, once, as tables: builders, assembler, disassembler and text assembler read
// them from here. Source: uapi/linux/bpf.h, uapi/linux/bpf_common.h and RFC 9669.

/** Instruction classes: the three low bits of the opcode byte. */
export const CLASS = {
  ld: 0x00,
  ldx: 0x01,
  st: 0x02,
  stx: 0x03,
  alu: 0x04,
  jmp: 0x05,
  jmp32: 0x06,
  alu64: 0x07,
} as const;

/** Width bits of loads and stores. */
export const SIZE = { u32: 0x00, u16: 0x08, u8: 0x10, u64: 0x18 } as const;

/** Mode bits of loads and stores. */
export const MODE = { imm: 0x00, abs: 0x20, ind: 0x40, mem: 0x60, memsx: 0x80, atomic: 0xc0 } as const;

/** Operand bit of arithmetic and jumps: immediate (k) or source register (x). */
export const SOURCE = { k: 0x00, x: 0x08 } as const;

/** Operation bits of the two arithmetic classes. */
export const ALU = {
  add: 0x00,
  sub: 0x10,
  mul: 0x20,
  div: 0x30,
  or: 0x40,
  and: 0x50,
  lsh: 0x60,
  rsh: 0x70,
  neg: 0x80,
  mod: 0x90,
  xor: 0xa0,
  mov: 0xb0,
  arsh: 0xc0,
  end: 0xd0,
} as const;

/** Operation bits of the two jump classes. */
export const JMP = {
  ja: 0x00,
  jeq: 0x10,
  jgt: 0x20,
  jge: 0x30,
  jset: 0x40,
  jne: 0x50,
  jsgt: 0x60,
  jsge: 0x70,
  call: 0x80,
  exit: 0x90,
  jlt: 0xa0,
  jle: 0xb0,
  jslt: 0xc0,
  jsle: 0xd0,
  jcond: 0xe0,
} as const;

/** `imm` of an atomic instruction. The arithmetic ones may be or-ed with {@link ATOMIC_FETCH}. */
export const ATOMIC = {
  add: 0x00,
  or: 0x40,
  and: 0x50,
  xor: 0xa0,
  xchg: 0xe1,
  cmpxchg: 0xf1,
  loadAcquire: 0x100,
  storeRelease: 0x110,
} as const;
/** The old value is returned in the source register. */
export const ATOMIC_FETCH = 0x01;

/** `src` of a `ld_imm64`: what its 64-bit immediate is. */
export const PSEUDO = { const: 0, mapFd: 1, mapValue: 2, btfId: 3, func: 4, mapIdx: 5, mapIdxValue: 6 } as const;

/** `src` of a call: what its immediate names. */
export const CALL = { helper: 0, local: 1, kfunc: 2 } as const;

/** Opcode bytes that are not sums of a regular table. */
export const OP = {
  ldImm64: 0x18,
  ja: 0x05,
  /** Jump with a 32-bit distance in `imm`. Linux 6.6. */
  gotol: 0x06,
  call: 0x85,
  exit: 0x95,
  /** Linux 6.9. */
  mayGoto: 0xe5,
  /** Unconditional byte swap. Linux 6.6. */
  bswap: 0xd7,
  toLe: 0xd4,
  toBe: 0xdc,
} as const;

/** Bytes of one instruction slot. */
export const SLOT_BYTES = 8;

/** Whether `code` is a jump of the table {@link JMP} with a 16-bit distance in `off`. */
export const hasShortTarget = (code: number): boolean => {
  const cls = code & 0x07;
  const op = code & 0xf0;
  if (cls === CLASS.jmp) return op !== JMP.call && op !== JMP.exit && op < 0xf0 && code !== (OP.ja | SOURCE.x);
  return cls === CLASS.jmp32 && op !== JMP.ja && op !== JMP.call && op !== JMP.exit && op < JMP.jcond;
};
