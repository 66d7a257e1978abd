// What the object tests share: an object that uses everything a file can hold, and tools run where they cannot disturb
// the machine: in mount and network namespaces of their own, which take pins and interfaces along when they end.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as bpf from "ebpf-assembler";
import { fp, Label, MAP_FLAGS, r0, r1, r2, r3, r4, r6, type Insn, type MapSpec, type ObjectSpec } from "ebpf-assembler";

/** A directory for the tests of one file; removed after them. */
export const scratch = (): ((name: string, content?: string | Uint8Array) => string) => {
  let dir = "";
  before(() => {
    dir = mkdtempSync(join(tmpdir(), "ebpf-assembler-"));
  });
  after(() => rmSync(dir, { recursive: true, force: true }));
  return (name, content) => {
    const path = join(dir, name);
    if (content !== undefined) writeFileSync(path, content);
    return path;
  };
};

/** Runs a command and returns what it prints on stdout; a failure shows all it said. */
export const run = (command: string, ...args: string[]): string => {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8", timeout: 20_000 });
  if (error) throw error;
  assert.equal(status, 0, `${command} ${args.join(" ")}\n${stdout}${stderr}`);
  assert.doesNotMatch(stderr, /libbpf:/, "libbpf complains");
  return stdout;
};

/**
 * Runs a shell script as root of fresh network and mount namespaces with a bpffs at `$BPFFS`. Arguments are `$1`...
 * Errors of any command end it.
 */
export const inNamespaces = (script: string, ...args: string[]): string =>
  run(
    "unshare",
    "--mount",
    "--net",
    "sh",
    "-euc",
    `BPFFS=$(mktemp -d); mount -t bpf bpf "$BPFFS"; trap 'umount "$BPFFS"; rmdir "$BPFFS"' EXIT; ${script}`,
    "sh",
    ...args,
  );

export const u32 = (...words: number[]): Uint8Array => new Uint8Array(new Uint32Array(words).buffer);

export const mapSpec = (name: string, more: Partial<MapSpec> = {}): MapSpec => ({
  name,
  type: "hash",
  keySize: 4,
  valueSize: 16,
  maxEntries: 100,
  flags: 0,
  ...more,
});

const from = (insn: Insn, text: string, line: number): Insn => ({ ...insn, from: { text, file: "flows.txt", line } });

/** Counts a packet, calls a subprogram, loops over a callback, and returns the second word of `config`. */
export const everything = (): ObjectSpec => {
  const [sub, callback, miss] = [new Label("sub"), new Label("callback"), new Label("miss")];
  const count = bpf.program({
    name: "count",
    type: "xdp",
    code: [
      from(bpf.mov(r6, r1), "table=0,priority=1 actions=goto_table:1", 3),
      bpf.storeImm("u32", fp, -4, 0),
      bpf.mov(r2, fp),
      bpf.add(r2, -4),
      bpf.ldMap(r1, "flows"),
      bpf.call("map_lookup_elem"),
      bpf.jeq(r0, 0, miss),
      bpf.mov(r1, 1),
      bpf.atomicAdd("u64", r0, 0, r1),
      miss,
      from(bpf.mov(r1, 5), "table=1 actions=output:2", 7),
      bpf.callLocal(sub),
      bpf.mov(r1, 3),
      bpf.ldFunc(r2, callback),
      bpf.mov(r3, 0),
      bpf.mov(r4, 0),
      bpf.call("loop"),
      bpf.ldMapValue(r1, "config", 4),
      bpf.load(r0, "u32", r1, 0),
      bpf.exit(),
      sub,
      bpf.mov(r0, r1),
      bpf.ldMapValue(r2, "state", 8),
      bpf.store("u64", r2, 0, r0),
      bpf.exit(),
      callback,
      from(bpf.mov(r0, 0), "callback", 9),
      bpf.exit(),
    ],
  });
  const constant = (name: string, type: "xdp" | "sched_cls", value: number, flags = 0) =>
    bpf.program({ name, type, code: [bpf.mov(r0, value), bpf.exit()], flags });
  const programs = [
    count,
    constant("pass", "xdp", 2),
    constant("frags", "xdp", 2, 32),
    constant("accept", "sched_cls", 0),
  ];
  const maps = [
    mapSpec("flows", {
      valueFields: [
        { name: "packets", size: 8 },
        { name: "bytes", size: 8 },
      ],
    }),
    mapSpec("prefixes", {
      type: "lpm_trie",
      keySize: 8,
      valueSize: 6,
      flags: MAP_FLAGS.NO_PREALLOC,
      keyFields: [
        { name: "prefix_bits", size: 4 },
        { name: "address", size: 4 },
      ],
    }),
    mapSpec("events", { type: "ringbuf", keySize: 0, valueSize: 0, maxEntries: 4096 }),
    mapSpec("config", {
      type: "array",
      valueSize: 8,
      maxEntries: 1,
      flags: MAP_FLAGS.RDONLY_PROG,
      entries: [[u32(0), u32(7, 2)]],
    }),
    mapSpec("state", { type: "array", maxEntries: 1, flags: MAP_FLAGS.MMAPABLE }),
  ];
  return { license: "Dual BSD/GPL", maps, programs };
};
