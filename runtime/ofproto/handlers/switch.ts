// What the switch is: features, configuration, description, tables, barriers.

import {
  decodeConfig,
  decodeTableMod,
  decodeTlvMod,
  encodeTableDesc,
  encodeTableFeatures,
  encodeTableStats,
  N_TABLES,
  OpenFlowError,
  putConfig,
  putDescription,
  putFeatures,
  putTlvReply,
  type Capability,
  type MessageName,
} from "#compiler";
import { inSlices, type Handler } from "../request.js";
import { describePorts } from "./ports.js";

const CAPABILITIES: readonly Capability[] = [
  ...(["FLOW_STATS", "TABLE_STATS", "PORT_STATS", "QUEUE_STATS", "GROUP_STATS", "BUNDLES", "ARP_MATCH_IP"] as const),
];

/** All actions of OpenFlow 1.0. */
const ACTIONS_10 = 0xfff;

const features: Handler = ({ ofproto, conn, message }) =>
  conn.reply("OFPT_FEATURES_REPLY", message.header.xid, (writer) =>
    putFeatures(
      writer,
      {
        datapathId: ofproto.datapathId,
        nBuffers: 0,
        nTables: N_TABLES,
        auxiliaryId: 0,
        capabilities: CAPABILITIES,
        actions: ACTIONS_10,
        ports: conn.minor < 3 ? describePorts(ofproto) : [],
      },
      conn.minor,
    ),
  );

const getConfig: Handler = ({ ofproto, conn, message }) =>
  conn.reply("OFPT_GET_CONFIG_REPLY", message.header.xid, (writer) => {
    const { invalidTtlToController, missSendLen } = conn;
    putConfig(writer, { frag: ofproto.bridge.sw.fragMode, invalidTtlToController, missSendLen }, conn.minor);
  });

const setConfig: Handler = ({ ofproto, conn, message }) => {
  const config = decodeConfig(message);
  // OVS has no way to put fragments together, and says so in its log alone.
  if (conn.kind !== "primary" || conn.role !== "secondary") ofproto.setFragMode(config.frag);
  if (conn.minor < 3) conn.invalidTtlToController = config.invalidTtlToController;
  conn.missSendLen = config.missSendLen;
  ofproto.missesChanged();
};

const describe: Handler = ({ ofproto, conn, message }) =>
  conn.reply("OFPST_DESC reply", message.header.xid, (writer) => putDescription(writer, ofproto.description));

/** Flows that a table can hold, as far as it says. */
const MAX_ENTRIES = 1_000_000;

const tableStats: Handler = async ({ ofproto, conn, message }) => {
  await ofproto.bridge.settle();
  const { sw } = ofproto.bridge;
  const reply = conn.multipart("OFPST_TABLE reply", message.header.xid);
  for (let table = 0; table < N_TABLES; table++) {
    const found = sw.tableIfAny(table);
    const { lookups, matched } = ofproto.lookups(table);
    const stats = { table, maxEntries: MAX_ENTRIES, active: found?.size ?? 0, lookups, matched };
    reply.add(encodeTableStats({ ...stats, miss: ofproto.tableMiss(table) }, conn.minor, table === N_TABLES - 1));
  }
  reply.end();
};

const tableFeatures: Handler = async ({ conn, message }) => {
  if (message.body.length > 0)
    throw new OpenFlowError("OFPTFFC_EPERM", "Cannot change what tables can do: they can do everything");
  const tables = Array.from({ length: N_TABLES }, (_, table) => table);
  const reply = conn.multipart("OFPST_TABLE_FEATURES reply", message.header.xid);
  await inSlices(conn, tables, (table) =>
    reply.add(encodeTableFeatures({ table, maxEntries: MAX_ENTRIES, next: tables.slice(table + 1) }, conn.minor)),
  );
  reply.end();
};

const tableMod: Handler = ({ ofproto, conn, message }) => {
  conn.requireChanges();
  const mod = decodeTableMod(message);
  if (mod.table !== 0xff && mod.table >= N_TABLES)
    throw new OpenFlowError("OFPTMFC_BAD_TABLE", `Cannot configure table ${mod.table}: there is no such table`);
  ofproto.configureTable(mod);
};

/** What decides which flows go when a table is full: OTHER, IMPORTANCE and LIFETIME (OFPTMPEF14_*). */
const EVICTION_FLAGS = 0x7;

const tableDesc: Handler = ({ ofproto, conn, message }) => {
  const reply = conn.multipart("OFPST_TABLE_DESC reply", message.header.xid);
  for (let table = 0; table < N_TABLES; table++) {
    const { eviction, vacancy } = ofproto.tableConfig(table);
    const vacant = vacancy === undefined ? {} : { vacancy: { ...vacancy, now: 100 } };
    reply.add(encodeTableDesc({ table, eviction, evictionFlags: EVICTION_FLAGS, ...vacant }));
  }
  reply.end();
};

const tlvMod: Handler = ({ ofproto, conn, message }) => {
  conn.requireChanges();
  ofproto.tlvMap.change(decodeTlvMod(message));
};

/** There are no connections yet that could be forgotten. */
const flushZone: Handler = ({ message: { body } }) => {
  if (body.subarray(0, 6).some((byte) => byte !== 0))
    throw new OpenFlowError("NXBRC_MUST_BE_ZERO", "Cannot flush a zone: want zeros before its number");
};

const tlvRequest: Handler = ({ ofproto, conn, message }) =>
  conn.reply("NXT_TLV_TABLE_REPLY", message.header.xid, (writer) => putTlvReply(writer, ofproto.tlvMap.mappings));

/** All that was asked for before is in force for the next packet. */
const barrier: Handler = async ({ ofproto, conn, message }) => {
  await ofproto.inForce();
  conn.reply("OFPT_BARRIER_REPLY", message.header.xid);
};

export const SWITCH_HANDLERS: Readonly<Partial<Record<MessageName, Handler>>> = {
  OFPT_FEATURES_REQUEST: features,
  OFPT_GET_CONFIG_REQUEST: getConfig,
  OFPT_SET_CONFIG: setConfig,
  "OFPST_DESC request": describe,
  "OFPST_TABLE request": tableStats,
  "OFPST_TABLE_DESC request": tableDesc,
  "OFPST_TABLE_FEATURES request": tableFeatures,
  OFPT_TABLE_MOD: tableMod,
  NXT_CT_FLUSH_ZONE: flushZone,
  NXT_TLV_TABLE_MOD: tlvMod,
  NXT_TLV_TABLE_REQUEST: tlvRequest,
  OFPT_BARRIER_REQUEST: barrier,
};
