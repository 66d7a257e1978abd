// Emits action shapes: straight code for a list of actions, their arguments read from the stack, where the look-up has put them.
//
// A shape first asks for every header that it will touch, which the parser has found or not, and leaves for user space while
// nothing has been changed yet: packets that are odd in any way (truncated headers, later fragments whose checksum lies
// elsewhere, IPv6 extension headers) are rewritten there. After that a failed check can only be the verifier's worry, and drops.

import type { Slot, VReg } from "../ir/types.js";
import { ethernet, vlan } from "../packet/headers.js";
import type { DpAction, SetTarget } from "../pipeline/dp-action.js";
import { MAPS, NIC_OUTPUT, OUTPUT_PEER } from "./abi.js";
import { packetStart, type Emit, type Family, type Needs } from "./emit.js";
import { TARGETS } from "../targets/index.js";
import { checkLabels, popLabel, pushLabel, setLabel } from "./labels.js";
import { emitMeter } from "./meter.js";
import { TUNNEL_ARGS, type Shape } from "./plan.js";
import { at, checkHeaders, moveMacs, reload, type Rewrite } from "./rewrite.js";
import { SETTERS } from "./setters.js";
import { checkTunnels, pushTunnel, stripOuter } from "./tunnel-push.js";

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

const XDP_TX = 3;
const XDP_REDIRECT_FAILED = 1; // XDP_DROP: verdict of redirect_map when the port is gone

/** OUTPUT_PEER is its sign. */
const INDEX_BITS = OUTPUT_PEER - 1;

const redirectTc = (w: Rewrite, target: VReg): void => {
  const { b } = w;
  const peer = b.block("to_peer");
  b.unless("slt", target, 0, peer, 32);
  b.ret(b.call("redirect", [target, 0]));
  b.place(peer);
  b.ret(b.call("redirect_peer", [b.alu("and", target, INDEX_BITS, "ifindex"), 0]));
};

const output = (w: Rewrite, arg: number, last: boolean): void => {
  const { b } = w;
  const target = b.load("u32", w.args, arg, "target");
  if (w.outputs === "nic") {
    const host = b.block("to_host");
    b.unless("ne", target, NIC_OUTPUT.hairpin, host);
    b.ret(XDP_TX);
    b.place(host);
    b.ret(TARGETS[b.hook].verdicts.pass);
    return;
  }
  if (last && b.hook === "tc") {
    redirectTc(w, target);
    return;
  }
  const ifindex = b.alu("and", target, INDEX_BITS, "ifindex");
  if (last) {
    b.ret(b.call("redirect_map", [{ map: MAPS.ports }, ifindex, XDP_REDIRECT_FAILED]));
    return;
  }
  b.call("clone_redirect", ["ctx", ifindex, 0]);
  reload(w);
};

const LAYERS: readonly Layer[] = ["l2", "arp", "l3", "l4"];

/** The deepest layer that the list rewrites, and in which family; none for a list that touches L2 only. */
const layersOf = (actions: readonly DpAction[]): { readonly family: Family; readonly l4: boolean } | undefined => {
  let layer: Layer = "l2";
  let family: Family = "ipv4";
  for (const action of actions) {
    if (action.kind !== "set") continue;
    const wanted = SET_LAYER[action.target] ?? "l2";
    if (wanted !== "l2") family = wanted === "arp" ? "arp" : action.family === "ipv6" ? "ipv6" : "ipv4";
    if (LAYERS.indexOf(wanted) > LAYERS.indexOf(layer)) layer = wanted;
  }
  return layer === "l2" ? undefined : { family, l4: layer === "l4" };
};

const sends = ({ kind }: DpAction): boolean => kind === "output" || kind === "tnl_push";

/** Actions of a list up to its last output or meter: what comes after changes nothing that anybody sees. */
const carriedOut = (actions: readonly DpAction[]): readonly DpAction[] =>
  actions.slice(0, 1 + actions.findLastIndex((a) => sends(a) || a.kind === "meter"));

/** What the parser has to find for `shapes`. */
export const needsOf = (shapes: readonly Shape[]): Needs => {
  const layers = shapes.flatMap(({ example }) => layersOf(carriedOut(example)) ?? []);
  return { families: new Set(layers.map(({ family }) => family)), l4: layers.some(({ l4 }) => l4) };
};

