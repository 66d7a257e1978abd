// What the interpreter's tests share: objects from assembly text, and the frame that brings a 64-bit r0 out of a kernel
// test run, which itself tells 32 bits.

import {
  assembleText,
  type MapSpec,
  type ObjectSpec,
  type ProgramSpec,
  type ProgType,
  Vm,
  type VmResult,
} from "ebpf-assembler";

export const mapSpec = (name: string, more: Partial<MapSpec> = {}): MapSpec => ({
  name,
  type: "hash",
  keySize: 4,
  valueSize: 8,
  maxEntries: 4,
  flags: 0,
  ...more,
});

export const programSpec = (name: string, text: string, type: ProgType = "xdp"): ProgramSpec => ({
  name,
  type,
  flags: 0,
  ...assembleText(text, { file: `${name}.asm` }),
});

export const objectSpec = (programs: readonly ProgramSpec[], maps: readonly MapSpec[] = []): ObjectSpec => ({
  license: "GPL",
  maps,
  programs,
});

export const u32 = (n: number): Uint8Array => new Uint8Array(Uint32Array.of(n).buffer);
export const u64 = (n: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(n).buffer);
export const fromU64 = (bytes: Uint8Array): bigint =>
  new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);

export const RESULT = mapSpec("result", { type: "array", valueSize: 8, maxEntries: 1 });
const PROLOGUE = "call case\n r1 = map[result][0]+0\n *(u64 *)(r1 +0) = r0\n r0 = 0\n exit\n case: ";

/** An object whose program `main` leaves the r0 of `code` in the only entry of map `result`. */
export const resultObject = (code: string): ObjectSpec => objectSpec([programSpec("main", PROLOGUE + code)], [RESULT]);

/** Runs XDP assembly text on a packet of 64 bytes counting up from 0, or another one. */
export const runText = (
  text: string,
  packet = Uint8Array.from({ length: 64 }, (_, i) => i),
  maps: readonly MapSpec[] = [],
): VmResult => new Vm(objectSpec([programSpec("main", text)], maps)).run("main", { hook: "xdp", packet });
