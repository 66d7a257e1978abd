// Our direct program for a case: the tables themselves compiled, with nothing behind it.

import { Scope } from "ebpf-assembler";
import { compileDirect, MAPS, parseFlows, readCounts, STATS, Switch, type Hook } from "#compiler";
import { linux, loadObject } from "libbpf-ts";
import { IN_PORT, OUT_PORTS, type Case, type Inputs } from "./case.js";
import { type Contestant } from "./contestant.js";
import type { Ports } from "./ports.js";
import { LOOPBACK } from "./value.js";

/**
 * Compiles and loads the tables of a case.
 * @throws {@link DirectRefusal} when they cannot be compiled, {@link SyscallError}, {@link VerifierError}
 */
export const openDirect = (ports: Ports, row: Case, hook: Hook, inputs: Inputs): Contestant => {
  const sw = new Switch({ failMode: "secure" });
  for (const number of [IN_PORT, ...OUT_PORTS]) sw.setPort({ number });
  for (const flow of parseFlows(row.flows(inputs).join("\n"), { file: "bench" })) sw.add(flow, 0);
  const ifindexOf = (port: number): number => (port === IN_PORT ? ports.ifindex : LOOPBACK);
  const { analysis, object } = compileDirect(sw, hook, { ifindexOf });
  using scope = new Scope();
  const loaded = scope.use(loadObject(linux(), object, { freeze: true }));
  const devmap = loaded.maps.get(MAPS.ports);
  const index = new Uint8Array(Uint32Array.of(LOOPBACK).buffer);
  devmap?.update(index, index);
  const counters = loaded.map(STATS.map).memory;
  const owned = scope.move();
  return {
    name: "ours",
    ports,
    program: loaded.program(`main_${hook}`),
    // A packet counts for a rule of every table that it passes.
    counters: () => {
      let [packets, bytes] = [0, 0];
      const counts = readCounts(analysis, new Uint8Array(counters));
      analysis.rules.forEach(({ rule }, i) => {
        if (rule.table !== 0) return;
        packets += counts[i]!.packets;
        bytes += counts[i]!.bytes;
      });
      return { packets, bytes };
    },
    [Symbol.dispose]: () => owned[Symbol.dispose](),
  };
};
