import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { linux, Netns } from "libbpf-ts";
import { sweep } from "#runtime";

describe("sweep()", () => {
  it("removes what a process that ended has left, and nothing of one that is there", () => {
    const sys = linux();
    const { pid: gone } = spawnSync("true");
    const prefix = `ofxdp-sweep${process.pid}`;
    const [left, mine] = [`${prefix}-${gone}-a`, `${prefix}-${process.pid}-a`];
    using own = Netns.create(sys, mine);
    spawnSync("ip", ["netns", "add", left]);
    const directory = mkdtempSync(join(tmpdir(), `${prefix}-${gone}-`));
    assert.deepEqual(new Set(sweep(sys, prefix)), new Set([left, directory.slice(tmpdir().length + 1)]));
    assert.ok(!existsSync(directory) && !existsSync(`/var/run/netns/${left}`));
    assert.equal(
      own.run(() => existsSync(`/var/run/netns/${mine}`)),
      true,
    );
    assert.deepEqual(sweep(sys, prefix), []);
  });
});
