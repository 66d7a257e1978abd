// What a controller says of its own connection: its role, what it wants to hear and how, bundles.

import {
  BUNDLE_STEPS,
  decodeAsync,
  decodeBundleControl,
  decodeControllerId,
  decodeFlowFormat,
  decodePacketInFormat,
  decodeRole,
  decodeTableIds,
  OpenFlowError,
  putAsync,
  putBundleControl,
  putRole,
  type MessageName,
} from "#compiler";
import { addToBundle, closeBundle, commitBundle, discardBundle, openBundle } from "../bundles.js";
import { DEFAULT_MISS_SEND_LEN, type OfConn } from "../ofconn.js";
import type { Ofproto } from "../ofproto.js";
import type { Handler } from "../request.js";

const role: Handler = ({ ofproto, conn, message }) => {
  const isNicira = message.row.kind === "nx_role";
  const wanted = decodeRole(message);
  if (wanted.role !== "nochange") {
    if (wanted.role !== "equal" && wanted.generation !== undefined) ofproto.takeGeneration(wanted.generation);
    ofproto.setRole(conn, wanted.role);
  }
  const { generation } = ofproto;
  conn.reply(isNicira ? "NXT_ROLE_REPLY" : "OFPT_ROLE_REPLY", message.header.xid, (writer) =>
    putRole(writer, { role: conn.role, ...(generation === undefined ? {} : { generation }) }, isNicira),
  );
};

const setAsync: Handler = ({ ofproto, conn, message }) => {
  conn.async = decodeAsync(message, conn.async);
  if (conn.kind === "service" && conn.missSendLen === 0) conn.missSendLen = DEFAULT_MISS_SEND_LEN;
  ofproto.missesChanged();
};

const getAsync: Handler = ({ conn, message }) =>
  conn.reply("OFPT_GET_ASYNC_REPLY", message.header.xid, (writer) => putAsync(writer, conn.async, conn.minor));

const flowFormat: Handler = ({ conn, message }) => {
  const format = decodeFlowFormat(message);
  if (format === undefined) throw new OpenFlowError("OFPBRC_EPERM", "Cannot send flows in this form: there is none");
  conn.flowFormat = format;
};

const tableIds: Handler = ({ conn, message }) => {
  conn.tableIds = decodeTableIds(message);
};

const packetInFormat: Handler = ({ conn, message }) => {
  conn.packetInFormat = decodePacketInFormat(message);
};

const controllerId: Handler = ({ ofproto, conn, message }) => {
  conn.controllerId = decodeControllerId(message);
  ofproto.missesChanged();
};

/** OVS says how old flows are where it can, asked for it or not. */
const flowAge: Handler = () => undefined;

/** What a step of a bundle does. */
const STEPS: Readonly<
  Partial<
    Record<(typeof BUNDLE_STEPS)[number], (ofproto: Ofproto, conn: OfConn, bundle: number, flags: number) => void>
  >
> = {
  OPEN_REQUEST: (_, conn, bundle, flags) => openBundle(conn, bundle, flags),
  CLOSE_REQUEST: (_, conn, bundle, flags) => closeBundle(conn, bundle, flags),
  COMMIT_REQUEST: commitBundle,
  DISCARD_REQUEST: (_, conn, bundle) => discardBundle(conn, bundle),
};

const bundleControl: Handler = ({ ofproto, conn, message }) => {
  conn.requireChanges();
  const { bundle, step, flags } = decodeBundleControl(message);
  const name = BUNDLE_STEPS[step];
  if (name === undefined) return;
  const take = STEPS[name];
  if (take === undefined) throw new OpenFlowError("OFPBFC_BAD_TYPE", `Cannot take ${name}: it is what a switch says`);
  take(ofproto, conn, bundle, flags);
  const reply = conn.minor === 3 ? "ONFT_BUNDLE_CONTROL" : "OFPT_BUNDLE_CONTROL";
  conn.reply(reply, message.header.xid, (writer) => putBundleControl(writer, { bundle, step: step + 1, flags: 0 }));
};

const bundleAdd: Handler = ({ conn, message, bytes }) => {
  conn.requireChanges();
  addToBundle(conn, message, bytes);
};

/** Answers and news: OVS takes no notice of those that come its way. */
const ignore: Handler = () => undefined;

export const CONNECTION_HANDLERS: Readonly<Partial<Record<MessageName, Handler>>> = {
  OFPT_ROLE_REQUEST: role,
  NXT_ROLE_REQUEST: role,
  OFPT_SET_ASYNC: setAsync,
  NXT_SET_ASYNC_CONFIG: setAsync,
  NXT_SET_ASYNC_CONFIG2: setAsync,
  OFPT_GET_ASYNC_REQUEST: getAsync,
  NXT_SET_FLOW_FORMAT: flowFormat,
  NXT_FLOW_MOD_TABLE_ID: tableIds,
  NXT_SET_PACKET_IN_FORMAT: packetInFormat,
  NXT_SET_CONTROLLER_ID: controllerId,
  NXT_FLOW_AGE: flowAge,
  OFPT_BUNDLE_CONTROL: bundleControl,
  ONFT_BUNDLE_CONTROL: bundleControl,
  OFPT_BUNDLE_ADD_MESSAGE: bundleAdd,
  ONFT_BUNDLE_ADD_MESSAGE: bundleAdd,
  OFPT_HELLO: ignore,
  OFPT_ERROR: ignore,
};
