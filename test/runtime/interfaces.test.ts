import assert from "node:assert/strict";
import { packMac, Rtnl } from "libbpf-ts";
import type { Bridge } from "#runtime";
import { eventually, Lab } from "./lab.js";

const PING = "ping -c 2 -i 0.1 -W 2 10.0.0.2";

describe("Bridge, when interfaces change", function () {
  this.timeout(60_000);
  let lab: Lab;
  let bridge: Bridge;
  const events: string[] = [];

  before(async () => {
    lab = new Lab(3);
    await lab.silence();
    lab.addNeighbours();
    bridge = lab.bridge();
    bridge.onPort = (reason, { number, name, up }) =>
      void events.push(`${reason} ${number} ${name} ${up ? "up" : "down"}`);
  });
  after(() => {
    bridge[Symbol.dispose]();
    lab[Symbol.dispose]();
  });
  beforeEach(() => (events.length = 0));

  /** Runs `body` in the namespace of the switch. */
  const change = (body: (rtnl: Rtnl) => void): void =>
    lab.switchNs.run(() => {
      using rtnl = Rtnl.open(lab.sys);
      body(rtnl);
    });
  const told = async (...want: readonly string[]): Promise<void> => {
    await eventually(() => events.length >= want.length);
    assert.deepEqual(events, want);
  };
  const ping = async (): Promise<boolean> => (await lab.run(1, PING)).code === 0;
  const isUp = (number: number): Promise<boolean> => eventually(() => bridge.sw.port(number)?.up === true);

  it("a port follows its interface to another name, and is known by it", async () => {
    change((rtnl) => rtnl.change(rtnl.get("p2").index, { name: "other" }));
    await told("modify 2 other up");
    assert.equal(bridge.ports.byName("other")?.number, 2);
    assert.ok(await ping());
    // The name is free: who takes it does not take the number.
    change((rtnl) => rtnl.createVeth({ name: "p2" }, { name: "p2peer" }));
    assert.ok(await ping());
    change((rtnl) => {
      rtnl.remove(rtnl.get("p2").index);
      rtnl.change(rtnl.get("other").index, { name: "p2" });
    });
    await told("modify 2 other up", "modify 2 p2 up");
  });

  it("a port whose link goes down and comes back is told of both times", async () => {
    lab.hosts[1]!.run(() => {
      using rtnl = Rtnl.open(lab.sys);
      rtnl.change(rtnl.get("eth0").index, { up: false });
    });
    await told("modify 2 p2 down");
    lab.hosts[1]!.run(() => {
      using rtnl = Rtnl.open(lab.sys);
      rtnl.change(rtnl.get("eth0").index, { up: true });
      for (const host of [1, 3]) rtnl.addNeighbour(rtnl.get("eth0").index, Lab.ip(host), packMac(Lab.mac(host)));
    });
    assert.ok(await isUp(2));
    await told("modify 2 p2 down", "modify 2 p2 up");
    assert.ok(await ping());
  });

  it("an interface that moves to another namespace is a port no more, and nothing stays attached to it", async () => {
    change((rtnl) => rtnl.change(rtnl.get("p2").index, { netnsFd: lab.hosts[2]!.fdNumber }));
    await eventually(() => bridge.ports.byNumber(2) === undefined);
    assert.equal(events.at(-1)?.startsWith("delete 2 p2"), true, events.join());
    const { stdout } = await lab.run(3, "ip -d link show p2; bpftool net show dev p2");
    assert.doesNotMatch(stdout, /stub|xdp.*prog/);
    assert.equal(await ping(), false);
  });

  it("it is a port again, with its number, when it comes back", async () => {
    lab.hosts[2]!.run(() => {
      using rtnl = Rtnl.open(lab.sys);
      rtnl.change(rtnl.get("p2").index, { netnsFd: lab.switchNs.fdNumber });
    });
    assert.ok(await eventually(() => bridge.ports.byNumber(2) !== undefined));
    change((rtnl) => rtnl.change(rtnl.get("p2").index, { up: true }));
    assert.ok(await isUp(2));
    assert.ok(await ping());
  });

  it("an interface that is removed and made anew is the same port", async () => {
    change((rtnl) => {
      rtnl.remove(rtnl.get("p2").index);
      const netnsFd = lab.hosts[1]!.fdNumber;
      rtnl.createVeth({ name: "p2" }, { name: "eth0", netnsFd, mac: packMac(Lab.mac(2)) });
      rtnl.change(rtnl.get("p2").index, { up: true });
    });
    lab.hosts[1]!.run(() => {
      using rtnl = Rtnl.open(lab.sys);
      const { index } = rtnl.get("eth0");
      rtnl.change(index, { up: true });
      rtnl.addAddress(index, `${Lab.ip(2)}/24`);
      for (const host of [1, 3]) rtnl.addNeighbour(index, Lab.ip(host), packMac(Lab.mac(host)));
    });
    assert.ok(await eventually(() => events.some((event) => event.startsWith("add 2"))));
    assert.ok(await isUp(2));
    assert.equal(bridge.ports.byName("p2")?.number, 2);
    assert.match(events.join(), /delete 2 p2 \w+.*,add 2 p2/);
    assert.ok(await ping());
  });

  it("packets as large as a new MTU pass", async () => {
    const mtu = 9000;
    change((rtnl) => {
      for (const name of ["p1", "p2"]) rtnl.change(rtnl.get(name).index, { mtu });
    });
    for (const host of [0, 1])
      lab.hosts[host]!.run(() => {
        using rtnl = Rtnl.open(lab.sys);
        rtnl.change(rtnl.get("eth0").index, { mtu });
      });
    assert.equal((await lab.run(1, `${PING} -M do -s ${mtu - 28}`)).code, 0);
  });
});
