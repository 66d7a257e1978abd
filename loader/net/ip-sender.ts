// Sends whole IP packets as the host itself would: it finds the route, asks for the next hop's address and keeps the packet until it
// is known. For the first packets to a destination; frames whose way is known leave by packet-sender.ts.

import { check, describeErrno } from "../sys/errors.js";
import { Fd } from "../sys/fd.js";
import type { Sys } from "../sys/sys.js";
import { AF } from "./address.js";

const SOCK_RAW_CLOEXEC_NONBLOCK = 3 | 0o2000000 | 0o4000;
/** Headers come with the packet. */
const IPPROTO_RAW = 255;
const [IPV4_DST, IPV6_DST] = [16, 24] as const;
/** sockaddr_in and sockaddr_in6, which begin with family and port. */
const SOCKADDR = { v4: { size: 16, at: 4 }, v6: { size: 28, at: 8 } } as const;

/** Disposing closes the sockets. */
export class IpSender implements Disposable {
  readonly counters = { sent: 0, dropped: 0 };
  /** Refused packets by errno name. */
  readonly drops = new Map<string, number>();

  private constructor(
    readonly sys: Sys,
    private readonly v4: Fd,
    private readonly v6: Fd | undefined,
  ) {}

  /** @throws {@link SyscallError} */
  static open(sys: Sys): IpSender {
    const action = "open a raw socket to send";
    const v4 = new Fd(
      sys,
      check(sys.call("socket", AF.INET, SOCK_RAW_CLOEXEC_NONBLOCK, IPPROTO_RAW), action, "socket()"),
      "raw IPv4 socket",
    );
    // A kernel may be without IPv6.
    const v6 = sys.call("socket", AF.INET6, SOCK_RAW_CLOEXEC_NONBLOCK, IPPROTO_RAW);
    return new IpSender(sys, v4, v6 < 0 ? undefined : new Fd(sys, v6, "raw IPv6 socket"));
  }

  /** @param packet - from its IP header on @returns whether the kernel took it */
  send(packet: Uint8Array): boolean {
    const isV4 = packet[0]! >>> 4 === 4;
    const { size, at } = isV4 ? SOCKADDR.v4 : SOCKADDR.v6;
    const fd = isV4 ? this.v4 : this.v6;
    const address = new Uint8Array(size);
    address[0] = isV4 ? AF.INET : AF.INET6;
    const dst = isV4 ? IPV4_DST : IPV6_DST;
    address.set(packet.subarray(dst, dst + (isV4 ? 4 : 16)), at);
    // A copy of its own, whose address is good during the call.
    const bytes = packet.slice();
    const result =
      fd === undefined
        ? -EAFNOSUPPORT
        : this.sys.call("sendto", fd.n, this.sys.address(bytes), bytes.length, 0, this.sys.address(address), size);
    if (result >= 0) {
      this.counters.sent++;
      return true;
    }
    const [name] = describeErrno(-result);
    this.drops.set(name, (this.drops.get(name) ?? 0) + 1);
    this.counters.dropped++;
    return false;
  }

  [Symbol.dispose](): void {
    this.v4[Symbol.dispose]();
    this.v6?.[Symbol.dispose]();
  }
}

const EAFNOSUPPORT = 97;
