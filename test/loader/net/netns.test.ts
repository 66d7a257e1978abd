import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, readlinkSync } from "node:fs";
import { ClosedError, failNth, FaultSys, linux, Netns, Rtnl, SyscallError } from "libbpf-ts";
import { checkNoLeaks, openFds } from "../fixtures.js";

const own = () => readlinkSync("/proc/thread-self/ns/net");

describe("Netns", () => {
  checkNoLeaks();
  const sys = linux();

  it("run() runs inside and comes back, also after an exception", () => {
    const home = own();
    using ns = Netns.create(sys);
    assert.equal(own(), home);
    assert.notEqual(
      ns.run(() => own()),
      home,
    );
    assert.equal(own(), home);
    assert.throws(
      () =>
        ns.run(() => {
          throw new RangeError("inside");
        }),
      RangeError,
    );
    assert.equal(own(), home);
  });

  it("run() starts processes inside", () => {
    using ns = Netns.create(sys);
    const inside = ns.run(() => execFileSync("readlink", ["/proc/self/ns/net"], { encoding: "utf8" }).trim());
    assert.notEqual(inside, own());
  });

  it("a socket opened inside stays inside", () => {
    using ns = Netns.create(sys);
    using rtnl = ns.run(() => Rtnl.open(sys));
    assert.equal(rtnl.find("eth0"), undefined);
    assert.equal(rtnl.get("lo").index, 1);
  });

  it("create() makes a name that iproute2 sees, and dispose removes it", () => {
    const name = `loader-${process.pid}`;
    {
      using ns = Netns.create(sys, name);
      const inside = ns.run(() => own());
      using again = Netns.open(sys, name);
      assert.equal(
        again.run(() => own()),
        inside,
      );
      const seen = execFileSync("ip", ["netns", "exec", name, "readlink", "/proc/self/ns/net"], { encoding: "utf8" });
      assert.equal(seen.trim(), inside);
      assert.throws(() => Netns.create(sys, name), /EEXIST/);
    }
    assert.equal(existsSync(`/var/run/netns/${name}`), false);
    assert.throws(() => Netns.open(sys, name), /Cannot open network namespace/);
    assert.throws(() => Netns.create(sys, "a/b"), /Bad network namespace name/);
  });

  it("create() mounts the directory of names at most once", () => {
    const mounts = () =>
      readFileSync("/proc/self/mountinfo", "utf8")
        .split("\n")
        // The fifth word is where it is mounted; a container's own root may have one of these, too.
        .filter((line) => line.split(" ")[4] === "/run/netns");
    for (let i = 0; i < 3; i++) Netns.create(sys, `loader-once-${process.pid}`)[Symbol.dispose]();
    assert.equal(mounts().length, 1);
    for (const errno of [1, 12])
      assert.throws(
        () => Netns.create(new FaultSys(sys, (call) => (call === "mount()" ? errno : 0)), `loader-once-${process.pid}`),
        SyscallError,
      );
    assert.equal(mounts().length, 1);
  });

  it("create() leaves nothing behind, whichever of its steps fails", () => {
    const name = `loader-fault-${process.pid}`;
    const counting = new FaultSys(sys);
    Netns.create(counting, name)[Symbol.dispose]();
    const home = own();
    const before = openFds();
    const steps = counting.calls.filter((c) => c.call !== "close()").length;
    let failed = 0;
    for (let step = 0; step < steps; step++) {
      // Coming home and removing the name are not steps that may fail.
      const isUndo = /setns|umount2/.test(counting.calls.filter((c) => c.call !== "close()")[step]?.call ?? "");
      if (isUndo) continue;
      try {
        Netns.create(new FaultSys(sys, failNth(step, 12)), name)[Symbol.dispose]();
      } catch (error) {
        failed++;
        assert.match(String(error), /ENOMEM/);
      }
      assert.equal(own(), home, `home after a failure of step ${step}`);
      assert.equal(existsSync(`/var/run/netns/${name}`), false, `name gone after a failure of step ${step}`);
      assert.deepEqual(openFds(), before, `after a failure of step ${step}`);
    }
    assert.ok(failed >= 3, `${failed} failures injected`);
  });

  it("throws after it was closed", () => {
    const ns = Netns.create(sys);
    ns[Symbol.dispose]();
    assert.throws(() => ns.run(() => 0), ClosedError);
    assert.equal(own(), readlinkSync(`/proc/${process.pid}/ns/net`));
  });
});
