// The compiled datapath in the running kernel, on interfaces made for the purpose.

import { DatapathEngine, datapathReplay, DirectEngine, type MakeReplayEngine } from "#compiler";
import { KernelLab } from "./kernel-lab.js";

/** `replay --engine kernel`: makes a namespace with a veth pair per port, and removes it when disposed. */
export const kernelReplay: MakeReplayEngine = (sw, { hook = "xdp", mode }) => {
  const lab = new KernelLab(sw.ports.map(({ number }) => number));
  try {
    const engine = datapathReplay(
      sw,
      mode === "direct" ? new DirectEngine(sw, hook, lab.load, lab) : new DatapathEngine(sw, hook, lab.load, lab),
    );
    return {
      handle: (inPort, packet, nowMs) => engine.handle(inPort, packet, nowMs),
      [Symbol.dispose]: () => {
        engine[Symbol.dispose]();
        lab[Symbol.dispose]();
      },
    };
  } catch (error) {
    lab[Symbol.dispose]();
    throw error;
  }
};
