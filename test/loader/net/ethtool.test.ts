import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { Ethtool, linux, NoInterfaceError, type OffloadName } from "libbpf-ts";
import { checkNoLeaks } from "../fixtures.js";
import { VethLab } from "../lab.js";

const NAMES = {
  rxChecksum: "rx-checksumming",
  txChecksum: "tx-checksumming",
  scatterGather: "scatter-gather",
  // Its group also shows a variant that the ioctl leaves out.
  tso: "\\ttx-tcp-segmentation",
  gso: "generic-segmentation-offload",
  gro: "generic-receive-offload",
  txVlan: "tx-vlan-offload",
  rxVlan: "rx-vlan-offload",
  lro: "large-receive-offload",
} as const satisfies Record<OffloadName, string>;

describe("Ethtool", () => {
  checkNoLeaks();
  const sys = linux();

  it("settings() agrees with ethtool, and change() is seen by it and can be undone", () => {
    using lab = new VethLab();
    using ethtool = lab.a.ns.run(() => Ethtool.open(sys));
    const check = (): void => {
      const text = lab.a.ns.run(() => execFileSync("ethtool", ["-k", "a"], { encoding: "utf8" }));
      const ours = ethtool.settings("a");
      for (const [key, name] of Object.entries(NAMES))
        assert.match(text, new RegExp(`^${name}: ${ours[key as OffloadName] ? "on" : "off"}`, "m"));
    };
    check();
    const original = ethtool.settings("a");
    const before = ethtool.change("a", {
      txChecksum: false,
      txVlan: false,
      gro: !original.gro,
      rxVlan: original.rxVlan,
    });
    assert.deepEqual(before, { txChecksum: true, txVlan: true, gro: original.gro });
    check();
    ethtool.change("a", before);
    const after = ethtool.settings("a");
    assert.deepEqual([after.txChecksum, after.txVlan, after.gro], [true, true, original.gro]);
  });

  it("change() says when the driver keeps a setting", () => {
    using lab = new VethLab();
    using ethtool = lab.a.ns.run(() => Ethtool.open(sys));
    assert.throws(() => ethtool.change("a", { lro: true }), /Cannot turn lro of a on/);
  });

  it("driver() names the driver; an interface that is not there is an error", () => {
    using lab = new VethLab();
    using ethtool = lab.a.ns.run(() => Ethtool.open(sys));
    assert.equal(ethtool.driver("a"), "veth");
    for (const name of ["none", "", "a-name-that-is-too-long"])
      assert.throws(() => ethtool.settings(name), NoInterfaceError);
  });
});
