// Sends raw packets out of any interface: the slow path's transmit. One AF_PACKET socket for all interfaces of its
// namespace; packets are copied into one arena and leave by sendmmsg(2) in batches, so that nothing is allocated per packet.
// Each packet is preceded by a virtio_net_hdr, so that a packet whose checksum is partial or that is larger than the MTU
// (GSO) leaves as the kernel would send it. TC egress programs of the interface see the packets.

import { RangeViolation } from "ebpf-assembler";
import { describeErrno, ERRNO } from "../sys/errors.js";
import type { Fd } from "../sys/fd.js";
import type { Sys } from "../sys/sys.js";
import { AF_PACKET, openPacketSocket, SOL_PACKET, SOL_SOCKET } from "./packet-socket.js";

const SO_SNDBUFFORCE = 32;
const PACKET_VNET_HDR = 15;

/** virtio_net_hdr (uapi/linux/virtio_net.h), little endian on both supported architectures. */
const VNET_SIZE = 10;
const VNET_NEEDS_CSUM = 1;
export const GSO = { none: 0, tcp4: 1, udp: 3, tcp6: 4, udpL4: 5 } as const;

const SLOTS = 128;
const ARENA_SIZE = 1 << 19;
/** Room that one packet takes at most: 64 KiB of GSO with its headers. */
const PACKET_MAX = (1 << 16) + 256;
const SEND_BUFFER = 8 << 20;
/** Sizes of sockaddr_ll, iovec and mmsghdr on 64-bit Linux, rounded to 8. */
const SIZES = { address: 24, iovec: 16, message: 64 } as const;
const ADDRESS_LENGTH = 20;

/** What the NIC, or the kernel for it, has yet to do with a packet. */
export interface PacketOffload {
  /** Byte offset where summing starts; the checksum field is `checksumOffset` after it and holds the pseudo-header sum. */
  readonly checksumStart?: number;
  readonly checksumOffset?: number;
  /** One of {@link GSO}. */
  readonly gsoType?: number;
  /** Payload bytes per segment. */
  readonly gsoSize?: number;
  /** Bytes of all headers. */
  readonly headerLength?: number;
}

/** Sends packets out of the interfaces of the namespace it was opened in. Disposing closes the socket. */
export class PacketSender implements Disposable {
  /** Packets that the kernel took, and packets that it refused. */
  readonly counters = { sent: 0, dropped: 0 };
  /** Refused packets by errno name. */
  readonly drops = new Map<string, number>();

  private readonly memory = new ArrayBuffer(SLOTS * (SIZES.address + SIZES.iovec + SIZES.message) + ARENA_SIZE);
  private readonly view = new DataView(this.memory);
  private readonly bytes = new Uint8Array(this.memory);
  private readonly base: number;
  private readonly at = {
    addresses: 0,
    iovecs: SLOTS * SIZES.address,
    messages: SLOTS * (SIZES.address + SIZES.iovec),
    arena: SLOTS * (SIZES.address + SIZES.iovec + SIZES.message),
  } as const;
  private queued = 0;
  private used = 0;

  private constructor(
    readonly sys: Sys,
    private readonly fd: Fd,
  ) {
    this.base = sys.address(this.memory);
    const { view, at, base } = this;
    for (let i = 0; i < SLOTS; i++) {
      const address = at.addresses + i * SIZES.address;
      const iovec = at.iovecs + i * SIZES.iovec;
      const message = at.messages + i * SIZES.message;
      view.setUint16(address, AF_PACKET, true);
      view.setBigUint64(message, BigInt(base + address), true);
      view.setUint32(message + 8, ADDRESS_LENGTH, true);
      view.setBigUint64(message + 16, BigInt(base + iovec), true);
      view.setBigUint64(message + 24, 1n, true);
    }
  }

  /** @throws {@link SyscallError} */
  static open(sys: Sys): PacketSender {
    const options = [
      [SOL_PACKET, PACKET_VNET_HDR, 1],
      [SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER],
    ] as const;
    return openPacketSocket(sys, "open a packet socket to send", options, (fd) => new PacketSender(sys, fd));
  }

  /**
   * Queues a packet, Ethernet header first; sends what is queued when there is no room left. The packet is copied.
   * @throws {@link RangeViolation} for a packet beyond 64 KiB
   */
  queue(ifindex: number, packet: Uint8Array, offload?: PacketOffload): void {
    if (packet.length > PACKET_MAX)
      throw new RangeViolation(`Cannot send a packet of ${packet.length} bytes: want at most ${PACKET_MAX}`);
    const size = (VNET_SIZE + packet.length + 7) & ~7;
    if (this.queued === SLOTS || this.used + size > ARENA_SIZE) this.flush();
    const { view, at } = this;
    const start = at.arena + this.used;
    const slot = this.queued++;
    this.used += size;
    view.setBigUint64(start, 0n, true);
    view.setUint16(start + 8, 0, true);
    if (offload !== undefined) this.putOffload(start, offload);
    this.bytes.set(packet, start + VNET_SIZE);
    view.setInt32(at.addresses + slot * SIZES.address + 4, ifindex, true);
    const iovec = at.iovecs + slot * SIZES.iovec;
    putAddress(view, iovec, this.base + start);
    view.setUint32(iovec + 8, VNET_SIZE + packet.length, true);
  }

  private putOffload(start: number, offload: PacketOffload): void {
    const { view } = this;
    if (offload.checksumStart !== undefined) {
      view.setUint8(start, VNET_NEEDS_CSUM);
      view.setUint16(start + 6, offload.checksumStart, true);
      view.setUint16(start + 8, offload.checksumOffset ?? 0, true);
    }
    if (offload.gsoType === undefined || offload.gsoType === GSO.none) return;
    view.setUint8(start + 1, offload.gsoType);
    view.setUint16(start + 2, offload.headerLength ?? 0, true);
    view.setUint16(start + 4, offload.gsoSize ?? 0, true);
  }

  /**
   * Sends what is queued. A packet that the kernel refuses (interface down or gone, packet above the MTU, queue full) is
   * dropped and counted; the ones after it are sent.
   * @returns how many the kernel took
   */
  flush(): number {
    const { sys, fd, base, at, queued, counters } = this;
    this.queued = 0;
    this.used = 0;
    let next = 0;
    let sent = 0;
    while (next < queued) {
      const result = sys.call("sendmmsg", fd.n, base + at.messages + next * SIZES.message, queued - next, 0);
      if (result > 0) {
        next += result;
        sent += result;
      } else if (result !== -ERRNO.EINTR) {
        const [name] = describeErrno(-result);
        this.drops.set(name, (this.drops.get(name) ?? 0) + 1);
        counters.dropped++;
        next++;
      }
    }
    counters.sent += sent;
    return sent;
  }

  /** Sends one packet now, with whatever is queued before it. @returns whether the kernel took it */
  send(ifindex: number, packet: Uint8Array, offload?: PacketOffload): boolean {
    this.flush();
    this.queue(ifindex, packet, offload);
    return this.flush() === 1;
  }

  [Symbol.dispose](): void {
    this.fd[Symbol.dispose]();
  }
}

/** A 64-bit address without a BigInt. */
const putAddress = (view: DataView, at: number, address: number): void => {
  view.setUint32(at, address % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(address / 2 ** 32), true);
};
