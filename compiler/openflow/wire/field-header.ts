// Headers of fields on the wire (OXM and its forerunner NXM): class(16) | field(7) | hasMask(1) | length(8), OpenFlow 1.3.5
// section 7.2.3.2; with class 0xffff four bytes of experimenter ID follow. The length counts what follows the first four
// bytes: experimenter ID, value and mask.

import { RangeViolation } from "ebpf-assembler";
import { FIELD_BYTES, fieldCode, fieldSpec, WIRE_BYTES } from "../field-access.js";
import { EXPERIMENTER_CLASS, FIELD_NAMES, type FieldCode, type FieldName, type MinorVersion } from "../fields.js";
import { isTunMetadata } from "../fields/tun-metadata.js";
import { read16, read32, write16, write32 } from "../../packet/words.js";
import { OpenFlowError } from "./errors.js";

/** Bytes of the header without an experimenter ID, and of that ID. */
const BASE_BYTES = 4;
const EXPERIMENTER_BYTES = 4;

/** A header as it was read. */
export interface FieldHeader {
  readonly cls: number;
  /** Field number, 0..127. */
  readonly number: number;
  /** Experimenter ID; 0 where there is none. */
  readonly experimenter: number;
  readonly masked: boolean;
  /** Bytes of the header itself: 4 or 8. */
  readonly size: number;
  /** Bytes of value and mask that follow. */
  readonly payloadBytes: number;
}

type Code = Pick<FieldCode, "cls" | "field" | "experimenter">;

/** The header of a code. @param valueBytes - of the value alone */
export const encodeHeader = ({ cls, field, experimenter }: Code, masked: boolean, valueBytes: number): Uint8Array => {
  const idBytes = experimenter === undefined ? 0 : EXPERIMENTER_BYTES;
  const bytes = new Uint8Array(BASE_BYTES + idBytes);
  write16(bytes, 0, cls);
  bytes[2] = (field << 1) | (masked ? 1 : 0);
  bytes[3] = idBytes + (masked ? 2 * valueBytes : valueBytes);
  if (experimenter !== undefined) write32(bytes, BASE_BYTES, experimenter);
  return bytes;
};

/**
 * The header of a field.
 *
 * @param minor - version of OpenFlow, 0 for the Nicira extended match
 * @param valueBytes - of a tunnel option, whose length the field does not tell
 * @throws {@link RangeViolation} for a field that has no code
 */
export const encodeFieldHeader = (
  field: FieldName,
  minor: MinorVersion,
  masked: boolean,
  valueBytes: number = WIRE_BYTES[field],
): Uint8Array => {
  const code = fieldCode(field, minor);
  if (code === undefined) throw new RangeViolation(`Cannot encode ${field}: OpenFlow has no code for it`);
  return encodeHeader(code, masked, valueBytes);
};

/**
 * Reads a header.
 *
 * @throws {@link OpenFlowError} OFPBMC_BAD_LEN when it is cut off, or shorter than its experimenter ID
 */
export const decodeHeader = (bytes: Uint8Array, at = 0): FieldHeader => {
  const left = bytes.length - at;
  const isExperimenter = left >= BASE_BYTES && read16(bytes, at) === EXPERIMENTER_CLASS;
  const idBytes = isExperimenter ? EXPERIMENTER_BYTES : 0;
  const size = BASE_BYTES + idBytes;
  if (left < size)
    throw new OpenFlowError("OFPBMC_BAD_LEN", `Cannot read a field header: want ${size} bytes, got ${left}`);
  const payloadBytes = bytes[at + 3]! - idBytes;
  if (payloadBytes < 0) {
    throw new OpenFlowError(
      "OFPBMC_BAD_LEN",
      `Cannot read a field header: want a length of 4 or more, got ${bytes[at + 3]}`,
    );
  }
  return {
    cls: read16(bytes, at),
    number: bytes[at + 2]! >>> 1,
    experimenter: isExperimenter ? read32(bytes, at + BASE_BYTES) : 0,
    masked: (bytes[at + 2]! & 1) !== 0,
    size,
    payloadBytes,
  };
};

/** Bytes of the value that follows a header; as many of the mask, where there is one. */
export const valueBytesOf = ({ masked, payloadBytes }: FieldHeader): number =>
  masked ? payloadBytes >>> 1 : payloadBytes;

const keyOf = (cls: number, number: number, experimenter: number): string => `${cls}:${number}:${experimenter}`;

interface Coded {
  readonly field: FieldName;
  readonly code: FieldCode;
}

const CODED: ReadonlyMap<string, Coded> = new Map(
  FIELD_NAMES.flatMap((field) =>
    fieldSpec(field).codes.map(
      (code) => [keyOf(code.cls, code.field, code.experimenter ?? 0), { field, code }] as const,
    ),
  ),
);

/** The field that a header stands for, and its code; undefined if none has this code and length. */
export const codedField = (header: FieldHeader): Coded | undefined => {
  const coded = CODED.get(keyOf(header.cls, header.number, header.experimenter));
  if (coded === undefined) return undefined;
  return isTunMetadata(coded.field) || valueBytesOf(header) === WIRE_BYTES[coded.field] ? coded : undefined;
};

/** A value of {@link FIELD_BYTES} as it stands on the wire: leading zeros up to the length of the field there. */
export const toWireValue = (field: FieldName, value: Uint8Array): Uint8Array => {
  const size = isTunMetadata(field) ? value.length : WIRE_BYTES[field];
  if (value.length === size) return value;
  const wide = new Uint8Array(size);
  wide.set(value, size - value.length);
  return wide;
};

/** The {@link FIELD_BYTES} low bytes of a value from the wire. */
export const fromWireValue = (field: FieldName, wire: Uint8Array): Uint8Array => {
  const size = FIELD_BYTES[field];
  if (wire.length >= size) return wire.slice(wire.length - size);
  const wide = new Uint8Array(size);
  wide.set(wire, size - wire.length);
  return wide;
};
