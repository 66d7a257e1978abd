// What npm publishes can be installed elsewhere and works there: the package with both workspaces in it, and each
// workspace as a package of its own.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { skip } from "./support/skip.js";

const TIMEOUT_MS = 240_000;

/** What npm tells its scripts about the package that it runs them for; another npm must not take it for its own. */
const OF_OUTER_NPM = /^npm_(config_local_prefix|package_|lifecycle_|command)/;
const ENV = Object.fromEntries(Object.entries(process.env).filter(([name]) => !OF_OUTER_NPM.test(name)));

interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}
const run = (cwd: string, command: string, args: readonly string[], input = ""): Ran =>
  spawnSync(command, args, { cwd, input, env: ENV, encoding: "utf8", timeout: TIMEOUT_MS });

/** Runs what must succeed. */
const output = (...args: Parameters<typeof run>): string => {
  const { status, stdout, stderr } = run(...args);
  assert.equal(status, 0, `${args[1]} ${args[2].join(" ")}: ${stderr}`);
  return stdout;
};

const NO_REGISTRY = /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|ENOTCACHED)\b/;
const NPM_QUIET = ["--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"];

describe("npm pack", function () {
  this.timeout(TIMEOUT_MS);
  let dir: string;

  /** The archives that npm makes of the package or of some workspaces. */
  const pack = (name: string, ...args: readonly string[]): string[] => {
    const to = join(dir, name);
    mkdirSync(to);
    output(".", "npm", ["pack", "--pack-destination", to, "--loglevel=error", ...args]);
    return readdirSync(to).map((file) => join(to, file));
  };

  /** An empty folder with the archives installed. */
  const install = (context: Mocha.Context, name: string, archives: readonly string[]): string => {
    const to = join(dir, name);
    mkdirSync(to);
    const { status, stderr } = run(to, "npm", ["install", ...NPM_QUIET, ...archives]);
    if (status !== 0 && NO_REGISTRY.test(stderr)) skip(context, "needs the npm registry");
    assert.equal(status, 0, stderr);
    return to;
  };

  before(() => {
    dir = mkdtempSync(join(tmpdir(), "ofxdp-pack-"));
  });
  after(() => rmSync(dir, { recursive: true }));

  describe("of ofxdp", () => {
    let archive: string;
    let folder: string;

    before(function () {
      const archives = pack("root");
      assert.equal(archives.length, 1);
      archive = archives[0]!;
      folder = install(this, "root-installed", archives);
    });

    it("holds programs, documents and examples, but no tests, sources and build state", () => {
      const files = output(".", "tar", ["-tzf", archive]).trim().split("\n");
      const ours = files.filter((file) => !/^package\/node_modules\/(?!ebpf-assembler\/|libbpf-ts\/)/.test(file));
      for (const file of [
        "LICENSE",
        "README.md",
        "ARCHITECTURE.md",
        "NEWS.md",
        "examples/README.md",
        "runtime/dist/bin/ofxdp.js",
        "runtime/dist/bin/ofxdpd.js",
        "compiler/dist/index.d.ts",
        "node_modules/ebpf-assembler/dist/index.js",
        "node_modules/libbpf-ts/dist/index.js",
      ])
        assert.ok(ours.includes(`package/${file}`), file);
      const unwanted = /(^package\/(test|bench|\.ci)\/|\.test\.|\.tsbuildinfo$|\.map$|(?<!\.d)\.ts$)/;
      assert.deepEqual(
        ours.filter((file) => unwanted.test(file)),
        [],
      );
    });

    it("installs ofxdp and ofxdpd", () => {
      for (const name of ["ofxdp", "ofxdpd"])
        assert.match(output(folder, `node_modules/.bin/${name}`, ["--version"]), /^\d+\.\d+\.\d+\n$/);
    });

    it("parses, compiles and replays flows where it is installed", () => {
      const ofxdp = (args: readonly string[], input = ""): string =>
        output(folder, "node_modules/.bin/ofxdp", args, input);
      assert.equal(ofxdp(["parse-flows", "-"], "tcp,actions=2\n"), "tcp actions=output:2\n");
      ofxdp(["compile", "-", "-o", "out.o"], "tcp,actions=output:2\n");
      const examples = "node_modules/ofxdp/examples";
      const packets = ["--packets", `${examples}/campus.jsonl`];
      const replayed = ofxdp(["replay", `${examples}/campus.flows`, ...packets, "--engine", "kernel"]);
      assert.equal(replayed, ofxdp(["replay", `${examples}/campus.flows`, ...packets]));
    });

    it("resolves ebpf-assembler and libbpf-ts from within", () => {
      const code = `import { exit, program } from "ebpf-assembler";
        import { linux } from "libbpf-ts";
        console.log(typeof exit, typeof program, typeof linux);`;
      assert.equal(
        output(join(folder, "node_modules/ofxdp"), process.execPath, ["--input-type=module", "--eval", code]),
        "function function function\n",
      );
    });
  });

  it("of ebpf-assembler and libbpf-ts gives packages that work alone", function () {
    const archives = pack("workspaces", "--workspace", "bpf", "--workspace", "loader");
    assert.equal(archives.length, 2);
    const folder = install(this, "workspaces-installed", archives);
    writeFileSync(
      join(folder, "user.mjs"),
      `import { assembleText, exit } from "ebpf-assembler";
       import { linux } from "libbpf-ts";
       console.log(typeof assembleText, typeof exit, typeof linux);`,
    );
    assert.equal(output(folder, process.execPath, ["user.mjs"]), "function function function\n");
    const example = join(folder, "node_modules/ebpf-assembler/example.mjs");
    assert.match(output(folder, process.execPath, [example]), /drop UDP to port 9/);
  });
});
