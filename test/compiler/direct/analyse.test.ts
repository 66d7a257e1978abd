import assert from "node:assert/strict";
import { analyse, FLOW, parseFlow, setBytes, Switch, tablesOf } from "#compiler";

describe("analyse()", () => {
  it("takes more rules in a table than a call takes arguments", function () {
    this.timeout(120_000);
    const n = 130_000;
    const sw = new Switch({ failMode: "secure" });
    const flow = parseFlow("ip,nw_dst=10.0.0.0,actions=drop");
    const { at, bits } = FLOW.nw_dst;
    for (let i = 0; i < n; i++) {
      const value = flow.match.value.slice();
      setBytes(value, at, bits, Uint8Array.of(10, i >>> 16, i >>> 8, i));
      sw.add({ ...flow, match: { ...flow.match, value } }, 0);
    }
    assert.equal(analyse(tablesOf(sw), { ifindexOf: (port) => port }).rules.length, n);
  });
});
