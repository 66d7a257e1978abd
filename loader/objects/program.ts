// A BPF program: loading with its map references filled in, information, test runs.
//
// The first attempt asks for no verifier log, which is the fast case; only a refused program is verified again to learn
// why (kernel: a log buffer that is too small makes even a valid program fail with ENOSPC, so it grows).

import {
  MAP_TYPES,
  PROG_TYPES,
  RangeViolation,
  type ProgramSpec,
  type ProgType,
  type Relocation,
} from "ebpf-assembler";
import { Attr, bpf, cString, fromCString, type AttrValues } from "../sys/bpf.js";
import { ERRNO, syscallError } from "../sys/errors.js";
import { checkKind, Fd } from "../sys/fd.js";
import type { Sys } from "../sys/sys.js";
import type { BpfMap } from "./map.js";
import { verifierError } from "./verifier.js";

/** BPF attach types the package uses (uapi/linux/bpf.h, enum bpf_attach_type). */
export const ATTACH_TYPES = { xdp_devmap: 33, xdp_cpumap: 35, xdp: 37, tcx_ingress: 46, tcx_egress: 47 } as const;

/** ld_imm64 source register values (uapi/linux/bpf.h, BPF_PSEUDO_*). */
const PSEUDO = { map: 1, map_value: 2 } as const satisfies Record<Relocation["kind"], number>;
const LD_IMM64 = 0x18;
const SLOT_SIZE = 8;

const LOG_SIZE_FIRST = 1 << 16;
/** Largest log the kernel takes: UINT_MAX >> 2. */
const LOG_SIZE_MAX = 1 << 28;
/** Verifications interrupted by a signal are tried again, as libbpf does. */
const EAGAIN_TRIES = 5;

/** What the kernel knows about a program (`struct bpf_prog_info`). */
export interface ProgramInfo {
  readonly type: number;
  readonly id: number;
  readonly name: string;
  /** Truncated SHA of the instructions, 16 hex digits. */
  readonly tag: string;
  /** Bytes of machine code; 0 without the JIT. */
  readonly jitedSize: number;
  /** Bytes of the program after verification. */
  readonly xlatedSize: number;
  readonly mapIds: readonly number[];
  readonly ifindex: number;
  /** Instructions the verifier walked ("processed N insns"). Linux 5.16; 0 before. */
  readonly verifiedInsns: number;
}

/** The program behind a descriptor. */
export const readProgramInfo = (sys: Sys, fd: number, what: string): ProgramInfo => {
  const info = new DataView(new ArrayBuffer(232));
  const action = `read the info of ${what}`;
  const read = () => bpf(sys, "OBJ_GET_INFO_BY_FD", { bpf_fd: fd, info_len: info.byteLength, info }, action);
  read();
  const jitedSize = info.getUint32(16, true);
  const xlatedSize = info.getUint32(20, true);
  const mapIds = new Uint32Array(info.getUint32(52, true));
  // A second read with room for the ids; the sizes must be 0 or the kernel wants room for the code, too.
  new Uint8Array(info.buffer).fill(0);
  info.setUint32(52, mapIds.length, true);
  info.setBigUint64(56, BigInt(sys.address(mapIds)), true);
  read();
  const tag = Array.from(new Uint8Array(info.buffer, 8, 8), (b) => b.toString(16).padStart(2, "0")).join("");
  return {
    type: info.getUint32(0, true),
    id: info.getUint32(4, true),
    name: fromCString(new Uint8Array(info.buffer, 64, 16)),
    tag,
    jitedSize,
    xlatedSize,
    mapIds: [...mapIds],
    ifindex: info.getUint32(80, true),
    verifiedInsns: info.getUint32(216, true),
  };
};

/** How to load, beyond the spec. */
export interface LoadOptions {
  /** Kernel license; GPL-only helpers want "GPL" or "Dual BSD/GPL". */
  readonly license?: string;
  /** One of {@link ATTACH_TYPES}; default: `xdp` for XDP programs, none for others. */
  readonly expectedAttachType?: number;
  /** Network device to offload to. */
  readonly ifindex?: number;
  /** BTF: a descriptor, and `struct bpf_func_info` and `struct bpf_line_info` records that refer to it. */
  readonly types?: { readonly btfFd: number; readonly funcInfo: Uint8Array; readonly lineInfo: Uint8Array };
}

/** Record sizes of func_info and line_info (uapi/linux/bpf.h). */
const FUNC_INFO_SIZE = 8;
const LINE_INFO_SIZE = 16;

const typeValues = (types: LoadOptions["types"]): AttrValues<"PROG_LOAD"> =>
  types === undefined
    ? {}
    : {
        prog_btf_fd: types.btfFd,
        func_info_rec_size: FUNC_INFO_SIZE,
        func_info: types.funcInfo,
        func_info_cnt: types.funcInfo.length / FUNC_INFO_SIZE,
        line_info_rec_size: LINE_INFO_SIZE,
        line_info: types.lineInfo,
        line_info_cnt: types.lineInfo.length / LINE_INFO_SIZE,
      };

