import assert from "node:assert/strict";
import { FEATURES, isReleaseAtLeast, linux, probeFeatures } from "libbpf-ts";
import { checkNoLeaks } from "../loader/fixtures.js";

const RELEASE = "6.1";
/** What the stable releases of 6.1 were given later. */
const BACKPORTED: ReadonlySet<string> = new Set(["gotol"]);

describe("probeFeatures() on Linux 6.1", () => {
  checkNoLeaks();

  // A probe that passes for another reason than its feature would be found here.
  it("finds what the release has, and nothing else", () => {
    const has = probeFeatures(linux()).filter((r) => r.isSupported);
    const should = FEATURES.filter((f) => isReleaseAtLeast(RELEASE, f.since) || BACKPORTED.has(f.name));
    assert.deepEqual(
      has.map((f) => f.name),
      should.map((f) => f.name),
    );
  });
});
