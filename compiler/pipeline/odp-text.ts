// Datapath actions and datapath flows in the words of `ovs-appctl dpctl/dump-flows` (OVS lib/odp-util.h). Two things have
// no words there: ports are OpenFlow ports, for there is only one switch; and `vlan(none)` says that the absence of a tag
// was looked at, since without it a megaflow here takes packets with a tag or without.

import { toHex, unreachable } from "ebpf-assembler";
import { FLOW, get, getBytes, type FlowWords, type Member } from "../openflow/flow.js";
import { VLAN_PRESENT } from "../openflow/numbers.js";
import { HASH_MEMBERS, HASH_NAMES } from "../packet/dp-hash.js";
import { ETH_TYPE, IP_PROTO, nsh, NSH_TYPE_1, NW_FRAG } from "../packet/headers.js";
import { hex, ipv4Text, ipv6Text, macText, tcpFlagsText } from "../openflow/print/values.js";
import { TCP_FLAGS } from "../openflow/flag-names.js";
import { PORT } from "../openflow/types.js";
import { TNL_F, type TunnelKey } from "../packet/tunnel.js";
import { isTunnelled } from "./tunnel/ports.js";
import type { DpAction, SetTarget } from "./dp-action.js";

type SetAction = Extract<DpAction, { kind: "set" }>;

const number = (bytes: Uint8Array): number => bytes.reduce((n, byte) => n * 256 + byte, 0);
const decimal = (bytes: Uint8Array): string => String(number(bytes));
const hexadecimal = (bytes: Uint8Array): string => hex(number(bytes));
/** `0x` also before a zero. */
const hexAlways = (bytes: Uint8Array): string => `0x${number(bytes).toString(16)}`;

const PROTO_WORD: ReadonlyMap<number, string> = new Map([
  [IP_PROTO.TCP, "tcp"],
  [IP_PROTO.UDP, "udp"],
  [IP_PROTO.SCTP, "sctp"],
]);

const ip = ({ family }: SetAction): string => family;
const ports = ({ proto }: SetAction): string => PROTO_WORD.get(proto) ?? "tp";
const icmp = ({ family }: SetAction): string => (family === "ipv6" ? "icmpv6" : "icmp");

/** Service path ID and service index. */
const pathText = (path: number): string => `spi=0x${(path >>> 8).toString(16)},si=${path & 0xff}`;

/** As OVS prints numbers of any length. */
const bytesText = (bytes: Uint8Array): string => {
  const digits = toHex(bytes).replace(/^0+/, "");
  return digits === "" ? "0" : `0x${digits}`;
};

const bytesHex = (bytes: Uint8Array): string => `0x${BigInt(`0x${toHex(bytes)}`).toString(16)}`;

const nshText = (header: Uint8Array): string => {
  const view = new DataView(header.buffer, header.byteOffset, header.length);
  const first = view.getUint16(0);
  const [mdtype, np] = [header[nsh.fields.mdtype.byteOffset]!, header[nsh.fields.np.byteOffset]!];
  const contexts = (): string[] =>
    Array.from(
      { length: NSH_TYPE_1.CONTEXTS },
      (_, i) => `c${i + 1}=0x${view.getUint32(nsh.minBytes + 4 * i).toString(16)}`,
    );
  return [
    `flags=${(first >>> 12) & 3},ttl=${(first >>> 6) & 0x3f},mdtype=${mdtype},np=${np}`,
    pathText(view.getUint32(nsh.fields.path.byteOffset)),
    ...(mdtype === NSH_TYPE_1.MDTYPE ? contexts() : [`md2=${bytesText(header.subarray(nsh.minBytes))}`]),
  ].join(",");
};

/** A label stack entry. */
const labelText = (entry: number): string =>
  `label=${entry >>> 12},tc=${(entry >>> 9) & 7},ttl=${entry & 0xff},bos=${(entry >>> 8) & 1}`;

interface TargetText {
  /** The header that a `set()` names. */
  readonly header: string | ((action: SetAction) => string);
  /** Empty where the text has keys of its own. */
  readonly key: string | ((action: SetAction) => string);
  readonly text: (bytes: Uint8Array) => string;
}

