// Packets that come and go by tunnels (OVS ofproto/tunnel.c): what of the outer headers mattered, congestion marks taken over from
// them, and outer headers for packets that leave.

import { get, INPUT_WORDS_AT, PACKET_WORDS_AT, set } from "../../openflow/flow.js";
import { buildOuter, TNL_F, type TunnelKey } from "../../packet/tunnel.js";
import { equalBytes } from "ebpf-assembler";
import { DEFAULT_TTL, type TunnelConfig } from "../tunnel/config.js";
import { isTunnelled, putTunAddress, putTunId, tunAddress, tunIdOf } from "../tunnel/ports.js";
import type { Port } from "../ports.js";
import type { Context } from "./context.js";

const ECN_BITS = 3;
const ECN_CE = 3;
const ECN_ECT_0 = 2;
const DSCP_BITS = 0xfc;

/** Which words hold the tunnel in a flow. */
const TUNNEL_WORDS = [INPUT_WORDS_AT, PACKET_WORDS_AT] as const;

/** Marks what says by which tunnel port a packet came, and how (OVS tnl_wc_init). */
export const markTunnel = (ctx: Context): void => {
  const { flow } = ctx;
  if (!isTunnelled(flow)) return;
  ctx.tunnelDst = tunAddress(flow, "dst");
  ctx.markAll("tun_id");
  const isV4 = get(flow, "tun_dst") !== 0;
  for (const member of isV4 ? (["tun_src", "tun_dst"] as const) : (["tun_ipv6_src", "tun_ipv6_dst"] as const))
    ctx.markAll(member);
  ctx.mark("tun_flags", TNL_F.DF | TNL_F.CSUM | TNL_F.KEY);
  ctx.markAll("tun_tos");
  if (ctx.isIp && (get(flow, "tun_tos") & ECN_BITS) === ECN_CE) ctx.mark("nw_tos", ECN_BITS);
};

/**
 * A mark of congestion on the outside goes to the inside (OVS tnl_process_ecn).
 * @returns false when the packet must be dropped: the mark would be lost
 */
export const takeOverCongestion = (ctx: Context): boolean => {
  const { flow } = ctx;
  if (ctx.tunnelDst === undefined || !ctx.isIp || (get(flow, "tun_tos") & ECN_BITS) !== ECN_CE) return true;
  const tos = get(flow, "nw_tos");
  if ((tos & ECN_BITS) === 0) return false;
  set(flow, "nw_tos", tos | ECN_CE);
  return true;
};

/** TOS of the outer header: the ECN bits are those of the packet, but for a mark of congestion, which stays inside. */
const outerTos = (ctx: Context, { tos }: TunnelConfig): number => {
  if (!ctx.isIp) return tos === "inherit" ? 0 : tos;
  const inner = get(ctx.flow, "nw_tos");
  if (tos === "inherit") ctx.mark("nw_tos", DSCP_BITS);
  ctx.mark("nw_tos", ECN_BITS);
  const dscp = tos === "inherit" ? inner & DSCP_BITS : tos;
  return dscp | ((inner & ECN_BITS) === ECN_CE ? ECN_ECT_0 : inner & ECN_BITS);
};

const outerTtl = (ctx: Context, { ttl }: TunnelConfig): number =>
  ttl !== "inherit" ? ttl : ctx.isIp ? ctx.look("nw_ttl") : DEFAULT_TTL;

/** Brings the flow's tunnel to what the port sends (OVS tnl_port_send). */
const prepare = (ctx: Context, config: TunnelConfig): void => {
  const { flow } = ctx;
  if (config.local !== "flow") putTunAddress(flow, "src", config.local);
  if (config.remote !== "flow") putTunAddress(flow, "dst", config.remote);
  if (config.outKey !== "flow") putTunId(flow, config.outKey ?? 0n);
  set(flow, "tun_ttl", outerTtl(ctx, config));
  set(flow, "tun_tos", outerTos(ctx, config));
  set(
    flow,
    "tun_flags",
    (get(flow, "tun_flags") & TNL_F.OAM) |
      (config.dontFragment ? TNL_F.DF : 0) |
      (config.csum ? TNL_F.CSUM : 0) |
      (config.outKey === undefined ? 0 : TNL_F.KEY),
  );
  // What the packet brought goes out again if nothing was written over it.
  if (config.type === "geneve") ctx.mark("tun_flags", TNL_F.OAM);
  if (config.gbp) {
    ctx.markAll("tun_gbp_id");
    ctx.markAll("tun_gbp_flags");
  }
};

const keyOf = (ctx: Context, config: TunnelConfig, dst: Uint8Array): TunnelKey => {
  const { flow } = ctx;
  const src = tunAddress(flow, "src");
  return {
    type: config.type,
    src: src?.length === dst.length ? src : new Uint8Array(dst.length),
    dst,
    tunId: tunIdOf(flow),
    tos: get(flow, "tun_tos"),
    ttl: get(flow, "tun_ttl"),
    flags: get(flow, "tun_flags"),
    dstPort: config.dstPort,
    ...(config.gbp ? { gbp: { id: get(flow, "tun_gbp_id"), flags: get(flow, "tun_gbp_flags") } } : {}),
    ...(config.seq ? { seq: true } : {}),
  };
};

/** Sends the packet, which the datapath has as it is to be, through a tunnel port. The flow's tunnel is as before afterwards. */
export const outputToTunnel = (
  ctx: Context,
  port: Port,
  config: TunnelConfig,
  commit: (ctx: Context) => void,
): void => {
  const { flow } = ctx;
  const before = flow.slice(...TUNNEL_WORDS);
  prepare(ctx, config);
  const dst = tunAddress(flow, "dst");
  if (dst === undefined) ctx.trace?.note("Tunneling decided against output", "warning");
  else if (ctx.tunnelDst !== undefined && equalBytes(dst, ctx.tunnelDst))
    ctx.trace?.note("Not tunneling to our own address", "warning");
  else {
    const tunnel = keyOf(ctx, config, dst);
    const hop = ctx.sw.underlay?.hop(dst, tunnel.src);
    commit(ctx);
    ctx.actions.push({
      kind: "tnl_push",
      port: port.number,
      tunnel,
      header: buildOuter(tunnel, hop),
      ...(hop === undefined ? {} : { hop }),
    });
  }
  flow.set(before, TUNNEL_WORDS[0]);
};
