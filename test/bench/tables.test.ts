// The tables that the benches generate mean for the C programs what they mean as flows.

import assert from "node:assert/strict";
import {
  aclFlows,
  aclRules,
  fillSlots,
  hashWords,
  makeDir248,
  makeRoutes,
  routeFlow,
  slotsFor,
  type Route,
} from "#bench";
import { parseFlows } from "#compiler";

/** Longest prefix by looking at all. */
const longest = (routes: readonly Route[], address: number): number => {
  let best = -1;
  routes.forEach(({ prefix, length }, i) => {
    const mask = length === 0 ? 0 : -1 << (32 - length);
    if ((address & mask) >>> 0 === prefix && (best < 0 || length > routes[best]!.length)) best = i;
  });
  return best;
};

describe("makeDir248()", () => {
  it("finds the longest prefix, also beyond 24 bits", () => {
    const routes: Route[] = [
      { prefix: 0x0a000000, length: 8, hop: 1 },
      { prefix: 0x0a010000, length: 16, hop: 2 },
      { prefix: 0x0a010200, length: 28, hop: 3 },
      { prefix: 0x0a010203, length: 32, hop: 4 },
      { prefix: 0x0a010300, length: 24, hop: 5 },
      ...makeRoutes(200),
    ];
    const { top, groups } = makeDir248(routes);
    for (const address of [0x0a010203, 0x0a010204, 0x0a0102ff, 0x0a010301, 0x0a020304, 0x0b000001, 0xc0a80001]) {
      const entry = top[address >>> 8]!;
      const number = entry >= 2 ** 31 ? groups[(entry & 0x7fffffff) * 256 + (address & 0xff)]! : entry;
      assert.equal(number - 1, longest(routes, address), address.toString(16));
    }
  });
});

describe("makeRoutes()", () => {
  it("gives different prefixes without host bits, one of them the default route", () => {
    const routes = makeRoutes(5000);
    assert.ok(routes.length > 4900);
    assert.equal(new Set(routes.map(({ prefix, length }) => `${prefix}/${length}`)).size, routes.length);
    assert.equal(routes.filter(({ length }) => length === 0).length, 1);
    assert.equal(parseFlows(routes.map((r) => routeFlow(r, 2)).join("\n"), { file: "t" }).length, routes.length);
  });
});

describe("aclFlows()", () => {
  it("gives a flow for each rule and one for the rest, a quarter of them denying", () => {
    const flows = parseFlows(aclFlows(100, 2).join("\n"), { file: "t" });
    assert.equal(flows.length, 101);
    assert.equal(flows.filter(({ actions }) => actions.length === 0).length, 25);
    assert.equal(aclRules(100).filter(({ permits }) => !permits).length, 25);
  });
});

describe("fillSlots()", () => {
  it("puts every key at or behind its place, with its value", () => {
    const entries = Array.from({ length: 500 }, (_, i) => ({
      key: new Uint8Array(Uint32Array.of(i, 0, 7, 17).buffer),
      value: new Uint8Array(32).fill(i & 0xff),
    }));
    const { bytes, stride } = fillSlots(entries);
    const n = slotsFor(entries.length);
    assert.deepEqual([n, stride, bytes.length], [1024, 64, 1024 * 64]);
    const words = new Uint32Array(bytes.buffer);
    for (const { key, value } of entries) {
      const wanted = new Uint32Array(key.buffer);
      let at = hashWords(wanted) & (n - 1);
      while (words[at * 16 + 8] !== wanted[0] || words[at * 16 + 11] !== wanted[3]) {
        assert.ok(words.subarray(at * 16 + 8, at * 16 + 12).some((word) => word !== 0));
        at = (at + 1) & (n - 1);
      }
      assert.deepEqual(bytes.subarray(at * 64, at * 64 + 32), value);
    }
  });
});
