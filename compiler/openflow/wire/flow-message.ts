// Messages about flows: flow mods, flow removed, requests for flow statistics, in the forms of OpenFlow 1.0, of Nicira and
// of OpenFlow 1.1 and later.

import { etherType, matchesField } from "../field-access.js";
import { foreignAddress, normalizeMatch } from "../normalize.js";
import { read16, read32 } from "../../packet/words.js";
import type { FlowCommand } from "../parse/flows.js";
import type { FlowFlag, Match } from "../types.js";
import { decodeNxm, decodeOxm, type DecodedMatch } from "./decode-match.js";
import type { CookieMatch } from "./encode-match.js";
import { OpenFlowError } from "./errors.js";
import {
  decodeMatch10,
  decodeMatch11,
  encodeMatch10,
  encodeMatch11,
  MATCH_10_BYTES,
  MATCH_11_BYTES,
  MATCH_TYPE_STANDARD,
} from "./fixed-match.js";
import { encodeNxm, encodeOxm } from "./encode-match.js";
import { ByteReader, type ByteWriter } from "./bytes.js";
import { putOxs, readOxs } from "./oxs.js";
import type { MinorVersion } from "../fields.js";
import { minorOf, type Message } from "./message.js";
import { port16, port32 } from "./port-number.js";

/** A flow mod but for its actions. */
export interface WireFlowMod {
  readonly command: FlowCommand;
  readonly table: number;
  readonly match: Match;
  readonly priority: number;
  /** Absent = none is set. */
  readonly newCookie?: bigint | undefined;
  readonly cookie: CookieMatch;
  readonly idleTimeout: number;
  readonly hardTimeout: number;
  readonly importance: number;
  /** Packet that waits in the switch; absent = none. */
  readonly buffer?: number | undefined;
  readonly outPort: number;
  /** {@link ANY_GROUP}: whatever groups a flow uses. */
  readonly outGroup: number;
  readonly flags: readonly FlowFlag[];
  /** Actions of OpenFlow 1.0, instructions of later versions. */
  readonly actions: Uint8Array;
}

/** Group number that stands for any (OFPG_ANY). */
export const ANY_GROUP = 0xffffffff;

const COMMANDS: readonly FlowCommand[] = ["add", "modify", "modify_strict", "delete", "delete_strict"];
const NO_COOKIE = 0xffffffffffffffffn;
const NO_BUFFER = 0xffffffff;
const ALL_TABLES = 0xff;

const cookieAt = (b: Uint8Array, at: number): bigint => {
  const [high, low] = [read32(b, at), read32(b, at + 4)];
  return high === 0 ? BigInt(low) : (BigInt(high) << 32n) | BigInt(low);
};

/** A match of OpenFlow 1.1 or later, and the bytes behind it. @throws {@link OpenFlowError} */
export const pullMatch = (b: Uint8Array): { readonly match: Match; readonly rest: Uint8Array } => {
  if (b.length >= 4 && read16(b, 0) === MATCH_TYPE_STANDARD) {
    if (read16(b, 2) !== MATCH_11_BYTES || b.length < MATCH_11_BYTES) {
      throw new OpenFlowError("OFPBMC_BAD_LEN", `Cannot read a match: want ${MATCH_11_BYTES} bytes`);
    }
    return { match: decodeMatch11(b), rest: b.subarray(MATCH_11_BYTES) };
  }
  const { match, size } = decodeOxm(b);
  return { match, rest: b.subarray(size) };
};

interface Flag {
  readonly flag: FlowFlag;
  readonly bit: number;
  /** Minor versions, both included. */
  readonly since: number;
}

const FLAGS: readonly Flag[] = [
  { flag: "send_flow_rem", bit: 1, since: 0 },
  { flag: "check_overlap", bit: 2, since: 0 },
  { flag: "reset_counts", bit: 4, since: 2 },
  { flag: "no_packet_counts", bit: 8, since: 3 },
  { flag: "no_byte_counts", bit: 16, since: 3 },
];

const NO_FLAGS: readonly FlowFlag[] = [];

