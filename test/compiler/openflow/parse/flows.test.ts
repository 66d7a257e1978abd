import assert from "node:assert/strict";
import { CompileError } from "ebpf-assembler";
import { formatFlowMod, get, parseFlow, parseFlowLines, parseFlowMods, parseFlows, PORT } from "#compiler";
import { randomTable } from "../../../support/random-flows.js";
import { Random } from "../../../support/random.js";

/** The one complaint about a flow: `COLUMN: message`. */
const complaint = (text: string): string => {
  try {
    parseFlows(text, { file: "t.flows" });
  } catch (error) {
    if (!(error instanceof CompileError)) throw error;
    const [first] = error.diagnostics;
    return `${first!.column}: ${first!.message}`;
  }
  return "accepted";
};

describe("parseFlows()", () => {
  it("reads every setting of a flow", () => {
    const flow = parseFlow(
      "table=3,priority=0x10,cookie=0xfeedfacecafebeef,idle_timeout=5,hard_timeout=010,importance=7," +
        "send_flow_rem,check_overlap,in_port=LOCAL,actions=output:2",
    );
    assert.equal(flow.table, 3);
    assert.equal(flow.priority, 16);
    assert.equal(flow.cookie, 0xfeedfacecafebeefn);
    assert.equal(flow.idleTimeout, 5);
    assert.equal(flow.hardTimeout, 8);
    assert.equal(flow.importance, 7);
    assert.deepEqual(flow.flags, ["send_flow_rem", "check_overlap"]);
    assert.equal(get(flow.match.value, "in_port"), PORT.LOCAL);
    assert.deepEqual(flow.actions, [{ kind: "output", port: 2, maxLen: 0 }]);
  });

  it("skips comments and blank lines and counts them", () => {
    const flows = parseFlows("# all\n\n  ip,actions=drop # why\n\t\narp,actions=NORMAL\n", { file: "a" });
    assert.deepEqual(
      flows.map((f) => [f.source?.file, f.source?.line, f.source?.text]),
      [
        ["a", 3, "ip,actions=drop"],
        ["a", 5, "arp,actions=NORMAL"],
      ],
    );
  });

  it("takes names of ports from the caller", () => {
    const ports = { numbers: new Map([["eth0", 7]]) };
    const flow = parseFlow('in_port=eth0,actions="eth0",output:eth0', { ports });
    assert.equal(get(flow.match.value, "in_port"), 7);
    assert.equal(flow.actions.length, 2);
  });

  it("complains about every wrong line at once, each at its place", () => {
    assert.throws(
      () => parseFlows("ip,actions=1\nip,nw_src=1.2.3,actions=1\nactions=bogus\n", { file: "t" }),
      (error: CompileError) => {
        assert.deepEqual(
          error.diagnostics.map((d) => [d.line, d.column]),
          [
            [2, 11],
            [3, 9],
          ],
        );
        return true;
      },
    );
  });

  const wrong: [text: string, complaint: RegExp][] = [
    ["ip", /^3: Cannot find the actions: want actions=/],
    ["ip,nw_src=10.0.0.0/33,actions=drop", /^20: Cannot read ip_src "33": want a prefix length from 0 to 32/],
    ["priority=70000,actions=drop", /^10: Cannot read priority "70000": want a number from 0 to 65535/],
    ["table=256,actions=drop", /^7: Cannot find table "256"/],
    ["tcp,nw_proto=6/3,actions=drop", /^14: Cannot mask nw_proto/],
    ["ip_frag=maybe,ip,actions=drop", /^9: Cannot read ip_frag "maybe": want one of no, yes/],
    ["tcp,tcp_flags=+foo,actions=drop", /^16: Cannot read TCP flag "foo"/],
    ["tcp,tcp_flags=+syn-syn,actions=drop", /^20: Cannot use TCP flag "syn" twice/],
    ["cookie=1/2,actions=drop", /^9: Cannot add a flow with a cookie mask/],
    ["actions=drop,1", /^9: Cannot use "drop" with other actions/],
    ["actions=set_field:1->tcp_dst", /^9: Cannot set tcp_dst: the flow must match tcp or tcp6/],
    ["actions=set_field:1->nw_proto", /^22: Cannot set nw_proto: it is read-only/],
    ["table=3,actions=goto_table:3", /^17: Cannot go to table 3 from table 3: want a table from 4 to 254/],
    ["actions=goto_table:1,output:1", /^22: Cannot use output after goto_table: want it before/],
    ["actions=goto_table:1,goto_table:2", /^22: Cannot use goto_table twice/],
    ["actions=write_actions(goto_table:3)", /^23: Cannot use goto_table within write_actions/],
    ["actions=load:0x100->NXM_NX_REG0[0..7]", /^14: Cannot load 0x100: it does not fit into 8 bits/],
    ["actions=move:NXM_NX_REG0[]->NXM_NX_REG1[0..7]", /^14: Cannot move 32 bits into 8/],
    ["actions=push_vlan:0x9100", /^19: Cannot push a tag of type 0x9100/],
    ["actions=strip_vlan,push_vlan:0x8100", /^9: Cannot express the flow in one version of OpenFlow/],
    ["actions=output:NONE", /^9: Cannot output to ANY/],
    ["actions=resubmit(,)", /^18: Cannot resubmit: want a port, a table or both/],
    ["actions=learn(table=255)", /^21: Cannot learn in table 255/],
    ["tun_ttl=3,actions=1", /^1: Cannot express the flow in one version of OpenFlow: a match on tun_ttl/],
    ["ct_state=+trk,ct_nw_proto=6,actions=1", /^1: Cannot match ct_nw_proto: the flow must match a valid connection/],
    ["ct_state=+foo,actions=1", /^11: Cannot read ct_state flag "foo": want one of new, est/],
    ["nsh_si=3,actions=1", /^1: Cannot match nsh_si: the flow must match dl_type=0x894f/],
    ["dl_type=0x894f,nsh_ttl=64,actions=1", /^1: Cannot match nsh_ttl 64: want 0 to 63/],
    ["packet_type=5,actions=1", /^13: Cannot read packet_type "5": want \(NAMESPACE,TYPE\)/],
    ["tun_metadata0=1,tun_metadata0=2,actions=1", /^17: Cannot match tun_metadata0 twice/],
    ["tcp,nw_frag=later,tp_src=3,actions=1", /^1: Cannot match ports or TCP flags of later fragments/],
    ["delete table=1", /^1: Cannot delete flows here/],
  ];
  for (const [text, want] of wrong) {
    it(`refuses ${text}`, () => assert.match(complaint(text), want));
  }
});

