// What a network device's driver can do with XDP, by the generic netlink family "netdev" (Linux 6.3).

import { concatBytes } from "ebpf-assembler";
import { ERRNO, SyscallError } from "../sys/errors.js";
import type { Sys } from "../sys/sys.js";
import { NETLINK, NetlinkSocket, nlAttr, nlString, nlU32, parseAttrs, readU16, readU32 } from "./netlink.js";

const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR = { FAMILY_ID: 1, FAMILY_NAME: 2 } as const;
const NETDEV_CMD_DEV_GET = 1;
const NETDEV_A_DEV = { IFINDEX: 1, XDP_FEATURES: 3 } as const;
const GENL_HEADER_SIZE = 4;

/** NETDEV_XDP_ACT_* in bit order (uapi/linux/netdev.h). */
const XDP_FEATURES = ["basic", "redirect", "ndo-xmit", "xsk-zerocopy", "hw-offload", "rx-sg", "ndo-xmit-sg"] as const;
/** `basic`: runs XDP programs in the driver; `redirect`: can redirect from; `ndo-xmit`: can be redirected to. */
export type XdpFeature = (typeof XDP_FEATURES)[number];

/**
 * The XDP features of an interface's driver in the current namespace; undefined when the kernel cannot tell.
 * @throws {@link SyscallError}, with ENODEV for no such interface
 */
export const xdpFeatures = (sys: Sys, ifindex: number): XdpFeature[] | undefined => {
  using socket = NetlinkSocket.open(sys, NETLINK.generic);
  const family = findFamily(socket, "netdev");
  if (family === undefined) return undefined;
  const body = concatBytes(Uint8Array.of(NETDEV_CMD_DEV_GET, 1, 0, 0), nlAttr(NETDEV_A_DEV.IFINDEX, nlU32(ifindex)));
  const [message] = socket.request(family, 0, body, `read the XDP features of interface ${ifindex}`);
  const bits = readU32(
    parseAttrs(message?.body.subarray(GENL_HEADER_SIZE) ?? new Uint8Array(0)).get(NETDEV_A_DEV.XDP_FEATURES),
  );
  return bits === undefined ? undefined : XDP_FEATURES.filter((_, i) => ((bits >>> i) & 1) !== 0);
};

const findFamily = (socket: NetlinkSocket, name: string): number | undefined => {
  const body = concatBytes(Uint8Array.of(CTRL_CMD_GETFAMILY, 1, 0, 0), nlAttr(CTRL_ATTR.FAMILY_NAME, nlString(name)));
  try {
    const [message] = socket.request(GENL_ID_CTRL, 0, body, `look up the generic netlink family ${name}`);
    return readU16(parseAttrs(message?.body.subarray(GENL_HEADER_SIZE) ?? new Uint8Array(0)).get(CTRL_ATTR.FAMILY_ID));
  } catch (error) {
    if (error instanceof SyscallError && error.errno === ERRNO.ENOENT) return undefined;
    throw error;
  }
};
