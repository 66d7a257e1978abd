// What the documents show is true: each command under a `$` in a ```console block is run, and prints what the block says.
// UPDATE=1 writes what it prints into the document.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import process from "node:process";

const TIMEOUT_MS = 60_000;
const BLOCK = /(?<=^```console\n).*?(?=^```$)/gms;

const documents = (): string[] => [
  "README.md",
  "ARCHITECTURE.md",
  "examples/README.md",
  ...readdirSync("docs")
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];

/** Runs what is under each `$` and returns the block with what was printed, trailing spaces and lines removed. */
const played = (block: string, cwd: string, bin: string): string => {
  const commands = block.split("\n").filter((line) => line.startsWith("$ "));
  const outputs = commands.map((command) => {
    const { stdout, stderr, status } = spawnSync("sh", ["-c", command.slice(2)], {
      cwd,
      encoding: "utf8",
      timeout: TIMEOUT_MS,
      env: { ...process.env, PATH: `${bin}:${process.env["PATH"]}` },
    });
    assert.equal(status, 0, `${command}: ${stderr}`);
    return `${command}\n${stdout.replace(/[ \t]+$/gm, "").trim()}\n`;
  });
  return outputs.join("\n");
};

describe("documents", function () {
  this.timeout(3 * TIMEOUT_MS);
  let bin: string;

  before(() => {
    bin = mkdtempSync(join(tmpdir(), "ofxdp-bin-"));
    for (const name of ["ofxdp", "ofxdpd"]) {
      const file = join(bin, name);
      writeFileSync(
        file,
        `#!/bin/sh\nexec "${process.execPath}" "${resolve("runtime/dist/bin", `${name}.js`)}" "$@"\n`,
        {
          mode: 0o755,
        },
      );
    }
  });

  after(() => rmSync(bin, { recursive: true }));

  for (const path of documents()) {
    const text = readFileSync(path, "utf8");
    const blocks = [...text.matchAll(BLOCK)];
    if (blocks.length === 0) continue;
    it(`${path} shows what its commands print`, () => {
      const now = text.replace(BLOCK, (block) => played(block, dirname(path), bin));
      if (process.env["UPDATE"] === "1") writeFileSync(path, now);
      else assert.equal(now, text);
    });
  }

  it("examples/README.md has commands", () => {
    assert.ok((readFileSync("examples/README.md", "utf8").match(/^\$ ofxdp /gm) ?? []).length >= 3);
  });
});
