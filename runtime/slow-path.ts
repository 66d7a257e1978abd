// The slow path: takes upcalls out of the ring, translates their packets, installs megaflows, and sends the packets on.
//
// Every packet that came up is carried out here exactly once: the first packet of a flow is not lost. A packet that the
// datapath counted already (ACTION) is not counted again. Nothing is kept of a record after its callback; a packet is
// copied only where it is changed.

import {
  completeChecksum,
  encapsulate,
  ETH_TYPE,
  extract,
  HEADERS,
  IP_PROTO,
  newFlow,
  newLayers,
  NO_TUNNEL_PORT,
  OVS_PACKET_CMD,
  learnFrom,
  pseudoHeaderChecksumAt,
  pseudoHeaderSum,
  putTunnel,
  Runner,
  findUnderLabels,
  segmentTcp,
  translate,
  type DpAction,
  type Frozen,
  type Layers,
  type MeterVerdict,
  type Sink,
  type Switch,
} from "#compiler";
import { GSO, type PacketOffload, type PacketSender, type RingMemory } from "libbpf-ts";
import { UpcallReader } from "./channel/reader.js";
import { monotonicMs } from "./clock.js";
import type { MegaflowCache } from "./megaflow/cache.js";
import type { Verdict } from "./megaflow/verdict.js";
import { Histogram, type Quantiles } from "./metrics/histogram.js";
import type { PortTable } from "./ports/port-table.js";
import type { Tunnels } from "./ports/tunnels.js";

/** Records per turn of the event loop, and how long one may take. */
export const DRAIN_LIMIT = 4096;
export const DRAIN_LIMIT_MS = 4;
/** Nothing of a translation's arrays is kept: the cache copies what it needs. */
const BORROW = { borrow: true } as const;
/** The largest packet: 64 KiB of GSO and its tags. */
const MAX_PACKET = (1 << 16) + 256;

/** Upcalls since the start. */
export interface SlowPathStats {
  /** No megaflow was there. */
  readonly misses: number;
  /** A megaflow was there whose actions user space carries out. */
  readonly slow: number;
  /** Records that were no upcalls, and upcalls of interfaces that are no ports. */
  readonly malformed: number;
  readonly noPort: number;
  /** Packets that could not be carried out. */
  readonly errors: number;
  readonly controllerCopies: number;
  /** Partial checksums completed, and GSO packets sent. */
  readonly checksums: number;
  readonly gso: number;
  /** Packets to be cut into segments that nobody can cut: dropped. */
  readonly gsoRefused: number;
  /** Of misses: from the datapath's time stamp to the packet's transmission, ns. */
  readonly latency: Quantiles;
  /** The same of packets that had a megaflow. */
  readonly slowLatency: Quantiles;
}

export class SlowPath implements Sink {
  readonly latency = new Histogram();
  readonly slowLatency = new Histogram();
  private readonly reader = new UpcallReader();
  private readonly flow = newFlow();
  private readonly layers: Layers = newLayers();
  private readonly runner: Runner;
  private readonly copy = new Uint8Array(MAX_PACKET);
  /** Time stamps of packets that are queued to be sent. */
  private readonly times = new Float64Array(DRAIN_LIMIT);
  private readonly histograms = new Array<Histogram>(DRAIN_LIMIT).fill(this.latency);
  private nTimes = 0;
  private readonly counters = {
    misses: 0,
    slow: 0,
    malformed: 0,
    noPort: 0,
    errors: 0,
    controllerCopies: 0,
    checksums: 0,
    gso: 0,
    gsoRefused: 0,
  };
  /** The packet in hand came by no port, and no megaflow counts it. */
  private isOwn = false;
  /** GSO of the packet in hand; 0 for none. */
  private gsoSize = 0;

  /**
   * @param credit - counts packets of a translation for rules, groups and ports
   * @param onError - told about a packet that could not be carried out
   */
  constructor(
    private readonly sw: Switch,
    private readonly cache: MegaflowCache,
    private readonly ports: PortTable,
    private readonly sender: PacketSender,
    private readonly credit: (
      translation: Verdict,
      inPort: number,
      packets: number,
      bytes: number,
      nowMs: number,
    ) => void,
    private readonly onError: (error: unknown) => void,
  ) {
    this.runner = new Runner(sw);
  }

  get stats(): SlowPathStats {
    return { ...this.counters, latency: this.latency.quantiles, slowLatency: this.slowLatency.quantiles };
  }

