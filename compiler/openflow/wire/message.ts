// Headers of OpenFlow messages: which message it is, by version, type, kind of statistics and extension, and whether its
// length fits. Reads any bytes; what OVS 3.1 refuses is refused with the error that it answers with.

import { NotSupportedError, RangeViolation } from "ebpf-assembler";
import { read16, read32 } from "../../packet/words.js";
import { ByteWriter } from "./bytes.js";
import type { MinorVersion } from "../fields.js";
import { errorCode, OpenFlowError, type OpenFlowErrorName } from "./errors.js";
import { MESSAGES, NICIRA, ONF, VENDOR_MESSAGE, VENDOR_STAT, type MessageName, type MessageRow } from "./messages.js";

/** Bytes of the header that all messages have: version, type, length(16), xid(32). */
export const HEADER_BYTES = 8;

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
  if (base.type === VENDOR_MESSAGE) {
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

/** Minor version of a message of OpenFlow 1.0 to 1.5. */
export const minorOf = ({ header }: Message): MinorVersion => Math.min(header.version - 1, 5) as MinorVersion;

/** Messages that OVS reads and we do not, by type and what else tells them apart, as {@link keyOf} has it. */
const UNREAD: ReadonlySet<string> = new Set([
  "30,-1,-1,-1", // OFPT_ROLE_STATUS
  "31,-1,-1,-1", // OFPT_TABLE_STATUS
  "32,-1,-1,-1", // OFPT_REQUESTFORWARD
  `4,-1,${ONF},1911`,
  `4,-1,${ONF},2350`,
  `4,-1,${NICIRA},32`, // NXT_CT_FLUSH
  `4,-1,${NICIRA},132`,
  ...[16, 17, 18, 19].flatMap((type) => [3, 4].map((subtype) => `${type},${VENDOR_STAT},${NICIRA},${subtype}`)), // IPFIX
]);

/** Highest message type of each version, by version byte. */
const LAST_TYPE: Readonly<Record<number, number>> = { 1: 21, 2: 23, 3: 25, 4: 29, 5: 34, 6: 35 };

/** Why a message without a row is not read. */
const unknownMessage = (header: MessageHeader): OpenFlowError | NotSupportedError => {
  const { version, type, stat, vendor, subtype } = header;
  const kind = stat === undefined ? "" : `, statistics ${stat}`;
  const what = `type ${type} of version 0x${version.toString(16).padStart(2, "0")}${kind}`;
  const whole = `${what}${subtype === undefined ? "" : `, subtype ${subtype}`}`;
  if (UNREAD.has(keyOf(header)) && type <= (LAST_TYPE[version] ?? 0))
    return new NotSupportedError(`Reading messages of ${whole}`);
  const error =
    vendor !== undefined ? "OFPBRC_BAD_SUBTYPE" : stat !== undefined ? "OFPBRC_BAD_STAT" : "OFPBRC_BAD_TYPE";
  return new OpenFlowError(error, `Cannot read a message of ${whole}: there is none`);
};

/** A message with its header read; `body` is what follows. */
export interface Message {
  readonly header: MessageHeader;
  readonly row: MessageRow;
  readonly body: Uint8Array;
}

const keyOf = ({ type, stat = -1, vendor = -1, subtype = -1 }: Partial<MessageHeader>): string =>
  `${type},${stat},${vendor},${subtype}`;

const byKey = new Map<string, MessageRow[]>();
for (const row of MESSAGES as readonly MessageRow[]) {
  const rows = byKey.get(keyOf(row));
  if (rows === undefined) byKey.set(keyOf(row), [row]);
  else rows.push(row);
}

const hasVersion = ({ versions: [from, to] }: MessageRow, version: number): boolean => from <= version && version <= to;

/** Messages that their type alone tells, by version and type. */
const plainRows = new Array<MessageRow | undefined>(7 << 8).fill(undefined);
for (const row of MESSAGES as readonly MessageRow[]) {
  const [from, to] = row.versions;
  if (row.stat === undefined && row.vendor === undefined)
    for (let version = from; version <= to; version++) plainRows[(version << 8) | row.type] = row;
}

const rowOf = (header: MessageHeader): MessageRow | undefined =>
  header.stat === undefined && header.vendor === undefined
    ? plainRows[(header.version << 8) | header.type]
    : byKey.get(keyOf(header))?.find((row) => hasVersion(row, header.version));

/**
 * Finds out which message it is, and whether its length fits.
 *
 * @param bytes - as many as the header says
 * @throws {@link OpenFlowError}
 * @throws {@link NotSupportedError} for a message that OVS reads and we do not
 */
export const decodeMessage = (bytes: Uint8Array): Message => {
  const header = decodeMessageHeader(bytes);
  const { size } = header;
  const found = rowOf(header);
  if (found === undefined) throw unknownMessage(header);
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

const byName = new Map<string, MessageRow[]>();
for (const row of MESSAGES as readonly MessageRow[]) byName.set(row.name, [...(byName.get(row.name) ?? []), row]);

/** The row of a message in a version. @throws {@link RangeViolation} when the version does not have it */
export const messageRow = (name: MessageName, version: number): MessageRow => {
  const row = byName.get(name)!.find((each) => hasVersion(each, version));
  if (row === undefined) throw new RangeViolation(`Cannot send ${name} in version ${version}: it does not have it`);
  return row;
};

/** Flag of statistics: another part of the same answer follows. */
const MORE = 1;

/** What stands before the body. */
const putHeader = (writer: ByteWriter, row: MessageRow, version: number, xid: number, flags: number): void => {
  writer.u8(version).u8(row.type).u16(0).u32(xid);
  if (row.stat !== undefined) {
    writer.u16(row.stat).u16(flags);
    if (version > 1) writer.zeros(4);
  }
  if (row.vendor === undefined) return;
  writer.u32(row.vendor).u32(row.subtype!);
  if (row.stat !== undefined && version === 1) writer.zeros(4);
};

const MAX_LENGTH = 0xffff;

const finish = (writer: ByteWriter): Uint8Array => writer.set16(2, writer.length).finish();

/**
 * A whole message.
 *
 * @param put - writes the body
 * @throws {@link RangeViolation} when it is longer than a message can be, or the version does not have it
 */
export const encodeMessage = (
  name: MessageName,
  version: number,
  xid: number,
  put: (writer: ByteWriter) => void = () => undefined,
): Uint8Array => {
  const writer = new ByteWriter();
  putHeader(writer, messageRow(name, version), version, xid, 0);
  put(writer);
  if (writer.length > MAX_LENGTH)
    throw new RangeViolation(`Cannot send ${name} of ${writer.length} bytes: want at most ${MAX_LENGTH}`);
  return finish(writer);
};

/** Room for the answers that are short. */
const FIRST_ROOM = 1 << 12;

/** An answer of many parts: each element goes whole into a message, and all messages but the last say that more come. */
export class MultipartWriter {
  readonly #row: MessageRow;
  #writer: ByteWriter;

  /** @param send - gets each message when it is full */
  constructor(
    name: MessageName,
    private readonly version: number,
    private readonly xid: number,
    private readonly send: (message: Uint8Array) => void,
  ) {
    this.#row = messageRow(name, version);
    this.#writer = this.#begin(FIRST_ROOM);
  }

  #begin(room: number): ByteWriter {
    const writer = new ByteWriter(room);
    putHeader(writer, this.#row, this.version, this.xid, 0);
    return writer;
  }

  /** Appends an element. One that no message can hold is left out, as OVS does. */
  add(element: Uint8Array): void {
    if (this.#writer.length + element.length > MAX_LENGTH) {
      const next = this.#begin(MAX_LENGTH + 1);
      if (next.length + element.length > MAX_LENGTH) return;
      this.send(finish(this.#writer.set16(HEADER_BYTES + 2, MORE)));
      this.#writer = next;
    }
    this.#writer.put(element);
  }

  /** {@link add} of what `write` writes. */
  write(write: (writer: ByteWriter) => void): void {
    const start = this.#writer.length;
    write(this.#writer);
    if (this.#writer.length > MAX_LENGTH) this.add(this.#writer.cut(start));
  }

  /** Sends what is left; a message without elements, if there were none. */
  end(): void {
    this.send(finish(this.#writer));
  }
}

const VENDOR_ERROR = 0xb0c2;
const EXPERIMENTER_ERROR = 0xffff;

/**
 * The error with which a switch answers a message, which it carries as OVS has it: all of it that fits.
 *
 * @param about - the message, whole
 */
export const encodeError = (name: OpenFlowErrorName, version: number, about: Uint8Array): Uint8Array => {
  const minor = Math.min(version - 1, 5) as MinorVersion;
  const code = errorCode(name, minor) ?? errorCode("NXBRC_UNENCODABLE_ERROR", minor) ?? unreachableCode(name);
  return encodeMessage("OFPT_ERROR", version, read32(about, 4), (writer) => {
    if (code.kind === "standard") writer.u16(code.type).u16(code.code);
    else if (code.kind === "vendor") writer.u16(VENDOR_ERROR).u16(0).u32(code.vendor).u16(code.type).u16(code.code);
    else writer.u16(EXPERIMENTER_ERROR).u16(code.code).u32(code.vendor);
    writer.put(about.subarray(0, MAX_LENGTH - writer.length));
  });
};

const unreachableCode = (name: OpenFlowErrorName): never => {
  throw new RangeViolation(`Cannot send ${name}: no code stands for it`);
};
