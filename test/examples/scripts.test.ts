import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";

const inExamples = (name: string): string => fileURLToPath(new URL(`../../../examples/${name}`, import.meta.url));
const OFXDP = fileURLToPath(new URL("../../../runtime/dist/bin/ofxdp.js", import.meta.url));

/** Runs a command that must succeed. @returns what it printed */
const run = (command: string, ...args: readonly string[]): string => {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8", timeout: 60_000 });
  assert.equal(status, 0, stderr);
  return stdout;
};

describe("examples", function () {
  this.timeout(70_000);

  it("learning-switch.sh: two hosts reach each other, their addresses are learned, nothing stays", () => {
    const before = readdirSync(tmpdir());
    const out = run(inExamples("learning-switch.sh"));
    assert.match(out, /5 packets transmitted, 5 received/);
    const macs = /port {2}VLAN {2}MAC.*\n((?: .*\n)+)/.exec(out)?.[1]?.trimEnd().split("\n") ?? [];
    assert.deepEqual(macs.map((row) => Number(row.trim().split(/ +/)[0])).sort(), [1, 2]);
    const pings = out
      .split("\n")
      .filter((line) => /eth_type\(0x0800\).*packets:[1-9]\d*, .*dp:tc, actions:[12]$/.test(line));
    assert.equal(pings.length, 2);
    assert.deepEqual(
      readdirSync("/var/run/netns").filter((name) => name.startsWith("ofxdp-ls-")),
      [],
    );
    assert.deepEqual(
      readdirSync(tmpdir()).filter((name) => name.startsWith("tmp.") && !before.includes(name)),
      [],
    );
  });

  it("compile.sh: bpftool loads what the compiler wrote, and shows the flows in it", () => {
    const out = run(inExamples("compile.sh"));
    assert.match(out, /^table 4: 5 rules/m);
    assert.match(out, /sched_cls {2}name main_tc .*gpl/);
    assert.match(out, /^; table=1, priority=40, tcp, tp_dst=23 actions=drop/m);
  });

  describe("campus.jsonl", () => {
    interface Line {
      readonly in_port: number;
      readonly outputs: readonly { readonly port: number; readonly packet: string }[];
      readonly path: string;
      readonly actions: string;
    }
    const replay = (engine: string): Line[] =>
      run(
        process.execPath,
        OFXDP,
        "replay",
        inExamples("campus.flows"),
        "--packets",
        inExamples("campus.jsonl"),
        "--engine",
        engine,
        "-j",
      )
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line) as Line);
    /** In port, out port (0: nowhere), and how the packet went. */
    const want = [
      [1, 1, "miss"], // alice asks for the router's MAC address
      [1, 3, "miss"], // alice pings web
      [3, 1, "miss"], // which answers
      [1, 2, "miss"], // alice pings bob
      [2, 1, "miss"], // who answers, with his tag
      [2, 0, "miss"], // a tag that bob's port may not have
      [1, 0, "miss"], // telnet
      [1, 3, "miss"], // https
      [1, 3, "hit"], //  a second connection, by the same megaflow
      [2, 0, "miss"], // ssh over IPv6
      [2, 3, "miss"], // https over IPv6
      [1, 0, "miss"], // a forged source address
    ];

    it("has one packet of each kind that campus.flows tells apart", () => {
      assert.deepEqual(
        replay("reference").map(({ in_port, outputs, path }) => [in_port, outputs[0]?.port ?? 0, path]),
        want,
      );
    });

    for (const engine of ["vm", "kernel"]) {
      it(`has the same outcome in the engine ${engine}`, () =>
        assert.deepEqual(
          replay(engine).map(({ outputs, path }) => ({ outputs, path })),
          replay("reference").map(({ outputs, path }) => ({ outputs, path })),
        ));
    }
  });

  it("campus.flows is accepted by ovs-ofctl, flow by flow", () => {
    const flows = readFileSync(inExamples("campus.flows"), "utf8")
      .split("\n")
      .filter((line) => /^table=/.test(line));
    const out = run("ovs-ofctl", "-O", "OpenFlow13", "parse-flows", inExamples("campus.flows"));
    assert.equal(out.match(/ADD /g)?.length, flows.length);
  });
});
