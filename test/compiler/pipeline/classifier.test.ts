// The classifier against the definition of what it does: a scan of all rules.

import assert from "node:assert/strict";
import fc from "fast-check";
import {
  Classifier,
  FLOW,
  FLOW_WORDS,
  newFlow,
  setBits,
  unwildcard,
  type Classifiable,
  type FlowWords,
  type Match,
  type Member,
} from "#compiler";

interface TestRule extends Classifiable {
  readonly id: number;
}

const matches = (flow: FlowWords, { value, mask }: Match): boolean =>
  flow.every((word, i) => ((word ^ value[i]!) & mask[i]!) === 0);

const scan = (rules: readonly TestRule[], flow: FlowWords): TestRule | undefined =>
  rules
    .filter((rule) => matches(flow, rule.match))
    .reduce<TestRule | undefined>(
      (best, rule) => (best === undefined || rule.priority > best.priority ? rule : best),
      undefined,
    );

// Few values per member, so that rules and flows meet; all stages, tries and the ports take part.
const MEMBERS: readonly (readonly [Member, readonly number[]])[] = [
  ["in_port", [1, 2, 3]],
  ["reg3", [0, 5, 0x50000]],
  ["vlan0_tci", [0, 0x1005, 0x1006]],
  ["dl_type", [0x0800, 0x86dd]],
  ["nw_proto", [6, 17]],
  ["nw_src", [0x0a000001, 0x0a000101, 0x0b000001, 0xc0a80001]],
  ["nw_dst", [0x0a000001, 0x0a000081, 0x0a800000, 0x0b000001]],
  ["tp_src", [80, 81, 0x1080, 443]],
  ["tp_dst", [80, 81, 0x8050, 443]],
  ["tcp_flags", [0, 2, 18]],
];

const prefixMask = (bits: number, length: number): number =>
  length === 0 ? 0 : (2 ** length - 1) * 2 ** (bits - length);

const aMember = fc.constantFrom(...MEMBERS).chain(([member, values]) => {
  const { bits } = FLOW[member];
  return fc.record({
    member: fc.constant(member),
    value: fc.constantFrom(...values),
    mask: fc.oneof(
      fc.constant(prefixMask(bits, bits)),
      fc.integer({ min: 1, max: bits }).map((length) => prefixMask(bits, length)),
      fc.integer({ min: 1, max: 2 ** bits - 1 }),
    ),
  });
});

const aMatch: fc.Arbitrary<Match> = fc.array(aMember, { maxLength: 4 }).map((parts) => {
  const value = newFlow();
  const mask = newFlow();
  for (const part of parts) {
    const { at, bits } = FLOW[part.member];
    setBits(mask, at, bits, part.mask);
    setBits(value, at, bits, Number(BigInt(part.value) & BigInt(part.mask)));
  }
  return { value, mask };
});

/** Rules of different priorities: among equals the answer may be any. */
const someRules = fc.array(aMatch, { minLength: 1, maxLength: 40 }).chain((all) =>
  fc
    .shuffledSubarray(
      all.map((_, i) => i * 10),
      { minLength: all.length },
    )
    .map((priorities) => all.map((match, id): TestRule => ({ id, match, priority: priorities[id]! }))),
);

const aFlow = fc.tuple(...MEMBERS.map(([, values]) => fc.constantFrom(...values))).map((values) => {
  const flow = newFlow();
  for (const [i, [member]] of MEMBERS.entries()) setBits(flow, FLOW[member].at, FLOW[member].bits, values[i]!);
  return flow;
});

const build = (rules: readonly TestRule[]): Classifier<TestRule> => {
  const classifier = new Classifier<TestRule>();
  for (const rule of rules) classifier.insert(rule);
  return classifier;
};

const flipped = (flow: FlowWords, bit: number): FlowWords => {
  const other = flow.slice();
  other[bit >>> 5]! ^= 1 << (31 - (bit & 31));
  return other;
};

