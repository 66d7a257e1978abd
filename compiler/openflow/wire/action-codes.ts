// Single actions read from bytes, OpenFlow 1.0 to 1.5 with the extensions of Nicira and the ONF. Which code stands for which
// action in which version is one table, beside the readers; their messages carry the errors that OVS answers.

import {
  BUNDLE_ALGORITHMS,
  HASH_FIELDS,
  MULTIPATH_ALGORITHMS,
  PACKET_IN_REASONS,
  type Action,
  type ActionOf,
  type Subfield,
} from "../action.js";
import { isOutputPort } from "../actions/common.js";
import { toBytes } from "../big-endian.js";
import { FIELD_WIDTH, fieldSpec } from "../field-access.js";
import type { MinorVersion } from "../fields.js";
import { VLAN_PRESENT } from "../numbers.js";
import { PORT } from "../types.js";
import { ETH_TYPE, isMplsType } from "../../packet/headers.js";
import { ActionReader, refuse, VENDOR, VENDOR_TYPE } from "./action-bytes.js";
import {
  bad,
  clone,
  ct,
  decap,
  encap,
  learn,
  nat,
  port16,
  shortField,
  type Decode,
  type Nested,
} from "./action-parts.js";

import { codedField, decodeHeader } from "./field-header.js";

/** `value` if it is at most `max`. */
const atMost = (value: number, max: number, what: string): number =>
  value <= max ? value : bad(`Cannot use ${what} ${value}: want at most ${max}`);

const outputPort = (port: number): number =>
  isOutputPort(port) ? port : refuse("OFPBAC_BAD_OUT_PORT", `Cannot output to port ${port}`);

const output: Decode = (reader, minor) => ({
  kind: "output",
  port: outputPort(minor === 0 ? port16(reader) : reader.u32()),
  maxLen: reader.u16(),
});

const enqueue: Decode = (reader) => {
  const port = port16(reader);
  if (port >= 0xff00 && port !== PORT.IN_PORT && port !== PORT.LOCAL) {
    refuse("OFPBAC_BAD_OUT_PORT", `Cannot enqueue to port ${port}`);
  }
  return { kind: "enqueue", port, queue: reader.skip(6).u32() };
};

const rangeOf = (reader: ActionReader): Subfield => {
  const range = reader.range();
  return { field: shortField(reader), ...range };
};

const outputReg: Decode = (reader) => {
  const src = reader.source(rangeOf(reader));
  const maxLen = reader.u16();
  reader.zeros(6, "OFPBAC_BAD_ARGUMENT");
  return { kind: "output_reg", src, maxLen };
};

const outputReg2: Decode = (reader) => {
  const range = reader.range();
  const maxLen = reader.u16();
  const field = reader.field();
  reader.zeros(reader.left, "NXBRC_MUST_BE_ZERO");
  return { kind: "output_reg", src: reader.source({ field, ...range }), maxLen };
};

const controller: Decode = (reader) => {
  const maxLen = reader.u16();
  const id = reader.u16();
  return { kind: "controller", maxLen, id, reason: reasonOf(reader.u8()) };
};

const reasonOf = (reason: number): ActionOf<"controller">["reason"] => PACKET_IN_REASONS[reason] ?? "action";

interface Properties {
  maxLen: number;
  id: number;
  reason: ActionOf<"controller">["reason"];
  userdata?: Uint8Array;
  pause?: true;
  meter?: number;
}

const NUMBER_BYTES = 4;

/** What each property of controller sets; a number has its bytes checked by the caller. */
const PROPERTIES: readonly ((into: Properties, body: ActionReader) => void)[] = [
  (into, body) => (into.maxLen = body.u16()),
  (into, body) => (into.id = body.u16()),
  (into, body) => (into.reason = reasonOf(body.u8())),
  (into, body) => {
    if (body.left > 0) into.userdata = body.rest().slice();
  },
  (into) => (into.pause = true),
  (into, body) => (into.meter = body.u32()),
];

/** Properties that are a number in four bytes. */
const isNumber = (type: number): boolean => type !== 3 && type !== 4;

