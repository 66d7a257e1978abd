import assert from "node:assert/strict";
import fc from "fast-check";
import { newFlow, set, type FlowWords, type Translation } from "#compiler";
import { MaskClass, subtableOf, Ukey, Verdicts } from "#runtime";

const verdict = new Verdicts().of({
  actions: [],
  rules: [],
  groups: [],
  learns: [],
  learned: [],
  finTimeouts: [],
  error: undefined,
  version: 1,
} as unknown as Translation);

const IFINDEX = 7;

/** A packet whose source port and address are made of `n`. */
const flowOf = (n: number, ttl = 0): FlowWords => {
  const flow = newFlow();
  set(flow, "in_port", 3);
  set(flow, "nw_src", n >>> 4);
  set(flow, "tp_src", n & 0xffff);
  set(flow, "nw_ttl", ttl);
  return flow;
};

const newClass = (): MaskClass => {
  const mask = newFlow();
  set(mask, "in_port", 0xffffffff);
  set(mask, "nw_src", 0xffffffff);
  set(mask, "tp_src", 0x00ff);
  const layout = { fields: [{ member: "in_port", off: 0, size: 4 } as const], size: 8 };
  return new MaskClass(mask, subtableOf(layout, mask, "mf", undefined), false);
};

/** What the mask leaves of `n`. */
const keyOf = (n: number): number => (n >>> 4) * 256 + (n & 0xff);

describe("MaskClass", () => {
  it("find(), add() and delete() do as a map by masked flow", () => {
    const change = fc.record({ isAdd: fc.boolean(), n: fc.nat(300), ttl: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 400 }), (changes) => {
        const maskClass = newClass();
        const model = new Map<number, Ukey>();
        for (const { isAdd, n, ttl } of changes) {
          const flow = flowOf(n, ttl);
          const known = maskClass.find(flow, IFINDEX);
          assert.equal(known, model.get(keyOf(n)));
          assert.equal(maskClass.find(flow, IFINDEX + 1), undefined);
          if (isAdd && known === undefined) {
            const ukey = new Ukey(flow, IFINDEX, maskClass, verdict, 0);
            maskClass.add(ukey, flow);
            model.set(keyOf(n), ukey);
            assert.deepEqual(ukey.readFlow(), flow);
          } else if (!isAdd && known !== undefined) {
            maskClass.delete(known);
            model.delete(keyOf(n));
          }
        }
        assert.equal(maskClass.size, model.size);
        assert.deepEqual(new Set(maskClass), new Set(model.values()));
      }),
    );
  });

  it("gives each that stays when others are deleted while walking", () => {
    const maskClass = newClass();
    const all = Array.from({ length: 500 }, (_, i) => {
      const flow = flowOf(i << 4);
      const ukey = new Ukey(flow, IFINDEX, maskClass, verdict, 0);
      maskClass.add(ukey, flow);
      return ukey;
    });
    const seen = new Set<Ukey>();
    const gone = new Set<Ukey>();
    for (const ukey of maskClass) {
      seen.add(ukey);
      for (const other of [ukey, all[(17 * seen.size) % all.length]!]) {
        if (seen.size % 3 !== 0 || gone.has(other)) continue;
        maskClass.delete(other);
        gone.add(other);
      }
    }
    for (const ukey of all) {
      assert.ok(seen.has(ukey) || gone.has(ukey));
      assert.equal(maskClass.find(ukey.readFlow(), IFINDEX), gone.has(ukey) ? undefined : ukey);
    }
    assert.equal(maskClass.size, all.length - gone.size);
  });
});
