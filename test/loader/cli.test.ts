import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { writeElf, type ObjectSpec } from "ebpf-assembler";
import { addLoaderCommands, FaultSys, Link, linux, Program, type Sys } from "libbpf-ts";
import { checkNoLeaks, returning, unchecked } from "./fixtures.js";
import { VethLab } from "./lab.js";
import { hasFeature, tcWay } from "../support/kernel.js";

const sys = linux();

/** What a command line printed and returned. */
interface Outcome {
  readonly out: string;
  readonly err: string;
  readonly code: number | undefined;
}

describe("addLoaderCommands()", () => {
  checkNoLeaks();

  describe("on a veth pair", () => {
    let lab: VethLab;
    let dir: string;
    let object: ObjectSpec;
    beforeEach(() => {
      lab = new VethLab();
      dir = mkdtempSync(join(tmpdir(), "loader-cli-"));
      object = { license: "GPL", maps: [], programs: [returning("main", 2), returning("tc", -1, "sched_cls")] };
      writeFileSync(join(dir, "f.o"), writeElf(object));
    });
    afterEach(() => {
      lab[Symbol.dispose]();
      rmSync(dir, { recursive: true });
    });

    const run = (line: readonly string[], on: Sys = sys): Outcome => {
      let [out, err] = ["", ""];
      let code: number | undefined;
      const command = new Command("ofxdp").exitOverride().configureOutput({ writeErr: (text) => (err += text) });
      addLoaderCommands(command, {
        sources: [{ flags: "--flows <file>", description: "flows", read: (file) => ({ ...object, license: file }) }],
        io: { out: (text) => (out += text), err: (text) => (err += text), exit: (c) => (code = c) },
        sys: () => on,
      });
      lab.b.ns.run(() => command.parse(line, { from: "user" }));
      return { out, err, code };
    };
    const load = (...more: string[]) => run(["load", "b", "--bpffs", join(dir, "fs"), ...more]);
    const obj = () => ["--obj", join(dir, "f.o")];
    const unload = (...more: string[]) => run(["unload", "b", "--bpffs", join(dir, "fs"), ...more]);
    const status = (...more: string[]) => run(["status", "--bpffs", join(dir, "fs"), ...more]);

    it("load, status and unload tell what they did, in words", () => {
      const { out, err, code } = load(...obj(), "--hook", "native");
      assert.match(out, /^b: loaded program "main" \(id \d+\) at native\n$/);
      assert.deepEqual([err, code], ["", 0]);
      assert.match(
        status().out,
        /^b \(index \d+, up\):\n {2}native +program id \d+ "main", ours(, \d+ steps of the verifier)?\n$/,
      );
      assert.match(load(...obj(), "--hook", "native").out, /^b: replaced by program "main"/);
      assert.deepEqual(unload(), { out: "", err: "", code: 0 });
      assert.match(status("b").out, /^b \(index \d+, up\): nothing attached\n$/);
      assert.equal(status().out, "");
    });

    it("load, status and unload tell the same as JSON", () => {
      const [installed] = JSON.parse(load(...obj(), "-j").out) as Record<string, unknown>[];
      assert.deepEqual(
        [installed?.["interface"], installed?.["hook"], installed?.["via"], installed?.["hasReplaced"]],
        ["b", "tc", tcWay(), false],
      );
      const [{ programs = [] } = {}] = JSON.parse(status("-j").out) as { programs?: { verifiedInsns: number }[] }[];
      const [{ verifiedInsns } = { verifiedInsns: -1 }] = programs;
      assert.ok(verifiedInsns >= 0);
      assert.deepEqual(JSON.parse(status("-j").out), [
        {
          interface: "b",
          ifindex: lab.b.interface.index,
          isUp: true,
          programs: [
            {
              hook: `${tcWay()}-ingress`,
              programId: installed?.["programId"],
              program: "tc",
              verifiedInsns,
              isOurs: true,
            },
          ],
        },
      ]);
      assert.deepEqual(JSON.parse(unload("-j").out), [{ interface: "b" }]);
    });

    it("load takes its object from another source, too, but from one only", () => {
      assert.equal(load("--flows", "GPL").code, 0);
      assert.equal(unload().code, 0);
      for (const line of [[], [...obj(), "--flows", "GPL"]]) {
        const { err, code } = load(...line);
        assert.deepEqual([err, code], ["ofxdp load: Want one of --obj <file>, --flows <file>\n", 1]);
      }
    });

    it("load on several interfaces is all or none", () => {
      const { err, code } = run(["load", "b", "none", ...obj(), "--bpffs", join(dir, "fs")]);
      assert.deepEqual([err, code], ['ofxdp load: No network interface named "none" in this network namespace\n', 1]);
      assert.equal(status().out, "");
    });

    it("exit 1 for an object file that cannot be read", () => {
      const { err, code } = load("--obj", join(dir, "absent.o"));
      assert.match(err, /^ofxdp load: Cannot read object file .*absent\.o: ENOENT/);
      assert.equal(code, 1);
      writeFileSync(join(dir, "f.o"), "not an object");
      assert.deepEqual(load(...obj()).code, 1);
    });

    it("exit 2 when there is nothing of ours to unload, and leave a foreign program alone", () => {
      using foreign = Program.load(sys, returning("foreign", 2), new Map());
      using _link = lab.b.ns.run(() => Link.xdp(sys, foreign, lab.b.interface.index, "generic"));
      assert.deepEqual(unload(), { out: "", err: "ofxdp unload: Nothing of ofxdp is loaded on b\n", code: 2 });
      assert.match(status().out, /generic +program id \d+ "foreign", foreign/);
      const { err, code } = load(...obj(), "--hook", "native");
      assert.match(err, /^ofxdp load: Cannot attach to XDP of b: program id \d+ is there; detach it first\n$/);
      assert.equal(code, 3);
    });

    it("exit 3 for a program that the verifier refuses, with the flow it came from", () => {
      const bad = {
        ...object,
        programs: [unchecked("bad", { text: "priority=9,tcp actions=drop", file: "f", line: 2 })],
      };
      writeFileSync(join(dir, "f.o"), writeElf(bad));
      const { err, code } = load(...obj());
      assert.match(
        err,
        /^ofxdp load: Cannot load program "bad": EACCES: 1: .* \(from f:2: priority=9,tcp actions=drop\)/,
      );
      assert.equal(code, 3);
      const { error } = JSON.parse(load(...obj(), "-j").out) as { error: Record<string, unknown> };
      assert.deepEqual([error["code"], error["program"], error["insn"]], ["EVERIFIER", "bad", 1]);
    });

    it("exit 4 for a missing privilege", () => {
      const denied = new FaultSys(sys, (call) => (call.startsWith("bpf(") ? 1 : 0));
      const { err, code } = run(["load", "b", ...obj(), "--bpffs", join(dir, "fs")], denied);
      assert.match(err, /^ofxdp load: Cannot .*EPERM.*needs root/);
      assert.equal(code, 4);
      assert.equal(status().out, "");
    });

    it("probe tells what kernel and interface can do", () => {
      const { out, code } = run(["probe", "b", "-j"]);
      const { features, interfaces } = JSON.parse(out) as {
        features: { name: string; isSupported: boolean }[];
        interfaces: Record<string, unknown>[];
      };
      assert.equal(code, 0);
      assert.equal(features.find((f) => f.name === "ringbuf")?.isSupported, true);
      assert.deepEqual([interfaces[0]?.["driver"], interfaces[0]?.["kind"]], ["veth", "veth"]);
      const words = run(["probe", "b"]).out;
      if (hasFeature("netdev_family")) assert.match(words, /\n {2}XDP in the driver: basic/);
      assert.match(words, /yes clsact .*\n(.*\n)*b: driver veth, kind veth, MTU 1500\n/);
    });

    it("commander refuses an unknown hook", () => {
      assert.throws(
        () => load(...obj(), "--hook", "nowhere"),
        /Allowed choices are auto, offload, native, generic, tc/,
      );
    });
  });
});