const controller2: Decode = (reader) => {
  reader.zeros(6, "NXBRC_MUST_BE_ZERO");
  const into: Properties = { maxLen: 0xffff, id: 0, reason: "action" };
  while (reader.left > 0) {
    if (reader.left < 4) refuse("OFPBPC_BAD_LEN", "Cannot read a property: want 4 bytes of header");
    const type = reader.u16();
    const length = reader.u16();
    const padded = (length + 7) & ~7;
    if (length < 4 || reader.left < padded - 4) refuse("OFPBPC_BAD_LEN", `Cannot read a property of ${length} bytes`);
    const body = new ActionReader(reader.take(padded - 4).subarray(0, length - 4));
    const set = PROPERTIES[type] ?? refuse("OFPBPC_BAD_TYPE", `Cannot read controller property ${type}`);
    if (isNumber(type) && body.left < NUMBER_BYTES) {
      refuse("OFPBPC_BAD_LEN", `Cannot read controller property ${type}: want 8 bytes, got ${length}`);
    }
    set(into, body);
  }
  return { kind: "controller", ...into };
};

const bundle =
  (load: boolean): Decode =>
  (reader) => {
    const algorithm = reader.u16();
    const fields = reader.u16();
    const basis = reader.u16();
    const members = reader.take(4);
    const n = reader.u16();
    const dst = load ? reader.target(rangeOf(reader)) : undefined;
    if (!load) reader.zeros(6, "OFPBAC_BAD_ARGUMENT");
    reader.zeros(4, "OFPBAC_BAD_ARGUMENT");
    if (reader.left < 2 * n) refuse("OFPBAC_BAD_LEN", `Cannot read ${n} members in ${reader.left} bytes`);
    if (codedField(decodeHeader(members))?.field !== "in_port") bad("Cannot choose among members that are no ports");
    if (n > 2048) bad(`Cannot choose among ${n} members: want at most 2048`);
    if (dst !== undefined && dst.bits < 16) bad(`Cannot choose into ${dst.bits} bits: want 16`);
    const ports = Array.from({ length: n }, () => port16(reader));
    for (const port of ports) {
      if (port !== PORT.NONE) outputPort(port);
      if (port === PORT.CONTROLLER) refuse("OFPBAC_BAD_OUT_PORT", "Cannot choose CONTROLLER");
    }
    return {
      kind: "bundle",
      fields: HASH_FIELDS[fields] ?? bad(`Cannot hash fields ${fields}`),
      basis,
      algorithm: BUNDLE_ALGORITHMS[algorithm] ?? bad(`Cannot choose by algorithm ${algorithm}`),
      members: ports,
      ...(dst === undefined ? {} : { dst }),
    };
  };

const setField =
  (mayMask: boolean): Decode =>
  (reader) => {
    const { field, value, mask, overflows } = reader.entry();
    if (mask !== undefined && !mayMask) refuse("OFPBAC_BAD_SET_MASK", `Cannot set ${field} with a mask`);
    reader.zeros(reader.left, "OFPBAC_BAD_SET_ARGUMENT");
    const refused = (): never => refuse("OFPBAC_BAD_SET_ARGUMENT", `Cannot set ${field} to this`);
    if (overflows || field === "in_port_oxm" || !fieldSpec(field).writable) refused();
    const number = value.length <= 4 ? value.reduce((n, byte) => n * 256 + byte, 0) : 0;
    const extra = field === "vlan_vid" ? 1 : 0;
    if (value.length <= 4 && number >= 2 ** (FIELD_WIDTH[field] + extra)) refused();
    if (field === "nw_tos" && (number & 3) !== 0) refused();
    if (field === "vlan_vid") {
      const ones = mask === undefined ? 0xffff : (mask[0]! << 8) | mask[1]!;
      if ((number & ones & VLAN_PRESENT) === 0) refused();
    }
    return { kind: "set_field", field, value, ...(mask === undefined ? {} : { mask }) };
  };

const regLoad: Decode = (reader) => {
  const dst = reader.target(rangeOf(reader));
  const value = reader.u64();
  if (value >> BigInt(dst.bits) !== 0n) bad(`Cannot load ${value}: it does not fit into ${dst.bits} bits`);
  return { kind: "reg_load", value: toBytes(value, (dst.bits + 7) >>> 3), dst };
};

const regLoad2: Decode = (reader) => {
  const { field, value, mask } = reader.entry();
  reader.zeros(reader.left, "OFPBAC_BAD_SET_ARGUMENT");
  if (!fieldSpec(field).writable) refuse("OFPBAC_BAD_SET_ARGUMENT", `Cannot load into ${field}: it is read-only`);
  return { kind: "set_field", field, value, ...(mask === undefined ? {} : { mask }), loaded: true };
};

