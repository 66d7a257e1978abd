import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, readlinkSync } from "node:fs";
import { queryTcx, Rtnl } from "libbpf-ts";
import type { Bridge, BridgeStats } from "#runtime";
import { eventually, frame, Lab } from "./lab.js";

/** Ping statistics line. */
const received = (stdout: string): string => /(\d+) packets transmitted, (\d+) received/.exec(stdout)?.[0] ?? stdout;

/** Sends 30 MB from host 1 to host 2 by TCP; how many bytes iperf3 had received when its control connection said the end. */
const tcpBytes = async (lab: Lab): Promise<number> => {
  const server = lab.run(2, "timeout 30 iperf3 -s -1 -J", 40_000);
  const client =
    "for i in 1 2 3 4 5 6 7 8; do sleep 0.4; timeout 20 iperf3 -c 10.0.0.2 -n 30M > /dev/null && break; done";
  await lab.run(1, client, 40_000);
  const { stdout } = await server;
  const { end } = JSON.parse(stdout) as { end: { sum_received: { bytes: number } } };
  return end.sum_received.bytes;
};

/** Open descriptors of sockets and BPF objects; those of threads come and go by themselves. */
const openKernelObjects = (): number =>
  readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return /^(socket|anon_inode:bpf)/.test(readlinkSync(`/proc/self/fd/${fd}`));
    } catch {
      // The descriptor that lists the directory.
      return false;
    }
  }).length;

