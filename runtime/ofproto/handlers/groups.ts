// Groups and meters: changes, descriptions, statistics.

import {
  ALL_GROUPS,
  applyGroupMod,
  applyMeterMod,
  decodeGroupMod,
  decodeGroupRequest,
  decodeMeterMod,
  decodeMeterRequest,
  encodeGroupDesc,
  encodeGroupStats,
  encodeMeterConfig,
  encodeMeterStats,
  MAX_BANDS,
  MAX_METERS,
  METER,
  OpenFlowError,
  putGroupFeatures,
  putMeterFeatures,
  type GroupEntry,
  type GroupMod,
  type MessageName,
  type MeterEntry,
} from "#compiler";
import { monotonicMs } from "../../clock.js";
import type { Ofproto } from "../ofproto.js";
import { duration, sourceOf, type Handler } from "../request.js";

/** Largest number of a group (OFPG_MAX). */
const MAX_GROUP = 0xffffff00;

/** @throws {@link OpenFlowError} for a number that groups cannot have */
export const checkGroupMod = ({ command, group: { id } }: GroupMod): void => {
  if (id > MAX_GROUP && !(command === "delete" && id === ALL_GROUPS))
    throw new OpenFlowError("OFPGMFC_INVALID_GROUP", `Cannot ${command} group ${id}: want at most ${MAX_GROUP}`);
};

const groupMod: Handler = (request) => {
  const { ofproto, conn, message } = request;
  conn.requireChanges();
  const mod = decodeGroupMod(message);
  checkGroupMod(mod);
  ofproto.change(() => applyGroupMod(ofproto.bridge.sw, mod, monotonicMs()), sourceOf(request));
};

/** Groups by number: one, or all. */
const groups = (ofproto: Ofproto, id: number): GroupEntry[] => {
  const { sw } = ofproto.bridge;
  if (id === ALL_GROUPS) return [...sw.groups()].sort((a, b) => a.group.id - b.group.id);
  const entry = sw.group(id);
  return entry === undefined ? [] : [entry];
};

const nameOf = (isNicira: boolean, name: "GROUP" | "GROUP_DESC" | "GROUP_FEATURES"): MessageName =>
  isNicira ? `NXST_${name} reply` : `OFPST_${name} reply`;

const groupDesc: Handler = ({ ofproto, conn, message }) => {
  const reply = conn.multipart(nameOf(message.header.vendor !== undefined, "GROUP_DESC"), message.header.xid);
  for (const { group } of groups(ofproto, decodeGroupRequest(message))) reply.add(encodeGroupDesc(group, conn.minor));
  reply.end();
};

const groupStats: Handler = async ({ ofproto, conn, message }) => {
  const asked = groups(ofproto, decodeGroupRequest(message));
  const { xid, vendor } = message.header;
  await ofproto.bridge.settle();
  const nowMs = monotonicMs();
  const reply = conn.multipart(nameOf(vendor !== undefined, "GROUP"), xid);
  const { sw } = ofproto.bridge;
  for (const { group, buckets, packets, bytes, createdMs } of asked) {
    const references = sw.rulesWithGroup(group.id).length;
    const counts = (each: { packets: number; bytes: number }) => ({
      packets: BigInt(each.packets),
      bytes: BigInt(each.bytes),
    });
    const own = { group: group.id, references, ...counts({ packets, bytes }), ...duration(nowMs - createdMs) };
    reply.add(encodeGroupStats({ ...own, buckets: buckets.map(counts) }, conn.minor));
  }
  reply.end();
};

const GROUP_TYPES = 4;
/** All four types; weights, liveness, chaining. */
const TYPES = 0xf;
const GROUP_CAPABILITIES = 0x7;

/** Actions that buckets can have, in the bits of each version. */
const GROUP_ACTIONS: readonly number[] = [0xfff, 0x01ffe7ff, 0x03ff8001, 0x03ff8001, 0x03ff8001, 0x03ff8001];

const groupFeatures: Handler = ({ conn, message }) => {
  const four = (n: number): number[] => new Array<number>(GROUP_TYPES).fill(n);
  conn.reply(nameOf(message.header.vendor !== undefined, "GROUP_FEATURES"), message.header.xid, (writer) =>
    putGroupFeatures(writer, {
      types: TYPES,
      capabilities: GROUP_CAPABILITIES,
      maxGroups: four(MAX_GROUP),
      actions: four(GROUP_ACTIONS[conn.minor]!),
    }),
  );
};

