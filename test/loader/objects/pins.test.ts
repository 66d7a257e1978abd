import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BpfMap, isBpffs, linux, mountBpffs, PinDirectory, Program, unmountEmptyBpffs } from "libbpf-ts";
import { checkNoLeaks, frame, mapSpec, returning, u32, u64 } from "../fixtures.js";

describe("PinDirectory", () => {
  checkNoLeaks();
  const sys = linux();
  let root: string;
  before(() => {
    root = mkdtempSync(join(tmpdir(), "loader-pins-"));
    assert.equal(mountBpffs(sys, root), true);
    assert.equal(mountBpffs(sys, root), false, "one is enough");
  });
  after(() => {
    assert.equal(unmountEmptyBpffs(sys, root), true);
    assert.equal(isBpffs(root), false);
    rmSync(root, { recursive: true });
  });

  it("keeps a map and a program alive after they were closed", () => {
    const pins = PinDirectory.create(sys, join(root, "one", "two"));
    assert.equal(statSync(pins.path).mode & 0o777, 0o700);
    {
      using map = BpfMap.create(sys, mapSpec("kept", { entries: [[u32(1), u64(5n)]] }));
      using program = Program.load(sys, returning("kept", 2), new Map());
      pins.pin("map", map);
      pins.pin("program", program);
    }
    using map = pins.map("map");
    assert.equal(map.lookup(u32(1)), true);
    assert.deepEqual(map.value, u64(5n));
    using program = pins.program("program");
    assert.equal(program.testRun({ data: frame() }).retval, 2);
    assert.deepEqual(pins.list(), ["map", "program"]);
    assert.throws(() => pins.map("program"), /want a map, got anon_inode:bpf-prog/);
    assert.throws(() => pins.link("map"), /want a link, got anon_inode:bpf-map/);
    pins.remove();
    assert.equal(PinDirectory.find(sys, pins.path), undefined);
    rmSync(join(root, "one"), { recursive: true });
  });

  it("replace() puts another object under the name", () => {
    const pins = PinDirectory.create(sys, join(root, "r"));
    for (const value of [1, 2]) {
      using program = Program.load(sys, returning("next", value), new Map());
      if (value === 1) pins.pin("p", program);
      else {
        assert.throws(() => pins.pin("p", program), /EEXIST/);
        pins.replace("p", program);
      }
    }
    using program = pins.program("p");
    assert.equal(program.testRun({ data: frame() }).retval, 2);
    assert.deepEqual(pins.list(), ["p"]);
    assert.equal(pins.unpin("p"), true);
    assert.equal(pins.unpin("p"), false);
    pins.remove();
  });

  it("create() refuses a place that is in no BPF file system, and names that are no names", () => {
    assert.throws(() => PinDirectory.create(sys, "/tmp/nowhere/at/all"), /in no BPF file system/);
    const pins = PinDirectory.create(sys, join(root, "n"));
    assert.throws(() => pins.unpin("../n"), /Bad pin name/);
    assert.throws(() => pins.map("absent"), /ENOENT/);
    pins.remove();
  });

  it("mountBpffs() refuses a private mount namespace, where pins would vanish with the process", () => {
    const script = `
      import { linux, mountBpffs } from "libbpf-ts";
      try { mountBpffs(linux(), ${JSON.stringify(join(root, "..", "loader-private"))}); }
      catch (error) { console.log(error.exitCode, error.message); }
    `;
    const args = ["--mount", process.execPath, "--input-type=module", "-e", script];
    assert.match(
      execFileSync("unshare", args, { encoding: "utf8" }),
      /^4 A BPF file system at .*private mount namespace is not supported: .*nsenter --net/,
    );
  });

  it("unmountEmptyBpffs() leaves a file system that is in use or somebody else's", () => {
    const pins = PinDirectory.create(sys, join(root, "used"));
    assert.equal(unmountEmptyBpffs(sys, root), false);
    pins.remove();
    const other = mkdtempSync(join(tmpdir(), "loader-bpffs-"));
    execFileSync("mount", ["-t", "bpf", "bpf", other]);
    assert.equal(unmountEmptyBpffs(sys, other), false);
    execFileSync("umount", [other]);
    rmSync(other, { recursive: true });
  });
});
