// The matches of OpenFlow 1.0 and 1.1, which are structures of fixed length (ofp_match, 40 and 88 bytes): big-endian, the
// wildcard bits say what is not matched. Both ways as OVS 3.1 has it, also where the structure contradicts itself.

import type { DraftMatch } from "../field-access.js";
import { FLOW, get, getBytes, newFlow, set, setBytes, type Member } from "../flow.js";
import { forgetEthernet } from "../normalize.js";
import { VLAN_NONE, VLAN_PRESENT } from "../numbers.js";
import { ETH_TYPE, IP_PROTO } from "../../packet/headers.js";
import { read16, read32, write16, write32 } from "../../packet/words.js";
import { MAX_PORTS } from "../ports.js";
import type { Match } from "../types.js";
import { OpenFlowError } from "./errors.js";

export const MATCH_10_BYTES = 40;
export const MATCH_11_BYTES = 88;

/** Type of the OpenFlow 1.1 match in its header (OFPMT_STANDARD). */
export const MATCH_TYPE_STANDARD = 0;

const VLAN_ANY_11 = 0xfffe;
const DSCP = 0xfc;

const bytesOf = (words: Match["value"], member: Member): Uint8Array =>
  getBytes(words, FLOW[member].at, FLOW[member].bits);

const put = (words: Match["value"], member: Member, bytes: Uint8Array): void =>
  setBytes(words, FLOW[member].at, FLOW[member].bits, bytes);

const inverted = (bytes: Uint8Array): Uint8Array => bytes.map((byte) => byte ^ 0xff);

/** Demands a value under a mask. */
const demand = (match: Match, member: Member, value: Uint8Array, mask: Uint8Array): void => {
  put(
    match.value,
    member,
    value.map((byte, i) => byte & mask[i]!),
  );
  put(match.mask, member, mask);
};

/** Demands a value of a member of at most 32 bits. */
const demandNumber = (match: Match, member: Member, value: number, mask = 2 ** FLOW[member].bits - 1): void => {
  set(match.value, member, value & mask);
  set(match.mask, member, mask);
};

const sayEthernet = (match: DraftMatch): DraftMatch => {
  set(match.mask, "packet_type", 0xffffffff);
  forgetEthernet(match);
  return match;
};

/** Members of the structure that are matched wholly or not at all. */
interface Part {
  readonly member: Member;
  /** Its bit among the wildcards. */
  readonly wild: number;
  readonly at: number;
  readonly bytes: number;
  /** Bits of it that are matched; all by default. */
  readonly mask?: number;
}

// ---------------------------------------------------------------------------------------------------------------------
// OpenFlow 1.0

const WILD_10 = { VLAN: 1 << 1, VLAN_PCP: 1 << 20, SRC_SHIFT: 8, DST_SHIFT: 14 } as const;
const AT_10 = { IN_PORT: 4, VLAN: 18, VLAN_PCP: 20, SRC: 28, DST: 32 } as const;

const PARTS_10: readonly Part[] = [
  { member: "dl_src", wild: 1 << 2, at: 6, bytes: 6 },
  { member: "dl_dst", wild: 1 << 3, at: 12, bytes: 6 },
  { member: "dl_type", wild: 1 << 4, at: 22, bytes: 2 },
  { member: "nw_tos", wild: 1 << 21, at: 24, bytes: 1, mask: DSCP },
  { member: "nw_proto", wild: 1 << 5, at: 25, bytes: 1 },
  { member: "tp_src", wild: 1 << 6, at: 36, bytes: 2 },
  { member: "tp_dst", wild: 1 << 7, at: 38, bytes: 2 },
];

const widened = (port: number): number => (port < MAX_PORTS ? port : port + 0xffff0000);

const ADDRESSES_10 = [
  ["nw_src", WILD_10.SRC_SHIFT, AT_10.SRC],
  ["nw_dst", WILD_10.DST_SHIFT, AT_10.DST],
] as const;

/** Bits that are not matched at the end of an address; 32 and more are all. */
const prefixMask = (wildBits: number): number => (wildBits >= 32 ? 0 : (0xffffffff << wildBits) >>> 0);

