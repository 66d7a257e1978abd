import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { runCommand as run } from "../../support/cli.js";

const FLOWS = "# two good, one bad\ntable=1,priority=9,tcp,actions=drop\n\nip,nw_src=x,actions=1\nactions=NORMAL\n";

describe("ofxdp parse-flows", () => {
  it("prints one line per flow", () => {
    const files = { "a.flows": "table=1,priority=9,tcp,actions=drop\nip,actions=output:1,2 # x\n" };
    assert.deepEqual(run(files, "parse-flows", "a.flows"), {
      out: "table:1 priority=9,tcp actions=drop\nip actions=output:1,output:2\n",
      err: "",
      code: 0,
    });
  });

  it("takes commands only when asked to, as ovs-ofctl parse-flows takes none", () => {
    const files = { f: "delete table=1\nmodify tcp,actions=2\n" };
    const refused = run(files, "parse-flows", "f");
    assert.match(refused.err, /^f:1:15: Cannot find the actions.*\nf:2:1: Cannot find "modify"/);
    assert.deepEqual([refused.out, refused.code], ["", 1]);
    assert.equal(
      run(files, "parse-flows", "f", "--commands").out,
      "DEL table:1 actions=drop\nMOD tcp actions=output:2\n",
    );
  });

  it("reports FILE:LINE:COL of a wrong line, prints nothing behind it, and ends with 1", () => {
    const { out, err, code } = run({ "a.flows": FLOWS }, "parse-flows", "a.flows");
    assert.equal(out, "table:1 priority=9,tcp actions=drop\n");
    assert.match(err, /^a\.flows:4:11: Cannot read ip_src "x": want an IPv4 address/);
    assert.equal(code, 1);
  });

  it("--keep-going prints !message in the place of a wrong line", () => {
    const { out, err, code } = run({ "-": FLOWS }, "parse-flows", "-", "--keep-going");
    const lines = out.trimEnd().split("\n");
    assert.equal(lines.length, 3);
    assert.match(lines[1]!, /^!Cannot read ip_src "x"/);
    assert.equal(lines[2], "actions=NORMAL");
    assert.equal(err, "");
    assert.equal(code, 0);
  });

  it("-j prints an object per flow, errors too", () => {
    const { out, code } = run({ "a.flows": FLOWS }, "parse-flows", "a.flows", "-j", "--keep-going");
    const [first, second] = out
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(first, {
      line: 2,
      text: "table:1 priority=9,tcp actions=drop",
      command: "add",
      table: 1,
      priority: 9,
      cookie: "0x0",
      idle_timeout: 0,
      hard_timeout: 0,
      importance: 0,
      flags: [],
      match: "tcp",
      actions: "drop",
    });
    assert.deepEqual((second!["error"] as Record<string, unknown>)["line"], 4);
    assert.equal(code, 0);
  });

  it("-O prints in the words of a version, as ovs-ofctl -O", () => {
    const flow = "actions=mod_dl_src:00:11:22:33:44:55,goto_table:1";
    assert.equal(run({ f: flow }, "parse-flows", "f").out, "actions=mod_dl_src:00:11:22:33:44:55,resubmit(,1)\n");
    const { out } = run({ f: flow }, "parse-flows", "f", "-O", "OpenFlow13");
    assert.equal(out, "actions=set_field:00:11:22:33:44:55->eth_src,goto_table:1\n");
    const refused = run({ f: "actions=push_vlan:0x8100" }, "parse-flows", "f", "-O", "OpenFlow10");
    assert.equal(refused.code, 4);
    assert.match(refused.err, /OpenFlow versions is not supported/);
  });

  it("names a file that cannot be read and ends with 1", () => {
    const { err, code } = run({}, "parse-flows", "none");
    assert.equal(err, "Cannot read none: no such file\n");
    assert.equal(code, 1);
  });
});

