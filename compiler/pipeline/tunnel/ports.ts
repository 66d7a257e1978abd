// Which port of the switch a packet that came by a tunnel is for (OVS ofproto/tunnel.c, tnl_port_receive), and how the members of
// the flow hold what its outer headers said.

import { toHex } from "ebpf-assembler";
import { clearMember, FLOW, getBits, getBytes, set, setBits, setBytes, type FlowWords } from "../../openflow/flow.js";
import type { TunnelKey } from "../../packet/tunnel.js";
import { vportKey, type TunnelConfig, type Vport } from "./config.js";

/** Puts what outer headers said into the flow of the packet inside; `flow` had no tunnel before. */
export const putTunnel = (flow: FlowWords, key: TunnelKey): void => {
  putTunId(flow, key.tunId);
  putTunAddress(flow, "src", key.src);
  putTunAddress(flow, "dst", key.dst);
  set(flow, "tun_tos", key.tos);
  set(flow, "tun_ttl", key.ttl);
  set(flow, "tun_flags", key.flags);
  set(flow, "tun_gbp_id", key.gbp?.id ?? 0);
  set(flow, "tun_gbp_flags", key.gbp?.flags ?? 0);
};

/** Writes tun_id. */
export const putTunId = (flow: FlowWords, tunId: bigint): void => {
  const { at } = FLOW.tun_id;
  setBits(flow, at, 32, Number(tunId >> 32n));
  setBits(flow, at + 32, 32, Number(tunId & 0xffff_ffffn));
};

export const tunIdOf = (flow: FlowWords): bigint => {
  const { at } = FLOW.tun_id;
  return (BigInt(getBits(flow, at, 32)) << 32n) | BigInt(getBits(flow, at + 32, 32));
};

const MEMBERS = { src: ["tun_src", "tun_ipv6_src"], dst: ["tun_dst", "tun_ipv6_dst"] } as const;

/** Writes an address of either family; the member of the other is zero then. Absent: neither. */
export const putTunAddress = (flow: FlowWords, end: "src" | "dst", address: Uint8Array | undefined): void => {
  for (const member of MEMBERS[end]) {
    const { at, bits } = FLOW[member];
    if (address !== undefined && address.length * 8 === bits) setBytes(flow, at, bits, address);
    else clearMember(flow, member);
  }
};

const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

/** An address of the tunnel, IPv4 before IPv6; undefined when neither is there. */
export const tunAddress = (flow: FlowWords, end: "src" | "dst"): Uint8Array | undefined => {
  for (const member of MEMBERS[end]) {
    const { at, bits } = FLOW[member];
    const bytes = getBytes(flow, at, bits);
    if (!isZero(bytes)) return bytes;
  }
  return undefined;
};

const { at: DST_AT } = FLOW.tun_dst;
const { at: DST6_AT } = FLOW.tun_ipv6_dst;

/** Whether the packet came by a tunnel (OVS tnl_port_should_receive). */
export const isTunnelled = (flow: FlowWords): boolean =>
  getBits(flow, DST_AT, 32) !== 0 || [0, 32, 64, 96].some((off) => getBits(flow, DST6_AT + off, 32) !== 0);

const text = (address: Uint8Array | undefined): string => (address === undefined ? "" : toHex(address));

/** In place of the port of a packet that came by a tunnel and that no port takes: it is dropped. */
export const NO_TUNNEL_PORT = 0;

/** How ports are told apart: exactly by key before any key, by remote before any remote, by local address before any. */
const WAYS = [false, true].flatMap((anyKey) =>
  [false, true].flatMap((anyRemote) =>
    (["local", "any", "flow"] as const).map((local) => ({ anyKey, anyRemote, local })),
  ),
);

const identity = (
  vport: string,
  key: bigint | "flow",
  remote: Uint8Array | "flow",
  local: Uint8Array | "flow" | undefined,
): string =>
  [vport, String(key), remote === "flow" ? "flow" : text(remote), local === "flow" ? "flow" : text(local)].join("|");

export const identityOf = (config: TunnelConfig): string =>
  identity(vportKey(config), config.inKey ?? 0n, config.remote, config.local);

/** The tunnel ports of a switch. */
export class TunnelPorts {
  readonly #ports = new Map<string, number>();
  readonly #configs = new Map<number, TunnelConfig>();
  readonly #vports = new Map<string, Vport>();

  get size(): number {
    return this.#configs.size;
  }

  get configs(): Iterable<TunnelConfig> {
    return this.#configs.values();
  }

  /** The port that takes the same packets as `config` would. */
  conflict(config: TunnelConfig): number | undefined {
    return this.#ports.get(identityOf(config));
  }

  set(number: number, config: TunnelConfig): void {
    this.delete(number);
    this.#ports.set(identityOf(config), number);
    this.#configs.set(number, config);
    const key = vportKey(config);
    const { type, dstPort } = config;
    if (!this.#vports.has(key)) this.#vports.set(key, { number: this.#vports.size, type, dstPort });
  }

  /** What the ports' packets come to. */
  get vports(): Vport[] {
    const used = new Set([...this.#configs.values()].map(vportKey));
    return [...this.#vports].filter(([key]) => used.has(key)).map(([, vport]) => vport);
  }

  /** The {@link Vport} that a packet comes to. */
  vportNumber(packet: Pick<TunnelConfig, "type" | "dstPort">): number | undefined {
    return this.#vports.get(vportKey(packet))?.number;
  }

  delete(number: number): void {
    const config = this.#configs.get(number);
    if (config === undefined) return;
    this.#ports.delete(identityOf(config));
    this.#configs.delete(number);
  }

  /** The kind of tunnel whose packets come to a UDP port, if any does. */
  readonly udpType = (udpPort: number): "vxlan" | "geneve" | undefined => {
    for (const { type, dstPort } of this.#configs.values()) if (type !== "gre" && dstPort === udpPort) return type;
    return undefined;
  };

  /** The port of a packet that came by a tunnel; undefined when none takes it. */
  receive({
    type,
    dstPort,
    tunId,
    src,
    dst,
  }: Pick<TunnelKey, "type" | "dstPort" | "tunId" | "src" | "dst">): number | undefined {
    const vport = vportKey({ type, dstPort });
    for (const { anyKey, anyRemote, local } of WAYS) {
      const own = local === "local" ? dst : local === "flow" ? "flow" : undefined;
      const found = this.#ports.get(identity(vport, anyKey ? "flow" : tunId, anyRemote ? "flow" : src, own));
      if (found !== undefined) return found;
    }
    return undefined;
  }
}
