import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { readElf, Vm } from "ebpf-assembler";
import { linux, loadObject } from "libbpf-ts";
import { addCompilerCommands, type Io } from "#compiler";

const FLOWS = `table=0,priority=10,ip,nw_dst=10.0.2.0/24 actions=dec_ttl,mod_dl_dst:02:00:00:00:00:03,output:3
table=0,priority=5,arp actions=FLOOD
`;

const run = (flows: string, ...args: string[]): { out: string; err: string; code: number } => {
  const result = { out: "", err: "", code: 0 };
  const io: Io = {
    readText: () => flows,
    out: (text) => (result.out += text),
    err: (text) => (result.err += text),
    exit: (status) => (result.code = status),
  };
  const program = new Command().exitOverride().configureOutput({ writeErr: (text) => (result.err += text) });
  addCompilerCommands(program, io);
  program.parse(["compile", ...args], { from: "user" });
  return result;
};

const CACHE = ["--mode", "megaflow"] as const;

describe("ofxdp compile", () => {
  let dir: string;
  before(() => (dir = mkdtempSync(join(tmpdir(), "ofxdp-compile-"))));
  after(() => rmSync(dir, { recursive: true }));

  for (const hook of ["xdp", "tc"] as const) {
    it(`writes an object for ${hook} that reads back, loads into the kernel and has the flows as source lines`, () => {
      const file = join(dir, `${hook}.o`);
      assert.deepEqual(run(FLOWS, "a.flows", "-o", file, "--hook", hook, ...CACHE), { out: "", err: "", code: 0 });
      const object = readElf(new Uint8Array(readFileSync(file)));
      assert.deepEqual(
        object.programs.map(({ name }) => name),
        [`main_${hook}`],
      );
      const lines = object.programs[0]!.lines.map(({ origin }) => origin);
      assert.ok(lines.some(({ line, text }) => line === 1 && text.includes("nw_dst=10.0.2.0/24")));
      using loaded = loadObject(linux(), object);
      assert.ok(loaded.program(`main_${hook}`).info.verifiedInsns > 100);
      // A packet that nobody knows is dropped by the program and handed up.
      const vm = new Vm(object);
      const packet = new Uint8Array(60).fill(2);
      assert.equal(vm.run(`main_${hook}`, { hook, packet, ingressIfindex: 1 }).verdict, hook === "xdp" ? 1 : 2);
      assert.equal(vm.map("upcalls").drain().length, 1);
    });
  }

  for (const hook of ["xdp", "tc"] as const) {
    it(`compiles tables directly for ${hook}: the object reads back, loads, forwards and counts without user space`, () => {
      const file = join(dir, `direct-${hook}.o`);
      const flows = "table=0,priority=10,dl_type=0x0800,in_port=1 actions=mod_dl_dst:02:00:00:00:00:03,output:3\n";
      assert.deepEqual(run(flows, "a.flows", "-o", file, "--hook", hook, "--mode", "direct"), {
        out: "",
        err: "",
        code: 0,
      });
      const object = readElf(new Uint8Array(readFileSync(file)));
      using loaded = loadObject(linux(), object);
      assert.ok(loaded.program(`main_${hook}`).info.verifiedInsns > 10);
      const vm = new Vm(object);
      const packet = new Uint8Array(60).fill(2);
      packet.set([8, 0], 12);
      const result = vm.run(`main_${hook}`, { hook, packet, ingressIfindex: 1 });
      assert.equal(result.redirect?.ifindex, 3);
      assert.deepEqual([...result.packet.subarray(0, 6)], [2, 0, 0, 0, 0, 3]);
      const stats = object.maps.find(({ valueSize }) => valueSize === 16)!;
      assert.equal(new DataView(vm.map(stats.name).lookup(new Uint8Array(4))!.buffer).getBigUint64(0, true), 1n);
    });
  }

  it("reports tables, key, shapes and maps as words and as JSON", () => {
    const file = join(dir, "r.o");
    const words = run(FLOWS, "a.flows", "-o", file, ...CACHE, "--report").out;
    assert.match(words, /^table 0: 2 rules, megaflow/m);
    assert.match(
      words,
      /^actions set\(eth\(dst=02:00:00:00:00:03\)\),set\(ipv4\(ttl=63\)\),3: 1[0-9] bytes of arguments/m,
    );
    assert.match(words, /^program main_xdp: \d+ instructions, \d+ bytes of stack, about \d+ steps of the verifier/m);
    const facts = JSON.parse(run(FLOWS, "a.flows", "-o", file, ...CACHE, "-j").out) as { key: { members: string[] } };
    assert.deepEqual(facts.key.members, ["in_port", "dl_type", "dl_dst", "nw_proto", "nw_ttl", "nw_dst"]);
  });

  it("prints the intermediate representation and the instructions", () => {
    assert.match(run(FLOWS, "a.flows", ...CACHE, "--emit", "ir").out, /@entry/);
    assert.match(run(FLOWS, "a.flows", ...CACHE, "--emit", "asm").out, /call bpf_map_lookup_elem#1/);
    assert.match(run(FLOWS, "--list-passes").out, /^drop-dead: /m);
    assert.match(run(FLOWS, "a.flows", "--print-after", "drop-dead").out, /@entry/);
  });

  it("takes direct mode where a program can carry all tables, megaflow mode elsewhere, and says why", () => {
    const report = (flows: string, ...args: readonly string[]): string =>
      run(flows, "a.flows", "-o", join(dir, "auto.o"), "--report", ...args).out;
    assert.match(report(FLOWS), /^xdp, direct mode: every rule of every table is code or data/);
    assert.match(
      report("table=0,actions=goto_table:1\ntable=1,ip actions=controller\n"),
      /^xdp, megaflow mode: .*table 1/,
    );
    assert.match(report("actions=output:2,output:3\n"), /^xdp, megaflow mode: .*XDP cannot clone/);
    assert.match(report("actions=output:2,output:3\n", "--hook", "tc"), /^tc, direct mode/);
    const partly = report(`${FLOWS}table=0,priority=65535,icmp actions=controller\n`, "--unhandled", "pass");
    assert.match(partly, /^xdp, direct mode: all but 1 of \d+ rules are code or data/);
    assert.match(partly, /^table 0: a rule falls back: copy to the controller: user space sends it: .*icmp/m);
    assert.match(partly, /^packets that fall back are counted in map unhandled and passed on to the host$/m);
  });

  it("knows ports by the names that --port gives", () => {
    const flows = "in_port=uplink,actions=output:web\n";
    const { out, code } = run(flows, "a.flows", "--port", "1=uplink", "--port", "7=web", "--report");
    assert.equal(code, 0);
    assert.match(out, /^actions 7: 4 bytes of arguments, for in_port=uplink,actions=output:web$/m);
    assert.equal(run(flows, "a.flows", "--report").code, 1);
  });

  const refusals: readonly { name: string; flows: string; args: readonly string[]; code: number; err: RegExp }[] = [
    {
      name: "bad flow text",
      flows: "table=0,nw_dst=x,ip actions=1\n",
      args: ["a.flows", "-o", "x.o"],
      code: 1,
      err: /^a\.flows:1:\d+: .*x/,
    },
    { name: "no place for the object", flows: FLOWS, args: ["a.flows"], code: 1, err: /give -o FILE/ },
    {
      name: "hardware",
      flows: FLOWS,
      args: ["a.flows", "-o", "x.o", "--hook", "offload"],
      code: 4,
      err: /nfp does not carry action output:3: .*what fits: drop, output:IN_PORT/,
    },
    {
      name: "what needs user space in direct mode",
      flows: "table=0,arp actions=NORMAL\n",
      args: ["a.flows", "-o", "x.o", "--mode", "direct"],
      code: 4,
      err: /a\.flows:1: Cannot compile table 0 in direct mode: NORMAL: user space learns addresses/,
    },
    {
      name: "an unknown pass",
      flows: FLOWS,
      args: ["a.flows", "--print-after", "magic"],
      code: 1,
      err: /No pass magic: want one of fold-constants/,
    },
  ];
  for (const { name, flows, args, code, err } of refusals) {
    it(`refuses ${name} with status ${code}`, () => {
      const result = run(flows, ...args);
      assert.equal(result.code, code);
      assert.match(result.err, err);
      assert.equal(result.out, "");
    });
  }
});
