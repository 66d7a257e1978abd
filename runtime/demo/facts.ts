// What a run of the demo found out, as plain data: `ofxdp demo -j` prints it, report.ts puts it into words.

import type { MegaflowReport } from "../control/dump.js";

/** Something that must hold for the demo to be a success. */
export interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

/** Speed of one way through one switch. */
export interface Speed {
  /** What was switched, e.g. "alice to bob". */
  readonly path: string;
  /** What switched it. */
  readonly by: string;
  readonly tcpBitsPerSecond: number;
  /** Mean round trip of a ping, microseconds. */
  readonly pingUs: number;
}

/** Speeds to be compared: the same packets through one switch and another. */
export interface Comparison {
  readonly job: string;
  readonly ofxdp: Speed;
  /** Undefined where the kernel has nothing that does the job. */
  readonly linux: Speed | undefined;
  readonly note: string;
}

/** Numbers of a daemon at its end. Latencies in microseconds: of misses, from a packet's arrival to its transmission. */
export interface Counters {
  readonly hits: number;
  readonly misses: number;
  readonly slow: number;
  readonly lost: number;
  readonly upcallUs: { readonly count: number; readonly p50: number; readonly p99: number; readonly max: number };
}

export interface DemoFacts {
  readonly flows: { readonly file: string; readonly tables: number; readonly rules: number };
  readonly program: { readonly keyBytes: number; readonly insns: number; readonly hook: string };
  readonly megaflows: readonly MegaflowReport[];
  readonly counters: Counters;
  /** The switch without flows. */
  readonly standalone: { readonly macs: number; readonly megaflows: number; readonly counters: Counters };
  readonly speeds: readonly Comparison[];
  readonly tcpTool: "iperf3" | "node";
  readonly checks: readonly Check[];
  readonly seconds: number;
}

/** Whether the demo showed what it is there to show. */
export const isSuccess = ({ checks }: Pick<DemoFacts, "checks">): boolean => checks.every(({ ok }) => ok);
