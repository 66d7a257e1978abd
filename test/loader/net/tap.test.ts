import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import {
  ClosedError,
  failNth,
  FaultSys,
  linux,
  Netns,
  PacketReceiver,
  PacketSender,
  PrivilegeError,
  Rtnl,
  SyscallError,
  Tap,
} from "libbpf-ts";
import { checkNoLeaks, frame, openFds } from "../fixtures.js";

describe("Tap", () => {
  checkNoLeaks();
  const sys = linux();
  describe("in a namespace", () => {
    let ns: Netns;
    let rtnl: Rtnl;
    before(() => {
      ns = Netns.create(sys);
      rtnl = ns.run(() => Rtnl.open(sys));
    });
    after(() => {
      rtnl[Symbol.dispose]();
      ns[Symbol.dispose]();
    });
    const open = (name?: string): Tap => ns.run(() => Tap.open(sys, name));
    const openUp = (name: string): { readonly tap: Tap; readonly index: number } => {
      const tap = open(name);
      const { index } = rtnl.get(name);
      rtnl.change(index, { up: true });
      return { tap, index };
    };
    /** Frames of ours; the kernel's own IPv6 chatter is left out. */
    const isOurs = (data: Uint8Array): boolean => data[0] === 2;

    it("open() makes the interface in the current namespace; disposing removes it", () => {
      const tap = open("tap7");
      const { kind, isUp } = rtnl.get("tap7");
      assert.deepEqual([tap.name, kind, isUp], ["tap7", "tun", false]);
      tap[Symbol.dispose]();
      assert.equal(rtnl.find("tap7"), undefined);
      assert.throws(() => tap.read(), ClosedError);
    });

    it("open() takes the lowest free number for %d", () => {
      using first = open();
      using second = open("tap%d");
      assert.deepEqual([first.name, second.name], ["tap0", "tap1"]);
    });

    it("write() lets frames of every size arrive at the interface, read() takes what it sends", async () => {
      const { tap, index } = openUp("tap2");
      using owned = tap;
      using receiver = ns.run(() => PacketReceiver.open(sys, index));
      using sender = ns.run(() => PacketSender.open(sys));
      const frames = [14, 60, 61, 700, 1514].map((size) => {
        const bytes = new Uint8Array(size).fill(size & 0xff);
        bytes.set(frame().subarray(0, 14));
        return bytes;
      });
      for (const one of frames) assert.equal(owned.write(one), true);
      const arrived: Uint8Array[] = [];
      for (let packet = receiver.receive(); packet !== undefined; packet = receiver.receive())
        if (isOurs(packet.data)) arrived.push(packet.data);
      assert.deepEqual(arrived, frames);

      for (const one of frames) assert.ok(sender.send(index, one));
      const left: Uint8Array[] = [];
      for (let data = owned.read(); data !== undefined; data = owned.read()) if (isOurs(data)) left.push(data);
      assert.deepEqual(left, frames);
      assert.equal(owned.read(), undefined);
    });

    it("follow() delivers frames from the event loop until disposed", async () => {
      const { tap, index } = openUp("tap3");
      using owned = tap;
      using sender = ns.run(() => PacketSender.open(sys));
      const got: Uint8Array[] = [];
      {
        using following = owned.follow((data) => isOurs(data) && got.push(data));
        assert.ok(following);
        for (let i = 0; i < 3; i++) sender.send(index, frame());
        for (let i = 0; i < 200 && got.length < 3; i++) await sleep(5);
      }
      assert.equal(got.length, 3);
      sender.send(index, frame());
      await sleep(30);
      assert.equal(got.length, 3);
    });

    it("write() says that the interface is down, and refuses what is no frame", () => {
      using tap = open("tap4");
      assert.throws(() => tap.write(frame()), /Cannot write to tap tap4: write\(\): EIO .*: the interface is down$/);
      assert.throws(() => tap.write(new Uint8Array(13)), /frame of 13 bytes to tap tap4: want 14 to /);
      assert.throws(() => tap.write(new Uint8Array(1 << 17)), /RangeViolation/);
    });

    it("read() throws once the interface is deleted", () => {
      const { tap, index } = openUp("tap5");
      using owned = tap;
      rtnl.remove(index);
      assert.throws(
        () => owned.read(),
        (error: SyscallError) => error.errnoName === "EBADFD",
      );
    });

    it("open() says why it is refused, and leaves nothing open", () => {
      using tap = open("tap6");
      assert.equal(tap.name, "tap6");
      rtnl.createVeth({ name: "va" }, { name: "vb" });
      const before = openFds();
      assert.throws(
        () => open("tap6"),
        /Cannot open tap tap6: ioctl\(TUNSETIFF\): EBUSY .*another process holds the tap$/,
      );
      assert.throws(() => open("va"), /EINVAL .*an interface of this name exists and is no tap$/);
      for (const name of ["", "sixteen-letters-", "a b", "a/b"]) assert.throws(() => open(name), /Bad interface name/);
      const refused = (nth: number, errno: number) => (): Tap => Tap.open(new FaultSys(sys, failNth(nth, errno)));
      assert.throws(refused(0, 2), /no \/dev\/net\/tun: is the module tun loaded\?$/);
      assert.throws(
        refused(1, 1),
        (error: Error) => error instanceof PrivilegeError && /CAP_NET_ADMIN$/.test(error.message),
      );
      assert.deepEqual(openFds(), before);
    });
  });
});
