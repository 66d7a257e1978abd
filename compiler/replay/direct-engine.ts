// One switch whose packets run through a direct program, with user space behind it for what the program hands up. The
// backend runs the program: the interpreter here, a kernel elsewhere. The program is compiled anew when the tables, groups
// or ports change.

import { type ObjectSpec } from "ebpf-assembler";
import { UPCALL } from "../datapath/abi.js";
import { STATS } from "../direct/abi.js";
import { CountReader, creditCounts } from "../direct/counts.js";
import { compileDirect, type DirectProgram } from "../direct/compile.js";
import { tablesOf, type SwitchTables } from "../direct/tables.js";
import type { Hook } from "../ir/types.js";
import { newFlow } from "../openflow/flow.js";
import type { Sink } from "../packet/execute.js";
import { extract } from "../packet/extract.js";
import { creditTranslation, learnFrom } from "../pipeline/credit.js";
import { Runner } from "../pipeline/runner.js";
import type { Switch } from "../pipeline/switch.js";
import { translate } from "../pipeline/translate.js";
import type { Backend, EngineOptions, Handled, LoadBackend } from "./datapath-engine.js";

/** What became of a packet. direct: the program alone; slow: user space carried it out. */
export interface DirectlyHandled extends Omit<Handled, "path"> {
  readonly path: "direct" | "slow";
}

export interface DirectEngineOptions extends Pick<EngineOptions, "ifindexOf" | "portOf"> {
  /** What makes a program of a switch; engines that run side by side can share results. */
  readonly compile?: (sw: Switch, hook: Hook, ifindexOf: (port: number) => number) => DirectProgram;
}

const identity = (n: number): number => n;

/** Changes after which the program holds no longer; addresses that NORMAL learns are user space's alone. */
const changesOf = (sw: Switch): number => sw.version - sw.macs.version;

export class DirectEngine implements Disposable {
  readonly #runner: Runner;
  readonly #flow = newFlow();
  readonly #ifindexOf: (port: number) => number;
  readonly #portOf: (ifindex: number) => number;
  readonly #compile: NonNullable<DirectEngineOptions["compile"]>;
  #tables: SwitchTables;
  #made: DirectProgram;
  #backend: Backend;
  #counts: CountReader;
  #version: number;

  /** @throws {@link DirectRefusal} for tables that cannot be direct */
  constructor(
    readonly sw: Switch,
    readonly hook: Hook,
    readonly load: LoadBackend,
    options: DirectEngineOptions = {},
  ) {
    this.#runner = new Runner(sw);
    this.#ifindexOf = options.ifindexOf ?? identity;
    this.#portOf = options.portOf ?? identity;
    this.#compile =
      options.compile ?? ((of, at, ifindexOf) => compileDirect(of, at, { behind: "user-space", ifindexOf }));
    this.#version = changesOf(sw);
    this.#tables = tablesOf(sw);
    this.#made = this.#compile(sw, hook, this.#ifindexOf);
    this.#backend = load(this.#made.object, hook);
    this.#counts = new CountReader(this.#made.analysis, this.#backend.memory(STATS.map));
  }

  get program(): ObjectSpec {
    return this.#made.object;
  }

  /** Reads what the program has counted since, and credits it. */
  settle(nowMs: number): void {
    creditCounts(this.#made.analysis, this.#counts.read(), this.#tables, nowMs);
  }

  #rebuild(nowMs: number): void {
    this.settle(nowMs);
    const old = this.#backend;
    this.#version = changesOf(this.sw);
    this.#tables = tablesOf(this.sw);
    this.#made = this.#compile(this.sw, this.hook, this.#ifindexOf);
    this.#backend = this.load(this.#made.object, this.hook);
    this.#counts = new CountReader(this.#made.analysis, this.#backend.memory(STATS.map));
    old[Symbol.dispose]();
  }

  /** Takes one packet through the program, and through user space if the program asks for it. */
  handle(inPort: number, packet: Uint8Array, nowMs: number): DirectlyHandled {
    if (changesOf(this.sw) !== this.#version) this.#rebuild(nowMs);
    const { outputs, upcalls } = this.#backend.run(this.#ifindexOf(inPort), packet, nowMs);
    const sent: { port: number; packet: Uint8Array }[] = outputs.map((o) => ({
      port: this.#portOf(o.ifindex),
      packet: o.packet,
    }));
    const controller: { reason: string; table: number; packet: Uint8Array }[] = [];
    for (const record of upcalls) {
      const view = new DataView(record.buffer, record.byteOffset, record.length);
      const bytes = record.subarray(UPCALL.packet, view.getUint32(UPCALL.nlLen, true));
      extract(bytes, bytes.length, this.#portOf(view.getUint32(UPCALL.inPort, true)), this.#flow);
      const translation = translate(this.sw, this.#flow);
      creditTranslation(translation, 1, bytes.length, nowMs);
      const sink: Sink = {
        output: (port, out) => void sent.push({ port, packet: out.slice() }),
        controller: ({ reason, table }, out) => void controller.push({ reason, table, packet: out.slice() }),
      };
      this.#runner.run(bytes, translation.actions, sink, nowMs);
      learnFrom(this.sw, translation, nowMs);
    }
    return { outputs: sent, controller, path: upcalls.length > 0 ? "slow" : "direct" };
  }

  [Symbol.dispose](): void {
    this.#backend[Symbol.dispose]();
  }
}
