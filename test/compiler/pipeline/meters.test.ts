import assert from "node:assert/strict";
import {
  applyMeterMod,
  DatapathEngine,
  FlowModError,
  loadVm,
  MeterModError,
  METER_SLOT,
  MAX_METERS,
  parseFlows,
  parseMeterMod,
  ReferenceEngine,
  remarkTos,
  Switch,
  type Hook,
  type MeterVerdict,
} from "#compiler";
import { Random } from "../../support/random.js";

const meter = (sw: Switch, text: string, nowMs = 0): number => sw.addMeter(parseMeterMod(text).meter, nowMs).slot;

/** A UDP packet of `length` bytes. */
const packetOf = (length: number, tos = 0): Uint8Array => {
  const packet = new Uint8Array(length);
  packet.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00, 0x45, tos]);
  packet.set([(length - 14) >> 8, (length - 14) & 0xff], 16);
  packet.set([64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], 22);
  packet.set([(length - 34) >> 8, (length - 34) & 0xff], 38);
  let sum = 0;
  for (let i = 14; i < 34; i += 2) sum += (packet[i]! << 8) | packet[i + 1]!;
  sum = (sum & 0xffff) + (sum >>> 16);
  sum = ~((sum & 0xffff) + (sum >>> 16));
  packet.set([(sum >> 8) & 0xff, sum & 0xff], 24);
  return packet;
};

/** The buckets of OVS lib/dpif-netdev.c, packet by packet, written from its arithmetic: what ours is held against. */
class PlainBuckets {
  readonly buckets: { bucket: number; rate: number; most: number }[];
  usedMs = 0;

  constructor(
    bands: readonly { rate: number; burst: number }[],
    private readonly countsPackets: boolean,
  ) {
    this.buckets = bands.map(({ rate, burst }) => ({ bucket: burst * 1000, rate, most: burst * 1000 }));
  }

  /** Index of the band that acts. */
  meter(bytes: number, nowMs: number): number | undefined {
    const delta = nowMs - this.usedMs;
    this.usedMs = nowMs;
    const volume = this.countsPackets ? 1000 : bytes * 8;
    let acting: number | undefined;
    this.buckets.forEach((band, i) => {
      band.bucket = Math.min(band.most, band.bucket + delta * band.rate);
      if (band.bucket >= volume) band.bucket -= volume;
      else if (acting === undefined || band.rate > this.buckets[acting]!.rate) acting = i;
    });
    return acting;
  }
}

describe("MeterTable", () => {
  for (const unit of ["pktps", "kbps"] as const) {
    it(`meter() takes from ${unit} buckets as OVS does, several bands at once`, () => {
      const r = new Random(unit.length);
      for (let round = 0; round < 60; round++) {
        const bands = Array.from({ length: 1 + r.below(4) }, () => ({
          rate: 1 + r.below(unit === "pktps" ? 400 : 9000),
          burst: 1 + r.below(unit === "pktps" ? 30 : 60),
        }));
        const plain = new PlainBuckets(bands, unit === "pktps");
        const sw = new Switch();
        const texts = bands.map(({ rate, burst }) => `type=drop rate=${rate} burst_size=${burst}`);
        const slot = meter(sw, `meter=5 ${unit} burst stats bands=${texts.join(",")}`);
        const want = { packets: 0, bytes: 0, bands: bands.map(() => ({ packets: 0, bytes: 0 })) };
        for (let now = 0, i = 0; i < 300; i++) {
          if (r.oneIn(3)) now += r.below(r.oneIn(20) ? 5000 : 12);
          const bytes = 60 + r.below(1440);
          const acting = plain.meter(bytes, now);
          const verdict: MeterVerdict = acting === undefined ? "pass" : "drop";
          assert.equal(sw.meters.meter(slot, bytes, now + 0.4), verdict, `round ${round} packet ${i}`);
          want.packets++;
          want.bytes += bytes;
          if (acting === undefined) continue;
          want.bands[acting]!.packets++;
          want.bands[acting]!.bytes += bytes;
        }
        assert.deepEqual(sw.meters.stats(sw.meters.get(5)!), want);
      }
    });
  }

  it("meter() fills a bucket of the highest rate over the longest time", () => {
    const sw = new Switch();
    const slot = meter(sw, "meter=1 kbps burst bands=type=drop rate=4294967295 burst_size=4294967295", 5);
    for (const now of [5, 6, 1e9, 2e9]) assert.equal(sw.meters.meter(slot, 65535, now), "pass", `${now}`);
  });

  it("bind() takes buckets and counters along", () => {
    const sw = new Switch();
    const slot = meter(sw, "meter=1 pktps bands=type=drop rate=1 burst_size=0");
    assert.equal(sw.meters.meter(slot, 60, 0), "pass");
    sw.meters.bind(new Uint8Array(MAX_METERS * METER_SLOT.size));
    assert.equal(sw.meters.meter(slot, 60, 0), "drop");
    sw.meters.unbind();
    assert.deepEqual(sw.meters.stats(sw.meters.get(1)!), {
      packets: 2,
      bytes: 120,
      bands: [{ packets: 1, bytes: 60 }],
    });
  });

  it("add(), modify() and delete() refuse as OVS does, and a meter takes its rules along", () => {
    const sw = new Switch();
    const is =
      (problem: string) =>
      (error: unknown): boolean =>
        (error instanceof MeterModError || error instanceof FlowModError) && error.problem === problem;
    const text = "meter=1 pktps bands=type=drop rate=1";
    assert.throws(() => sw.add(parseFlows("actions=meter:1,output:1")[0]!, 0), is("invalid_meter"));
    assert.throws(() => applyMeterMod(sw, parseMeterMod(text, "modify"), 0), is("unknown_meter"));
    applyMeterMod(sw, parseMeterMod(text), 0);
    assert.throws(() => applyMeterMod(sw, parseMeterMod(text), 0), is("meter_exists"));
    sw.add(parseFlows("actions=meter:1,output:1")[0]!, 0);
    sw.add(parseFlows("ip,actions=output:1")[0]!, 0);
    const { version } = sw;
    applyMeterMod(sw, parseMeterMod("meter=all", "delete"), 0);
    assert.deepEqual([sw.size, sw.version > version, [...sw.meters].length], [1, true, 0]);
    for (let id = 1; id <= MAX_METERS; id++) meter(sw, `meter=${id} pktps bands=type=drop rate=1`);
    assert.throws(() => meter(sw, "meter=5000 pktps bands=type=drop rate=1"), is("out_of_meters"));
  });
});

