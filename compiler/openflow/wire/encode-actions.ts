// Actions and instructions as bytes, OpenFlow 1.0 to 1.5 with the Nicira extensions, equal to what OVS sends. What is
// encoded must be in the words of the version: carryActions() puts it there.

import { HASH_FIELDS, BUNDLE_ALGORITHMS, MULTIPATH_ALGORITHMS, PACKET_IN_REASONS, PACKET_TYPE } from "../action.js";
import type { Action, ActionKind, ActionOf, LearnSpec } from "../action.js";
import { fromBytes } from "../big-endian.js";
import type { MinorVersion } from "../fields.js";
import { instructionOf } from "../order.js";
import { PORT } from "../types.js";
import { ActionWriter, hasShortCode, VENDOR, VENDOR_TYPE } from "./action-bytes.js";

const standard = (type: number): ActionWriter => new ActionWriter().u16(type).u16(0);

/** A Nicira extension: 10 bytes of header. */
const nicira = (subtype: number): ActionWriter => standard(VENDOR_TYPE).u32(VENDOR.NX).u16(subtype);

const joined = (parts: readonly Uint8Array[]): Uint8Array => {
  const all = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
};

type Encode<K extends ActionKind> = (action: ActionOf<K>, minor: MinorVersion) => ActionWriter;

/** Type of an action of OpenFlow 1.0 and, one less or not, of 1.1. */
const old = (minor: MinorVersion, in10: number, in11: number): ActionWriter => standard(minor === 0 ? in10 : in11);

/** A standard action since OpenFlow 1.1, and before it an extension. */
const since11 = (minor: MinorVersion, subtype: number, type: number): ActionWriter =>
  minor === 0 ? nicira(subtype) : standard(type);

const aligned32 = (writer: ActionWriter): ActionWriter => writer.zeros(-writer.length & 3);

const setField: Encode<"set_field"> = ({ field, value, mask, loaded }, minor) =>
  minor >= 5 || (minor >= 2 && mask === undefined && loaded === undefined)
    ? standard(25).entry(field, minor, value, mask)
    : nicira(33).entry(field, 0, value, mask);

const move: Encode<"reg_move"> = ({ src, dst }, minor) => {
  const writer = minor >= 5 ? standard(28) : nicira(6);
  writer.u16(dst.bits).u16(src.lsb).u16(dst.lsb);
  if (minor >= 5) writer.zeros(2);
  const version = minor >= 5 ? minor : 0;
  return writer.field(src.field, version).field(dst.field, version);
};

const outputReg: Encode<"output_reg"> = ({ src, maxLen }) =>
  hasShortCode(src.field)
    ? nicira(15).range(src).shortField(src.field).u16(maxLen).zeros(6)
    : nicira(32).range(src).u16(maxLen).field(src.field).padTo(24);

const isPlainController = (a: ActionOf<"controller">): boolean =>
  a.userdata === undefined && a.pause === undefined && a.meter === undefined;

/** A property: type(16) | length(16), padded to 8 bytes. */
const property = (writer: ActionWriter, type: number, put: (writer: ActionWriter) => void): void => {
  const inner = new ActionWriter();
  put(inner);
  writer
    .u16(type)
    .u16(4 + inner.length)
    .put(inner.finishRaw());
  writer.pad();
};

const controller: Encode<"controller"> = (a) => {
  const reason = PACKET_IN_REASONS.indexOf(a.reason);
  if (isPlainController(a)) return nicira(20).u16(a.maxLen).u16(a.id).u8(reason).u8(0);
  const writer = nicira(37).zeros(6);
  if (a.maxLen !== 0xffff) property(writer, 0, (w) => w.u16(a.maxLen).zeros(2));
  if (a.id !== 0) property(writer, 1, (w) => w.u16(a.id).zeros(2));
  if (a.reason !== "action") property(writer, 2, (w) => w.u8(reason).zeros(3));
  if (a.userdata !== undefined) property(writer, 3, (w) => w.put(a.userdata!));
  if (a.pause !== undefined) property(writer, 4, () => undefined);
  if (a.meter !== undefined) property(writer, 5, (w) => w.u32(a.meter!));
  return writer;
};

