// Network interfaces by rtnetlink: list, look up, create, change, delete, addresses, routes, neighbours, changes as they
// happen. A socket acts on the namespace it was opened in.

import { RangeViolation } from "ebpf-assembler";
import { ERRNO, NoInterfaceError, SyscallError } from "../sys/errors.js";
import type { Sys } from "../sys/sys.js";
import { packAddress, packPrefix } from "./address.js";
import { encodeLink, IFLA, parseInterface, type Interface } from "./interface.js";
import { NETLINK, NetlinkSocket, nlAttr, NLM, nlNest, nlString, nlU32, type NlMessage } from "./netlink.js";

/** rtnetlink message types (uapi/linux/rtnetlink.h). */
export const RTM = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  SETLINK: 19,
  NEWADDR: 20,
  NEWROUTE: 24,
  NEWNEIGH: 28,
  NEWQDISC: 36,
  DELQDISC: 37,
  GETQDISC: 38,
  NEWTFILTER: 44,
  DELTFILTER: 45,
  GETTFILTER: 46,
} as const;

const RTNLGRP_LINK = 1;
const IFA = { ADDRESS: 1, LOCAL: 2, FLAGS: 8 } as const;
const IFA_F_NODAD = 2;
const RTA = { DST: 1, OIF: 4, GATEWAY: 5 } as const;
const NDA = { DST: 1, LLADDR: 2 } as const;
const NUD_PERMANENT = 0x80;
const RT_TABLE_MAIN = 254;
const RTPROT_STATIC = 4;
const RT_SCOPE_LINK = 253;
const RTN_UNICAST = 1;
const VETH_INFO_PEER = 1;
const IFF_UP = 1;

/** Changes to an interface; absent fields stay as they are. */
export interface InterfaceChange {
  readonly up?: boolean;
  readonly name?: string;
  readonly mtu?: number;
  /** 6 bytes. */
  readonly mac?: Uint8Array;
  /** ifindex of the bridge to join; 0 leaves it. */
  readonly master?: number;
  /** Descriptor of the network namespace to move to. */
  readonly netnsFd?: number;
}

/** One end of a veth pair to create. */
export interface VethEnd {
  readonly name: string;
  /** Descriptor of the network namespace to create it in; default: that of the socket. */
  readonly netnsFd?: number;
  readonly mac?: Uint8Array;
  readonly mtu?: number;
}

/** `struct ifinfomsg`: 16 bytes. */
const ifInfo = (index: number, flags = 0, change = 0): Uint8Array => {
  const view = new DataView(new ArrayBuffer(16));
  view.setInt32(4, index, true);
  view.setUint32(8, flags, true);
  view.setUint32(12, change, true);
  return new Uint8Array(view.buffer);
};

const changeAttrs = (change: InterfaceChange): Uint8Array[] => {
  const attrs: Uint8Array[] = [];
  if (change.name !== undefined) attrs.push(nlAttr(IFLA.IFNAME, nlString(change.name)));
  if (change.mtu !== undefined) attrs.push(nlAttr(IFLA.MTU, nlU32(change.mtu)));
  if (change.mac !== undefined) attrs.push(nlAttr(IFLA.ADDRESS, change.mac));
  if (change.master !== undefined) attrs.push(nlAttr(IFLA.MASTER, nlU32(change.master)));
  if (change.netnsFd !== undefined) attrs.push(nlAttr(IFLA.NET_NS_FD, nlU32(change.netnsFd)));
  return attrs;
};

/** An rtnetlink socket. Disposing closes it. */
export class Rtnl implements Disposable {
  private constructor(
    readonly sys: Sys,
    readonly socket: NetlinkSocket,
  ) {}

  /** @throws {@link SyscallError} */
  static open(sys: Sys): Rtnl {
    return new Rtnl(sys, NetlinkSocket.open(sys, NETLINK.route));
  }

