// Readers of the actions that have parts of their own: learned flows, connections, headers to encapsulate in. See
// action-codes.ts.

import {
  PACKET_TYPE,
  type Action,
  type ActionOf,
  type EncapProperty,
  type LearnSpec,
  type Subfield,
} from "../action.js";
import type { Outer } from "../actions/row.js";
import { portFrom16 } from "../field-access.js";
import type { FieldName, MinorVersion } from "../fields.js";
import { ActionReader, refuse } from "./action-bytes.js";
import { codedField, decodeHeader } from "./field-header.js";

/** @param nested - reads the actions inside this one */
export type Decode = (reader: ActionReader, minor: MinorVersion, nested: Nested) => Action;

export type Nested = (bytes: Uint8Array, outer: Outer) => Action[];

export const bad = (reason: string): never => refuse("OFPBAC_BAD_ARGUMENT", reason);

export const port16 = (reader: ActionReader): number => portFrom16(reader.u16());

/** A field named by four bytes. */
export const shortField = (reader: ActionReader): FieldName => {
  const at = reader.take(4);
  const header = decodeHeader(at);
  return codedField(header)?.field ?? refuse("OFPBAC_BAD_SET_TYPE", `Cannot find field ${header.cls}:${header.number}`);
};

const LEARN_TO = ["match", "load", "output"] as const;

const learnSpec = (reader: ActionReader, header: number): LearnSpec => {
  const isConstant = (header & 0x2000) !== 0;
  const to = LEARN_TO[(header >>> 11) & 3];
  const bits = header & 0x3ff;
  if (to === undefined || (to === "output" && isConstant)) return bad("Cannot learn this: unknown specification");
  const size = (bits + 7) >>> 3;
  const wanted = (isConstant ? 2 * Math.ceil(bits / 16) : 6) + (to === "output" ? 0 : 6);
  if (reader.left < wanted) refuse("OFPBAC_BAD_LEN", `Cannot learn this: want ${wanted} bytes, got ${reader.left}`);
  const subfield = (): Subfield => ({ field: shortField(reader), lsb: reader.u16(), bits });
  const src = isConstant ? reader.take(2 * Math.ceil(bits / 16)).slice(-size) : subfield();
  return { bits, src, to, ...(to === "output" ? {} : { dst: subfield() }) };
};

export const learn =
  (second: boolean): Decode =>
  (reader) => {
    const [idleTimeout, hardTimeout, priority] = [reader.u16(), reader.u16(), reader.u16()];
    const cookie = reader.u64();
    const flags = reader.u16();
    const table = reader.u8();
    reader.zeros(1, "OFPBAC_BAD_ARGUMENT");
    const [finIdleTimeout, finHardTimeout] = [reader.u16(), reader.u16()];
    if (table === 0xff) bad("Cannot learn in table 255");
    const limit = second ? reader.u32() : 0;
    const lsb = second ? reader.u16() : 0;
    if (second) reader.zeros(2, "NXBAC_MUST_BE_ZERO");
    if (flags & ~(second ? 7 : 3)) bad(`Cannot learn with flags ${flags}`);
    const writes = (flags & 4) !== 0;
    if (!writes && lsb !== 0) bad("Cannot learn with the place of a result and no result");
    const resultDst = writes ? reader.target({ field: reader.field(), lsb, bits: 1 }) : undefined;
    const specs: LearnSpec[] = [];
    while (reader.left >= 2) {
      const header = reader.u16();
      if (header === 0) break;
      specs.push(learnSpec(reader, header));
    }
    reader.zeros(reader.left, "OFPBAC_BAD_ARGUMENT");
    return {
      kind: "learn",
      table,
      priority,
      cookie,
      idleTimeout,
      hardTimeout,
      finIdleTimeout,
      finHardTimeout,
      sendFlowRem: (flags & 1) !== 0,
      deleteLearned: (flags & 2) !== 0,
      limit,
      ...(resultDst === undefined ? {} : { resultDst }),
      specs,
    };
  };

const zoneOf = (reader: ActionReader): number | Subfield => {
  const code = reader.take(4);
  const range = reader.u16();
  if (code.every((byte) => byte === 0)) return range;
  const field =
    codedField(decodeHeader(code))?.field ?? refuse("OFPBAC_BAD_SET_TYPE", "Cannot take the zone from this field");
  const zone = reader.source({ field, lsb: range >>> 6, bits: (range & 0x3f) + 1 });
  if (zone.bits !== 16) refuse("OFPBAC_BAD_SET_LEN", `Cannot take the zone from ${zone.bits} bits: want 16`);
  return zone;
};

export const ct: Decode = (reader, _minor, nested) => {
  const flags = reader.u16();
  const [commit, force] = [(flags & 1) !== 0, (flags & 2) !== 0];
  if (force && !commit) bad("Cannot use force without commit");
  const zone = zoneOf(reader);
  const table = reader.u8();
  const alg = reader.skip(3).u16();
  const actions = nested(reader.rest(), "ct");
  const isPlain = actions.every((a) => a.kind === "nat" && a.direction === undefined && a.range === undefined);
  if (!commit && !isPlain) bad("Cannot do this to a connection without commit");
  return { kind: "ct", commit, force, ...(table === 0xff ? {} : { table }), zone, alg, actions };
};

