// One switch whose packets are all translated: the semantics that the other executions must agree with.

import { newFlow } from "../openflow/flow.js";
import type { Sink } from "../packet/execute.js";
import { extract } from "../packet/extract.js";
import { creditTranslation, learnFrom } from "../pipeline/credit.js";
import { Runner } from "../pipeline/runner.js";
import type { Switch } from "../pipeline/switch.js";
import { translate, type Translation } from "../pipeline/translate.js";
import type { Handled } from "./datapath-engine.js";

export class ReferenceEngine {
  readonly #runner: Runner;
  readonly #flow = newFlow();

  constructor(readonly sw: Switch) {
    this.#runner = new Runner(sw);
  }

  handle(inPort: number, packet: Uint8Array, nowMs: number): Handled & { readonly translation: Translation } {
    const outputs: { port: number; packet: Uint8Array }[] = [];
    const controller: { reason: string; table: number; packet: Uint8Array }[] = [];
    extract(packet, packet.length, inPort, this.#flow);
    const translation = translate(this.sw, this.#flow);
    creditTranslation(translation, 1, packet.length, nowMs);
    const sink: Sink = {
      output: (port, bytes) => void outputs.push({ port, packet: bytes.slice() }),
      controller: ({ reason, table }, bytes) => void controller.push({ reason, table, packet: bytes.slice() }),
      meter: (slot, size) => this.sw.meters.meter(slot, size, nowMs),
    };
    this.#runner.run(packet, translation.actions, sink, nowMs);
    learnFrom(this.sw, translation, nowMs);
    return { outputs, controller, path: "miss", translation };
  }
}
