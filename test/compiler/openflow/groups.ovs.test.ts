// Groups with commands against Open vSwitch: what ovs-ofctl sends for a line, what the switch makes of it, and which lines
// are refused.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { join } from "node:path";
import {
  applyGroupMod,
  formatGroup,
  formatGroupMod,
  GroupModError,
  parseGroupLines,
  parseGroupMods,
  Switch,
  type GroupModProblem,
} from "#compiler";
import { hasOvs, Ovs } from "../../support/ovs.js";
import { skip } from "../../support/skip.js";

/** Lines in an order in which the switch takes all of them. */
const LINES = [
  "group_id=1,type=all,bucket=output:1,bucket=output:2",
  "add group_id=2,type=select,bucket=bucket_id=5,weight=3,output:1,bucket=output:2,bucket=bucket_id=0,output:3",
  "add group_id=3,type=ff,bucket=watch_port=1,output:1,bucket=watch_group=1,output:2,bucket=watch_port=CONTROLLER,3",
  "add_or_mod group_id=4,type=indirect,bucket=actions=output:1",
  "add_or_mod group_id=4,type=indirect,bucket=actions=group:99",
  "modify group_id=1,type=select,selection_method=hash,selection_method_param=7,fields(ip_src,tcp_dst),bucket=1,bucket=2",
  "mod group_id=2,type=select,selection_method=dp_hash,selection_method_param=4294967297,bucket=weight:0,1,bucket=2",
  "insert_bucket group_id=1,command_bucket_id=first,bucket=bucket_id=7,weight=2,output:3",
  "insert_bucket group_id=1,command_bucket_id=last,bucket=bucket_id=8,weight=2,output:3,bucket=bucket_id=9,output:1",
  "insert group_id=1 command_bucket_id=8 bucket=bucket_id=10,weight=65535,output:LOCAL",
  "insert_bucket group_id=4,command_bucket_id=0,bucket=bucket_id=1,output:2",
  "remove_bucket group_id=1,command_bucket_id=0",
  "remove_bucket group_id=1,command_bucket_id=first",
  "remove group_id=1,command_bucket_id=last",
  "remove_bucket group_id=3",
  "remove_bucket group_id=3,command_bucket_id=first",
  "insert_bucket group_id=3,command_bucket_id=first,bucket=output:1,bucket=output:2",
  "remove_bucket group_id=4,command_bucket_id=all",
  "add group_id=5,type=all",
  "del group_id=5",
  "delete group_id=77",
  "group_id=4294967040,type=fast_failover,bucket=watch_group:4294967040,watch_port:2,weight:0,NORMAL",
  "group_id=9 type=select bucket=dec_ttl,output:1, bucket=resubmit(,3)",
];

/** Lines that ovs-ofctl refuses, or the switch does because of what they say. */
const WRONG = [
  "group_id=1",
  "add type=all",
  "group_id=all,type=all",
  "modify group_id=all,type=all",
  "group_id=1,type=all,command_bucket_id=first",
  "delete group_id=1,type=all",
  "delete group_id=1,bucket=1",
  "delete type=all",
  "insert_bucket group_id=1,bucket=1",
  "insert_bucket group_id=1,command_bucket_id=all,bucket=1",
  "insert_bucket group_id=1,command_bucket_id=4294967295,bucket=1",
  "insert_bucket group_id=1,command_bucket_id=4294967280,bucket=1",
  "insert_bucket group_id=1,type=all,command_bucket_id=last,bucket=1",
  "insert_bucket group_id=1,command_bucket_id=last,bucket=watch_port=1,1",
  "insert_bucket group_id=1,command_bucket_id=last,selection_method=hash,bucket=1",
  "remove_bucket group_id=1,command_bucket_id=last,bucket=1",
  "remove_bucket command_bucket_id=last",
  "group_id=1,type=select,selection_method=bogus,bucket=1",
  "group_id=1,type=all,selection_method=hash,bucket=1",
  "group_id=1,type=select,selection_method=dp_hash,fields=ip_src,bucket=1",
  "group_id=1,type=select,bucket=weight=65536,1",
  "group_id=1,type=select,bucket=watch_port=ALL,1",
  "group_id=1,type=select,bucket=bucket_id=4294967041,1",
  "group_id=1,type=select,bucket=bucket_id=1,1,bucket=bucket_id=1,2",
  "group_id=1,type=select,bucket=bucket_id=0,1,bucket=2",
  "group_id=1,type=ff,bucket=weight=1,watch_port=1,1",
  "group_id=1,type=indirect",
  "group_id=1,type=all,bucket=write_actions(output:1)",
  "group_id=1,type=all,bucket",
  "frobnicate group_id=1,type=all,bucket=1",
];