const TARGETS: Readonly<Record<SetTarget, TargetText>> = {
  eth_src: { header: "eth", key: "src", text: macText },
  eth_dst: { header: "eth", key: "dst", text: macText },
  skb_priority: { header: "skb_priority", key: "", text: hexadecimal },
  nsh_flags: { header: "nsh", key: "flags", text: decimal },
  nsh_ttl: { header: "nsh", key: "ttl", text: decimal },
  nsh_spi: { header: "nsh", key: "spi", text: hexAlways },
  nsh_si: { header: "nsh", key: "si", text: decimal },
  nsh_c1: { header: "nsh", key: "c1", text: hexAlways },
  nsh_c2: { header: "nsh", key: "c2", text: hexAlways },
  nsh_c3: { header: "nsh", key: "c3", text: hexAlways },
  nsh_c4: { header: "nsh", key: "c4", text: hexAlways },
  mpls_lse: { header: "mpls", key: "", text: (bytes) => labelText(number(bytes)) },
  vlan_tci: { header: "vlan", key: "tci", text: hexadecimal },
  arp_spa: { header: "arp", key: "sip", text: ipv4Text },
  arp_tpa: { header: "arp", key: "tip", text: ipv4Text },
  arp_op: { header: "arp", key: "op", text: decimal },
  arp_sha: { header: "arp", key: "sha", text: macText },
  arp_tha: { header: "arp", key: "tha", text: macText },
  nw_src: { header: "ipv4", key: "src", text: ipv4Text },
  nw_dst: { header: "ipv4", key: "dst", text: ipv4Text },
  ipv6_src: { header: "ipv6", key: "src", text: ipv6Text },
  ipv6_dst: { header: "ipv6", key: "dst", text: ipv6Text },
  ipv6_label: { header: "ipv6", key: "label", text: hexadecimal },
  nw_tos: { header: ip, key: ({ family }) => (family === "ipv6" ? "tclass" : "tos"), text: hexadecimal },
  nw_ttl: { header: ip, key: ({ family }) => (family === "ipv6" ? "hlimit" : "ttl"), text: decimal },
  tp_src: { header: ports, key: "src", text: decimal },
  tp_dst: { header: ports, key: "dst", text: decimal },
  icmp_type: { header: icmp, key: "type", text: decimal },
  icmp_code: { header: icmp, key: "code", text: decimal },
  nd_target: { header: "nd", key: "target", text: ipv6Text },
  nd_sll: { header: "nd", key: "sll", text: macText },
  nd_tll: { header: "nd", key: "tll", text: macText },
  nd_reserved: { header: "nd_ext", key: "nd_reserved", text: hexAlways },
  nd_options_type: { header: "nd_ext", key: "nd_options_type", text: decimal },
};

/** Numbers of the reasons for which a packet goes to a controller (OFPR_*, and OVS's own two). */
const REASONS: Readonly<Record<string, number>> = {
  no_match: 0,
  action: 1,
  invalid_ttl: 2,
  action_set: 3,
  group: 4,
  packet_out: 5,
  explicit_miss: 6,
  implicit_miss: 7,
};

export interface OdpTextOptions {
  /** Default: the number, LOCAL for the bridge's own port. */
  readonly port?: (port: number) => string;
  /** Copies to the controller are shown and not sent, as in a trace. */
  readonly dontSend?: boolean;
}

const portNumber = (port: number): string => (port === PORT.LOCAL ? "LOCAL" : String(port));

const say = (word: string | ((action: SetAction) => string), action: SetAction): string =>
  typeof word === "string" ? word : word(action);

const vlanText = (tci: number): string => {
  const vid = tci & 0x0fff;
  return `vid=${vid},pcp=${tci >>> 13}`;
};

const addressKey = (end: "src" | "dst", address: Uint8Array): string[] => {
  if (address.every((byte) => byte === 0)) return [];
  return [address.length === 4 ? `${end}=${ipv4Text(address)}` : `ipv6_${end}=${ipv6Text(address)}`];
};

const TUNNEL_FLAGS: readonly (readonly [number, string])[] = [
  [TNL_F.OAM, "oam"],
  [TNL_F.DF, "df"],
  [TNL_F.CSUM, "csum"],
  [TNL_F.KEY, "key"],
];

