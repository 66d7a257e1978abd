// Headers of OpenFlow messages: which message it is, by version, type, kind of statistics and extension, and whether its
// length fits. Reads any bytes; what OVS 3.1 refuses is refused with the error that it answers with.

import { NotSupportedError } from "ebpf-assembler";
import { read16, read32 } from "../../packet/words.js";
import { OpenFlowError } from "./errors.js";

/** Bytes of the header that all messages have: version, type, length(16), xid(32). */
export const HEADER_BYTES = 8;

const VENDOR_TYPE = 4;
const NICIRA = 0x00002320;
const ONF = 0x4f4e4600;
const VENDOR_STAT = 0xffff;

/** What a message is, before its body is looked at. */
export interface MessageHeader {
  /** Version byte: 1 for OpenFlow 1.0. */
  readonly version: number;
  readonly type: number;
  readonly xid: number;
  /** Kind of statistics (multipart type), of messages that ask for them or hold them. */
  readonly stat?: number;
  readonly vendor?: number;
  readonly subtype?: number;
  /** Bytes before the body. */
  readonly size: number;
}

const isStats = (version: number, type: number): boolean =>
  version === 1 ? type === 16 || type === 17 : type === 18 || type === 19;

const tooShort = (want: number, got: number): OpenFlowError =>
  new OpenFlowError("OFPBRC_BAD_LEN", `Cannot read a message: want a header of ${want} bytes, got ${got}`);

const badVendor = (vendor: number): OpenFlowError =>
  new OpenFlowError("OFPBRC_BAD_VENDOR", `Cannot read a message of vendor 0x${vendor.toString(16)}: it is not known`);

/** Reads the header, as far as it says which message it is. @throws {@link OpenFlowError} */
export const decodeMessageHeader = (b: Uint8Array): MessageHeader => {
  const need = (bytes: number): void => {
    if (b.length < bytes) throw tooShort(bytes, b.length);
  };
  need(HEADER_BYTES);
  const base = { version: b[0]!, type: b[1]!, xid: read32(b, 4) };
  if (base.type === VENDOR_TYPE) {
    need(12);
    const vendor = read32(b, 8);
    if (vendor !== NICIRA && vendor !== ONF) throw badVendor(vendor);
    need(16);
    return { ...base, vendor, subtype: read32(b, 12), size: 16 };
  }
  if (!isStats(base.version, base.type)) return { ...base, size: HEADER_BYTES };
  const size = base.version === 1 ? 12 : 16;
  need(size);
  const stat = read16(b, HEADER_BYTES);
  if (stat !== VENDOR_STAT) return { ...base, stat, size };
  need(size + 4);
  const vendor = read32(b, size);
  const isKnown = vendor === NICIRA || (vendor === ONF && base.version > 1);
  if (!isKnown) throw badVendor(vendor);
  // Nicira statistics of OpenFlow 1.0 have four bytes of padding behind.
  const whole = size + (base.version === 1 ? 12 : 8);
  need(whole);
  return { ...base, stat, vendor, subtype: read32(b, size + 4), size: whole };
};

/** Messages that are read. */
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
  | "flow_request_10"
  | "flow_request_nx"
  | "flow_request_11";

/** One message in one range of versions. */
export interface MessageRow {
  readonly kind: MessageKind;
  /** The name that OVS prints. */
  readonly name: string;
  readonly type: number;
  /** Version bytes, both included. */
  readonly versions: Versions;
  readonly stat?: number;
  readonly vendor?: number;
  readonly subtype?: number;
  /** Least bytes of the body, and what may follow in multiples; 0 = nothing. */
  readonly body: Body;
}

type Versions = readonly [from: number, to: number];
type Body = readonly [least: number, multiple: number];

const ANY: Versions = [1, 255];
const ALL: Versions = [1, 6];
const ONLY_10: Versions = [1, 1];
const FROM_11: Versions = [2, 6];
const NOTHING: Body = [0, 0];

const row = (kind: MessageKind, name: string, type: number, versions: Versions, body: Body): MessageRow => ({
  kind,
  name,
  type,
  versions,
  body,
});

/** A message of Nicira. */
const nicira = (kind: MessageKind, name: string, subtype: number, body: Body): MessageRow => ({
  ...row(kind, name, VENDOR_TYPE, ALL, body),
  vendor: NICIRA,
  subtype,
});

/** A request for statistics of OpenFlow 1.0, or the answer to one. */
const stats10 = (kind: MessageKind, name: string, reply: 0 | 1, stat: number, body: Body): MessageRow => ({
  ...row(kind, name, 16 + reply, ONLY_10, body),
  stat,
});

/** The same from OpenFlow 1.1 on. */
const stats11 = (kind: MessageKind, name: string, reply: 0 | 1, stat: number, body: Body): MessageRow => ({
  ...row(kind, name, 18 + reply, FROM_11, body),
  stat,
});

/** A statistic of Nicira in OpenFlow 1.0. */
const niciraStats = (kind: MessageKind, name: string, reply: 0 | 1, subtype: number, body: Body): MessageRow => ({
  ...row(kind, name, 16 + reply, ONLY_10, body),
  stat: VENDOR_STAT,
  vendor: NICIRA,
  subtype,
});