  /** Handles one record of the ring. Never throws. */
  readonly onRecord = (ring: RingMemory, at: number, size: number): void => {
    const { reader } = this;
    if (!reader.read(ring.view, at, size)) {
      this.counters.malformed++;
      return;
    }
    try {
      this.upcall(ring.bytes.subarray(reader.packetAt, reader.packetAt + reader.packetSize));
    } catch (error) {
      this.counters.errors++;
      this.onError(error);
    }
    if (this.nTimes === DRAIN_LIMIT) return;
    this.histograms[this.nTimes] = reader.cmd === OVS_PACKET_CMD.MISS ? this.latency : this.slowLatency;
    this.times[this.nTimes++] = reader.timeNs;
  };

  /** Sends what the drained records left to be sent. */
  readonly onDrained = (): void => {
    this.sender.flush();
    const nowNs = monotonicMs() * 1e6;
    for (let i = 0; i < this.nTimes; i++) this.histograms[i]!.record(nowNs - this.times[i]!);
    this.nTimes = 0;
  };

  /** @param packet - in the ring's memory, which must not be written */
  private upcall(packet: Uint8Array): void {
    const { reader, flow, layers } = this;
    const port = this.ports.byIfindex(reader.inPort);
    if (port === undefined) {
      this.upcallOfTunnel(packet);
      return;
    }
    this.countUpcall();
    extract(packet, packet.length, port.number, flow, layers);
    this.forward(packet, port.number, port.ifindex, reader.len);
  }

  /** What makes tunnels' packets of what comes by uplinks; undefined without tunnel ports. */
  tunnels: Pick<Tunnels, "arrival" | "sender"> | undefined;

  /** A packet that came by no port: the frame inside is for one if it came by a tunnel. */
  private upcallOfTunnel(packet: Uint8Array): void {
    const { reader, flow, layers } = this;
    const arrival = this.tunnels?.arrival(reader.inPort, packet);
    if (arrival === undefined) {
      this.counters.noPort++;
      return;
    }
    // One that no port takes gets a megaflow that drops it.
    const { inner, port = NO_TUNNEL_PORT, index, key } = arrival;
    this.countUpcall();
    extract(inner, inner.length, port, flow, layers);
    putTunnel(flow, key);
    this.forward(inner, port, index, inner.length);
  }

  private countUpcall(): void {
    if (this.reader.cmd === OVS_PACKET_CMD.MISS) this.counters.misses++;
    else this.counters.slow++;
  }

  /** Carries the packet in hand out, whose flow is known. @param index - what stands for its port in megaflows */
  private forward(packet: Uint8Array, port: number, index: number, bytes: number): void {
    const nowMs = monotonicMs();
    const isMiss = this.reader.cmd === OVS_PACKET_CMD.MISS;
    const translation = this.translationOf(index, isMiss, nowMs);
    if (isMiss) this.credit(translation, port, 1, bytes, nowMs);
    if (translation.actions.length > 0) this.execute(packet, translation, nowMs);
  }

  /** The translation of the packet in hand, whose megaflow is installed afterwards if it can be. */
  private translationOf(ifindex: number, isMiss: boolean, nowMs: number): Verdict {
    const { sw, flow, cache } = this;
    const known = cache.findRecent(flow, ifindex);
    if (known !== undefined && known.translation.version === sw.version) {
      if (isMiss) known.usedMs = Math.floor(nowMs);
      return known.translation;
    }
    const translation = translate(sw, flow, BORROW);
    learnFrom(sw, translation, nowMs);
    const ukey = cache.install(flow, ifindex, translation, nowMs);
    if (ukey !== undefined) ukey.usedMs = Math.floor(nowMs);
    return translation;
  }

  private execute(packet: Uint8Array, { actions }: Verdict, nowMs: number): void {
    const { layers, reader, copy } = this;
    this.gsoSize = reader.gsoSize;
    if (this.gsoSize === 0 && isPartial(packet, layers)) {
      // Nobody behind a socket would finish it, and rewriting counts on a whole one.
      copy.set(packet);
      const own = copy.subarray(0, packet.length);
      if (completeChecksum(own, layers)) this.counters.checksums++;
      this.runner.run(own, actions, this, nowMs, layers);
      return;
    }
    this.runner.run(packet, actions, this, nowMs, layers);
  }

  /** Sends a packet out of an OpenFlow port. */
  output(port: number, packet: Uint8Array): void {
    const ifindex = this.ports.ifindexOf(port);
    if (ifindex === 0) return;
    if (this.isOwn) this.ports.countSent(port, packet.length);
    if (this.gsoSize === 0) this.sender.queue(ifindex, packet);
    else this.outputGso(ifindex, packet);
  }

  /** Sends a packet through a tunnel; a super-packet in its segments. */
  tunnel(action: Parameters<NonNullable<Sink["tunnel"]>>[0], packet: Uint8Array): void {
    if (this.gsoSize === 0) {
      this.sendTunnelled(action, packet);
      return;
    }
    extract(packet, packet.length, 0, this.outFlow, this.outLayers);
    const segments = segmentTcp(packet, this.outLayers, this.gsoSize);
    if (segments === undefined) this.counters.errors++;
    else for (const segment of segments) this.sendTunnelled(action, segment);
  }