/** @param skip - bytes of padding before the fields */
const move =
  (before: number, skip: number): Decode =>
  (reader) => {
    reader.skip(before);
    const bits = reader.u16();
    const [from, to] = [reader.u16(), reader.u16()];
    reader.skip(skip);
    const src = { field: reader.field(), lsb: from, bits };
    const dst = { field: reader.field(), lsb: to, bits };
    reader.zeros(reader.left, "NXBRC_MUST_BE_ZERO");
    return { kind: "reg_move", src: reader.source(src), dst: reader.target(dst) };
  };

const stack = (reader: ActionReader): Subfield => {
  const lsb = reader.u16();
  const field = reader.field();
  const bits = reader.u16();
  reader.zeros(reader.left, "NXBRC_MUST_BE_ZERO");
  return { field, lsb, bits };
};

const decTtlIds: Decode = (reader) => {
  const n = reader.u16();
  reader.zeros(4, "NXBRC_MUST_BE_ZERO");
  return { kind: "dec_ttl", ids: Array.from({ length: n }, () => reader.u16()) };
};

const vlanVid =
  (pushIfNeeded: boolean): Decode =>
  (reader) => ({ kind: "set_vlan_vid", vid: atMost(reader.u16(), 0xfff, "VLAN"), pushIfNeeded });

const vlanPcp =
  (pushIfNeeded: boolean): Decode =>
  (reader) => ({ kind: "set_vlan_pcp", pcp: atMost(reader.u8(), 7, "priority"), pushIfNeeded });

const tagType = (ethertype: number): number =>
  ethertype === ETH_TYPE.VLAN || ethertype === ETH_TYPE.QINQ
    ? ethertype
    : bad(`Cannot push a tag of type ${ethertype}`);

const labelType = (ethertype: number): number =>
  isMplsType(ethertype) ? ethertype : bad(`Cannot push a label of type ${ethertype}`);

const writeMetadata: Decode = (reader) => {
  reader.zeros(6, "NXBRC_MUST_BE_ZERO");
  return { kind: "write_metadata", value: reader.u64(), mask: reader.u64() };
};

const resubmitTo = (inPort: number, table: number): ActionOf<"resubmit"> => ({
  kind: "resubmit",
  ...(inPort === PORT.IN_PORT ? {} : { inPort }),
  ...(table === 0xff ? {} : { table }),
});

const resubmitTable = (reader: ActionReader): ActionOf<"resubmit"> => {
  const inPort = port16(reader);
  const table = reader.u8();
  reader.zeros(3, "OFPBAC_BAD_ARGUMENT");
  return resubmitTo(inPort, table);
};

const conjunction: Decode = (reader) => {
  const [clause, clauses] = [reader.u8(), reader.u8()];
  if (clauses < 2 || clauses > 64 || clause >= clauses) {
    refuse("NXBAC_BAD_CONJUNCTION", `Cannot be clause ${clause} of ${clauses}`);
  }
  return { kind: "conjunction", id: reader.u32(), clause, clauses };
};

const multipath: Decode = (reader) => {
  const [fields, basis] = [reader.u16(), reader.u16()];
  const [algorithm, maxLink] = [reader.skip(2).u16(), reader.u16()];
  const arg = reader.u32();
  const dst = rangeOf(reader.skip(2));
  if (2 ** dst.bits < maxLink + 1) bad(`Cannot number ${maxLink + 1} links with ${dst.bits} bits`);
  return {
    kind: "multipath",
    fields: HASH_FIELDS[fields] ?? bad(`Cannot hash fields ${fields}`),
    basis,
    algorithm: MULTIPATH_ALGORITHMS[algorithm] ?? bad(`Cannot choose by algorithm ${algorithm}`),
    maxLink,
    arg,
    dst: reader.target(dst),
  };
};

const DIRECTIONS = [undefined, "ingress", "egress"] as const;

