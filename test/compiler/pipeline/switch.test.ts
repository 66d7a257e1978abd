// Tables, groups, timeouts and counters of a switch.

import assert from "node:assert/strict";
import {
  applyFlowMod,
  creditTranslation,
  expireRules,
  extract,
  FlowModError,
  learnFrom,
  newFlow,
  groupMods,
  flowMods,
  applyTableMod,
  parseFlowMods,
  parseGroupMods,
  parseGroup,
  parseMatch,
  Switch,
  translate,
  type FlowWords,
  type Rule,
  type Translation,
} from "#compiler";
import { fromHex } from "ebpf-assembler";

const apply = (sw: Switch, text: string, nowMs = 0): Rule[] =>
  parseFlowMods(text).flatMap((mod) => [...applyFlowMod(sw, mod, nowMs)]);

const switchOf = (text = ""): Switch => {
  const sw = new Switch();
  for (const number of [1, 2, 3]) sw.setPort({ number });
  apply(sw, text);
  return sw;
};

const UDP = fromHex("02000000000202000000000108004500002000000000401166ab0a0000010a00000200350035000c000000000000");

const flowOf = (inPort = 1): FlowWords => {
  const flow = newFlow();
  extract(UDP, UDP.length, inPort, flow);
  return flow;
};

const outPorts = ({ actions }: Translation): number[] =>
  actions.flatMap((action) => (action.kind === "output" ? [action.port] : []));

/** The tables as text, with what is counted. */
const shown = (sw: Switch): string[] => [
  ...[...sw.rules()].map((rule) => JSON.stringify([rule.table, rule.priority, rule.packets, rule.actions])).sort(),
  ...[...sw.groups()].map(({ group, removed }) => JSON.stringify([group, removed])),
];

describe("Switch.transaction()", () => {
  it("undoes every change of rules and groups, in any order, when one is refused", () => {
    const pick = (n: number, i: number): number => (i * 7919 + n * 104729) % 5;
    for (let round = 0; round < 50; round++) {
      const sw = switchOf("");
      const groups = parseGroupMods("group_id=1,type=all,bucket=1\ngroup_id=2,type=all,bucket=2");
      for (const change of groupMods(groups)) applyTableMod(sw, change, 0);
      apply(sw, "table=1,udp,actions=group:1\npriority=7,actions=resubmit(,1)\nudp,idle_timeout=5,actions=group:2");
      creditTranslation(translate(sw, flowOf()), 3, 300, 1000);
      const lines = Array.from({ length: 12 }, (_, i) => {
        const flow = [
          "delete udp",
          "priority=7,actions=2",
          "modify udp,actions=3",
          "delete",
          "table=2,actions=group:2",
        ];
        const group = ["delete group_id=1", "modify group_id=2,type=all,bucket=3", "group_id=5,type=all", "delete", ""];
        const isFlow = pick(round, i) > 1;
        return { isFlow, text: (isFlow ? flow : group)[pick(round + i, i + 3)]! };
      });
      const before = shown(sw);
      const { size, version } = sw;
      assert.throws(() =>
        sw.transaction(() => {
          for (const { isFlow, text } of lines) {
            const mods = isFlow ? flowMods(parseFlowMods(text)) : groupMods(parseGroupMods(text));
            for (const mod of mods) {
              try {
                applyTableMod(sw, mod, 0);
              } catch {
                // What is refused on the way changes nothing.
              }
            }
          }
          apply(sw, "actions=group:99");
        }),
      );
      assert.deepEqual(shown(sw), before, `round ${round}`);
      assert.ok(sw.size === size && sw.version > version);
      assert.deepEqual(outPorts(translate(sw, flowOf())), [2]);
      assert.equal(expireRules(sw, 1e9).length, 1);
      apply(sw, "delete");
      assert.equal(sw.size, 0);
    }
  });
});

