// What a datapath case is made of: a flow table in our words, the packets that hit it, and the C programs that do the same
// job by hand.

import type { Hook } from "#compiler";
import type { PacketSpec } from "./packet.js";

/** How long a run may take: under a minute, some minutes, as long as it takes. */
export const PROFILES = ["quick", "usual", "full"] as const;
export type Profile = (typeof PROFILES)[number];

/** What tables are made of. */
export interface Inputs {
  /** One of each flow. */
  readonly packets: readonly Uint8Array[];
  /** Of the port that packets come in by. */
  readonly ifindex: number;
}

export interface Entry {
  readonly key: Uint8Array;
  /** `struct value` of bench/c/job.h, or what the program's table holds. */
  readonly value: Uint8Array;
}

/** The contents of one map of a hand-written program. */
export type Contents =
  /** A kernel hash map or LPM trie, as large as its entries are many. Values begin with packets and bytes. */
  | { readonly kind: "hash"; readonly entries: readonly Entry[] }
  /** The open-addressed table of bench/c/slots.h. */
  | { readonly kind: "slots"; readonly entries: readonly Entry[] }
  /** Array maps, as they lie in memory; `counts`: bytes from one pair of counters to the next. */
  | { readonly kind: "memory"; readonly bytes: ArrayBufferView; readonly counts?: number };

/** A hand-written program, and what is in its tables. */
export interface Rival {
  readonly name: string;
  /** `bench/c/SOURCE.bpf.c`; its programs are `PROGRAM_xdp` and `PROGRAM_tc`. */
  readonly source: string;
  readonly program: string;
  /** Does any table's job, not this one's: not among those that the best is chosen of. */
  readonly isGeneric?: boolean;
  readonly defines?: Readonly<Record<string, number>>;
  /** Generated files that the source includes, by name. */
  readonly headers?: () => Readonly<Record<string, string>>;
  readonly tables: (inputs: Inputs) => Readonly<Record<string, Contents>>;
}

/** The same job by other flow tables of ours. */
export interface Variant {
  readonly name: string;
  readonly flows: (inputs: Inputs) => readonly string[];
}

export interface Case {
  readonly name: string;
  readonly title: string;
  /** Numbers of flows to run with. */
  readonly sizes: Readonly<Record<Profile, readonly number[]>>;
  readonly hooks?: readonly Hook[];
  readonly packet: PacketSpec;
  /** Byte offsets of 32-bit words that the actions rewrite. */
  readonly restore: readonly number[];
  /** Our flow table, a flow each. */
  readonly flows: (inputs: Inputs) => readonly string[];
  /** Addresses that the switch has learned before the first packet. */
  readonly stations?: (inputs: Inputs) => readonly { readonly mac: number; readonly port: number }[];
  /** Masks that the cache comes to with enough flows; absent when that is the translator's choice. */
  readonly masks?: number;
  /** false: direct mode cannot carry it. */
  readonly isDirect?: false;
  readonly variants?: readonly Variant[];
  readonly rivals: readonly Rival[];
}

/** The port that packets come in by. */
export const IN_PORT = 1;
/** Ports that flows send to. */
export const OUT_PORTS: readonly number[] = [2, 3, 4, 5];

export const outPort = (i: number): number => OUT_PORTS[i % OUT_PORTS.length]!;
