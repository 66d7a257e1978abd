// One probe per kernel feature: it is tried, never derived from the release, since distributions backport and configure.
// The release only says what to expect: a kernel that should have a feature and has not is worth a test failure.

import { release } from "node:os";
import {
  add,
  call,
  exit,
  fetchAdd,
  fp,
  gotol,
  Label,
  ldMapValue,
  load,
  MAP_FLAGS,
  mayGoto,
  mov,
  movsx,
  OffloadError,
  program,
  r0,
  r1,
  r2,
  r3,
  r4,
  Scope,
  storeImm,
  type Code,
  type MapSpec,
  type MapType,
  type ProgType,
} from "ebpf-assembler";
import { attachTc } from "./attach/tc.js";
import { Link } from "./attach/link.js";
import { xdpFeatures } from "./net/netdev.js";
import { Netns } from "./net/netns.js";
import { Rtnl } from "./net/rtnl.js";
import { updateBatch, walk } from "./objects/batch.js";
import { BpfMap } from "./objects/map.js";
import { Program } from "./objects/program.js";
import { RingBuffer } from "./objects/ring-buffer.js";
import type { Sys } from "./sys/sys.js";

/** What a probe works with. */
interface Bench {
  readonly sys: Sys;
  /** Owns what the probe opens. */
  readonly scope: Scope;
  /** A namespace of the probes with an up veth pair. */
  readonly ns: Netns;
  /** One end of the pair. */
  readonly ifindex: number;
}

/** A kernel feature. Its probe throws when the kernel has it not. */
export interface Feature {
  readonly name: string;
  /** First mainline release that has it. */
  readonly since: string;
  readonly doc: string;
  readonly probe: (bench: Bench) => void;
}

/** Outcome of one probe, as data for `--json`. */
export interface FeatureReport {
  readonly name: string;
  readonly since: string;
  readonly isSupported: boolean;
  /** The running release is at least `since`. */
  readonly isExpected: boolean;
  /** Why not. */
  readonly reason?: string;
}

const XDP_PASS = 2;
const XDP_HAS_FRAGS = 1 << 5;
const PACKET = new Uint8Array(64);

const mapOf = (type: MapType, more: Partial<MapSpec> = {}): MapSpec => ({
  name: "probe",
  type,
  keySize: 4,
  valueSize: 4,
  maxEntries: 4,
  flags: 0,
  ...more,
});

const createMap = (bench: Bench, spec: MapSpec): BpfMap => bench.scope.use(BpfMap.create(bench.sys, spec));

const loadCode = (bench: Bench, type: ProgType, code: Code, map?: BpfMap, flags = 0): Program => {
  const spec = program({ name: "probe", type, code, flags });
  const maps = new Map(map === undefined ? [] : [[map.name, map]]);
  return bench.scope.use(Program.load(bench.sys, spec, maps));
};

const returning = (value: number): Code => [mov(r0, value), exit()];
const pass = (bench: Bench, flags = 0): Program => loadCode(bench, "xdp", returning(XDP_PASS), undefined, flags);

const makesMap =
  (type: MapType, more: Partial<MapSpec> = {}) =>
  (bench: Bench): void =>
    void createMap(bench, mapOf(type, more));

/** A program of the type that calls the helper with constant arguments. */
const callsHelper =
  (type: ProgType, helper: Parameters<typeof call>[0], ...args: number[]) =>
  (bench: Bench): void => {
    const registers = [r1, r2, r3, r4];
    const code = [...args.map((n, i) => mov(registers[i] ?? r4, n)), call(helper), mov(r0, 0), exit()];
    loadCode(bench, type, code);
  };

const attachesXdp =
  (mode: "native" | "generic") =>
  (bench: Bench): void => {
    const prog = pass(bench);
    bench.scope.use(bench.ns.run(() => Link.xdp(bench.sys, prog, bench.ifindex, mode)));
  };

const attachesTc =
  (via: "tcx" | "clsact") =>
  (bench: Bench): void => {
    const prog = loadCode(bench, "sched_cls", returning(0));
    bench.scope.use(bench.ns.run(() => attachTc(bench.sys, prog, bench.ifindex, "ingress", via)));
  };

