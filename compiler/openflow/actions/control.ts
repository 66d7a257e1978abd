// Actions that steer: other tables, copies, queues, timeouts, notes, samples.

import type { ActionOf } from "../action.js";
import { get } from "../flow.js";
import { number64, numberIn } from "../parse/numbers.js";
import { cut, pairs, type Piece } from "../parse/source.js";
import { IP_PROTO } from "../../packet/headers.js";
import { portToText } from "../ports.js";
import { subfieldText } from "../print/subfield.js";
import { hex } from "../print/values.js";
import { PORT } from "../types.js";
import { dottedHex, hexBytes, needsField, needsMatch, parsePort, parseTable, writableSubfield } from "./common.js";
import type { Parse, Rows } from "./row.js";
import { settingField } from "./values.js";

const U32 = 0xffffffff;

/** Parts between commas, empty ones too. */
const commaParts = (value: Piece): Piece[] => {
  const parts: Piece[] = [];
  let rest: Piece | undefined = value;
  while (rest !== undefined) {
    const [part, more]: readonly [Piece, Piece | undefined] = cut(rest, ",");
    parts.push(part);
    rest = more;
  }
  return parts;
};

const resubmit: Parse = ({ context }, value) => {
  const [portPart, tablePart, ctPart] = commaParts(value);
  if (ctPart !== undefined && ctPart.text !== "" && ctPart.text !== "ct") {
    context.fail(ctPart.at, `Cannot read "${ctPart.text}": want resubmit(PORT,TABLE,ct)`);
  }
  const inPort =
    portPart === undefined || portPart.text === "" ? PORT.IN_PORT : parsePort(context, portPart, "resubmit as");
  const table = tablePart === undefined || tablePart.text === "" ? 255 : parseTable(context, tablePart);
  if (inPort === PORT.IN_PORT && table === 255) {
    context.fail(value.at, "Cannot resubmit: want a port, a table or both");
  }
  return {
    kind: "resubmit",
    ...(inPort === PORT.IN_PORT ? {} : { inPort }),
    ...(table === 255 ? {} : { table }),
    ...(ctPart?.text === "ct" ? { ct: true } : {}),
  };
};

const resubmitText = ({ inPort, table, ct }: ActionOf<"resubmit">, ports: Parameters<typeof portToText>[1]): string => {
  const port = inPort === undefined ? "" : portToText(inPort, ports);
  return inPort !== undefined && table === undefined
    ? `resubmit:${port}`
    : `resubmit(${port},${table ?? ""}${ct === undefined ? "" : ",ct"})`;
};

const CONJUNCTION = /^\s*([+-]?(?:0[xX][0-9a-fA-F]+|\d+))\s*,\s*(\d+)\s*\/\s*(\d+)\s*$/;

const conjunction: Parse = ({ context }, value) => {
  const [, id, clause, clauses] =
    CONJUNCTION.exec(value.text) ?? context.fail(value.at, `Cannot read "${value.text}": want ID,CLAUSE/CLAUSES`);
  const [k, n] = [Number(clause), Number(clauses)];
  if (n < 2 || n > 64) context.fail(value.at, `Cannot make a conjunction of ${n} clauses: want 2 to 64`);
  if (k < 1 || k > n) context.fail(value.at, `Cannot find clause ${k}: want 1 to ${n}`);
  const sign = id!.startsWith("-") ? -1 : 1;
  return { kind: "conjunction", id: (sign * Number(id!.replace(/^[+-]/, ""))) >>> 0, clause: k - 1, clauses: n };
};

const finTimeout: Parse = ({ context }, value) => {
  let idleTimeout = 0;
  let hardTimeout = 0;
  for (const { key, value: part } of pairs(value)) {
    if (key.text === "idle_timeout") idleTimeout = numberIn(context.line, part, key.text, 0xffff);
    else if (key.text === "hard_timeout") hardTimeout = numberIn(context.line, part, key.text, 0xffff);
    else context.fail(key.at, `Cannot read "${key.text}": want idle_timeout or hard_timeout`);
  }
  return { kind: "fin_timeout", idleTimeout, hardTimeout };
};

const sample: Parse = ({ context }, value) => {
  const numbers = { probability: 0, collector_set_id: 0, obs_domain_id: 0, obs_point_id: 0 };
  let samplingPort: number | undefined;
  let direction: ActionOf<"sample">["direction"];
  for (const { key, value: part } of pairs(value)) {
    if (Object.hasOwn(numbers, key.text)) {
      const name = key.text as keyof typeof numbers;
      numbers[name] = numberIn(context.line, part, name, name === "probability" ? 0xffff : U32);
    } else if (key.text === "sampling_port") samplingPort = parsePort(context, part, "sample for");
    else if (key.text === "ingress" || key.text === "egress") direction = key.text;
    else {
      const want = `${Object.keys(numbers).join(", ")}, sampling_port, ingress or egress`;
      context.fail(key.at, `Cannot read sample option "${key.text}": want ${want}`);
    }
  }
  if (numbers.probability === 0) context.fail(value.at, "Cannot sample: want a probability from 1 to 65535");
  return {
    kind: "sample",
    probability: numbers.probability,
    collectorSet: numbers.collector_set_id,
    obsDomain: numbers.obs_domain_id,
    obsPoint: numbers.obs_point_id,
    ...(samplingPort === undefined || samplingPort === PORT.NONE ? {} : { samplingPort }),
    ...(direction === undefined ? {} : { direction }),
  };
};

