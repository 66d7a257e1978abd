// What the loader's tests share: hand-encoded programs, and the comparison of open descriptors that finds leaks.

import assert from "node:assert/strict";
import { readdirSync, readlinkSync } from "node:fs";
import { concatBytes, type MapSpec, type Origin, type ProgramSpec, type ProgType } from "ebpf-assembler";

/** One instruction slot: opcode, registers, offset, immediate. */
export const slot = (code: number, dst = 0, src = 0, off = 0, imm = 0): Uint8Array => {
  const view = new DataView(new ArrayBuffer(8));
  view.setUint8(0, code);
  view.setUint8(1, dst | (src << 4));
  view.setInt16(2, off, true);
  view.setInt32(4, imm, true);
  return new Uint8Array(view.buffer);
};

/** `dst = imm` */
export const movImm = (dst: number, imm: number): Uint8Array => slot(0xb7, dst, 0, 0, imm);
/** `dst = src` */
export const mov = (dst: number, src: number): Uint8Array => slot(0xbf, dst, src);
/** `dst = map` (two slots, to be relocated) */
export const loadMap = (dst: number): Uint8Array => concatBytes(slot(0x18, dst), slot(0));
export const call = (helper: number): Uint8Array => slot(0x85, 0, 0, 0, helper);
export const exit = (): Uint8Array => slot(0x95);

export const programSpec = (
  name: string,
  slots: readonly Uint8Array[],
  more: Partial<ProgramSpec> & { readonly type?: ProgType } = {},
): ProgramSpec => ({ name, type: "xdp", code: concatBytes(...slots), relocations: [], lines: [], flags: 0, ...more });

/** A program that returns a constant. */
export const returning = (name: string, value: number, type: ProgType = "xdp"): ProgramSpec =>
  programSpec(name, [movImm(0, value), exit()], { type });

/** A program that reads the packet without a bounds check, which the verifier refuses at instruction 1. */
export const unchecked = (name: string, origin?: Origin): ProgramSpec =>
  programSpec(name, [slot(0x61, 2, 1, 0), slot(0x71, 0, 2, 0), exit()], {
    lines: origin === undefined ? [] : [{ insn: 0, origin }],
  });

export const mapSpec = (name: string, more: Partial<MapSpec> = {}): MapSpec => ({
  name,
  type: "hash",
  keySize: 4,
  valueSize: 8,
  maxEntries: 16,
  flags: 0,
  ...more,
});

export const u32 = (n: number): Uint8Array => new Uint8Array(new Uint32Array([n]).buffer);
export const u64 = (n: bigint): Uint8Array => new Uint8Array(new BigUint64Array([n]).buffer);

/** A 64-byte Ethernet frame of an experimental type. */
export const frame = (): Uint8Array => {
  const bytes = new Uint8Array(64);
  bytes.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
  return bytes;
};

/** Open descriptors of the process by what they refer to; the directory handle of the listing itself is left out. */
export const openFds = (): string[] => {
  const found: string[] = [];
  for (const fd of readdirSync("/proc/self/fd")) {
    try {
      found.push(readlinkSync(`/proc/self/fd/${fd}`));
    } catch {
      continue; // the handle of the listing, closed by now
    }
  }
  return found.sort();
};

/** Installs hooks that fail the file when it leaves a descriptor of the kind this package opens. */
export const checkNoLeaks = (): void => {
  const ours = () => openFds().filter((name) => /anon_inode:(bpf|btf)|^socket:|^net:|^mnt:/.test(name));
  let opened: string[] = [];
  before(() => {
    opened = ours();
  });
  after(() => assert.deepEqual(ours(), opened, "file descriptors left open"));
};
