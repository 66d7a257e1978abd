// What user space makes of a packet that came by an uplink: the port of the switch that it is for, and the frame inside. Programs do
// the same (datapath/tunnel-parse.ts), but for finding the port, which is what misses are for.

import { equalBytes } from "ebpf-assembler";
import { decapsulate, type TunnelKey } from "../../packet/tunnel.js";
import type { TunnelPorts } from "./ports.js";

/** A packet of a tunnel. */
export interface Arrival {
  readonly key: TunnelKey;
  /** Of what its packets come to ({@link TunnelPorts.vports}). */
  readonly vport: number;
  /** OpenFlow number of the port that takes it; undefined: none does. */
  readonly port: number | undefined;
  /** The frame inside. */
  readonly inner: Uint8Array;
}

/** @returns undefined for a packet that is the host's own. @param addresses - those of the host that tunnels end at */
export const arrive = (
  tunnels: TunnelPorts,
  addresses: readonly Uint8Array[],
  packet: Uint8Array,
): Arrival | undefined => {
  const found = decapsulate(packet, tunnels.udpType);
  if (found === undefined || !addresses.some((address) => equalBytes(address, found.key.dst))) return undefined;
  const { key, outerBytes } = found;
  const vport = tunnels.vportNumber(key);
  if (vport === undefined) return undefined;
  return { key, vport, port: tunnels.receive(key), inner: packet.subarray(outerBytes) };
};