/** Changes that the text allows and the switch does not, each on its own after {@link LINES}. */
const REFUSED: readonly (readonly [line: string, problem: GroupModProblem])[] = [
  ["group_id=1,type=all,bucket=1", "group_exists"],
  ["modify group_id=66,type=all,bucket=1", "unknown_group"],
  ["insert_bucket group_id=66,command_bucket_id=last,bucket=1", "unknown_group"],
  ["insert_bucket group_id=1,command_bucket_id=66,bucket=bucket_id=70,1", "unknown_bucket"],
  ["insert_bucket group_id=1,command_bucket_id=last,bucket=bucket_id=8,1", "bucket_exists"],
  ["remove_bucket group_id=1,command_bucket_id=66", "unknown_bucket"],
];

describe("groups with commands against Open vSwitch", function () {
  this.timeout(120_000);
  let ovs: Ovs;
  before(async function () {
    if (!hasOvs()) skip(this, "needs the Debian package openvswitch-switch");
    ovs = await Ovs.start({ ports: 3 });
  });
  after(() => ovs.stop());

  const send = (
    lines: readonly string[],
    version: string,
  ): { sent: string[]; error: string; status: number | null } => {
    const { stdout, stderr, status } = spawnSync(
      "ovs-ofctl",
      ["-O", version, "-t", "5", "-vvconn:console:dbg", "add-groups", `unix:${join(ovs.dir, "br0.mgmt")}`, "-"],
      { input: lines.join("\n"), encoding: "utf8" },
    );
    const text = `${stderr}${stdout}`.split("\n");
    const sent = text.filter((_, i) => /sent \(Success\): (OFPT|NXT)_GROUP_MOD/.test(text[i - 1] ?? ""));
    return { sent: sent.map((line) => line.trim().replace(/^ADD /, "")), error: text.join("\n"), status };
  };

  const groupsOf = (sw: Switch): string[] =>
    [...sw.groups()].sort((a, b) => a.group.id - b.group.id).map(({ group }) => formatGroup(group));

  const groupsOfOvs = (): string[] => {
    const text = execFileSync("ovs-ofctl", ["-O", "OpenFlow15", "dump-groups", `unix:${join(ovs.dir, "br0.mgmt")}`], {
      encoding: "utf8",
    });
    const id = (line: string): number => Number(/group_id=(\d+)/.exec(line)![1]);
    const lines = text.split("\n").filter((line) => line.includes("group_id="));
    return lines.map((line) => line.trim()).sort((a, b) => id(a) - id(b));
  };

  for (const version of ["OpenFlow10", "OpenFlow15"]) {
    it(`formatGroupMod() prints what ovs-ofctl -O ${version} sends, applyGroupMod() makes of it what OVS does`, () => {
      ovs.ofctl("del-groups");
      const sw = new Switch();
      for (const [i, mod] of parseGroupMods(LINES.join("\n")).entries()) {
        const { sent, error } = send([LINES[i]!], version);
        assert.deepEqual([formatGroupMod(mod)], sent, error);
        applyGroupMod(sw, mod, 0);
        assert.deepEqual(groupsOf(sw), groupsOfOvs(), LINES[i]!);
      }
      for (const [line, problem] of REFUSED) {
        const [mod] = parseGroupMods(line);
        assert.throws(
          () => applyGroupMod(sw, mod!, 0),
          (error) => error instanceof GroupModError && error.problem === problem,
          line,
        );
        const { error } = send([line], version);
        assert.match(error, /OFPGMFC_(GROUP_EXISTS|UNKNOWN_GROUP|UNKNOWN_BUCKET|BUCKET_EXISTS)/, line);
        assert.deepEqual(groupsOf(sw), groupsOfOvs(), line);
      }
      applyGroupMod(sw, parseGroupMods("delete")[0]!, 0);
      assert.equal(send(["delete"], version).status, 0);
      assert.deepEqual([groupsOf(sw), groupsOfOvs()], [[], []]);
    });
  }

  it(`parseGroupLines() refuses what OVS refuses (${WRONG.length} lines)`, () => {
    ovs.ofctl("del-groups");
    assert.equal(send(["group_id=1,type=select,bucket=bucket_id=100,1"], "OpenFlow15").status, 0);
    for (const [i, { error }] of parseGroupLines(WRONG.join("\n")).entries()) {
      assert.ok(error !== undefined, `we accept ${WRONG[i]!}`);
      const { error: said, status } = send([WRONG[i]!], "OpenFlow10,OpenFlow13,OpenFlow15");
      assert.ok(status !== 0 || /OFPT_ERROR/.test(said), `OVS accepts ${WRONG[i]!}\n${said}`);
    }
  });
});
