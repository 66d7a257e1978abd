// A select group in a running switch: a few megaflows carry many connections, each keeps its port, buckets count exactly, and
// a port that goes down takes only its own connections along.

import assert from "node:assert/strict";
import { parseFlows, parseGroups } from "#compiler";
import { reportMegaflows } from "#runtime";
import { eventually, frame, Lab, sleep } from "./lab.js";

const N_CONNECTIONS = 400;

/** A UDP datagram over IPv4 without checksum, of connection `i`, to a station that is none of the hosts. */
const datagram = (i: number): Uint8Array => {
  const bytes = frame(Lab.mac(1), Lab.mac(9), 60, 0x0800);
  const src = [10, 1, i >>> 8, i & 0xff];
  bytes.set([0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0, ...src, 10, 9, 9, 9, 0x10, i & 0xff, 0, 53, 0, 26, 0, 0], 14);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  bytes.set([(~sum >>> 8) & 0xff, ~sum & 0xff], 24);
  return bytes;
};

const connectionOf = (packet: Uint8Array): number => (packet[28]! << 8) | packet[29]!;

describe("runtime, select groups", function () {
  this.timeout(120_000);

  it(`carries ${N_CONNECTIONS} connections by 16 megaflows, each to one port, and follows the ports`, async () => {
    using lab = new Lab(4);
    await lab.silence();
    const groups = parseGroups(
      "group_id=1,type=select,bucket=watch_port=2,output:2,bucket=watch_port=3,output:3,bucket=watch_port=4,output:4",
    );
    using bridge = lab.bridge({ failMode: "secure", groups, flows: parseFlows("priority=1,ip,actions=group:1") });
    const { sender, ifindex } = lab.sender(1);
    using tx = sender;
    using rx2 = lab.receiver(2);
    using rx3 = lab.receiver(3);
    using rx4 = lab.receiver(4);
    const receivers = [rx2, rx3, rx4];

    /** Sends a packet of every connection. @returns connection and port of what arrived */
    const round = async (): Promise<Map<number, number>> => {
      const arrived = new Map<number, number>();
      for (let i = 0; i < N_CONNECTIONS; i++) {
        tx.queue(ifindex, datagram(i));
        if (i % 50 !== 49) continue;
        tx.flush();
        await sleep(1);
      }
      await eventually(() => {
        receivers.forEach((rx, at) => {
          for (let packet = rx.receive(); packet !== undefined; packet = rx.receive()) {
            const { data } = packet;
            if (data[12] === 0x08 && data[13] === 0 && data[30] === 10 && data[31] === 9)
              arrived.set(connectionOf(data), at + 2);
          }
        });
        return arrived.size === N_CONNECTIONS;
      });
      assert.equal(arrived.size, N_CONNECTIONS);
      return arrived;
    };

    const first = await round();
    assert.ok(await eventually(() => bridge.cache.stats.subtables > 0 && !bridge.cache.isWanting));
    const { misses } = bridge.stats.upcalls;
    assert.deepEqual(await round(), first);
    assert.equal(bridge.stats.upcalls.misses, misses, "all connections are known by their hash");
    const shown = reportMegaflows(bridge)
      .map(({ match }) => match)
      .filter((match) => match.includes("eth_type(0x0800)"));
    assert.equal(shown.filter((match) => /dp_hash\(sym_l4\((0|0x[0-9a-f])\/0xf\)\)/.test(match)).length, shown.length);
    assert.ok(shown.length <= 16, `${shown.length} megaflows`);

    await sleep(60);
    await bridge.settle();
    const { buckets } = bridge.sw.group(1)!;
    const counted = buckets.map(({ packets }) => packets);
    assert.deepEqual(
      counted,
      [2, 3, 4].map((port) => 2 * [...first.values()].filter((at) => at === port).length),
    );
    assert.ok(
      counted.every((n) => n > 2 * 0.15 * N_CONNECTIONS),
      `uneven: ${counted.join()}`,
    );

    bridge.sw.setPort({ number: 3, up: false });
    await bridge.settle();
    const after = await round();
    for (const [connection, port] of first) {
      if (port === 3) assert.notEqual(after.get(connection), 3);
      else assert.equal(after.get(connection), port, `connection ${connection} has moved`);
    }
  });
});