describe("runtime/bridge", () => {
  describe("Bridge in standalone mode, hook auto", () => {
    let lab: Lab;
    let bridge: Bridge;
    before(() => {
      lab = new Lab(3);
      bridge = lab.bridge();
    });
    after(() => {
      bridge[Symbol.dispose]();
      lab[Symbol.dispose]();
    });

    it("takes TC for veth ports", () => {
      assert.deepEqual(
        bridge.stats.ports.map(({ port, name, hook, up }) => ({ port, name, hook, up })),
        [1, 2, 3].map((port) => ({ port, name: `p${port}`, hook: "tc", up: true })),
      );
    });

    it("carries the first packet, and learns", async () => {
      for (const target of ["10.0.0.2", "fd00::3"]) {
        const { stdout } = await lab.run(1, `ping -c 5 -i 0.1 -W 2 ${target}`);
        assert.equal(received(stdout), "5 packets transmitted, 5 received");
      }
      assert.ok(bridge.sw.macs.size >= 3);
      const { misses, slow, latency, slowLatency } = bridge.stats.upcalls;
      assert.deepEqual([latency.count, slowLatency.count], [misses, slow]);
      assert.ok(misses > 0);
    });

    it("carries TCP with GSO and partial checksums", async () => {
      assert.equal(await tcpBytes(lab).then((bytes) => bytes >= 5e6 || `only ${bytes} bytes`), true);
    });

    it("counts every packet and byte once, at ports and megaflows", async () => {
      await lab.silence();
      const { sender, ifindex } = lab.sender(1);
      using tx = sender;
      using rx = lab.receiver(2);
      const back = lab.sender(2);
      using backTx = back.sender;
      backTx.send(back.ifindex, frame(Lab.mac(2), Lab.mac(1)));
      await eventually(() => bridge.sw.macs.lookup(0x020000000002, 0) === 2);
      await bridge.settle();
      const before = bridge.stats;
      const n = 500;
      let sent = 0;
      for (let i = 0; i < n; i++) {
        const packet = frame(Lab.mac(1), Lab.mac(2), 60 + (i % 200));
        sent += packet.length;
        assert.ok(tx.send(ifindex, packet));
        if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      let got = 0;
      let bytes = 0;
      await eventually(() => {
        for (let packet = rx.receive(); packet !== undefined; packet = rx.receive()) {
          if (packet.data[12] !== 0x88) continue;
          got++;
          bytes += packet.data.length;
        }
        return got >= n;
      });
      assert.deepEqual({ got, bytes }, { got: n, bytes: sent });
      await bridge.settle();
      const after = bridge.stats;
      const rise = (number: number, field: "rxPackets" | "rxBytes" | "txPackets" | "txBytes"): number => {
        const of = (stats: BridgeStats) => stats.ports.find(({ port }) => port === number)?.[field] ?? NaN;
        return of(after) - of(before);
      };
      assert.deepEqual([rise(1, "rxPackets"), rise(1, "rxBytes")], [n, sent]);
      assert.deepEqual([rise(2, "txPackets"), rise(2, "txBytes")], [n, sent]);
      assert.equal(after.lost, 0);
      assert.equal(after.upcalls.errors, 0);
    });

    it("follows the link state of a port", async () => {
      lab.hosts[2]!.run(() => {
        using rtnl = Rtnl.open(lab.sys);
        rtnl.change(rtnl.get("eth0").index, { up: false });
      });
      assert.ok(await eventually(() => bridge.sw.port(3)?.up === false));
      lab.hosts[2]!.run(() => {
        using rtnl = Rtnl.open(lab.sys);
        rtnl.change(rtnl.get("eth0").index, { up: true });
      });
      assert.ok(await eventually(() => bridge.sw.port(3)?.up === true));
    });

    it("drops a port whose interface goes", async () => {
      lab.switchNs.run(() => {
        using rtnl = Rtnl.open(lab.sys);
        rtnl.remove(rtnl.get("p3").index);
      });
      assert.ok(await eventually(() => bridge.sw.port(3) === undefined));
      const { stdout } = await lab.run(1, "ping -c 2 -i 0.1 -W 2 10.0.0.2");
      assert.equal(received(stdout), "2 packets transmitted, 2 received");
    });
  });

  for (const hook of ["native", "generic"]) {
    it(`Bridge carries TCP with hook ${hook} on veth ports, and puts the peers' offloads back`, async () => {
      using lab = new Lab(2);
      const offloads = () => lab.run(1, "ethtool -k eth0 | grep -v fixed");
      const before = (await offloads()).stdout;
      {
        using bridge = lab.bridge({ hook });
        assert.deepEqual(
          bridge.stats.ports.map((port) => port.hook),
          [hook, hook],
        );
        assert.equal(await tcpBytes(lab).then((bytes) => bytes >= 5e6 || `only ${bytes} bytes`), true);
        assert.equal(bridge.stats.lost, 0);
      }
      // Native XDP turns TSO of the peer off while it is attached; the kernel brings it back by itself.
      assert.equal((await offloads()).stdout, before);
    });
  }

  it("Bridge with hook peer carries TCP past the near end of the pair, and counts it", async () => {
    using lab = new Lab(2);
    using bridge = lab.bridge({ hook: "peer" });
    assert.deepEqual(
      bridge.stats.ports.map((port) => port.hook),
      ["tc", "tc"],
    );
    const bytes = await tcpBytes(lab);
    assert.ok(bytes >= 5e6, `only ${bytes} bytes`);
    await bridge.settle();
    const { ports, lost } = bridge.stats;
    assert.ok(ports[1]!.txBytes > bytes && lost === 0, `${ports[1]!.txBytes} bytes sent, ${lost} lost`);
    const { stdout } = lab.switchNs.run(() =>
      spawnSync("ip", ["-s", "-j", "link", "show", "p2"], { encoding: "utf8" }),
    );
    const [link] = JSON.parse(stdout) as { stats64: { tx: { bytes: number } } }[];
    assert.ok(link!.stats64.tx.bytes < bytes / 2, `${link!.stats64.tx.bytes} bytes went by the near end`);
  });

  it("Bridge refuses hook peer where there is no other end in another namespace", () => {
    using lab = new Lab(1);
    lab.switchNs.run(() => {
      using rtnl = Rtnl.open(lab.sys);
      rtnl.createVeth({ name: "near" }, { name: "nearer" });
      rtnl.create("bridge", { name: "none" });
    });
    const open = (name: string) => () => lab.bridge({ ports: [{ number: 1, name, hook: "peer" }] });
    assert.throws(
      open("near"),
      /Hook peer for near is not supported: the other end lies in the same network namespace/,
    );
    assert.throws(open("none"), /Hook peer for none is not supported: it is no veth pair; take tc/);
  });

  it("Bridge leaves nothing behind when it is disposed", async () => {
    using lab = new Lab(2);
    // The builds of the switches before end a little later than they.
    await eventually(() => openKernelObjects() === 0, 2000);
    const before = openKernelObjects();
    for (const hook of ["tc", "native", "generic"]) {
      const bridge = lab.bridge({ hook });
      const { stdout } = await lab.run(1, "ping -c 2 -i 0.1 -W 2 10.0.0.2");
      assert.equal(received(stdout), "2 packets transmitted, 2 received", hook);
      bridge[Symbol.dispose]();
      lab.switchNs.run(() => {
        using rtnl = Rtnl.open(lab.sys);
        for (const { index, name, xdp } of rtnl.interfaces()) {
          assert.deepEqual(xdp, {}, `${hook}: XDP of ${name}`);
          assert.deepEqual(queryTcx(lab.sys, index, "ingress")?.length ?? 0, 0, `${hook}: tcx of ${name}`);
        }
      });
      // What a build under way still opens is closed when its thread is done.
      await eventually(() => openKernelObjects() === before);
      assert.equal(openKernelObjects(), before, `${hook}: open descriptors`);
    }
  });

  it("Bridge refuses a missing interface with one clear line and nothing left", () => {
    using lab = new Lab(1);
    const before = openKernelObjects();
    assert.throws(
      () => lab.bridge({ ports: [{ number: 1, name: "nope", hook: "auto" }] }),
      /No network interface named "nope"/,
    );
    assert.equal(openKernelObjects(), before);
  });
});
