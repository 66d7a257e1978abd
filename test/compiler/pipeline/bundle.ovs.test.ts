// Bundle files against Open vSwitch: which it takes, what is in the tables afterwards, what is sent.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import {
  applyBundle,
  Executor,
  formatGroup,
  parseBundle,
  parseBundleLines,
  parseFlows,
  parseGroups,
  Switch,
} from "#compiler";
import { CompileError, toHex } from "ebpf-assembler";
import { hasOvs, Ovs } from "../../support/ovs.js";
import { skip } from "../../support/skip.js";

const N_PORTS = 3;
const PACKET = "02000000000202000000000112340000";
const START_GROUPS = "group_id=1,type=all,bucket=output:1\ngroup_id=2,type=all,bucket=output:2";
const START_FLOWS = [
  "cookie=1,table=0,priority=5,ip,actions=group:1",
  "cookie=2,table=0,priority=6,arp,actions=output:2",
  "cookie=3,table=1,actions=output:3",
];

/** Bundles that are taken. */
const TAKEN: readonly (readonly string[])[] = [
  ["flow add table=2,ip,actions=output:1", "flow modify_strict priority=6,arp,actions=output:3", "flow delete table=1"],
  ["# only", "", "  group insert_bucket group_id=1,command_bucket_id=last,bucket=bucket_id=7,output:3  # more"],
  ["group group_id=3,type=indirect,bucket=output:3", "flow cookie=9,actions=group:3", "fl del ip"],
  ["group delete group_id=1", "group delete group_id=2", "group add group_id=1,type=all,bucket=output:2"],
  [
    `packet-out in_port=1 packet=${PACKET} actions=output:2,output:3`,
    "flow add priority=9,actions=output:1",
    `packet-out in_port=2,metadata=5,reg0=7,packet=${PACKET},actions=resubmit(,0)`,
    "flow delete",
    `packet packet=${PACKET},actions=resubmit(,0),output:3`,
  ],
];

/**
 * Bundles whose text is good and that the switch refuses as a whole. OVS 3.1 dies of one that deletes a group; of that see
 * switch.test.ts.
 */
const REFUSED: readonly (readonly string[])[] = [
  ["flow delete", "flow add priority=7,actions=output:1", "flow add actions=group:77"],
  ["group add group_id=9,type=all", "flow add actions=group:9", "group modify group_id=77,type=all,bucket=output:3"],
  [
    "group modify group_id=1,type=all,bucket=output:3",
    "flow modify ip,actions=output:1",
    "flow add check_overlap,priority=5,tcp,actions=output:2",
    `packet-out in_port=1 packet=${PACKET} actions=output:2`,
  ],
];

/** Lines that are no good text. */
const WRONG = [
  "meter add meter=1",
  "add table=1,actions=drop",
  "flow table=1",
  "flow add nonsense,actions=drop",
  "group add type=all",
  "packet-out in_port=1 actions=output:2",
  `packet-out in_port=ALL packet=${PACKET} actions=output:2`,
  `packet-out in_port=1 packet=${PACKET} actions=bogus`,
  `packet-out in_port=1 eth_type=0x800 packet=${PACKET} actions=output:2`,
  "packet-out in_port=1 packet=0 actions=output:2",
  "packet-out in_port=1 packet=02000000 actions=output:2",
  `packet-out in_port= packet=${PACKET} actions=output:2`,
];

