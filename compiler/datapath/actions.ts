// Emits action shapes: straight code for a list of actions, their arguments read from the stack, where the look-up has put them.
//
// A shape first checks every header that it will touch and leaves for user space while nothing has been changed yet: packets
// that are odd in any way (truncated headers, later fragments whose checksum lies elsewhere, IPv6 extension headers) are
// rewritten there. After that a failed check can only be the verifier's worry, and drops.

import type { IrBuilder } from "../ir/builder.js";
import type { BlockId, Slot, VReg } from "../ir/types.js";
import { ethernet, vlan } from "../packet/headers.js";
import type { DpAction, SetTarget } from "../pipeline/dp-action.js";
import { MAPS } from "./abi.js";
import { forget, type Emit } from "./emit.js";
import type { Shape } from "./plan.js";
import { at, checkArp, checkIpv4, checkIpv6, findL3, reload, type Rewrite } from "./rewrite.js";
import { SETTERS, type SetAction } from "./setters.js";

type Layer = "l2" | "arp" | "l3" | "l4";

/** Deepest layer that a set has to find, and whether L4 checksums follow it. */
const SET_LAYER: Readonly<Partial<Record<SetTarget, Layer>>> = {
  eth_dst: "l2",
  eth_src: "l2",
  arp_op: "arp",
  arp_spa: "arp",
  arp_tpa: "arp",
  arp_sha: "arp",
  arp_tha: "arp",
  nw_tos: "l3",
  nw_ttl: "l3",
  ipv6_label: "l3",
  nw_src: "l4",
  nw_dst: "l4",
  ipv6_src: "l4",
  ipv6_dst: "l4",
  tp_src: "l4",
  tp_dst: "l4",
  icmp_type: "l4",
  icmp_code: "l4",
};

/** Both MAC addresses as three words, read before the packet moves and written after. */
const moveMacs = (w: Rewrite, from: number): VReg[] => {
  const p = at(w, from, 12);
  return [0, 4, 8].map((off) => w.b.load("u32", p, off, "macs"));
};

const pushVlan = (w: Rewrite, arg: number): void => {
  const { b } = w;
  if (b.hook === "tc") {
    const tpid = b.swap(16, b.load("u16", w.args, arg, "tpid"), "tpid");
    const tci = b.load("u16", w.args, arg + 2, "tci");
    const result = b.call("skb_vlan_push", ["ctx", tpid, tci]);
    b.unless("ne", result, 0, w.drop);
    reload(w);
    return;
  }
  const result = b.call("xdp_adjust_head", ["ctx", -vlan.minBytes]);
  b.unless("ne", result, 0, w.drop);
  reload(w);
  const macs = moveMacs(w, vlan.minBytes);
  const p = at(w, 0, ethernet.minBytes + vlan.minBytes);
  macs.forEach((word, i) => b.store("u32", p, 4 * i, word));
  b.store("u16", p, 12, b.swap(16, b.load("u16", w.args, arg, "tpid"), "tpid"));
  b.store("u16", p, 14, b.swap(16, b.load("u16", w.args, arg + 2, "tci"), "tci"));
};

const popVlan = (w: Rewrite): void => {
  const { b } = w;
  if (b.hook === "tc") {
    const result = b.call("skb_vlan_pop", ["ctx"]);
    b.unless("ne", result, 0, w.drop);
    reload(w);
    return;
  }
  const macs = moveMacs(w, 0);
  const result = b.call("xdp_adjust_head", ["ctx", vlan.minBytes]);
  b.unless("ne", result, 0, w.drop);
  reload(w);
  const p = at(w, 0, ethernet.minBytes);
  macs.forEach((word, i) => b.store("u32", p, 4 * i, word));
};

const XDP_REDIRECT_FAILED = 1; // XDP_DROP: verdict of redirect_map when the port is gone