const compare = (a: Uint8Array, b: Uint8Array): number => {
  const at = a.findIndex((byte, i) => byte !== b[i]);
  return at < 0 ? 0 : a[at]! - b[at]!;
};

/** What is missing in a nat is a bad argument, not a bad length. */
const takeOrBad = (reader: ActionReader, n: number): Uint8Array =>
  reader.left < n ? bad("Cannot read a range of nat: it is cut off") : reader.take(n).slice();

const natRange = (reader: ActionReader, present: number): ActionOf<"nat">["range"] => {
  const [ipv4, ipv6] = [present & 3, (present >>> 2) & 3];
  if (ipv4 !== 0 && ipv6 !== 0) bad("Cannot translate to addresses of two families");
  const addresses = ipv4 | ipv6;
  if ((addresses & 1) === 0) {
    if (present !== 0) bad("Cannot translate to a range without its beginning");
    return undefined;
  }
  const size = ipv4 !== 0 ? 4 : 16;
  const min = takeOrBad(reader, size);
  const max = (addresses & 2) !== 0 ? takeOrBad(reader, size) : undefined;
  if (min.every((byte) => byte === 0) || (max !== undefined && compare(max, min) < 0)) bad("Cannot translate to this");
  const portOf = (): number => {
    const [a, b] = takeOrBad(reader, 2);
    return (a! << 8) | b!;
  };
  if ((present & 0x30) === 0x20) bad("Cannot translate to ports without the first");
  const portMin = (present & 0x10) !== 0 ? portOf() : undefined;
  const portMax = (present & 0x20) !== 0 ? portOf() : undefined;
  if (portMin === 0 || (portMax !== undefined && portMax < portMin!)) bad("Cannot translate to these ports");
  return {
    min,
    ...(max === undefined ? {} : { max }),
    ...(portMin === undefined ? {} : { portMin }),
    ...(portMax === undefined ? {} : { portMax }),
  };
};

export const nat: Decode = (reader) => {
  const flags = reader.skip(2).u16();
  const present = reader.u16() & 0x3f;
  if (flags & ~0x1f || (flags & 3) === 3 || (flags & 0x18) === 0x18) bad(`Cannot translate with flags ${flags}`);
  const range = natRange(reader, present);
  const direction = flags & 1 ? "src" : flags & 2 ? "dst" : undefined;
  const protocol = flags & 8 ? "hash" : flags & 16 ? "random" : undefined;
  return {
    kind: "nat",
    ...(direction === undefined ? {} : { direction }),
    persistent: (flags & 4) !== 0,
    ...(protocol === undefined ? {} : { protocol }),
    ...(range === undefined ? {} : { range }),
  };
};

const ENCAPSULATIONS: readonly number[] = [
  PACKET_TYPE.ETHERNET,
  PACKET_TYPE.NSH,
  PACKET_TYPE.MPLS,
  PACKET_TYPE.MPLS_MULTICAST,
];

const NSH_PROPERTIES = 4;

const encapProperty = (reader: ActionReader): EncapProperty => {
  const [cls, type, length] = [reader.u16(), reader.u8(), reader.u8()];
  const padded = (length + 7) & ~7;
  if (length < 4 || padded - 4 > reader.left) refuse("OFPBAC_BAD_LEN", `Cannot read a property of ${length} bytes`);
  const body = new ActionReader(reader.take(padded - 4));
  if (cls !== NSH_PROPERTIES || (type !== 1 && type !== 2)) {
    refuse("NXBAC_UNKNOWN_ED_PROP", `Cannot read property ${type} of class ${cls}`);
  }
  if (type === 1) {
    if (length > 8) refuse("NXBAC_BAD_ED_PROP", `Cannot read an md_type of ${length} bytes`);
    return { kind: "md_type", mdType: body.u8() };
  }
  const tlv = { kind: "tlv", cls: body.u16(), type: body.u8() } as const;
  const size = body.u8();
  if (length !== 8 + ((size + 7) & ~7)) refuse("NXBAC_BAD_ED_PROP", `Cannot read a TLV of ${length} bytes`);
  return { ...tlv, value: body.take(size).slice() };
};

export const encap: Decode = (reader) => {
  const packetType = reader.skip(2).u32();
  if (!ENCAPSULATIONS.includes(packetType)) refuse("NXBAC_BAD_HEADER_TYPE", `Cannot encapsulate in ${packetType}`);
  const properties: EncapProperty[] = [];
  while (reader.left > 0) properties.push(encapProperty(reader));
  return { kind: "encap", packetType, properties };
};

export const decap: Decode = (reader) => {
  const packetType = reader.skip(2).u32();
  if (reader.left > 0) refuse("NXBAC_UNKNOWN_ED_PROP", "Cannot read properties of decap: it has none");
  return packetType === PACKET_TYPE.USE_NEXT_PROTO ? { kind: "decap" } : { kind: "decap", packetType };
};

export const clone: Decode = (reader, _minor, nested) => ({
  kind: "clone",
  actions: nested(reader.skip(6).rest(), "clone"),
});