describe("bundles against Open vSwitch", function () {
  this.timeout(120_000);
  let ovs: Ovs;
  before(async function () {
    if (!hasOvs()) skip(this, "needs the Debian package openvswitch-switch");
    ovs = await Ovs.start({ ports: N_PORTS });
  });
  after(() => ovs.stop());

  const send = (lines: readonly string[]): boolean => {
    const bridge = `unix:${join(ovs.dir, "br0.mgmt")}`;
    const { status } = spawnSync("ovs-ofctl", ["-O", "OpenFlow15", "-t", "5", "bundle", bridge, "-"], {
      input: lines.join("\n"),
      encoding: "utf8",
    });
    return status === 0;
  };

  const start = async (): Promise<Switch> => {
    await ovs.setFlows("");
    await ovs.setGroups(START_GROUPS);
    await ovs.setFlows(START_FLOWS.join("\n"));
    ovs.outputs();
    const sw = new Switch();
    for (let number = 1; number <= N_PORTS; number++) sw.setPort({ number });
    for (const group of parseGroups(START_GROUPS)) sw.addGroup(group, 0);
    for (const flow of parseFlows(START_FLOWS.join("\n"))) sw.add(flow, 0);
    return sw;
  };

  /** What tells the states of the tables apart: rules by table, priority and cookie; groups whole. */
  const stateOf = (sw: Switch): string[] => [
    ...[...sw.rules()].map(({ table, priority, cookie }) => `${table} ${priority} ${cookie}`),
    ...[...sw.groups()].map(({ group }) => formatGroup(group)),
  ];

  const stateOfOvs = (): string[] => {
    const flows = ovs
      .ofctl("dump-flows")
      .split("\n")
      .filter((line) => line.includes("actions="))
      .map((line) => {
        const number = (pattern: RegExp, none: number): number => Number(pattern.exec(line)?.[1] ?? none);
        return `${number(/table=(\d+)/, 0)} ${number(/priority=(\d+)/, 32768)} ${number(/cookie=(\w+)/, 0)}`;
      });
    const groups = ovs
      .ofctl("dump-groups")
      .split("\n")
      .filter((line) => line.includes("group_id="));
    return [...flows, ...groups.map((line) => line.trim())];
  };

  const executor = new Executor();

  for (const [i, lines] of TAKEN.entries()) {
    it(`applyBundle() makes of bundle ${i + 1} what OVS makes of it`, async () => {
      const sw = await start();
      const sent: string[] = [];
      for (const { packet, translation } of applyBundle(sw, parseBundle(lines.join("\n")), 0)) {
        executor.execute(packet, translation.actions, {
          output: (port, bytes) => sent.push(`${port} ${toHex(bytes)}`),
          controller: () => undefined,
        });
      }
      assert.ok(send(lines), `OVS refuses\n${lines.join("\n")}`);
      assert.deepEqual(stateOf(sw).sort(), stateOfOvs().sort());
      const want = ovs.outputs().map(({ port, packet }) => `${port} ${toHex(packet)}`);
      assert.deepEqual(sent.sort(), want.sort());
    });
  }

  for (const [i, lines] of REFUSED.entries()) {
    it(`applyBundle() changes nothing for bundle ${i + 1} of those that OVS refuses`, async () => {
      const sw = await start();
      const before = stateOf(sw);
      const entries = [...sw.rules()];
      assert.throws(
        () => applyBundle(sw, parseBundle(lines.join("\n")), 0),
        (error) => error instanceof CompileError && error.diagnostics[0]!.line > 1,
      );
      assert.ok(!send(lines), `OVS takes\n${lines.join("\n")}`);
      assert.deepEqual(stateOf(sw).sort(), before.sort());
      assert.deepEqual(stateOf(sw).sort(), stateOfOvs().sort());
      assert.ok(entries.every((rule) => !rule.removed && rule.successor === undefined));
      assert.equal(sw.size, START_FLOWS.length);
      // What is left still works: the same rules go again.
      applyBundle(sw, parseBundle("flow delete"), 0);
      assert.equal(sw.size, 0);
    });
  }

  it(`parseBundleLines() refuses what OVS refuses (${WRONG.length} lines)`, async () => {
    await start();
    for (const [i, { error }] of parseBundleLines(WRONG.join("\n")).entries()) {
      assert.ok(error !== undefined, `we accept ${WRONG[i]!}`);
      assert.ok(!send([WRONG[i]!]), `OVS accepts ${WRONG[i]!}`);
    }
  });
});
