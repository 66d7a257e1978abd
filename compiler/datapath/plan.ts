// The plan of a datapath program: everything the emitter needs to know, decided beforehand by analysis and, at run time, by
// what the cache has seen. A plan is plain data; equal plans give equal programs.

import type { Origin } from "ebpf-assembler";
import { shapeOf, type DpAction, type SetTarget } from "../pipeline/dp-action.js";
import type { Vport } from "../pipeline/tunnel/config.js";
import { FIRST_SHAPE, SHAPE_DROP, SHAPE_SLOW, VALUE } from "./abi.js";
import { exactSubtable, inTable, type KeyLayout, type Subtable } from "./key.js";
import { tableLayout, type TableLayout } from "./table.js";

/** Bytes of a set target, as in the packet. */
export const TARGET_SIZE: Readonly<Record<SetTarget, number>> = {
  eth_dst: 6,
  eth_src: 6,
  skb_priority: 4,
  mpls_lse: 4,
  nsh_flags: 1,
  nsh_ttl: 1,
  nsh_spi: 3,
  nsh_si: 1,
  nsh_c1: 4,
  nsh_c2: 4,
  nsh_c3: 4,
  nsh_c4: 4,
  vlan_tci: 2,
  arp_op: 2,
  arp_spa: 4,
  arp_tpa: 4,
  arp_sha: 6,
  arp_tha: 6,
  nw_src: 4,
  nw_dst: 4,
  nw_tos: 1,
  nw_ttl: 1,
  ipv6_src: 16,
  ipv6_dst: 16,
  ipv6_label: 4,
  tp_src: 2,
  tp_dst: 2,
  icmp_type: 1,
  icmp_code: 1,
  nd_target: 16,
  nd_sll: 6,
  nd_tll: 6,
  nd_reserved: 4,
  nd_options_type: 1,
};

/** A list of actions without its arguments, and where each argument lies in the megaflow value. */
export interface Shape {
  readonly id: number;
  /** {@link shapeOf} of the actions. */
  readonly text: string;
  /** A list with this shape; only its kinds count. */
  readonly example: readonly DpAction[];
  /** Byte offset of each action's argument from the start of the arguments. */
  readonly offsets: readonly number[];
  /** Bytes of all arguments. */
  readonly argsSize: number;
  /** What led to the shape, for line information and messages. */
  readonly from?: Origin;
}

/** Arguments of a tnl_push: where it goes, u32 host order each, and what is put in front. */
export const TUNNEL_ARGS = { ifindex: 0, mtu: 4, header: 8 } as const;

const argSize = (action: DpAction): number => {
  switch (action.kind) {
    case "set":
      return TARGET_SIZE[action.target];
    case "output":
    case "push_vlan":
    case "meter":
      return 4;
    case "push_mpls":
      return 8;
    case "pop_mpls":
      return 2;
    case "tnl_push":
      return TUNNEL_ARGS.header + action.header.length;
    default:
      return 0;
  }
};

/** Arguments lie in action order, each aligned to its size (2 for MACs, 4 for longer ones, 8 for outer headers). */
export const shape = (id: number, actions: readonly DpAction[], from?: Origin): Shape => {
  const offsets: number[] = [];
  let at = 0;
  for (const action of actions) {
    const size = argSize(action);
    const align = action.kind === "tnl_push" ? 8 : size === 6 ? 2 : Math.max(1, Math.min(size, 4));
    at = Math.ceil(at / align) * align;
    offsets.push(at);
    at += size;
  }
  return {
    id,
    text: shapeOf(actions),
    example: actions,
    offsets,
    argsSize: at,
    ...(from === undefined ? {} : { from }),
  };
};

/**
 * Writes the arguments of `actions`, which must have this shape, at `at`.
<<<<<<< HEAD
 * Output: interface index, u32 host order; meter: its slot, likewise. Set: the bytes. push_vlan: TPID and TCI, u16 host order each.
 * tnl_push: {@link TUNNEL_ARGS}.
=======
 * Output: interface index, perhaps with OUTPUT_PEER, u32 host order; meter: its slot, likewise. Set: the bytes. push_vlan: TPID and TCI, u16 host order each.
>>>>>>> a290fe1 (runtime: Hand packets straight to the other end of a veth pair with hook peer)
 * push_mpls: entry and Ethernet type, pop_mpls: Ethernet type, in network order.
 */
