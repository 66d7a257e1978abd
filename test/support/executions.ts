// One semantics, three executions: packets go through the reference translator, through the compiled program in the
// interpreter, and through the same program in the running kernel, and must come out the same: ports, bytes, copies to the
// controller, and in the end the counters of every rule. Interpreter and kernel must also agree on the way that each
// packet took (hit, slow, miss).

import assert from "node:assert/strict";
import { equalBytes, toHex } from "ebpf-assembler";
import {
  compileDatapath,
  DatapathEngine,
  loadVm,
  ReferenceEngine,
  type DatapathPlan,
  type EngineOptions,
  type Handled,
  type Hook,
  type LoadBackend,
  type Storage,
  type Switch,
  type UplinkOptions,
} from "#compiler";
import { KernelLab } from "#runtime";

/** A packet and the port that it comes in by. */
export interface Sample {
  readonly inPort: number;
  readonly packet: Uint8Array;
}

/** Packets by the way they took. */
export type Paths = Record<Handled["path"], number> & {
  /** Hits that left with other bytes than they came with. */
  rewritten: number;
};

export const NO_PATHS: Paths = { hit: 0, slow: 0, miss: 0, rewritten: 0 };

/** Samples of a second and third round, after a program was built that has all masks and shapes of the first. */
const AGAIN = 100;
/** Megaflows per subtable: a run has fewer, and the kernel clears every bucket of a map. */
const MAX_ENTRIES = 1024;

const isTag = (packet: Uint8Array, at: number): boolean => {
  const type = (packet[at]! << 8) | packet[at + 1]!;
  return type === 0x8100 || type === 0x88a8;
};

/**
 * Whether Linux can take the tag of a frame off: it drops tagged frames with fewer than 2 bytes behind the tag, before TC
 * sees them and before they are caught (skb_vlan_untag(), `pskb_may_pull(skb, VLAN_HLEN + sizeof(unsigned short))`).
 */
export const isUntaggable = (packet: Uint8Array): boolean => !isTag(packet, 12) || packet.length >= 20;

/** Packets in order within each port; which port is served first does not count. */
export const shown = (
  { outputs, controller }: Pick<Handled, "outputs" | "controller">,
  inKernel: boolean,
): unknown => ({
  outputs: outputs
    .filter(({ packet }) => !inKernel || isUntaggable(packet))
    .sort((a, b) => a.port - b.port)
    .map(({ port, packet }) => `${port}:${toHex(packet)}`),
  controller: controller.map(({ reason, table, packet }) => `${reason}:${table}:${toHex(packet)}`),
});

export const counters = (sw: Switch): string[] =>
  [...sw.rules()].map((rule) => `${rule.table}/${rule.priority}: ${rule.packets} packets, ${rule.bytes} bytes`);

/** {@link compileDatapath} that remembers its last result: two engines that run side by side ask for each plan in turn. */
const compileOnce = (): NonNullable<EngineOptions["compile"]> => {
  let last: { readonly key: string; readonly object: ReturnType<typeof compileDatapath> } | undefined;
  return (plan: DatapathPlan, hooks) => {
    const key = JSON.stringify([plan, hooks], (_, value: unknown) =>
      typeof value === "bigint" ? value.toString() : value,
    );
    if (last?.key !== key) last = { key, object: compileDatapath(plan, hooks) };
    return last.object;
  };
};

export interface RunOptions {
  /** Whether the tables themselves run before the megaflows. */
  readonly isAuto?: boolean;
  /** Changes the tables before a last round. */
  readonly change?: (sw: Switch, nowMs: number) => void;
}

/** Interpreter and kernel at one hook, with ports of their own. Disposing removes what was made in the kernel. */
export class Executions implements Disposable {
  readonly #lab: KernelLab;
  readonly #vm: LoadBackend;
  readonly #compile = compileOnce();

