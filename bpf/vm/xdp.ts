// struct xdp_md (uapi/linux/bpf.h) over a packet, with the limits of an XDP frame.

import { ERRNO, Fault } from "./errors.js";
import type { Context } from "./machine.js";
import { Packet } from "./packet.js";

/** XDP_PACKET_HEADROOM. */
const HEADROOM = 256;
/** sizeof(struct xdp_frame): what the head of a frame keeps free. */
const FRAME_HEADER = 40;
/** A page, and the skb_shared_info that its end keeps free. */
const FRAME_SIZE = 4096;
const TAIL_RESERVE = 320;
const ETH_HLEN = 14;
/** Largest value of skb_shared_info.meta_len. */
const MAX_META = 255;

/** Offsets of struct xdp_md; every field has 4 bytes. */
const FIELDS = ["data", "data_end", "data_meta", "ingress_ifindex", "rx_queue_index", "egress_ifindex"] as const;

export class XdpContext implements Context {
  ingressIfindex = 0;
  rxQueue = 0;
  /** Only devmap programs have one. */
  egressIfindex: number | undefined;

  /** Size of the frame: what the packet can grow into, less {@link TAIL_RESERVE}. */
  private frameSize = FRAME_SIZE;

  constructor(readonly packet: Packet) {}

  begin(bytes: Uint8Array): void {
    this.frameSize = Math.max(FRAME_SIZE, HEADROOM + bytes.length + TAIL_RESERVE);
    this.packet.load(bytes, HEADROOM, this.frameSize, bytes.length);
  }

  load(R: Int32Array, dst: number, offset: number, size: number): void {
    const field = size === 4 && offset % 4 === 0 ? FIELDS[offset / 4] : undefined;
    const { packet } = this;
    let value: number;
    switch (field) {
      case "data":
        return packet.pointer(R, dst, packet.start);
      case "data_end":
        return packet.pointer(R, dst, packet.linearEnd);
      case "data_meta":
        return packet.pointer(R, dst, packet.metaStart);
      case "ingress_ifindex":
        value = this.ingressIfindex;
        break;
      case "rx_queue_index":
        value = this.rxQueue;
        break;
      case "egress_ifindex":
        if (this.egressIfindex === undefined) throw new Fault("egress_ifindex exists in devmap programs only");
        value = this.egressIfindex;
        break;
      case undefined:
        throw new Fault(`read of ${size} bytes at offset ${offset} of struct xdp_md: its fields have 4 bytes`);
    }
    R[dst] = value;
    R[dst + 1] = 0;
  }

  store(offset: number, size: number): never {
    throw new Fault(`write of ${size} bytes at offset ${offset} of struct xdp_md: it is read only`);
  }

  /** bpf_xdp_adjust_head, net/core/filter.c */
  adjustHead(offset: number): number {
    const { packet } = this;
    const metaSize = packet.start - packet.metaStart;
    const start = packet.start + offset;
    if (start < FRAME_HEADER + metaSize || start > packet.end - ETH_HLEN) return -ERRNO.EINVAL;
    packet.bytes.copyWithin(packet.metaStart + offset, packet.metaStart, packet.start);
    packet.metaStart += offset;
    packet.start = start;
    return 0;
  }

  /** bpf_xdp_adjust_tail for frames without fragments. */
  adjustTail(offset: number): number {
    const { packet } = this;
    const end = packet.end + offset;
    if (end > this.frameSize - TAIL_RESERVE || end < packet.start + ETH_HLEN) return -ERRNO.EINVAL;
    packet.resize(end - packet.start);
    return 0;
  }

  /** bpf_xdp_adjust_meta */
  adjustMeta(offset: number): number {
    const { packet } = this;
    const meta = packet.metaStart + offset;
    if (meta < FRAME_HEADER || meta > packet.start) return -ERRNO.EINVAL;
    const size = packet.start - meta;
    if (size % 4 !== 0 || size > MAX_META) return -ERRNO.EACCES;
    packet.metaStart = meta;
    return 0;
  }
}
