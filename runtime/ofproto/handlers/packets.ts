// Packets that controllers send.

import {
  checkWireActions,
  decodePacketOut,
  extract,
  newFlow,
  OpenFlowError,
  translateOut,
  type MessageName,
  type WirePacketOut,
} from "#compiler";
import type { OfConn } from "../ofconn.js";
import type { Handler } from "../request.js";

const EXACT = newFlow().fill(0xffffffff);
/** The packet that is being checked. */
const value = newFlow();

/** @throws {@link OpenFlowError} for actions that do not fit the packet, or a packet that should wait here */
export const checkPacketOut = (conn: OfConn, { buffer, packet, inPort, metadata, actions }: WirePacketOut): void => {
  if (buffer !== undefined)
    throw new OpenFlowError("OFPBRC_BUFFER_UNKNOWN", `Cannot send packet ${buffer}: none waits`);
  extract(packet, packet.length, inPort, value);
  for (let i = 0; i < value.length; i++) value[i]! |= metadata.value[i]!;
  checkWireActions(actions, { value, mask: EXACT }, 0, conn.protocol);
};

const packetOut: Handler = ({ ofproto, conn, message }) => {
  conn.requireChanges();
  const out = decodePacketOut(message);
  checkPacketOut(conn, out);
  ofproto.bridge.sw.checkActions(out.actions);
  ofproto.bridge.sendOut(translateOut(ofproto.bridge.sw, out));
};

export const PACKET_HANDLERS: Readonly<Partial<Record<MessageName, Handler>>> = {
  OFPT_PACKET_OUT: packetOut,
};
