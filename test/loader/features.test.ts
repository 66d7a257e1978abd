import assert from "node:assert/strict";
import { FEATURES, isReleaseAtLeast, linux, probeFeatures, xdpFeatures, Rtnl, type Feature } from "libbpf-ts";
import { checkNoLeaks } from "./fixtures.js";
import { VethLab } from "./lab.js";
import { needs } from "../support/kernel.js";

describe("probeFeatures()", () => {
  checkNoLeaks();

  it("finds every feature that the running release should have", () => {
    const reports = probeFeatures(linux());
    assert.equal(reports.length, FEATURES.length);
    assert.deepEqual(
      reports.filter((r) => r.isExpected && !r.isSupported),
      [],
    );
    assert.ok(reports.filter((r) => r.isExpected).length >= 20);
  });

  it("reports why a feature is not there, and goes on", () => {
    const absent: Feature = {
      name: "absent",
      since: "4.0",
      doc: "",
      probe: ({ sys }) => {
        using rtnl = Rtnl.open(sys);
        rtnl.get("no-such-if");
      },
    };
    const reports = probeFeatures(linux(), [absent, ...FEATURES.slice(0, 1)]);
    assert.deepEqual(
      reports.map((r) => [r.name, r.isSupported, r.isExpected]),
      [
        ["absent", false, true],
        ["prog_array", true, true],
      ],
    );
    assert.match(reports[0]?.reason ?? "", /no-such-if/);
  });

  it("FEATURES is in order of release, each with its own name", () => {
    const order = FEATURES.map((f) => f.since);
    for (let i = 1; i < order.length; i++)
      assert.ok(isReleaseAtLeast(order[i] as string, order[i - 1] as string), FEATURES[i]?.name);
    assert.equal(new Set(FEATURES.map((f) => f.name)).size, FEATURES.length);
  });
});

describe("isReleaseAtLeast()", () => {
  for (const [have, want, is] of [
    ["6.18.44-fc", "6.9", true],
    ["6.1.0-50-amd64", "6.6", false],
    ["5.15", "5.15", true],
    ["10.0", "9.9", true],
  ] as const)
    it(`says ${is} for ${have} and ${want}`, () => assert.equal(isReleaseAtLeast(have, want), is));
});

describe("xdpFeatures()", () => {
  it("tells that a veth runs programs, redirects and is redirected to", function () {
    needs(this, "netdev_family");
    using lab = new VethLab();
    const features = lab.a.ns.run(() => xdpFeatures(linux(), lab.a.interface.index));
    assert.ok(features?.includes("basic") && features.includes("redirect"), String(features));
    assert.throws(() => xdpFeatures(linux(), 99999), /ENODEV/);
  });
});
