import assert from "node:assert/strict";
import { formatMac, packMac, Rtnl, Tap } from "libbpf-ts";
import { parseFlows } from "#compiler";
import { parsePortSpec, type Bridge, type BridgeOptions, type PortReport } from "#runtime";
import { eventually, frame, Lab, sleep } from "./lab.js";

/** Our frames have this type; whatever else arrives is the kernel's own. */
const TYPE = 0x88b5;
const [ARP, IPV4] = [0x0806, 0x0800];
const typeOf = (data: Uint8Array): number => (data[12]! << 8) | data[13]!;

/** The station at the far end of the tap. */
const STATION = { number: 9, mac: Lab.mac(9), ip: Lab.ip(9) } as const;

/** Ones' complement checksum over 16-bit words in network order. */
const checksum = (bytes: Uint8Array): number => {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
};

/** Answers ARP requests and echo requests to {@link STATION} as a host would; undefined for anything else. */
const answer = (request: Uint8Array): Uint8Array | undefined => {
  const reply = request.slice();
  const own = packMac(STATION.mac);
  const ip = STATION.ip.split(".").map(Number);
  reply.copyWithin(0, 6, 12);
  reply.set(own, 6);
  if (typeOf(request) === ARP) {
    if (request[21] !== 1 || !ip.every((octet, i) => request[38 + i] === octet)) return undefined;
    reply[21] = 2;
    reply.set(request.subarray(22, 32), 32);
    reply.set([...own, ...ip], 22);
    return reply;
  }
  if (typeOf(request) !== IPV4 || request[23] !== 1 || request[34] !== 8) return undefined;
  if (!own.every((byte, i) => request[i] === byte)) return undefined;
  // What the kernel sends out of a tap is finished: the answer would be wrong otherwise.
  assert.equal(checksum(request.subarray(34)), 0, "ICMP checksum of the request");
  reply.set(request.subarray(30, 34), 26);
  reply.set(request.subarray(26, 30), 30);
  reply[34] = 0;
  reply.set([0, 0], 36);
  const sum = checksum(reply.subarray(34));
  reply.set([sum >>> 8, sum & 0xff], 36);
  return reply;
};

