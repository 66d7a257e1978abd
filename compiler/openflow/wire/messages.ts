// The messages of OpenFlow 1.0 to 1.5 with the extensions of Nicira and the ONF: what stands for each on the wire of each
// version, and how long its body may be. Reading, writing and printing messages go by this table alone.

/** What a body is like; rows of one kind are read and written by one codec. */
export type MessageKind =
  | "hello"
  | "error"
  | "echo"
  | "empty"
  | "config"
  | "features"
  | "role"
  | "nx_role"
  | "flow_mod_10"
  | "flow_mod_nx"
  | "flow_mod_11"
  | "flow_removed_10"
  | "flow_removed_nx"
  | "flow_removed_11"
  | "flow_removed_15"
  | "flow_request_10"
  | "flow_request_nx"
  | "flow_request_11"
  | "flow_reply"
  | "aggregate_reply"
  | "packet_in"
  | "packet_in_nx"
  | "packet_in2"
  | "packet_out"
  | "port_status"
  | "port_mod"
  | "port_stats_request"
  | "port_stats_reply"
  | "port_desc_request"
  | "port_desc_reply"
  | "desc_reply"
  | "table_mod"
  | "table_stats_reply"
  | "table_features"
  | "table_desc_reply"
  | "group_mod"
  | "group_request"
  | "group_stats_reply"
  | "group_desc_reply"
  | "group_features_reply"
  | "meter_mod"
  | "meter_request"
  | "meter_stats_reply"
  | "meter_config_reply"
  | "meter_features_reply"
  | "queue_stats_request"
  | "queue_stats_reply"
  | "queue_config_request"
  | "queue_config_reply"
  | "queue_desc_request"
  | "queue_desc_reply"
  | "async"
  | "nx_flow_format"
  | "nx_table_id"
  | "nx_packet_in_format"
  | "nx_controller_id"
  | "flow_monitor_request"
  | "flow_monitor_reply"
  | "flow_monitor_cancel"
  | "bundle_control"
  | "bundle_add"
  | "tlv_table_mod"
  | "tlv_table_reply"
  | "ct_flush_zone";

/** Version bytes, both included: 1 for OpenFlow 1.0. */
type Versions = readonly [from: number, to: number];

/** Least bytes of the body, and what may follow in multiples; 0 = nothing. */
type Body = readonly [least: number, multiple: number];

/** One message in one range of versions. */
export interface MessageRow {
  readonly kind: MessageKind;
  /** The name that OVS prints. */
  readonly name: string;
  readonly type: number;
  readonly versions: Versions;
  readonly stat?: number;
  readonly vendor?: number;
  readonly subtype?: number;
  readonly body: Body;
}

/** Type of messages that belong to a vendor, and kind of such statistics. */
export const VENDOR_MESSAGE = 4;
export const VENDOR_STAT = 0xffff;
export const NICIRA = 0x00002320;
export const ONF = 0x4f4e4600;

const ANY: Versions = [1, 255];
const ALL: Versions = [1, 6];
const V10: Versions = [1, 1];
const V11: Versions = [2, 2];
const V12: Versions = [3, 3];
const V13: Versions = [4, 4];
const TO_13: Versions = [1, 4];
const FROM_11: Versions = [2, 6];
const FROM_12: Versions = [3, 6];
const FROM_13: Versions = [4, 6];
const FROM_14: Versions = [5, 6];
const V15: Versions = [6, 6];
const V11_12: Versions = [2, 3];
const V11_13: Versions = [2, 4];
const V11_14: Versions = [2, 5];

const NOTHING: Body = [0, 0];
const BYTES: Body = [0, 1];
const WORDS: Body = [0, 8];

type Row<N extends string> = MessageRow & { readonly name: N };

const standard = <N extends string>(
  kind: MessageKind,
  name: N,
  type: number,
  versions: Versions,
  body: Body,
): Row<N> => ({
  kind,
  name,
  type,
  versions,
  body,
});

const vendor =
  (id: number) =>
  <N extends string>(kind: MessageKind, name: N, subtype: number, versions: Versions, body: Body): Row<N> => ({
    ...standard(kind, name, VENDOR_MESSAGE, versions, body),
    vendor: id,
    subtype,
  });