/** The features that the project uses or may use, oldest first. */
export const FEATURES: readonly Feature[] = [
  { name: "prog_array", since: "4.2", doc: "tail calls", probe: makesMap("prog_array") },
  { name: "clsact", since: "4.5", doc: "cls_bpf on clsact by rtnetlink", probe: attachesTc("clsact") },
  { name: "lru_hash", since: "4.10", doc: "hash map that evicts", probe: makesMap("lru_hash") },
  {
    name: "lpm_trie",
    since: "4.11",
    doc: "longest prefix match map",
    probe: makesMap("lpm_trie", { keySize: 8, flags: MAP_FLAGS.NO_PREALLOC }),
  },
  {
    name: "test_run_skb",
    since: "4.12",
    doc: "BPF_PROG_TEST_RUN of sched_cls",
    probe: (bench) => void loadCode(bench, "sched_cls", returning(0)).testRun({ data: PACKET }),
  },
  {
    name: "test_run_xdp",
    since: "4.12",
    doc: "BPF_PROG_TEST_RUN of XDP",
    probe: (bench) => void pass(bench).testRun({ data: PACKET }),
  },
  { name: "devmap", since: "4.14", doc: "XDP redirect targets", probe: makesMap("devmap") },
  { name: "cpumap", since: "4.15", doc: "XDP redirect to another CPU", probe: makesMap("cpumap") },
  { name: "xskmap", since: "4.18", doc: "XDP redirect to AF_XDP sockets", probe: makesMap("xskmap") },
  { name: "fib_lookup", since: "4.18", doc: "routing table helper", probe: (bench) => probeFibLookup(bench) },
  {
    name: "map_value_address",
    since: "5.2",
    doc: "address of an array value as an immediate",
    probe: (bench) => {
      const map = createMap(bench, mapOf("array", { maxEntries: 1 }));
      loadCode(bench, "xdp", [ldMapValue(r1, "probe"), load(r0, "u32", r1), exit()], map);
    },
  },
  { name: "devmap_hash", since: "5.4", doc: "devmap with sparse keys", probe: makesMap("devmap_hash") },
  {
    name: "mmapable_array",
    since: "5.5",
    doc: "array map in shared memory",
    probe: (bench) => void createMap(bench, mapOf("array", { flags: MAP_FLAGS.MMAPABLE })).memory,
  },
  {
    name: "map_batch",
    since: "5.6",
    doc: "batch update and walk of hash maps",
    probe: (bench) => {
      const map = createMap(bench, mapOf("hash"));
      updateBatch(map, new Uint8Array(4), new Uint8Array(4), 1);
      for (const _step of walk(map));
    },
  },
  {
    name: "ringbuf",
    since: "5.8",
    doc: "ring buffer map",
    probe: (bench) => {
      const spec = mapOf("ringbuf", { keySize: 0, valueSize: 0, maxEntries: 4096 });
      bench.scope.use(RingBuffer.open(createMap(bench, spec)));
    },
  },
  { name: "xdp_link", since: "5.9", doc: "BPF_LINK_CREATE for XDP, in the driver", probe: attachesXdp("native") },
  { name: "xdp_link_generic", since: "5.9", doc: "the same behind the driver", probe: attachesXdp("generic") },
  {
    name: "redirect_peer",
    since: "5.10",
    doc: "TC redirect into the peer's namespace",
    probe: callsHelper("sched_cls", "redirect_peer", 1, 0),
  },
  {
    name: "ktime_coarse",
    since: "5.11",
    doc: "clock that costs a few nanoseconds",
    probe: callsHelper("xdp", "ktime_get_coarse_ns"),
  },
  {
    name: "atomics",
    since: "5.12",
    doc: "atomic fetch and exchange",
    probe: (bench) =>
      void loadCode(bench, "xdp", [storeImm("u64", fp, -8, 0), mov(r0, 1), fetchAdd("u64", fp, -8, r0), exit()]),
  },
  {
    name: "map_take",
    since: "5.14",
    doc: "look up and delete in one step",
    probe: (bench) => {
      const map = createMap(bench, mapOf("hash"));
      map.update(map.key, map.value);
      if (!map.take(map.key)) throw new ProbeError("the entry was not there");
    },
  },
  { name: "bloom_filter", since: "5.16", doc: "set map", probe: makesMap("bloom_filter", { keySize: 0 }) },
  {
    name: "verified_insns",
    since: "5.16",
    doc: "work of the verifier in the program info",
    probe: (bench) => {
      if (pass(bench).info.verifiedInsns === 0) throw new ProbeError("the kernel says 0");
    },
  },
  {
    name: "live_frames",
    since: "5.18",
    doc: "BPF_PROG_TEST_RUN that injects frames",
    probe: (bench) => void pass(bench).testRun({ data: PACKET, liveFrames: true }),
  },
  {
    name: "xdp_frags",
    since: "5.18",
    doc: "XDP on packets of several buffers (jumbo, GSO)",
    probe: (bench) => void pass(bench, XDP_HAS_FRAGS),
  },
  {
    name: "user_ringbuf",
    since: "6.1",
    doc: "ring buffer from user space",
    probe: makesMap("user_ringbuf", { keySize: 0, valueSize: 0, maxEntries: 4096 }),
  },
  {
    name: "netdev_family",
    since: "6.3",
    doc: "what a driver can do with XDP, by generic netlink",
    probe: ({ sys, ns, ifindex }) => {
      if (ns.run(() => xdpFeatures(sys, ifindex)) === undefined) throw new ProbeError("no such netlink family");
    },
  },
  { name: "tcx", since: "6.6", doc: "TC programs by link", probe: attachesTc("tcx") },
  {
    name: "isa_v4",
    since: "6.6",
    doc: "sign extension",
    probe: (bench) => void loadCode(bench, "xdp", [mov(r1, 1), movsx(r0, "s8", r1), exit()]),
  },
  {
    name: "gotol",
    since: "6.6",
    doc: "jump over 32 bits",
    probe: (bench) => {
      const end = new Label("end");
      loadCode(bench, "xdp", [mov(r0, 0), gotol(end), end, exit()]);
    },
  },
  {
    name: "may_goto",
    since: "6.9",
    doc: "loops that the verifier need not bound",
    probe: (bench) => {
      const end = new Label("end");
      loadCode(bench, "xdp", [mov(r0, 0), mayGoto(end), mov(r0, 1), end, exit()]);
    },
  },
  {
    name: "arena",
    since: "6.9",
    doc: "memory shared with user space",
    probe: makesMap("arena", { keySize: 0, valueSize: 0, maxEntries: 1, flags: MAP_FLAGS.MMAPABLE }),
  },
];