/**
 * Emits one shape that the hook carries (see pipeline/carriers.ts); every path ends.
 * @param args - the megaflow's arguments
 * @param e - as the look-up left it; the parser has found what {@link needsOf} asked for
 */
export const emitShape = (e: Emit, shape: Shape, args: Slot): void => {
  const { b, slow, drop, found, len } = e;
  const actions = carriedOut(shape.example);
  if (actions.length === 0) {
    b.jump(drop);
    return;
  }
  // The packet is in a tunnel for good: what goes out as it is goes before. Only outputs follow (carriers.ts).
  const push = actions.findIndex(({ kind }) => kind === "tnl_push");
  const order = [...actions.keys()].filter((i) => i !== push);
  if (push >= 0) order.push(push);
  const lastOutput = order.at(-1)!;
  const layers = layersOf(actions);
  const w: Rewrite = {
    b,
    args,
    len,
    data: packetStart(e),
    dataEnd: b.ctx("data_end"),
    // Copies, since what is written once is easier to reason about: further checks of one header need no second sum.
    l3: layers === undefined ? found.l3 : b.value("l3_off", found.l3),
    l4: layers?.l4 === true ? b.value("l4_off", found.l4) : found.l4,
    outputs: e.outputs,
    slow,
    drop,
  };
  const pops = actions.filter(({ kind }) => kind === "pop_vlan").length;
  if (b.hook === "tc" && pops > 0) {
    // The helper also takes the next tag into metadata, and fails half-way on a frame that ends inside of it.
    const whole = b.alu("add", b.alu("lsh", b.ctx("vlan_present"), 2), w.len, "whole");
    b.unless("lt", whole, ethernet.minBytes + (pops + 1) * vlan.minBytes, slow);
  }
  if (layers !== undefined) checkHeaders(w, layers.family, layers.l4);
  checkLabels(w, actions);
  if (push >= 0) checkTunnels(w, actions, e.outer, shape.offsets[push]!);
  if (e.outer !== undefined) stripOuter(w, e.outer);
  for (const i of order) {
    const action = actions[i]!;
    const arg = shape.offsets[i]!;
    switch (action.kind) {
      case "set":
        if (action.target === "mpls_lse") setLabel(w, arg);
        else SETTERS[action.target]?.(w, action, arg);
        break;
      case "push_mpls":
        pushLabel(w, arg);
        break;
      case "pop_mpls":
        popLabel(w, arg);
        break;
      case "push_vlan":
        pushVlan(w, arg);
        if (layers !== undefined) moveL3(w, vlan.minBytes, layers.l4);
        break;
      case "pop_vlan":
        popVlan(w);
        if (layers !== undefined) moveL3(w, -vlan.minBytes, layers.l4);
        break;
      case "output":
        output(w, arg, i === lastOutput);
        break;
      case "tnl_push":
        pushTunnel(w, action, arg);
        output(w, arg + TUNNEL_ARGS.ifindex, true);
        break;
      case "meter":
        emitMeter(w, arg);
        break;
      case "controller":
        break;
    }
  }
  // A list that ends with a meter sends nothing.
  if (actions[lastOutput]!.kind === "meter") b.jump(drop);
};

/** Above every offset that the verifier lets packet pointers have. */
const OFFSET_MASK = 0x3fff;

/**
 * After a tag was pushed or popped: L3 and L4 have moved by `by`; at TC by what the packet's bytes have grown or shrunk, since
 * tags may be metadata.
 */
const moveL3 = (w: Rewrite, by: number, withL4: boolean): void => {
  const { b } = w;
  const moved = (off: VReg, delta: VReg | number): VReg =>
    b.alu("and", b.alu("add", off, delta, "moved"), OFFSET_MASK, "moved");
  let delta: VReg | number = by;
  if (b.hook === "tc") {
    const before = w.len;
    w.len = b.ctx("packet_len");
    delta = b.alu("sub", w.len, before, "grown");
  }
  w.l3 = moved(w.l3, delta);
  if (withL4) w.l4 = moved(w.l4, delta);
};
