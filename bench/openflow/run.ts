// Controllers at work: flow mods, dumps and packets over OpenFlow connections, and what the event loop and cached traffic
// feel of it.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { Scope } from "ebpf-assembler";
import { Ofproto, Services, silentLog, type Bridge } from "#runtime";
import type { Profile } from "../datapath/case.js";
import { BenchError } from "../error.js";
import type { Row } from "../row.js";
import { blastPath } from "../wire/blast.js";
import { WireLab } from "../wire/lab.js";
import { openBridge } from "../wire/paths.js";
import { Controller } from "./dialogue.js";

export interface OpenFlowOptions {
  readonly rounds: number;
  /** Flows that a round adds. */
  readonly flows: number;
  /** Flows that are dumped. */
  readonly dumped: number;
  readonly packetsMs: number;
}

const MANY = 64;
const PACKET_INS = 10_000;
/** Cached packets a second beside everything: few, since their sender takes a processor away. */
const CACHED = 10_000;
const WARM_MS = 300;
/** Rounds that warm the JavaScript engine. */
const WARM_ROUNDS = 2;
const DESCRIPTION = { manufacturer: "m", hardware: "h", software: "s", serialNumber: "None", datapath: "None" };
const CACHED_FLOW = "priority=60000,udp,in_port=1,actions=output:2";
const TO_CONTROLLER = "priority=60000,udp,in_port=1,actions=controller(max_len=65535)";

/** A switch between two hosts, with its socket. */
class OpenFlowLab implements Disposable {
  private constructor(
    readonly lab: WireLab,
    readonly bridge: Bridge,
    readonly socket: string,
    private readonly scope: Scope,
  ) {}

  static async open(flow: string): Promise<OpenFlowLab> {
    using scope = new Scope();
    const lab = scope.use(new WireLab(blastPath()));
    const bridge = scope.use(openBridge(lab, "tc", [flow]));
    const dir = mkdtempSync(join(tmpdir(), "ofxdp-bench-"));
    scope.defer(() => rmSync(dir, { recursive: true, force: true }));
    const ofproto = scope.use(new Ofproto({ bridge, log: silentLog, datapathId: 1n, description: DESCRIPTION }));
    const management = join(dir, "br.mgmt");
    const controller = join(dir, "controller");
    const services = { ofproto, log: silentLog, management, controllers: [`punix:${controller}`], listen: [] };
    scope.use(await Services.open(services));
    return new OpenFlowLab(lab, bridge, controller, scope.move());
  }

  /** The longest delays of the event loop while `work` runs, in ms, and what became of cached packets beside it. */
  async beside<T>(work: () => Promise<T>, perSecond: number): Promise<{ value: T; lagMs: number; lost: number }> {
    const lag = monitorEventLoopDelay({ resolution: 1 });
    let isDone = false;
    let lost = 0;
    const traffic = (async (): Promise<void> => {
      while (!isDone && perSecond > 0) {
        const { sent, arrived } = await this.lab.send(200, perSecond);
        lost += sent - arrived;
      }
    })();
    lag.enable();
    const value = await work();
    lag.disable();
    isDone = true;
    await traffic;
    return { value, lagMs: lag.percentile(99) / 1e6, lost };
  }

  [Symbol.dispose](): void {
    this.scope[Symbol.dispose]();
  }
}

const row = (name: string, title: string, at: string, unit: string, better: Row["better"], samples: number[]): Row => ({
  group: "openflow",
  name,
  title,
  at,
  unit,
  better,
  series: [{ name: "ours", role: "ours", samples }],
});

function* besideRows(name: string, title: string, lags: number[], lost: number[]): Generator<Row> {
  yield row(name, `${title}: event loop`, "lag, p99", "ms", "less", lags);
  const at = `${CACHED.toLocaleString("en")} a second`;
  yield row(name, `${title}: cached packets lost`, at, "packets", "less", lost);
}

