// Random switches whose tables fit random packets: rules match what sampled packets have in randomly chosen members, with
// masks, and do random things to them. The tables overlap, chain by goto_table and resubmit, and use groups.

import {
  extract,
  FLOW,
  get,
  getBits,
  newFlow,
  PACKET_MEMBERS,
  PORT,
  setBits,
  setOnes,
  Switch,
  type Action,
  type FieldName,
  type Flow,
  type FlowWords,
  type Match,
  type Member,
} from "#compiler";
import { randomPacket } from "./random-packets.js";
import { Random } from "./random.js";

export const N_PORTS = 4;

const bytesOf = (r: Random, n: number): Uint8Array => Uint8Array.from({ length: n }, () => r.below(256));

const prefix = (mask: FlowWords, member: Member, bits: number): void => setOnes(mask, FLOW[member].at, bits);

/** Members that go together with a packet of this kind, each only when what gives it meaning is matched too. */
const layersOf = (flow: FlowWords): Member[][] => {
  const type = get(flow, "dl_type");
  const proto = get(flow, "nw_proto");
  const layers: Member[][] = [["in_port", "dl_dst", "dl_src", "vlan0_tci"], ["dl_type"]];
  if (type === 0x0800) layers.push(["nw_src", "nw_dst", "nw_tos", "nw_ttl", "nw_frag", "nw_proto"]);
  if (type === 0x86dd) layers.push(["ipv6_src", "ipv6_dst", "ipv6_label", "nw_tos", "nw_ttl", "nw_frag", "nw_proto"]);
  if (type === 0x8847 || type === 0x8848) layers.push(["mpls_lse0", "mpls_lse1"]);
  if (type === 0x894f) layers.push(["nsh_flags", "nsh_ttl", "nsh_mdtype", "nsh_np", "nsh_path", "nsh_c2"]);
  if (type === 0x0806) layers.push(["nw_src", "nw_dst", "nw_proto", "arp_sha", "arp_tha"]);
  const isL4 = (type === 0x0800 || type === 0x86dd) && (get(flow, "nw_frag") & 2) === 0;
  if (isL4 && (proto === 6 || proto === 17)) layers.push(["tp_src", "tp_dst"]);
  if (isL4 && proto === 58 && type === 0x86dd) {
    layers.push(["tp_src", "tp_dst"]);
    const kind = get(flow, "tp_src");
    if ((kind === 135 || kind === 136) && get(flow, "tp_dst") === 0) {
      layers.push(["nd_target", kind === 135 ? "arp_sha" : "arp_tha"]);
    }
  }
  return layers;
};

/** What must be matched exactly for the members of a deeper layer to be allowed. */
const GUARDS: readonly (readonly Member[])[] = [
  [],
  [],
  ["dl_type"],
  ["dl_type", "nw_proto"],
  ["dl_type", "nw_proto", "tp_src", "tp_dst"],
];

const randomMatch = (r: Random, packet: Uint8Array): Match => {
  const flow = newFlow();
  extract(packet, packet.length, 1 + r.below(N_PORTS), flow);
  const mask = newFlow();
  const layers = layersOf(flow);
  const depth = r.below(layers.length + 1);
  for (let layer = 0; layer < depth; layer++) {
    for (const member of layers[layer]!) {
      if (!r.oneIn(3)) continue;
      for (const guard of GUARDS[layer]!) setOnes(mask, FLOW[guard].at, FLOW[guard].bits);
      const { bits } = FLOW[member];
      if (member === "vlan0_tci") prefix(mask, member, r.oneIn(2) ? 16 : 4);
      else if (bits >= 32 && member !== "in_port" && r.oneIn(2)) prefix(mask, member, 1 + r.below(bits));
      else setOnes(mask, FLOW[member].at, bits);
    }
  }
  const value = newFlow();
  for (let word = 0; word < value.length; word++) value[word] = flow[word]! & mask[word]!;
  return { value, mask };
};

const SETTABLE: readonly (readonly [FieldName, number])[] = [
  ["eth_dst", 6],
  ["eth_src", 6],
  ["ip_src", 4],
  ["ip_dst", 4],
  ["ipv6_src", 16],
  ["ipv6_dst", 16],
  ["nw_ttl", 1],
  ["nw_tos", 1],
  ["tcp_src", 2],
  ["tcp_dst", 2],
  ["udp_src", 2],
  ["udp_dst", 2],
  ["arp_spa", 4],
  ["arp_tpa", 4],
  ["arp_sha", 6],
  ["arp_tha", 6],
  ["icmp_type", 1],
  ["icmpv6_code", 1],
  ["nd_target", 16],
  ["mpls_label", 3],
  ["mpls_tc", 1],
  ["mpls_ttl", 1],
  ["nsh_ttl", 1],
  ["nsh_si", 1],
  ["nsh_c3", 4],
];

