// What a bridge tells of itself.

import type { DirectStats } from "./direct/front.js";
import type { CacheStats } from "./megaflow/cache.js";
import type { RevalidatorStats } from "./megaflow/revalidator.js";
import type { SpecialiserStats } from "./megaflow/specialiser.js";
import type { PortStats } from "./ports/port-table.js";
import type { SlowPathStats } from "./slow-path.js";

export interface PortReport extends PortStats {
  readonly port: number;
  readonly name: string;
  readonly ifindex: number;
  readonly hook: string;
  readonly up: boolean;
  /** Upcalls lost because the ring was full. */
  readonly lost: number;
}

/** Numbers of a bridge since its start. */
export interface BridgeStats {
  readonly bridge: string;
  readonly uptimeMs: number;
  readonly version: number;
  readonly rules: number;
  readonly macs: number;
  /** Packets that the datapath handled by a megaflow, those that user space carried out included. */
  readonly hits: number;
  readonly lost: number;
  readonly upcalls: SlowPathStats;
  readonly cache: CacheStats;
  readonly revalidator: RevalidatorStats;
  readonly specialiser: SpecialiserStats;
  /** Of direct mode, when it is on. */
  readonly direct?: DirectStats;
  readonly transmit: {
    readonly sent: number;
    readonly dropped: number;
    readonly drops: Readonly<Record<string, number>>;
  };
  readonly ports: readonly PortReport[];
}
