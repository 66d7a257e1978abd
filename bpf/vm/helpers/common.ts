// Helpers that know neither maps nor packets: clocks, random numbers, loops, tracing, sums.

import { csumPartial, csumSub, from32to16 } from "../checksum.js";
import { ERRNO, Fault } from "../errors.js";
import type { Machine } from "../machine.js";
import { highWord, ORIGIN, SEGMENTS } from "../memory.js";
import { BOTH, flagsOf, type HelperTable, type Host, isNull, readable, u32 } from "./helper.js";

/** BPF_MAX_LOOPS, linux/bpf.h */
const MAX_LOOPS = 8 * 1024 * 1024;
/** Nanoseconds of a jiffy at CONFIG_HZ=250, what distributions ship. */
const JIFFY_NS = 4_000_000n;

const result64 = (m: Machine, value: bigint): void =>
  m.resultWords(Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));

const clock = (host: Host): void => result64(host.machine, host.clock());

const u64 = (m: Machine, register: number): bigint =>
  (BigInt(m.R[2 * register + 1]! >>> 0) << 32n) | BigInt(m.R[2 * register]! >>> 0);

/** The text of a printk format with `args`; what the kernel refuses is an undefined result. */
const format = (text: string, args: readonly bigint[]): string | undefined => {
  let next = 0;
  let isGood = true;
  const done = text.replace(
    /%(%|(0?)(\d*)(ll|l|)([diuxXc]|p))/g,
    (_all, whole: string, zero: string, width: string, long: string, kind: string) => {
      if (whole === "%") return "%";
      const arg = args[next++];
      if (arg === undefined) {
        isGood = false;
        return "";
      }
      const bits = long === "" && kind !== "p" ? 32 : 64;
      const value = kind === "d" || kind === "i" ? BigInt.asIntN(bits, arg) : BigInt.asUintN(bits, arg);
      const written: { readonly [kind: string]: () => string } = {
        x: () => value.toString(16),
        X: () => value.toString(16).toUpperCase(),
        p: () => value.toString(16).padStart(16, "0"),
        c: () => String.fromCharCode(Number(value & 0xffn)),
      };
      return (written[kind]?.() ?? value.toString()).padStart(Number(width), zero === "0" ? "0" : " ");
    },
  );
  return isGood ? done : undefined;
};

export const COMMON_HELPERS: HelperTable = {
  ktime_get_ns: { hooks: BOTH, run: clock },
  ktime_get_boot_ns: { hooks: BOTH, run: clock },
  ktime_get_coarse_ns: { hooks: BOTH, run: clock },
  jiffies64: { hooks: BOTH, run: (host) => result64(host.machine, host.clock() / JIFFY_NS) },
  trace_printk: {
    hooks: BOTH,
    run(host) {
      const { machine } = host;
      const bytes = readable(machine, 1, u32(machine, 2));
      const end = bytes.indexOf(0);
      const text = end < 0 ? undefined : String.fromCharCode(...bytes.subarray(0, end));
      const line = text === undefined ? undefined : format(text, [u64(machine, 3), u64(machine, 4), u64(machine, 5)]);
      if (line !== undefined) host.trace.push(line);
      machine.result(line === undefined ? -ERRNO.EINVAL : line.length);
    },
  },
  get_prandom_u32: { hooks: BOTH, run: (host) => host.machine.resultWords(host.random(), 0) },
  get_smp_processor_id: { hooks: BOTH, run: (host) => host.machine.result(0) },
  csum_diff: {
    hooks: BOTH,
    run({ machine }) {
      const fromSize = u32(machine, 2);
      const toSize = u32(machine, 4);
      const seed = u32(machine, 5);
      if (isNull(machine, 1) && fromSize !== 0) throw new Fault("csum_diff of a null pointer");
      if (isNull(machine, 3) && toSize !== 0) throw new Fault("csum_diff of a null pointer");
      const from = readable(machine, 1, fromSize);
      const to = readable(machine, 3, toSize);
      // Since Linux 6.13 sizes need not be multiples of 4 and the result is folded; before, EINVAL and 32 bits.
      let sum = seed;
      if (fromSize > 0 && toSize > 0) sum = csumSub(csumPartial(to, seed), csumPartial(from, 0));
      else if (toSize > 0) sum = csumPartial(to, seed);
      else if (fromSize > 0) sum = ~csumPartial(from, ~seed);
      machine.resultWords(from32to16(sum), 0);
    },
  },
  loop: {
    hooks: BOTH,
    run({ machine }) {
      const { R } = machine;
      const n = u32(machine, 1);
      if (R[5] !== highWord(SEGMENTS.func, 0)) throw new Fault("argument 2 of loop is not a subprogram");
      const slot = R[4]! - ORIGIN;
      const ctxLo = R[6]!;
      const ctxHi = R[7]!;
      if (flagsOf(machine, 4) !== 0) return machine.result(-ERRNO.EINVAL);
      if (n > MAX_LOOPS) return machine.result(-ERRNO.E2BIG);
      let i = 0;
      while (i < n) {
        R[2] = i++;
        R[3] = 0;
        R[4] = ctxLo;
        R[5] = ctxHi;
        machine.callback(slot);
        if (R[0] !== 0 || R[1] !== 0) break;
      }
      machine.result(i);
    },
  },
};
