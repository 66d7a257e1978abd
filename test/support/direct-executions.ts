// Three executions of direct mode side by side: the reference translator, the direct program in the interpreter, the same
// program in the running kernel. Interpreter and kernel must agree with the reference on ports, bytes, copies to the controller
// and counters, and with each other on what the program did itself.

import assert from "node:assert/strict";
import { equalBytes, toHex } from "ebpf-assembler";
import {
  DirectEngine,
  DirectRefusal,
  loadVm,
  ReferenceEngine,
  type DirectlyHandled,
  type Handled,
  type Hook,
  type Switch,
} from "#compiler";
import { KernelLab } from "#runtime";
import { counters, isUntaggable, shown, type Sample } from "./executions.js";

/** Packets by what handled them; `refused` counts tables that cannot be direct. */
export type DirectPaths = Record<DirectlyHandled["path"], number> & { rewritten: number; refused: number };

export const NO_DIRECT_PATHS: DirectPaths = { direct: 0, slow: 0, rewritten: 0, refused: 0 };

export const addDirectPaths = (a: DirectPaths, b: DirectPaths): DirectPaths => ({
  direct: a.direct + b.direct,
  slow: a.slow + b.slow,
  rewritten: a.rewritten + b.rewritten,
  refused: a.refused + b.refused,
});

export class DirectExecutions implements Disposable {
  readonly #lab: KernelLab;
  readonly #ports: readonly number[];

  constructor(
    readonly hook: Hook,
    ports: readonly number[],
  ) {
    this.#lab = new KernelLab(ports);
    this.#ports = ports;
  }

  /** @throws AssertionError at the first packet, or rule, that is not treated alike */
  run(name: string, makeSwitch: () => Switch, samples: readonly Sample[]): DirectPaths {
    const paths: DirectPaths = { ...NO_DIRECT_PATHS };
    const reference = new ReferenceEngine(makeSwitch());
    let vm: DirectEngine;
    try {
      vm = new DirectEngine(makeSwitch(), this.hook, loadVm(this.#ports));
    } catch (error) {
      if (!(error instanceof DirectRefusal)) throw error;
      return { ...paths, refused: 1 };
    }
    using kernel = new DirectEngine(makeSwitch(), this.hook, this.#lab.load, this.#lab);
    let now = 0;
    for (const { inPort, packet } of samples) {
      if (this.hook === "tc" && !isUntaggable(packet)) continue;
      const text = (execution: string): string =>
        `${name} at ${this.hook}: ${execution}, packet ${now} by port ${inPort}: ${toHex(packet)}`;
      const want: Handled = reference.handle(inPort, packet, now);
      const inVm = vm.handle(inPort, packet, now);
      assert.deepEqual(shown(inVm, false), shown(want, false), text(`interpreter (${inVm.path})`));
      const inKernel = kernel.handle(inPort, packet, now);
      assert.deepEqual(shown(inKernel, true), shown(want, true), text(`kernel (${inKernel.path})`));
      assert.equal(inKernel.path, inVm.path, text("path in the kernel"));
      paths[inVm.path]++;
      if (inVm.path === "direct" && inVm.outputs.some((output) => !equalBytes(output.packet, packet)))
        paths.rewritten++;
      now++;
    }
    for (const engine of [vm, kernel]) {
      engine.settle(now);
      assert.deepEqual(counters(engine.sw), counters(reference.sw), `${name}: counters at ${this.hook}`);
    }
    vm[Symbol.dispose]();
    return paths;
  }

  [Symbol.dispose](): void {
    this.#lab[Symbol.dispose]();
  }
}
