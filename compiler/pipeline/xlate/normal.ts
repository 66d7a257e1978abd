// The NORMAL action: forward as a VLAN-aware learning bridge whose ports are all trunks, as OVS's are unless configured
// otherwise (ofproto-dpif-xlate.h, xlate_normal). Learning itself is left to the caller as a side effect. Left out,
// because nothing here can set it up: access ports, bonds, mirrors, spanning tree, multicast snooping.

import { FLOW, get, getBits, set } from "../../openflow/flow.js";
import { VLAN_PRESENT } from "../../openflow/numbers.js";
import { ETH_TYPE } from "../../packet/headers.js";
import { PORT } from "../../openflow/types.js";
import { isMulticast } from "../mac-learning.js";
import type { Context } from "./context.js";

const macOf = (ctx: Context, member: "dl_src" | "dl_dst"): number => {
  const { at } = FLOW[member];
  return getBits(ctx.flow, at, 16) * 2 ** 32 + getBits(ctx.flow, at + 16, 32);
};

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);

/** Destinations that bridges keep to themselves (OVS lib/packets.h, eth_addr_is_reserved). */
const RESERVED: ReadonlySet<number> = new Set([
  // IEEE 802.1D: spanning tree, pause, LACP, LLDP and their neighbours.
  ...range(0x0180c2000000, 0x0180c200000f),
  // Extreme Networks: EDP, EAPS.
  0x00e02b000000,
  0x00e02b000004,
  0x00e02b000006,
  // Cisco: ISL; PAgP, UDLD, CDP, DTP, VTP; PVST+; STP Uplink Fast; CFM.
  0x01000c000000,
  0x01000ccccccc,
  0x01000ccccccd,
  0x01000ccdcdcd,
  ...range(0x01000cccccc0, 0x01000cccccc7),
]);

const isVlanType = (type: number): boolean => type === ETH_TYPE.VLAN || type === ETH_TYPE.QINQ;

const TAGS = [
  { tpid: "vlan0_tpid", tci: "vlan0_tci" },
  { tpid: "vlan1_tpid", tci: "vlan1_tci" },
] as const;

/**
 * Takes away tags that carry neither a VLAN nor a priority, as OVS does with everything it sends by NORMAL. Marks the
 * bits that say whether there are such tags.
 */
const dropEmptyTags = (ctx: Context): void => {
  for (const { tpid, tci } of TAGS) {
    ctx.mark(tci, VLAN_PRESENT);
    const value = get(ctx.flow, tci);
    if ((value & VLAN_PRESENT) === 0) return;
    ctx.mark(tci, 0x0fff);
    if ((value & 0x0fff) !== 0) continue;
    ctx.mark(tci, 0xe000);
    if ((value & 0xe000) !== 0) continue;
    set(ctx.flow, tci, 0);
    ctx.markAll(tpid);
  }
};

/** Where a destination is; what this packet itself has shown so far counts as learned. */
const lookUp = (ctx: Context, mac: number, vlan: number): number | undefined => {
  if (isMulticast(mac)) return undefined;
  return ctx.learns.findLast((seen) => seen.mac === mac && seen.vlan === vlan)?.port ?? ctx.sw.macs.lookup(mac, vlan);
};

export const normal = (ctx: Context, outputTo: (ctx: Context, port: number) => void): void => {
  const { flow, sw } = ctx;
  ctx.markAll("dl_src");
  ctx.markAll("dl_dst");
  ctx.mark("vlan0_tci", 0x0fff | VLAN_PRESENT);

  const inPort = ctx.inPort;
  const known = ctx.port(inPort) !== undefined;
  if (!known && inPort !== PORT.CONTROLLER && inPort !== PORT.NONE) {
    ctx.trace?.note(`received packet on unknown port ${inPort}`, "error");
    ctx.trace?.note("no input bundle, dropping", "warning");
    return;
  }
  const tci = get(flow, "vlan0_tci");
  if (isVlanType(ctx.dlType) && (tci & VLAN_PRESENT) === 0) {
    ctx.trace?.note("partial VLAN tag, dropping", "warning");
    return;
  }
  const vlan = (tci & VLAN_PRESENT) === 0 ? 0 : tci & 0x0fff;
  const destination = macOf(ctx, "dl_dst");
  if (known && !sw.forwardBpdu && RESERVED.has(destination)) {
    ctx.trace?.note("packet has reserved destination MAC, dropping");
    return;
  }
  if (known) ctx.learns.push({ mac: macOf(ctx, "dl_src"), vlan, port: inPort });

  const learned = lookUp(ctx, destination, vlan);
  if (learned === inPort && known) {
    ctx.trace?.note("learned port is input port, dropping");
    return;
  }
  const tags = [get(flow, "vlan0_tci"), get(flow, "vlan1_tci")] as const;
  dropEmptyTags(ctx);
  if (learned !== undefined) {
    ctx.trace?.note("forwarding to learned port");
    outputTo(ctx, learned);
  } else {
    ctx.trace?.note("no learned MAC for destination, flooding");
    for (const port of sw.ports) {
      if (port.number !== inPort && !port.config.noFlood) outputTo(ctx, port.number);
    }
  }
  set(flow, "vlan0_tci", tags[0]);
  set(flow, "vlan1_tci", tags[1]);
};