/** Zeroed 64 bytes of parameters; fails at run time, which is nothing to the verifier. */
const probeFibLookup = (bench: Bench): void => {
  const size = 64;
  const zeroes = Array.from({ length: size / 8 }, (_, i) => storeImm("u64", fp, -size + 8 * i, 0));
  const code = [...zeroes, mov(r2, fp), add(r2, -size), mov(r3, size), mov(r4, 0), call("fib_lookup"), exit()];
  loadCode(bench, "xdp", code);
};

/** A feature that seems to be there and does not work. */
export class ProbeError extends OffloadError {
  readonly code = "EPROBE";
}

const parseRelease = (text: string): readonly [major: number, minor: number] => {
  const [major = "0", minor = "0"] = text.split(".");
  return [parseInt(major, 10), parseInt(minor, 10)];
};

/** Whether release `have` is at least `want`; both like `6.1` with anything behind. */
export const isReleaseAtLeast = (have: string, want: string): boolean => {
  const [a, b] = [parseRelease(have), parseRelease(want)];
  return a[0] > b[0] || (a[0] === b[0] && a[1] >= b[1]);
};

/**
 * Tries every feature of {@link FEATURES}, in a network namespace of its own.
 * @throws {@link SyscallError}, with exit status 4, when the process may not even try
 */
export const probeFeatures = (sys: Sys, features: readonly Feature[] = FEATURES): FeatureReport[] => {
  using scope = new Scope();
  const ns = scope.use(Netns.create(sys));
  const rtnl = scope.use(ns.run(() => Rtnl.open(sys)));
  rtnl.createVeth({ name: "probe0" }, { name: "probe1" });
  const { index } = rtnl.get("probe0");
  for (const name of ["probe0", "probe1"]) rtnl.change(rtnl.get(name).index, { up: true });
  const running = release();
  return features.map(({ name, since, probe }) => {
    const isExpected = isReleaseAtLeast(running, since);
    try {
      using owned = new Scope();
      probe({ sys, scope: owned, ns, ifindex: index });
      return { name, since, isSupported: true, isExpected };
    } catch (error) {
      if (!(error instanceof OffloadError)) throw error;
      return { name, since, isSupported: false, isExpected, reason: error.message };
    }
  });
};