const sample =
  (form: 1 | 2 | 3): Decode =>
  (reader) => {
    const probability = reader.u16();
    const [collectorSet, obsDomain, obsPoint] = [reader.u32(), reader.u32(), reader.u32()];
    const samplingPort = form === 1 ? PORT.NONE : port16(reader);
    const direction = form === 3 ? reader.u8() : 0;
    if (form === 3) reader.zeros(5, "NXBRC_MUST_BE_ZERO");
    if (direction > 2) bad(`Cannot sample in direction ${direction}`);
    if (probability === 0) bad("Cannot sample with probability 0");
    return {
      kind: "sample",
      probability,
      collectorSet,
      obsDomain,
      obsPoint,
      ...(samplingPort === PORT.NONE ? {} : { samplingPort }),
      ...(direction === 0 ? {} : { direction: DIRECTIONS[direction]! }),
    };
  };

const checkPktLarger: Decode = (reader) => {
  const [length, lsb] = [reader.u16(), reader.u16()];
  const field = reader.field();
  reader.zeros(reader.left, "NXBRC_MUST_BE_ZERO");
  return { kind: "check_pkt_larger", length, dst: reader.target({ field, lsb, bits: 1 }) };
};

const outputTrunc: Decode = (reader) => {
  const port = port16(reader);
  const maxLen = reader.u32();
  if (maxLen < 14) bad(`Cannot cut packets to ${maxLen} bytes: want at least 14`);
  return { kind: "output_trunc", port, maxLen };
};

/** No limit but that of the length field. */
const ANY = 65535;

/**
 * Codes by version, as `OF1.0-1.4(7)`; the shortest and the longest that the action can be, in bytes; and its reader, which
 * begins behind type and length, or behind the subtype.
 */
