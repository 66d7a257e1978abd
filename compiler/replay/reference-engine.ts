// One switch whose packets are all translated: the semantics that the other executions must agree with.

import { newFlow } from "../openflow/flow.js";
import type { Sink } from "../packet/execute.js";
import { extract } from "../packet/extract.js";
import { creditTranslation, learnFrom } from "../pipeline/credit.js";
import { encapsulate } from "../packet/tunnel.js";
import { putTunnel } from "../pipeline/tunnel/ports.js";
import { arrive } from "../pipeline/tunnel/receive.js";
import { Runner } from "../pipeline/runner.js";
import type { Switch } from "../pipeline/switch.js";
import { translate, type Translation } from "../pipeline/translate.js";
import type { Handled, UplinkOptions } from "./datapath-engine.js";

export class ReferenceEngine {
  readonly #runner: Runner;
  readonly #flow = newFlow();

  constructor(
    readonly sw: Switch,
    private readonly tunnels?: UplinkOptions,
  ) {
    this.#runner = new Runner(sw);
  }

  /** `translation` is undefined for a packet that is not for the switch. */
  handle(
    inPort: number,
    packet: Uint8Array,
    nowMs: number,
  ): Handled & { readonly translation: Translation | undefined } {
    const outputs: { port: number; packet: Uint8Array }[] = [];
    const controller: { reason: string; table: number; packet: Uint8Array }[] = [];
    let frame = packet;
    if (this.tunnels?.uplinks.includes(inPort) === true) {
      const arrival = arrive(this.sw.tunnels, this.tunnels.addresses, packet);
      if (arrival?.port === undefined) return { outputs, controller, path: "miss", translation: undefined };
      frame = arrival.inner;
      extract(frame, frame.length, arrival.port, this.#flow);
      putTunnel(this.#flow, arrival.key);
    } else extract(frame, frame.length, inPort, this.#flow);
    const translation = translate(this.sw, this.#flow);
    creditTranslation(translation, 1, frame.length, nowMs);
    const sink: Sink = {
      output: (port, bytes) => void outputs.push({ port, packet: bytes.slice() }),
      controller: ({ reason, table }, bytes) => void controller.push({ reason, table, packet: bytes.slice() }),
      tunnel: ({ header, hop }, bytes) => {
        if (hop !== undefined) outputs.push({ port: hop.ifindex, packet: encapsulate(header, bytes) });
      },
      meter: (slot, size) => this.sw.meters.meter(slot, size, nowMs),
    };
    this.#runner.run(frame, translation.actions, sink, nowMs);
    learnFrom(this.sw, translation, nowMs);
    return { outputs, controller, path: "miss", translation };
  }
}