describe("parseFlowMods()", () => {
  it("reads commands, cookie masks and out_port", () => {
    const [modify, remove] = parseFlowMods("modify cookie=1/-1,ip,actions=2\ndelete table=4,out_port=3,tcp\n");
    assert.equal(modify!.command, "modify");
    assert.deepEqual(modify!.cookie, { value: 1n, mask: 0xffffffffffffffffn });
    assert.equal(remove!.command, "delete");
    assert.equal(remove!.table, 4);
    assert.equal(remove!.outPort, 3);
    assert.equal(formatFlowMod(remove!), "DEL table:4 tcp out_port:3 actions=drop");
  });

  it("warns of demands on headers that the flow does not match", () => {
    const [mod] = parseFlowMods("nw_src=10.0.0.1,actions=drop");
    assert.equal(formatFlowMod(mod!), "actions=drop");
    assert.match(mod!.warnings[0]!.message, /ip_src/);
  });
});

describe("parseFlowLines()", () => {
  it("takes or refuses damaged flows at a place within the line, and never fails otherwise", () => {
    const random = new Random(7);
    const alphabet = "0123456789abcdefx:/.,=()[]->+|_ $";
    const damage = (flow: string): string => {
      const at = random.below(flow.length);
      const letter = alphabet[random.below(alphabet.length)]!;
      return flow.slice(0, at) + random.pick([letter, "", flow[at]! + letter]) + flow.slice(at + 1);
    };
    const flows = Array.from({ length: 20 }, () => randomTable(random, { nTables: 3, nFlows: 100 })).flat();
    const results = parseFlowLines(flows.map((flow) => damage(damage(flow))).join("\n"));
    for (const { line, value, error } of results) {
      if (value !== undefined) formatFlowMod(value);
      for (const { column } of error?.diagnostics ?? []) {
        assert.ok(column >= 1 && column <= line.text.length + 1, `column ${column} of ${line.text}`);
      }
    }
    assert.ok(results.some((r) => r.error !== undefined) && results.some((r) => r.error === undefined));
  });

  it("parses 10,000 flows in a second of computing", () => {
    const line = (i: number) =>
      `table=${i % 200},priority=${i},tcp,in_port=${i % 40},dl_src=00:11:22:33:44:55,nw_src=10.0.${(i >> 8) & 255}.${i & 255},` +
      `tp_dst=${i},actions=mod_dl_dst:00:00:00:00:00:01,dec_ttl,set_field:${i}->reg0,goto_table:${(i % 200) + 1}`;
    const text = Array.from({ length: 10_000 }, (_, i) => line(i)).join("\n");
    // Time of this process, so that a busy machine does not matter.
    const start = process.cpuUsage();
    const results = parseFlowLines(text);
    const { user, system } = process.cpuUsage(start);
    const elapsed = (user + system) / 1000;
    assert.ok(results.every((r) => r.error === undefined));
    assert.ok(elapsed < 1000, `${elapsed.toFixed(0)} ms`);
  });
});
