// Messages about a connection: roles, which messages a controller wants unasked for and in which form, bundles.

import { fromBytes } from "../big-endian.js";
import type { MinorVersion } from "../fields.js";
import { ByteReader, ByteWriter, properties, refuseProperty } from "./bytes.js";
import { OpenFlowError } from "./errors.js";
import { HEADER_BYTES, minorOf, type Message } from "./message.js";
import { PACKET_IN_FORMATS, type PacketInFormat } from "./packet-message.js";

export const ROLES = ["nochange", "equal", "primary", "secondary"] as const;
export type Role = (typeof ROLES)[number];

const NO_GENERATION = 0xffffffffffffffffn;

export interface WireRole {
  readonly role: Role;
  /** Absent where the message has none. */
  readonly generation?: bigint;
}

/** Reads a role request or reply, of OpenFlow or of Nicira, which does not know `nochange`. @throws {@link OpenFlowError} */
export const decodeRole = ({ row, body }: Message): WireRole => {
  const reader = new ByteReader(body);
  const number = reader.u32();
  const isNicira = row.kind === "nx_role";
  const role = ROLES[isNicira ? number + 1 : number];
  if (role === undefined)
    throw new OpenFlowError("OFPRRFC_BAD_ROLE", `Cannot take role ${number}: there is no such role`);
  if (isNicira) return { role };
  const generation = reader.skip(4).u64();
  const isRequest = row.name === "OFPT_ROLE_REQUEST";
  // A request that changes nothing has none.
  return (isRequest ? role === "nochange" : generation === NO_GENERATION) ? { role } : { role, generation };
};

/** The body of a role reply, in the form of the request. */
export const putRole = (
  writer: ByteWriter,
  { role, generation = NO_GENERATION }: WireRole,
  isNicira: boolean,
): void => {
  const number = ROLES.indexOf(role);
  if (isNicira) writer.u32(number - 1);
  else writer.u32(number).zeros(4).u64(generation);
};

/** Messages that a switch sends unasked for, in the order of their properties, with the reasons that there are. */
export const ASYNC_MESSAGES = [
  { name: "PACKET_IN", to13: 0x7, from14: 0x3f },
  { name: "PORT_STATUS", to13: 0x7, from14: 0x7 },
  { name: "FLOW_REMOVED", to13: 0x3f, from14: 0x3f },
  { name: "ROLE_STATUS", to13: 0x7, from14: 0x7 },
  { name: "TABLE_STATUS", to13: 0x18, from14: 0x18 },
  { name: "REQUESTFORWARD", to13: 0x3, from14: 0x3 },
] as const;

export type AsyncMessage = (typeof ASYNC_MESSAGES)[number]["name"];

/** For each message, a bit per reason for which it is sent. */
export type AsyncMasks = Readonly<Record<AsyncMessage, number>>;

/** What a controller gets as primary or equal, and what as secondary. */
export interface AsyncConfig {
  readonly primary: AsyncMasks;
  readonly secondary: AsyncMasks;
}

/** Bits of packet-in reasons that OVS tells apart and no message names: misses by a flow, and without one. */
export const EXPLICIT_MISS = 1 << 6;
export const IMPLICIT_MISS = 1 << 7;
const NO_MATCH = 1;

const OFF: AsyncMasks = {
  PACKET_IN: 0,
  PORT_STATUS: 0,
  FLOW_REMOVED: 0,
  ROLE_STATUS: 0,
  TABLE_STATUS: 0,
  REQUESTFORWARD: 0,
};

export const NO_ASYNC: AsyncConfig = { primary: OFF, secondary: OFF };

/** What a controller gets until it says otherwise. */
export const defaultAsync = (minor: MinorVersion): AsyncConfig => ({
  primary: {
    ...OFF,
    PACKET_IN: (0x3f & ~(1 << 2)) | EXPLICIT_MISS | (minor <= 2 ? IMPLICIT_MISS : 0),
    PORT_STATUS: 0x7,
    FLOW_REMOVED: minor >= 4 ? 0x3f : minor === 3 ? 0xf : 0x7,
  },
  secondary: { ...OFF, PORT_STATUS: 0x7 },
});

const allowed = (message: (typeof ASYNC_MESSAGES)[number], minor: MinorVersion): number =>
  minor >= 4 ? message.from14 : message.to13;

const set = (
  config: AsyncConfig,
  isPrimary: boolean,
  name: AsyncMessage,
  mask: number,
  minor: MinorVersion,
): AsyncConfig => {
  const misses = name === "PACKET_IN" && (mask & NO_MATCH) !== 0 ? EXPLICIT_MISS | (minor < 3 ? IMPLICIT_MISS : 0) : 0;
  const side = isPrimary ? "primary" : "secondary";
  return { ...config, [side]: { ...config[side], [name]: mask | misses } };
};

/**
 * Reads which messages a controller wants.
 *
 * @param basis - what holds where the message says nothing
 * @param loose - leaves out what is not known instead of refusing it
 * @throws {@link OpenFlowError}
 */