const nicira = vendor(NICIRA);
const onf = vendor(ONF);

/** Message types of requests for statistics and of replies, in 1.0 and later. */
const statsType = (isReply: boolean, versions: Versions): number => (versions[0] === 1 ? 16 : 18) + (isReply ? 1 : 0);

const statsRows = <N extends string>(
  isReply: boolean,
  kind: MessageKind,
  name: N,
  stat: number,
  [from, to]: Versions,
  body: Body,
): Row<N>[] => {
  const ranges: Versions[] = from > 1 || to === 1 ? [[from, to]] : [V10, [2, to]];
  return ranges.map((versions) => ({ ...standard(kind, name, statsType(isReply, versions), versions, body), stat }));
};

const request = <N extends string>(kind: MessageKind, name: N, stat: number, versions: Versions, body: Body) =>
  statsRows(false, kind, `${name} request` as const, stat, versions, body);

const reply = <N extends string>(kind: MessageKind, name: N, stat: number, versions: Versions, body: Body) =>
  statsRows(true, kind, `${name} reply` as const, stat, versions, body);

/** Statistics of a vendor. */
const vendorStats = <N extends string>(id: number, subtype: number, rows: readonly Row<N>[]): Row<N>[] =>
  rows.map((row) => ({ ...row, vendor: id, subtype }));

const nxRequest = <N extends string>(kind: MessageKind, name: N, subtype: number, versions: Versions, body: Body) =>
  vendorStats(NICIRA, subtype, request(kind, name, VENDOR_STAT, versions, body));

const nxReply = <N extends string>(kind: MessageKind, name: N, subtype: number, versions: Versions, body: Body) =>
  vendorStats(NICIRA, subtype, reply(kind, name, VENDOR_STAT, versions, body));

