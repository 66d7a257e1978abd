// Receives the packets that arrive on one interface, whole and as they were on the wire: for tests and tools. A VLAN tag
// that the kernel keeps beside the packet is put back into it.

import { check, ERRNO } from "../sys/errors.js";
import type { Fd } from "../sys/fd.js";
import type { Sys } from "../sys/sys.js";
import { AF_PACKET, openPacketSocket, SOL_PACKET, SOL_SOCKET } from "./packet-socket.js";

const ETH_P_ALL_BE = 0x0300;
const SO_RCVBUFFORCE = 33;
const PACKET_AUXDATA = 8;
const PACKET_IGNORE_OUTGOING = 23;
const MSG_TRUNC = 0x20;

/** `struct tpacket_auxdata` behind a cmsghdr of 16 bytes. */
const AUX = { at: 16, status: 0, tci: 16, tpid: 18, size: 20 } as const;
const STATUS = { csumNotReady: 1 << 3, vlanValid: 1 << 4 } as const;
const RECEIVE_SIZE = 1 << 17;
const RECEIVE_BUFFER = 16 << 20;
const CONTROL_SIZE = 64;
const MSGHDR_SIZE = 56;
const MAC_ADDRESSES_SIZE = 12;
const TAG_SIZE = 4;

/** A packet as it arrived. */
export interface ReceivedPacket {
  /** A copy, Ethernet header first, VLAN tags in place. */
  readonly data: Uint8Array;
  /** The sender left the L4 checksum to the device: the field holds only the pseudo-header sum. */
  readonly hasPartialChecksum: boolean;
}

/** Receives from one interface of the namespace it was opened in. Disposing closes the socket. */
export class PacketReceiver implements Disposable {
  private readonly memory = new ArrayBuffer(MSGHDR_SIZE + 16 + CONTROL_SIZE + RECEIVE_SIZE);
  private readonly view = new DataView(this.memory);
  private readonly base: number;
  private readonly at = {
    iovec: MSGHDR_SIZE,
    control: MSGHDR_SIZE + 16,
    data: MSGHDR_SIZE + 16 + CONTROL_SIZE,
  } as const;

  private constructor(
    readonly sys: Sys,
    private readonly fd: Fd,
  ) {
    const { view, at } = this;
    this.base = sys.address(this.memory);
    view.setBigUint64(16, BigInt(this.base + at.iovec), true);
    view.setBigUint64(24, 1n, true);
    view.setBigUint64(32, BigInt(this.base + at.control), true);
    view.setBigUint64(at.iovec, BigInt(this.base + at.data), true);
    view.setBigUint64(at.iovec + 8, BigInt(RECEIVE_SIZE), true);
  }

  /** Packets that the interface sends are not received. @throws {@link SyscallError} */
  static open(sys: Sys, ifindex: number): PacketReceiver {
    const action = `receive from interface ${ifindex}`;
    const options = [
      [SOL_PACKET, PACKET_AUXDATA, 1],
      [SOL_PACKET, PACKET_IGNORE_OUTGOING, 1],
      [SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER],
    ] as const;
    return openPacketSocket(sys, action, options, (fd) => {
      const address = new DataView(new ArrayBuffer(20));
      address.setUint16(0, AF_PACKET, true);
      address.setUint16(2, ETH_P_ALL_BE, true);
      address.setInt32(4, ifindex, true);
      check(sys.call("bind", fd.n, sys.address(address), address.byteLength), action, "bind()");
      return new PacketReceiver(sys, fd);
    });
  }

  /** The next packet, or undefined when none is waiting. @throws {@link SyscallError}, with ENETDOWN once the interface goes down */
  receive(): ReceivedPacket | undefined {
    const { view, at, sys } = this;
    view.setBigUint64(40, BigInt(CONTROL_SIZE), true);
    let size: number;
    do size = sys.call("recvmsg", this.fd.n, this.base, MSG_TRUNC);
    while (size === -ERRNO.EINTR);
    if (size === -ERRNO.EAGAIN) return undefined;
    check(size, "receive a packet", "recvmsg()");
    const data = new Uint8Array(this.memory, at.data, Math.min(size, RECEIVE_SIZE));
    if (view.getUint32(40, true) < AUX.at + AUX.size) return { data: data.slice(), hasPartialChecksum: false };
    const aux = at.control + AUX.at;
    const status = view.getUint32(aux + AUX.status, true);
    const hasPartialChecksum = (status & STATUS.csumNotReady) !== 0;
    if ((status & STATUS.vlanValid) === 0) return { data: data.slice(), hasPartialChecksum };
    const tagged = new Uint8Array(data.length + TAG_SIZE);
    tagged.set(data.subarray(0, MAC_ADDRESSES_SIZE));
    tagged.set(data.subarray(MAC_ADDRESSES_SIZE), MAC_ADDRESSES_SIZE + TAG_SIZE);
    const tag = new DataView(tagged.buffer, MAC_ADDRESSES_SIZE);
    tag.setUint16(0, view.getUint16(aux + AUX.tpid, true));
    tag.setUint16(2, view.getUint16(aux + AUX.tci, true));
    return { data: tagged, hasPartialChecksum };
  }

  /** Delivers packets from the event loop until disposed. */
  follow(onPacket: (packet: ReceivedPacket) => void): Disposable {
    return this.sys.watch(this.fd.n, () => {
      for (let packet = this.receive(); packet !== undefined; packet = this.fd.isOpen ? this.receive() : undefined)
        onPacket(packet);
    });
  }

  [Symbol.dispose](): void {
    this.fd[Symbol.dispose]();
  }
}