const bundle: Encode<"bundle"> = ({ fields, basis, algorithm, members, dst }) => {
  const writer = nicira(dst === undefined ? 12 : 13);
  writer.u16(BUNDLE_ALGORITHMS.indexOf(algorithm)).u16(HASH_FIELDS.indexOf(fields)).u16(basis);
  writer.shortField("in_port").u16(members.length);
  if (dst === undefined) writer.zeros(6);
  else writer.range(dst).shortField(dst.field);
  writer.zeros(4);
  for (const member of members) writer.u16(member);
  return writer;
};

const multipath: Encode<"multipath"> = ({ fields, basis, algorithm, maxLink, arg, dst }) =>
  nicira(10)
    .u16(HASH_FIELDS.indexOf(fields))
    .u16(basis)
    .zeros(2)
    .u16(MULTIPATH_ALGORITHMS.indexOf(algorithm))
    .u16(maxLink)
    .u32(arg)
    .zeros(2)
    .range(dst)
    .shortField(dst.field);

const LEARN_SPEC = { CONSTANT: 1 << 13, LOAD: 1 << 11, OUTPUT: 2 << 11 } as const;

const learnSpec = (writer: ActionWriter, { bits, src, to, dst }: LearnSpec): void => {
  const isConstant = src instanceof Uint8Array;
  const how = to === "load" ? LEARN_SPEC.LOAD : to === "output" ? LEARN_SPEC.OUTPUT : 0;
  writer.u16(bits | how | (isConstant ? LEARN_SPEC.CONSTANT : 0));
  if (isConstant) writer.zeros(2 * Math.ceil(bits / 16) - src.length).put(src);
  else writer.shortField(src.field).u16(src.lsb);
  if (dst !== undefined) writer.shortField(dst.field).u16(dst.lsb);
};

const learn: Encode<"learn"> = (a) => {
  const isSecond = a.limit !== 0 || a.resultDst !== undefined;
  const flags = (a.sendFlowRem ? 1 : 0) | (a.deleteLearned ? 2 : 0) | (a.resultDst === undefined ? 0 : 4);
  const writer = nicira(isSecond ? 45 : 16);
  writer.u16(a.idleTimeout).u16(a.hardTimeout).u16(a.priority).u64(a.cookie).u16(flags).u8(a.table).u8(0);
  writer.u16(a.finIdleTimeout).u16(a.finHardTimeout);
  if (isSecond)
    writer
      .u32(a.limit)
      .u16(a.resultDst?.lsb ?? 0)
      .u16(0);
  if (a.resultDst !== undefined) writer.field(a.resultDst.field);
  for (const spec of a.specs) learnSpec(writer, spec);
  return writer;
};

const NO_RECIRCULATION = 0xff;

const ct: Encode<"ct"> = (a, minor) => {
  const writer = nicira(35).u16((a.commit ? 1 : 0) | (a.force ? 2 : 0));
  if (typeof a.zone === "number") writer.u32(0).u16(a.zone);
  else writer.shortField(a.zone.field).range(a.zone);
  writer
    .u8(a.table ?? NO_RECIRCULATION)
    .zeros(3)
    .u16(a.alg);
  return writer.put(encodeActions(a.actions, minor));
};

const NAT_RANGE = { IPV4: 1, IPV6: 4, PORT: 16 } as const;

const isGiven = (bytes: Uint8Array | undefined): bytes is Uint8Array => bytes?.some((byte) => byte !== 0) === true;

const nat: Encode<"nat"> = ({ direction, persistent, protocol, range }) => {
  const flags =
    (direction === "src" ? 1 : direction === "dst" ? 2 : 0) |
    (persistent ? 4 : 0) |
    (protocol === "hash" ? 8 : protocol === "random" ? 16 : 0);
  const body = new ActionWriter();
  let present = 0;
  if (range !== undefined) {
    const family = range.min.length === 4 ? NAT_RANGE.IPV4 : NAT_RANGE.IPV6;
    for (const [bit, address] of [
      [family, range.min],
      [family << 1, range.max],
    ] as const) {
      if (!isGiven(address)) continue;
      present |= bit;
      body.put(address);
    }
    for (const [bit, port] of [
      [NAT_RANGE.PORT, range.portMin],
      [NAT_RANGE.PORT << 1, range.portMax],
    ] as const) {
      if (port === undefined || port === 0) continue;
      present |= bit;
      body.u16(port);
    }
  }
  return nicira(36).zeros(2).u16(flags).u16(present).put(body.finishRaw());
};

const DIRECTIONS = [undefined, "ingress", "egress"] as const;

