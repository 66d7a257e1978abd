// Packet type aware actions: encap and decap of a whole header, and the TTL of NSH.

import { PACKET_TYPE, type EncapProperty } from "../action.js";
import { get, set } from "../flow.js";
import type { ParseContext } from "../parse/context.js";
import { numberIn } from "../parse/numbers.js";
import { pairs, type Piece } from "../parse/source.js";
import { ETH_TYPE } from "../../packet/headers.js";
import { hex, hexPadded } from "../print/values.js";
import { CARRIED_BY } from "../versions.js";
import { fromBytes } from "../big-endian.js";
import { needsMatch } from "./common.js";
import { since, type Parse, type Rows } from "./row.js";

const HEADERS: Readonly<Record<string, number>> = {
  ethernet: PACKET_TYPE.ETHERNET,
  nsh: PACKET_TYPE.NSH,
  mpls: PACKET_TYPE.MPLS,
  mpls_mc: PACKET_TYPE.MPLS_MULTICAST,
};

/** Namespace of packet types that are Ethernet types (OFPHTN_ETHERTYPE). */
const NAMESPACE_ETHERTYPE = 1;

/** Namespaces that OVS knows (OFPHTN_N_TYPES). */
const NAMESPACES = 5;

const TLV = /^0x([0-9a-fA-F]{1,4}),(\d{1,3}),0x([0-9a-fA-F]{1,251})/;

const property = (context: ParseContext, key: Piece, value: Piece): EncapProperty => {
  if (key.text === "md_type") {
    const mdType = numberIn(context.line, value, "md_type", 255);
    if (mdType !== 1 && mdType !== 2) context.fail(value.at, `Cannot use md_type ${value.text}: want 1 or 2`);
    return { kind: "md_type", mdType };
  }
  if (key.text !== "tlv") return context.fail(key.at, `Cannot read "${key.text}": want md_type or tlv`);
  const [, cls, type, digits] =
    TLV.exec(value.text) ?? context.fail(value.at, `Cannot read "${value.text}": want 0xCLASS,TYPE,0xVALUE`);
  const bytes = digits!.match(/../g) ?? [];
  return {
    kind: "tlv",
    cls: Number.parseInt(cls!, 16),
    type: Number(type) & 0xff,
    value: Uint8Array.from(bytes, (pair) => Number.parseInt(pair, 16)),
  };
};

const encap: Parse = ({ context }, value) => {
  context.narrow(CARRIED_BY.openflow13Up, value.at, "encap");
  const [header] = pairs(value);
  if (header === undefined || !Object.hasOwn(HEADERS, header.key.text)) {
    const want = Object.keys(HEADERS).join(", ");
    return context.fail(value.at, `Cannot encapsulate in "${header?.key.text ?? ""}": want one of ${want}`);
  }
  const packetType = HEADERS[header.key.text]!;
  const properties = pairs(header.value).map(({ key, value: part }) => {
    if (packetType !== PACKET_TYPE.NSH) context.fail(key.at, `Cannot use "${key.text}": only nsh has properties`);
    return property(context, key, part);
  });
  return { kind: "encap", packetType, properties };
};

const decap: Parse = ({ context }, value) => {
  const [option] = pairs(value);
  if (option === undefined) return { kind: "decap" };
  if (option.key.text !== "packet_type") {
    return context.fail(option.key.at, `Cannot read "${option.key.text}": want packet_type(ns=NS,type=TYPE)`);
  }
  const [ns, type] = pairs(option.value);
  if (ns?.key.text !== "ns" || type?.key.text !== "type") {
    return context.fail(option.value.at, `Cannot read "${option.value.text}": want ns=NS,type=TYPE`);
  }
  const namespace = numberIn(context.line, ns.value, "namespace", 0xffff);
  if (namespace >= NAMESPACES) {
    context.fail(ns.value.at, `Cannot use namespace ${namespace}: want at most ${NAMESPACES - 1}`);
  }
  const packetType = namespace * 0x10000 + numberIn(context.line, type.value, "type", 0xffff);
  return packetType === PACKET_TYPE.USE_NEXT_PROTO ? { kind: "decap" } : { kind: "decap", packetType };
};

const propertyText = (p: EncapProperty): string =>
  p.kind === "md_type" ? `md_type=${p.mdType}` : `tlv(${hexPadded(p.cls, 4)},${p.type},${hex(fromBytes(p.value))})`;

const headerText = (packetType: number): string =>
  Object.keys(HEADERS).find((name) => HEADERS[name] === packetType) ?? "UNKNOWN";

export const ENCAP: Rows<"encap" | "decap" | "dec_nsh_ttl"> = {
  encap: {
    parse: { encap },
    print: (a) => {
      const properties = a.properties.map(propertyText).join(",");
      return `encap(${headerText(a.packetType)}${properties === "" ? "" : `(${properties})`})`;
    },
    check: (s, a) => {
      set(s.flow, "packet_type", a.packetType);
      if (a.packetType >>> 16 === NAMESPACE_ETHERTYPE) set(s.flow, "dl_type", a.packetType & 0xffff);
      const type = get(s.flow, "dl_type");
      if (type !== ETH_TYPE.IPV4 && type !== ETH_TYPE.IPV6) set(s.flow, "nw_proto", 0);
    },
    carry: since(3),
    inSet: "once",
  },
  decap: {
    parse: { decap },
    print: (a) =>
      a.packetType === undefined
        ? "decap()"
        : `decap(packet_type(ns=${a.packetType >>> 16},type=${hex(a.packetType & 0xffff)}))`,
    check: (s) => {
      if (get(s.flow, "packet_type") === PACKET_TYPE.ETHERNET) {
        set(s.flow, "packet_type", NAMESPACE_ETHERTYPE * 0x10000 + get(s.flow, "dl_type"));
      } else {
        // What is inside is known only when a packet comes.
        set(s.flow, "packet_type", PACKET_TYPE.UNKNOWN);
        set(s.flow, "dl_type", 0xffff);
      }
    },
    carry: since(3),
    inSet: "once",
  },
  dec_nsh_ttl: {
    parse: { dec_nsh_ttl: () => ({ kind: "dec_nsh_ttl" }) },
    print: () => "dec_nsh_ttl",
    check: (s, a, { at }) => {
      const ok =
        get(s.flow, "packet_type") === PACKET_TYPE.NSH || get(s.flow, "dl_type") === (PACKET_TYPE.NSH & 0xffff);
      needsMatch(s, at, ok, a.kind, "nsh");
    },
    carry: since(3),
    inSet: "once",
  },
};
