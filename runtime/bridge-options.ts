// What a bridge is opened with.

import type { FailMode, Flow, Group, TableMod } from "#compiler";
import type { DatapathPins } from "./datapath/pins.js";
import type { Mode } from "./direct/front.js";
import type { Log } from "./log.js";
import type { CacheOptions } from "./megaflow/cache.js";
import type { RevalidatorOptions } from "./megaflow/revalidator.js";
import type { PortSpec } from "./ports/port-spec.js";
import type { TunnelSpec } from "./ports/tunnel-spec.js";
import type { StateKeeper } from "./state/keeper.js";

export interface BridgeOptions extends CacheOptions, RevalidatorOptions {
  readonly name: string;
  readonly failMode: FailMode;
  readonly ports: readonly PortSpec[];
  /** How tables become programs. Default megaflow. */
  readonly mode?: Mode;
  readonly tunnels?: readonly TunnelSpec[];
  /** Interfaces by which packets of tunnels come; none: those that lead to the tunnels' other ends. */
  readonly uplinks?: readonly PortSpec[];
  /** Changes that make the tables before the first packet, in order; before `groups` and `flows`. */
  readonly changes?: readonly TableMod[];
  readonly flows?: readonly Flow[];
  readonly groups?: readonly Group[];
  /** Where the datapath is pinned, so that it outlives the process; what is pinned there is gone on with. */
  readonly pins?: DatapathPins;
  /** Saves tables and counters for the next process, and has those of the one before. */
  readonly keeper?: StateKeeper;
  readonly log: Log;
  /** Called when all is loaded and warmed up, before the first port. */
  readonly onWarm?: () => void;
  /** Called after each piece of work: a drain of the ring, a slice of a revalidation round. */
  readonly onWork?: () => void;
}