const tunnelText = ({ tunId, src, dst, tos, ttl, flags, dstPort, gbp }: TunnelKey): string =>
  [
    ...(tunId === 0n && (flags & TNL_F.KEY) === 0 ? [] : [`tun_id=0x${tunId.toString(16)}`]),
    ...addressKey("src", src),
    ...addressKey("dst", dst),
    ...(tos === 0 ? [] : [`tos=0x${tos.toString(16)}`]),
    `ttl=${ttl}`,
    ...(dstPort === 0 ? [] : [`tp_dst=${dstPort}`]),
    ...(gbp === undefined || (gbp.id === 0 && gbp.flags === 0)
      ? []
      : [`vxlan(gbp(id=${gbp.id},flags=0x${gbp.flags.toString(16)}))`]),
    `flags(${TUNNEL_FLAGS.filter(([bit]) => (flags & bit) !== 0)
      .map(([, word]) => word)
      .join("|")})`,
  ].join(",");

const actionText = (action: Exclude<DpAction, SetAction>, options: OdpTextOptions): string => {
  switch (action.kind) {
    case "output":
      return (options.port ?? portNumber)(action.port);
    case "tnl_push":
      return `set(tunnel(${tunnelText(action.tunnel)})),${(options.port ?? portNumber)(action.port)}`;
    case "push_vlan": {
      const tpid = action.tpid === ETH_TYPE.VLAN ? "" : `tpid=0x${action.tpid.toString(16).padStart(4, "0")},`;
      return `push_vlan(${tpid}${vlanText(action.tci)})`;
    }
    case "pop_vlan":
      return "pop_vlan";
    case "meter":
      return `meter(${action.slot})`;
    case "controller":
      return (
        `userspace(pid=0,controller(reason=${REASONS[action.reason] ?? 1},` +
        `dont_send=${options.dontSend === true ? 1 : 0},continuation=${action.continuation === true ? 1 : 0},recirc_id=0,rule_cookie=${hex(action.cookie)},` +
        `controller_id=${action.controllerId},max_len=${action.maxLen}))`
      );
    case "push_mpls":
    case "add_mpls":
      return `${action.kind}(${labelText(action.lse)},eth_type=${hex(action.ethertype)})`;
    case "pop_mpls":
      return `pop_mpls(eth_type=${hex(action.ethertype)})`;
    case "push_eth":
      return `push_eth(src=${macText(action.src)},dst=${macText(action.dst)})`;
    case "pop_eth":
      return "pop_eth";
    case "push_nsh":
      return `push_nsh(${nshText(action.header)})`;
    case "pop_nsh":
      return "pop_nsh()";
    case "recirc":
      return `recirc(${hex(action.frozen.id)})`;
    case "trunc":
      return `trunc(${action.maxLen})`;
    case "clone":
      return `clone(${formatOdpActions(action.actions, options)})`;
    case "check_pkt_len": {
      const [gt, le] = [action.greater, action.lessEqual].map((list) => formatOdpActions(list, options));
      return `check_pkt_len(size=${action.length},gt(${gt}),le(${le}))`;
    }
    default:
      return unreachable(action);
  }
};

/** The actions as OVS prints them; sets of one header that follow each other are one `set()`. */
export const formatOdpActions = (actions: readonly DpAction[], options: OdpTextOptions = {}): string => {
  if (actions.length === 0) return "drop";
  const out: string[] = [];
  for (let i = 0; i < actions.length; i++) {
    const first = actions[i]!;
    if (first.kind !== "set") {
      out.push(actionText(first, options));
      continue;
    }
    const header = say(TARGETS[first.target].header, first);
    const values: string[] = [];
    for (let action: DpAction | undefined = first; action?.kind === "set"; action = actions[++i]) {
      const { header: word, key, text } = TARGETS[action.target];
      if (say(word, action) !== header) break;
      const name = say(key, action);
      values.push(name === "" ? text(action.bytes) : `${name}=${text(action.bytes)}`);
    }
    i--;
    out.push(`set(${header}(${values.join(",")}))`);
  }
  return out.join(",");
};

// Flows

type Text = (bytes: Uint8Array) => string;

const bytesOf = (flow: FlowWords, member: Member, size: number): Uint8Array => {
  const { at, bits } = FLOW[member];
  return getBytes(flow, at + Math.max(0, bits - 8 * size), Math.min(bits, 8 * size));
};

