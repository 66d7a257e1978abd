// Actions of OpenFlow 1.0 and 1.1 on Ethernet, IP and transport headers; later versions set fields instead.

import type { Action, ActionOf } from "../action.js";
import type { FieldName } from "../fields.js";
import { get, type FlowWords } from "../flow.js";
import { numberIn } from "../parse/numbers.js";
import { pairs } from "../parse/source.js";
import type { Piece } from "../parse/source.js";
import type { ParseContext } from "../parse/context.js";
import { parseIpv4, parseMac } from "../parse/values.js";
import { ETH_TYPE, IP_PROTO, NW_FRAG } from "../../packet/headers.js";
import { ipv4Text, macText } from "../print/values.js";
import { needsMatch } from "./common.js";
import type { Carry, Carrying, Checked, LocatedAction, Parse, Rows } from "./row.js";
import { loading, settingField } from "./values.js";

const mac = (context: ParseContext, piece: Piece): Uint8Array =>
  parseMac(piece.text) ??
  context.fail(piece.at, `Cannot read "${piece.text}": want a MAC address like 00:11:22:33:44:55`);

const address = (context: ParseContext, piece: Piece): Uint8Array =>
  parseIpv4(piece.text) ?? context.fail(piece.at, `Cannot read "${piece.text}": want an IPv4 address like 192.0.2.1`);

const tos: Parse = ({ context }, value) => {
  const number = numberIn(context.line, value, "TOS", 255);
  if (number & 3) context.fail(value.at, `Cannot use TOS ${value.text}: want the two low bits (ECN) to be 0`);
  return { kind: "set_ip_dscp", tos: number };
};

const ttl: Parse = ({ context }, value) => ({
  kind: "set_ip_ttl",
  ttl: numberIn(context.line, value, "TTL", 255),
});

const decTtl: Parse = ({ context }, value) => {
  if (value.text === "") return { kind: "dec_ttl", ids: [] };
  const ids = pairs(value).map(({ key }) => numberIn(context.line, key, "controller ID", 0xffff));
  if (ids.length === 0) context.fail(value.at, "Cannot read dec_ttl(): want at least one controller ID");
  return { kind: "dec_ttl", ids };
};

const isIpv4 = (flow: FlowWords): boolean => get(flow, "dl_type") === ETH_TYPE.IPV4;

const isIp = (flow: FlowWords): boolean => isIpv4(flow) || get(flow, "dl_type") === ETH_TYPE.IPV6;

const hasPorts = (flow: FlowWords): boolean =>
  isIp(flow) && PORT_FIELDS.has(get(flow, "nw_proto")) && (get(flow, "nw_frag") & NW_FRAG.LATER) === 0;

const onIpv4 = (s: Checked, a: Action, { at }: LocatedAction): void => needsMatch(s, at, isIpv4(s.flow), a.kind, "ip");
const onIp = (s: Checked, a: Action, { at }: LocatedAction): void =>
  needsMatch(s, at, isIp(s.flow), a.kind, "ip or ipv6");
const onPorts = (s: Checked, a: Action, { at }: LocatedAction): void =>
  needsMatch(s, at, hasPorts(s.flow), a.kind, "tcp, udp or sctp");

/** Fields that hold the port of a transport protocol. */
const PORT_FIELDS: ReadonlyMap<number, readonly [src: FieldName, dst: FieldName]> = new Map([
  [IP_PROTO.TCP, ["tcp_src", "tcp_dst"]],
  [IP_PROTO.UDP, ["udp_src", "udp_dst"]],
  [IP_PROTO.SCTP, ["sctp_src", "sctp_dst"]],
]);

const carryPort = (action: ActionOf<"set_l4_src_port" | "set_l4_dst_port">, { minor, flow }: Carrying): Action[] => {
  const fields = PORT_FIELDS.get(get(flow, "nw_proto"));
  if (minor < 2 || fields === undefined) return [action];
  return [settingField(action.kind === "set_l4_src_port" ? fields[0] : fields[1], action.port)];
};

/** What becomes of an action that OpenFlow 1.2 replaced by set_field. */
const untilField =
  <A extends Action>(field: FieldName, value: (action: A) => Uint8Array): Carry<A> =>
  (action, { minor }) =>
    minor < 2 ? [action] : [{ kind: "set_field", field, value: value(action) }];