const output = (w: Rewrite, arg: number, last: boolean): void => {
  const { b } = w;
  const ifindex = b.load("u32", w.args, arg, "ifindex");
  if (!last) {
    b.call("clone_redirect", ["ctx", ifindex, 0]);
    reload(w);
    return;
  }
  const verdict =
    b.hook === "tc"
      ? b.call("redirect", [ifindex, 0])
      : b.call("redirect_map", [{ map: MAPS.ports }, ifindex, XDP_REDIRECT_FAILED]);
  b.ret(verdict);
};

/** Layers that the list has to find before it changes anything. */
const layersOf = (actions: readonly DpAction[]): { layer: Layer; family: SetAction["family"] } => {
  const order: readonly Layer[] = ["l2", "arp", "l3", "l4"];
  let layer: Layer = "l2";
  let family: SetAction["family"] = "other";
  for (const action of actions) {
    if (action.kind !== "set") continue;
    const wanted = SET_LAYER[action.target] ?? "l2";
    if (wanted !== "l2") family = wanted === "arp" ? "arp" : action.family;
    if (order.indexOf(wanted) > order.indexOf(layer)) layer = wanted;
  }
  return { layer, family };
};

/**
 * Emits one shape that the hook carries (see pipeline/carriers.ts); every path ends.
 * @param args - the megaflow's arguments
 * @param packet - data and dataEnd as they are now; registers of the caller that the shape may overwrite
 */
export const emitShape = (
  b: IrBuilder,
  shape: Shape,
  args: Slot,
  packet: Pick<Emit, "data" | "dataEnd" | "len">,
  slow: BlockId,
  drop: BlockId,
): void => {
  const lastOutput = shape.example.findLastIndex((a) => a.kind === "output");
  if (lastOutput < 0) {
    b.jump(drop);
    return;
  }
  const actions = shape.example.slice(0, lastOutput + 1);
  const w: Rewrite = {
    b,
    args,
    ...packet,
    l3: b.reg("l3_off"),
    l4: b.reg("l4_off"),
    proto: b.reg("proto"),
    slow,
    drop,
  };
  const pops = actions.filter(({ kind }) => kind === "pop_vlan").length;
  if (b.hook === "tc" && pops > 0) {
    // The helper also takes the next tag into metadata, and fails half-way on a frame that ends inside of it.
    const whole = b.alu("add", b.alu("lsh", b.ctx("vlan_present"), 2), w.len, "whole");
    b.unless("lt", whole, ethernet.minBytes + (pops + 1) * vlan.minBytes, slow);
  }
  const { layer, family } = layersOf(actions);
  if (layer !== "l2") {
    b.mov(w.l4, 0);
    findL3(w);
    if (family === "arp") checkArp(w);
    else if (family === "ipv6") checkIpv6(w, layer === "l4");
    else checkIpv4(w, layer === "l4");
  }
  actions.forEach((action, i) => {
    const arg = shape.offsets[i]!;
    switch (action.kind) {
      case "set":
        SETTERS[action.target]?.(w, action, arg);
        break;
      case "push_vlan":
        pushVlan(w, arg);
        if (layer !== "l2") moveL3(w, vlan.minBytes);
        break;
      case "pop_vlan":
        popVlan(w);
        if (layer !== "l2") moveL3(w, -vlan.minBytes);
        break;
      case "output":
        output(w, arg, i === lastOutput);
        break;
      case "controller":
        break;
    }
  });
};

/** After a tag was pushed or popped: L3 and L4 have moved; at TC by what is inline now, since tags may be metadata. */
const moveL3 = (w: Rewrite, by: number): void => {
  const { b } = w;
  if (b.hook === "xdp") {
    b.aluTo("add", w.l3, by);
    b.aluTo("add", w.l4, by);
    forget(w, w.l3);
  } else {
    b.aluTo("sub", w.l4, w.l3);
    findL3(w);
    b.aluTo("add", w.l4, w.l3);
  }
  forget(w, w.l4);
};