/** A copy of the code with the descriptors of `maps` in place of its map references. */
export const relocate = (spec: ProgramSpec, maps: (name: string) => number): Uint8Array => {
  const code = spec.code.slice();
  const view = new DataView(code.buffer);
  for (const { insn, kind, map, offset } of spec.relocations) {
    const at = insn * SLOT_SIZE;
    if (code[at] !== LD_IMM64 || at + 2 * SLOT_SIZE > code.length)
      throw new RangeViolation(
        `Cannot relocate program "${spec.name}": want ld_imm64 at insn ${insn} for map "${map}"`,
      );
    code[at + 1] = ((code[at + 1] as number) & 0x0f) | (PSEUDO[kind] << 4);
    view.setInt32(at + 4, maps(map), true);
    view.setUint32(at + SLOT_SIZE + 4, kind === "map_value" ? offset : 0, true);
  }
  return code;
};

/** Loads with a log, level 1 and then 2 if the first says nothing; grows the buffer for as long as the kernel asks. */
const loadWithLog = (sys: Sys, values: AttrValues<"PROG_LOAD">): { result: number; log: string[] } => {
  let result = 0;
  for (const level of [1, 2]) {
    for (let size = LOG_SIZE_FIRST; size <= LOG_SIZE_MAX; size *= 4) {
      const buffer = new Uint8Array(size);
      result = new Attr(sys, "PROG_LOAD", { ...values, log_level: level, log_size: size, log_buf: buffer }).run();
      if (result >= 0) return { result, log: [] };
      if (result === -ERRNO.ENOSPC) continue;
      const log = fromCString(buffer).split("\n");
      if (log.at(-1) === "") log.pop();
      if (log.length > 0 || level === 2) return { result, log };
      break;
    }
  }
  return { result, log: [] };
};

/** Input of {@link Program.testRun}. */
export interface TestRunOptions {
  /** The packet; at least 14 bytes. */
  readonly data: Uint8Array;
  /** `struct xdp_md` or `struct __sk_buff`: see {@link xdpContext}, {@link skbContext}. */
  readonly ctx?: Uint8Array;
  /** Default 1. An XDP program that is not attached costs 16 to 24 ms per call when above 1. */
  readonly repeat?: number;
  /** Inject as real frames, with their effects (redirects arrive); there is no output then. XDP only, Linux 5.18. */
  readonly liveFrames?: boolean;
  /** Frames per NAPI batch of live frames; 0 = kernel's default (64). */
  readonly batchSize?: number;
  /** Room for the packet coming out; default: input + 256 bytes. */
  readonly dataOutSize?: number;
}

/** Output of {@link Program.testRun}. */
export interface TestRunResult {
  /** Return value of the program, e.g. an XDP action. */
  readonly retval: number;
  /** The packet afterwards; empty for live frames. */
  readonly data: Uint8Array;
  /** The context afterwards; empty unless one was given. */
  readonly ctx: Uint8Array;
  /** Mean nanoseconds per repetition, whole. */
  readonly durationNs: number;
}

const TEST_RUN_LIVE_FRAMES = 1 << 1;
const NOTHING = new Uint8Array(0);

/**
 * A program in the kernel. Disposing closes the descriptor; the program stays while a link, pin, program array or device
 * refers to it.
 */
export class Program implements Disposable {
  private constructor(
    readonly sys: Sys,
    private readonly fd: Fd,
    readonly name: string,
    readonly type: number,
  ) {}

  /**
   * Verifies and loads a program.
   * @param maps - the maps its relocations name
   * @throws {@link VerifierError} when the verifier refuses it, {@link SyscallError} when the kernel does before that
   */
  static load(sys: Sys, spec: ProgramSpec, maps: ReadonlyMap<string, BpfMap>, options: LoadOptions = {}): Program {
    const code = relocate(spec, (name) => {
      const map = maps.get(name);
      if (map === undefined) throw new RangeViolation(`Cannot load program "${spec.name}": no map "${name}"`);
      return map.fdNumber;
    });
    const values: AttrValues<"PROG_LOAD"> = {
      prog_type: PROG_TYPES[spec.type],
      insn_cnt: code.length / SLOT_SIZE,
      insns: code,
      license: cString(options.license ?? "GPL"),
      prog_flags: spec.flags,
      prog_name: spec.name,
      prog_ifindex: options.ifindex ?? 0,
      expected_attach_type: options.expectedAttachType ?? (spec.type === "xdp" ? ATTACH_TYPES.xdp : 0),
      ...typeValues(options.types),
    };
    const what = `program "${spec.name}"`;
    let result = -ERRNO.EAGAIN;
    for (let i = 0; i < EAGAIN_TRIES && result === -ERRNO.EAGAIN; i++)
      result = new Attr(sys, "PROG_LOAD", values).run();
    if (result < 0 && result !== -ERRNO.EPERM) {
      const retry = loadWithLog(sys, values);
      result = retry.result;
      if (result < 0 && retry.log.length > 0)
        throw verifierError(spec, retry.log, syscallError(`load ${what}`, "bpf(PROG_LOAD)", -result));
    }
    if (result < 0) throw syscallError(`load ${what}`, "bpf(PROG_LOAD)", -result);
    return new Program(sys, new Fd(sys, result, what), spec.name, PROG_TYPES[spec.type]);
  }