export const decodeAsync = (message: Message, basis: AsyncConfig, loose = false): AsyncConfig => {
  const reader = new ByteReader(message.body);
  const minor = minorOf(message);
  const isOld = message.row.name === "NXT_SET_ASYNC_CONFIG" || (minor === 3 && message.header.vendor === undefined);
  if (isOld) {
    let config: AsyncConfig = NO_ASYNC;
    for (const each of ASYNC_MESSAGES.slice(0, 3)) {
      config = set(config, true, each.name, reader.u32() & allowed(each, minor), minor);
      config = set(config, false, each.name, reader.u32() & allowed(each, minor), minor);
    }
    return config;
  }
  let config = basis;
  for (const property of properties(reader)) {
    const { type, body, experimenter } = property;
    const each = experimenter === undefined ? ASYNC_MESSAGES[type >>> 1] : undefined;
    if (each === undefined) {
      if (loose) continue;
      if (experimenter !== undefined) refuseProperty(property);
      throw new OpenFlowError("OFPACFC_UNSUPPORTED", `Cannot configure messages of type ${type}: there are none`);
    }
    if (body.left !== 4) throw new OpenFlowError("OFPBPC_BAD_LEN", `Cannot configure messages: want 8 bytes`);
    const mask = body.u32();
    if ((mask & ~allowed(each, minor)) !== 0 && !loose)
      throw new OpenFlowError(
        "OFPACFC_INVALID",
        `Cannot configure ${each.name}: there are no reasons 0x${mask.toString(16)}`,
      );
    config = set(config, type % 2 === 1, each.name, mask & allowed(each, minor), minor);
  }
  return config;
};

/** The body of a message that says which messages a controller gets. */
export const putAsync = (writer: ByteWriter, config: AsyncConfig, minor: MinorVersion): void => {
  const messages = minor >= 4 ? ASYNC_MESSAGES : ASYNC_MESSAGES.slice(0, 3);
  messages.forEach((each, i) => {
    const [primary, secondary] = [config.primary[each.name], config.secondary[each.name]].map(
      (mask) => mask & allowed(each, minor),
    ) as [number, number];
    if (minor < 4) writer.u32(primary).u32(secondary);
    else
      writer
        .u16(2 * i)
        .u16(8)
        .u32(secondary)
        .u16(2 * i + 1)
        .u16(8)
        .u32(primary);
  });
};

/** Which form of packet-in a controller wants. @throws {@link OpenFlowError} */
export const decodePacketInFormat = ({ body }: Message): PacketInFormat => {
  const number = new ByteReader(body).u32();
  const format = PACKET_IN_FORMATS[number];
  if (format === undefined)
    throw new OpenFlowError("OFPBRC_EPERM", `Cannot send packets in form ${number}: there is no such form`);
  return format;
};

/** Which form of flows a controller wants in OpenFlow 1.0; undefined = one that nobody knows. */
export const decodeFlowFormat = ({ body }: Message): "openflow10" | "nxm" | undefined => {
  const number = new ByteReader(body).u32();
  return number === 0 ? "openflow10" : number === 2 ? "nxm" : undefined;
};

/** Whether flow mods shall say their table. */
export const decodeTableIds = ({ body }: Message): boolean => body[0] !== 0;

/** The number that a controller wants to have. @throws {@link OpenFlowError} */
export const decodeControllerId = ({ body }: Message): number => {
  if (body.subarray(0, 6).some((byte) => byte !== 0))
    throw new OpenFlowError("NXBRC_MUST_BE_ZERO", "Cannot take a number: want zeros before it");
  return Number(fromBytes(body.subarray(6, 8)));
};

export const BUNDLE_STEPS = [
  "OPEN_REQUEST",
  "OPEN_REPLY",
  "CLOSE_REQUEST",
  "CLOSE_REPLY",
  "COMMIT_REQUEST",
  "COMMIT_REPLY",
  "DISCARD_REQUEST",
  "DISCARD_REPLY",
] as const;

export const BUNDLE_FLAGS = { atomic: 1, ordered: 2 } as const;

export interface WireBundleControl {
  readonly bundle: number;
  /** Index into {@link BUNDLE_STEPS}, or beyond. */
  readonly step: number;
  readonly flags: number;
}

export const decodeBundleControl = ({ body }: Message): WireBundleControl => {
  const reader = new ByteReader(body);
  return { bundle: reader.u32(), step: reader.u16(), flags: reader.u16() };
};

export const putBundleControl = (writer: ByteWriter, { bundle, step, flags }: WireBundleControl): ByteWriter =>
  writer.u32(bundle).u16(step).u16(flags);

export interface WireBundleAdd {
  readonly bundle: number;
  readonly flags: number;
  /** A whole message. */
  readonly inner: Uint8Array;
}

/** @throws {@link OpenFlowError} */
export const decodeBundleAdd = ({ header, body }: Message): WireBundleAdd => {
  const reader = new ByteReader(body);
  const bundle = reader.u32();
  const flags = reader.skip(2).u16();
  const rest = reader.rest();
  const refuse = (error: "OFPBFC_MSG_BAD_LEN" | "OFPBFC_BAD_VERSION" | "OFPBFC_MSG_BAD_XID", why: string): never => {
    throw new OpenFlowError(error, `Cannot add a message to a bundle: ${why}`);
  };
  if (rest.length < HEADER_BYTES) refuse("OFPBFC_MSG_BAD_LEN", `it has ${rest.length} bytes`);
  const inner = new ByteReader(rest);
  if (inner.u8() !== header.version) refuse("OFPBFC_BAD_VERSION", "it is of another version");
  const length = inner.skip(1).u16();
  if (length < HEADER_BYTES || length > rest.length)
    refuse("OFPBFC_MSG_BAD_LEN", `it says that it has ${length} bytes`);
  if (inner.u32() !== header.xid) refuse("OFPBFC_MSG_BAD_XID", "it has another transaction number");
  return { bundle, flags, inner: rest.subarray(0, length) };
};
