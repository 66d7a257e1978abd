import assert from "node:assert/strict";
import { parseFlows } from "#compiler";
import { reportMegaflows, type Bridge, type BridgeOptions } from "#runtime";
import { eventually, frame, Lab, sleep } from "./lab.js";

/** Our frames have this type; whatever else arrives is the kernel's own. */
const TYPE = 0x88b5;

/** A source address of its own for every number. */
const source = (n: number): string =>
  `02:01:${(n >>> 0)
    .toString(16)
    .padStart(8, "0")
    .replace(/(..)(?=.)/g, "$1:")}`;

/** A UDP datagram over IPv4 of 60 bytes without checksum, to a station that is none of the hosts: nobody answers. */
const udp = (dst: string, port: number): Uint8Array => {
  const bytes = frame(Lab.mac(1), Lab.mac(9), 60, 0x0800);
  const octets = dst.split(".").map(Number);
  bytes.set(
    [0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, ...octets, 0x10, 0, port >>> 8, port & 0xff, 0, 26, 0, 0],
    14,
  );
  let sum = 0;
  for (let i = 14; i < 34; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  bytes.set([(~sum >>> 8) & 0xff, ~sum & 0xff], 24);
  return bytes;
};

for (const storage of ["table", "hash"] as const) {
  describe(`runtime/megaflow, subtables in ${storage === "hash" ? "kernel hash maps" : "the megaflow table"}`, function () {
    this.timeout(120_000);
    let lab: Lab;
    before(async () => {
      lab = new Lab(3);
      await lab.silence();
    });
    after(() => lab[Symbol.dispose]());

    const open = (flows: string, options: Partial<BridgeOptions> & { readonly hook?: string } = {}): Bridge =>
      lab.bridge({ failMode: "secure", flows: parseFlows(flows), storage, ...options });

    /** Sends from host 1 in bursts; between them the switch works. */
    const send = async (packets: readonly Uint8Array[], burst = 200): Promise<void> => {
      const { sender, ifindex } = lab.sender(1);
      using tx = sender;
      for (let i = 0; i < packets.length; i += burst) {
        for (const packet of packets.slice(i, i + burst)) tx.queue(ifindex, packet);
        tx.flush();
        await sleep(1);
      }
      assert.equal(tx.counters.dropped, 0);
    };

    /** Sends, and waits until `want` packets arrived at host `to` (or no more come). @returns what arrived */
    const sendAndReceive = async (
      packets: readonly Uint8Array[],
      to: number,
      want = packets.length,
    ): Promise<Uint8Array[]> => {
      using rx = lab.receiver(to);
      const got: Uint8Array[] = [];
      const drain = (): boolean => {
        for (let packet = rx.receive(); packet !== undefined; packet = rx.receive()) {
          const type = (packet.data[12]! << 8) | packet.data[13]!;
          if (type === TYPE || type === 0x0800 || type === 0x8100) got.push(packet.data);
        }
        return got.length >= want;
      };
      const sent = send(packets);
      const timer = setInterval(drain, 5);
      await sent;
      await eventually(drain, 5000);
      clearInterval(timer);
      return got;
    };

    /** n_packets and n_bytes of the rules, in the order of the text. */
    const counts = (bridge: Bridge): (readonly [packets: number, bytes: number])[] =>
      [...bridge.sw.rules()]
        .sort((a, b) => b.priority - a.priority)
        .map(({ packets, bytes }) => [packets, bytes] as const);

    it("carries a new mask at once, moves it to a subtable of its own, and loses and miscounts nothing meanwhile", async () => {
      using bridge = open(
        "priority=30,udp,nw_dst=10.0.1.0/24,udp_dst=53 actions=drop\npriority=20,ip,nw_dst=10.0.0.0/8 actions=output:2\npriority=0 actions=drop",
      );
      const packets = Array.from({ length: 4000 }, (_, i) => udp(`10.${i % 7}.${i % 3}.2`, 1000 + (i % 5)));
      const got = await sendAndReceive(packets, 2);
      assert.equal(got.length, packets.length);
      assert.ok(await eventually(() => bridge.cache.stats.subtables > 0 && !bridge.cache.isWanting));
      await sleep(60);
      await bridge.settle();
      assert.deepEqual(counts(bridge), [
        [0, 0],
        [4000, 4000 * 60],
        [0, 0],
      ]);
      const { hits, upcalls, lost } = bridge.stats;
      assert.equal(lost, 0);
      assert.equal(hits + upcalls.misses, 4000);
    });

    it("grows its key under traffic when the tables look at more, without losing a packet or a count", async () => {
      using bridge = open("priority=1 actions=output:2");
      const before = bridge.cache.layout.size;
      const packets = Array.from({ length: 6000 }, (_, i) => udp("10.0.0.2", 1000 + (i % 10)));
      const receiving = sendAndReceive(packets, 2);
      await sleep(3);
      bridge.add(
        parseFlows("priority=7,udp,udp_dst=1003 actions=output:2\npriority=6,ip,nw_dst=10.0.0.2,nw_tos=4 actions=drop"),
      );
      const got = await receiving;
      assert.equal(got.length, packets.length);
      assert.ok(await eventually(() => bridge.cache.layout.size > before && !bridge.cache.isWanting, 15_000));
      await sleep(60);
      await bridge.settle();
      const all = counts(bridge);
      assert.equal(
        all.reduce((sum, [n]) => sum + n, 0),
        6000,
      );
      assert.deepEqual(all[1], [0, 0]);
      assert.ok(all[0]![0] > 0, "the new flow must have taken over");
      assert.equal(bridge.stats.lost, 0);
    });

    it("changes cached actions when the tables change, and credits what came before to the old rule", async () => {
      using bridge = open(`priority=1,dl_type=0x88b5 actions=output:2`);
      const packets = Array.from({ length: 50 }, () => frame(Lab.mac(1), Lab.mac(2)));
      assert.equal((await sendAndReceive(packets, 2)).length, 50);
      bridge.add(parseFlows("priority=2,dl_type=0x88b5 actions=output:3"));
      await bridge.settle();
      assert.equal((await sendAndReceive(packets, 3)).length, 50);
      await bridge.settle();
      assert.deepEqual(counts(bridge), [
        [50, 3200],
        [50, 3200],
      ]);
    });

    it("looks first into the subtable, and asks first for the shape, that most packets hit", async () => {
      using bridge = open(
        "priority=30,udp,udp_dst=53 actions=output:2\npriority=20,ip,nw_dst=10.0.1.0/24 actions=mod_vlan_vid:5,output:2",
      );
      const seldom = Array.from({ length: 50 }, (_, i) => udp(`10.0.1.${i}`, 0x8000));
      const often = Array.from({ length: 4000 }, (_, i) => udp(`10.9.${i % 200}.7`, 53));
      assert.equal((await sendAndReceive(seldom, 2)).length, seldom.length);
      assert.ok(await eventually(() => bridge.cache.stats.subtables > 0 && !bridge.cache.isWanting));
      const isHotFirst = (): boolean => {
        const { plan } = bridge.datapath.generation;
        const [first] = plan.subtables;
        const hot = [...bridge.cache.ukeys()].find(({ maskClass }) => maskClass.table.id === first?.id);
        return plan.subtables.length >= 2 && plan.shapes[0]?.text === "output" && (hot?.packets ?? 0) > 1000;
      };
      let isFirst = false;
      for (let i = 0; i < 8 && !isFirst; i++) {
        assert.equal((await sendAndReceive(often, 2)).length, often.length);
        isFirst = await eventually(isHotFirst, 3000);
      }
      assert.ok(isFirst, JSON.stringify(bridge.cache.stats));
    });

    it("keeps at most the given number of masks and still forwards everything", async () => {
      const flows = Array.from(
        { length: 8 },
        (_, i) => `table=${i},priority=9,ip,nw_dst=10.${i}.0.0/${12 + i} actions=output:2`,
      );
      const gotos = Array.from({ length: 7 }, (_, i) => `table=${i},priority=0 actions=goto_table:${i + 1}`);
      const acl = [
        "table=7,priority=5,udp,udp_dst=7 actions=output:2",
        "table=7,priority=4,dl_src=02:00:00:00:00:01,dl_type=0x88b5 actions=output:2",
      ];
      using bridge = open([...flows, ...gotos, ...acl].join("\n"), { maxMasks: 2 });
      const packets = Array.from({ length: 1200 }, (_, i) =>
        i % 10 === 9
          ? frame(Lab.mac(1), Lab.mac(2))
          : i % 10 === 8
            ? udp("192.168.0.1", 7)
            : udp(`10.${i % 8}.0.1`, 1000 + (i % 4)),
      );
      const got = await sendAndReceive(packets, 2);
      assert.equal(got.length, packets.length);
      await eventually(() => !bridge.cache.isWanting);
      assert.ok(bridge.cache.stats.subtables <= 2 && bridge.cache.stats.masks <= 2, JSON.stringify(bridge.cache.stats));
    });

    it("takes idle megaflows out, with their last counts", async () => {
      using bridge = open("priority=1,dl_type=0x88b5 actions=output:2", { maxIdleMs: 300 });
      assert.equal(
        (
          await sendAndReceive(
            Array.from({ length: 20 }, () => frame(Lab.mac(1), Lab.mac(2))),
            2,
          )
        ).length,
        20,
      );
      assert.equal(bridge.cache.size, 1);
      assert.ok(await eventually(() => bridge.cache.size === 0));
      assert.equal(bridge.cache.stats.deleted["flow-idle"], 1);
      assert.deepEqual(counts(bridge), [[20, 1280]]);
    });

    it("lets idle_timeout and hard_timeout of flows run out by credited packets", async () => {
      using bridge = open(
        "priority=3,dl_src=02:00:00:00:00:01,idle_timeout=2 actions=output:2\npriority=2,dl_dst=02:00:00:00:00:02,hard_timeout=5 actions=output:2\npriority=1 actions=output:3",
      );
      const one = [frame(Lab.mac(1), Lab.mac(2))];
      // Kept alive by packets that only the datapath sees.
      for (let i = 0; i < 5; i++) {
        assert.equal((await sendAndReceive(one, 2)).length, 1, `packet ${i}`);
        await sleep(300);
      }
      assert.equal(bridge.sw.size, 3);
      assert.ok(await eventually(() => bridge.sw.size === 1, 10_000));
      assert.equal((await sendAndReceive(one, 3)).length, 1);
    });

    it("installs no more than the limit and forwards the rest by user space", async () => {
      using bridge = open("priority=9,dl_src=02:ff:ff:ff:ff:ff actions=drop\npriority=1 actions=output:2", {
        maxFlows: 1000,
      });
      const packets = Array.from({ length: 2500 }, (_, i) => frame(source(i), Lab.mac(2)));
      assert.equal((await sendAndReceive(packets, 2)).length, 2500);
      assert.ok(bridge.cache.size <= 1000);
      assert.ok(bridge.cache.stats.notInstalled > 0);
    });

    for (const hook of ["tc", "native"]) {
      it(`sends one packet out of several ports with different edits at ${hook}, and says what carries it`, async () => {
        const flow = "priority=1,dl_type=0x88b5 actions=output:2,mod_vlan_vid:7,output:3";
        using bridge = open(flow, { hook });
        const packets = Array.from({ length: 30 }, () => frame(Lab.mac(1), Lab.mac(2)));
        const plain = await sendAndReceive(packets, 2);
        const tagged = await sendAndReceive(packets, 3);
        assert.deepEqual([plain.length, tagged.length], [30, 30]);
        assert.deepEqual([plain[29]!.length, tagged[29]!.length], [64, 68]);
        assert.deepEqual([...tagged[29]!.subarray(12, 16)], [0x81, 0, 0, 7]);
        await eventually(() => !bridge.cache.isWanting);
        await bridge.settle();
        assert.deepEqual(counts(bridge), [[60, 3840]]);
        const { ports } = bridge.stats;
        assert.deepEqual([ports[1]!.txBytes, ports[2]!.txBytes], [60 * 64, 60 * 68]);
        const report = reportMegaflows(bridge).find(({ match }) => match.includes("0x88b5"))!;
        if (hook === "tc") assert.equal(report.hook, "tc");
        else assert.match(`${report.hook}: ${report.slow}`, /^slow: 2 outputs.*XDP cannot clone/);
      });
    }

    it("holds 100,000 megaflows, set up by one packet each without loss, and counts their packets", async () => {
      using bridge = open("priority=9,dl_src=02:ff:ff:ff:ff:ff actions=drop\npriority=1 actions=output:2", {
        maxIdleMs: 60_000,
      });
      const n = 100_000;
      const { sender, ifindex } = lab.sender(1);
      using tx = sender;
      const packet = frame(source(0), Lab.mac(2));
      const view = new DataView(packet.buffer);
      const round = async (isDone: (sent: number) => boolean): Promise<void> => {
        for (let i = 0; i < n;) {
          for (let k = 0; k < 1000; k++) {
            view.setUint32(8, i++);
            tx.queue(ifindex, packet);
          }
          tx.flush();
          assert.ok(
            await eventually(() => isDone(i), 10_000),
            `after ${i} packets: ${JSON.stringify(bridge.stats.upcalls)}`,
          );
        }
      };
      const start = Date.now();
      // The rate is what the switch keeps up with: the next packets are sent when these have been sent on.
      await round((sent) => bridge.slowPath.stats.misses >= sent || bridge.stats.lost > 0);
      const rate = Math.round((1000 * n) / (Date.now() - start));
      assert.equal(bridge.stats.lost, 0);
      assert.equal(bridge.stats.transmit.dropped, 0);
      assert.ok(bridge.cache.size >= n, `${bridge.cache.size} megaflows at ${rate} set-ups a second`);
      // The table grows in steps, and on a busy machine a step takes seconds.
      await eventually(() => !bridge.cache.isWanting && !bridge.specialiser.isBusy, 40_000);
      const { table } = bridge.cache.stats;
      if (storage === "hash") assert.equal(table, undefined);
      else assert.ok(table !== undefined && table.taken > 0.99 * n && table.taken < table.slots, JSON.stringify(table));
      const misses = bridge.slowPath.stats.misses;
      await round(() => true);
      await bridge.settle();
      assert.equal(bridge.slowPath.stats.misses, misses);
      assert.deepEqual(counts(bridge), [
        [0, 0],
        [2 * n, 2 * n * 64],
      ]);
      // Memory goes back when the megaflows have gone.
      bridge.cache.clear("purge");
      assert.ok(await eventually(() => bridge.cache.stats.table === undefined, 20_000));
    });
  });
}
