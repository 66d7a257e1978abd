// Connection tracking: ct, nat, ct_clear.

import type { ActionOf, NatRange } from "../action.js";
import { get } from "../flow.js";
import { numberIn } from "../parse/numbers.js";
import { pairs, type Piece } from "../parse/source.js";
import type { ParseContext } from "../parse/context.js";
import { parseIpv4, parseIpv6 } from "../parse/values.js";
import { ETH_TYPE, IP_PROTO } from "../../packet/headers.js";
import { subfieldText } from "../print/subfield.js";
import { ipv4Text, ipv6Text } from "../print/values.js";
import { needsField, parseTable, wholeSubfield } from "./common.js";
import type { Checked, LocatedAction, Parse, ParseArgs, PrintArgs, Rows } from "./row.js";

/** Ports that helpers are known by. */
const HELPERS: Readonly<Record<string, { readonly port: number; readonly proto: number }>> = {
  ftp: { port: 21, proto: IP_PROTO.TCP },
  tftp: { port: 69, proto: IP_PROTO.UDP },
};

const compareBytes = (a: Uint8Array, b: Uint8Array): number => {
  for (const [i, byte] of a.entries()) if (byte !== b[i]) return byte - b[i]!;
  return 0;
};

const RANGE = "ADDRESS[-ADDRESS][:PORT[-PORT]], an IPv6 address in brackets where a port follows";

const NAT_RANGE =
  /^(?<min>\d+\.\d+\.\d+\.\d+|\[[0-9A-Fa-f:.]+\]|[0-9A-Fa-f:.]+)(?:-(?<max>\d+\.\d+\.\d+\.\d+|\[[0-9A-Fa-f:.]+\]|[0-9A-Fa-f:.]+))?(?::(?<from>\d+)(?:-(?<to>\d+))?)?$/;

const parseRange = (context: ParseContext, piece: Piece): NatRange | undefined => {
  if (piece.text === "") return undefined;
  const fail = (): never => context.fail(piece.at, `Cannot read NAT range "${piece.text}": want ${RANGE}`);
  const { min, max, from, to } = NAT_RANGE.exec(piece.text)?.groups ?? fail();
  const address = (text: string): Uint8Array => {
    const bare = text.replace(/^\[|\]$/g, "");
    return parseIpv4(bare) ?? parseIpv6(bare) ?? fail();
  };
  const port = (text: string): number => (Number(text) > 0xffff ? fail() : Number(text));
  const lowest = address(min!);
  const highest = max === undefined ? undefined : address(max);
  if (highest !== undefined && (highest.length !== lowest.length || compareBytes(highest, lowest) < 0)) fail();
  const first = from === undefined ? undefined : port(from);
  const last = to === undefined ? undefined : port(to);
  if (last !== undefined && last < first!) fail();
  return {
    min: lowest,
    ...(highest === undefined ? {} : { max: highest }),
    ...(first === undefined ? {} : { portMin: first }),
    ...(last === undefined ? {} : { portMax: last }),
  };
};

const nat = ({ context }: ParseArgs, value: Piece): ActionOf<"nat"> => {
  const flags = new Set<string>();
  let range: NatRange | undefined;
  for (const { key, value: part } of pairs(value)) {
    if (!["src", "dst", "persistent", "hash", "random"].includes(key.text)) {
      context.fail(key.at, `Cannot read nat option "${key.text}": want src, dst, persistent, hash or random`);
    }
    flags.add(key.text);
    if (key.text === "src" || key.text === "dst") range = parseRange(context, part);
  }
  const both = (a: string, b: string): boolean => flags.has(a) && flags.has(b);
  if (both("src", "dst")) context.fail(value.at, "Cannot translate src and dst at once: want one of them");
  const direction = flags.has("src") ? "src" : flags.has("dst") ? "dst" : undefined;
  if (direction === undefined && flags.size > 0) {
    context.fail(value.at, `Cannot use ${[...flags].join(",")} alone: want src or dst with it`);
  }
  if (both("hash", "random")) context.fail(value.at, "Cannot use hash and random at once: want one of them");
  const protocol = flags.has("hash") ? "hash" : flags.has("random") ? "random" : undefined;
  return {
    kind: "nat",
    ...(direction === undefined ? {} : { direction }),
    persistent: flags.has("persistent"),
    ...(protocol === undefined ? {} : { protocol }),
    ...(range === undefined ? {} : { range }),
  };
};

const ct: Parse = (args, value, name) => {
  const { context } = args;
  let commit = false;
  let force = false;
  let table: number | undefined;
  let zone: ActionOf<"ct">["zone"] = 0;
  let alg = 0;
  const nested: LocatedAction[] = [];
  for (const { key, value: part } of pairs(value)) {
    switch (key.text) {
      case "commit":
        commit = true;
        break;
      case "force":
        force = true;
        break;
      case "table":
        table = parseTable(context, part);
        if (table === 255) context.fail(part.at, "Cannot go on in table 255: want a table from 0 to 254");
        break;
      case "zone":
        zone = /^\d|^0x/i.test(part.text)
          ? numberIn(context.line, part, "zone", 0xffff)
          : wholeSubfield(context, part).subfield;
        break;
      case "alg":
        alg =
          HELPERS[part.text]?.port ??
          context.fail(part.at, `Cannot find helper "${part.text}": want ${Object.keys(HELPERS).join(" or ")}`);
        break;
      case "nat":
        nested.push({ action: nat(args, part), at: key.at });
        break;
      case "exec":
        nested.push(...args.list(part, "ct"));
        break;
      default:
        context.fail(key.at, `Cannot read ct option "${key.text}": want ${CT_OPTIONS}`);
    }
  }
  if (force && !commit) context.fail(value.at, "Cannot use force without commit");
  return {
    action: {
      kind: "ct",
      commit,
      force,
      ...(table === undefined ? {} : { table }),
      zone,
      alg,
      actions: nested.map(({ action }) => action),
    },
    at: name.at,
    nested,
  };
};