/** `KEY=VALUE`, `KEY=VALUE/MASK`, or nothing when no bit matters. */
const masked = (
  flow: FlowWords,
  mask: FlowWords,
  member: Member,
  key: string,
  text: Text,
  maskText: Text = text,
  size = FLOW[member].bits / 8,
): string[] => {
  const ones = bytesOf(mask, member, size);
  if (ones.every((byte) => byte === 0)) return [];
  const value = bytesOf(flow, member, size).map((byte, i) => byte & ones[i]!);
  return [ones.every((byte) => byte === 0xff) ? `${key}=${text(value)}` : `${key}=${text(value)}/${maskText(ones)}`];
};

const header = (name: string, parts: readonly (readonly string[])[]): string[] => {
  const words = parts.flat();
  return words.length === 0 ? [] : [`${name}(${words.join(",")})`];
};

const FRAGMENT_WORDS = ["no", "first", "no", "later"] as const;

const fragment = (flow: FlowWords, mask: FlowWords): string[] =>
  get(mask, "nw_frag") === 0 ? [] : [`frag=${FRAGMENT_WORDS[get(flow, "nw_frag") & 3]!}`];

const vlanKey = (flow: FlowWords, mask: FlowWords, member: "vlan0_tci" | "vlan1_tci"): string => {
  const [tci, ones] = [get(flow, member), get(mask, member)];
  const part = (name: string, shift: number, all: number): string[] => {
    const bits = (ones >>> shift) & all;
    if (bits === 0) return [];
    return [`${name}=${((tci & ones) >>> shift) & all}${bits === all ? "" : `/0x${bits.toString(16)}`}`];
  };
  return `vlan(${[...part("vid", 0, 0xfff), ...part("pcp", 13, 7)].join(",")})`;
};

const arpKey = (flow: FlowWords, mask: FlowWords): string[] =>
  header("arp", [
    masked(flow, mask, "nw_src", "sip", ipv4Text),
    masked(flow, mask, "nw_dst", "tip", ipv4Text),
    masked(flow, mask, "nw_proto", "op", decimal, hexadecimal),
    masked(flow, mask, "arp_sha", "sha", macText),
    masked(flow, mask, "arp_tha", "tha", macText),
  ]);

const ipv4Key = (flow: FlowWords, mask: FlowWords): string[] =>
  header("ipv4", [
    masked(flow, mask, "nw_src", "src", ipv4Text),
    masked(flow, mask, "nw_dst", "dst", ipv4Text),
    masked(flow, mask, "nw_proto", "proto", decimal, hexadecimal),
    masked(flow, mask, "nw_tos", "tos", hexadecimal),
    masked(flow, mask, "nw_ttl", "ttl", decimal, hexadecimal),
    fragment(flow, mask),
  ]);

const labelKey = (flow: FlowWords, mask: FlowWords): string[] => {
  const ones = get(mask, "ipv6_label") & 0xfffff;
  if (ones === 0) return [];
  return [`label=${hex(get(flow, "ipv6_label") & ones)}${ones === 0xfffff ? "" : `/${hex(ones)}`}`];
};

const ipv6Key = (flow: FlowWords, mask: FlowWords): string[] =>
  header("ipv6", [
    masked(flow, mask, "ipv6_src", "src", ipv6Text),
    masked(flow, mask, "ipv6_dst", "dst", ipv6Text),
    labelKey(flow, mask),
    masked(flow, mask, "nw_proto", "proto", decimal, hexadecimal),
    masked(flow, mask, "nw_tos", "tclass", hexadecimal),
    masked(flow, mask, "nw_ttl", "hlimit", decimal, hexadecimal),
    fragment(flow, mask),
  ]);

const portsKey = (flow: FlowWords, mask: FlowWords, name: string): string[] =>
  header(name, [
    masked(flow, mask, "tp_src", "src", decimal, hexadecimal),
    masked(flow, mask, "tp_dst", "dst", decimal, hexadecimal),
  ]);

const icmpKey = (flow: FlowWords, mask: FlowWords, name: string): string[] =>
  header(name, [
    masked(flow, mask, "tp_src", "type", decimal, hexadecimal, 1),
    masked(flow, mask, "tp_dst", "code", decimal, hexadecimal, 1),
  ]);

