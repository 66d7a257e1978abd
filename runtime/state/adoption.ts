// Goes on with what an earlier process left running. Its programs run until each attachment is handed to ours; by then ours
// know all of its megaflows, translated by the tables as they are now: whatever differs (tables, layout of keys, version) is
// another program and other maps, and no packet misses that hit before.
//
//   install()   puts the megaflows into our maps, before the first attachment is taken over
//   finish()    when no packet can be in the old programs any more: credits what they counted, takes what came up

import { get, learnFrom, set, translate, type Switch } from "#compiler";
import { RingBuffer } from "libbpf-ts";
import { monotonicMs } from "../clock.js";
import type { LeftMegaflow, Survivor } from "../datapath/survivor.js";
import type { MegaflowCache } from "../megaflow/cache.js";
import type { Verdict } from "../megaflow/verdict.js";
import type { PortTable } from "../ports/port-table.js";
import { DRAIN_LIMIT, type SlowPath } from "../slow-path.js";
import type { CounterBase } from "./saved-counters.js";

/** Counts packets of a translation for rules, groups and ports. */
type Credit = (verdict: Verdict, inPort: number, packets: number, bytes: number, nowMs: number) => void;

export interface AdoptionReport {
  /** Megaflows that went over to our programs. */
  readonly megaflows: number;
  /** Those that could not: their packets come up as the first ones of new flows do. */
  readonly left: number;
}

export class Adoption implements Disposable {
  private readonly found: LeftMegaflow[] = [];

  constructor(
    private readonly survivor: Survivor,
    private readonly base: CounterBase,
    private readonly sw: Switch,
    private readonly ports: PortTable,
    private readonly cache: MegaflowCache,
    private readonly credit: Credit,
  ) {}

  /**
   * Translates all megaflows and puts them in.
   * @param learns - whether addresses are to be learned from them, because none are known
   */
  install(learns: boolean): AdoptionReport {
    const { cache, sw, found } = this;
    const nowMs = monotonicMs();
    for (const megaflow of this.survivor.megaflows()) {
      const port = this.ports.byIfindex(megaflow.ifindex);
      if (port === undefined) continue;
      set(megaflow.flow, "in_port", port.number);
      found.push(megaflow);
    }
    if (learns) for (const { flow } of found) learnFrom(sw, translate(sw, flow), nowMs);
    let left = 0;
    for (const { flow, ifindex } of found)
      if (cache.install(flow, ifindex, translate(sw, flow), nowMs) === undefined) left++;
    return { megaflows: found.length - left, left };
  }

  /** Credits what the old programs counted and was not credited yet. */
  settle(): void {
    const nowMs = monotonicMs();
    for (const megaflow of this.found) {
      const counters = this.survivor.counters(megaflow);
      if (counters === undefined) continue;
      const [packets, bytes] = this.base.of(megaflow.at);
      const isSame = counters.packets >= packets;
      const newPackets = isSame ? counters.packets - packets : counters.packets;
      const newBytes = isSame ? counters.bytes - bytes : counters.bytes;
      if (newPackets === 0) continue;
      const inPort = get(megaflow.flow, "in_port");
      this.credit(translate(this.sw, megaflow.flow), inPort, newPackets, newBytes, nowMs);
    }
    this.found.length = 0;
  }

  /** Takes the upcalls that nobody took. */
  drain(slowPath: SlowPath): void {
    using ring = RingBuffer.open(this.survivor.ring);
    while (ring.drain(slowPath.onRecord, DRAIN_LIMIT) > 0) slowPath.onDrained();
  }

  [Symbol.dispose](): void {
    this.survivor[Symbol.dispose]();
  }
}
