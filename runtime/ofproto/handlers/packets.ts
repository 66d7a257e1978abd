// Packets that controllers send.

import {
  checkWireActions,
  decodeContinuation,
  decodePacketIn,
  decodePacketOut,
  extract,
  get,
  newFlow,
  OpenFlowError,
  PACKET_WORDS_AT,
  translateOut,
  type Frozen,
  type MessageName,
  type WirePacketOut,
  type WireStep,
} from "#compiler";
import { equalBytes } from "ebpf-assembler";
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

/** Nothing at all is left to do, not even to look a table up. */
const NOTHING_LEFT: readonly WireStep[] = [{ kind: "note", data: new Uint8Array(0) }];

/** A controller is done with a packet that waited for it. */
const resume: Handler = ({ ofproto, conn, message }) => {
  const { packet, metadata, continuation = new Uint8Array(0) } = decodePacketIn(message, true);
  const { bridge, steps, actionSet, stack } = decodeContinuation(continuation, conn.minor);
  if (!equalBytes(bridge, ofproto.uuid))
    throw new OpenFlowError("NXR_STALE", "Cannot go on with a packet: it is of another bridge");
  const left = steps.length === 0 ? NOTHING_LEFT : steps;
  const frozen: Frozen = { id: 0, steps: left, actionSet, stack, metadata: metadata.value.slice(0, PACKET_WORDS_AT) };
  ofproto.bridge.slowPath.resume(packet.slice(), frozen, get(metadata.value, "packet_type"));
};

export const PACKET_HANDLERS: Readonly<Partial<Record<MessageName, Handler>>> = {
  OFPT_PACKET_OUT: packetOut,
  NXT_RESUME: resume,
};