export const ecn = (minor: number, value: number): Action =>
  minor === 0
    ? loading("nw_ecn", 0, 2, BigInt(value))
    : minor === 1
      ? { kind: "set_ip_ecn", ecn: value }
      : settingField("nw_ecn", value);

type HeaderKind =
  | "set_eth_src"
  | "set_eth_dst"
  | "set_ipv4_src"
  | "set_ipv4_dst"
  | "set_ip_dscp"
  | "set_ip_ecn"
  | "set_ip_ttl"
  | "set_l4_src_port"
  | "set_l4_dst_port"
  | "dec_ttl";

export const HEADERS: Rows<HeaderKind> = {
  set_eth_src: {
    parse: { mod_dl_src: ({ context }, value) => ({ kind: "set_eth_src", mac: mac(context, value) }) },
    print: (a) => `mod_dl_src:${macText(a.mac)}`,
    carry: untilField("eth_src", (a) => a.mac),
    inSet: "set",
  },
  set_eth_dst: {
    parse: { mod_dl_dst: ({ context }, value) => ({ kind: "set_eth_dst", mac: mac(context, value) }) },
    print: (a) => `mod_dl_dst:${macText(a.mac)}`,
    carry: untilField("eth_dst", (a) => a.mac),
    inSet: "set",
  },
  set_ipv4_src: {
    parse: { mod_nw_src: ({ context }, value) => ({ kind: "set_ipv4_src", addr: address(context, value) }) },
    print: (a) => `mod_nw_src:${ipv4Text(a.addr)}`,
    check: onIpv4,
    carry: untilField("ip_src", (a) => a.addr),
    inSet: "set",
  },
  set_ipv4_dst: {
    parse: { mod_nw_dst: ({ context }, value) => ({ kind: "set_ipv4_dst", addr: address(context, value) }) },
    print: (a) => `mod_nw_dst:${ipv4Text(a.addr)}`,
    check: onIpv4,
    carry: untilField("ip_dst", (a) => a.addr),
    inSet: "set",
  },
  set_ip_dscp: {
    parse: { mod_nw_tos: tos },
    print: (a) => `mod_nw_tos:${a.tos}`,
    check: onIp,
    carry: untilField("ip_dscp", (a) => Uint8Array.of(a.tos >>> 2)),
    inSet: "set",
  },
  set_ip_ecn: {
    parse: {
      mod_nw_ecn: ({ context }, value) => ({ kind: "set_ip_ecn", ecn: numberIn(context.line, value, "ECN", 3) }),
    },
    print: (a) => `mod_nw_ecn:${a.ecn}`,
    check: onIp,
    carry: (a, { minor }) => [ecn(minor, a.ecn)],
    inSet: "set",
  },
  set_ip_ttl: {
    parse: { mod_nw_ttl: ttl, set_nw_ttl: ttl },
    print: (a) => `mod_nw_ttl:${a.ttl}`,
    check: onIp,
    carry: (a, { minor }) => (minor === 0 ? [loading("nw_ttl", 0, 8, BigInt(a.ttl))] : [a]),
    inSet: "set",
  },
  set_l4_src_port: {
    parse: {
      mod_tp_src: ({ context }, value) => ({
        kind: "set_l4_src_port",
        port: numberIn(context.line, value, "port", 0xffff),
      }),
    },
    print: (a) => `mod_tp_src:${a.port}`,
    check: onPorts,
    carry: carryPort,
    inSet: "set",
  },
  set_l4_dst_port: {
    parse: {
      mod_tp_dst: ({ context }, value) => ({
        kind: "set_l4_dst_port",
        port: numberIn(context.line, value, "port", 0xffff),
      }),
    },
    print: (a) => `mod_tp_dst:${a.port}`,
    check: onPorts,
    carry: carryPort,
    inSet: "set",
  },
  dec_ttl: {
    parse: { dec_ttl: decTtl },
    print: (a) => (a.ids.length === 0 ? "dec_ttl" : `dec_ttl(${a.ids.join(",")})`),
    check: onIp,
    inSet: "once",
  },
};
