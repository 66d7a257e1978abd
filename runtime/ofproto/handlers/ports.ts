// Ports: what they are, what went through them, how they are configured; and queues, of which there are none.

import {
  decodePortMod,
  decodePortRequest,
  DEFAULT_PORT_CONFIG,
  encodePortStats,
  OpenFlowError,
  PORT,
  PORT_CONFIG,
  PORT_STATE,
  putPortDesc,
  ByteReader,
  ByteWriter,
  readPort,
  type Message,
  type MessageName,
  type Port,
  type PortConfig,
  type WirePort,
  type WirePortMod,
} from "#compiler";
import { packMac } from "libbpf-ts";
import { monotonicMs } from "../../clock.js";
import type { OfConn } from "../ofconn.js";
import type { Ofproto } from "../ofproto.js";
import { duration, type Handler } from "../request.js";

const NO_MAC = "00:00:00:00:00:00";

const CONFIG_FLAGS = Object.keys(DEFAULT_PORT_CONFIG) as (keyof PortConfig)[];

const configBits = (config: PortConfig): number =>
  CONFIG_FLAGS.reduce((bits, flag) => (config[flag] ? bits | PORT_CONFIG[flag] : bits), 0);

/** A port in the words of OpenFlow. */
export const describePort = (ofproto: Ofproto, { number, name, up, config }: Port): WirePort => ({
  port: number,
  mac: packMac(ofproto.bridge.ports.byNumber(number)?.mac || NO_MAC),
  name,
  config: configBits(config),
  state: up ? PORT_STATE.live : PORT_STATE.linkDown,
  current: 0,
  advertised: 0,
  supported: 0,
  peer: 0,
  currentSpeed: 0,
  maxSpeed: 0,
});

export const describePorts = (ofproto: Ofproto): WirePort[] =>
  ofproto.bridge.sw.ports.map((port) => describePort(ofproto, port));

/** The ports that a request is about. */
const asked = (ofproto: Ofproto, message: Message): readonly Port[] => {
  const number = decodePortRequest(message);
  const { sw } = ofproto.bridge;
  if (number === PORT.NONE) return sw.ports;
  const port = sw.port(number);
  return port === undefined ? [] : [port];
};

const portDesc: Handler = ({ ofproto, conn, message }) => {
  const reply = conn.multipart("OFPST_PORT_DESC reply", message.header.xid);
  for (const port of asked(ofproto, message)) {
    const writer = new ByteWriter();
    putPortDesc(writer, describePort(ofproto, port), conn.minor);
    reply.add(writer.finish());
  }
  reply.end();
};

const portStats: Handler = async ({ ofproto, conn, message }) => {
  const ports = asked(ofproto, message);
  const { xid } = message.header;
  await ofproto.bridge.settle();
  const nowMs = monotonicMs();
  const reply = conn.multipart("OFPST_PORT reply", xid);
  for (const { number } of ports) {
    const port = ofproto.bridge.ports.byNumber(number);
    if (port === undefined) continue;
    const { rxPackets, rxBytes, txPackets, txBytes } = port.stats;
    const counted = { rxPackets, txPackets, rxBytes, txBytes, rxDropped: 0, txDropped: 0, rxErrors: 0, txErrors: 0 };
    const counters = Object.fromEntries(Object.entries(counted).map(([name, n]) => [name, BigInt(n)]));
    reply.add(encodePortStats({ port: number, counters, ...duration(nowMs - port.addedMs) }, conn.minor));
  }
  reply.end();
};

/** @throws {@link OpenFlowError} for a port that is not, or has another address */
export const checkPortMod = (ofproto: Ofproto, { port: number, mac }: WirePortMod): Port => {
  const port = ofproto.bridge.sw.port(number);
  if (port === undefined) throw new OpenFlowError("OFPPMFC_BAD_PORT", `Cannot configure port ${number}: there is none`);
  const own = describePort(ofproto, port).mac;
  if (!mac.every((byte, i) => byte === own[i]))
    throw new OpenFlowError("OFPPMFC_BAD_HW_ADDR", `Cannot configure port ${number}: it has another address`);
  return port;
};

export const applyPortMod = (ofproto: Ofproto, mod: WirePortMod, conn: OfConn): void => {
  checkPortMod(ofproto, mod);
  const changed = CONFIG_FLAGS.filter((flag) => (mod.mask & PORT_CONFIG[flag]) !== 0);
  const config = Object.fromEntries(changed.map((flag) => [flag, (mod.config & PORT_CONFIG[flag]) !== 0]));
  ofproto.change(() => ofproto.bridge.configurePort(mod.port, config), { conn, xid: 0 });
};

const portMod: Handler = ({ ofproto, conn, message }) => {
  conn.requireChanges();
  applyPortMod(ofproto, decodePortMod(message), conn);
};

const QUEUE_ALL = 0xffffffff;

/** The port and the queue that a request is about; there is no queue, but one may ask for all. */
const checkQueues = (ofproto: Ofproto, conn: OfConn, message: Message): void => {
  const reader = new ByteReader(message.body);
  const port = readPort(reader, conn.minor);
  const isStats = message.row.kind === "queue_stats_request";
  const hasQueue = isStats || conn.minor >= 4;
  const queue = hasQueue ? reader.skip(conn.minor === 0 ? 2 : 0).u32() : QUEUE_ALL;
  const isAny = port === PORT.NONE || (port === PORT.ALL && conn.minor === 0);
  if (!isAny && ofproto.bridge.sw.port(port) === undefined)
    throw new OpenFlowError("OFPQOFC_BAD_PORT", `Cannot show queues of port ${port}: there is none`);
  if (queue !== QUEUE_ALL) throw new OpenFlowError("OFPQOFC_BAD_QUEUE", `Cannot show queue ${queue}: there is none`);
};

const queueStats: Handler = ({ ofproto, conn, message }) => {
  checkQueues(ofproto, conn, message);
  conn.multipart("OFPST_QUEUE reply", message.header.xid).end();
};

const queueDesc: Handler = ({ ofproto, conn, message }) => {
  checkQueues(ofproto, conn, message);
  conn.multipart("OFPST_QUEUE_DESC reply", message.header.xid).end();
};

const queueConfig: Handler = ({ ofproto, conn, message }) => {
  checkQueues(ofproto, conn, message);
  conn.reply("OFPT_QUEUE_GET_CONFIG_REPLY", message.header.xid, (writer) => {
    // The port of the request, in the width of the version.
    const portBytes = conn.minor === 0 ? 2 : 4;
    writer.put(message.body.subarray(0, portBytes)).zeros(8 - portBytes);
  });
};

export const PORT_HANDLERS: Readonly<Partial<Record<MessageName, Handler>>> = {
  "OFPST_PORT_DESC request": portDesc,
  "OFPST_PORT request": portStats,
  OFPT_PORT_MOD: portMod,
  "OFPST_QUEUE request": queueStats,
  "OFPST_QUEUE_DESC request": queueDesc,
  OFPT_QUEUE_GET_CONFIG_REQUEST: queueConfig,
};