describe("Classifier", () => {
  it("lookup() gives the rule that a scan gives", () => {
    fc.assert(
      fc.property(someRules, fc.array(aFlow, { minLength: 1, maxLength: 10 }), (rules, flows) => {
        const classifier = build(rules);
        for (const flow of flows) assert.equal(classifier.lookup(flow, newFlow())?.id, scan(rules, flow)?.id);
      }),
      { numRuns: 300 },
    );
  });

  it("lookup() gives the rule that a scan gives after removals", () => {
    fc.assert(
      fc.property(someRules, fc.array(fc.boolean(), { minLength: 40, maxLength: 40 }), aFlow, (rules, keep, flow) => {
        const classifier = build(rules);
        const kept = rules.filter((_, i) => keep[i]);
        for (const [i, rule] of rules.entries()) if (keep[i] !== true) classifier.remove(rule);
        assert.equal(classifier.size, kept.length);
        assert.equal(classifier.masks, new Set(kept.map((rule) => rule.match.mask.join())).size);
        assert.equal(classifier.lookup(flow, newFlow())?.id, scan(kept, flow)?.id);
        assert.deepEqual(new Set([...classifier].map((rule) => rule.id)), new Set(kept.map((rule) => rule.id)));
      }),
      { numRuns: 300 },
    );
  });

  it("lookup() marks enough: a flow that differs in unmarked bits only gets the same rule", () => {
    fc.assert(
      fc.property(someRules, aFlow, fc.array(aFlow, { maxLength: 20 }), (rules, flow, others) => {
        const classifier = build(rules);
        const mask = newFlow();
        // What is no part of a packet is the same in all that come in.
        unwildcard(mask, "packet_type");
        const found = classifier.lookup(flow, mask)?.id;
        for (let bit = 0; bit < FLOW_WORDS * 32; bit++) {
          if ((mask[bit >>> 5]! & (1 << (31 - (bit & 31)))) !== 0) continue;
          assert.equal(classifier.lookup(flipped(flow, bit), newFlow())?.id, found, `bit ${bit}`);
        }
        for (const other of others) {
          const mixed = flow.map((word, i) => (word & mask[i]!) | (other[i]! & ~mask[i]!));
          assert.equal(classifier.lookup(mixed, newFlow())?.id, found);
        }
      }),
      { numRuns: 200 },
    );
  });

  it("lookup() never marks a bit that no rule's mask has", () => {
    fc.assert(
      fc.property(someRules, aFlow, (rules, flow) => {
        const mask = newFlow();
        build(rules).lookup(flow, mask);
        const union = newFlow();
        for (const rule of rules) for (const [i, word] of rule.match.mask.entries()) union[i]! |= word;
        for (const [i, word] of mask.entries()) assert.equal(word & ~union[i]!, 0);
      }),
    );
  });

  const exact = (fields: Partial<Record<Member, readonly [value: number, prefix: number]>>): Match => {
    const value = newFlow();
    const mask = newFlow();
    for (const [member, [v, prefix]] of Object.entries(fields) as [Member, readonly [number, number]][]) {
      const { at, bits } = FLOW[member];
      setBits(value, at, bits, v);
      setBits(mask, at, bits, prefixMask(bits, prefix));
    }
    return { value, mask };
  };
  const flowOf = (fields: Partial<Record<Member, number>>): FlowWords => {
    const flow = newFlow();
    for (const [member, value] of Object.entries(fields) as [Member, number][]) {
      setBits(flow, FLOW[member].at, FLOW[member].bits, value);
    }
    return flow;
  };
  const markedBits = (mask: FlowWords, member: Member): number => {
    let n = 0;
    for (let bit = FLOW[member].at; bit < FLOW[member].at + FLOW[member].bits; bit++) {
      n += (mask[bit >>> 5]! >>> (31 - (bit & 31))) & 1;
    }
    return n;
  };

  it("lookup() marks as much of an address as rules out the other prefixes", () => {
    const classifier = build([
      { id: 0, priority: 10, match: exact({ dl_type: [0x0800, 16], nw_dst: [0x0a010000, 16] }) },
      { id: 1, priority: 20, match: exact({ dl_type: [0x0800, 16], nw_dst: [0x0a010203, 32] }) },
    ]);
    const mask = newFlow();
    assert.equal(classifier.lookup(flowOf({ dl_type: 0x0800, nw_dst: 0x0a01ff00 }), mask)?.id, 0);
    assert.equal(markedBits(mask, "nw_dst"), 17, "10.1.255.0 differs from 10.1.2.3 in its 17th bit");
    const miss = newFlow();
    assert.equal(classifier.lookup(flowOf({ dl_type: 0x0800, nw_dst: 0xc0000000 }), miss), undefined);
    assert.equal(markedBits(miss, "nw_dst"), 1);
  });

  it("lookup() leaves ports out when an earlier stage rules the subtable out", () => {
    const classifier = build([
      { id: 0, priority: 10, match: exact({ in_port: [1, 32] }) },
      { id: 1, priority: 20, match: exact({ dl_src: [0, 0], nw_proto: [6, 8], tp_dst: [80, 16] }) },
    ]);
    const mask = newFlow();
    assert.equal(classifier.lookup(flowOf({ in_port: 1, nw_proto: 17, tp_dst: 80 }), mask)?.id, 0);
    assert.equal(markedBits(mask, "tp_dst"), 0);
    assert.equal(markedBits(mask, "nw_proto"), 8);
  });

  it("lookup() marks a prefix of the ports when no rule has them", () => {
    const classifier = build([{ id: 0, priority: 10, match: exact({ tp_dst: [0x0050, 16] }) }]);
    const mask = newFlow();
    assert.equal(classifier.lookup(flowOf({ tp_dst: 0x8000 }), mask), undefined);
    assert.equal(markedBits(mask, "tp_dst"), 1);
  });

  it("lookup() does not look below the priority it has found", () => {
    const classifier = build([
      { id: 0, priority: 10, match: exact({ tp_dst: [80, 16] }) },
      { id: 1, priority: 20, match: exact({ in_port: [1, 32] }) },
    ]);
    const mask = newFlow();
    assert.equal(classifier.lookup(flowOf({ in_port: 1, tp_dst: 80 }), mask)?.id, 1);
    assert.equal(markedBits(mask, "tp_dst"), 0);
  });

  it("visitCovered() visits exactly the rules that a more general match covers", () => {
    const classifier = build([
      { id: 0, priority: 1, match: exact({ nw_dst: [0x0a010000, 16] }) },
      { id: 1, priority: 1, match: exact({ nw_dst: [0x0b010000, 16] }) },
      { id: 2, priority: 2, match: exact({ nw_dst: [0x0a010000, 16], tp_dst: [80, 16] }) },
      { id: 3, priority: 1, match: exact({ nw_dst: [0x0a000000, 7] }) },
      { id: 4, priority: 1, match: exact({}) },
    ]);
    const covered = (match: Match): number[] => {
      const ids: number[] = [];
      classifier.visitCovered(match, ({ id }) => ids.push(id));
      return ids.sort();
    };
    assert.deepEqual(covered(exact({ nw_dst: [0x0a000000, 8] })), [0, 2]);
    assert.deepEqual(covered(exact({ tp_dst: [80, 16] })), [2]);
    assert.deepEqual(covered(exact({})), [0, 1, 2, 3, 4]);
  });

  it("shapeOf() gives the mask that rules have already", () => {
    const match = exact({ nw_dst: [0x0a010000, 16] });
    const classifier = build([{ id: 0, priority: 1, match }]);
    assert.equal(classifier.shapeOf(match.mask.slice()).mask, match.mask);
    const other = exact({ nw_dst: [0x0a010000, 17] }).mask;
    assert.equal(classifier.shapeOf(other).mask, other);
  });
});
