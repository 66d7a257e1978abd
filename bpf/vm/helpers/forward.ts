// Where a packet goes: helpers that both hooks have with different flags and verdicts (net/core/filter.c).

import { ERRNO } from "../errors.js";
import { BOTH, flagsOf, type HelperTable, type Host, readable, s32, TC, u32, writable } from "./helper.js";

const XDP_ABORTED = 0;
const XDP_REDIRECT = 4;
const TC_ACT_SHOT = 2;
const TC_ACT_REDIRECT = 7;
/** BPF_F_INGRESS */
const INGRESS = 1;
/** BPF_MTU_CHK_SEGS and the answers of check_mtu. */
const CHECK_SEGMENTS = 1;
const MTU_FITS = 0;
const MTU_TOO_BIG = 1;
const ETH_HLEN = 14;

const redirect = (host: Host): void => {
  const { machine, hook } = host;
  const flags = flagsOf(machine, 2);
  if ((flags & ~(hook === "tc" ? INGRESS : 0)) !== 0) return machine.result(hook === "tc" ? TC_ACT_SHOT : XDP_ABORTED);
  host.redirect = { ifindex: u32(machine, 1), flags, peer: false };
  machine.result(hook === "tc" ? TC_ACT_REDIRECT : XDP_REDIRECT);
};

const redirectPeer = (host: Host): void => {
  const { machine } = host;
  if (flagsOf(machine, 2) !== 0) return machine.result(TC_ACT_SHOT);
  host.redirect = { ifindex: u32(machine, 1), flags: 0, peer: true };
  machine.result(TC_ACT_REDIRECT);
};

/** check_mtu: `ifindex` 0 is the device itself; the word at r3 gives an L3 length or 0, and takes the MTU. */
const checkMtu = (host: Host): number => {
  const { machine, hook, packet, skb, xdp } = host;
  // The program must have set the word, and gets it back.
  readable(machine, 3, 4);
  const cell = writable(machine, 3, 4);
  const word = new DataView(cell.buffer, cell.byteOffset, 4);
  const given = word.getUint32(0, true);
  const diff = s32(machine, 4);
  const flags = flagsOf(machine, 5);
  if ((flags & ~(hook === "tc" ? CHECK_SEGMENTS : 0)) !== 0) return -ERRNO.EINVAL;
  if (flags !== 0 && (diff !== 0 || given !== 0)) return -ERRNO.EINVAL;
  const own = hook === "tc" ? skb.ifindex : xdp.ingressIfindex;
  const mtu = host.mtuOf(u32(machine, 2) || own);
  if (mtu === undefined) return -ERRNO.ENODEV;
  const length = (given === 0 ? packet.length : given + ETH_HLEN) + diff;
  word.setUint32(0, mtu, true);
  // The segments of a GSO packet are cut to fit.
  return length <= mtu + ETH_HLEN || (hook === "tc" && skb.gsoSize > 0) ? MTU_FITS : MTU_TOO_BIG;
};

export const FORWARD_HELPERS: HelperTable = {
  redirect: { hooks: BOTH, run: redirect },
  redirect_peer: { hooks: TC, run: redirectPeer },
  check_mtu: { hooks: BOTH, takesContext: true, run: (host) => host.machine.result(checkMtu(host)) },
};