  constructor(
    readonly hook: Hook,
    ports: readonly number[],
    private readonly tunnels?: UplinkOptions,
  ) {
    this.#lab = new KernelLab(ports, undefined, tunnels?.uplinks);
    this.#vm = loadVm(ports);
  }

  /**
   * Runs samples through three switches that `makeSwitch` makes alike.
   *
   * @param name - begins the message of a difference
   * @param makeSwitch - is told the interface indices of its ports
   * @param storage - where the subtables of interpreter and kernel lie
   * @param options - the same for both
   * @throws AssertionError at the first packet, or rule, that is not treated alike
   */
  run(
    name: string,
    makeSwitch: (ifindexOf: (port: number) => number) => Switch,
    samples: readonly Sample[],
    storage: Storage = "hash",
    { isAuto = false, change }: RunOptions = {},
  ): Paths {
    const same = (port: number): number => port;
    const { tunnels } = this;
    const reference = new ReferenceEngine(makeSwitch(same), tunnels);
    const options: EngineOptions = {
      ...(tunnels === undefined ? {} : { tunnels }),
      patience: Infinity,
      maxEntries: MAX_ENTRIES,
      storage,
      compile: this.#compile,
      isAuto,
    };
    using vm = new DatapathEngine(makeSwitch(same), this.hook, this.#vm, options);
    using kernel = new DatapathEngine(makeSwitch(this.#lab.ifindexOf), this.hook, this.#lab.load, {
      ...options,
      ifindexOf: this.#lab.ifindexOf,
      portOf: this.#lab.portOf,
    });
    const paths: Paths = { ...NO_PATHS };
    let now = 0;
    const round = (some: readonly Sample[]): void => {
      for (const { inPort, packet } of some) {
        if (this.hook === "tc" && !isUntaggable(packet)) continue;
        const text = (execution: string): string =>
          `${name} at ${this.hook}: ${execution}, packet ${now} by port ${inPort}: ${toHex(packet)}`;
        const want = reference.handle(inPort, packet, now);
        const inVm = vm.handle(inPort, packet, now);
        assert.deepEqual(shown(inVm, false), shown(want, false), text(`interpreter (${inVm.path})`));
        const inKernel = kernel.handle(inPort, packet, now);
        assert.deepEqual(shown(inKernel, true), shown(want, true), text(`kernel (${inKernel.path})`));
        // At TC the kernel takes a tag into metadata, and a program finds labels where the interpreter's finds the tag.
        const hidesTag = this.hook === "tc" && isTag(packet, 12) && inVm.path === "slow";
        if (!hidesTag) assert.equal(inKernel.path, inVm.path, text("path in the kernel"));
        paths[inVm.path]++;
        const isRewritten = inVm.outputs.some((output) => !equalBytes(output.packet, packet));
        if (inVm.path === "hit" && isRewritten) paths.rewritten++;
        now++;
      }
    };
    // Misses and exact matches; then, in a program that knows their masks and shapes, misses again, and hits.
    round(samples);
    for (const engine of [vm, kernel]) engine.respecialise(now);
    for (let i = 0; i < 2; i++) round(samples.slice(0, AGAIN));
    if (change !== undefined) {
      // Counters of rules that go are looked at before.
      for (const engine of [vm, kernel]) engine.settle(now);
      assert.deepEqual(counters(vm.sw), counters(reference.sw), `${name}: counters before the change at ${this.hook}`);
      for (const { sw } of [reference, vm, kernel]) change(sw, now);
      round(samples);
    }
    for (const engine of [vm, kernel]) {
      engine.settle(now);
      assert.deepEqual(counters(engine.sw), counters(reference.sw), `${name}: counters at ${this.hook}`);
    }
    return paths;
  }

  [Symbol.dispose](): void {
    this.#lab[Symbol.dispose]();
  }
}

/** Sums of {@link Paths}. */
export const addPaths = (total: Paths, more: Paths): Paths => ({
  hit: total.hit + more.hit,
  slow: total.slow + more.slow,
  miss: total.miss + more.miss,
  rewritten: total.rewritten + more.rewritten,
});
