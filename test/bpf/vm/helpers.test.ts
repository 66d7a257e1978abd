import assert from "node:assert/strict";
import { toHex, Vm } from "ebpf-assembler";
import { type BpfMap, linux, loadObject, readAll, skbContext } from "libbpf-ts";
import { fromU64, objectSpec, programSpec, u32 } from "./fixtures.js";
import { HELPER_CASES, type HelperCase, RESULT, UDP4 } from "./helper-cases.js";

/** What a run shows: everything as text, so that a difference is readable. */
interface Outcome {
  readonly verdict: number;
  readonly packet: string;
  /** The words of `result`, signed. */
  readonly result: readonly string[];
  readonly maps: Readonly<Record<string, readonly string[]>>;
}

/** Metadata that a packet brings. */
const SKB = { mark: 0x11223344, priority: 7, gsoSize: 0 };
const KEY = u32(0);
/** The loopback device of a test run. */
const LO = 1;
const LO_MTU = 65536;

const words = (bytes: Uint8Array): string[] =>
  Array.from({ length: bytes.length / 8 }, (_, i) => BigInt.asIntN(64, fromU64(bytes.subarray(8 * i))).toString());
const objectOf = ({ code, hook, maps = [] }: HelperCase) =>
  objectSpec([programSpec("main", code, hook === "tc" ? "sched_cls" : "xdp")], [RESULT, ...maps]);
const entryText = ([key, value]: readonly [Uint8Array, Uint8Array]): string => `${toHex(key)}=${toHex(value)}`;

const inVm = (one: HelperCase): Outcome => {
  const vm = new Vm(objectOf(one), { mtuOf: (ifindex) => (ifindex === LO ? LO_MTU : undefined) });
  const packet = one.packet ?? UDP4;
  const { verdict, packet: after, meta } = vm.run("main", { hook: one.hook, packet, ingressIfindex: LO, ...SKB });
  const maps = Object.fromEntries(
    (one.compare ?? []).map((name) => [name, Array.from(vm.map(name).entries(), entryText).sort()]),
  );
  return { verdict, packet: toHex(meta) + toHex(after), result: words(vm.map("result").lookup(KEY)!), maps };
};

const sys = linux();

const entriesOf = (map: BpfMap): string[] => readAll(map).map(entryText).sort();

const inKernel = (one: HelperCase): Outcome => {
  using loaded = loadObject(sys, objectOf(one));
  const { retval, data } = loaded.program("main").testRun({
    data: one.packet ?? UDP4,
    dataOutSize: 8192,
    ...(one.hook === "tc" ? { ctx: skbContext(SKB) } : {}),
  });
  const value = new Uint8Array(RESULT.valueSize);
  assert.ok(loaded.map("result").lookup(KEY, value));
  const maps = Object.fromEntries((one.compare ?? []).map((name) => [name, entriesOf(loaded.map(name))]));
  return { verdict: retval, packet: toHex(data), result: words(value), maps };
};

describe("helpers in the interpreter and in the kernel do the same", () => {
  for (const one of HELPER_CASES) it(one.name, () => assert.deepEqual(inVm(one), inKernel(one)));
});