const tcpFlagsKey = (flow: FlowWords, mask: FlowWords): string[] => {
  const ones = get(mask, "tcp_flags") & TCP_FLAGS.allowed;
  return ones === 0 ? [] : [`tcp_flags(${tcpFlagsText(get(flow, "tcp_flags") & ones, ones)})`];
};

const ndKey = (flow: FlowWords, mask: FlowWords): string[] => [
  ...header("nd", [
    masked(flow, mask, "nd_target", "target", ipv6Text),
    masked(flow, mask, "arp_sha", "sll", macText),
    masked(flow, mask, "arp_tha", "tll", macText),
  ]),
  ...header("nd_ext", [
    masked(flow, mask, "nd_reserved", "nd_reserved", hexAlways),
    masked(flow, mask, "nd_options_type", "nd_options_type", decimal, hexadecimal),
  ]),
];

const upperKey = (flow: FlowWords, mask: FlowWords, type: number): string[] => {
  const proto = get(flow, "nw_proto");
  if ((get(flow, "nw_frag") & NW_FRAG.LATER) !== 0) return [];
  const word = PROTO_WORD.get(proto);
  if (word !== undefined) {
    return [...portsKey(flow, mask, word), ...(proto === IP_PROTO.TCP ? tcpFlagsKey(flow, mask) : [])];
  }
  if (type === ETH_TYPE.IPV4 && proto === IP_PROTO.ICMP) return icmpKey(flow, mask, "icmp");
  if (type === ETH_TYPE.IPV6 && proto === IP_PROTO.ICMPV6) {
    return [...icmpKey(flow, mask, "icmpv6"), ...ndKey(flow, mask)];
  }
  return [];
};

const MPLS_MEMBERS = ["mpls_lse0", "mpls_lse1", "mpls_lse2"] as const;

/** Label stack entries down to the last that mattered; OVS shows every part of each with its mask. */
const mplsKey = (flow: FlowWords, mask: FlowWords): string[] => {
  const last = MPLS_MEMBERS.findLastIndex((member) => get(mask, member) !== 0);
  const entries = MPLS_MEMBERS.slice(0, last + 1).map((member) => {
    const ones = get(mask, member);
    const lse = (get(flow, member) & ones) >>> 0;
    const part = (shift: number, all: number, prefix: string): string =>
      `${(lse >>> shift) & all}/${prefix}${((ones >>> shift) & all).toString(16)}`;
    return `label=${part(12, 0xfffff, "0x")},tc=${part(9, 7, "")},ttl=${part(0, 0xff, "0x")},bos=${part(8, 1, "")}`;
  });
  return entries.length === 0 ? [] : [`mpls(${entries.join(",")})`];
};

const twoDigits = (bytes: Uint8Array): string => `0x${number(bytes).toString(16).padStart(2, "0")}`;
const eightDigits = (bytes: Uint8Array): string => `0x${number(bytes).toString(16).padStart(8, "0")}`;

const nshKey = (flow: FlowWords, mask: FlowWords): string[] => {
  const byte = (member: Member, key: string): string[] => {
    const isWhole = get(mask, member) === 0xff;
    return masked(flow, mask, member, key, isWhole ? decimal : twoDigits, twoDigits);
  };
  const [path, ones] = [get(flow, "nsh_path") & get(mask, "nsh_path"), get(mask, "nsh_path")];
  return header("nsh", [
    byte("nsh_flags", "flags"),
    byte("nsh_ttl", "ttl"),
    byte("nsh_mdtype", "mdtype"),
    byte("nsh_np", "np"),
    ones >>> 8 === 0 ? [] : [`spi=0x${(path >>> 8).toString(16)}`],
    (ones & 0xff) === 0 ? [] : [`si=${path & 0xff}`],
    ...(["nsh_c1", "nsh_c2", "nsh_c3", "nsh_c4"] as const).map((member) =>
      masked(flow, mask, member, member.slice(4), hexAlways, eightDigits),
    ),
  ]);
};

const L3_KEYS: ReadonlyMap<number, (flow: FlowWords, mask: FlowWords) => string[]> = new Map([
  [ETH_TYPE.IPV4, ipv4Key],
  [ETH_TYPE.IPV6, ipv6Key],
  [ETH_TYPE.ARP, arpKey],
  [ETH_TYPE.RARP, arpKey],
  [ETH_TYPE.MPLS, mplsKey],
  [ETH_TYPE.MPLS_MCAST, mplsKey],
  [ETH_TYPE.NSH, nshKey],
]);

