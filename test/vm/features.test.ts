import assert from "node:assert/strict";
import { FEATURES, isReleaseAtLeast, linux, probeFeatures } from "libbpf-ts";
import { checkNoLeaks } from "../loader/fixtures.js";

const RELEASE = "6.1";

describe("probeFeatures() on Linux 6.1", () => {
  checkNoLeaks();

  // Debian has backported none of them. A probe that passes for another reason than its feature would be found here.
  it("finds what the release has, and nothing younger", () => {
    const has = probeFeatures(linux()).filter((r) => r.isSupported);
    const should = FEATURES.filter((f) => isReleaseAtLeast(RELEASE, f.since));
    assert.deepEqual(
      has.map((f) => f.name),
      should.map((f) => f.name),
    );
  });
});