export const decodeFlowFlags = (bits: number, minor: number): readonly FlowFlag[] => {
  if (bits === 0) return NO_FLAGS;
  const known = FLAGS.filter(({ since }) => since <= minor);
  const left = known.reduce((rest, { bit }) => rest & ~bit, bits);
  if (left !== 0) {
    throw new OpenFlowError(
      "OFPFMFC_BAD_FLAGS",
      `Cannot use flags 0x${bits.toString(16)}: 0x${left.toString(16)} are unknown`,
    );
  }
  return known.filter(({ bit }) => (bits & bit) !== 0).map(({ flag }) => flag);
};

/** Flags in the bits of a version, without those that it does not have. */
export const flowFlagBits = (flags: readonly FlowFlag[], minor: number): number =>
  FLAGS.reduce((bits, { flag, bit, since }) => (since <= minor && flags.includes(flag) ? bits | bit : bits), 0);

const commandOf = (number: number): FlowCommand => {
  const command = COMMANDS[number];
  if (command === undefined) {
    throw new OpenFlowError(
      "OFPFMFC_BAD_COMMAND",
      `Cannot do flow command ${number}: want 0 to ${COMMANDS.length - 1}`,
    );
  }
  return command;
};

/** Addresses of connections are of the packet's kind. */
const checkAddresses = (match: Match): void => {
  const field = foreignAddress(match);
  if (field === undefined || !matchesField(match, field)) return;
  const type = etherType(match.value).toString(16);
  throw new OpenFlowError("OFPBAC_MATCH_INCONSISTENT", `Cannot match ${field} in packets of type 0x${type}`);
};

/** What the forms of OpenFlow 1.0 and of Nicira have in common, from the command on. */
const decodeBase10 = (b: Uint8Array, at: number) => ({
  command: b[at + 1]!,
  table: b[at]!,
  idleTimeout: read16(b, at + 2),
  hardTimeout: read16(b, at + 4),
  importance: 0,
  ...(read32(b, at + 8) === NO_BUFFER ? {} : { buffer: read32(b, at + 8) }),
  outPort: port16(read16(b, at + 12)),
  outGroup: ANY_GROUP,
});

type Decoded = Omit<WireFlowMod, "command" | "flags"> & { readonly command: number; readonly flags: number };

/** OpenFlow 1.0's flag for entries that work without a controller, of which a switch has none. */
const EMERGENCY = 4;

/** @throws {@link OpenFlowError} */
const refuseEmergency = ({ flags, idleTimeout, hardTimeout }: Decoded, minor: number): void => {
  if (minor > 0 || (flags & EMERGENCY) === 0) return;
  if (idleTimeout !== 0 || hardTimeout !== 0)
    throw new OpenFlowError("OFPFMFC_BAD_EMERG_TIMEOUT", "Cannot keep a flow for emergencies: it has a timeout");
  throw new OpenFlowError("OFPFMFC_TABLE_FULL", "Cannot keep a flow for emergencies: there is no table for them");
};

const cookieOf = (cookie: bigint) => (cookie === NO_COOKIE ? {} : { newCookie: cookie });

const decode10 = (b: Uint8Array): Decoded => {
  const match = decodeMatch10(b);
  normalizeMatch(match);
  const isExact = (read32(b, 0) & 0x3fffff) === 0;
  const at = MATCH_10_BYTES + 8;
  return {
    ...decodeBase10(b, at),
    match,
    priority: isExact ? 0xffff : read16(b, at + 6),
    ...cookieOf(cookieAt(b, MATCH_10_BYTES)),
    cookie: { value: 0n, mask: 0n },
    flags: read16(b, at + 14),
    actions: b.subarray(at + 16),
  };
};

const NO_COOKIE_MATCH: CookieMatch = { value: 0n, mask: 0n };

const decodeNx = (b: Uint8Array): Decoded => {
  const length = read16(b, 24);
  const { match, cookie = NO_COOKIE_MATCH }: DecodedMatch = decodeNxm(b, 32, length, { cookies: true });
  if (b[9] === 0 && cookie.mask !== 0n) {
    throw new OpenFlowError("NXBRC_NXM_INVALID", "Cannot add a flow with a match on cookies: want a cookie alone");
  }
  return {
    ...decodeBase10(b, 8),
    match,
    priority: read16(b, 14),
    ...cookieOf(cookieAt(b, 0)),
    cookie,
    flags: read16(b, 22),
    actions: b.subarray(32 + ((length + 7) & ~7)),
  };
};

