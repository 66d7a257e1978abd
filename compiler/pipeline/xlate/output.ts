// Sending a packet: to one port, to all, to the controller.

import { PACKET_WORDS_AT, set } from "../../openflow/flow.js";
import { ETH_TYPE } from "../../packet/headers.js";
import { portToText } from "../../openflow/ports.js";
import { PORT } from "../../openflow/types.js";
import type { Rule } from "../table.js";
import { commit } from "./commit.js";
import type { Context } from "./context.js";
import { normal } from "./normal.js";
import { outputToTunnel } from "./tunnel.js";

/** All of the packet. */
export const MAX_CONTROLLER_BYTES = 65535;

/** Sends the packet as it is now out of `number`, unless there is no such port or it must not forward. */
export const outputTo = (ctx: Context, number: number): void => {
  const port = ctx.port(number);
  if (port === undefined) {
    ctx.trace?.note("Nonexistent output port", "warning");
    return;
  }
  if (port.config.noForward) {
    ctx.trace?.note("OFPPC_NO_FWD set, skipping output");
    return;
  }
  if (ctx.get("packet_type") !== 0) {
    ctx.trace?.note("Trying to send non-Ethernet packet through legacy L2 port. Dropping packet.", "warning");
    return;
  }
  if (port.tunnel !== undefined) {
    outputToTunnel(ctx, port, port.tunnel, commit);
    return;
  }
  commit(ctx);
  ctx.actions.push({ kind: "output", port: number });
};

/** FLOOD (without the ports that say no_flood) and ALL, by ascending port number. */
const flood = (ctx: Context, all: boolean): void => {
  const { inPort } = ctx;
  for (const port of ctx.sw.ports) {
    if (port.number !== inPort && (all || !port.config.noFlood)) outputTo(ctx, port.number);
  }
};

/** OVS `rule_is_table_miss`: what a table's catch-all rule of priority 0 sends is a miss, not an action. */
const isTableMiss = (rule: Rule | undefined): boolean =>
  rule?.priority === 0 && rule.match.mask.every((word) => word === 0);

/** Sends a copy as it is now to the controller. */
export const toController = (
  ctx: Context,
  maxLen: number,
  reason: string,
  controllerId: number,
  userdata?: Uint8Array,
): void => {
  commit(ctx);
  ctx.actions.push({
    kind: "controller",
    reason: reason === "action" && isTableMiss(ctx.rule) ? "explicit_miss" : reason,
    maxLen,
    controllerId,
    table: ctx.table,
    cookie: ctx.cookie,
    metadata: ctx.flow.slice(0, PACKET_WORDS_AT),
    ...(userdata === undefined ? {} : { userdata }),
  });
};

/** A packet that no flow matches goes to the controllers that want it, and nowhere else. @returns whether one does */
export const missed = (ctx: Context): boolean => {
  if (!ctx.sw.missesToController || ctx.port(ctx.inPort)?.config.noPacketIn === true) return false;
  toController(ctx, MAX_CONTROLLER_BYTES, "implicit_miss", 0);
  return true;
};

/** `output` to a port, real or reserved. `lookUp` looks a table up from its beginning, for OFPP_TABLE. */
export const output = (
  ctx: Context,
  port: number,
  maxLen: number,
  inBucket: boolean,
  lookUp: (ctx: Context, inPort: number, table: number) => void,
): void => {
  switch (port) {
    case PORT.IN_PORT:
      outputTo(ctx, ctx.inPort);
      return;
    case PORT.TABLE:
      lookUp(ctx, ctx.inPort, 0);
      return;
    case PORT.NORMAL:
      normal(ctx, outputTo);
      return;
    case PORT.FLOOD:
    case PORT.ALL:
      flood(ctx, port === PORT.ALL);
      return;
    case PORT.CONTROLLER:
      toController(
        ctx,
        maxLen,
        ctx.inPacketOut ? "packet_out" : inBucket ? "group" : ctx.inActionSet ? "action_set" : "action",
        0,
      );
      return;
    case PORT.NONE:
      return;
    default:
      if (port !== ctx.inPort) outputTo(ctx, port);
      else ctx.trace?.note("skipping output to input port", "warning");
  }
};

/** Reserved ports to which a packet cannot go cut short. */
const NOT_TRUNCATED: readonly number[] = [
  ...[PORT.TABLE, PORT.NORMAL, PORT.FLOOD, PORT.ALL, PORT.CONTROLLER, PORT.NONE],
];

/** `output(port=PORT,max_len=BYTES)`. OVS takes the number of IN_PORT for that of a port, which it does not find. */
export const outputTruncated = (
  ctx: Context,
  port: number,
  maxLen: number,
  lookUp: Parameters<typeof output>[4],
): void => {
  if (NOT_TRUNCATED.includes(port)) {
    ctx.trace?.note(`output_trunc does not support port: ${portToText(port)}`, "warning");
  } else if (port === ctx.inPort) {
    ctx.trace?.note("skipping output to input port", "warning");
  } else if (ctx.port(port) === undefined) {
    ctx.trace?.note(`output_trunc does not support patch port ${portToText(port)}`, "error");
  } else {
    ctx.actions.push({ kind: "trunc", maxLen });
    output(ctx, port, 0, false, lookUp);
  }
};

/** `dec_ttl`. Returns whether the TTL is used up: the packet goes to the controllers named and no further here. */
export const decTtl = (ctx: Context, controllers: readonly number[]): boolean => {
  if (!ctx.isIp) return false;
  const ttl = ctx.look("nw_ttl");
  if (ttl > 1) {
    set(ctx.flow, "nw_ttl", ttl - 1);
    return false;
  }
  for (const id of controllers) toController(ctx, MAX_CONTROLLER_BYTES, "invalid_ttl", id);
  ctx.trace?.note(`IPv${ctx.dlType === ETH_TYPE.IPV4 ? 4 : 6} decrement TTL exception`, "warning");
  return true;
};
