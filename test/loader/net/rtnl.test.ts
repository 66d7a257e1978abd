import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import {
  followInterfaces,
  linux,
  Netns,
  NoInterfaceError,
  packMac,
  Rtnl,
  SyscallError,
  type InterfaceEvent,
} from "libbpf-ts";
import { checkNoLeaks } from "../fixtures.js";
import { VethLab } from "../lab.js";

describe("Rtnl", () => {
  checkNoLeaks();
  const sys = linux();

  it("interfaces() agrees with iproute2", () => {
    using lab = new VethLab({ mtu: 1700 });
    const text = lab.a.ns.run(() => execFileSync("ip", ["-j", "-d", "-s", "link"], { encoding: "utf8" }));
    const theirs = JSON.parse(text) as {
      ifindex: number;
      ifname: string;
      mtu: number;
      address: string;
      operstate: string;
    }[];
    const ours = lab.a.rtnl.interfaces();
    assert.deepEqual(
      ours.map((i) => [i.index, i.name, i.mtu, i.mac, i.operState.toUpperCase()]),
      theirs.map((i) => [i.ifindex, i.ifname, i.mtu, i.address, i.operstate]),
    );
  });

  it("get() tells kind, peer, carrier and statistics", () => {
    using lab = new VethLab();
    const a = lab.a.interface;
    assert.deepEqual([a.kind, a.isUp, a.operState, a.hardwareType, a.xdp], ["veth", true, "up", 1, {}]);
    assert.equal(a.peer, lab.b.interface.index);
    assert.equal(typeof a.peerNetns, "number");
    assert.equal(a.hasCarrier, true);
    assert.equal(typeof a.stats?.rxPackets, "bigint");
    assert.equal(a.maxMtu, 65535);
  });

  it("find() gives undefined and get() an error that names the interface, for one that is not there", () => {
    using rtnl = Rtnl.open(sys);
    for (const name of ["no-such-if", "x".repeat(40), ""]) assert.equal(rtnl.find(name), undefined, name);
    assert.throws(
      () => rtnl.get("no-such-if"),
      (e: unknown) => e instanceof NoInterfaceError && e.exitCode === 1 && /"no-such-if"/.test(e.message),
    );
  });

  it("creates, changes, enslaves and deletes interfaces", () => {
    using ns = Netns.create(sys);
    using rtnl = ns.run(() => Rtnl.open(sys));
    rtnl.create("bridge", { name: "br", up: true });
    rtnl.createVeth({ name: "one", mac: packMac("02:00:00:00:00:77"), mtu: 1280 }, { name: "two" });
    const [bridge, one] = [rtnl.get("br"), rtnl.get("one")];
    assert.deepEqual([bridge.kind, bridge.isUp], ["bridge", true]);
    assert.deepEqual([one.kind, one.mac, one.mtu, one.isUp], ["veth", "02:00:00:00:00:77", 1280, false]);
    assert.equal(one.peerNetns, undefined);
    rtnl.change(one.index, { up: true, master: bridge.index, mtu: 1400 });
    const changed = rtnl.get("one");
    assert.deepEqual([changed.isUp, changed.master, changed.mtu], [true, bridge.index, 1400]);
    rtnl.remove(one.index);
    assert.equal(rtnl.find("one"), undefined);
    assert.equal(rtnl.find("two"), undefined);
    assert.throws(() => rtnl.create("no-such-kind", { name: "x" }), /EOPNOTSUPP.*Unknown device type/);
  });

  it("a refusal carries the kernel's own words", () => {
    using lab = new VethLab();
    assert.throws(
      () => lab.a.rtnl.change(lab.a.interface.index, { mtu: 1 }),
      (e: unknown) => e instanceof SyscallError && /EINVAL \(.*\): mtu less than device minimum/.test(e.message),
    );
  });

  it("addresses, routes and neighbours make two namespaces talk", () => {
    using lab = new VethLab();
    const { a, b } = lab;
    a.rtnl.addAddress(a.interface.index, "10.9.0.1/24");
    a.rtnl.addAddress(a.interface.index, "fd09::1/64");
    b.rtnl.addAddress(b.interface.index, "10.9.0.2/24");
    b.rtnl.addAddress(b.interface.index, "fd09::2/64");
    b.rtnl.change(1, { up: true });
    b.rtnl.addAddress(1, "10.10.0.1/32");
    a.rtnl.addRoute("10.10.0.0/16", { gateway: "10.9.0.2" });
    a.rtnl.addRoute("10.11.0.0/16", { index: a.interface.index });
    a.rtnl.addNeighbour(a.interface.index, "10.9.0.2", packMac(b.interface.mac));
    a.rtnl.addNeighbour(a.interface.index, "10.9.0.2", packMac(b.interface.mac));
    for (const [program, address] of [
      ["ping", "10.9.0.2"],
      ["ping", "10.10.0.1"],
      ["ping", "fd09::2"],
    ] as const)
      a.ns.run(() => execFileSync(program, ["-c1", "-W2", address]));
    assert.match(
      a.ns.run(() => execFileSync("ip", ["neigh"], { encoding: "utf8" })),
      /10\.9\.0\.2 dev a lladdr .* PERMANENT/,
    );
    assert.throws(() => a.rtnl.addAddress(a.interface.index, "10.9.0.300/24"), /want an IPv4 or IPv6 address/);
    assert.throws(() => a.rtnl.addAddress(a.interface.index, "10.9.0.3/33"), /want ADDRESS\/0\.\.32/);
  });

  it("followInterfaces() reports changes and removals", async () => {
    using ns = Netns.create(sys);
    using rtnl = ns.run(() => Rtnl.open(sys));
    const events: InterfaceEvent[] = [];
    using _following = ns.run(() => followInterfaces(sys, (event) => events.push(event)));
    rtnl.create("bridge", { name: "seen" });
    const { index } = rtnl.get("seen");
    rtnl.change(index, { up: true });
    rtnl.remove(index);
    const has = (test: (event: InterfaceEvent) => boolean) => events.some(test);
    for (let i = 0; i < 500 && !has((e) => e.kind === "removed"); i++) await sleep(1);
    assert.ok(has((e) => e.kind === "changed" && e.interface.name === "seen" && !e.interface.isUp));
    assert.ok(has((e) => e.kind === "changed" && e.interface.name === "seen" && e.interface.isUp));
    assert.ok(has((e) => e.kind === "removed" && e.interface.index === index));
  });
});