const TABLE: readonly (readonly [codes: string, min: number, max: number, decode: Decode])[] = [
  ["OF1.0(0)", 8, 8, output],
  ["OF1.1+(0)", 16, 16, output],
  ["OF1.0(1)", 8, 8, vlanVid(true)],
  ["OF1.1+(1)", 8, 8, vlanVid(false)],
  ["OF1.0(2)", 8, 8, vlanPcp(true)],
  ["OF1.1+(2)", 8, 8, vlanPcp(false)],
  ["OF1.1+(17)", 8, 8, (r) => ({ kind: "push_vlan", ethertype: tagType(r.u16()) })],
  ["OF1.0(3)", 8, 8, () => ({ kind: "strip_vlan", spelling: "strip_vlan" })],
  ["OF1.1+(18)", 8, 8, () => ({ kind: "strip_vlan", spelling: "pop_vlan" })],
  ["OF1.0(4) OF1.1+(3)", 16, 16, (r) => ({ kind: "set_eth_src", mac: r.take(6).slice() })],
  ["OF1.0(5) OF1.1+(4)", 16, 16, (r) => ({ kind: "set_eth_dst", mac: r.take(6).slice() })],
  ["OF1.0(6) OF1.1+(5)", 8, 8, (r) => ({ kind: "set_ipv4_src", addr: r.take(4).slice() })],
  ["OF1.0(7) OF1.1+(6)", 8, 8, (r) => ({ kind: "set_ipv4_dst", addr: r.take(4).slice() })],
  [
    "OF1.0(8) OF1.1+(7)",
    8,
    8,
    (r) => {
      const tos = r.u8();
      return { kind: "set_ip_dscp", tos: tos & 3 ? bad(`Cannot use TOS ${tos}: want no ECN bits`) : tos };
    },
  ],
  ["OF1.1+(8)", 8, 8, (r) => ({ kind: "set_ip_ecn", ecn: atMost(r.u8(), 3, "ECN") })],
  ["OF1.0(9) OF1.1+(9)", 8, 8, (r) => ({ kind: "set_l4_src_port", port: r.u16() })],
  ["OF1.0(10) OF1.1+(10)", 8, 8, (r) => ({ kind: "set_l4_dst_port", port: r.u16() })],
  ["OF1.0(11)", 16, 16, enqueue],
  ["NX1.0(30)", 16, 16, (r) => ({ kind: "set_mpls_label", label: r.skip(2).u32() })],
  ["OF1.1+(13)", 8, 8, (r) => ({ kind: "set_mpls_label", label: r.u32() })],
  ["NX1.0(31)", 16, 16, (r) => ({ kind: "set_mpls_tc", tc: r.u8() })],
  ["OF1.1+(14)", 8, 8, (r) => ({ kind: "set_mpls_tc", tc: r.u8() })],
  ["NX1.0(25)", 16, 16, (r) => ({ kind: "set_mpls_ttl", ttl: r.u8() })],
  ["OF1.1+(15)", 8, 8, (r) => ({ kind: "set_mpls_ttl", ttl: r.u8() })],
  ["NX1.0(26)", 16, 16, () => ({ kind: "dec_mpls_ttl" })],
  ["OF1.1+(16)", 8, 8, () => ({ kind: "dec_mpls_ttl" })],
  ["NX1.0(23)", 16, 16, (r) => ({ kind: "push_mpls", ethertype: labelType(r.u16()) })],
  ["OF1.1+(19)", 8, 8, (r) => ({ kind: "push_mpls", ethertype: labelType(r.u16()) })],
  ["NX1.0(24)", 16, 16, (r) => ({ kind: "pop_mpls", ethertype: r.u16() })],
  ["OF1.1+(20)", 8, 8, (r) => ({ kind: "pop_mpls", ethertype: r.u16() })],
  ["NX1.0(4)", 16, 16, (r) => ({ kind: "set_queue", queue: r.skip(2).u32() })],
  ["OF1.1+(21)", 8, 8, (r) => ({ kind: "set_queue", queue: r.u32() })],
  ["NX1.0(40)", 16, 16, (r) => ({ kind: "group", group: r.skip(2).u32() })],
  ["OF1.1+(22)", 8, 8, (r) => ({ kind: "group", group: r.u32() })],
  ["OF1.1+(23)", 8, 8, (r) => ({ kind: "set_ip_ttl", ttl: r.u8() })],
  ["NX1.0(18)", 16, 16, () => ({ kind: "dec_ttl", ids: [] })],
  ["OF1.1+(24)", 8, 8, () => ({ kind: "dec_ttl", ids: [] })],
  ["NX1.0+(21)", 16, ANY, decTtlIds],
  ["OF1.2-1.4(25)", 8, ANY, setField(false)],
  ["OF1.5+(25)", 8, ANY, setField(true)],
  ["NX1.0-1.4(7)", 24, 24, regLoad],
  ["NX1.0-1.4(33)", 16, ANY, regLoad2],
  ["OF1.5+(28)", 16, ANY, move(0, 2)],
  ["ONF1.3-1.4(3200)", 24, ANY, move(2, 2)],
  ["NX1.0-1.4(6)", 16, ANY, move(0, 0)],
  ["OF1.5+(29)", 8, 8, (r) => ({ kind: "meter", meter: r.u32() })],
  ["NX1.0+(1)", 16, 16, (r) => resubmitTo(port16(r), 0xff)],
  ["NX1.0+(14)", 16, 16, resubmitTable],
  ["NX1.0+(44)", 16, 16, (r) => ({ ...resubmitTable(r), ct: true })],
  ["NX1.0+(2)", 16, 16, (r) => ({ kind: "set_tunnel", tunId: BigInt(r.skip(2).u32()), wide: false })],
  ["NX1.0+(9)", 24, 24, (r) => ({ kind: "set_tunnel", tunId: r.skip(6).u64(), wide: true })],
  ["NX1.0+(5)", 16, 16, () => ({ kind: "pop_queue" })],
  ["NX1.0+(8)", 16, ANY, (r) => ({ kind: "note", data: r.rest().slice() })],
  ["NX1.0+(10)", 32, 32, multipath],
  ["NX1.0+(12)", 32, ANY, bundle(false)],
  ["NX1.0+(13)", 32, ANY, bundle(true)],
  ["NX1.0+(15)", 24, 24, outputReg],
  ["NX1.0+(32)", 24, 24, outputReg2],
  ["NX1.0+(16)", 32, ANY, learn(false)],
  ["NX1.0+(45)", 40, ANY, learn(true)],
  ["NX1.0+(17)", 16, 16, () => ({ kind: "exit" })],
  ["NX1.0+(19)", 16, 16, (r) => ({ kind: "fin_timeout", idleTimeout: r.u16(), hardTimeout: r.u16() })],
  ["NX1.0+(20)", 16, 16, controller],
  ["NX1.0+(37)", 16, ANY, controller2],
  ["NX1.0+(22)", 32, 32, writeMetadata],
  ["NX1.0+(27)", 24, 24, (r) => ({ kind: "stack_push", src: r.source(stack(r)) })],
  ["NX1.0+(28)", 24, 24, (r) => ({ kind: "stack_pop", dst: r.target(stack(r)) })],
  ["NX1.0+(29)", 24, 24, sample(1)],
  ["NX1.0+(38)", 32, 32, sample(2)],
  ["NX1.0+(41)", 32, 32, sample(3)],
  ["NX1.0+(34)", 16, 16, conjunction],
  ["NX1.0+(35)", 24, ANY, ct],
  ["NX1.0+(36)", 16, ANY, nat],
  ["NX1.0+(39)", 16, 16, outputTrunc],
  ["NX1.0+(42)", 16, ANY, clone],
  ["NX1.0+(43)", 16, 16, () => ({ kind: "ct_clear" })],
  // Taken only by an ovs-vswitchd that plays with dummies.
  ["NX1.0+(254)", 16, 16, () => refuse("OFPBAC_BAD_VENDOR_TYPE", "Cannot debug here")],
  ["NX1.0+(255)", 16, 16, () => refuse("OFPBAC_BAD_VENDOR_TYPE", "Cannot debug here")],
  ["NX1.3+(46)", 16, ANY, encap],
  ["NX1.3+(47)", 16, ANY, decap],
  ["NX1.3+(48)", 16, 16, () => ({ kind: "dec_nsh_ttl" })],
  ["NX1.0+(49)", 24, ANY, checkPktLarger],
  ["NX1.0+(50)", 24, 24, (r) => ({ kind: "delete_field", field: r.field() })],
];

