// Bundles of OpenFlow: changes that were sent one by one and are made together, or not at all (OVS: ofp_bundle).

import {
  ByteReader,
  applyFlowMod,
  applyGroupMod,
  BUNDLE_FLAGS,
  decodeBundleAdd,
  decodeGroupMod,
  decodeMessage,
  decodePacketOut,
  decodePortMod,
  encodeError,
  OpenFlowError,
  translateOut,
  type BundlePacket,
  type FlowMod,
  type GroupMod,
  type Message,
  type OpenFlowErrorName,
  type WirePacketOut,
  type WirePortMod,
} from "#compiler";
import { monotonicMs } from "../clock.js";
import { openFlowErrorOf } from "./errors.js";
import { readFlowMod } from "./handlers/flows.js";
import { checkGroupMod } from "./handlers/groups.js";
import { checkPacketOut } from "./handlers/packets.js";
import { applyPortMod, checkPortMod } from "./handlers/ports.js";
import type { OfConn } from "./ofconn.js";
import type { Ofproto } from "./ofproto.js";

/** One change of a bundle, and the message that it came in. */
type Entry = { readonly bytes: Uint8Array; readonly xid: number } & (
  | { readonly kind: "flow"; readonly mod: FlowMod }
  | { readonly kind: "group"; readonly mod: GroupMod }
  | { readonly kind: "port"; readonly mod: WirePortMod }
  | { readonly kind: "packet"; readonly mod: WirePacketOut }
);

export interface Bundle {
  readonly flags: number;
  isClosed: boolean;
  usedMs: number;
  readonly entries: Entry[];
}

const refuse = (error: OpenFlowErrorName, why: string): never => {
  throw new OpenFlowError(error, `Cannot go on with a bundle: ${why}`);
};

/** What a message changes; its bytes are copied. */
const entryOf = (conn: OfConn, message: Message, bytes: Uint8Array): Entry => {
  const base = { bytes, xid: message.header.xid };
  switch (message.row.kind) {
    case "flow_mod_10":
    case "flow_mod_11":
    case "flow_mod_nx":
      return { ...base, kind: "flow", mod: readFlowMod(conn, message) };
    case "group_mod": {
      const mod = decodeGroupMod(message);
      checkGroupMod(mod);
      return { ...base, kind: "group", mod };
    }
    case "port_mod":
      return { ...base, kind: "port", mod: decodePortMod(message) };
    case "packet_out": {
      const mod = decodePacketOut(message);
      checkPacketOut(conn, mod);
      return { ...base, kind: "packet", mod };
    }
    default:
      return refuse("OFPBFC_MSG_UNSUP", `${message.row.name} cannot be part of one`);
  }
};

const readInner = (inner: Uint8Array): Message => {
  try {
    return decodeMessage(inner);
  } catch {
    return refuse("OFPBFC_MSG_UNSUP", "a message in it cannot be read");
  }
};

const newBundle = (flags: number): Bundle => ({ flags, isClosed: false, usedMs: monotonicMs(), entries: [] });

const find = (conn: OfConn, id: number): Bundle =>
  conn.bundles.get(id) ?? refuse("OFPBFC_BAD_ID", `there is no bundle ${id}`);

/** @throws {@link OpenFlowError}; the bundle is gone then */
const requireOpen = (conn: OfConn, id: number, bundle: Bundle, flags: number): void => {
  if (!bundle.isClosed && bundle.flags === flags) return;
  conn.bundles.delete(id);
  if (bundle.isClosed) refuse("OFPBFC_BUNDLE_CLOSED", `bundle ${id} is closed`);
  refuse("OFPBFC_BAD_FLAGS", `bundle ${id} has other flags`);
};

export const openBundle = (conn: OfConn, id: number, flags: number): void => {
  if (conn.bundles.delete(id)) refuse("OFPBFC_BAD_ID", `there is a bundle ${id} already`);
  conn.bundles.set(id, newBundle(flags));
};

export const closeBundle = (conn: OfConn, id: number, flags: number): void => {
  const bundle = find(conn, id);
  requireOpen(conn, id, bundle, flags);
  bundle.isClosed = true;
};

export const discardBundle = (conn: OfConn, id: number): void => {
  find(conn, id);
  conn.bundles.delete(id);
};

/** Adds a message to its bundle, which is opened if need be. @param bytes - of the message that carries it */
export const addToBundle = (conn: OfConn, message: Message, bytes: Uint8Array): void => {
  const { bundle: id, flags, inner } = decodeBundleAdd({ ...message, body: message.body.slice() });
  const entry = entryOf(conn, readInner(inner), bytes.slice());
  let bundle = conn.bundles.get(id);
  if (bundle === undefined) conn.bundles.set(id, (bundle = newBundle(flags)));
  else requireOpen(conn, id, bundle, flags);
  bundle.usedMs = monotonicMs();
  bundle.entries.push(entry);
};

/** Makes one change; a packet is translated, and sent later. */
const apply = (ofproto: Ofproto, entry: Entry, isAtomic: boolean, packets: BundlePacket[]): void => {
  const { sw } = ofproto.bridge;
  switch (entry.kind) {
    case "flow":
      applyFlowMod(sw, entry.mod, monotonicMs());
      return;
    case "group":
      applyGroupMod(sw, entry.mod, monotonicMs());
      return;
    case "port":
      // Ports are configured when all else is done, which nothing can take back.
      if (isAtomic) refuse("OFPBFC_MSG_FAILED", "a port mod cannot be part of an atomic one");
      checkPortMod(ofproto, entry.mod);
      return;
    case "packet":
      packets.push(translateOut(sw, entry.mod));
  }
};

/** Makes all changes of a bundle, or none. The bundle is gone afterwards. @throws {@link OpenFlowError} */
export const commitBundle = (ofproto: Ofproto, conn: OfConn, id: number, flags: number): void => {
  const bundle = find(conn, id);
  conn.bundles.delete(id);
  if (bundle.flags !== flags) refuse("OFPBFC_BAD_FLAGS", `bundle ${id} has other flags`);
  const isAtomic = (flags & BUNDLE_FLAGS.atomic) !== 0;
  const packets: BundlePacket[] = [];
  const commit = (): void => {
    for (const entry of bundle.entries) {
      try {
        apply(ofproto, entry, isAtomic, packets);
      } catch (error) {
        const name = openFlowErrorOf(error);
        if (name === undefined) throw error;
        // One error for the message that is wrong, one for the commit.
        conn.send(encodeError(name, conn.version, entry.bytes));
        refuse("OFPBFC_MSG_FAILED", `a message of bundle ${id} was refused`);
      }
    }
  };
  // Reports on all of it name the first message.
  const [first] = bundle.entries;
  const xid = first === undefined ? 0 : new ByteReader(first.bytes).skip(4).u32();
  ofproto.change(() => ofproto.bridge.sw.transaction(commit), { conn, xid });
  for (const entry of bundle.entries) if (entry.kind === "port") applyPortMod(ofproto, entry.mod, conn);
  for (const packet of packets) ofproto.bridge.sendOut(packet);
};

/** A bundle that nobody adds to for so long is given up (OVS: BUNDLE_IDLE_TIMEOUT_DEFAULT). */
const BUNDLE_IDLE_MS = 10_000;

/** Gives up the bundles that were forgotten. */
export const expireBundles = (conn: OfConn, nowMs: number): void => {
  for (const [id, { usedMs }] of conn.bundles) if (nowMs - usedMs > BUNDLE_IDLE_MS) conn.bundles.delete(id);
};