  /** All interfaces of the namespace, by ifindex. */
  interfaces(): Interface[] {
    return this.socket
      .request(RTM.GETLINK, NLM.DUMP, ifInfo(0), "list network interfaces")
      .filter((message) => message.type === RTM.NEWLINK)
      .map((message) => parseInterface(message.body))
      .sort((a, b) => a.index - b.index);
  }

  /** One interface, or undefined. */
  find(nameOrIndex: string | number): Interface | undefined {
    const index = typeof nameOrIndex === "number" ? nameOrIndex : 0;
    const attrs = typeof nameOrIndex === "string" ? [nlAttr(IFLA.IFNAME, nlString(nameOrIndex))] : [];
    let answer: NlMessage[];
    try {
      answer = this.socket.request(
        RTM.GETLINK,
        0,
        encodeLink(ifInfo(index), attrs),
        `look up interface ${nameOrIndex}`,
      );
    } catch (error) {
      // EINVAL, ERANGE: a name that no interface can have.
      const absent: readonly number[] = [ERRNO.ENODEV, ERRNO.EINVAL, ERRNO.ERANGE];
      if (error instanceof SyscallError && absent.includes(error.errno)) return undefined;
      throw error;
    }
    const message = answer.find(({ type }) => type === RTM.NEWLINK);
    return message === undefined ? undefined : parseInterface(message.body);
  }

  /** One interface. @throws {@link NoInterfaceError} */
  get(nameOrIndex: string | number): Interface {
    const found = this.find(nameOrIndex);
    if (found === undefined) throw new NoInterfaceError(String(nameOrIndex));
    return found;
  }

  /** Changes an interface. @throws {@link SyscallError} */
  change(index: number, change: InterfaceChange): void {
    const flags = change.up === true ? IFF_UP : 0;
    const info = ifInfo(index, flags, change.up === undefined ? 0 : IFF_UP);
    this.socket.request(RTM.SETLINK, 0, encodeLink(info, changeAttrs(change)), `change interface ${index}`);
  }

  /** Deletes an interface (with its peer, for a veth). @throws {@link SyscallError} */
  remove(index: number): void {
    this.socket.request(RTM.DELLINK, 0, ifInfo(index), `delete interface ${index}`);
  }

  /**
   * Creates an interface of an rtnetlink kind, e.g. `bridge`, `dummy`, `ifb`.
   * @param data - attributes of IFLA_INFO_DATA that the kind wants
   * @throws {@link SyscallError}, among them EOPNOTSUPP when the kernel has no such kind
   */
  create(kind: string, change: InterfaceChange, data: readonly Uint8Array[] = []): void {
    const info = nlNest(
      IFLA.LINKINFO,
      nlAttr(IFLA.INFO_KIND, nlString(kind)),
      ...(data.length > 0 ? [nlNest(IFLA.INFO_DATA, ...data)] : []),
    );
    const up = change.up === true ? IFF_UP : 0;
    const body = encodeLink(ifInfo(0, up, up), [...changeAttrs(change), info]);
    this.socket.request(RTM.NEWLINK, NLM.CREATE | NLM.EXCL, body, `create ${kind} interface ${change.name ?? ""}`);
  }

  /** Creates a pair of veth interfaces, each in its namespace. @throws {@link SyscallError} */
  createVeth(first: VethEnd, second: VethEnd): void {
    this.create("veth", first, [nlNest(VETH_INFO_PEER, encodeLink(ifInfo(0), changeAttrs(second)))]);
  }

  /**
   * Adds an address with its prefix length, e.g. `10.0.0.1/24` or `fd00::1/64` (usable at once: no duplicate detection).
   * @throws {@link SyscallError}, {@link CodecError} for bad text
   */
  addAddress(index: number, prefix: string): void {
    const { family, bytes, length } = packPrefix(prefix);
    const header = new Uint8Array(8);
    header.set([family, length, 0, 0]);
    new DataView(header.buffer).setUint32(4, index, true);
    const attrs = [nlAttr(IFA.LOCAL, bytes), nlAttr(IFA.ADDRESS, bytes), nlAttr(IFA.FLAGS, nlU32(IFA_F_NODAD))];
    const action = `add address ${prefix} to interface ${index}`;
    this.socket.request(RTM.NEWADDR, NLM.CREATE | NLM.EXCL, encodeLink(header, attrs), action);
  }

