// Puts a host behind a VLAN tag without the kernel's 8021q module: two small TC programs at its interface. What the host
// sends gets the tag, what comes for it loses it, and what comes without the right tag does not reach it.
//
// Registers: r1 the context (struct __sk_buff) on entry; r2, r3 arguments; r0 the verdict.

import {
  and,
  call,
  exit,
  jeq,
  jne,
  Label,
  load,
  mov,
  program,
  r0,
  r1,
  r2,
  r3,
  Scope,
  type ObjectSpec,
} from "ebpf-assembler";
import { attachTc, Ethtool, loadObject, Rtnl, type Sys } from "libbpf-ts";

/** uapi/linux/pkt_cls.h. */
const TC_ACT_OK = 0;
const TC_ACT_SHOT = 2;
/** Offsets in struct __sk_buff (uapi/linux/bpf.h). */
const SKB = { vlanPresent: 20, vlanTci: 24 } as const;
/** ETH_P_8021Q as the helper wants it: in network byte order. */
const ETH_P_8021Q_BE = 0x0081;
const VLAN_VID_MASK = 0x0fff;

/** Programs `push_tag` and `pop_tag`. @param vid - 1 to 4094 */
export const vlanTagObject = (vid: number): ObjectSpec => {
  const failed = new Label("failed");
  const foreign = new Label("foreign");
  return {
    license: "GPL",
    maps: [],
    programs: [
      program({
        name: "push_tag",
        type: "sched_cls",
        code: [
          mov(r2, ETH_P_8021Q_BE),
          mov(r3, vid),
          call("skb_vlan_push"),
          jne(r0, 0, failed),
          mov(r0, TC_ACT_OK),
          exit(),
          failed,
          mov(r0, TC_ACT_SHOT),
          exit(),
        ],
      }),
      program({
        name: "pop_tag",
        type: "sched_cls",
        code: [
          load(r2, "u32", r1, SKB.vlanPresent),
          jeq(r2, 0, foreign),
          load(r2, "u32", r1, SKB.vlanTci),
          and(r2, VLAN_VID_MASK),
          jne(r2, vid, foreign),
          call("skb_vlan_pop"),
          jne(r0, 0, foreign),
          mov(r0, TC_ACT_OK),
          exit(),
          foreign,
          mov(r0, TC_ACT_SHOT),
          exit(),
        ],
      }),
    ],
  };
};

/**
 * Tags an interface of the current network namespace. Its offload of tags is switched off, so that the tag is in the packet
 * and not beside it. Disposing takes the programs off and puts the offload back.
 * @throws {@link SyscallError}, {@link NoInterfaceError}; nothing stays behind
 */
export const attachVlanTag = (sys: Sys, name: string, vid: number): Disposable => {
  using scope = new Scope();
  using rtnl = Rtnl.open(sys);
  const { index } = rtnl.get(name);
  const object = scope.use(loadObject(sys, vlanTagObject(vid)));
  const ethtool = scope.use(Ethtool.open(sys));
  const before = ethtool.change(name, { txVlan: false });
  scope.defer(() => ethtool.change(name, before));
  scope.use(attachTc(sys, object.program("push_tag"), index, "egress"));
  scope.use(attachTc(sys, object.program("pop_tag"), index, "ingress"));
  return scope.move();
};