const decodeVlan10 = (match: Match, wild: number, vlan: number, pcp: number): void => {
  const matchesVid = (wild & WILD_10.VLAN) === 0;
  if (matchesVid && vlan === VLAN_NONE) {
    demandNumber(match, "vlan0_tci", 0);
    return;
  }
  const mask = (matchesVid ? 0x0fff | VLAN_PRESENT : 0) | ((wild & WILD_10.VLAN_PCP) === 0 ? 0xe000 | VLAN_PRESENT : 0);
  if (mask !== 0) demandNumber(match, "vlan0_tci", (vlan & 0xfff) | ((pcp & 7) << 13) | VLAN_PRESENT, mask);
};

/** Reads the match of OpenFlow 1.0; any 40 bytes are one. */
export const decodeMatch10 = (bytes: Uint8Array, at = 0): Match => {
  const b = bytes.subarray(at, at + MATCH_10_BYTES);
  const match: DraftMatch = { value: newFlow(), mask: newFlow() };
  const wild = read32(b, 0);
  if ((wild & 1) === 0) demandNumber(match, "in_port", widened(read16(b, AT_10.IN_PORT)), 0xffffffff);
  for (const { member, wild: bit, at: from, bytes: size, mask } of PARTS_10) {
    if ((wild & bit) !== 0) continue;
    demand(match, member, b.slice(from, from + size), new Uint8Array(size).fill(mask ?? 0xff));
  }
  for (const [member, shift, from] of ADDRESSES_10) {
    const mask = prefixMask((wild >>> shift) & 0x3f);
    set(match.value, member, (read32(b, from) & mask) >>> 0);
    set(match.mask, member, mask);
  }
  decodeVlan10(match, wild, read16(b, AT_10.VLAN), b[AT_10.VLAN_PCP]!);
  return match.mask.some((word, i) => i > 0 && word !== 0) ? sayEthernet(match) : match;
};

const isMatched = (match: Match, member: Member): boolean => bytesOf(match.mask, member).some((byte) => byte !== 0);

const put16Port = (b: Uint8Array, at: number, port: number): void => write16(b, at, port & 0xffff);

/** Writes a match in the form of OpenFlow 1.0; what that has no room for is left out. */
export const encodeMatch10 = (match: Match): Uint8Array => {
  const b = new Uint8Array(MATCH_10_BYTES);
  let wild = isMatched(match, "in_port") ? 0 : 1;
  put16Port(b, AT_10.IN_PORT, get(match.value, "in_port"));
  for (const { member, wild: bit, at, mask } of PARTS_10) {
    const value = bytesOf(match.value, member);
    if (!bytesOf(match.mask, member).some((byte) => (byte & (mask ?? 0xff)) !== 0)) wild |= bit;
    b.set(
      value.map((byte) => byte & (mask ?? 0xff)),
      at,
    );
  }
  for (const [member, shift, at] of ADDRESSES_10) {
    const mask = get(match.mask, member);
    wild |= (mask === 0 ? 32 : 31 - Math.clz32(mask & -mask)) << shift;
    write32(b, at, get(match.value, member));
  }
  const mask = get(match.mask, "vlan0_tci");
  const tci = get(match.value, "vlan0_tci");
  if (mask === 0) wild |= WILD_10.VLAN | WILD_10.VLAN_PCP;
  else if (mask & ~tci & VLAN_PRESENT) write16(b, AT_10.VLAN, VLAN_NONE);
  else {
    if ((mask & 0xfff) === 0) wild |= WILD_10.VLAN;
    else write16(b, AT_10.VLAN, tci & 0xfff);
    if ((mask & 0xe000) === 0) wild |= WILD_10.VLAN_PCP;
    else b[AT_10.VLAN_PCP] = tci >>> 13;
  }
  write32(b, 0, wild >>> 0);
  return b;
};

// ---------------------------------------------------------------------------------------------------------------------
// OpenFlow 1.1

const WILD_11 = {
  ...{ IN_PORT: 0x001, VLAN: 0x002, VLAN_PCP: 0x004, TYPE: 0x008, TOS: 0x010, PROTO: 0x020 },
  ...{ TP_SRC: 0x040, TP_DST: 0x080, MPLS_LABEL: 0x100, MPLS_TC: 0x200 },
} as const;