describe("remarkTos()", () => {
  it("raises the drop precedence of assured forwarding classes, up to 3, and nothing else", () => {
    const rows: readonly (readonly [tos: number, by: number, want: number])[] = [
      [0x28, 1, 0x30], // AF11 -> AF12
      [0x28, 2, 0x38],
      [0x28, 9, 0x38],
      [0x92, 1, 0x9a], // AF42 -> AF43, ECN stays
      [0x00, 1, 0x00],
      [0xb8, 1, 0xb8], // EF
      [0x20, 1, 0x20], // CS1
      [0xc0, 1, 0xc0],
    ];
    for (const [tos, by, want] of rows) assert.equal(remarkTos(tos, by), want, `0x${tos.toString(16)} by ${by}`);
  });
});

describe("meters in compiled programs", () => {
  const METERS = [
    "meter=1 pktps burst bands=type=drop rate=100 burst_size=3",
    "meter=2 kbps burst bands=type=drop rate=800 burst_size=8,type=drop rate=300 burst_size=20",
    "meter=3 kbps burst bands=type=dscp_remark rate=100 burst_size=6 prec_level=1",
  ];
  const FLOWS = [
    "in_port=1,actions=meter:1,output:2",
    "in_port=2,actions=meter:2,mod_dl_src:02:00:00:00:00:09,output:3",
    "in_port=3,actions=meter:3,output:1",
    "in_port=4,actions=meter:1",
  ];

  for (const hook of ["xdp", "tc"] as const satisfies readonly Hook[]) {
    it(`the ${hook} program meters as the reference does, bit for bit, with user space taking from the same buckets`, () => {
      const make = (): Switch => {
        const sw = new Switch();
        for (let number = 1; number <= 4; number++) sw.setPort({ number });
        for (const text of METERS) meter(sw, text, 1000);
        for (const flow of parseFlows(FLOWS.join("\n"))) sw.add(flow, 0);
        return sw;
      };
      const reference = new ReferenceEngine(make());
      const sw = make();
      using engine = new DatapathEngine(sw, hook, loadVm([1, 2, 3, 4]), { patience: 5 });
      const r = new Random(3);
      const seen = { passed: 0, dropped: 0, hits: 0 };
      for (let now = 1000, i = 0; i < 3000; i++) {
        if (r.oneIn(4)) now += r.below(r.oneIn(50) ? 300 : 9);
        const packet = packetOf(60 + r.below(600), 0x28);
        const inPort = 1 + r.below(4);
        const want = reference.handle(inPort, packet, now);
        const have = engine.handle(inPort, packet, now);
        assert.deepEqual(have.outputs, want.outputs, `packet ${i} by port ${inPort} at ${now}`);
        if (want.outputs.length > 0) seen.passed++;
        else seen.dropped++;
        if (have.path === "hit") seen.hits++;
      }
      const stats = (of: Switch): unknown[] => [...of.meters].map((entry) => of.meters.stats(entry));
      assert.deepEqual(stats(sw), stats(reference.sw));
      assert.ok(seen.passed > 500 && seen.dropped > 500 && seen.hits > 1500, JSON.stringify(seen));
    });
  }
});