  /** GRE sequence numbers, by port. */
  private readonly sequences = new Map<number, number>();

  private sendTunnelled(
    { port, header, hop, tunnel }: Parameters<NonNullable<Sink["tunnel"]>>[0],
    packet: Uint8Array,
  ): void {
    let sequence: number | undefined;
    if (tunnel.seq === true) {
      sequence = this.sequences.get(port) ?? 0;
      this.sequences.set(port, (sequence + 1) >>> 0);
    }
    const outside = encapsulate(header, packet, sequence);
    // The host asks for an address that is not known, and keeps the packet meanwhile.
    if (hop?.dstMac === undefined) this.tunnels?.sender.send(outside.subarray(HEADERS.ethernet.minBytes));
    else this.sender.queue(hop.ifindex, outside);
  }

  /** From the buckets that the programs take from, too. */
  meter(slot: number, bytes: number): MeterVerdict {
    return this.sw.meters.meter(slot, bytes, monotonicMs());
  }

  /** Sends a packet that came by no port, together with what else is sent by the work in hand. */
  sendOut(packet: Uint8Array, actions: readonly DpAction[]): void {
    this.sendOwn(() => this.runner.run(packet, actions, this, monotonicMs()));
  }

  /** Takes up a packet again that waited for its controller. */
  resume(packet: Uint8Array, frozen: Frozen, packetType: number): void {
    this.sendOwn(() => this.runner.resume(packet, frozen, packetType, this, monotonicMs()));
  }

  private sendOwn(send: () => void): void {
    this.gsoSize = 0;
    this.isOwn = true;
    try {
      send();
    } finally {
      this.isOwn = false;
      this.flushSoon();
    }
  }

  private flushSoon(): void {
    if (this.isFlushing) return;
    this.isFlushing = true;
    process.nextTick(this.flush);
  }

  private isFlushing = false;
  private readonly flush = (): void => {
    this.isFlushing = false;
    this.sender.flush();
  };

  /** Who gets packets for controllers; their bytes are good during the call. */
  onController: Sink["controller"] = () => undefined;

  controller(action: Parameters<Sink["controller"]>[0], packet: Uint8Array): void {
    this.counters.controllerCopies++;
    this.onController(action, packet);
  }

  private readonly outFlow = newFlow();
  private readonly outLayers: Layers = newLayers();

  /**
   * Sends a packet that is to be cut into segments: with an empty checksum over the pseudo header, as its sender left it. The
   * kernel does not cut what is behind labels that it has not pushed itself: such a packet leaves in segments.
   */
  private outputGso(ifindex: number, packet: Uint8Array): void {
    const { outLayers: layers } = this;
    const own = packet.slice();
    extract(own, own.length, 0, this.outFlow, layers);
    const offload = gsoOffload(own, layers, this.gsoSize);
    if (offload !== undefined) {
      this.sender.queue(ifindex, own, offload);
      this.counters.gso++;
      return;
    }
    const segments = findUnderLabels(own, layers) ? segmentTcp(own, layers, this.gsoSize) : undefined;
    if (segments === undefined) this.counters.gsoRefused++;
    else for (const segment of segments) this.sender.queue(ifindex, segment);
  }
}

/** Whether the L4 checksum holds the sum of the pseudo header only. */
const isPartial = (packet: Uint8Array, layers: Layers): boolean => {
  if (layers.proto !== IP_PROTO.TCP && layers.proto !== IP_PROTO.UDP) return false;
  const at = pseudoHeaderChecksumAt(packet, layers);
  return at >= 0 && ((packet[at]! << 8) | packet[at + 1]!) === pseudoHeaderSum(packet, layers);
};

/** What the kernel must know to segment `packet`; puts the pseudo-header sum into it. */
const gsoOffload = (packet: Uint8Array, layers: Layers, gsoSize: number): PacketOffload | undefined => {
  const at = pseudoHeaderChecksumAt(packet, layers);
  if (at < 0) return undefined;
  const sum = pseudoHeaderSum(packet, layers);
  packet[at] = sum >>> 8;
  packet[at + 1] = sum & 0xff;
  const isTcp = layers.proto === IP_PROTO.TCP;
  const tcpLength = (packet[layers.l4 + HEADERS.tcp.fields.dataOffset.byteOffset]! >>> 4) * 4;
  return {
    checksumStart: layers.l4,
    checksumOffset: at - layers.l4,
    gsoType: !isTcp ? GSO.udpL4 : layers.dlType === ETH_TYPE.IPV6 ? GSO.tcp6 : GSO.tcp4,
    gsoSize,
    headerLength: layers.l4 + (isTcp ? tcpLength : HEADERS.udp.minBytes),
  };
};
