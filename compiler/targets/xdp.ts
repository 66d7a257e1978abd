// XDP: struct xdp_md and the XDP_* verdicts of uapi/linux/bpf.h.

import type { Target } from "./target.js";

export const XDP: Target = {
  hook: "xdp",
  progType: "xdp",
  ctx: {
    data: { load: "u32", off: 0 },
    data_end: { load: "u32", off: 4 },
    ingress_ifindex: { load: "u32", off: 12 },
    packet_len: "packet span",
  },
  verdicts: { aborted: 0, drop: 1, pass: 2, tx: 3, redirect: 4 },
  helpers: new Set([
    "xdp_adjust_head",
    "xdp_adjust_tail",
    "xdp_adjust_meta",
    "xdp_get_buff_len",
    "xdp_load_bytes",
    "xdp_store_bytes",
  ]),
  movesPacket: new Set(["xdp_adjust_head", "xdp_adjust_tail", "xdp_adjust_meta"]),
  abilities: { clone: false, gso: false, partialChecksum: false, strippedVlan: false, writesInPlace: true },
};