const meterMod: Handler = (request) => {
  const { ofproto, conn, message } = request;
  conn.requireChanges();
  const mod = decodeMeterMod(message);
  const { id, bands, otherFlags } = mod.meter;
  const isSpecial = id === METER.SLOWPATH || id === METER.CONTROLLER;
  if (mod.command !== "delete") {
    if (id === 0 || (id > MAX_METERS && !isSpecial))
      throw new OpenFlowError("OFPMMFC_INVALID_METER", `Cannot ${mod.command} meter ${id}: want 1 to ${MAX_METERS}`);
    if (otherFlags !== 0)
      throw new OpenFlowError("OFPMMFC_BAD_FLAGS", `Cannot meter with flags 0x${otherFlags.toString(16)}`);
    if (bands.length > MAX_BANDS)
      throw new OpenFlowError("OFPMMFC_OUT_OF_BANDS", `Cannot ${mod.command} a meter of ${bands.length} bands`);
  }
  ofproto.change(() => applyMeterMod(ofproto.bridge.sw, mod, monotonicMs()), sourceOf(request));
};

/** @throws {@link OpenFlowError} for one meter that is not there */
const meters = (ofproto: Ofproto, id: number): MeterEntry[] => {
  const all = [...ofproto.bridge.sw.meters];
  if (id === METER.ALL) return all.sort((a, b) => a.meter.id - b.meter.id);
  const found = all.filter(({ meter }) => meter.id === id);
  if (found.length === 0) throw new OpenFlowError("OFPMMFC_UNKNOWN_METER", `Cannot show meter ${id}: there is none`);
  return found;
};

const meterConfig: Handler = ({ ofproto, conn, message }) => {
  const asked = meters(ofproto, decodeMeterRequest(message));
  const reply = conn.multipart("OFPST_METER_CONFIG reply", message.header.xid);
  for (const { meter } of asked) reply.add(encodeMeterConfig(meter));
  reply.end();
};

const meterStats: Handler = ({ ofproto, conn, message }) => {
  const asked = meters(ofproto, decodeMeterRequest(message));
  const nowMs = monotonicMs();
  const { sw } = ofproto.bridge;
  const reply = conn.multipart("OFPST_METER reply", message.header.xid);
  for (const entry of asked) {
    const { packets, bytes, bands } = sw.meters.stats(entry);
    const flows = sw.rulesWithMeter(entry.meter.id).length;
    reply.add(
      encodeMeterStats({
        ...{ meter: entry.meter.id, flows, packets: BigInt(packets), bytes: BigInt(bytes) },
        ...duration(nowMs - entry.createdMs),
        bands: bands.map((band) => ({ packets: BigInt(band.packets), bytes: BigInt(band.bytes) })),
      }),
    );
  }
  reply.end();
};

/** Bands that drop and that remark; rates in kbit/s and packets, bursts, statistics. */
const BAND_TYPES = 0x6;
const METER_CAPABILITIES = 0xf;

const meterFeatures: Handler = ({ conn, message }) =>
  conn.reply("OFPST_METER_FEATURES reply", message.header.xid, (writer) =>
    putMeterFeatures(writer, {
      maxMeters: MAX_METERS,
      bandTypes: BAND_TYPES,
      capabilities: METER_CAPABILITIES,
      maxBands: MAX_BANDS,
      maxColor: 0,
    }),
  );

export const GROUP_HANDLERS: Readonly<Partial<Record<MessageName, Handler>>> = {
  OFPT_GROUP_MOD: groupMod,
  NXT_GROUP_MOD: groupMod,
  "OFPST_GROUP_DESC request": groupDesc,
  "NXST_GROUP_DESC request": groupDesc,
  "OFPST_GROUP request": groupStats,
  "NXST_GROUP request": groupStats,
  "OFPST_GROUP_FEATURES request": groupFeatures,
  "NXST_GROUP_FEATURES request": groupFeatures,
  OFPT_METER_MOD: meterMod,
  "OFPST_METER_CONFIG request": meterConfig,
  "OFPST_METER request": meterStats,
  "OFPST_METER_FEATURES request": meterFeatures,
};
