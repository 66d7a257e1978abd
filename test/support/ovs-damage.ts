// Packets that OVS 3.1's user-space datapath damages when it rewrites a field, where ofxdp does not (the list at the
// head of compiler/packet/set-field.ts). Differential tests leave them out.

import {
  ETH_TYPE,
  Executor,
  extract,
  HEADERS,
  IP_PROTO,
  type DpAction,
  type Layers,
  newFlow,
  newLayers,
  NW_FRAG,
  type SetTarget,
  type Switch,
  translate,
  type TranslateOptions,
} from "#compiler";
import { internetChecksum, pseudoHeader } from "./packet-builder.js";

const read16 = (b: Uint8Array, at: number): number => (b[at]! << 8) | b[at + 1]!;

/** Whether an extension header is a fragment header of offset 0 with no fragments to follow: the last one counts. */
const isAtomicFragment = (packet: Uint8Array, layers: Layers): boolean => {
  let proto = packet[layers.l3 + HEADERS.ipv6.fields.nextHeader.byteOffset]!;
  let at = layers.l3 + HEADERS.ipv6.minBytes;
  let atomic = false;
  while (at < layers.l4) {
    if (proto === IP_PROTO.FRAGMENT) {
      atomic = (read16(packet, at + 2) & 0xfff9) === 0;
      at += 8 - 8 * (packet[at + 1]! + 1);
    }
    const size = proto === IP_PROTO.AH ? (packet[at + 1]! + 2) * 4 : (packet[at + 1]! + 1) * 8;
    proto = packet[at]!;
    at += size;
  }
  return atomic;
};

const hasGoodIcmpv6Checksum = (packet: Uint8Array, layers: Layers): boolean => {
  const { l3, l4, end } = layers;
  const pseudo = pseudoHeader(packet.subarray(l3 + 8, l3 + 24), packet.subarray(l3 + 24, l3 + 40), 58, end - l4);
  return internetChecksum(pseudo, packet.subarray(l4, end)) === 0;
};

type Rule = (packet: Uint8Array, layers: Layers) => boolean;

const ipv4Address: Rule = (_, layers) => (layers.frag & NW_FRAG.LATER) !== 0;

const ndExtension: Rule = (packet, layers) =>
  layers.proto === IP_PROTO.ICMPV6 &&
  (layers.frag !== 0 ||
    layers.nExtHeaders > 0 ||
    layers.end - layers.l4 <= HEADERS.nd.minBytes ||
    !hasGoodIcmpv6Checksum(packet, layers));

/** An option that is no link-layer address of 8 bytes stands first. */
const ndAddress: Rule = (packet, layers) => {
  const at = layers.l4 + HEADERS.nd.minBytes;
  if (layers.proto !== IP_PROTO.ICMPV6 || layers.end - at < 8) return false;
  return packet[at + 1] !== 1 || (packet[at] !== 1 && packet[at] !== 2);
};

/** OVS writes ARP fields behind the end of a packet that is too short for them, and may crash. */
const arp: Rule = (_, layers) => !layers.complete;

const icmp: Rule = (_, layers) => (layers.frag & NW_FRAG.LATER) !== 0;

/** OVS parses the whole byte of the metadata type, and writes by the four bits of it that are the type. */
const nsh: Rule = (packet, layers) => {
  const mdtype = packet[layers.l3 + 2]!;
  return mdtype !== 1 && (mdtype & 0x0f) === 1;
};

type Family = "arp" | "ipv4" | "ipv6" | "nsh";

const FAMILY: Readonly<Record<number, Family>> = {
  [ETH_TYPE.ARP]: "arp",
  [ETH_TYPE.IPV4]: "ipv4",
  [ETH_TYPE.IPV6]: "ipv6",
  [ETH_TYPE.NSH]: "nsh",
};

const RULES: Readonly<Record<Family, Partial<Record<SetTarget, Rule>>>> = {
  nsh: {
    ...{ nsh_flags: nsh, nsh_ttl: nsh, nsh_spi: nsh, nsh_si: nsh },
    ...{ nsh_c1: nsh, nsh_c2: nsh, nsh_c3: nsh, nsh_c4: nsh },
  },
  arp: { arp_op: arp, arp_spa: arp, arp_tpa: arp, arp_sha: arp, arp_tha: arp },
  ipv4: { nw_src: ipv4Address, nw_dst: ipv4Address, icmp_type: icmp, icmp_code: icmp },
  ipv6: {
    ipv6_src: (packet, layers) => layers.routing || isAtomicFragment(packet, layers),
    ipv6_dst: isAtomicFragment,
    nd_target: ndAddress,
    nd_sll: ndAddress,
    nd_tll: ndAddress,
    nd_reserved: ndExtension,
    nd_options_type: ndExtension,
  },
};

/** Whether OVS 3.1 damages this packet when it sets one of `targets`; by default, any. */
export const isDamagedByOvs = (packet: Uint8Array, layers: Layers, targets?: readonly SetTarget[]): boolean => {
  const family = FAMILY[layers.dlType];
  if (family === undefined || ((family === "ipv4" || family === "ipv6") && layers.l4 < 0)) return false;
  const rules = RULES[family];
  const asked = targets ?? (Object.keys(rules) as SetTarget[]);
  return asked.some((target) => rules[target]?.(packet, layers) ?? false);
};

const targetsOf = (actions: readonly DpAction[]): SetTarget[] =>
  actions.flatMap((action) => (action.kind === "set" ? [action.target] : []));

const NOWHERE = { output: (): void => undefined, controller: (): void => undefined };

/** Whether OVS would damage a packet on the way that it takes through `sw` now, or what becomes of it where it recirculates. */
export const isDamagedOnItsWay = (
  sw: Switch,
  inPort: number,
  packet: Uint8Array,
  options: TranslateOptions = {},
  packetType = 0,
  passes = 6,
): boolean => {
  const flow = newFlow();
  const layers = newLayers();
  extract(packet, packet.length, inPort, flow, layers, packetType);
  const { actions } = translate(sw, flow, options);
  const targets = targetsOf(actions);
  // The checksum that follows an address or a port is damaged like the address.
  if (targets.length > 0 && isDamagedByOvs(packet, layers, targets)) return true;
  if (passes === 0) return false;
  const again = new Executor().execute(packet, actions, NOWHERE, layers, packetType);
  return again.some((each) =>
    isDamagedOnItsWay(sw, inPort, each.packet, { frozen: each.frozen }, each.packetType, passes - 1),
  );
};