describe("runtime/tap", function () {
  this.timeout(60_000);
  let lab: Lab;
  before(async () => {
    lab = new Lab(2);
    await lab.silence();
  });
  after(() => lab[Symbol.dispose]());

  /** A tap in the switch's namespace, up. */
  const openTap = (name = "tap0"): Tap =>
    lab.switchNs.run(() => {
      const tap = Tap.open(lab.sys, name);
      using rtnl = Rtnl.open(lab.sys);
      rtnl.change(rtnl.get(name).index, { up: true });
      return tap;
    });

  /** A switch with the veth ports 1 and 2, and the tap as port 3. */
  const openBridge = (hook: string, options: Partial<BridgeOptions> = {}): Bridge =>
    lab.bridge({ ports: [`1=p1`, `2=p2`, `3=tap0:${hook}`].map(parsePortSpec), ...options });

  const port = (bridge: Bridge, number: number): PortReport => bridge.stats.ports.find((p) => p.port === number)!;

  /** Frames of ours that come out of the tap until `want` are there. */
  const readTap = async (tap: Tap, want: number): Promise<Uint8Array[]> => {
    const got: Uint8Array[] = [];
    await eventually(() => {
      for (let data = tap.read(); data !== undefined; data = tap.read()) if (typeOf(data) === TYPE) got.push(data);
      return got.length >= want;
    });
    return got;
  };

  const cases: readonly (readonly [hook: string, taken: string])[] = [
    ["auto", "tc"],
    ["tc", "tc"],
    ["generic", "generic"],
    ["native", "native"],
  ];
  for (const [hook, taken] of cases) {
    it(`Bridge with a tap port, hook ${hook}, learns, carries frames both ways and counts each once`, async () => {
      using tap = openTap();
      using bridge = openBridge(hook);
      assert.equal(port(bridge, 3).hook, taken);
      using rx = lab.receiver(1);
      const { sender, ifindex } = lab.sender(1);
      using tx = sender;
      // Both stations make themselves known.
      tap.write(frame(STATION.mac, Lab.mac(1)));
      assert.ok(await eventually(() => bridge.sw.macs.size === 1));
      tx.send(ifindex, frame(Lab.mac(1), STATION.mac));
      assert.equal((await readTap(tap, 1)).length, 1);
      assert.ok(await eventually(() => bridge.sw.macs.size === 2));
      await sleep(30);
      while (rx.receive() !== undefined);
      await bridge.settle();
      const before = [1, 2, 3].map((number) => ({ ...port(bridge, number) }));

      const n = 300;
      const sizes = Array.from({ length: n }, (_, i) => 60 + ((i * 37) % 1400));
      const frames = (src: string, dst: string): Uint8Array[] =>
        sizes.map((size, i) => {
          const data = frame(src, dst, size);
          data[14] = i;
          return data;
        });
      const inward = frames(STATION.mac, Lab.mac(1));
      for (const data of inward) assert.equal(tap.write(data), true);
      const arrived: Uint8Array[] = [];
      await eventually(() => {
        for (let packet = rx.receive(); packet !== undefined; packet = rx.receive())
          if (typeOf(packet.data) === TYPE) arrived.push(packet.data);
        return arrived.length >= n;
      });
      assert.equal(arrived.length, n);
      assert.deepEqual(new Set(arrived.map(String)), new Set(inward.map(String)));

      const outward = frames(Lab.mac(1), STATION.mac);
      for (const data of outward) assert.ok(tx.send(ifindex, data));
      const left = await readTap(tap, n);
      assert.equal(left.length, n);
      assert.deepEqual(new Set(left.map(String)), new Set(outward.map(String)));

      await bridge.settle();
      const bytes = sizes.reduce((sum, size) => sum + size, 0);
      const rise = [1, 2, 3].map((number, i) => {
        const { rxPackets, rxBytes, txPackets, txBytes } = port(bridge, number);
        const old = before[i]!;
        return [rxPackets - old.rxPackets, rxBytes - old.rxBytes, txPackets - old.txPackets, txBytes - old.txBytes];
      });
      assert.deepEqual(rise, [
        [n, bytes, n, bytes],
        [0, 0, 0, 0],
        [n, bytes, n, bytes],
      ]);
      const { lost, upcalls, transmit } = bridge.stats;
      assert.deepEqual([lost, upcalls.errors, transmit.dropped], [0, 0, 0]);
    });

    it(`Bridge with a tap port, hook ${hook}, follows flows and answers a ping through it`, async () => {
      using tap = openTap();
      const flows = parseFlows(`priority=9,arp actions=FLOOD
priority=8,icmp,in_port=1,nw_dst=${STATION.ip} actions=output:3
priority=8,icmp,in_port=3,nw_src=${STATION.ip} actions=output:1
priority=7,in_port=3,dl_type=0x88b5 actions=push_vlan:0x8100,mod_vlan_vid:5,output:2
priority=0 actions=drop`);
      using bridge = openBridge(hook, { failMode: "secure", flows });
      let echoes = 0;
      using station = tap.follow((request) => {
        const reply = answer(request);
        if (reply === undefined) return;
        if (typeOf(reply) === IPV4) echoes++;
        tap.write(reply);
      });
      assert.ok(station);
      const { stdout } = await lab.run(1, `ping -c 5 -i 0.1 -W 2 ${STATION.ip}`);
      assert.match(stdout, /5 packets transmitted, 5 received/);
      assert.equal(echoes, 5);

      using rx = lab.receiver(2);
      tap.write(frame(STATION.mac, Lab.mac(2)));
      let tagged: Uint8Array | undefined;
      await eventually(() => {
        for (let packet = rx.receive(); packet !== undefined; packet = rx.receive())
          if (typeOf(packet.data) === 0x8100) tagged = packet.data;
        return tagged !== undefined;
      });
      assert.deepEqual([...tagged!.subarray(12, 18)], [0x81, 0, 0, 5, TYPE >>> 8, TYPE & 0xff]);
      assert.equal(formatMac(tagged!.subarray(6, 12)), STATION.mac);

      await bridge.settle();
      const icmp = [...bridge.sw.rules()].filter(({ priority }) => priority === 8);
      assert.deepEqual(
        icmp.map(({ packets, bytes }) => [packets, bytes]),
        [
          [5, 5 * 98],
          [5, 5 * 98],
        ],
      );
    });
  }

  it("Bridge drops a tap port whose holder lets go, hurts no other port, and takes it back when it is made again", async () => {
    const pingThere = async (): Promise<number> => {
      const { stdout } = await lab.run(1, `ping -c 3 -i 0.1 -W 2 ${Lab.ip(2)}`);
      return Number(/(\d+) received/.exec(stdout)?.[1]);
    };
    const first = openTap();
    using bridge = openBridge("auto");
    first.write(frame(STATION.mac, Lab.mac(1)));
    assert.ok(await eventually(() => bridge.sw.macs.size > 0));
    assert.equal(await pingThere(), 3);
    const { ifindex } = port(bridge, 3);

    first[Symbol.dispose]();
    assert.ok(await eventually(() => bridge.sw.port(3) === undefined));
    assert.equal(bridge.sw.macs.lookup(0x020000000009, 0), undefined);
    assert.equal(await pingThere(), 3);

    using second = openTap();
    assert.ok(await eventually(() => bridge.sw.port(3)?.up === true));
    assert.notEqual(port(bridge, 3).ifindex, ifindex);
    using station = second.follow((request) => {
      const reply = answer(request);
      if (reply !== undefined) second.write(reply);
    });
    assert.ok(station);
    const { stdout } = await lab.run(1, `ping -c 3 -i 0.1 -W 2 ${STATION.ip}`);
    assert.match(stdout, /3 packets transmitted, 3 received/);
    assert.equal(await pingThere(), 3);
    assert.equal(bridge.stats.upcalls.errors, 0);
  });
});