/** `+` before flags that are set, `-` before those that are not. */
const tunnelFlags = (flow: FlowWords, mask: FlowWords): string[] => {
  const [value, ones] = [get(flow, "tun_flags"), get(mask, "tun_flags")];
  const words = TUNNEL_FLAGS.filter(([bit]) => (ones & bit) !== 0);
  return words.length === 0
    ? []
    : [`flags(${words.map(([bit, word]) => `${(value & bit) === 0 ? "-" : "+"}${word}`).join("")})`];
};

const tunnelKey = (flow: FlowWords, mask: FlowWords): string[] =>
  header("tunnel", [
    masked(flow, mask, "tun_id", "tun_id", bytesHex),
    masked(flow, mask, "tun_src", "src", ipv4Text),
    masked(flow, mask, "tun_dst", "dst", ipv4Text),
    masked(flow, mask, "tun_ipv6_src", "ipv6_src", ipv6Text),
    masked(flow, mask, "tun_ipv6_dst", "ipv6_dst", ipv6Text),
    masked(flow, mask, "tun_tos", "tos", hexadecimal),
    masked(flow, mask, "tun_ttl", "ttl", decimal, hexadecimal),
    header("vxlan", [
      header("gbp", [
        masked(flow, mask, "tun_gbp_id", "id", decimal, hexadecimal),
        masked(flow, mask, "tun_gbp_flags", "flags", hexAlways),
      ]),
    ]),
    tunnelFlags(flow, mask),
  ]);

const tpidText = (tpid: number): string => `eth_type(0x${tpid.toString(16).padStart(4, "0")})`;

/** `dp_hash(sym_l4(0x3/0xf))`: OVS, which looks a packet up once more to match a hash, says `dp_hash(0x3/0xf)` then. */
const hashKey = (flow: FlowWords, mask: FlowWords): string[] =>
  HASH_MEMBERS.flatMap((member) => {
    const bits = get(mask, member);
    return bits === 0 ? [] : [`dp_hash(${HASH_NAMES[member]}(${hex((get(flow, member) & bits) >>> 0)}/${hex(bits)}))`];
  });

/** What a megaflow matches: `recirc_id(0),in_port(1),eth(dst=…),eth_type(0x0800),ipv4(frag=no)`. */
export const formatOdpFlow = (flow: FlowWords, mask: FlowWords, options: OdpTextOptions = {}): string => {
  const type = get(flow, "dl_type");
  // Frames without an Ethernet type have none to show.
  const inner = type < 0x600 ? [] : [tpidText(type)];
  inner.push(...(L3_KEYS.get(type)?.(flow, mask) ?? []));
  if (type === ETH_TYPE.IPV4 || type === ETH_TYPE.IPV6) inner.push(...upperKey(flow, mask, type));

  let rest = inner.join(",");
  const tags = [
    { tpid: "vlan0_tpid", tci: "vlan0_tci" },
    { tpid: "vlan1_tpid", tci: "vlan1_tci" },
  ] as const;
  for (const { tpid, tci } of [...tags].reverse()) {
    if (get(mask, tci) === 0 && get(mask, tpid) === 0) continue;
    if ((get(flow, tci) & VLAN_PRESENT) !== 0) {
      rest = `${tpidText(get(flow, tpid))},${vlanKey(flow, mask, tci)},encap(${rest})`;
    } else if (tci === "vlan0_tci" || (get(flow, "vlan0_tci") & VLAN_PRESENT) !== 0) {
      rest = rest === "" ? "vlan(none)" : `vlan(none),${rest}`;
    }
  }
  const ethernet = [masked(flow, mask, "dl_src", "src", macText), masked(flow, mask, "dl_dst", "dst", macText)].flat();
  return [
    ...(isTunnelled(flow) ? tunnelKey(flow, mask) : []),
    "recirc_id(0)",
    ...hashKey(flow, mask),
    `in_port(${(options.port ?? portNumber)(get(flow, "in_port"))})`,
    `eth(${ethernet.join(",")})`,
    ...(rest === "" ? [] : [rest]),
  ].join(",");
};
