// The commands replay and trace, run in this process with an outside world of their own.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readPcap, writePcap } from "#compiler";
import { fromHex, toHex } from "ebpf-assembler";
import { runCommand as run } from "../../support/cli.js";

// 02:…:01 -> 02:…:02 and back, UDP over IPv4, TTL 64.
const THERE = "02000000000202000000000108004500002000000000401166ab0a0000010a00000200350035000c000000000000";
const BACK = "02000000000102000000000208004500002000000000401166ab0a0000020a00000100350035000c000000000000";
const line = (inPort: number, packet: string): string => `${JSON.stringify({ in_port: inPort, packet })}\n`;

interface Line {
  readonly in_port: number;
  readonly outputs: readonly { readonly port: number; readonly packet: string }[];
  readonly controller: readonly { readonly reason: string; readonly table: number }[];
  readonly path: string;
  readonly megaflow: string;
  readonly actions: string;
}

const replay = (files: Readonly<Record<string, string>>, ...args: string[]): Line[] => {
  const { out, err, code } = run(files, "replay", "f", "-j", ...args);
  assert.equal(err, "");
  assert.equal(code, 0, out);
  return out
    .trim()
    .split("\n")
    .map((text) => JSON.parse(text) as Line);
};

describe("ofxdp replay", () => {
  const ports = (result: Line): number[] => result.outputs.map(({ port }) => port);

  for (const engine of ["reference", "vm"]) {
    it(`--engine ${engine} floods, learns, and forwards from the cache; state carries on`, () => {
      const packets = line(1, THERE) + line(2, BACK) + line(1, THERE) + line(1, THERE);
      const files = { f: "", "p.jsonl": packets };
      const results = replay(files, "--packets", "p.jsonl", "--ports", "1,2,3", "--engine", engine);
      assert.deepEqual(results.map(ports), [[2, 3], [1], [2], [2]]);
      assert.deepEqual(
        results.map(({ path }) => path),
        engine === "reference" ? ["miss", "miss", "miss", "hit"] : results.map(({ path }) => path),
      );
      assert.equal(results[3]!.actions, "2");
      assert.match(
        results[3]!.megaflow,
        /^recirc_id\(0\),in_port\(1\),eth\(src=02:00:00:00:00:01,dst=02:00:00:00:00:02\)/,
      );
    });

    it(`--engine ${engine} carries edits out on the bytes`, () => {
      const files = { f: "ip,actions=mod_dl_dst:02:00:00:00:00:09,dec_ttl,output:2", "p.jsonl": line(1, THERE) };
      const [result] = replay(files, "--packets", "p.jsonl", "--engine", engine);
      const want = THERE.replace("020000000002", "020000000009").replace("40116", "3f116").replace("66ab", "67ab");
      assert.deepEqual(result!.outputs, [{ port: 2, packet: want }]);
      assert.equal(result!.actions, "set(eth(dst=02:00:00:00:00:09)),set(ipv4(ttl=63)),2");
    });
  }

  it("says what goes to the controller, and that user space carries it", () => {
    const files = { f: "actions=controller", "p.jsonl": line(1, THERE) + line(1, THERE) };
    const results = replay(files, "--packets", "p.jsonl");
    assert.deepEqual(results[1]!.controller, [{ reason: "action", table: 0, packet: THERE }]);
    assert.deepEqual(
      results.map(({ path }) => path),
      ["miss", "slow"],
    );
  });

  it("drops a frame shorter than an Ethernet header", () => {
    const [result] = replay(
      { f: "actions=FLOOD", "p.jsonl": line(1, "0200") },
      "--packets",
      "p.jsonl",
      "--ports",
      "1,2",
    );
    assert.deepEqual(result!.outputs, []);
  });

  it("--pcap takes captures in the order of their times and -o writes one per port", () => {
    const dir = mkdtempSync(join(tmpdir(), "ofxdp-replay-"));
    try {
      const [one, two] = [join(dir, "1.pcap"), join(dir, "2.pcap")];
      writeFileSync(one, writePcap([{ packet: fromHex(THERE), timeNs: 3_000_000_000n }]));
      writeFileSync(two, writePcap([{ packet: fromHex(BACK), timeNs: 2_000_000_000n }]));
      const results = replay(
        { f: "" },
        "--pcap",
        `1=${one}`,
        "--pcap",
        `2=${two}`,
        "--ports",
        "1,2,3",
        "-o",
        join(dir, "out"),
      );
      assert.deepEqual(
        results.map((result) => [result.in_port, ports(result)]),
        [
          [2, [1, 3]],
          [1, [2]],
        ],
      );
      const read = (name: string): string[] =>
        readPcap(new Uint8Array(readFileSync(join(dir, "out", name)))).map(({ packet }) => toHex(packet));
      assert.deepEqual(read("port-1.pcap"), [BACK]);
      assert.deepEqual(read("port-2.pcap"), [THERE]);
      assert.deepEqual(read("port-3.pcap"), [BACK]);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it("forgets an idle flow when the time of the capture has passed", () => {
    const dir = mkdtempSync(join(tmpdir(), "ofxdp-replay-"));
    try {
      const file = join(dir, "1.pcap");
      const at = (seconds: bigint): { packet: Uint8Array; timeNs: bigint } => ({
        packet: fromHex(THERE),
        timeNs: seconds * 1_000_000_000n,
      });
      writeFileSync(file, writePcap([at(1n), at(2n), at(20n)]));
      const flows = "idle_timeout=5,priority=2,actions=output:2\npriority=1,actions=output:3\n";
      assert.deepEqual(replay({ f: flows }, "--pcap", `1=${file}`).map(ports), [[2], [2], [3]]);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it("names the line of a packet that is none, and ends with 1", () => {
    const { err, code } = run({ f: "", "p.jsonl": '\n{"in_port":"x"}\n' }, "replay", "f", "--packets", "p.jsonl");
    assert.match(err, /^Cannot read p\.jsonl:2: want \{"in_port":N,"packet":"HEX"\}/);
    assert.equal(code, 1);
  });

  it("names file and line of a flow that the switch refuses", () => {
    const { err, code } = run({ f: "actions=drop\nactions=group:7\n", p: "" }, "replay", "f", "--packets", "p");
    assert.equal(err, "f:2:1: Cannot use group 7: there is no such group\n");
    assert.equal(code, 1);
  });
});

describe("ofxdp trace", () => {
  it("explains a flow as ofproto/trace does, and names the hook", () => {
    const flows =
      "priority=10,ip,actions=dec_ttl,goto_table:1\ntable=1,cookie=0x5,actions=output:2,mod_dl_src:02:00:00:00:00:09,output:3\n";
    const { out, code } = run({ f: flows }, "trace", "f", "in_port=1,udp,nw_ttl=64,nw_dst=10.0.0.2");
    assert.equal(code, 0);
    assert.equal(
      out,
      [
        "Flow: udp,in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,nw_src=0.0.0.0,nw_dst=10.0.0.2,nw_tos=0,nw_ecn=0,nw_ttl=64,nw_frag=no,tp_src=0,tp_dst=0",
        "",
        'bridge("br0")',
        "-------------",
        " 0. ip, priority 10",
        "    dec_ttl",
        "    goto_table:1",
        " 1. priority 32768, cookie 0x5",
        "    output:2",
        "    mod_dl_src:02:00:00:00:00:09",
        "    output:3",
        "",
        "Final flow: udp,in_port=1,vlan_tci=0x0000,dl_src=02:00:00:00:00:09,dl_dst=00:00:00:00:00:00,nw_src=0.0.0.0,nw_dst=10.0.0.2,nw_tos=0,nw_ecn=0,nw_ttl=63,nw_frag=no,tp_src=0,tp_dst=0",
        "Megaflow: recirc_id=0,eth,ip,in_port=1,dl_src=00:00:00:00:00:00,nw_ttl=64,nw_frag=no,nw_proto=0x1/0x1",
        "Datapath actions: set(ipv4(ttl=63)),2,set(eth(src=02:00:00:00:00:09)),3",
        "Carried by: tc: 2 outputs with different edits: XDP cannot clone",
        "",
      ].join("\n"),
    );
  });

  it("--packet traces bytes, -j prints facts", () => {
    const { out } = run(
      { f: "actions=FLOOD" },
      "trace",
      "f",
      "--packet",
      THERE,
      "--in-port",
      "1",
      "--ports",
      "1,2",
      "-j",
    );
    const facts = JSON.parse(out) as { readonly actions: string; readonly hook: string; readonly final_flow: string };
    assert.equal(facts.actions, "2");
    assert.equal(facts.hook, "xdp");
    assert.equal(facts.final_flow, "unchanged");
  });

  it("wants either a flow or a packet and its port", () => {
    const { err, code } = run({ f: "" }, "trace", "f", "--packet", THERE);
    assert.match(err, /want|give either a flow, or --packet and --in-port/);
    assert.equal(code, 1);
  });
});
