// Assembly text of the helper tests: calls with constant arguments, and results brought out through the map `result`.

import { mapSpec } from "./fixtures.js";

const N_WORDS = 16;
export const RESULT = mapSpec("result", { type: "array", valueSize: 8 * N_WORDS, maxEntries: 1 });

/** Keeps the context in r6. */
export const KEEP = "r6 = r1\n";
/** Puts r0 into word `i` of the result. */
export const put = (i: number): string => ` r1 = map[result][0]+${8 * i}\n *(u64 *)(r1 +0) = r0\n`;
/** Puts a load (of r6, the context) into word `i`. */
export const putLoad = (i: number, load: string): string => ` r0 = ${load}\n${put(i)}`;
/** Calls a helper with the context and constants as arguments, result into word `i`. */
export const call = (i: number, helper: string, ...args: readonly (number | string)[]): string =>
  ` r1 = r6\n` + args.map((arg, n) => ` r${n + 2} = ${arg}\n`).join("") + ` call bpf_${helper}\n` + put(i);
export const END = " r0 = 1\n exit";
export const VLAN_FIELDS = (i: number): string =>
  putLoad(i, "*(u32 *)(r6 +20)") +
  putLoad(i + 1, "*(u32 *)(r6 +24)") +
  putLoad(i + 2, "*(u32 *)(r6 +28)") +
  putLoad(i + 3, "*(u32 *)(r6 +16)") +
  putLoad(i + 4, "*(u32 *)(r6 +0)");

/** Network order of 0x8100 and 0x88a8 as a program passes them. */
export const TPID = 0x0081;
export const STPID = 0xa888;