interface Row {
  readonly min: number;
  readonly max: number;
  readonly decode: Decode;
}

const keyOf = (vendor: number, type: number, minor: number): string => `${vendor}:${type}:${minor}`;

const VENDORS: Readonly<Record<string, number>> = { OF: 0, ...VENDOR };

const ROWS: ReadonlyMap<string, Row> = new Map(
  TABLE.flatMap(([codes, min, max, decode]) =>
    codes.split(" ").flatMap((code) => {
      const [, owner, first, rest, type] = /^(OF|NX|ONF)1\.(\d)(\+|-1\.\d)?\((\d+)\)$/.exec(code)!;
      const from = Number(first);
      const to = rest === undefined ? from : rest === "+" ? 5 : Number(rest.slice(-1));
      return Array.from(
        { length: to - from + 1 },
        (_, i) => [keyOf(VENDORS[owner!]!, Number(type), from + i), { min, max, decode }] as const,
      );
    }),
  ),
);

const badLength = (reason: string): never => refuse("OFPBAC_BAD_LEN", reason);

/**
 * Reads the action at `at`.
 *
 * @returns it, and where the next begins
 * @throws OpenFlowError with the error that a switch answers
 */
export const decodeAction = (
  bytes: Uint8Array,
  at: number,
  minor: MinorVersion,
  nested: Nested,
): readonly [Action, number] => {
  const left = bytes.length - at;
  if (left < 8) return badLength(`Cannot read an action: want 8 bytes, got ${left}`);
  const head = new ActionReader(bytes.subarray(at));
  const first = head.u16();
  const length = head.u16();
  const vendor = first === VENDOR_TYPE ? head.u32() : 0;
  if (first === VENDOR_TYPE && vendor !== VENDOR.NX && vendor !== VENDOR.ONF) {
    return refuse("OFPBAC_BAD_VENDOR", `Cannot find vendor 0x${vendor.toString(16)}`);
  }
  if (vendor !== 0 && left < 16) return badLength(`Cannot read an extension: want 16 bytes, got ${left}`);
  const type = vendor === 0 ? first : head.u16();
  const row = ROWS.get(keyOf(vendor, type, minor));
  if (row === undefined) {
    return refuse(
      vendor === 0 ? "OFPBAC_BAD_TYPE" : "OFPBAC_BAD_VENDOR_TYPE",
      `Cannot find action ${type} of OpenFlow 1.${minor}`,
    );
  }
  if (length > left || length < row.min || length > row.max || length % 8 !== 0) {
    return badLength(`Cannot read action ${type}: it says that it has ${length} bytes`);
  }
  const reader = new ActionReader(bytes.subarray(at, at + length)).skip(vendor === 0 ? 4 : 10);
  return [row.decode(reader, minor, nested), at + length];
};
