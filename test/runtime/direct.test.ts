// Direct mode in a running switch: real packets on veth, before, at and after changes of the tables.

import assert from "node:assert/strict";
import type { PacketReceiver, PacketSender } from "libbpf-ts";
import {
  flowMods,
  formatMatch,
  groupMods,
  meterMods,
  parseFlowMods,
  parseFlows,
  parseGroupMods,
  parseMeterMods,
} from "#compiler";
import { NotDirectError, type Bridge } from "#runtime";
import { eventually, frame, Lab } from "./lab.js";

const EXPERIMENT = 0x88b5;
const N_HOSTS = 3;
/** Enough of one mask for a look-up by data. */
const MANY = Array.from(
  { length: 50 },
  (_, i) => `priority=5,dl_dst=02:00:00:00:01:${hex(i)},actions=output:${2 + (i % 2)}`,
);

function hex(n: number): string {
  return n.toString(16).padStart(2, "0");
}

/** A switch in direct mode with a sender at host 1 and receivers at all hosts. */
class Direct implements Disposable {
  readonly lab = new Lab(N_HOSTS);
  bridge!: Bridge;
  private from!: { readonly sender: PacketSender; readonly ifindex: number };
  private receivers!: readonly PacketReceiver[];

  async start(hook: string, flows: readonly string[]): Promise<void> {
    await this.lab.silence();
    this.bridge = this.lab.bridge({
      hook,
      mode: "auto",
      failMode: "secure",
      changes: meterMods(parseMeterMods("meter=1,pktps,burst,band=type=drop,rate=1,burst_size=5", { file: "test" })),
      flows: parseFlows(flows.join("\n"), { file: "test" }),
    });
    this.from = this.lab.sender(1);
    this.receivers = [1, 2, 3].map((host) => this.lab.receiver(host));
    assert.ok(await this.isOn(), `not on: ${this.bridge.front?.stats.refused ?? "not refused"}`);
  }

  /** Waits until no other program is due and packets are handled by the tables themselves. */
  isOn(): Promise<boolean> {
    return eventually(() => this.bridge.front?.stats.isOn === true && !this.bridge.front.isBusy, 20_000);
  }

  send(dst: string, size = 64): void {
    assert.ok(this.from.sender.send(this.from.ifindex, frame(Lab.mac(1), dst, size, EXPERIMENT)));
  }

  /** Where `n` packets of ours arrive: number of packets by host. */
  async arrived(n: number): Promise<number[]> {
    const got = [0, 0, 0];
    const take = (): boolean => {
      this.receivers.forEach((receiver, host) => {
        for (let packet = receiver.receive(); packet !== undefined; packet = receiver.receive())
          if (packet.data[12] === 0x88 && packet.data[13] === 0xb5 && packet.data[11] === 1) got[host]!++;
      });
      return got.reduce((sum, one) => sum + one) >= n;
    };
    await eventually(take, n === 0 ? 50 : 5000);
    return got;
  }

  /** Makes a change and waits, as a barrier does, until it is in force. */
  async change(flowMod: string): Promise<void> {
    this.bridge.change(flowMods(parseFlowMods(flowMod, { file: "test" })));
    await this.bridge.settle();
  }

  /** Packets and bytes of the flow with a cookie, as dump-flows shows them. */
  async counts(cookie: bigint): Promise<readonly [number, number]> {
    await this.bridge.settle();
    const rule = [...this.bridge.sw.rules()].find((one) => one.cookie === cookie);
    return [rule?.packets ?? NaN, rule?.bytes ?? NaN];
  }

  [Symbol.dispose](): void {
    for (const receiver of this.receivers ?? []) receiver[Symbol.dispose]();
    this.from?.sender[Symbol.dispose]();
    this.bridge?.[Symbol.dispose]();
    this.lab[Symbol.dispose]();
  }
}