const CT_OPTIONS = "commit, force, table, zone, alg, nat or exec";

const bracketed = (address: Uint8Array, withPort: boolean): string =>
  address.length === 4 ? ipv4Text(address) : withPort ? `[${ipv6Text(address)}]` : ipv6Text(address);

/** A zero stands for nothing, as OVS has it. */
const isGiven = (address: Uint8Array | undefined): address is Uint8Array =>
  address?.some((byte) => byte !== 0) === true;

const rangeText = ({ min, max, portMin = 0, portMax = 0 }: NatRange): string => {
  const most = isGiven(max) && compareBytes(max, min) !== 0 ? `-${bracketed(max, portMin !== 0)}` : "";
  const last = portMax !== 0 && portMax !== portMin ? `-${portMax}` : "";
  const ports = portMin === 0 ? "" : `:${portMin}${last}`;
  return `=${bracketed(min, portMin !== 0)}${most}${ports}`;
};

const natText = ({ direction, range, persistent, protocol }: ActionOf<"nat">): string => {
  if (direction === undefined) return "nat";
  const flags =
    range === undefined ? [] : [...(persistent ? ["persistent"] : []), ...(protocol === undefined ? [] : [protocol])];
  return `nat(${[`${direction}${range === undefined ? "" : rangeText(range)}`, ...flags].join(",")})`;
};

const ctText = (a: ActionOf<"ct">, { list }: PrintArgs): string => {
  const [first, ...rest] = a.actions;
  const inExec = first?.kind === "nat" ? rest : a.actions;
  const helper = Object.keys(HELPERS).find((name) => HELPERS[name]!.port === a.alg);
  const zone = typeof a.zone !== "number" ? [`zone=${subfieldText(a.zone)}`] : a.zone === 0 ? [] : [`zone=${a.zone}`];
  const parts = [
    ...(a.commit ? ["commit"] : []),
    ...(a.force ? ["force"] : []),
    ...(a.table === undefined ? [] : [`table=${a.table}`]),
    ...zone,
    ...(first?.kind === "nat" ? [natText(first)] : []),
    ...(inExec.length === 0 ? [] : [`exec(${list(inExec)})`]),
    ...(a.alg === 0 ? [] : [`alg=${helper ?? a.alg}`]),
  ];
  return `ct(${parts.join(",")})`;
};

const isIp = (type: number): boolean => type === ETH_TYPE.IPV4 || type === ETH_TYPE.IPV6;

const check = (state: Checked, a: ActionOf<"ct">, { at, nested }: LocatedAction): void => {
  const { context, flow } = state;
  if (!isIp(get(flow, "dl_type"))) context.fail(at, "Cannot track connections: the flow must match ip or ipv6");
  const helper = Object.entries(HELPERS).find(([, { port }]) => port === a.alg);
  if (helper !== undefined && get(flow, "nw_proto") !== helper[1].proto) {
    const want = helper[1].proto === IP_PROTO.TCP ? "tcp" : "udp";
    context.fail(at, `Cannot use the helper ${helper[0]}: the flow must match ${want}`);
  }
  if (typeof a.zone !== "number") return needsField(state, at, a.zone.field, "take the zone from");
  state.nested(nested ?? [], state.narrows);
};

const checkNat = ({ context, flow }: Checked, { range }: ActionOf<"nat">, { at }: LocatedAction): void => {
  const type = get(flow, "dl_type");
  const wanted = range === undefined ? undefined : range.min.length === 4 ? ETH_TYPE.IPV4 : ETH_TYPE.IPV6;
  if (!isIp(type) || (wanted !== undefined && type !== wanted)) {
    context.fail(at, `Cannot translate addresses: the flow must match ${wanted === ETH_TYPE.IPV6 ? "ipv6" : "ip"}`);
  }
};

/** Without `commit`, nothing but a plain nat may stand inside. */
const mayGo = (a: ActionOf<"ct">): boolean =>
  a.commit || a.actions.every((inner) => inner.kind === "nat" && inner.direction === undefined);

/** Parts of a range that are 0 are not sent; a range of which nothing is left is none, one without its address cannot be read. */
const carryNat = (a: ActionOf<"nat">): ActionOf<"nat">[] | undefined => {
  const { range, ...rest } = a;
  if (range === undefined) return [a];
  const { min, max, portMin = 0, portMax = 0 } = range;
  if (isGiven(min)) return portMin === 0 && portMax !== 0 ? undefined : [a];
  return (max !== undefined && isGiven(max)) || portMin !== 0 || portMax !== 0 ? undefined : [rest];
};

export const CONNECTION: Rows<"ct" | "ct_clear" | "nat"> = {
  ct: {
    parse: { ct },
    print: ctText,
    check,
    carry: (a, { nested }) => {
      const actions = nested(a.actions);
      const refused = !mayGo(a) || (typeof a.zone !== "number" && a.zone.bits !== 16);
      return actions === undefined || refused ? undefined : [{ ...a, actions }];
    },
    inSet: "final",
  },
  ct_clear: { parse: { ct_clear: () => ({ kind: "ct_clear" }) }, print: () => "ct_clear", inSet: "final" },
  nat: {
    parse: { nat },
    print: natText,
    check: checkNat,
    carry: carryNat,
  },
};