  /** Takes over a descriptor of a program. Closes it when it cannot. */
  static fromFd(sys: Sys, number: number, what: string): Program {
    const fd = new Fd(sys, number, what);
    try {
      checkKind(number, "program", what);
      const { name, type } = readProgramInfo(sys, number, what);
      return new Program(sys, fd, name, type);
    } catch (error) {
      fd[Symbol.dispose]();
      throw error;
    }
  }

  /** Opens the pinned program at `path`. @throws {@link SyscallError} */
  static fromPin(sys: Sys, path: string): Program {
    const what = `pinned program ${path}`;
    return Program.fromFd(sys, bpf(sys, "OBJ_GET", { pathname: cString(path) }, `open ${what}`), what);
  }

  /** Opens the program with the kernel's id. @throws {@link SyscallError} */
  static fromId(sys: Sys, id: number): Program {
    const what = `program id ${id}`;
    return Program.fromFd(sys, bpf(sys, "PROG_GET_FD_BY_ID", { id }, `open ${what}`), what);
  }

  /** The descriptor, for attributes of other commands. @throws {@link ClosedError} */
  get fdNumber(): number {
    return this.fd.n;
  }

  get info(): ProgramInfo {
    return readProgramInfo(this.sys, this.fd.n, `program "${this.name}"`);
  }

  /**
   * Runs the program on a packet (BPF_PROG_TEST_RUN). Redirects are returned, not executed, unless `liveFrames`.
   * @throws {@link SyscallError}
   */
  testRun(options: TestRunOptions): TestRunResult {
    const { data, ctx, repeat = 1, liveFrames = false } = options;
    const dataOut = liveFrames ? NOTHING : new Uint8Array(options.dataOutSize ?? data.length + 256);
    const ctxOut = liveFrames || ctx === undefined ? NOTHING : new Uint8Array(ctx.length);
    const attr = new Attr(this.sys, "PROG_TEST_RUN", {
      prog_fd: this.fd.n,
      data_in: data,
      data_size_in: data.length,
      repeat,
      flags: liveFrames ? TEST_RUN_LIVE_FRAMES : 0,
      batch_size: options.batchSize ?? 0,
    });
    if (dataOut.length > 0) {
      attr.set("data_out", dataOut);
      attr.set("data_size_out", dataOut.length);
    }
    if (ctx !== undefined) {
      attr.set("ctx_in", ctx);
      attr.set("ctx_size_in", ctx.length);
      if (ctxOut.length > 0) {
        attr.set("ctx_out", ctxOut);
        attr.set("ctx_size_out", ctxOut.length);
      }
    }
    let result = attr.run();
    while (result === -ERRNO.EINTR) result = attr.run();
    if (result < 0)
      throw syscallError(
        `run program "${this.name}" on a packet of ${data.length} bytes`,
        "bpf(PROG_TEST_RUN)",
        -result,
        result === -ERRNO.ENOSPC ? "the packet coming out is longer than dataOutSize" : undefined,
      );
    return {
      retval: attr.u32("retval"),
      data: dataOut.subarray(0, Math.min(dataOut.length, liveFrames ? 0 : attr.u32("data_size_out"))),
      ctx: ctxOut.subarray(0, Math.min(ctxOut.length, attr.u32("ctx_size_out"))),
      durationNs: attr.u32("duration"),
    };
  }

  /** Pins the program: it stays until the path is unlinked. @throws {@link SyscallError} */
  pin(path: string): void {
    const values = { pathname: cString(path), bpf_fd: this.fd.n };
    bpf(this.sys, "OBJ_PIN", values, `pin program "${this.name}" at ${path}`);
  }

  [Symbol.dispose](): void {
    this.fd[Symbol.dispose]();
  }
}

/**
 * Puts `program` into a slot of a program array, atomically replacing what is there: packets see the old or the new one.
 * @throws {@link SyscallError}, among them EINVAL when type, JIT or frags flag differ from the array's first program
 */
export const setProgramSlot = (array: BpfMap, index: number, program: Program): void => {
  if (array.type !== MAP_TYPES.prog_array)
    throw new RangeViolation(`Cannot put a program into map "${array.name}": want a prog_array`);
  const words = new Uint32Array([index, program.fdNumber]);
  array.update(new Uint8Array(words.buffer, 0, 4), new Uint8Array(words.buffer, 4, 4));
};

/** Empties a slot of a program array: a tail call to it falls through. False when it was empty. */
export const clearProgramSlot = (array: BpfMap, index: number): boolean =>
  array.delete(new Uint8Array(new Uint32Array([index]).buffer));

/** Name of a program type number, or `type N`. */
export const programTypeName = (type: number): string =>
  (Object.keys(PROG_TYPES) as ProgType[]).find((name) => PROG_TYPES[name] === type) ?? `type ${type}`;
