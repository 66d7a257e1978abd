// What `replay` runs packets through: one switch whose state carries on from packet to packet. The engines of this
// folder need no kernel; who has more (the runtime) gives them to the command.

import type { Hook } from "../ir/types.js";
import { newFlow } from "../openflow/flow.js";
import { Executor } from "../packet/execute.js";
import { extract } from "../packet/extract.js";
import { creditTranslation, expireRules, learnFrom } from "../pipeline/credit.js";
import { MegaflowCache } from "../pipeline/megaflow-cache.js";
import { formatOdpActions, formatOdpFlow } from "../pipeline/odp-text.js";
import type { Switch } from "../pipeline/switch.js";
import { translate } from "../pipeline/translate.js";
import { DatapathEngine, type Handled } from "./datapath-engine.js";
import { DirectEngine } from "./direct-engine.js";
import { loadVm } from "./vm-backend.js";

/** What became of one packet. */
export interface Replayed extends Pick<Handled, "outputs" | "controller"> {
  /** `direct`: by tables compiled into the program, without a cache. */
  readonly path: Handled["path"] | "direct";
  /** The megaflow that handled it and its actions, in dpctl's words. */
  readonly megaflow: string;
  readonly actions: string;
}

export interface ReplayEngine extends Disposable {
  handle(inPort: number, packet: Uint8Array, nowMs: number): Replayed;
}

export interface ReplayOptions {
  readonly hook?: Hook;
  /** `direct`: the tables as a program, with user space for what it cannot do; default: a cache of megaflows. */
  readonly mode?: "direct" | "megaflow";
}

export type MakeReplayEngine = (sw: Switch, options: ReplayOptions) => ReplayEngine;

/** Frames shorter than an Ethernet header are dropped before anything looks at them. */
const MIN_PACKET = 14;
const RUNT: Replayed = { outputs: [], controller: [], path: "miss", megaflow: "", actions: "drop" };

/** Translation with a megaflow cache as it is meant: what the others must agree with. */
export const referenceReplay: MakeReplayEngine = (sw) => {
  const cache = new MegaflowCache(sw);
  const executor = new Executor();
  const flow = newFlow();
  return {
    handle(inPort, packet, nowMs) {
      if (packet.length < MIN_PACKET) return RUNT;
      expireRules(sw, nowMs);
      extract(packet, packet.length, inPort, flow);
      const { megaflow, path } = cache.handle(flow, packet.length);
      const { translation, match } = megaflow;
      const outputs: { port: number; packet: Uint8Array }[] = [];
      const controller: { reason: string; table: number; packet: Uint8Array }[] = [];
      executor.execute(packet, translation.actions, {
        output: (port, bytes) => void outputs.push({ port, packet: bytes.slice() }),
        controller: ({ reason, table }, bytes) => void controller.push({ reason, table, packet: bytes.slice() }),
        meter: (slot, size) => sw.meters.meter(slot, size, nowMs),
      });
      const text = formatOdpFlow(match.value, match.mask);
      creditTranslation(translation, 1, packet.length, nowMs);
      learnFrom(sw, translation, nowMs);
      return { outputs, controller, path, megaflow: text, actions: formatOdpActions(translation.actions) };
    },
    [Symbol.dispose]: () => {},
  };
};

/** The compiled datapath, wherever `engine` runs it. Owns the engine. */
export const datapathReplay = (sw: Switch, engine: DatapathEngine | DirectEngine): ReplayEngine => {
  const flow = newFlow();
  return {
    handle(inPort, packet, nowMs) {
      if (packet.length < MIN_PACKET) return RUNT;
      expireRules(sw, nowMs);
      extract(packet, packet.length, inPort, flow);
      const { actions, mask } = translate(sw, flow);
      const { outputs, controller, path } = engine.handle(inPort, packet, nowMs);
      return { outputs, controller, path, megaflow: formatOdpFlow(flow, mask), actions: formatOdpActions(actions) };
    },
    [Symbol.dispose]: () => {
      engine[Symbol.dispose]();
    },
  };
};

/** The compiled datapath in the interpreter. */
export const vmReplay: MakeReplayEngine = (sw, { hook = "xdp", mode }) => {
  const load = loadVm(sw.ports.map(({ number }) => number));
  return datapathReplay(sw, mode === "direct" ? new DirectEngine(sw, hook, load) : new DatapathEngine(sw, hook, load));
};

/** The engines that need no kernel, by the names of `--engine`. */
export const REPLAY_ENGINES: Readonly<Record<string, MakeReplayEngine>> = { reference: referenceReplay, vm: vmReplay };
