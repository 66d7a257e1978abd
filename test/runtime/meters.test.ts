// Meters in the kernel: a daemon's worth of CPUs and user space take from one bucket, and nothing is taken twice.

import assert from "node:assert/strict";
import { Worker } from "node:worker_threads";
import {
  compileMain,
  DatapathEngine,
  extract,
  keyLayout,
  MAPS,
  newFlow,
  numberShapes,
  parseFlows,
  parseMeterMod,
  plan,
  putArgs,
  putCompactKey,
  putKey,
  Switch,
  VALUE,
  type DpAction,
} from "#compiler";
import { KernelLab } from "#runtime";
import { linux, loadObject } from "libbpf-ts";
import type { MeterRun } from "./meter-runner.js";

const PACKET = Uint8Array.from({ length: 100 }, (_, i) => (i < 12 ? [2, 0, 0, 0, 0, i < 6 ? 2 : 1][i % 6]! : 0));
PACKET.set([0x12, 0x34], 12);

describe("meters in the kernel", function () {
  this.timeout(60_000);

  for (const hook of ["xdp", "tc"] as const) {
    it(`the ${hook} program drops what exceeds a bucket that user space takes from, too, and counts every packet`, () => {
      const sw = new Switch();
      for (const number of [1, 2]) sw.setPort({ number });
      const { meter } = parseMeterMod("meter=1 pktps burst bands=type=drop rate=1 burst_size=20");
      sw.addMeter(meter, 0);
      for (const flow of parseFlows("in_port=1,actions=meter:1,output:2")) sw.add(flow, 0);
      using lab = new KernelLab([1, 2]);
      using engine = new DatapathEngine(sw, hook, lab.load, {
        patience: 6,
        maxEntries: 64,
        ifindexOf: lab.ifindexOf,
        portOf: lab.portOf,
      });
      const started = performance.now();
      let sent = 0;
      let hits = 0;
      for (let i = 0; i < 60; i++) {
        const { outputs, path } = engine.handle(1, PACKET, 0);
        sent += outputs.length;
        if (path === "hit") hits++;
      }
      const refilled = Math.ceil((performance.now() - started) / 1000);
      assert.ok(hits > 40, `${hits} hits`);
      assert.ok(sent >= 20 && sent <= 20 + refilled, `${sent} passed`);
      const { packets, bytes, bands } = sw.meters.stats(sw.meters.get(1)!);
      assert.deepEqual(
        { packets, bytes, bands },
        {
          packets: 60,
          bytes: 6000,
          bands: [{ packets: 60 - sent, bytes: 100 * (60 - sent) }],
        },
      );
    });
  }

  it("programs on several CPUs and user space take every token once", async () => {
    const burst = 150_000;
    const repeat = 100_000;
    const threads = 2;
    const sw = new Switch();
    const slot = sw.addMeter(
      parseMeterMod(`meter=1 pktps burst bands=type=drop rate=1 burst_size=${burst}`).meter,
      Number(process.hrtime.bigint() / 1_000_000n),
    ).slot;
    const actions: readonly DpAction[] = [
      { kind: "meter", slot, remarks: false },
      { kind: "output", port: 1 },
    ];
    const [shape] = numberShapes([actions]);
    const made = plan({ key: keyLayout(new Set(["in_port"])), shapes: [shape!], maxEntries: 8, portSlots: 8 });
    using object = loadObject(linux(), compileMain(made, "xdp"));
    sw.meters.bind(new Uint8Array(object.map(MAPS.meters).memory));
    const ifindex = 1;
    const flow = newFlow();
    extract(PACKET, PACKET.length, 1, flow);
    const full = new Uint8Array(made.key.size);
    putKey(made.key, flow, ifindex, full);
    const key = new Uint8Array(made.exact.keySize);
    putCompactKey(made.exact, full, key);
    const value = new DataView(new ArrayBuffer(made.valueSize));
    value.setUint32(VALUE.shape, shape!.id, true);
    putArgs(shape!, actions, () => ifindex, value, VALUE.args);
    object.map(made.exact.map).update(key, new Uint8Array(value.buffer));

    const program = object.program("main_xdp");
    const started = performance.now();
    const workers = Array.from({ length: threads }, () => {
      const workerData: MeterRun = { fd: program.fdNumber, packet: PACKET, ifindex, repeat };
      return new Worker(new URL("./meter-runner.js", import.meta.url), { workerData });
    });
    let taken = 0;
    let here = 0;
    const done = Promise.all(
      workers.map(
        (worker) =>
          new Promise((resolve, reject) => {
            worker.once("message", resolve);
            worker.once("error", reject);
          }),
      ),
    );
    let isDone = false;
    void done.finally(() => (isDone = true));
    while (!isDone) {
      for (let i = 0; i < 50; i++, here++) {
        if (sw.meters.meter(slot, 100, Number(process.hrtime.bigint()) / 1e6) === "pass") taken++;
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    await done;
    const refilled = Math.ceil((performance.now() - started) / 1000) + 1;
    const { packets, bands } = sw.meters.stats(sw.meters.get(1)!);
    assert.equal(packets, threads * repeat + here);
    const passed = packets - bands[0]!.packets;
    assert.ok(taken > 0, "user space took nothing");
    assert.ok(passed >= burst && passed <= burst + refilled, `${passed} of ${packets} passed, burst ${burst}`);
    sw.meters.unbind();
  });
});