  /**
   * Adds a route to `prefix` through `gateway`, an interface, or both.
   * @throws {@link SyscallError}, {@link CodecError} for bad text
   */
  addRoute(prefix: string, to: { readonly gateway?: string; readonly index?: number }): void {
    if (to.gateway === undefined && to.index === undefined)
      throw new RangeViolation(`Cannot add route ${prefix}: want a gateway or an interface`);
    const { family, bytes, length } = packPrefix(prefix);
    const scope = to.gateway === undefined ? RT_SCOPE_LINK : 0;
    const header = Uint8Array.of(family, length, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST, 0, 0, 0, 0);
    const attrs = [nlAttr(RTA.DST, bytes)];
    if (to.gateway !== undefined) attrs.push(nlAttr(RTA.GATEWAY, packAddress(to.gateway).bytes));
    if (to.index !== undefined) attrs.push(nlAttr(RTA.OIF, nlU32(to.index)));
    this.socket.request(RTM.NEWROUTE, NLM.CREATE | NLM.EXCL, encodeLink(header, attrs), `add route ${prefix}`);
  }

  /** Adds or replaces a permanent neighbour entry (static ARP or ND). @throws {@link SyscallError} */
  addNeighbour(index: number, address: string, mac: Uint8Array): void {
    const { family, bytes } = packAddress(address);
    const header = new Uint8Array(12);
    header[0] = family;
    const view = new DataView(header.buffer);
    view.setInt32(4, index, true);
    view.setUint16(8, NUD_PERMANENT, true);
    const body = encodeLink(header, [nlAttr(NDA.DST, bytes), nlAttr(NDA.LLADDR, mac)]);
    this.socket.request(RTM.NEWNEIGH, NLM.CREATE | NLM.REPLACE, body, `add neighbour ${address}`);
  }

  [Symbol.dispose](): void {
    this.socket[Symbol.dispose]();
  }
}

/** A change of an interface. Also sent when statistics or addresses of no interest here change. */
export type InterfaceEvent =
  | { readonly kind: "changed"; readonly interface: Interface }
  | { readonly kind: "removed"; readonly interface: Interface }
  /** The kernel dropped events: list the interfaces again. */
  | { readonly kind: "lost" };

/**
 * Reports every change of interfaces in the current namespace until disposed.
 * @param background - do not keep the process alive
 * @throws {@link SyscallError}
 */
export const followInterfaces = (
  sys: Sys,
  onEvent: (event: InterfaceEvent) => void,
  background = false,
): Disposable => {
  const socket = NetlinkSocket.open(sys, NETLINK.route, [RTNLGRP_LINK]);
  const read = (): readonly NlMessage[] | "lost" | undefined => {
    try {
      return socket.receive(false, "receive interface events");
    } catch (error) {
      if (error instanceof SyscallError && error.errno === ERRNO.ENOBUFS) return "lost";
      throw error;
    }
  };
  let isOpen = true;
  const watch = sys.watch(
    socket.fdNumber,
    () => {
      while (isOpen) {
        const messages = read();
        if (messages === undefined) return;
        if (messages === "lost") {
          onEvent({ kind: "lost" });
          continue;
        }
        for (const { type, body } of messages) {
          if (type === RTM.NEWLINK) onEvent({ kind: "changed", interface: parseInterface(body) });
          else if (type === RTM.DELLINK) onEvent({ kind: "removed", interface: parseInterface(body) });
        }
      }
    },
    { background },
  );
  return {
    [Symbol.dispose]() {
      isOpen = false;
      watch[Symbol.dispose]();
      socket[Symbol.dispose]();
    },
  };
};
