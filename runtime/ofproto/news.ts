// What controllers hear unasked: packets, ports that change, flows that are gone. Each message is encoded once for all that
// speak the same dialect; one who does not read misses some, and nobody waits for him.

import {
  encodeContinuation,
  encodeMessage,
  EXPLICIT_MISS,
  flowRemovedName,
  FIELD_NAMES,
  fieldSpec,
  IMPLICIT_MISS,
  matchField,
  newFlow,
  packetInReason,
  PACKET_WORDS_AT,
  FLOW,
  get,
  PORT_REASONS,
  putFlowRemoved,
  putPacketIn,
  putPacketIn2,
  putPacketInNx,
  putPortStatus,
  readField,
  WIRE_REASONS,
  type DpAction,
  type FieldName,
  type Match,
  type MinorVersion,
  type PortReason,
  type RemovalReason,
  type Rule,
  type WirePacketIn,
  type WirePort,
} from "#compiler";
import { monotonicMs } from "../clock.js";
import type { OfConn } from "./ofconn.js";
import { duration } from "./request.js";

type ToController = Extract<DpAction, { kind: "controller" }>;

/** Fields that the pipeline has beside the packet and that go along with it when they are not 0. */
const METADATA: readonly FieldName[] = FIELD_NAMES.filter((field) => {
  const { in: member, codes } = fieldSpec(field);
  const isOverlap = /^x{1,2}reg|^in_port/.test(field);
  return codes.length > 0 && !isOverlap && FLOW[member].at >>> 5 < PACKET_WORDS_AT && field !== "actset_output";
});

/** What packets had beside their bytes: those of one megaflow had the same. */
const known = new WeakMap<Uint32Array, Match>();

/** What a packet had beside its bytes, as a match. */
const metadataMatch = (words: Uint32Array): Match => {
  let match = known.get(words);
  if (match !== undefined) return match;
  const flow = newFlow();
  flow.set(words);
  match = { value: newFlow(), mask: newFlow() };
  matchField(match, "in_port_oxm", readField(flow, "in_port_oxm"));
  for (const field of METADATA) {
    const { at, bits } = FLOW[fieldSpec(field).in];
    if (words.subarray(at >>> 5, ((at + bits - 1) >>> 5) + 1).every((word) => word === 0)) continue;
    const value = readField(flow, field);
    if (value.some((byte) => byte !== 0)) matchField(match, field, value);
  }
  known.set(words, match);
  return match;
};

/** The bit of a reason among those that a controller wants. */
const reasonNumber = (reason: string): number => {
  if (reason === "explicit_miss") return Math.log2(EXPLICIT_MISS);
  if (reason === "implicit_miss") return Math.log2(IMPLICIT_MISS);
  return Math.max(0, (WIRE_REASONS as readonly string[]).indexOf(reason));
};

const NO_COOKIE = 0xffffffffffffffffn;

const continuationOf = ({ frozen, metadata }: ToController, match: Match, minor: MinorVersion, bridge: Uint8Array) => {
  if (frozen === undefined) return {};
  const inPort = get(metadata, "in_port");
  return { continuation: encodeContinuation({ ...frozen, bridge, inPort }, match, minor) };
};

const encodePacketIn = (
  conn: OfConn,
  action: ToController,
  packet: Uint8Array,
  metadata: Match,
  bridge: Uint8Array,
): Uint8Array => {
  const { version, minor, packetInFormat } = conn;
  const pin: WirePacketIn = {
    packet,
    totalBytes: packet.length,
    reason: packetInReason(action.reason, minor),
    table: action.table,
    ...(action.cookie === NO_COOKIE ? {} : { cookie: action.cookie }),
    metadata,
    ...(action.userdata === undefined ? {} : { userdata: action.userdata }),
  };
  switch (packetInFormat) {
    case "standard":
      return encodeMessage("OFPT_PACKET_IN", version, 0, (writer) => putPacketIn(writer, pin, minor));
    case "nxt_packet_in":
      return encodeMessage("NXT_PACKET_IN", version, 0, (writer) => putPacketInNx(writer, pin));
    case "nxt_packet_in2": {
      const waiting = { ...pin, ...continuationOf(action, metadata, minor, bridge) };
      return encodeMessage("NXT_PACKET_IN2", version, 0, (writer) => putPacketIn2(writer, waiting, minor));
    }
  }
};

/** Longest packet that a message can carry, whatever else is in it. */
const MAX_PACKET = 0xf000;

/** Gives a packet to the controllers that it is for. Its bytes are copied. @param bridge - its UUID */
export const tellPacket = (
  conns: Iterable<OfConn>,
  action: ToController,
  packet: Uint8Array,
  bridge: Uint8Array,
): void => {
  const reason = reasonNumber(action.reason);
  const encoded = new Map<string, Uint8Array>();
  let metadata: Match | undefined;
  for (const conn of conns) {
    if (conn.controllerId !== action.controllerId || !conn.wants("PACKET_IN", reason)) continue;
    const dialect = `${conn.version},${conn.packetInFormat}`;
    let message = encoded.get(dialect);
    if (message === undefined) {
      metadata ??= metadataMatch(action.metadata);
      message = encodePacketIn(conn, action, packet.subarray(0, MAX_PACKET), metadata, bridge);
      encoded.set(dialect, message);
    }
    conn.notify(message);
  }
};

/** @param source - who caused it; before OpenFlow 1.5 he is not told */
export const tellPort = (conns: Iterable<OfConn>, reason: PortReason, port: WirePort, source?: OfConn): void => {
  for (const conn of conns) {
    if (!conn.wants("PORT_STATUS", PORT_REASONS.indexOf(reason)) || (conn === source && conn.minor < 5)) continue;
    conn.notify(
      encodeMessage("OFPT_PORT_STATUS", conn.version, 0, (writer) =>
        putPortStatus(writer, { reason, port }, conn.minor),
      ),
    );
  }
};

/** Reasons by number (ofp_flow_removed_reason). */
const REASONS: readonly RemovalReason[] = ["idle_timeout", "hard_timeout", "delete", "group_delete", "meter_delete"];
/** Versions before that know fewer, and say that the flow was deleted. */
const REASON_SINCE: Readonly<Partial<Record<RemovalReason, number>>> = { group_delete: 1, meter_delete: 4 };

export const tellRemoved = (conns: Iterable<OfConn>, rule: Rule, why: RemovalReason): void => {
  if (!rule.flags.includes("send_flow_rem")) return;
  const { match, priority, cookie, table, idleTimeout, hardTimeout, packets, bytes } = rule;
  const base = { match, priority, cookie, table, idleTimeout, hardTimeout };
  const counts = { packets: BigInt(packets), bytes: BigInt(bytes), ...duration(monotonicMs() - rule.createdMs) };
  for (const conn of conns) {
    if (!conn.wants("FLOW_REMOVED", REASONS.indexOf(why))) continue;
    const reason = REASONS.indexOf(conn.minor < (REASON_SINCE[why] ?? 0) ? "delete" : why);
    const isNxm = conn.flowFormat === "nxm";
    conn.notify(
      encodeMessage(flowRemovedName(conn.minor, isNxm), conn.version, 0, (writer) =>
        putFlowRemoved(writer, { ...base, ...counts, reason }, conn.minor, isNxm),
      ),
    );
  }
};