const decode11 = (b: Uint8Array, minor: number): Decoded => {
  const { match, rest } = pullMatch(b.subarray(40));
  const command = b[17]!;
  const table = b[16]!;
  const [cookie, mask] = [cookieAt(b, 0), cookieAt(b, 8)];
  const changes = minor === 1 && (command === 1 || command === 2) && mask === 0n;
  const sets = command === 0 || changes;
  const deletes = command === 3 || command === 4;
  if (table === ALL_TABLES && (minor === 1 || !deletes)) {
    throw new OpenFlowError("OFPFMFC_BAD_TABLE_ID", "Cannot use all tables: only deleting can");
  }
  const buffer = read32(b, 24);
  return {
    command,
    table,
    match,
    priority: read16(b, 22),
    newCookie: sets && cookie !== NO_COOKIE ? cookie : undefined,
    cookie: sets ? NO_COOKIE_MATCH : { value: cookie, mask },
    idleTimeout: read16(b, 18),
    hardTimeout: read16(b, 20),
    importance: minor >= 4 && command === 0 ? read16(b, 38) : 0,
    buffer: buffer === NO_BUFFER ? undefined : buffer,
    outPort: port32(read32(b, 28)),
    outGroup: read32(b, 32),
    flags: read16(b, 36),
    actions: rest,
  };
};

/**
 * Reads a flow mod, its actions left as bytes.
 *
 * @param tableIds - whether flow mods of OpenFlow 1.0 and of Nicira have the number of a table in the upper byte of the
 *   command, as the peer may have asked for
 * @throws {@link OpenFlowError}
 */
export const decodeFlowMod = (message: Message, tableIds = true): WireFlowMod => {
  const { row, body } = message;
  const minor = minorOf(message);
  const mod =
    row.kind === "flow_mod_10" ? decode10(body) : row.kind === "flow_mod_nx" ? decodeNx(body) : decode11(body, minor);
  checkAddresses(mod.match);
  const isPlain = row.kind !== "flow_mod_11" && !tableIds;
  const command = commandOf(isPlain ? (mod.table << 8) | mod.command : mod.command);
  const flags = decodeFlowFlags(minor === 0 ? mod.flags & ~EMERGENCY : mod.flags, minor);
  refuseEmergency(mod, minor);
  return Object.assign(mod, isPlain ? { table: ALL_TABLES, command, flags } : { command, flags });
};

/** A flow that is gone, as the switch tells it. */
export interface WireFlowRemoved {
  readonly match: Match;
  readonly priority: number;
  readonly cookie: bigint;
  readonly reason: number;
  /** Absent where the message does not say it. */
  readonly table?: number;
  readonly durationS: number;
  readonly durationNs: number;
  readonly idleTimeout: number;
  readonly hardTimeout: number;
  readonly packets: bigint;
  readonly bytes: bigint;
}

const decodeFlowRemoved15 = (b: Uint8Array): WireFlowRemoved => {
  const table = b[0]!;
  const { match, rest } = pullMatch(b.subarray(16));
  const {
    durationS = 0xffffffff,
    durationNs = 0xffffffff,
    packets = NO_COOKIE,
    bytes = NO_COOKIE,
  } = readOxs(new ByteReader(rest));
  return {
    ...{ match, reason: b[1]!, priority: read16(b, 2), idleTimeout: read16(b, 4), hardTimeout: read16(b, 6) },
    ...(table === ALL_TABLES ? {} : { table }),
    ...{ cookie: cookieAt(b, 8), durationS, durationNs, packets, bytes },
  };
};