describe("Switch", () => {
  it("add() takes the place of a flow with the same match and priority, and its counters", () => {
    const sw = switchOf("priority=5,udp,actions=output:2");
    creditTranslation(translate(sw, flowOf()), 3, 300, 1000);
    const [rule] = apply(sw, "priority=5,udp,actions=output:3", 2000);
    assert.equal(sw.size, 1);
    assert.deepEqual([rule!.packets, rule!.bytes, rule!.createdMs, rule!.usedMs], [3, 300, 2000, 1000]);
    assert.deepEqual(outPorts(translate(sw, flowOf())), [3]);
  });

  it("add() with reset_counts begins to count anew", () => {
    const sw = switchOf("priority=5,udp,actions=output:2");
    creditTranslation(translate(sw, flowOf()), 3, 300, 1000);
    const [rule] = apply(sw, "priority=5,udp,reset_counts,actions=output:3");
    assert.equal(rule!.packets, 0);
  });

  it("add() with check_overlap refuses an overlap of the same priority only", () => {
    const sw = switchOf("priority=5,udp,actions=output:2");
    assert.throws(
      () => apply(sw, "priority=5,ip,nw_src=10.0.0.1,check_overlap,actions=drop"),
      (error) => error instanceof FlowModError && error.problem === "overlap",
    );
    apply(sw, "priority=6,ip,nw_src=10.0.0.1,check_overlap,actions=drop");
    apply(sw, "priority=5,tcp,check_overlap,actions=drop");
    assert.equal(sw.size, 3);
  });

  it("modify changes actions and keeps counters, age and timeouts", () => {
    const sw = switchOf("priority=5,idle_timeout=9,udp,tp_dst=53,actions=output:2\npriority=6,tcp,actions=output:2");
    creditTranslation(translate(sw, flowOf()), 1, 46, 10);
    const changed = apply(sw, "modify udp,actions=output:3", 500);
    assert.equal(changed.length, 1);
    assert.deepEqual([changed[0]!.packets, changed[0]!.createdMs, changed[0]!.idleTimeout], [1, 0, 9]);
    assert.deepEqual(outPorts(translate(sw, flowOf())), [3]);
  });

  it("modify of nothing adds, unless it selects by cookie", () => {
    const sw = switchOf();
    assert.equal(apply(sw, "modify udp,actions=output:3").length, 1);
    assert.equal(apply(sw, "modify cookie=1/-1,tcp,actions=output:3").length, 0);
    assert.equal(sw.size, 1);
  });

  it("delete is loose, delete_strict exact; both filter", () => {
    const table =
      "priority=1,udp,actions=output:2\npriority=2,udp,tp_dst=53,actions=output:3\ntable=1,udp,actions=output:2";
    const left = (command: string): number => {
      const sw = switchOf(table);
      apply(sw, command);
      return sw.size;
    };
    assert.equal(left("delete udp"), 0);
    assert.equal(left("delete table=0,udp"), 1);
    assert.equal(left("delete udp,out_port=2"), 1);
    assert.equal(left("delete udp,tp_dst=53"), 2);
    assert.equal(left("delete_strict table=0,priority=1,udp"), 2);
    assert.equal(left("delete_strict table=0,priority=3,udp"), 3);
  });

  it("credits of a translation older than a change go to the rule that is there now", () => {
    const sw = switchOf("udp,actions=output:2");
    const before = translate(sw, flowOf());
    const [rule] = apply(sw, "udp,actions=output:3");
    creditTranslation(before, 2, 92, 7);
    assert.deepEqual([rule!.packets, rule!.bytes, rule!.usedMs], [2, 92, 7]);
  });

  it("expireRules() takes rules out by their reason, and idle ones after credits", () => {
    const sw = switchOf("idle_timeout=10,udp,actions=output:2\nhard_timeout=30,tcp,actions=output:2\nactions=drop");
    const translation = translate(sw, flowOf());
    creditTranslation(translation, 1, 46, 9_000);
    assert.deepEqual(expireRules(sw, 19_000), []);
    const { version } = sw;
    assert.deepEqual(
      expireRules(sw, 19_001).map(({ reason }) => reason),
      ["idle_timeout"],
    );
    assert.ok(sw.version > version);
    assert.deepEqual(
      expireRules(sw, 30_001).map(({ reason }) => reason),
      ["hard_timeout"],
    );
    assert.equal(sw.size, 1);
  });

  it("counts packets and bytes of rules, groups and buckets", () => {
    const sw = switchOf();
    sw.addGroup(parseGroup("group_id=1,type=all,bucket=output:2,bucket=output:3"), 0);
    apply(sw, "actions=resubmit(,1)\ntable=1,actions=group:1");
    creditTranslation(translate(sw, flowOf()), 4, 400, 1);
    assert.deepEqual(
      [...sw.rules()].map(({ packets, bytes }) => [packets, bytes]),
      [
        [4, 400],
        [4, 400],
      ],
    );
    const group = sw.group(1)!;
    assert.deepEqual([group.packets, ...group.buckets.map(({ bytes }) => bytes)], [4, 400, 400]);
  });

  it("deleteGroup() deletes the flows that use it; an unknown group is refused", () => {
    const sw = switchOf();
    sw.addGroup(parseGroup("group_id=1,type=indirect,bucket=output:2"), 0);
    apply(sw, "table=3,actions=write_actions(group:1)\nudp,actions=drop");
    assert.equal(sw.deleteGroup(1).length, 1);
    assert.equal(sw.size, 1);
    assert.throws(() => apply(sw, "actions=group:1"), FlowModError);
  });

  it("a fast failover group follows the links of its ports", () => {
    const sw = switchOf();
    sw.addGroup(
      parseGroup("group_id=1,type=ff,bucket=watch_port:2,actions=output:2,bucket=watch_port:3,actions=output:3"),
      0,
    );
    apply(sw, "actions=group:1");
    assert.deepEqual(outPorts(translate(sw, flowOf())), [2]);
    const { version } = sw;
    sw.setPort({ number: 2, up: false });
    assert.ok(sw.version > version);
    assert.deepEqual(outPorts(translate(sw, flowOf())), [3]);
    sw.setPort({ number: 3, up: false });
    assert.deepEqual(outPorts(translate(sw, flowOf())), []);
  });

  it("honours no_receive, no_flood and no_forward of ports", () => {
    const sw = switchOf("actions=FLOOD");
    sw.setPort({ number: 2, config: { noFlood: true } });
    assert.deepEqual(outPorts(translate(sw, flowOf())), [3]);
    sw.setPort({ number: 3, config: { noForward: true } });
    assert.deepEqual(outPorts(translate(sw, flowOf())), []);
    sw.setPort({ number: 1, config: { noReceive: true } });
    apply(sw, "actions=output:2");
    assert.deepEqual(outPorts(translate(sw, flowOf())), []);
  });

  it("in standalone mode learns while it has no flows, and not once it has", () => {
    const sw = new Switch({ failMode: "standalone" });
    for (const number of [1, 2]) sw.setPort({ number });
    assert.deepEqual(outPorts(translate(sw, flowOf())), [2]);
    apply(sw, "table=5,actions=drop");
    assert.deepEqual(outPorts(translate(sw, flowOf())), []);
    sw.delete(parseMatch(""));
    assert.deepEqual(outPorts(translate(sw, flowOf())), [2]);
  });
});