/** A value that fits the field. */
const valueOf = (r: Random, field: FieldName, size: number): Uint8Array => {
  const value = bytesOf(r, size);
  const bits: Partial<Record<FieldName, number>> = { nw_tos: 0xfc, mpls_label: 0x0f, mpls_tc: 7, nsh_ttl: 0x3f };
  value[0]! &= bits[field] ?? 0xff;
  return value;
};

/** Labels and service headers, and what looks at the size of a packet. */
const SHIMS: readonly ((r: Random) => Action)[] = [
  (r) => ({ kind: "push_mpls", ethertype: r.pick([0x8847, 0x8848]) }),
  (r) => ({ kind: "pop_mpls", ethertype: r.pick([0x0800, 0x86dd, 0x8847]) }),
  (r) => ({ kind: "pop_mpls", ethertype: r.pick([0x0800, 0x86dd, 0x8847]) }),
  () => ({ kind: "dec_mpls_ttl" }),
  () => ({ kind: "dec_nsh_ttl" }),
  () => ({ kind: "debug_recirc" }),
  () => ({ kind: "decap" }),
  (r) => ({ kind: "encap", packetType: r.pick([0, 0, 0x1894f, 0x18847]), properties: [] }),
  (r) => ({ kind: "check_pkt_larger", length: r.between(40, 120), dst: { field: "reg2", lsb: r.below(8), bits: 1 } }),
  (r) => ({ kind: "clone", actions: [{ kind: "push_mpls", ethertype: 0x8847 }, output(1 + r.below(N_PORTS))] }),
];

const output = (port: number): Action => ({ kind: "output", port, maxLen: 0 });

const randomAction = (r: Random, table: number, nTables: number, withGroups: boolean): Action => {
  const makers: readonly (() => Action)[] = [
    () => output(1 + r.below(N_PORTS)),
    () => output(1 + r.below(N_PORTS)),
    () => output(r.pick([PORT.IN_PORT, PORT.FLOOD, PORT.ALL, PORT.NORMAL])),
    () => {
      const [field, size] = r.pick(SETTABLE);
      return { kind: "set_field", field, value: valueOf(r, field, size) };
    },
    () => {
      const [field, size] = r.pick(SETTABLE);
      return { kind: "set_field", field, value: valueOf(r, field, size) };
    },
    () => ({ kind: "dec_ttl", ids: [0] }),
    () => ({ kind: "push_vlan", ethertype: r.pick([0x8100, 0x88a8]) }),
    () => ({ kind: "strip_vlan", spelling: "strip_vlan" }),
    () => ({ kind: "set_vlan_vid", vid: r.below(4096), pushIfNeeded: !r.oneIn(4) }),
    () => ({ kind: "reg_load", value: bytesOf(r, 1), dst: { field: "reg0", lsb: 0, bits: 8 } }),
    () => ({
      kind: "reg_move",
      src: { field: "eth_src", lsb: r.below(16), bits: 16 },
      dst: { field: "eth_dst", lsb: r.below(16), bits: 16 },
    }),
    () => r.pick(SHIMS)(r),
    () => ({ kind: "controller", maxLen: 128, reason: "action", id: 0 }),
    () => (withGroups ? { kind: "group", group: 1 + r.below(3) } : output(1)),
    () => (table + 1 < nTables ? { kind: "resubmit", table: table + 1 + r.below(nTables - table - 1) } : output(2)),
  ];
  return r.pick(makers)();
};

/** Rewrites of one or two fields, and an output: what a program carries out itself. */
const rewriteActions = (r: Random): Action[] => {
  const actions: Action[] = Array.from({ length: 1 + r.below(3) }, () => {
    const [field, size] = r.pick(SETTABLE);
    return { kind: "set_field", field, value: valueOf(r, field, size) };
  });
  if (r.oneIn(3)) actions.push({ kind: "dec_ttl", ids: [0] });
  if (r.oneIn(12)) actions.splice(0, actions.length, { kind: "pop_mpls", ethertype: r.pick([0x0800, 0x86dd, 0x8847]) });
  for (let i = r.oneIn(5) ? r.between(1, 3) : 0; i > 0; i--) actions.push({ kind: "push_mpls", ethertype: 0x8847 });
  if (r.oneIn(4)) actions.push({ kind: "push_vlan", ethertype: 0x8100 });
  return [...actions, { kind: "output", port: 1 + r.below(N_PORTS), maxLen: 0 }];
};

const randomActions = (r: Random, table: number, nTables: number): Action[] => {
  const actions: Action[] = Array.from({ length: r.below(5) }, () => randomAction(r, table, nTables, true));
  if (table + 1 < nTables && r.oneIn(2)) actions.push({ kind: "goto_table", table: table + 1 });
  return actions;
};