/** The messages that are read and written. */
export const MESSAGES = [
  standard("hello", "OFPT_HELLO", 0, ANY, BYTES),
  standard("error", "OFPT_ERROR", 1, ALL, [4, 1]),
  standard("echo", "OFPT_ECHO_REQUEST", 2, ALL, BYTES),
  standard("echo", "OFPT_ECHO_REPLY", 3, ALL, BYTES),
  standard("empty", "OFPT_FEATURES_REQUEST", 5, ALL, NOTHING),
  standard("features", "OFPT_FEATURES_REPLY", 6, V10, [24, 48]),
  standard("features", "OFPT_FEATURES_REPLY", 6, V11_12, [24, 64]),
  standard("features", "OFPT_FEATURES_REPLY", 6, FROM_13, [24, 0]),
  standard("empty", "OFPT_GET_CONFIG_REQUEST", 7, ALL, NOTHING),
  standard("config", "OFPT_GET_CONFIG_REPLY", 8, ALL, [4, 0]),
  standard("config", "OFPT_SET_CONFIG", 9, ALL, [4, 0]),
  standard("packet_in", "OFPT_PACKET_IN", 10, V10, [10, 1]),
  standard("packet_in", "OFPT_PACKET_IN", 10, V11, [16, 1]),
  standard("packet_in", "OFPT_PACKET_IN", 10, V12, [8, 1]),
  standard("packet_in", "OFPT_PACKET_IN", 10, FROM_13, [16, 1]),
  standard("flow_removed_10", "OFPT_FLOW_REMOVED", 11, V10, [80, 0]),
  standard("flow_removed_11", "OFPT_FLOW_REMOVED", 11, V11_14, [40, 8]),
  standard("flow_removed_15", "OFPT_FLOW_REMOVED", 11, V15, [16, 8]),
  standard("port_status", "OFPT_PORT_STATUS", 12, V10, [56, 0]),
  standard("port_status", "OFPT_PORT_STATUS", 12, V11_13, [72, 0]),
  standard("port_status", "OFPT_PORT_STATUS", 12, FROM_14, [48, 8]),
  standard("packet_out", "OFPT_PACKET_OUT", 13, V10, [8, 1]),
  standard("packet_out", "OFPT_PACKET_OUT", 13, V11_14, [16, 1]),
  standard("packet_out", "OFPT_PACKET_OUT", 13, V15, [8, 1]),
  standard("flow_mod_10", "OFPT_FLOW_MOD", 14, V10, [64, 8]),
  standard("flow_mod_11", "OFPT_FLOW_MOD", 14, FROM_11, [40, 8]),
  standard("port_mod", "OFPT_PORT_MOD", 15, V10, [24, 0]),
  standard("group_mod", "OFPT_GROUP_MOD", 15, V11_14, [8, 8]),
  standard("group_mod", "OFPT_GROUP_MOD", 15, V15, [16, 8]),
  standard("port_mod", "OFPT_PORT_MOD", 16, V11_13, [32, 0]),
  standard("port_mod", "OFPT_PORT_MOD", 16, FROM_14, [24, 8]),
  standard("table_mod", "OFPT_TABLE_MOD", 17, V11_13, [8, 0]),
  standard("table_mod", "OFPT_TABLE_MOD", 17, FROM_14, [8, 8]),
  standard("empty", "OFPT_BARRIER_REQUEST", 18, V10, NOTHING),
  standard("empty", "OFPT_BARRIER_REPLY", 19, V10, NOTHING),
  standard("queue_config_request", "OFPT_QUEUE_GET_CONFIG_REQUEST", 20, V10, [4, 0]),
  standard("empty", "OFPT_BARRIER_REQUEST", 20, FROM_11, NOTHING),
  standard("queue_config_reply", "OFPT_QUEUE_GET_CONFIG_REPLY", 21, V10, [8, 8]),
  standard("empty", "OFPT_BARRIER_REPLY", 21, FROM_11, NOTHING),
  standard("queue_config_request", "OFPT_QUEUE_GET_CONFIG_REQUEST", 22, V11_13, [8, 0]),
  standard("queue_config_reply", "OFPT_QUEUE_GET_CONFIG_REPLY", 23, V11_13, [8, 8]),
  standard("role", "OFPT_ROLE_REQUEST", 24, FROM_12, [16, 0]),
  standard("role", "OFPT_ROLE_REPLY", 25, FROM_12, [16, 0]),
  standard("empty", "OFPT_GET_ASYNC_REQUEST", 26, FROM_13, NOTHING),
  standard("async", "OFPT_GET_ASYNC_REPLY", 27, V13, [24, 0]),
  standard("async", "OFPT_GET_ASYNC_REPLY", 27, FROM_14, WORDS),
  standard("async", "OFPT_SET_ASYNC", 28, V13, [24, 0]),
  standard("async", "OFPT_SET_ASYNC", 28, FROM_14, WORDS),
  standard("meter_mod", "OFPT_METER_MOD", 29, FROM_13, [8, 8]),
  standard("bundle_control", "OFPT_BUNDLE_CONTROL", 33, FROM_14, [8, 8]),
  standard("bundle_add", "OFPT_BUNDLE_ADD_MESSAGE", 34, FROM_14, [8, 1]),
  onf("bundle_control", "ONFT_BUNDLE_CONTROL", 2300, V13, [8, 8]),
  onf("bundle_add", "ONFT_BUNDLE_ADD_MESSAGE", 2301, V13, [8, 1]),
  onf("flow_monitor_cancel", "ONFT_FLOW_MONITOR_CANCEL", 1870, V13, [4, 0]),
  onf("empty", "ONFT_FLOW_MONITOR_PAUSED", 1871, V13, NOTHING),
  onf("empty", "ONFT_FLOW_MONITOR_RESUMED", 1872, V13, NOTHING),
  nicira("nx_role", "NXT_ROLE_REQUEST", 10, ALL, [4, 0]),
  nicira("nx_role", "NXT_ROLE_REPLY", 11, ALL, [4, 0]),
  nicira("nx_flow_format", "NXT_SET_FLOW_FORMAT", 12, V10, [4, 0]),
  nicira("flow_mod_nx", "NXT_FLOW_MOD", 13, ALL, [32, 8]),
  nicira("flow_removed_nx", "NXT_FLOW_REMOVED", 14, ALL, [40, 8]),
  nicira("nx_table_id", "NXT_FLOW_MOD_TABLE_ID", 15, ALL, [8, 0]),
  nicira("nx_packet_in_format", "NXT_SET_PACKET_IN_FORMAT", 16, ALL, [4, 0]),
  nicira("packet_in_nx", "NXT_PACKET_IN", 17, ALL, [24, 1]),
  nicira("empty", "NXT_FLOW_AGE", 18, ALL, NOTHING),
  nicira("async", "NXT_SET_ASYNC_CONFIG", 19, ALL, [24, 0]),
  nicira("nx_controller_id", "NXT_SET_CONTROLLER_ID", 20, ALL, [8, 0]),
  nicira("flow_monitor_cancel", "NXT_FLOW_MONITOR_CANCEL", 21, [1, 3], [4, 0]),
  nicira("empty", "NXT_FLOW_MONITOR_PAUSED", 22, [1, 3], NOTHING),
  nicira("empty", "NXT_FLOW_MONITOR_RESUMED", 23, [1, 3], NOTHING),
  nicira("tlv_table_mod", "NXT_TLV_TABLE_MOD", 24, ALL, [8, 8]),
  nicira("empty", "NXT_TLV_TABLE_REQUEST", 25, ALL, NOTHING),
  nicira("tlv_table_reply", "NXT_TLV_TABLE_REPLY", 26, ALL, [16, 8]),
  nicira("async", "NXT_SET_ASYNC_CONFIG2", 27, TO_13, WORDS),
  nicira("packet_in2", "NXT_RESUME", 28, ALL, WORDS),
  nicira("ct_flush_zone", "NXT_CT_FLUSH_ZONE", 29, ALL, [8, 0]),
  nicira("packet_in2", "NXT_PACKET_IN2", 30, ALL, WORDS),
  nicira("group_mod", "NXT_GROUP_MOD", 31, V10, [16, 8]),
  ...request("empty", "OFPST_DESC", 0, ALL, NOTHING),
  ...reply("desc_reply", "OFPST_DESC", 0, ALL, [1056, 0]),
  ...request("flow_request_10", "OFPST_FLOW", 1, V10, [44, 0]),
  ...request("flow_request_11", "OFPST_FLOW", 1, FROM_11, [32, 8]),
  ...reply("flow_reply", "OFPST_FLOW", 1, ALL, BYTES),
  ...request("flow_request_10", "OFPST_AGGREGATE", 2, V10, [44, 0]),
  ...request("flow_request_11", "OFPST_AGGREGATE", 2, FROM_11, [32, 8]),
  ...reply("aggregate_reply", "OFPST_AGGREGATE", 2, [1, 5], [24, 0]),
  ...reply("aggregate_reply", "OFPST_AGGREGATE", 2, V15, BYTES),
  ...request("empty", "OFPST_TABLE", 3, ALL, NOTHING),
  ...reply("table_stats_reply", "OFPST_TABLE", 3, V10, [0, 64]),
  ...reply("table_stats_reply", "OFPST_TABLE", 3, V11, [0, 88]),
  ...reply("table_stats_reply", "OFPST_TABLE", 3, V12, [0, 128]),
  ...reply("table_stats_reply", "OFPST_TABLE", 3, FROM_13, [0, 24]),
  ...request("port_stats_request", "OFPST_PORT", 4, ALL, [8, 0]),
  ...reply("port_stats_reply", "OFPST_PORT", 4, V10, [0, 104]),
  ...reply("port_stats_reply", "OFPST_PORT", 4, V11_12, [0, 104]),
  ...reply("port_stats_reply", "OFPST_PORT", 4, V13, [0, 112]),
  ...reply("port_stats_reply", "OFPST_PORT", 4, FROM_14, WORDS),
  ...request("queue_stats_request", "OFPST_QUEUE", 5, ALL, [8, 0]),
  ...reply("queue_stats_reply", "OFPST_QUEUE", 5, V10, [0, 32]),
  ...reply("queue_stats_reply", "OFPST_QUEUE", 5, V11_12, [0, 32]),
  ...reply("queue_stats_reply", "OFPST_QUEUE", 5, V13, [0, 40]),
  ...reply("queue_stats_reply", "OFPST_QUEUE", 5, FROM_14, WORDS),
  ...request("group_request", "OFPST_GROUP", 6, FROM_11, [8, 0]),
  ...reply("group_stats_reply", "OFPST_GROUP", 6, FROM_11, WORDS),
  ...request("group_request", "OFPST_GROUP_DESC", 7, V11_14, NOTHING),
  ...request("group_request", "OFPST_GROUP_DESC", 7, V15, [8, 0]),
  ...reply("group_desc_reply", "OFPST_GROUP_DESC", 7, FROM_11, WORDS),
  ...request("empty", "OFPST_GROUP_FEATURES", 8, FROM_12, NOTHING),
  ...reply("group_features_reply", "OFPST_GROUP_FEATURES", 8, FROM_12, [40, 0]),
  ...request("meter_request", "OFPST_METER", 9, FROM_13, [8, 0]),
  ...reply("meter_stats_reply", "OFPST_METER", 9, FROM_13, WORDS),
  ...request("meter_request", "OFPST_METER_CONFIG", 10, FROM_13, [8, 0]),
  ...reply("meter_config_reply", "OFPST_METER_CONFIG", 10, FROM_13, WORDS),
  ...request("empty", "OFPST_METER_FEATURES", 11, FROM_13, NOTHING),
  ...reply("meter_features_reply", "OFPST_METER_FEATURES", 11, FROM_13, [16, 0]),
  ...request("table_features", "OFPST_TABLE_FEATURES", 12, FROM_13, WORDS),
  ...reply("table_features", "OFPST_TABLE_FEATURES", 12, FROM_13, [64, 8]),
  ...request("port_desc_request", "OFPST_PORT_DESC", 13, [1, 5], NOTHING),
  ...request("port_desc_request", "OFPST_PORT_DESC", 13, V15, [8, 0]),
  ...reply("port_desc_reply", "OFPST_PORT_DESC", 13, V10, [0, 48]),
  ...reply("port_desc_reply", "OFPST_PORT_DESC", 13, V11_13, [0, 64]),
  ...reply("port_desc_reply", "OFPST_PORT_DESC", 13, FROM_14, WORDS),
  ...request("empty", "OFPST_TABLE_DESC", 14, FROM_14, NOTHING),
  ...reply("table_desc_reply", "OFPST_TABLE_DESC", 14, FROM_14, [8, 8]),
  ...request("queue_desc_request", "OFPST_QUEUE_DESC", 15, FROM_14, [8, 0]),
  ...reply("queue_desc_reply", "OFPST_QUEUE_DESC", 15, FROM_14, WORDS),
  ...request("flow_monitor_request", "OFPST_FLOW_MONITOR", 16, FROM_14, WORDS),
  ...reply("flow_monitor_reply", "OFPST_FLOW_MONITOR", 16, FROM_14, WORDS),
  ...vendorStats(ONF, 1870, request("flow_monitor_request", "ONFST_FLOW_MONITOR", VENDOR_STAT, V13, WORDS)),
  ...vendorStats(ONF, 1870, reply("flow_monitor_reply", "ONFST_FLOW_MONITOR", VENDOR_STAT, V13, WORDS)),
  ...nxRequest("flow_request_nx", "NXST_FLOW", 0, V10, [8, 8]),
  ...nxReply("flow_reply", "NXST_FLOW", 0, V10, BYTES),
  ...nxRequest("flow_request_nx", "NXST_AGGREGATE", 1, V10, [8, 8]),
  ...nxReply("aggregate_reply", "NXST_AGGREGATE", 1, V10, [24, 0]),
  ...nxRequest("flow_monitor_request", "NXST_FLOW_MONITOR", 2, [1, 3], WORDS),
  ...nxReply("flow_monitor_reply", "NXST_FLOW_MONITOR", 2, [1, 3], WORDS),
  ...nxRequest("group_request", "NXST_GROUP", 7, V10, [8, 0]),
  ...nxReply("group_stats_reply", "NXST_GROUP", 7, V10, WORDS),
  ...nxRequest("group_request", "NXST_GROUP_DESC", 8, V10, [8, 0]),
  ...nxReply("group_desc_reply", "NXST_GROUP_DESC", 8, V10, WORDS),
  ...nxRequest("empty", "NXST_GROUP_FEATURES", 9, [1, 2], NOTHING),
  ...nxReply("group_features_reply", "NXST_GROUP_FEATURES", 9, [1, 2], [40, 0]),
] as const satisfies readonly MessageRow[];

export type MessageName = (typeof MESSAGES)[number]["name"];
