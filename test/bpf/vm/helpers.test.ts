import assert from "node:assert/strict";
import { toHex, Vm } from "ebpf-assembler";
import fc from "fast-check";
import { type BpfMap, linux, loadObject, readAll, skbContext } from "libbpf-ts";
import { fromU64, objectSpec, programSpec, u32 } from "./fixtures.js";
import { call, END, KEEP, RESULT, VLAN_FIELDS } from "./helper-asm.js";
import { HELPER_CASES, type HelperCase, IPV6, QINQ, UDP4 } from "./helper-cases.js";

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
    dataOutSize: 16384,
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

/** A helper of a classifier with constant arguments. */
const skbCall = fc.oneof(
  fc.tuple(fc.constantFrom(0x0081, 0xa888, 0x1234), fc.nat(0xffff)).map(([tpid, tci]) => ["skb_vlan_push", tpid, tci]),
  fc.constant(["skb_vlan_pop"]),
  fc.nat(20).map((n) => ["skb_change_head", n, 0]),
  // Not below the headers: the kernel would then move bytes that are no longer part of the packet.
  fc.integer({ min: 260, max: 320 }).map((n) => ["skb_change_tail", n, 0]),
  fc.tuple(fc.integer({ min: -50, max: 50 }), fc.nat(1)).map(([n, mode]) => ["skb_adjust_room", n, mode, 0]),
  fc.constantFrom(0x0008, 0xdd86).map((proto) => ["skb_change_proto", proto, 0]),
  fc.nat(100).map((n) => ["skb_pull_data", n]),
  fc.tuple(fc.nat(80), fc.nat(0xffff), fc.nat(0xffff)).map(([at, a, b]) => ["l3_csum_replace", at, a, b, 2]),
  fc
    .tuple(fc.nat(80), fc.nat(0x7fffffff), fc.nat(0x7fffffff), fc.constantFrom(2, 4, 0x14, 0x22, 0x34))
    .map(([at, a, b, flags]) => ["l4_csum_replace", at, a, b, flags]),
) as fc.Arbitrary<[name: string, ...args: number[]]>;

const xdpCall = fc.oneof(
  fc.tuple(fc.constantFrom("xdp_adjust_head", "xdp_adjust_tail"), fc.integer({ min: -100, max: 100 })),
  fc.tuple(
    fc.constant("xdp_adjust_meta"),
    fc.integer({ min: -20, max: 4 }).map((n) => 4 * n),
  ),
) as fc.Arbitrary<[name: string, ...args: number[]]>;

/** Whole and cut packets; a test run wants the IP header that the type field promises. */
const packet = fc
  .constantFrom([UDP4, 34] as const, [QINQ, 15] as const, [IPV6, 54] as const)
  .chain(([bytes, least]) => fc.integer({ min: least, max: bytes.length }).map((length) => bytes.slice(0, length)));
/** Word of `result` behind those of the calls. */
const FIELDS_AT = 8;
const sequence = (hook: "xdp" | "tc", one: fc.Arbitrary<[name: string, ...args: number[]]>): fc.Arbitrary<HelperCase> =>
  fc.tuple(fc.array(one, { minLength: 1, maxLength: FIELDS_AT }), packet).map(([calls, bytes]) => ({
    name: calls.map(([name, ...args]) => `${name}(${args.join(", ")})`).join("; "),
    hook,
    packet: bytes,
    code:
      KEEP +
      calls.map(([name, ...args], i) => call(i, name, ...args)).join("") +
      (hook === "tc" ? VLAN_FIELDS(FIELDS_AT) : "") +
      END,
  }));

describe("random sequences of helpers in the interpreter and in the kernel do the same", () => {
  const agree = (one: HelperCase): void => assert.deepEqual(inVm(one), inKernel(one));
  it("to an skb", () => fc.assert(fc.property(sequence("tc", skbCall), agree), { numRuns: 300 }));
  it("to an XDP frame", () => fc.assert(fc.property(sequence("xdp", xdpCall), agree), { numRuns: 150 }));
});