describe("ofxdp parse-groups", () => {
  const groups = [
    "group_id=1,type=all,bucket=output:1,bucket=output:2",
    "group_id=7,type=select,bucket=weight=5,output:1,bucket=actions=set_field:00:11:22:33:44:55->eth_src,output:2",
    "group_id=1,type=select,selection_method=hash,fields(ip_src,tcp_dst=0xff00),bucket=1",
    "group_id=1,type=select,selection_method=hash,selection_method_param=3,fields=eth_dst,bucket=1,bucket=bucket_id=7,2",
    "group_id=1,type=select,selection_method=hash,fields(tcp_src,ip_dst=255.255.0.0,eth_src),bucket=bucket_id=5,1,bucket=2",
    "group_id=1,type=select,selection_method=dp_hash,bucket=1",
    "group_id=1,type=ff,bucket=watch_port:3,1,bucket=watch_group=4,drop",
    "group_id=1,type=fast_failover,bucket=watch_port:3,watch_group=2,NORMAL",
    "group_id=1,type=indirect,bucket=weight=0,resubmit(,2)",
    "group_id=2,type=all",
    "group_id=2,type=select,bucket=weight:0,drop",
    "group_id=3,type=all,bucket=mod_vlan_vid:3,strip_vlan,mod_nw_tos:16,dec_ttl(1,2),move:NXM_NX_REG0[]->NXM_NX_REG1[]",
    "group_id=4294967040,type=all,bucket=set_field:1->tcp_dst,load:3->NXM_OF_IP_SRC[],group:3",
  ];
  for (const version of ["OpenFlow10", "OpenFlow13", "OpenFlow15"]) {
    it(`prints ${groups.length} groups as ovs-ofctl -O ${version} parse-group`, () => {
      const want = groups.map((group) => {
        const { stdout, stderr } = spawnSync("ovs-ofctl", ["-O", version, "parse-group", group], { encoding: "utf8" });
        const printed = /ADD (.*)/.exec(stdout)?.[1];
        assert.ok(printed !== undefined, `${group}: ${stdout}${stderr}`);
        return printed;
      });
      // Properties of select groups are dropped without a word by versions that have none.
      const file = groups.map((group) => (version === "OpenFlow13" ? withoutProperties(group) : group));
      const { out, err } = run({ g: file.join("\n") }, "parse-groups", "g", "-O", version);
      assert.equal(err, "");
      assert.deepEqual(out.trimEnd().split("\n"), want);
    });
  }

  const wrong: [group: string, column: number, message: RegExp][] = [
    ["type=all,bucket=1", 1, /want group_id=/],
    ["group_id=1,bucket=1", 1, /want type=/],
    ["group_id=1,type=some,bucket=1", 17, /want all, select, indirect or ff/],
    ["group_id=4294967041,type=all", 10, /want a number from 0 to 4294967040/],
    ["group_id=1,type=all,bucket=weight=1,1", 28, /Cannot give a bucket of type all a weight/],
    ["group_id=1,type=indirect,bucket=1,bucket=2", 42, /Cannot use 2 buckets/],
    ["group_id=1,type=ff,bucket=1", 27, /without watch_port or watch_group/],
    ["group_id=1,type=all,bucket=", 28, /Cannot find the actions of the bucket/],
    ["group_id=1,type=all,bucket=1,goto_table:3", 30, /Cannot use goto_table within a bucket/],
    ["group_id=1,type=select,fields=ip_src,bucket=1", 24, /without selection_method=hash/],
    ["group_id=1,type=select,selection_method_param=3,bucket=1", 24, /without selection_method/],
    ["group_id=1,type=select,selection_method=hash,fields(ip_src,ip_src),bucket=1", 60, /twice/],
    ["group_id=1,type=select,selection_method=hash,fields(bogus),bucket=1", 53, /Cannot find field "bogus"/],
    ["group_id=1,type=all,bucket=bucket_id=0,1,bucket=2", 49, /Cannot number two buckets 0/],
    ["group_id=1,type=all,bucket=watch_port=3,1", 28, /Cannot watch a port/],
  ];
  for (const [group, column, message] of wrong) {
    it(`refuses ${group}, as OVS does`, () => {
      const { err, code } = run({ g: group }, "parse-groups", "g");
      assert.ok(err.startsWith(`g:1:${column}: `), err);
      assert.match(err, message);
      assert.equal(code, 1);
      const { status, stdout } = spawnSync("ovs-ofctl", ["parse-group", group], { encoding: "utf8" });
      assert.ok(status !== 0 || stdout.includes("decode error"), stdout);
    });
  }
});

const withoutProperties = (group: string): string =>
  group
    .replace(/,selection_method(_param)?=\w+/g, "")
    .replace(/,fields(\([^)]*\)|=\w+)/, "")
    .replace(/bucket_id=\d+,/, "");