const sample: Encode<"sample"> = (a) => {
  const isFirst = a.samplingPort === undefined && a.direction === undefined;
  const writer = nicira(a.direction !== undefined ? 41 : isFirst ? 29 : 38);
  writer.u16(a.probability).u32(a.collectorSet).u32(a.obsDomain).u32(a.obsPoint);
  return isFirst
    ? writer
    : writer
        .u16(a.samplingPort ?? PORT.NONE)
        .u8(DIRECTIONS.indexOf(a.direction))
        .zeros(5);
};

/** Class of the properties of an NSH header. */
const NSH_PROPERTIES = 4;

const encap: Encode<"encap"> = ({ packetType, properties }) => {
  const writer = nicira(46).u16(0).u32(packetType);
  for (const each of properties) {
    writer.u16(NSH_PROPERTIES);
    if (each.kind === "md_type") writer.u8(1).u8(5).u8(each.mdType).zeros(3);
    else {
      const padded = (each.value.length + 7) & ~7;
      writer
        .u8(2)
        .u8(8 + padded)
        .u16(each.cls)
        .u8(each.type)
        .u8(each.value.length);
      writer.put(each.value).zeros(padded - each.value.length);
    }
  }
  return writer;
};

const resubmit: Encode<"resubmit"> = ({ inPort = PORT.IN_PORT, table = 0xff, ct: tuple }) =>
  nicira(tuple === undefined ? 14 : 44)
    .u16(inPort)
    .u8(table)
    .zeros(3);

const decTtl: Encode<"dec_ttl"> = ({ ids }, minor) => {
  if (ids.length === 0) return since11(minor, 18, 24).zeros(minor === 0 ? 6 : 4);
  const writer = nicira(21).u16(ids.length).zeros(4);
  for (const id of ids) writer.u16(id);
  return writer;
};

const stack =
  (subtype: number) =>
  ({ field, lsb, bits }: ActionOf<"stack_push">["src"]): ActionWriter =>
    nicira(subtype).u16(lsb).field(field).u16(bits).padTo(24);

const setTunnel: Encode<"set_tunnel"> = ({ tunId, wide }) =>
  wide ? nicira(9).zeros(6).u64(tunId) : nicira(2).zeros(2).u32(Number(tunId));

/** Actions; instructions are put together by {@link encodeInstructions}. */
const ENCODE: { readonly [K in ActionKind]?: Encode<K> } = {
  output: ({ port, maxLen }, minor) =>
    minor === 0 ? standard(0).u16(port).u16(maxLen) : standard(0).u32(port).u16(maxLen).zeros(6),
  output_trunc: ({ port, maxLen }) => nicira(39).u16(port).u32(maxLen),
  output_reg: outputReg,
  enqueue: ({ port, queue }) => standard(11).u16(port).zeros(6).u32(queue),
  controller,
  group: ({ group }, minor) => aligned32(since11(minor, 40, 22)).u32(group),
  bundle,
  set_field: setField,
  reg_load: ({ value, dst }) => nicira(7).range(dst).shortField(dst.field).u64(fromBytes(value)),
  reg_move: move,
  stack_push: ({ src }) => stack(27)(src),
  stack_pop: ({ dst }) => stack(28)(dst),
  delete_field: ({ field }) => nicira(50).field(field).padTo(24),
  set_vlan_vid: ({ vid }) => standard(1).u16(vid),
  set_vlan_pcp: ({ pcp }) => standard(2).u8(pcp),
  strip_vlan: (_a, minor) => old(minor, 3, 18),
  push_vlan: ({ ethertype }) => standard(17).u16(ethertype),
  set_eth_src: ({ mac }, minor) => old(minor, 4, 3).put(mac).zeros(6),
  set_eth_dst: ({ mac }, minor) => old(minor, 5, 4).put(mac).zeros(6),
  set_ipv4_src: ({ addr }, minor) => old(minor, 6, 5).put(addr),
  set_ipv4_dst: ({ addr }, minor) => old(minor, 7, 6).put(addr),
  set_ip_dscp: ({ tos }, minor) => old(minor, 8, 7).u8(tos),
  set_ip_ecn: ({ ecn }) => standard(8).u8(ecn),
  set_ip_ttl: ({ ttl }) => standard(23).u8(ttl),
  set_l4_src_port: ({ port }) => standard(9).u16(port),
  set_l4_dst_port: ({ port }) => standard(10).u16(port),
  dec_ttl: decTtl,
  set_mpls_label: ({ label }, minor) => aligned32(since11(minor, 30, 13)).u32(label),
  set_mpls_tc: ({ tc }, minor) => since11(minor, 31, 14).u8(tc),
  set_mpls_ttl: ({ ttl }, minor) => since11(minor, 25, 15).u8(ttl),
  dec_mpls_ttl: (_a, minor) => since11(minor, 26, 16),
  push_mpls: ({ ethertype }, minor) => since11(minor, 23, 19).u16(ethertype),
  pop_mpls: ({ ethertype }, minor) => since11(minor, 24, 20).u16(ethertype),
  dec_nsh_ttl: () => nicira(48),
  encap,
  decap: ({ packetType = PACKET_TYPE.USE_NEXT_PROTO }) => nicira(47).zeros(2).u32(packetType),
  set_tunnel: setTunnel,
  set_queue: ({ queue }, minor) => aligned32(since11(minor, 4, 21)).u32(queue),
  pop_queue: () => nicira(5),
  fin_timeout: ({ idleTimeout, hardTimeout }) => nicira(19).u16(idleTimeout).u16(hardTimeout),
  multipath,
  check_pkt_larger: ({ length, dst }) => nicira(49).u16(length).u16(dst.lsb).field(dst.field).padTo(24),
  resubmit,
  learn,
  conjunction: ({ id, clause, clauses }) => nicira(34).u8(clause).u8(clauses).u32(id),
  clone: ({ actions }, minor) => nicira(42).zeros(6).put(encodeActions(actions, minor)),
  exit: () => nicira(17),
  note: ({ data }) => nicira(8).put(data),
  sample,
  ct,
  ct_clear: () => nicira(43),
  nat,
  debug_recirc: () => nicira(255),
  debug_slow: () => nicira(254),
  meter: ({ meter }) => standard(29).u32(meter),
  write_metadata: ({ value, mask }) => nicira(22).zeros(6).u64(value).u64(mask),
};