/** Flow mods of one connection, or of many at once. */
const flowMods = (name: string, title: string, connections: number) =>
  async function* ({ rounds, flows }: OpenFlowOptions): AsyncGenerator<Row> {
    const [rates, lags, losses]: [number[], number[], number[]] = [[], [], []];
    for (let round = 0; round <= rounds; round++) {
      using lab = await OpenFlowLab.open(CACHED_FLOW);
      using controller = await Controller.start(lab.socket, connections);
      await lab.lab.send(WARM_MS, CACHED);
      const asked = { kind: "add", from: 0, each: Math.floor(flows / connections) } as const;
      const { value, lagMs, lost } = await lab.beside(() => controller.ask(asked), CACHED);
      if (value.errors > 0 || lab.bridge.sw.size !== value.count + 1)
        throw new BenchError(`Of ${value.count} flows ${lab.bridge.sw.size - 1} are in the table`);
      // The first round warms the JavaScript engine.
      if (round === 0) continue;
      rates.push((value.count / value.ms) * 1000);
      lags.push(lagMs);
      losses.push(lost);
    }
    const at = `${flows.toLocaleString("en")} of ${connections} connection${connections === 1 ? "" : "s"}`;
    yield row(name, title, at, "flows/s", "more", rates);
    yield* besideRows(name, title, lags, losses);
  };

async function* dump({ rounds, dumped }: OpenFlowOptions): AsyncGenerator<Row> {
  using lab = await OpenFlowLab.open(CACHED_FLOW);
  using controller = await Controller.start(lab.socket, 1);
  await controller.ask({ kind: "add", from: 0, each: dumped });
  await lab.lab.send(WARM_MS, CACHED);
  const [times, lags, losses]: [number[], number[], number[]] = [[], [], []];
  for (let round = 0; round <= rounds; round++) {
    const { value, lagMs, lost } = await lab.beside(() => controller.ask({ kind: "dump" }), CACHED);
    if (value.count !== dumped + 1) throw new BenchError(`Of ${dumped + 1} flows ${value.count} were dumped`);
    if (round === 0) continue;
    times.push(value.ms / 1000);
    lags.push(lagMs);
    losses.push(lost);
  }
  yield row("of-dump", "Flows dumped", `${dumped.toLocaleString("en")} flows`, "s", "less", times);
  yield* besideRows("of-dump", "Flows dumped", lags, losses);
}

/** Packets to the controller, and each back by a packet-out. */
async function* packets({ rounds, packetsMs }: OpenFlowOptions): AsyncGenerator<Row> {
  using lab = await OpenFlowLab.open(TO_CONTROLLER);
  using controller = await Controller.start(lab.socket, 1);
  const [toController, andBack, lags]: [number[], number[], number[]] = [[], [], []];
  for (let round = -WARM_ROUNDS; round < rounds; round++) {
    const [came, back] = [(await controller.ask({ kind: "counts" })).count, lab.lab.received];
    const work = async (): Promise<number> => {
      const { sent } = await lab.lab.send(packetsMs, PACKET_INS);
      await sleep(WARM_MS);
      return sent;
    };
    const { value: sent, lagMs } = await lab.beside(work, 0);
    if (round < 0) continue;
    const { count } = await controller.ask({ kind: "counts" });
    toController.push((count - came) / sent);
    andBack.push((lab.lab.received - back) / sent);
    lags.push(lagMs);
  }
  const at = `${PACKET_INS.toLocaleString("en")} a second`;
  const title = "Packets to a controller and back";
  yield row("of-packets", `${title}: there`, `${at}, there`, "of 1", "more", toController);
  yield row("of-packets", `${title}: back`, `${at}, back`, "of 1", "more", andBack);
  yield row("of-packets", `${title}: event loop`, "lag, p99", "ms", "less", lags);
}

interface OpenFlowCase {
  readonly name: string;
  readonly title: string;
  readonly run: (options: OpenFlowOptions) => AsyncIterable<Row>;
}

const MODS = "Flow mods over OpenFlow";
const MANY_MODS = `Flow mods of ${MANY} controllers`;

export const OPENFLOW_CASES: readonly OpenFlowCase[] = [
  { name: "of-flow-mods", title: MODS, run: flowMods("of-flow-mods", MODS, 1) },
  { name: "of-controllers", title: MANY_MODS, run: flowMods("of-controllers", MANY_MODS, MANY) },
  { name: "of-dump", title: "Flows dumped", run: dump },
  { name: "of-packets", title: "Packets to a controller and back", run: packets },
];

const NUMBERS: Readonly<Record<Profile, OpenFlowOptions>> = {
  quick: { rounds: 3, flows: 50_000, dumped: 100_000, packetsMs: 500 },
  usual: { rounds: 5, flows: 50_000, dumped: 100_000, packetsMs: 1000 },
  full: { rounds: 9, flows: 100_000, dumped: 100_000, packetsMs: 3000 },
};

/** Runs one case. */
export const runOpenFlowCase = (name: string, profile: Profile): AsyncIterable<Row> =>
  OPENFLOW_CASES.find((row) => row.name === name)!.run(NUMBERS[profile]);