describe("runtime/direct", function () {
  this.timeout(60_000);

  for (const hook of ["tc", "generic"]) {
    describe(`Bridge with mode auto at ${hook}`, () => {
      const direct = new Direct();
      before(() =>
        direct.start(hook, [
          ...MANY,
          "cookie=1,priority=9,in_port=1,dl_dst=02:00:00:00:00:02,actions=output:2",
          "cookie=2,priority=9,in_port=1,dl_dst=02:00:00:00:00:03,actions=goto_table:1",
          "cookie=3,priority=9,in_port=1,dl_dst=02:00:00:00:00:04,actions=learn(table=9,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]),output:3",
          "cookie=5,priority=9,in_port=1,dl_dst=02:00:00:00:00:05,actions=meter:1,output:2",
          "cookie=4,table=1,priority=1,actions=mod_dl_src:02:00:00:00:00:01,output:3",
        ]),
      );
      after(() => direct[Symbol.dispose]());

      it("handles packets without a megaflow, and counts each once for rules and ports", async () => {
        for (let i = 0; i < 100; i++) direct.send(Lab.mac(2), 60 + i);
        assert.deepEqual(await direct.arrived(100), [0, 100, 0]);
        for (let i = 0; i < 50; i++) direct.send(Lab.mac(3));
        assert.deepEqual(await direct.arrived(50), [0, 0, 50]);
        assert.deepEqual(await direct.counts(1n), [100, 100 * 60 + (100 * 99) / 2]);
        assert.deepEqual(await direct.counts(2n), [50, 50 * 64]);
        assert.deepEqual(await direct.counts(4n), [50, 50 * 64]);
        const { ports, upcalls, direct: stats } = direct.bridge.stats;
        assert.equal(upcalls.misses, 0);
        assert.equal(stats?.packets, 150);
        assert.deepEqual(
          ports.map(({ rxPackets, txPackets }) => [rxPackets, txPackets]),
          [
            [150, 0],
            [0, 100],
            [0, 50],
          ],
        );
      });

      it("leaves to the megaflows what no program can do, and counts that, too", async () => {
        for (let i = 0; i < 10; i++) direct.send(Lab.mac(4));
        assert.deepEqual(await direct.arrived(10), [0, 0, 10]);
        assert.deepEqual(await direct.counts(3n), [10, 640]);
        assert.ok(direct.bridge.stats.upcalls.misses > 0);
        assert.ok(await direct.isOn());
      });

      it("meters: so many packets pass and no more, all are counted", async () => {
        const { bridge } = direct;
        await bridge.settle();
        const before = bridge.stats.direct?.packets ?? NaN;
        for (let i = 0; i < 30; i++) direct.send("02:00:00:00:00:05");
        const [, passed = 0] = await direct.arrived(5);
        // One more each second.
        assert.ok(passed >= 5 && passed < 15, `${passed} packets passed`);
        assert.deepEqual(await direct.counts(5n), [30, 30 * 64]);
        assert.equal((bridge.stats.direct?.packets ?? NaN) - before, 30);
        const [meter] = [...bridge.sw.meters];
        assert.equal(bridge.sw.meters.stats(meter!).packets, 30);
      });

      it("has a change of tables in force for the next packet, and counts every packet", async () => {
        for (let round = 0; round < 3; round++) {
          const port = 2 + (round % 2);
          await direct.change(
            `modify_strict cookie=1,priority=9,in_port=1,dl_dst=02:00:00:00:00:02,actions=output:${port}`,
          );
          for (let i = 0; i < 20; i++) direct.send(Lab.mac(2));
          const want = [0, 0, 0];
          want[port - 1] = 20;
          assert.deepEqual(await direct.arrived(20), want, `round ${round}`);
          if (round % 2 === 0) assert.ok(await direct.isOn(), JSON.stringify(direct.bridge.front?.stats));
        }
        assert.deepEqual((await direct.counts(1n))[0], 160);
        assert.ok(await direct.isOn());
      });

      it("takes other arguments of a rule while it runs: in force at once, and no packet takes another way", async () => {
        assert.ok(await direct.isOn());
        const { bridge } = direct;
        const before = bridge.stats.direct;
        for (const port of [3, 2, 3]) {
          bridge.change(
            flowMods(
              parseFlowMods(`modify_strict priority=5,dl_dst=02:00:00:00:01:04,actions=output:${port}`, {
                file: "test",
              }),
            ),
          );
          for (let i = 0; i < 10; i++) direct.send("02:00:00:00:01:04");
          const want = [0, 0, 0];
          want[port - 1] = 10;
          assert.deepEqual(await direct.arrived(10), want);
        }
        await bridge.settle();
        const after = bridge.stats.direct;
        assert.equal(after?.interruptions, before?.interruptions);
        assert.equal((after?.inPlace ?? 0) - (before?.inPlace ?? 0), 3);
        assert.equal((after?.packets ?? 0) - (before?.packets ?? 0), 30);
        const rule = [...bridge.sw.rules()].find(({ match }) => formatMatch(match).includes("02:00:00:00:01:04"));
        assert.deepEqual([rule?.packets, rule?.bytes], [30, 30 * 64]);
      });

      it("has a change of groups in force for the next packet", async () => {
        const { bridge } = direct;
        bridge.change(groupMods(parseGroupMods("group_id=1,type=all,bucket=output:2", { file: "test" })));
        await direct.change("add cookie=7,priority=9,in_port=1,dl_dst=02:00:00:00:00:07,actions=group:1");
        assert.ok(await direct.isOn());
        for (let i = 0; i < 10; i++) direct.send("02:00:00:00:00:07");
        assert.deepEqual(await direct.arrived(10), [0, 10, 0]);
        assert.deepEqual(await direct.counts(7n), [10, 640]);
        assert.deepEqual(
          [...bridge.sw.groups()].map(({ packets }) => packets),
          [10],
        );
        bridge.change(groupMods(parseGroupMods("modify group_id=1,type=all,bucket=output:3", { file: "test" })));
        await bridge.settle();
        direct.send("02:00:00:00:00:07");
        assert.deepEqual(await direct.arrived(1), [0, 0, 1]);
      });

      it("loses no packet while tables change all the time", async () => {
        let sent = 0;
        for (let round = 0; round < 40; round++) {
          direct.bridge.change(
            flowMods(
              parseFlowMods(
                `add priority=5,dl_dst=02:00:00:00:02:${hex(round)},actions=goto_table:${1 + (round % 2)}`,
                { file: "test" },
              ),
            ),
          );
          for (let i = 0; i < 25; i++, sent++) direct.send("02:00:00:00:01:00");
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
        assert.deepEqual(await direct.arrived(sent), [0, sent, 0]);
        assert.ok(await direct.isOn());
      });
    });
  }

  it("Bridge with mode direct refuses tables that have no direct program, by the first rule", () => {
    using lab = new Lab(1);
    const flows = parseFlows("priority=1,ip,actions=output:1\ntable=0,priority=0,actions=NORMAL", { file: "test" });
    assert.throws(
      () => lab.bridge({ mode: "direct", failMode: "secure", flows }),
      (error) => error instanceof NotDirectError && /table 0 in direct mode: NORMAL/.test(error.message),
    );
  });
});
