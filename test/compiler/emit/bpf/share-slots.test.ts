import assert from "node:assert/strict";
import {
  compileDatapath,
  keyLayout,
  numberShapes,
  PACKET_MEMBERS,
  plan,
  report,
  Switch,
  TARGET_SIZE,
  type DatapathPlan,
  type DpAction,
  type SetTarget,
} from "#compiler";
import { linux, loadObject } from "libbpf-ts";
import { Random } from "../../../support/random.js";

type Family = Extract<DpAction, { kind: "set" }>["family"];

const REWRITES: Readonly<Partial<Record<Family, readonly SetTarget[]>>> = {
  ipv4: ["nw_src", "nw_dst", "nw_tos", "nw_ttl", "tp_src", "tp_dst", "icmp_type", "icmp_code"],
  ipv6: ["ipv6_src", "ipv6_dst", "ipv6_label", "nw_tos", "nw_ttl", "tp_src", "tp_dst"],
  arp: ["arp_op", "arp_spa", "arp_tpa", "arp_sha", "arp_tha"],
};

const setOf = (target: SetTarget, family: Family): DpAction => ({
  kind: "set",
  target,
  bytes: new Uint8Array(TARGET_SIZE[target]),
  family,
  proto: 6,
});

const OUTPUT: DpAction = { kind: "output", port: 2 };

/** One action list of up to 15 rewrites and copies, mixed. */
const randomList = (r: Random): DpAction[] => {
  const family = r.pick(["ipv4", "ipv6", "arp"] as const);
  const one = (): DpAction => {
    const kind = r.below(10);
    if (kind < 2) return OUTPUT;
    if (kind === 2) return { kind: "push_vlan", tpid: 0x8100, tci: 1 };
    if (kind === 3) return { kind: "pop_vlan" };
    return kind < 6
      ? setOf(r.pick(["eth_dst", "eth_src"] as const), "other")
      : setOf(r.pick(REWRITES[family]!), family);
  };
  return [...Array.from({ length: r.between(3, 14) }, one), OUTPUT];
};

const planOf = (seed: number, nShapes: number): DatapathPlan => {
  const r = new Random(seed);
  const shapes = numberShapes(Array.from({ length: nShapes }, () => randomList(r)));
  return plan({ key: keyLayout(PACKET_MEMBERS), subtables: [], shapes, maxEntries: 16 });
};

describe("shareSlots()", function () {
  this.timeout(120_000);

  // With a slot of its own for each spilled value these need up to 868 bytes of stack.
  for (const [seed, nShapes] of [
    [1, 24],
    [2, 64],
  ] as const)
    it(`lets ${nShapes} long action lists over every member stay within the stack, and the verifier takes it`, () => {
      const made = planOf(seed, nShapes);
      const object = compileDatapath(made);
      const sw = new Switch({ failMode: "secure" });
      for (const { name, stackBytes } of report(sw, made, "tc", object).programs)
        assert.ok(stackBytes <= 480, `${name}: ${stackBytes} bytes`);
      loadObject(linux(), object)[Symbol.dispose]();
    });
});

/** Stores of eight bytes to the stack that a later one overwrites, with nothing between that could read them. */
const overwritten = (code: Uint8Array): number => {
  const view = new DataView(code.buffer, code.byteOffset, code.length);
  const stored = new Set<number>();
  let n = 0;
  for (let at = 0; at < code.length; at += 8) {
    const opcode = code[at]!;
    const [dst, src] = [code[at + 1]! & 15, code[at + 1]! >>> 4];
    const off = view.getInt16(at + 2, true);
    const isJump = (opcode & 7) === 5 || (opcode & 7) === 6;
    if (isJump || (opcode === 0xbf && src === 10)) stored.clear();
    else if ((opcode & 7) === 1 && src === 10) stored.delete(off & ~7);
    else if (opcode === 0x7b && dst === 10) {
      if (stored.has(off)) n++;
      stored.add(off);
    }
    if (opcode === 0x18) at += 8;
  }
  return n;
};

describe("dropDeadStores()", () => {
  it("leaves no spilled value that is overwritten before it is read", () => {
    const { programs } = compileDatapath(planOf(1, 8));
    for (const { name, code } of programs) assert.equal(overwritten(code), 0, name);
    // The count can tell: two stores to one place.
    assert.equal(overwritten(Uint8Array.of(0x7b, 0x1a, 0xf8, 0xff, 0, 0, 0, 0, 0x7b, 0x1a, 0xf8, 0xff, 0, 0, 0, 0)), 1);
  });
});
