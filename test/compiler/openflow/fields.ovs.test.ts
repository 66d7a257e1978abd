import assert from "node:assert/strict";
import { CARRIED_BY, FIELD_NAMES, formatMatch, parseFlowLines, parseFlowMods, parseMatch } from "#compiler";
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

  it("actions may use the fields of the packet that encapsulation makes, and of valid connections", () => {
    const flows = [
      "packet_type=(1,0x800),actions=encap(ethernet),set_field:aa:55:aa:55:00:03->eth_dst,output:3",
      "packet_type=(1,0x800),nw_dst=192.0.2.1,actions=encap(nsh(md_type=1)),set_field:0x3020->nsh_spi,output:3",
      "packet_type=(1,0x894f),nsh_spi=0x3000,nsh_si=255,actions=set_field:254->nsh_si,goto_table:3",
      "ct_state=+rel,ip,actions=move:NXM_NX_CT_NW_SRC[]->NXM_NX_REG0[]",
      "ct_state=+trk-inv,ip,actions=move:NXM_NX_CT_NW_DST[]->NXM_NX_REG0[]",
      "mpls,actions=set_field:5->mpls_label,load:3->NXM_NX_MPLS_TTL[],output:1",
      "actions=set_field:5->tun_id,set_field:oam->tun_flags,set_field:0x1234->tun_metadata5,output:1",
      "actions=load:5->OXM_OF_PKT_REG0[3..40],move:NXM_NX_XXREG1[0..99]->NXM_NX_XXREG0[0..99]",
    ];
    const mods = parseFlowMods(flows.join("\n"));
    for (const { flow, ours, ovs } of printBoth(EVERY_VERSION, CARRIED_BY.any, mods)) assert.equal(ours, ovs, flow);
    for (const flow of [
      "packet_type=(1,0x800),actions=set_field:aa:55:aa:55:00:03->eth_dst",
      "ip,actions=decap(),set_field:aa:55:aa:55:00:03->eth_dst",
      "ct_state=+trk,ip,actions=move:NXM_NX_CT_NW_SRC[]->NXM_NX_REG0[]",
      "actions=set_field:5->mpls_label",
      "actions=set_field:1->ct_state",
    ]) {
      assert.ok(parseFlowLines(flow)[0]!.error !== undefined, flow);
      assert.ok(ovsRefuses(flow), flow);
    }
  });

  it("MATCHABLE are all fields but three that are for reading only", () => {
    const others = FIELD_NAMES.filter((field) => !MATCHABLE.includes(field));
    assert.deepEqual(others, ["tun_ttl", "tun_tos", "skb_priority"]);
    for (const field of others) assert.ok(ovsRefuses(`${field}=1,actions=drop`));
  });
});
