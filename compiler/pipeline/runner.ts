// Carries translations out in user space: the actions, and, where a packet recirculates, the passes that follow. What a
// further pass teaches, and whom it is credited to, is seen to here: only the first pass can come from a cache.

import { get, newFlow } from "../openflow/flow.js";
import { Executor, type Recirculated, type Sink } from "../packet/execute.js";
import { extract, newLayers, type Layers } from "../packet/extract.js";
import { ethernet } from "../packet/headers.js";
import { creditTranslation, learnFrom } from "./credit.js";
import type { DpAction } from "./dp-action.js";
import { MAX_RECIRCULATIONS, type Frozen } from "./frozen.js";
import type { Switch } from "./switch.js";
import { translate } from "./translate.js";

/** Handles one packet at a time. A sink must not call back into it. */
export class Runner {
  readonly #executor = new Executor();
  readonly #flow = newFlow();
  readonly #layers = newLayers();

  constructor(readonly sw: Switch) {}

  /**
   * Carries `actions` out on a packet, and all that follows from them. A packet that recirculates too often is dropped.
   *
   * @param layers - of this packet, when they are known; not changed
   * @throws {@link RangeViolation} as {@link Executor.execute} does
   */
  run(packet: Uint8Array, actions: readonly DpAction[], sink: Sink, nowMs: number, layers?: Layers): void {
    this.#goOn(this.#executor.execute(packet, actions, sink, layers), sink, nowMs);
  }

  /** Takes a packet up again where its translation was broken off. @throws as {@link run} */
  resume(packet: Uint8Array, frozen: Frozen, packetType: number, sink: Sink, nowMs: number): void {
    this.#goOn(this.#again({ packet, frozen, packetType }, sink, nowMs), sink, nowMs);
  }

  #goOn(first: readonly Recirculated[], sink: Sink, nowMs: number): void {
    let waiting = first;
    for (let pass = 0; waiting.length > 0 && pass < MAX_RECIRCULATIONS; pass++) {
      waiting = waiting.flatMap((each) => this.#again(each, sink, nowMs));
    }
  }

  #again({ packet, frozen, packetType }: Recirculated, sink: Sink, nowMs: number): readonly Recirculated[] {
    // Too short for any look-up, whatever it begins with: OVS drops it.
    if (packet.length < ethernet.minBytes) return [];
    extract(packet, packet.length, get(frozen.metadata, "in_port"), this.#flow, this.#layers, packetType);
    const translation = translate(this.sw, this.#flow, { frozen });
    creditTranslation(translation, 1, packet.length, nowMs);
    const waiting = this.#executor.execute(packet, translation.actions, sink, this.#layers, packetType);
    learnFrom(this.sw, translation, nowMs);
    return waiting;
  }
}