/** What a program carries out itself, in one table or going on to the next: edits, registers, action set, one output. */
const plainActions = (r: Random, table: number, nTables: number): Action[] => {
  const out = output(r.oneIn(8) ? PORT.IN_PORT : 1 + r.below(N_PORTS));
  const makers: readonly (() => Action)[] = [
    () => {
      const [field, size] = r.pick(SETTABLE);
      return { kind: "set_field", field, value: valueOf(r, field, size) };
    },
    () => ({ kind: "dec_ttl", ids: [0] }),
    () => ({ kind: "push_vlan", ethertype: r.pick([0x8100, 0x88a8]) }),
    () => ({ kind: "strip_vlan", spelling: "strip_vlan" }),
    () => ({ kind: "set_vlan_vid", vid: r.below(4096), pushIfNeeded: !r.oneIn(4) }),
    () => ({ kind: "set_vlan_pcp", pcp: r.below(8), pushIfNeeded: !r.oneIn(4) }),
    () => ({ kind: "reg_load", value: bytesOf(r, 1), dst: { field: "reg0", lsb: r.below(24), bits: 8 } }),
    () => ({ kind: "write_metadata", value: BigInt(r.below(4)), mask: 3n }),
    () => ({
      kind: "reg_move",
      src: { field: r.pick(["eth_src", "eth_dst"]), lsb: r.below(16), bits: 1 + r.below(32) },
      dst: { field: "reg1", lsb: 0, bits: 32 },
    }),
    () => ({ kind: "write_actions", actions: [out] }),
    () => ({ kind: "clear_actions" }),
  ];
  const edits = Array.from({ length: r.below(4) }, () => r.pick(makers)()).map((action) =>
    action.kind === "reg_move" ? { ...action, dst: { ...action.dst, bits: action.src.bits } } : action,
  );
  // Instructions stand in OpenFlow's order behind the actions.
  const isInstruction = ({ kind }: Action): boolean =>
    kind === "write_actions" || kind === "clear_actions" || kind === "write_metadata";
  const isLast = table + 1 >= nTables;
  return [
    ...edits.filter((action) => !isInstruction(action)),
    ...(isLast || r.oneIn(3) ? [out] : r.oneIn(4) ? [{ kind: "resubmit", table: table + 1 } as const] : []),
    ...(["clear_actions", "write_actions", "write_metadata"] as const).flatMap((kind) =>
      edits.filter((action) => action.kind === kind).slice(0, 1),
    ),
    ...(!isLast && r.oneIn(2) ? [{ kind: "goto_table", table: table + 1 } as const] : []),
  ];
};

export interface RandomSwitchOptions {
  /** Packets whose members rules match. Default: a random one for each rule. */
  readonly packets?: readonly Uint8Array[];
  /** Fewest and most rules of a table. Default: 3 to 14. */
  readonly nRules?: readonly [from: number, to: number];
  /** Mostly actions that a program carries out itself. */
  readonly plain?: boolean;
}

/** A switch with ports 1 to {@link N_PORTS}, three groups and rules in up to three tables. */
export const randomSwitch = (seed: number, options: RandomSwitchOptions = {}): Switch => {
  const { packets, nRules = [3, 14], plain = false } = options;
  const r = new Random(seed);
  const sw = new Switch({ failMode: "secure" });
  for (let port = 1; port <= N_PORTS; port++) sw.setPort({ number: port });
  const bucket = (id: number) => ({
    id,
    weight: 1 + r.below(3),
    actions: Array.from({ length: 1 + r.below(3) }, () => randomAction(r, 2, 3, false)),
  });
  sw.addGroup({ id: 1, type: "all", buckets: [bucket(0), bucket(1)] }, 0);
  sw.addGroup({ id: 2, type: "indirect", buckets: [bucket(0)] }, 0);
  sw.addGroup({ id: 3, type: "select", buckets: [bucket(0), bucket(1), bucket(2)] }, 0);
  const nTables = 1 + r.below(3);
  for (let table = 0; table < nTables; table++) {
    const n = r.between(...nRules);
    for (let i = 0; i < n; i++) {
      const flow: Flow = {
        table,
        priority: r.below(6) * 10,
        cookie: 0n,
        idleTimeout: 0,
        hardTimeout: 0,
        importance: 0,
        flags: [],
        match: randomMatch(r, packets === undefined ? randomPacket(r) : r.pick(packets)),
        actions:
          plain && !r.oneIn(6)
            ? plainActions(r, table, nTables)
            : packets !== undefined && r.oneIn(2)
              ? rewriteActions(r)
              : randomActions(r, table, nTables),
      };
      sw.add(flow, 0);
    }
  }
  return sw;
};

/** A copy of `flow` with one bit flipped. */
export const withFlippedBit = (flow: FlowWords, bit: number): FlowWords => {
  const copy = flow.slice();
  setBits(copy, bit, 1, 1 - getBits(copy, bit, 1));
  return copy;
};

/** Bits of members that packets have. */
export const PACKET_BITS: readonly number[] = [...PACKET_MEMBERS].flatMap((member) =>
  Array.from({ length: FLOW[member].bits }, (_, i) => FLOW[member].at + i),
);
