// Asks the installed ovs-ofctl how it reads and prints flows.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatFlowMod, PROTOCOL, type FlowMod } from "#compiler";

/** Protocols that a version of ovs-ofctl stands for. */
export const VERSIONS = {
  OpenFlow10:
    PROTOCOL["OpenFlow10-table_id"] |
    PROTOCOL["OpenFlow10+table_id"] |
    PROTOCOL["NXM-table_id"] |
    PROTOCOL["NXM+table_id"],
  OpenFlow11: PROTOCOL.OpenFlow11,
  OpenFlow12: PROTOCOL.OpenFlow12,
  OpenFlow13: PROTOCOL.OpenFlow13,
  OpenFlow14: PROTOCOL.OpenFlow14,
  OpenFlow15: PROTOCOL.OpenFlow15,
} as const;

export const EVERY_VERSION = Object.keys(VERSIONS).join(",");

/** What `ovs-ofctl parse-flows` prints behind `ADD `, a line per flow; the decode error where it prints one. */
export const ovsParseFlows = (version: string, flows: readonly string[]): string[] => {
  const scratch = mkdtempSync(join(tmpdir(), "ofxdp-flows-"));
  try {
    const file = join(scratch, "flows.txt");
    writeFileSync(file, `${flows.join("\n")}\n`);
    const { stdout, stderr, status } = spawnSync("ovs-ofctl", ["-O", version, "parse-flows", file], {
      encoding: "utf8",
      maxBuffer: 1 << 28,
    });
    assert.equal(status, 0, stderr);
    const printed = stdout.split("\n").filter((line) => line.includes("_FLOW_MOD"));
    assert.equal(printed.length, flows.length);
    return printed.map((line) => line.replace(/^.*?: (ADD )?/, ""));
  } finally {
    rmSync(scratch, { recursive: true });
  }
};

/** Whether ovs-ofctl refuses a flow, or sends what a switch refuses. */
export const ovsRefuses = (flow: string): boolean => {
  const { status, stdout } = spawnSync("ovs-ofctl", ["-O", EVERY_VERSION, "parse-flow", flow], { encoding: "utf8" });
  return status !== 0 || stdout.includes("decode error");
};

/** OVS chooses one protocol for a whole file: flows go in groups of equal choice. */
const byProtocol = (mods: readonly FlowMod[], allowed: number): Map<number, FlowMod[]> => {
  const groups = new Map<number, FlowMod[]>();
  for (const mod of mods) {
    const usable = mod.protocols & allowed;
    const lowest = usable & -usable;
    if (lowest !== 0) groups.set(lowest, [...(groups.get(lowest) ?? []), mod]);
  }
  return groups;
};

/** What we and OVS print of one flow; undefined where it cannot be carried or is refused by a switch. */
export interface Printed {
  readonly flow: string;
  readonly ours: string | undefined;
  readonly ovs: string | undefined;
}

/** Prints every flow that the versions in `allowed` can carry as we do and as `ovs-ofctl -O version` does. */
export const printBoth = (version: string, allowed: number, mods: readonly FlowMod[]): Printed[] =>
  [...byProtocol(mods, allowed)].flatMap(([protocols, group]) => {
    const want = ovsParseFlows(
      version,
      group.map((mod) => mod.flow.source!.text),
    );
    return group.map((mod, i) => ({
      flow: mod.flow.source!.text,
      ours: formatFlowMod(mod, { protocols }),
      ovs: want[i]!.includes("decode error") ? undefined : want[i]!,
    }));
  });