/** Reads a flow-removed message. @throws {@link OpenFlowError} */
export const decodeFlowRemoved = ({ row, body: b }: Message): WireFlowRemoved => {
  if (row.kind === "flow_removed_15") return decodeFlowRemoved15(b);
  const is10 = row.kind === "flow_removed_10";
  const from = is10 ? MATCH_10_BYTES : 0;
  const common = {
    cookie: cookieAt(b, from),
    priority: read16(b, from + 8),
    reason: b[from + 10]!,
    durationS: read32(b, from + 12),
    durationNs: read32(b, from + 16),
    idleTimeout: read16(b, from + 20),
    hardTimeout: row.kind === "flow_removed_11" ? read16(b, from + 22) : 0,
    packets: cookieAt(b, from + 24),
    bytes: cookieAt(b, from + 32),
  };
  if (is10) return { ...common, match: decodeMatch10(b) };
  const table = b[11]!;
  if (row.kind === "flow_removed_11") {
    const { match } = pullMatch(b.subarray(40));
    return table === ALL_TABLES ? { ...common, match } : { ...common, match, table };
  }
  const length = read16(b, 22);
  const { match } = decodeNxm(b, 40, length);
  if (40 + ((length + 7) & ~7) !== b.length) {
    throw new OpenFlowError("OFPBRC_BAD_LEN", "Cannot read NXT_FLOW_REMOVED: bytes follow its match");
  }
  return table === 0 ? { ...common, match } : { ...common, match, table: table - 1 };
};

/** The message in which a switch tells of a flow that is gone, by the dialect in which flows travel. */
export const flowRemovedName = (minor: MinorVersion, isNxm: boolean): "OFPT_FLOW_REMOVED" | "NXT_FLOW_REMOVED" =>
  minor === 0 && isNxm ? "NXT_FLOW_REMOVED" : "OFPT_FLOW_REMOVED";

/** The body of the message of that name; `table` is there. */
export const putFlowRemoved = (
  writer: ByteWriter,
  gone: WireFlowRemoved,
  minor: MinorVersion,
  isNxm: boolean,
): void => {
  const { match, priority, cookie, reason, table = 0, durationS, durationNs, packets, bytes } = gone;
  const { idleTimeout, hardTimeout } = gone;
  if (minor === 5) {
    writer
      .u8(table)
      .u8(reason)
      .u16(priority)
      .u16(idleTimeout)
      .u16(hardTimeout)
      .u64(cookie)
      .put(encodeOxm(match, minor));
    putOxs(writer, { durationS, durationNs, packets, bytes });
    return;
  }
  const isPlain = minor === 0 && !isNxm;
  const nxm = minor === 0 && isNxm ? encodeNxm(match) : undefined;
  if (isPlain) writer.put(encodeMatch10(match));
  writer
    .u64(cookie)
    .u16(priority)
    .u8(reason)
    .u8(isPlain ? 0 : nxm === undefined ? table : table + 1);
  writer.u32(durationS).u32(durationNs).u16(idleTimeout);
  if (isPlain) writer.zeros(2);
  else writer.u16(nxm?.length ?? hardTimeout);
  writer.u64(packets).u64(bytes);
  if (nxm !== undefined) writer.put(nxm.bytes);
  else if (!isPlain) writer.put(minor === 1 ? encodeMatch11(match) : encodeOxm(match, minor));
};

/** Which flows statistics are asked of. */
export interface WireFlowRequest {
  readonly match: Match;
  /** Absent = all. */
  readonly table?: number;
  readonly outPort: number;
  readonly outGroup: number;
  readonly cookie: CookieMatch;
}

const ANY = { outGroup: ANY_GROUP, cookie: NO_COOKIE_MATCH };

/** Reads a request for statistics of flows. @throws {@link OpenFlowError} */
export const decodeFlowRequest = ({ row, body: b }: Message): WireFlowRequest => {
  const within = (table: number) => (table === ALL_TABLES ? {} : { table });
  if (row.kind === "flow_request_10") {
    return { match: decodeMatch10(b), ...within(b[40]!), outPort: port16(read16(b, 42)), ...ANY };
  }
  if (row.kind === "flow_request_11") {
    const outPort = port32(read32(b, 4));
    const cookie = { value: cookieAt(b, 16), mask: cookieAt(b, 24) };
    return { match: pullMatch(b.subarray(32)).match, ...within(b[0]!), outPort, outGroup: read32(b, 8), cookie };
  }
  const length = read16(b, 2);
  const { match, cookie = NO_COOKIE_MATCH }: DecodedMatch = decodeNxm(b, 8, length, { cookies: true });
  if (8 + ((length + 7) & ~7) !== b.length) {
    throw new OpenFlowError("OFPBRC_BAD_LEN", "Cannot read a request for flows: bytes follow its match");
  }
  return { match, ...within(b[4]!), outPort: port16(read16(b, 0)), outGroup: ANY_GROUP, cookie };
};