/** The messages that are read. */
export const MESSAGES: readonly MessageRow[] = [
  row("hello", "OFPT_HELLO", 0, ANY, [0, 1]),
  row("error", "OFPT_ERROR", 1, ALL, [4, 1]),
  row("echo", "OFPT_ECHO_REQUEST", 2, ALL, [0, 1]),
  row("echo", "OFPT_ECHO_REPLY", 3, ALL, [0, 1]),
  row("empty", "OFPT_FEATURES_REQUEST", 5, ALL, NOTHING),
  row("features", "OFPT_FEATURES_REPLY", 6, [4, 6], [24, 0]),
  row("empty", "OFPT_GET_CONFIG_REQUEST", 7, ALL, NOTHING),
  row("config", "OFPT_GET_CONFIG_REPLY", 8, ALL, [4, 0]),
  row("config", "OFPT_SET_CONFIG", 9, ALL, [4, 0]),
  row("flow_removed_10", "OFPT_FLOW_REMOVED", 11, ONLY_10, [80, 0]),
  row("flow_removed_11", "OFPT_FLOW_REMOVED", 11, [2, 5], [40, 8]),
  row("flow_mod_10", "OFPT_FLOW_MOD", 14, ONLY_10, [64, 8]),
  row("flow_mod_11", "OFPT_FLOW_MOD", 14, FROM_11, [40, 8]),
  row("empty", "OFPT_BARRIER_REQUEST", 18, ONLY_10, NOTHING),
  row("empty", "OFPT_BARRIER_REPLY", 19, ONLY_10, NOTHING),
  row("empty", "OFPT_BARRIER_REQUEST", 20, FROM_11, NOTHING),
  row("empty", "OFPT_BARRIER_REPLY", 21, FROM_11, NOTHING),
  row("role", "OFPT_ROLE_REQUEST", 24, [3, 6], [16, 0]),
  row("role", "OFPT_ROLE_REPLY", 25, [3, 6], [16, 0]),
  nicira("nx_role", "NXT_ROLE_REQUEST", 10, [4, 0]),
  nicira("nx_role", "NXT_ROLE_REPLY", 11, [4, 0]),
  nicira("flow_mod_nx", "NXT_FLOW_MOD", 13, [32, 8]),
  nicira("flow_removed_nx", "NXT_FLOW_REMOVED", 14, [40, 8]),
  stats10("flow_request_10", "OFPST_FLOW request", 0, 1, [44, 0]),
  stats10("flow_request_10", "OFPST_AGGREGATE request", 0, 2, [44, 0]),
  stats11("flow_request_11", "OFPST_FLOW request", 0, 1, [32, 8]),
  stats11("flow_request_11", "OFPST_AGGREGATE request", 0, 2, [32, 8]),
  niciraStats("flow_request_nx", "NXST_FLOW request", 0, 0, [8, 8]),
  niciraStats("flow_request_nx", "NXST_AGGREGATE request", 0, 1, [8, 8]),
];

/** Highest message type of each version, by version byte. */
const LAST_TYPE: Readonly<Record<number, number>> = { 1: 21, 2: 23, 3: 25, 4: 29, 5: 34, 6: 35 };

/** A message with its header read; `body` is what follows. */
export interface Message {
  readonly header: MessageHeader;
  readonly row: MessageRow;
  readonly body: Uint8Array;
}

/**
 * Finds out which message it is, and whether its length fits.
 *
 * @param bytes - as many as the header says
 * @throws {@link OpenFlowError}
 * @throws {@link NotSupportedError} for a message that OVS reads and we do not
 */
export const decodeMessage = (bytes: Uint8Array): Message => {
  const header = decodeMessageHeader(bytes);
  const { version, type, stat, vendor, subtype, size } = header;
  const found = MESSAGES.find(
    (m) =>
      m.type === type &&
      m.versions[0] <= version &&
      version <= m.versions[1] &&
      m.stat === stat &&
      m.vendor === vendor &&
      m.subtype === subtype,
  );
  if (found === undefined) {
    const what = `type ${type} of version 0x${version.toString(16).padStart(2, "0")}`;
    if (type > (LAST_TYPE[version] ?? 0)) {
      throw new OpenFlowError("OFPBRC_BAD_TYPE", `Cannot read a message of ${what}: there is no such type`);
    }
    const kind = stat === undefined ? "" : `, statistics ${stat}`;
    throw new NotSupportedError(
      `Reading messages of ${what}${kind}${subtype === undefined ? "" : `, subtype ${subtype}`}`,
    );
  }
  const [least, multiple] = found.body;
  const rest = bytes.length - size - least;
  if (rest < 0 || (multiple === 0 ? rest !== 0 : rest % multiple !== 0)) {
    throw new OpenFlowError(
      "OFPBRC_BAD_LEN",
      `Cannot read ${found.name}: its body cannot have ${bytes.length - size} bytes`,
    );
  }
  return { header, row: found, body: bytes.subarray(size) };
};
