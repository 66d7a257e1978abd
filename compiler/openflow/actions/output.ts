// Actions that send the packet somewhere.

import { PACKET_IN_REASONS, PORT, type PacketInReason } from "../types.js";
import { numberIn } from "../parse/numbers.js";
import { pairs, type Piece } from "../parse/source.js";
import { fieldByCodeName } from "../field-access.js";
import { MAX_PORTS, portFromText, portToText } from "../ports.js";
import { subfieldText } from "../print/subfield.js";
import { checkPort, dottedHex, hexBytes, needsField, NO_LIMIT, parsePort, wholeSubfield, words } from "./common.js";
import type { Parse, Rows } from "./row.js";

const U32 = 0xffffffff;

/** Stands for no meter (NX_CTLR_NO_METER). */
const NO_METER = 0;

/** Length of an Ethernet header: nothing shorter can be left of a packet. */
const MIN_TRUNCATED = 14;

const truncated: Parse = ({ context }, value) => {
  let port = 0;
  let maxLen = 0;
  for (const { key, value: part } of pairs(value)) {
    if (key.text === "port") {
      port = parsePort(context, part, "output to");
      if (port > MAX_PORTS && port !== PORT.LOCAL && port !== PORT.IN_PORT) {
        context.fail(part.at, `Cannot cut packets for ${part.text}: want a port, LOCAL or IN_PORT`);
      }
    } else if (key.text === "max_len") {
      maxLen = numberIn(context.line, part, "max_len", U32);
      if (maxLen < MIN_TRUNCATED) {
        context.fail(part.at, `Cannot cut packets to ${part.text} bytes: want at least ${MIN_TRUNCATED}`);
      }
    } else context.fail(key.at, `Cannot read output option "${key.text}": want port or max_len`);
  }
  return { kind: "output_trunc", port, maxLen };
};