const AT_11 = {
  ...{ IN_PORT: 4, WILDCARDS: 8, DL_SRC: 12, DL_DST: 24, VLAN: 36, VLAN_PCP: 38, TYPE: 40, TOS: 42, PROTO: 43 },
  ...{ NW_SRC: 44, NW_DST: 52, TP_SRC: 60, TP_DST: 62, MPLS_LABEL: 64, MPLS_TC: 68, METADATA: 72 },
} as const;

const badValue = (what: string, value: number): OpenFlowError =>
  new OpenFlowError("OFPBMC_BAD_VALUE", `Cannot match ${what} 0x${value.toString(16)}: there is no such value`);

const decodeVlan11 = (match: Match, wild: number, vlan: number, pcp: number): void => {
  if (vlan === VLAN_NONE) {
    demandNumber(match, "vlan0_tci", 0);
    return;
  }
  if (vlan !== VLAN_ANY_11 && vlan > 0xfff) throw badValue("VLAN ID", vlan);
  const vid = vlan === VLAN_ANY_11 ? 0 : vlan;
  const mask = vlan === VLAN_ANY_11 ? VLAN_PRESENT : 0x0fff | VLAN_PRESENT;
  if ((wild & WILD_11.VLAN_PCP) !== 0) {
    demandNumber(match, "vlan0_tci", vid | VLAN_PRESENT, mask);
    return;
  }
  if (pcp > 7) throw badValue("VLAN priority", pcp);
  demandNumber(match, "vlan0_tci", vid | VLAN_PRESENT | (pcp << 13), mask | 0xe000);
};

const PORTS_11 = [
  ["tp_src", WILD_11.TP_SRC, AT_11.TP_SRC],
  ["tp_dst", WILD_11.TP_DST, AT_11.TP_DST],
] as const;

const decodePorts11 = (match: Match, wild: number, b: Uint8Array): void => {
  const proto = get(match.value, "nw_proto");
  const isIcmp = proto === IP_PROTO.ICMP;
  if (!isIcmp && proto !== IP_PROTO.TCP && proto !== IP_PROTO.UDP && proto !== IP_PROTO.SCTP) return;
  for (const [member, bit, at] of PORTS_11) {
    if ((wild & bit) !== 0) continue;
    const value = read16(b, at);
    if (isIcmp && value > 0xff) {
      throw new OpenFlowError("OFPBMC_BAD_FIELD", `Cannot match ICMP type or code ${value}: want at most 255`);
    }
    // As icmp_type and icmp_code: eight bits of the sixteen.
    demandNumber(match, member, value, isIcmp ? 0xff : 0xffff);
  }
};

const masked = (match: Match, member: Member, b: Uint8Array, at: number): void => {
  const size = FLOW[member].bits >>> 3;
  demand(match, member, b.slice(at, at + size), inverted(b.slice(at + size, at + 2 * size)));
};

/**
 * Reads the match of OpenFlow 1.1 with its header.
 *
 * @param bytes - at least {@link MATCH_11_BYTES} from `at`; the header is not looked at
 * @throws {@link OpenFlowError} OFPBMC_BAD_VALUE, OFPBMC_BAD_FIELD
 */
