// `ofxdp load IF --flows FILE`: flows as an object for the loader. What is loaded is the megaflow program of the tables,
// without the stub that a daemon puts in front: with nobody to take upcalls, packets are dropped until their megaflows are
// in the maps.

import { readFileSync } from "node:fs";
import { RangeViolation, type ObjectSpec } from "ebpf-assembler";
import { carrierOf, compileDatapath, parseFlows, relevantMembers, Switch } from "#compiler";
import type { ObjectSource } from "libbpf-ts";
import { firstPlan } from "./megaflow/first-plan.js";
import { expectedActions } from "./warm-up.js";

/** The object of flow text. @throws {@link CompileError} */
export const objectOfFlows = (text: string, file: string): ObjectSpec => {
  const sw = new Switch({ failMode: "secure" });
  for (const flow of parseFlows(text, { file })) sw.add(flow, 0);
  const carried = expectedActions(sw).filter((list) => carrierOf(list).slow === undefined);
  const spec = compileDatapath(firstPlan(relevantMembers(sw), carried));
  return { ...spec, programs: spec.programs.filter(({ name }) => name.startsWith("main_")) };
};

/** The option `--flows` of `ofxdp load`. */
export const flowsSource: ObjectSource = {
  flags: "--flows <file>",
  description: "flows in ovs-ofctl add-flows syntax, compiled; - for stdin",
  read(path) {
    let text: string;
    try {
      text = readFileSync(path === "-" ? 0 : path, "utf8");
    } catch (error) {
      throw new RangeViolation(`Cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`);
    }
    return objectOfFlows(text, path === "-" ? "<stdin>" : path);
  },
};
