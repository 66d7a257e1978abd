// What a helper is to the interpreter: where it may be called, what its arguments must be, and its effect.

import type { HelperName } from "../../isa/helpers.js";
import { Fault } from "../errors.js";
import type { Image } from "../image.js";
import type { Machine } from "../machine.js";
import type { VmMap } from "../maps/map.js";
import { highWord, ORIGIN, SEGMENTS } from "../memory.js";
import type { Packet } from "../packet.js";
import type { SkbContext, VlanTag } from "../skb.js";
import type { XdpContext } from "../xdp.js";

export type Hook = "xdp" | "tc";

/** A copy that clone_redirect sent. */
export interface Clone {
  readonly ifindex: number;
  readonly flags: number;
  readonly packet: Uint8Array;
  readonly vlan?: VlanTag;
}

/** What the last redirect helper asked for. */
export interface Redirect {
  /** The device; 0 when `targets` says where copies go. */
  readonly ifindex: number;
  readonly flags: number;
  /** redirect_peer: into the peer's network namespace. */
  readonly peer: boolean;
  /** Devices of a broadcast through a devmap. */
  readonly targets?: readonly number[];
}

/** Everything a helper can reach. */
export interface Host {
  readonly machine: Machine;
  readonly maps: readonly VmMap[];
  readonly images: readonly Image[];
  readonly hook: Hook;
  readonly packet: Packet;
  readonly xdp: XdpContext;
  readonly skb: SkbContext;
  readonly clock: () => bigint;
  readonly random: () => number;
  /** The MTU of a device, undefined when there is no such device. */
  readonly mtuOf: (ifindex: number) => number | undefined;
  readonly trace: string[];
  readonly clones: Clone[];
  redirect: Redirect | undefined;
  nTailCalls: number;
}

export interface Helper {
  readonly hooks: readonly Hook[];
  /** Whether r1 must be the context. */
  readonly takesContext?: boolean;
  /** Whether packet pointers are stale afterwards (bpf_helper_changes_pkt_data). */
  readonly invalidates?: boolean;
  /** Arguments in r1..r5; the result goes to r0. @throws {@link Fault} for an argument the verifier refuses */
  run(host: Host): void;
}

/** Helpers by their names in uapi/linux/bpf.h. */
export type HelperTable = { readonly [name in HelperName]?: Helper };

export const BOTH: readonly Hook[] = ["xdp", "tc"];
export const XDP: readonly Hook[] = ["xdp"];
export const TC: readonly Hook[] = ["tc"];

/** Argument `n` as an unsigned 32-bit number. */
export const u32 = (m: Machine, n: number): number => m.R[2 * n]! >>> 0;
/** Argument `n` as a signed 32-bit number. */
export const s32 = (m: Machine, n: number): number => m.R[2 * n]!;
/** Argument `n` as flags: -1 (every bit set) when bits above 31 are set, which no helper knows. */
export const flagsOf = (m: Machine, n: number): number => (m.R[2 * n + 1] === 0 ? m.R[2 * n]! >>> 0 : -1);
export const isNull = (m: Machine, n: number): boolean => m.R[2 * n] === 0 && m.R[2 * n + 1] === 0;

/** `size` readable bytes at argument `n`, not a copy. */
export const readable = (m: Machine, n: number, size: number): Uint8Array =>
  m.memory.bytes(m.R[2 * n + 1]!, m.R[2 * n]!, size, false);
/** `size` writable bytes at argument `n`, not a copy. */
export const writable = (m: Machine, n: number, size: number): Uint8Array =>
  m.memory.bytes(m.R[2 * n + 1]!, m.R[2 * n]!, size, true);

/** The map that argument `n` names. */
export const mapOf = (host: Host, n: number): VmMap => {
  const { R } = host.machine;
  const index = R[2 * n + 1]! - highWord(SEGMENTS.mapObject, 0);
  const map = R[2 * n] === ORIGIN ? host.maps[index] : undefined;
  if (map === undefined) throw new Fault(`argument ${n} of the helper is not a map`);
  return map;
};

/** Checks that argument 1 is the context. */
export const checkContext = (m: Machine): void => {
  if (m.R[2] !== ORIGIN || m.R[3] !== highWord(SEGMENTS.ctx, 0))
    throw new Fault("argument 1 of the helper is not the context");
};