/** Whether text begins with the name of a field. */
const namesField = (text: string): boolean => {
  const name = text.replace(/[[-].*$/s, "").replace(/_W$/, "");
  return fieldByCodeName(name) !== undefined;
};

const output: Parse = (args, value, name) => {
  const { context } = args;
  if (value.text.includes("port") && value.text.includes("max_len")) return truncated(args, value, name);
  const port = portFromText(value.text, context.ports);
  if (port !== undefined) return { kind: "output", port, maxLen: port === PORT.CONTROLLER ? NO_LIMIT : 0 };
  if (namesField(value.text)) {
    return { kind: "output_reg", src: wholeSubfield(context, value).subfield, maxLen: NO_LIMIT };
  }
  const want = "want a port number, a reserved port, a port name or a field";
  return context.fail(value.at, `Cannot output to "${value.text}": ${want}`);
};

const controller: Parse = ({ context }, value) => {
  let maxLen: number = NO_LIMIT;
  let id = 0;
  let reason: PacketInReason = "action";
  let userdata: Uint8Array | undefined;
  let pause = false;
  let meter: number | undefined;
  if (/^[0-9]+$/.test(value.text)) maxLen = numberIn(context.line, value, "max_len", NO_LIMIT);
  else {
    for (const { key, value: part } of pairs(value)) {
      if (key.text === "max_len") maxLen = numberIn(context.line, part, "max_len", NO_LIMIT);
      else if (key.text === "id") id = numberIn(context.line, part, "id", 0xffff);
      else if (key.text === "userdata") userdata = hexBytes(context, part);
      else if (key.text === "pause") pause = true;
      else if (key.text === "meter_id") meter = numberIn(context.line, part, "meter_id", U32);
      else if (key.text === "reason") {
        const named = PACKET_IN_REASONS.find((r) => r === part.text.toLowerCase());
        const want = PACKET_IN_REASONS.join(", ");
        reason = named ?? context.fail(part.at, `Cannot read reason "${part.text}": want one of ${want}`);
      } else {
        const want = "want max_len, reason, id, userdata, pause or meter_id";
        context.fail(key.at, `Cannot read controller option "${key.text}": ${want}`);
      }
    }
  }
  if (meter === NO_METER) meter = undefined;
  const plain = reason === "action" && id === 0 && userdata === undefined && !pause && meter === undefined;
  if (plain) return { kind: "output", port: PORT.CONTROLLER, maxLen };
  return {
    kind: "controller",
    maxLen,
    reason,
    id,
    ...(userdata === undefined || userdata.length === 0 ? {} : { userdata }),
    ...(pause ? { pause } : {}),
    ...(meter === undefined ? {} : { meter }),
  };
};

const enqueue: Parse = ({ context }, value) => {
  const [port] = words(value, /[:q,]/);
  const rest: Piece | undefined =
    port === undefined
      ? undefined
      : {
          text: value.text.slice(port.at - value.at + port.text.length + 1),
          at: port.at + port.text.length + 1,
        };
  if (port === undefined || rest === undefined || rest.text === "") {
    return context.fail(value.at, `Cannot read "${value.text}": want enqueue:PORT:QUEUE or enqueue(PORT,QUEUE)`);
  }
  return {
    kind: "enqueue",
    port: parsePort(context, port, "enqueue to"),
    queue: numberIn(context.line, rest, "queue", U32),
  };
};

const isEnqueuePort = (port: number): boolean => port < MAX_PORTS || port === PORT.IN_PORT || port === PORT.LOCAL;

export const OUTPUT: Rows<"output" | "output_trunc" | "output_reg" | "enqueue" | "controller" | "group"> = {
  output: {
    parse: { output },
    print: (a, { ports }) => {
      const prefix = a.port < MAX_PORTS ? "output:" : "";
      return `${prefix}${portToText(a.port, ports)}${a.port === PORT.CONTROLLER ? `:${a.maxLen}` : ""}`;
    },
    check: (s, a, { at }) => checkPort(s.context, a.port, at),
    inSet: "final",
  },
  output_trunc: {
    parse: {},
    print: (a, { ports }) => `output(port=${portToText(a.port, ports)},max_len=${a.maxLen})`,
    check: (s, a, { at }) => checkPort(s.context, a.port, at),
  },
  output_reg: {
    parse: { output_reg: output },
    print: (a) => `output:${subfieldText(a.src)}`,
    check: (s, a, { at }) => needsField(s, at, a.src.field, "output to"),
  },
  enqueue: {
    parse: { enqueue },
    print: (a, { ports }) => `enqueue:${portToText(a.port, ports)}:${a.queue}`,
    check: (s, a, { at }) => {
      if (!isEnqueuePort(a.port)) s.context.fail(at, `Cannot enqueue to ${portToText(a.port)}: it has no queues`);
    },
    carry: (a, { minor }) =>
      minor === 0
        ? [a]
        : [
            { kind: "set_queue", queue: a.queue },
            { kind: "output", port: a.port, maxLen: NO_LIMIT },
            { kind: "pop_queue" },
          ],
  },
  controller: {
    parse: { controller },
    print: (a) => {
      const options = [
        ...(a.reason === "action" ? [] : [`reason=${a.reason}`]),
        ...(a.maxLen === NO_LIMIT ? [] : [`max_len=${a.maxLen}`]),
        ...(a.id === 0 ? [] : [`id=${a.id}`]),
        ...(a.userdata === undefined ? [] : [`userdata=${dottedHex(a.userdata)}`]),
        ...(a.pause === undefined ? [] : ["pause"]),
        ...(a.meter === undefined ? [] : [`meter_id=${a.meter}`]),
      ];
      const plain = a.reason === "action" && a.id === 0 && a.userdata === undefined && a.pause === undefined;
      return plain && a.meter === undefined ? `CONTROLLER:${a.maxLen}` : `controller(${options.join(",")})`;
    },
  },
  group: {
    parse: {
      group: ({ context }, value) => ({ kind: "group", group: numberIn(context.line, value, "group", U32) }),
    },
    print: (a) => `group:${a.group}`,
    inSet: "final",
  },
};
