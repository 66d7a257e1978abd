// How packets leave the host, as its kernel sees it: routes, next hops' link-layer addresses, the host's own addresses, and
// word of their changes. Addresses are 4 or 16 bytes in network order.

import { ERRNO, SyscallError } from "../sys/errors.js";
import type { Sys } from "../sys/sys.js";
import { AF } from "./address.js";
import { encodeLink } from "./interface.js";
import { NETLINK, NetlinkSocket, nlAttr, NLM, parseAttrs, readU32 } from "./netlink.js";
import { RTM } from "./rtnl.js";

const [RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH] = [22, 26, 30] as const;
const IFA = { ADDRESS: 1, LOCAL: 2 } as const;
const RTA = { DST: 1, SRC: 2, OIF: 4, GATEWAY: 5, PREFSRC: 7 } as const;
const NDA = { DST: 1, LLADDR: 2 } as const;
const RTN_UNICAST = 1;
/** States of a neighbour whose address may be used: all but incomplete, failed and noarp. */
const NUD_VALID = 0x02 | 0x04 | 0x08 | 0x10 | 0x80;
/** RTNLGRP_*: links, neighbours, addresses and routes of both families. */
const GROUPS = [1, 3, 5, 7, 9, 11] as const;
/** `struct rtmsg`, `ndmsg`, `ifaddrmsg`. */
const [RTMSG_SIZE, NDMSG_SIZE, IFADDRMSG_SIZE] = [12, 12, 8] as const;

const familyOf = (address: Uint8Array): number => (address.length === 4 ? AF.INET : AF.INET6);

/** The way to one address. */
export interface Route {
  readonly ifindex: number;
  /** Who gets the packets first: a gateway, or the address itself. */
  readonly nextHop: Uint8Array;
  /** The host's address that packets go out with; undefined when the kernel names none. */
  readonly source: Uint8Array | undefined;
}

/** Answers questions about the namespace that it was opened in. Disposing closes its socket. */
export class Routes implements Disposable {
  private constructor(private readonly socket: NetlinkSocket) {}

  /** @throws {@link SyscallError} */
  static open(sys: Sys): Routes {
    return new Routes(NetlinkSocket.open(sys, NETLINK.route));
  }

  /** The route that the kernel would take; undefined when there is none that leaves the host. @param source - zeros for any */
  to(destination: Uint8Array, source: Uint8Array): Route | undefined {
    const bits = destination.length * 8;
    const isBound = source.some((byte) => byte !== 0);
    const header = Uint8Array.of(familyOf(destination), bits, isBound ? bits : 0, ...new Uint8Array(RTMSG_SIZE - 3));
    const attrs = [nlAttr(RTA.DST, destination), ...(isBound ? [nlAttr(RTA.SRC, source)] : [])];
    const [answer] = this.ask(RTM_GETROUTE, encodeLink(header, attrs), "look up a route");
    if (answer === undefined || answer[7] !== RTN_UNICAST) return undefined;
    const found = parseAttrs(answer.subarray(RTMSG_SIZE));
    const ifindex = readU32(found.get(RTA.OIF));
    if (ifindex === undefined) return undefined;
    return { ifindex, nextHop: found.get(RTA.GATEWAY) ?? destination, source: found.get(RTA.PREFSRC) };
  }

  /** The link-layer address of a neighbour that the kernel knows and trusts. */
  neighbour(ifindex: number, address: Uint8Array): Uint8Array | undefined {
    const header = new Uint8Array(NDMSG_SIZE);
    header[0] = familyOf(address);
    new DataView(header.buffer).setInt32(4, ifindex, true);
    const [answer] = this.ask(RTM_GETNEIGH, encodeLink(header, [nlAttr(NDA.DST, address)]), "look up a neighbour");
    if (answer === undefined) return undefined;
    const state = answer[8]! | (answer[9]! << 8);
    const mac = parseAttrs(answer.subarray(NDMSG_SIZE)).get(NDA.LLADDR);
    return (state & NUD_VALID) !== 0 && mac?.length === 6 ? mac : undefined;
  }

  /** Addresses of an interface. */
  addresses(ifindex: number): Uint8Array[] {
    const header = new Uint8Array(IFADDRMSG_SIZE);
    return this.socket.request(RTM_GETADDR, NLM.DUMP, header, "list addresses").flatMap(({ type, body }) => {
      const owner = new DataView(body.buffer, body.byteOffset, body.length).getUint32(4, true);
      if (type !== RTM.NEWADDR || owner !== ifindex) return [];
      const found = parseAttrs(body.subarray(IFADDRMSG_SIZE));
      const address = found.get(IFA.LOCAL) ?? found.get(IFA.ADDRESS);
      return address === undefined ? [] : [address.slice()];
    });
  }

  /** Bodies of the answer; none when the kernel says that there is none. */
  private ask(type: number, body: Uint8Array, action: string): Uint8Array[] {
    try {
      return this.socket.request(type, 0, body, action).map((message) => message.body);
    } catch (error) {
      const isAbsent = error instanceof SyscallError && ABSENT.includes(error.errno);
      if (isAbsent) return [];
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.socket[Symbol.dispose]();
  }
}

const ENETUNREACH = 101;
const EHOSTUNREACH = 113;
const EACCES = 13;
/** No such neighbour or interface; no route, or one that forbids. */
const ABSENT: readonly number[] = [
  ...[ERRNO.ENOENT, ERRNO.ENODEV, ERRNO.EINVAL],
  ...[ENETUNREACH, EHOSTUNREACH, EACCES],
];

/**
 * Calls `onChange` after changes of links, neighbours, addresses or routes in the current namespace, until disposed.
 * @param background - do not keep the process alive
 * @throws {@link SyscallError}
 */
export const followRoutes = (sys: Sys, onChange: () => void, background = false): Disposable => {
  const socket = NetlinkSocket.open(sys, NETLINK.route, GROUPS);
  let isOpen = true;
  const drain = (): void => {
    let any = false;
    while (isOpen) {
      try {
        if (socket.receive(false, "receive changes of routes") === undefined) break;
      } catch (error) {
        // Some are lost: all that is known is looked up again anyway.
        if (!(error instanceof SyscallError && error.errno === ERRNO.ENOBUFS)) throw error;
      }
      any = true;
    }
    if (any && isOpen) onChange();
  };
  const watch = sys.watch(socket.fdNumber, drain, { background });
  return {
    [Symbol.dispose]() {
      isOpen = false;
      watch[Symbol.dispose]();
      socket[Symbol.dispose]();
    },
  };
};