export const decodeMatch11 = (bytes: Uint8Array, at = 0): Match => {
  const b = bytes.subarray(at, at + MATCH_11_BYTES);
  const match: DraftMatch = { value: newFlow(), mask: newFlow() };
  const wild = read16(b, AT_11.WILDCARDS + 2);
  if ((wild & WILD_11.IN_PORT) === 0) {
    const port = read32(b, AT_11.IN_PORT);
    if (port >= MAX_PORTS && port < 0xffffff00) throw badValue("port", port);
    demandNumber(match, "in_port", port, 0xffffffff);
  }
  masked(match, "dl_src", b, AT_11.DL_SRC);
  masked(match, "dl_dst", b, AT_11.DL_DST);
  if ((wild & WILD_11.VLAN) === 0) decodeVlan11(match, wild, read16(b, AT_11.VLAN), b[AT_11.VLAN_PCP]!);
  if ((wild & WILD_11.TYPE) === 0) demandNumber(match, "dl_type", read16(b, AT_11.TYPE));
  const type = get(match.value, "dl_type");
  const isIp = type === ETH_TYPE.IPV4;
  if (isIp && (wild & WILD_11.TOS) === 0) {
    if ((b[AT_11.TOS]! & ~DSCP) !== 0) throw badValue("TOS", b[AT_11.TOS]!);
    demandNumber(match, "nw_tos", b[AT_11.TOS]!, DSCP);
  }
  if (isIp || type === ETH_TYPE.ARP || type === ETH_TYPE.RARP) {
    if ((wild & WILD_11.PROTO) === 0) demandNumber(match, "nw_proto", b[AT_11.PROTO]!);
    masked(match, "nw_src", b, AT_11.NW_SRC);
    masked(match, "nw_dst", b, AT_11.NW_DST);
  }
  if (isIp) decodePorts11(match, wild, b);
  if (type === ETH_TYPE.MPLS || type === ETH_TYPE.MPLS_MCAST) {
    const label = (wild & WILD_11.MPLS_LABEL) === 0 ? 0xfffff000 : 0;
    const tc = (wild & WILD_11.MPLS_TC) === 0 ? 0xe00 : 0;
    const lse = (read32(b, AT_11.MPLS_LABEL) << 12) | ((b[AT_11.MPLS_TC]! & 7) << 9);
    set(match.value, "mpls_lse0", (lse & (label | tc)) >>> 0);
    set(match.mask, "mpls_lse0", (label | tc) >>> 0);
  }
  masked(match, "metadata", b, AT_11.METADATA);
  return match;
};

const putMasked = (b: Uint8Array, at: number, match: Match, member: Member): void => {
  const value = bytesOf(match.value, member);
  b.set(value, at);
  b.set(inverted(bytesOf(match.mask, member)), at + value.length);
};

/** Writes a match with its header in the form of OpenFlow 1.1; what that has no room for is left out. */
export const encodeMatch11 = (match: Match): Uint8Array => {
  const b = new Uint8Array(MATCH_11_BYTES);
  write16(b, 0, MATCH_TYPE_STANDARD);
  write16(b, 2, MATCH_11_BYTES);
  let wild = 0;
  /** Writes with `write` what is matched in the bits of `mask`, or says that nothing is. */
  const part = (bit: number, member: Member, mask: number, write: (value: number) => void): void => {
    if ((get(match.mask, member) & mask) === 0) wild |= bit;
    else write((get(match.value, member) & mask) >>> 0);
  };
  part(WILD_11.IN_PORT, "in_port", 0xffffffff, (port) => write32(b, AT_11.IN_PORT, port));
  putMasked(b, AT_11.DL_SRC, match, "dl_src");
  putMasked(b, AT_11.DL_DST, match, "dl_dst");
  const mask = get(match.mask, "vlan0_tci");
  const tci = get(match.value, "vlan0_tci");
  if (mask === 0) wild |= WILD_11.VLAN | WILD_11.VLAN_PCP;
  else if (mask & ~tci & VLAN_PRESENT) {
    write16(b, AT_11.VLAN, VLAN_NONE);
    wild |= WILD_11.VLAN_PCP;
  } else {
    write16(b, AT_11.VLAN, (mask & 0xfff) === 0 ? VLAN_ANY_11 : tci & 0xfff);
    if ((mask & 0xe000) === 0) wild |= WILD_11.VLAN_PCP;
    else b[AT_11.VLAN_PCP] = tci >>> 13;
  }
  part(WILD_11.TYPE, "dl_type", 0xffff, (type) => write16(b, AT_11.TYPE, type));
  part(WILD_11.TOS, "nw_tos", DSCP, (tos) => b.set([tos], AT_11.TOS));
  part(WILD_11.PROTO, "nw_proto", 0xff, (proto) => b.set([proto], AT_11.PROTO));
  putMasked(b, AT_11.NW_SRC, match, "nw_src");
  putMasked(b, AT_11.NW_DST, match, "nw_dst");
  for (const [member, bit, at] of PORTS_11) part(bit, member, 0xffff, (value) => write16(b, at, value));
  part(WILD_11.MPLS_LABEL, "mpls_lse0", 0xfffff000, (lse) => write32(b, AT_11.MPLS_LABEL, lse >>> 12));
  part(WILD_11.MPLS_TC, "mpls_lse0", 0xe00, (lse) => b.set([lse >>> 9], AT_11.MPLS_TC));
  putMasked(b, AT_11.METADATA, match, "metadata");
  write32(b, AT_11.WILDCARDS, wild);
  return b;
};