export const putArgs = (
  target: Shape,
  actions: readonly DpAction[],
  outputOf: (port: number) => number,
  out: DataView,
  at: number,
): void => {
  actions.forEach((action, i) => {
    const off = at + target.offsets[i]!;
    switch (action.kind) {
      case "set":
        action.bytes.forEach((byte, j) => out.setUint8(off + j, byte));
        break;
      case "output":
        out.setUint32(off, outputOf(action.port), true);
        break;
      case "push_vlan":
        out.setUint16(off, action.tpid, true);
        out.setUint16(off + 2, action.tci, true);
        break;
      case "meter":
        out.setUint32(off, action.slot, true);
        break;
      case "push_mpls":
        out.setUint32(off, action.lse);
        out.setUint16(off + 4, action.ethertype);
        break;
      case "pop_mpls":
        out.setUint16(off, action.ethertype);
        break;
      case "tnl_push":
        out.setUint32(off + TUNNEL_ARGS.ifindex, action.hop?.ifindex ?? 0, true);
        out.setUint32(off + TUNNEL_ARGS.mtu, action.hop?.mtu ?? 0, true);
        action.header.forEach((byte, j) => out.setUint8(off + TUNNEL_ARGS.header + j, byte));
        break;
      default:
        break;
    }
  });
};

/** What a program must know to take tunnels' packets. */
export interface TunnelPlan {
  /** Interface indices by which they come; whatever else comes by these goes to the host. */
  readonly uplinks: readonly number[];
  /** The host's addresses that they come to, 4 or 16 bytes each. */
  readonly addresses: readonly Uint8Array[];
  readonly vports: readonly Vport[];
}

export interface DatapathPlan {
  readonly tunnels?: TunnelPlan;
  readonly key: KeyLayout;
  /** In the order of look-up; the exact-match subtable is not among them. */
  readonly subtables: readonly Subtable[];
  /** Looked up last: takes megaflows whose mask has no subtable (yet). */
  readonly exact: Subtable;
  /** Holds the subtables that have a number. */
  readonly table?: TableLayout;
  readonly shapes: readonly Shape[];
  /** Bytes of a megaflow value: head and the longest arguments, a multiple of 8. */
  readonly valueSize: number;
  /** Megaflows per subtable at most. */
  readonly maxEntries: number;
  /** Entries of the devmap and the lost counters: one more than the highest interface index. */
  readonly portSlots: number;
  /** Bytes of the upcall ring, a power of two and a multiple of the page size. */
  readonly ringSize: number;
}

export interface PlanOptions {
  readonly tunnels?: TunnelPlan;
  readonly key: KeyLayout;
  readonly subtables?: readonly Subtable[];
  readonly table?: TableLayout;
  readonly shapes?: readonly Shape[];
  /** At least this many bytes for arguments, so that the next shape needs no new maps. Default 40. */
  readonly argsSize?: number;
  readonly maxEntries?: number;
  readonly portSlots?: number;
  readonly ringSize?: number;
}

/** A plan with defaults: 200,000 megaflows a subtable, 4,096 interfaces, a ring of 1 MiB. */
export const plan = (options: PlanOptions): DatapathPlan => {
  const shapes = options.shapes ?? [];
  const args = Math.max(options.argsSize ?? 40, ...shapes.map((s) => s.argsSize));
  return {
    ...(options.tunnels === undefined ? {} : { tunnels: options.tunnels }),
    key: options.key,
    subtables: options.subtables ?? [],
    exact: exactSubtable("mf_exact", options.key),
    ...(options.table === undefined ? {} : { table: options.table }),
    shapes,
    valueSize: Math.ceil((VALUE.args + args) / 8) * 8,
    maxEntries: options.maxEntries ?? 200_000,
    portSlots: options.portSlots ?? 4096,
    ringSize: options.ringSize ?? 1 << 20,
  };
};

/** How subtables are stored: each in a kernel hash map, or all but the exact one in the megaflow table. */
export type Storage = "hash" | "table";

/** Name of the megaflow table's map. */
export const TABLE_MAP = "megaflows";

/** Whether a subtable of a plan lies in its megaflow table. */
export const isInTable = ({ table }: Pick<DatapathPlan, "table">, { number }: Subtable): boolean =>
  table !== undefined && number !== undefined;

/**
 * The plan with its subtables in a megaflow table, numbered from 1; the exact one stays in its map.
 * @param options - `entries` that the table should take, `seed` of its hash
 */
export const withTable = (
  before: DatapathPlan,
  { entries, seed }: { readonly entries: number; readonly seed: bigint },
): DatapathPlan => ({
  ...before,
  subtables: before.subtables.map((table, i) => inTable(table, i + 1)),
  table: tableLayout({
    map: TABLE_MAP,
    entries,
    words: Math.max(1, ...before.subtables.map(({ words }) => words.length)),
    maxWords: before.exact.words.length,
    argsSize: Math.max(8, ...before.shapes.map(({ argsSize }) => argsSize)),
    seed,
  }),
});

/** The shape number for `actions`: a compiled one, drop, or slow when the program does not know the shape. */
export const shapeIdOf = (shapes: ReadonlyMap<string, Shape>, actions: readonly DpAction[]): number =>
  actions.length === 0 ? SHAPE_DROP : (shapes.get(shapeOf(actions))?.id ?? SHAPE_SLOW);

/** Numbers shapes from {@link FIRST_SHAPE} on. */
export const numberShapes = (lists: readonly (readonly DpAction[])[]): Shape[] =>
  lists.map((actions, i) => shape(FIRST_SHAPE + i, actions));
