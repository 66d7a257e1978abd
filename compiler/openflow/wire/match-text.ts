// Lists of fields on the wire in the words that ovs-ofctl has for them (parse-nx-match, parse-oxm, messages of matches that
// cannot be read): `NXM_OF_ETH_TYPE(0800), NXM_OF_IP_SRC_W(c0a80000/ffff0000)`. What is written here need not mean anything.

import { CodecError, concatBytes, fromHex, toHex } from "ebpf-assembler";
import { fieldByCodeName, fieldSpec, WIRE_BYTES } from "../field-access.js";
import { EXPERIMENTER_CLASS, FIELD_NAMES, type FieldCode } from "../fields.js";
import { isTunMetadata } from "../fields/tun-metadata.js";
import { COOKIE_CODE } from "./encode-match.js";
import { decodeEntry } from "./decode-match.js";
import { OpenFlowError } from "./errors.js";
import { codedField, encodeHeader, type FieldHeader } from "./field-header.js";

const ANY = "<any>";
const COOKIE = "NXM_NX_COOKIE";
const COOKIE_BYTES = 8;

const nameOf = (header: FieldHeader): string => {
  const suffix = header.masked ? "_W" : "";
  const coded = codedField(header);
  if (coded !== undefined) return `${coded.code.name}${suffix}`;
  const isCookie = header.cls === COOKIE_CODE.cls && header.number === COOKIE_CODE.field;
  if (isCookie && header.payloadBytes === (header.masked ? 2 : 1) * COOKIE_BYTES) return `${COOKIE}${suffix}`;
  return `${header.cls}:${header.number}`;
};

/** A list of fields as text; bytes that are no field are counted. */
export const formatFields = (bytes: Uint8Array): string => {
  if (bytes.length === 0) return ANY;
  const words: string[] = [];
  for (let at = 0; at < bytes.length;) {
    try {
      const { header, value, mask, size } = decodeEntry(bytes, at);
      words.push(`${nameOf(header)}(${toHex(value)}${mask === undefined ? "" : `/${toHex(mask)}`})`);
      at += size;
    } catch (error) {
      if (!(error instanceof OpenFlowError)) throw error;
      words.push(`<${bytes.length - at} invalid bytes>`);
      break;
    }
  }
  return words.join(", ");
};

type Code = Pick<FieldCode, "cls" | "field" | "experimenter">;

const CODES: ReadonlyMap<string, FieldCode> = new Map(
  FIELD_NAMES.flatMap((field) => fieldSpec(field).codes.map((code) => [code.name, code] as const)),
);

/** The code that a name stands for, and the bytes of its value where they are not free. */
const codeOf = (name: string): { readonly code: Code; readonly valueBytes: number | undefined } | undefined => {
  if (name === COOKIE) return { code: COOKIE_CODE, valueBytes: COOKIE_BYTES };
  const code = CODES.get(name);
  const field = fieldByCodeName(name);
  if (code === undefined || field === undefined) return undefined;
  return { code, valueBytes: isTunMetadata(field) ? undefined : WIRE_BYTES[field] };
};

/** A header written out in hexadecimal: 8 digits, or 16 with an experimenter ID. */
const rawHeader = (name: string): Uint8Array | undefined => {
  const isRaw = /^(?:[0-9a-fA-F]{8}|[0-9a-fA-F]{16})$/.test(name);
  if (!isRaw) return undefined;
  const header = fromHex(name);
  const isExperimenter = ((header[0]! << 8) | header[1]!) === EXPERIMENTER_CLASS;
  return isExperimenter === (header.length === 8) ? header : undefined;
};

const ENTRY = /[, ]*([^(, ]+)\(([0-9a-fA-F ]*)(?:\/([0-9a-fA-F ]*))?\)/y;

/**
 * The bytes of a list of fields in text.
 *
 * @throws {@link CodecError} for a name that no field has, or a value of another length
 */
export const parseFields = (text: string): Uint8Array => {
  if (text === ANY) return new Uint8Array(0);
  const parts: Uint8Array[] = [];
  ENTRY.lastIndex = 0;
  while (ENTRY.lastIndex < text.trimEnd().length) {
    const at = ENTRY.lastIndex;
    const found = ENTRY.exec(text);
    const fail = (problem: string): never => {
      throw new CodecError("read a list of fields", at, problem);
    };
    if (found === null) return fail(`want NAME(HEX), got ${JSON.stringify(text.slice(at, at + 20))}`);
    const [, name, valueText, maskText] = found;
    const value = fromHex(valueText!);
    const mask = maskText === undefined ? new Uint8Array(0) : fromHex(maskText);
    const raw = rawHeader(name!);
    if (raw !== undefined) {
      parts.push(raw, value, mask);
      continue;
    }
    const masked = name!.endsWith("_W");
    const named = codeOf(masked ? name!.slice(0, -2) : name!) ?? fail(`want the name of a field, got ${name}`);
    const size = named.valueBytes ?? value.length;
    if (value.length !== size || mask.length !== (masked ? size : 0)) {
      fail(`want ${size} bytes of value${masked ? " and of mask" : ""} for ${name}`);
    }
    parts.push(encodeHeader(named.code, masked, value.length), value, mask);
  }
  return concatBytes(...parts);
};