describe("MacTable", () => {
  const mac = 0x020000000001;

  it("forgets an address not seen for 300 s", () => {
    const { macs } = new Switch();
    macs.learn({ mac, vlan: 0, port: 1 }, 1000);
    macs.learn({ mac, vlan: 0, port: 1 }, 2000);
    assert.equal(macs.expire(301_999), 0);
    assert.equal(macs.lookup(mac, 0), 1);
    assert.equal(macs.expire(302_000), 1);
    assert.equal(macs.lookup(mac, 0), undefined);
  });

  it("keeps VLANs apart, follows moves, and changes its version only when something changed", () => {
    const { macs } = new Switch();
    assert.equal(macs.learn({ mac, vlan: 0, port: 1 }, 0), true);
    const { version } = macs;
    assert.equal(macs.learn({ mac, vlan: 0, port: 1 }, 5), false);
    assert.equal(macs.version, version);
    assert.equal(macs.lookup(mac, 7), undefined);
    assert.equal(macs.learn({ mac, vlan: 0, port: 2 }, 6), true);
    assert.equal(macs.lookup(mac, 0), 2);
    assert.ok(macs.version > version);
  });

  it("does not learn multicast sources", () => {
    const { macs } = new Switch();
    assert.equal(macs.learn({ mac: 0x01005e000001, vlan: 0, port: 1 }, 0), false);
    assert.equal(macs.size, 0);
  });

  it("when full forgets the oldest address of the port that has most", () => {
    const { macs } = new Switch({ macs: { size: 4 } });
    for (const [address, port] of [
      [2, 1],
      [4, 2],
      [6, 2],
      [8, 2],
      [10, 1],
    ] as const) {
      macs.learn({ mac: address, vlan: 0, port }, address);
    }
    assert.deepEqual(
      [...macs.entries()].map((entry) => entry.mac),
      [2, 6, 8, 10],
    );
  });

  it("a port that is taken out takes its addresses along", () => {
    const sw = switchOf("actions=NORMAL");
    learnFrom(sw, translate(sw, flowOf(1)), 0);
    assert.equal(sw.macs.size, 1);
    sw.removePort(1);
    assert.equal(sw.macs.size, 0);
  });
});
