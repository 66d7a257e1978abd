// The megaflow cache as it is meant: what has been translated once is not translated again for packets that agree in the
// bits that mattered. The reference that datapaths are compared with; it is emptied by any change of the switch.

import type { FlowWords, Match } from "../openflow/index.js";
import { carrierOf } from "./carriers.js";
import { Classifier } from "./classifier.js";
import { newFlow } from "../openflow/flow.js";
import type { Switch } from "./switch.js";
import { translate, type Translation } from "./translate.js";

export interface CachedMegaflow {
  readonly match: Match;
  readonly priority: 0;
  readonly translation: Translation;
  packets: number;
  bytes: number;
}

/** hit: known, a datapath hook carries it; slow: known, user space carries it; miss: translated just now. */
export type CachePath = "hit" | "slow" | "miss";

export class MegaflowCache {
  #flows = new Classifier<CachedMegaflow>();
  #version: number;
  readonly #ignored = newFlow();

  constructor(readonly sw: Switch) {
    this.#version = sw.version;
  }

  get size(): number {
    return this.#flows.size;
  }

  [Symbol.iterator](): Iterator<CachedMegaflow> {
    return this.#flows[Symbol.iterator]();
  }

  /** The megaflow that handles this packet, made if there is none; counts the packet. */
  handle(flow: FlowWords, bytes: number): { readonly megaflow: CachedMegaflow; readonly path: CachePath } {
    if (this.sw.version !== this.#version) {
      this.#flows = new Classifier();
      this.#version = this.sw.version;
    }
    let megaflow = this.#flows.lookup(flow, this.#ignored);
    const path =
      megaflow === undefined ? "miss" : carrierOf(megaflow.translation.actions).hook === "slow" ? "slow" : "hit";
    if (megaflow === undefined) {
      const translation = translate(this.sw, flow);
      const { mask } = translation;
      const match = { value: flow.map((word, i) => word & mask[i]!), mask };
      megaflow = { match, priority: 0, translation, packets: 0, bytes: 0 };
      this.#flows.insert(megaflow);
    }
    megaflow.packets++;
    megaflow.bytes += bytes;
    return { megaflow, path };
  }
}
