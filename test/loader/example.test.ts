import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const EXAMPLE = fileURLToPath(new URL("../../../loader/example.mjs", import.meta.url));

describe("loader/example.mjs", () => {
  it("counts four packets and drops the short one", () => {
    assert.deepEqual(execFileSync(process.execPath, [EXAMPLE], { encoding: "utf8" }).trim().split("\n").slice(0, 7), [
      "60 bytes: drop",
      "64 bytes: pass",
      "1500 bytes: pass",
      "1500 bytes: pass",
      "seen 1 x 60 bytes",
      "seen 1 x 64 bytes",
      "seen 2 x 1500 bytes",
    ]);
  });
});
