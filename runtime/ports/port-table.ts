// The ports of a switch as the runtime knows them: OpenFlow number, interface, hook, and statistics, which come from
// crediting translations: a packet is counted at its input port once and at each port it was sent out of.

import { hookOfVport, OUTPUT_PEER, PORT, type DpAction, type Hook } from "#compiler";
import type { AttachedHook } from "./port-spec.js";

/** Packets and bytes of a port; bytes with the L2 header and tags. */
export interface PortStats {
  rxPackets: number;
  rxBytes: number;
  txPackets: number;
  txBytes: number;
}

/** A port of the switch: an interface, or a tunnel. */
export interface RuntimePort {
  readonly number: number;
  readonly name: string;
  /** Name of the interface that is attached: of an internal port, the switch's end. */
  readonly device: string;
  /** 0 for a tunnel. */
  readonly ifindex: number;
  readonly hook: AttachedHook | "tunnel";
  /** Packets for it go straight to the other end of the pair. */
  readonly toPeer: boolean;
  /** `02:00:00:00:00:01`; "" for an interface without. */
  readonly mac: string;
  /** CLOCK_MONOTONIC when it became a port. */
  readonly addedMs: number;
  readonly stats: PortStats;
}

/** Bytes of a VLAN tag. */
const TAG_SIZE = 4;

export class PortTable {
  private readonly numbers = new Map<number, RuntimePort>();
  private readonly indices = new Map<number, RuntimePort>();

  add(port: RuntimePort): void {
    this.numbers.set(port.number, port);
    if (port.ifindex !== 0) this.indices.set(port.ifindex, port);
  }

  remove(number: number): RuntimePort | undefined {
    const port = this.numbers.get(number);
    if (port === undefined) return undefined;
    this.numbers.delete(number);
    this.indices.delete(port.ifindex);
    return port;
  }

  byNumber(number: number): RuntimePort | undefined {
    return this.numbers.get(number);
  }

  byIfindex(ifindex: number): RuntimePort | undefined {
    return this.indices.get(ifindex);
  }

  byName(name: string): RuntimePort | undefined {
    for (const port of this.numbers.values()) if (port.name === name) return port;
    return undefined;
  }

  /** By ascending number. */
  get all(): RuntimePort[] {
    return [...this.numbers.values()].sort((a, b) => a.number - b.number);
  }

  /** Interface index of an OpenFlow port, 0 when it is none of ours. */
  ifindexOf(number: number): number {
    return this.numbers.get(number)?.ifindex ?? 0;
  }

  /** The datapath's argument for an output to a port; 0 when it is none of ours. */
  outputOf(number: number): number {
    const port = this.numbers.get(number);
    if (port === undefined) return 0;
    return port.toPeer ? port.ifindex + OUTPUT_PEER : port.ifindex;
  }

  /** Program type that handles what comes in by an interface. */
  hookOf(ifindex: number): Hook {
    return hookOfVport(ifindex) ?? (this.indices.get(ifindex)?.hook === "tc" ? "tc" : "xdp");
  }

  /** The lowest number that no port has. */
  get freeNumber(): number {
    let number = 1;
    while (this.numbers.has(number)) number++;
    return number;
  }

  /** Counts `packets` that came in by `inPort` and went through `actions`. */
  credit(inPort: number, actions: readonly DpAction[], packets: number, bytes: number): void {
    const input = this.numbers.get(inPort);
    if (input !== undefined) {
      input.stats.rxPackets += packets;
      input.stats.rxBytes += bytes;
    }
    this.creditOutputs(actions, packets, bytes);
  }

  /** A packet that nothing else counts left by a port. */
  countSent(number: number, bytes: number): void {
    const stats = this.numbers.get(number)?.stats;
    if (stats === undefined) return;
    stats.txPackets++;
    stats.txBytes += bytes;
  }

  private creditOutputs(actions: readonly DpAction[], packets: number, bytes: number): void {
    let size = bytes;
    for (const action of actions) {
      if (action.kind === "push_vlan") size += packets * TAG_SIZE;
      else if (action.kind === "pop_vlan") size -= packets * TAG_SIZE;
      else if (action.kind === "clone") this.creditOutputs(action.actions, packets, size);
      else if (action.kind === "output" || action.kind === "tnl_push") {
        const output = this.numbers.get(action.port);
        if (output === undefined) continue;
        output.stats.txPackets += packets;
        output.stats.txBytes += size;
      }
    }
  }
}

/** Fresh statistics. */
export const newPortStats = (): PortStats => ({ rxPackets: 0, rxBytes: 0, txPackets: 0, txBytes: 0 });

/** A port number as OVS prints it. */
export const portText = (number: number): string => (number === PORT.LOCAL ? "LOCAL" : String(number));