const encodeAction = (action: Action, minor: MinorVersion): Uint8Array => {
  const encode = ENCODE[action.kind] as Encode<ActionKind> | undefined;
  return encode === undefined ? new Uint8Array(0) : encode(action, minor).finish();
};

/** Actions in a row, in the words of OpenFlow 1.`minor`. */
export const encodeActions = (actions: readonly Action[], minor: MinorVersion): Uint8Array =>
  joined(actions.map((action) => encodeAction(action, minor)));

/** Instructions by the name of what they carry out, OpenFlow 1.1 and later. */
const INSTRUCTION = {
  goto_table: 1,
  write_metadata: 2,
  write_actions: 3,
  apply_actions: 4,
  clear_actions: 5,
  meter: 6,
};

const encodeInstruction = (action: Action, minor: MinorVersion): Uint8Array => {
  switch (action.kind) {
    case "meter":
      return standard(INSTRUCTION.meter).u32(action.meter).finish();
    case "clear_actions":
      return standard(INSTRUCTION.clear_actions).finish();
    case "write_actions":
      return standard(INSTRUCTION.write_actions).zeros(4).put(encodeActions(action.actions, minor)).finish();
    case "write_metadata":
      return standard(INSTRUCTION.write_metadata).zeros(4).u64(action.value).u64(action.mask).finish();
    case "goto_table":
      return standard(INSTRUCTION.goto_table).u8(action.table).finish();
    default:
      return new Uint8Array(0);
  }
};

/** Whether an entry of the list is part of apply_actions: in OpenFlow 1.5 a meter is. */
const isApplied = ({ kind }: Action, minor: MinorVersion): boolean =>
  instructionOf(kind) === "apply_actions" || (kind === "meter" && minor >= 5);

/** What stands behind the match of a flow: actions in OpenFlow 1.0, later instructions. */
export const encodeInstructions = (actions: readonly Action[], minor: MinorVersion): Uint8Array => {
  if (minor === 0) return encodeActions(actions, minor);
  const parts: Uint8Array[] = [];
  for (let i = 0; i < actions.length;) {
    if (!isApplied(actions[i]!, minor)) {
      parts.push(encodeInstruction(actions[i++]!, minor));
      continue;
    }
    const from = i;
    while (i < actions.length && isApplied(actions[i]!, minor)) i++;
    const applied = encodeActions(actions.slice(from, i), minor);
    parts.push(standard(INSTRUCTION.apply_actions).zeros(4).put(applied).finish());
  }
  return joined(parts);
};
