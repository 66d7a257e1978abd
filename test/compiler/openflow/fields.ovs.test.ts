import assert from "node:assert/strict";
import { CARRIED_BY, FIELD_NAMES, formatMatch, parseFlowLines, parseMatch } from "#compiler";
import { EVERY_VERSION, ovsRefuses, printBoth, VERSIONS } from "../../support/ovs-ofctl.js";
import { MATCHABLE, randomFieldMatch, randomMatch } from "../../support/random-matches.js";
import { Random } from "../../support/random.js";

describe("match fields against ovs-ofctl", function () {
  this.timeout(120_000);

  /** Compares what is printed, and that what we refuse is refused by OVS too; gives the number of flows in common. */
  const compare = (version: string, allowed: number, matches: readonly string[]): number => {
    const lines = parseFlowLines(matches.map((match) => `${match},actions=drop`).join("\n"));
    const mods = lines.flatMap((line) => (line.error === undefined ? [line.value] : []));
    const printed = printBoth(version, allowed, mods);
    for (const { flow, ours, ovs } of printed) assert.equal(ours, ours === undefined ? undefined : ovs, flow);
    if (version === EVERY_VERSION) {
      for (const { error, line } of lines) {
        assert.ok(error === undefined || ovsRefuses(line.text), `OVS takes what we refuse: ${error?.message}`);
      }
    }
    return printed.filter(({ ours }) => ours !== undefined).length;
  };

  it(`parseFlowLines() and formatFlowMod() treat each of ${FIELD_NAMES.length} fields as OVS does`, () => {
    const r = new Random(Number(process.env["SEED"] ?? 1));
    const matches = FIELD_NAMES.flatMap((field) => Array.from({ length: 8 }, () => randomFieldMatch(r, field)));
    assert.ok(compare(EVERY_VERSION, CARRIED_BY.any, matches) > 0.8 * matches.length);
  });

  for (const [version, allowed] of [...Object.entries(VERSIONS), [EVERY_VERSION, CARRIED_BY.any] as const]) {
    it(`random matches print as ovs-ofctl -O ${version} prints them`, () => {
      const r = new Random(Number(process.env["SEED"] ?? 2));
      const matches = Array.from({ length: 600 }, () => randomMatch(r));
      assert.ok(compare(version, allowed, matches) > 10);
    });
  }

  it("formatMatch() prints what parseMatch() reads back", () => {
    const r = new Random(Number(process.env["SEED"] ?? 3));
    for (let i = 0; i < 1000; i++) {
      const [line] = parseFlowLines(`${randomMatch(r)},actions=drop`);
      if (line?.error !== undefined) continue;
      const text = formatMatch(line!.value.flow.match);
      // OVS prints some values without what they mean nothing without, or not at all.
      if (/erspan|gtpu|nsh_c|tun_gbp_flags|tun_tos|mpls_lse/.test(line!.line.text)) continue;
      assert.equal(formatMatch(parseMatch(text)), text, line!.line.text);
    }
  });

  it("MATCHABLE are all fields but three that are for reading only", () => {
    const others = FIELD_NAMES.filter((field) => !MATCHABLE.includes(field));
    assert.deepEqual(others, ["tun_ttl", "tun_tos", "skb_priority"]);
    for (const field of others) assert.ok(ovsRefuses(`${field}=1,actions=drop`));
  });
});