const sampleText = (a: ActionOf<"sample">, ports: Parameters<typeof portToText>[1]): string => {
  const parts = [
    `probability=${a.probability}`,
    `collector_set_id=${a.collectorSet}`,
    `obs_domain_id=${a.obsDomain}`,
    `obs_point_id=${a.obsPoint}`,
    ...(a.samplingPort === undefined ? [] : [`sampling_port=${portToText(a.samplingPort, ports)}`]),
    ...(a.direction === undefined ? [] : [a.direction]),
  ];
  return `sample(${parts.join(",")})`;
};

const checkPktLarger: Parse = ({ context }, value) => {
  const [length, target] = cut(value, "->");
  if (target === undefined || target.text === "") {
    return context.fail(value.at, `Cannot read "${value.text}": want check_pkt_larger(LENGTH)->FIELD[BIT]`);
  }
  const dst = writableSubfield(context, target);
  if (dst.bits !== 1) context.fail(target.at, `Cannot write the result into ${target.text}: want a single bit`);
  const digits = { text: length.text.replace(/\)$/, ""), at: length.at };
  return { kind: "check_pkt_larger", length: numberIn(context.line, digits, "length", 0xffff), dst };
};

const setTunnel =
  (wide: boolean): Parse =>
  ({ context }, value) => ({ kind: "set_tunnel", tunId: number64(context.line, value, "tunnel ID"), wide });

const carryTunnel = (a: ActionOf<"set_tunnel">, minor: number): ActionOf<"set_tunnel" | "set_field">[] => {
  if (minor < 2) return [{ ...a, wide: a.wide || a.tunId > 0xffffffffn }];
  return [settingField("tun_id", a.tunId)];
};

/** Bytes of a note that fit into its first 16 on the wire; what is missing up to there, or to 8 more, is zeros. */
const NOTE_BYTES = 6;

const paddedNote = (data: Uint8Array): Uint8Array => {
  const size = NOTE_BYTES + 8 * Math.max(0, Math.ceil((data.length - NOTE_BYTES) / 8));
  const padded = new Uint8Array(size);
  padded.set(data);
  return padded;
};

type ControlKind =
  | "resubmit"
  | "conjunction"
  | "clone"
  | "exit"
  | "note"
  | "sample"
  | "fin_timeout"
  | "check_pkt_larger"
  | "set_tunnel"
  | "set_queue"
  | "pop_queue"
  | "debug_recirc"
  | "debug_slow";

export const CONTROL: Rows<ControlKind> = {
  resubmit: {
    parse: { resubmit },
    print: (a, { ports }) => resubmitText(a, ports),
    check: (s, a, { at }) => {
      if (a.ct) needsField(s, at, "ct_nw_proto", "resubmit with");
    },
    inSet: "final",
  },
  conjunction: {
    parse: { conjunction },
    print: (a) => `conjunction(${a.id},${a.clause + 1}/${a.clauses})`,
  },
  clone: {
    parse: {
      clone: ({ context, list }, value, name) => {
        // OVS forgets here what the actions before asked for.
        context.forgetActions();
        const nested = list(value, "clone");
        return { action: { kind: "clone", actions: nested.map(({ action }) => action) }, at: name.at, nested };
      },
    },
    print: (a, { list }) => `clone(${list(a.actions)})`,
    check: (s, _a, { nested }) => s.nested(nested ?? [], s.narrows),
    carry: (a, { nested }) => {
      const actions = nested(a.actions);
      return actions === undefined ? undefined : [{ kind: "clone", actions }];
    },
  },
  exit: { parse: { exit: () => ({ kind: "exit" }) }, print: () => "exit" },
  note: {
    parse: { note: ({ context }, value) => ({ kind: "note", data: hexBytes(context, value) }) },
    print: (a) => `note:${dottedHex(a.data)}`,
    carry: (a) => [{ kind: "note", data: paddedNote(a.data) }],
  },
  sample: { parse: { sample }, print: (a, { ports }) => sampleText(a, ports) },
  fin_timeout: {
    parse: { fin_timeout: finTimeout },
    print: (a) => {
      const parts = [
        ...(a.idleTimeout === 0 ? [] : [`idle_timeout=${a.idleTimeout}`]),
        ...(a.hardTimeout === 0 ? [] : [`hard_timeout=${a.hardTimeout}`]),
      ];
      return `fin_timeout(${parts.join(",")})`;
    },
    check: (s, a, { at }) => needsMatch(s, at, get(s.flow, "nw_proto") === IP_PROTO.TCP, a.kind, "tcp"),
  },
  check_pkt_larger: {
    parse: { check_pkt_larger: checkPktLarger },
    print: (a) => `check_pkt_larger(${a.length})->${subfieldText(a.dst)}`,
    check: (s, a, { at }) => needsField(s, at, a.dst.field, "write the result into"),
  },
  set_tunnel: {
    parse: { set_tunnel: setTunnel(false), set_tunnel64: setTunnel(true) },
    print: (a) => `set_tunnel${a.wide || a.tunId > 0xffffffffn ? "64" : ""}:${hex(a.tunId)}`,
    carry: (a, { minor }) => carryTunnel(a, minor),
    inSet: "set",
  },
  set_queue: {
    parse: {
      set_queue: ({ context }, value) => ({ kind: "set_queue", queue: numberIn(context.line, value, "queue", U32) }),
    },
    print: (a) => `set_queue:${a.queue}`,
    inSet: "set",
  },
  pop_queue: { parse: { pop_queue: () => ({ kind: "pop_queue" }) }, print: () => "pop_queue" },
  // For tests of OVS itself: its ovs-vswitchd takes them only when told to play with dummies.
  debug_recirc: {
    parse: { debug_recirc: () => ({ kind: "debug_recirc" }) },
    print: () => "debug_recirc",
    carry: () => undefined,
  },
  debug_slow: {
    parse: { debug_slow: () => ({ kind: "debug_slow" }) },
    print: () => "debug_slow",
    carry: () => undefined,
  },
};
