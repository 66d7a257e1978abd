// Emits the part of the packet parser for what comes by uplinks: a packet of a tunnel goes on as the frame inside it, with what its
// outer headers said in the key and the tunnel's number as its port; every other packet goes to the host. Nothing is taken off yet:
// a packet that no megaflow is there for goes to user space as it came. The rules are those of packet/tunnel.ts, decapsulate().

import type { BlockId, VReg } from "../ir/types.js";
import { ethernet, ETH_TYPE, geneve, gre, GRE_FLAG, IP_PROTO, ipv4, ipv6, udp, vxlan } from "../packet/headers.js";
import { TNL_F } from "../packet/tunnel.js";
import { TARGETS } from "../targets/index.js";
import { vportIndex } from "./abi.js";
import { be16, copyMembers, keyField, need, putRegister, rereadPacket, type Emit } from "./emit.js";
import { tunnelPartOf } from "./key.js";
import type { Vport } from "../pipeline/tunnel/config.js";
import type { TunnelPlan } from "./plan.js";

const L3 = ethernet.minBytes;

/** What all tunnels have in common while their headers are read; mutable registers. */
interface Outer {
  /** Bytes of all of them, in the end. */
  readonly outer: VReg;
  /** What stands for the port. */
  readonly inPort: VReg;
  /** {@link TNL_F} */
  readonly flags: VReg;
  /** Offset of what is behind IP, a constant per family. */
  readonly l4: number;
  /** Offset of the end by IP's own length; the packet may be longer. */
  readonly end: VReg;
  readonly pass: BlockId;
  readonly done: BlockId;
}

/** A VNI with the byte behind it, as a little-endian load sees it, is tun_id's lower half. */
const putVni = (e: Emit, word: VReg): void => putTunId(e, e.b.alu("lsh", word, 8, "vni", 32));

/** @param low - the lower half in network order; the upper one is zero, as the key is already */
const putTunId = (e: Emit, low: VReg): void => {
  const field = keyField(e, "tun_id");
  if (field !== undefined) e.b.store("u32", e.key, field.off + 4, low);
};

const isAt = (e: Emit, address: Uint8Array, off: number, found: BlockId): void => {
  const { b } = e;
  const view = new DataView(address.buffer, address.byteOffset, address.length);
  const next = b.block("");
  for (let at = 0; at < address.length; at += 4) {
    const word = b.load("u32", e.data, off + at, "address");
    b.unless("ne", word, view.getInt32(at, true), next, 32);
  }
  b.jump(found);
  b.place(next);
};

/** Goes to `found` when the address at `off` is the host's; on in the current block, which must leave, otherwise. */
const isOurs = (e: Emit, addresses: readonly Uint8Array[], bytes: number, off: number, found: BlockId): void => {
  for (const address of addresses) if (address.length === bytes) isAt(e, address, off, found);
};

/** The frame inside begins behind `outer` bytes, all in place. */
const finish = (e: Emit, o: Outer, vport: Vport, outer: VReg | number): void => {
  const { b } = e;
  const { flags, pass, done, inPort } = o;
  const bytes = b.value("outer", outer);
  b.unless("gt", b.alu("add", bytes, ethernet.minBytes, "least"), o.end, pass);
  need(e, b.alu("add", e.data, bytes, "inner"), ethernet.minBytes, pass);
  b.mov(o.outer, bytes);
  putRegister(e, "tun_flags", b.swap(16, flags, "tun_flags"));
  b.mov(inPort, vportIndex(vport.number, b.hook));
  b.jump(done);
};

const parseVxlan = (e: Emit, o: Outer, vport: Vport): void => {
  const { b } = e;
  const shim = o.l4 + udp.minBytes;
  const first = b.load("u32", e.data, shim, "vxlan_flags");
  const vni = b.block("vni");
  b.branch("set", first, 0x08, vni, o.pass, "then");
  b.place(vni);
  const plain = b.block("no_policy");
  if (keyField(e, "tun_gbp_id") !== undefined || keyField(e, "tun_gbp_flags") !== undefined) {
    const policy = b.block("policy");
    b.branch("set", first, 0x80, policy, plain);
    b.place(policy);
    putRegister(e, "tun_gbp_flags", b.alu("and", b.load("u8", e.data, shim + 1, "policy_flags"), 0x48));
    copyMembers(e, e.data, [["tun_gbp_id", shim + vxlan.fields.policy.byteOffset]]);
    b.jump(plain);
  } else b.jump(plain);
  b.place(plain);
  putVni(e, b.load("u32", e.data, shim + vxlan.fields.vni.byteOffset, "vni"));
  finish(e, o, vport, shim + vxlan.minBytes);
};

const parseGeneve = (e: Emit, o: Outer, vport: Vport): void => {
  const { b } = e;
  const shim = o.l4 + udp.minBytes;
  const first = b.load("u8", e.data, shim, "options");
  b.unless("ge", first, 0x40, o.pass);
  b.unless("ne", b.load("u16", e.data, shim + geneve.fields.protocol.byteOffset), be16(ETH_TYPE.TEB), o.pass);
  const oam = b.alu("rsh", b.load("u8", e.data, shim + 1, "control"), 7, "oam");
  b.aluTo("or", o.flags, oam);
  putVni(e, b.load("u32", e.data, shim + geneve.fields.vni.byteOffset, "vni"));
  const options = b.alu("lsh", first, 2, "options");
  finish(e, o, vport, b.alu("add", options, shim + geneve.minBytes, "outer"));
};

const GRE_KNOWN = GRE_FLAG.CSUM | GRE_FLAG.KEY | GRE_FLAG.SEQ;

const parseGre = (e: Emit, o: Outer, vport: Vport): void => {
  const { b } = e;
  const at = o.l4;
  need(e, e.data, at + gre.minBytes, o.pass);
  const bits = b.load("u16", e.data, at, "gre_flags");
  b.unless("set", bits, be16(~GRE_KNOWN & 0xffff), o.pass);
  b.unless("ne", b.load("u16", e.data, at + gre.fields.protocol.byteOffset), be16(ETH_TYPE.TEB), o.pass);
  const bytes = b.value("outer", at + gre.minBytes);
  const field = (flag: number, hint: string, found: () => void): void => {
    const [there, next] = [b.block(hint), b.block("")];
    b.branch("set", bits, be16(flag), there, next);
    b.place(there);
    found();
    b.aluTo("add", bytes, 4);
    b.jump(next);
    b.place(next);
  };
  field(GRE_FLAG.CSUM, "gre_checksum", () => b.aluTo("or", o.flags, TNL_F.CSUM));
  field(GRE_FLAG.KEY, "gre_key", () => {
    const p = b.alu("add", e.data, bytes, "key");
    need(e, p, 4, o.pass);
    b.aluTo("or", o.flags, TNL_F.KEY);
    putTunId(e, b.load("u32", p, 0, "gre_key"));
  });
  field(GRE_FLAG.SEQ, "gre_sequence", () => undefined);
  finish(e, o, vport, bytes);
};

/** What comes behind IP, by its protocol. */
const parseShims = (e: Emit, { vports }: TunnelPlan, o: Outer, proto: VReg): void => {
  const { b } = e;
  const greVport = vports.find(({ type }) => type === "gre");
  if (greVport !== undefined) {
    const [isGre, next] = [b.block("gre"), b.block("")];
    b.branch("eq", proto, IP_PROTO.GRE, isGre, next);
    b.place(isGre);
    parseGre(e, o, greVport);
    b.place(next);
  }
  b.unless("ne", proto, IP_PROTO.UDP, o.pass);
  need(e, e.data, o.l4 + udp.minBytes + vxlan.minBytes, o.pass);
  b.unless("lt", o.end, o.l4 + udp.minBytes + vxlan.minBytes, o.pass);
  const port = b.load("u16", e.data, o.l4 + udp.fields.dst.byteOffset, "udp_dst");
  for (const vport of vports) {
    if (vport.type === "gre") continue;
    const next = b.block("");
    b.unless("ne", port, be16(vport.dstPort), next);
    b.aluTo("or", o.flags, TNL_F.KEY);
    const summed = b.block("summed");
    b.unless("eq", b.load("u16", e.data, o.l4 + udp.fields.checksum.byteOffset), 0, summed);
    b.aluTo("or", o.flags, TNL_F.CSUM);
    b.jump(summed);
    b.place(summed);
    if (vport.type === "vxlan") parseVxlan(e, o, vport);
    else parseGeneve(e, o, vport);
    b.place(next);
  }
  b.jump(o.pass);
};

const parseOuterV4 = (e: Emit, plan: TunnelPlan, o: Omit<Outer, "l4" | "end">): void => {
  const { b } = e;
  const f = ipv4.fields;
  const { flags, pass } = o;
  b.unless("ne", b.load("u8", e.data, L3, "vhl"), 0x45, pass);
  const ours = b.block("to_host");
  isOurs(e, plan.addresses, 4, L3 + f.dst.byteOffset, ours);
  b.jump(pass);
  b.place(ours);
  const fragment = b.load("u16", e.data, L3 + f.reserved.byteOffset, "fragment");
  b.unless("set", fragment, be16(0x3fff), pass);
  const total = b.swap(16, b.load("u16", e.data, L3 + f.totalLength.byteOffset, "total"), "total");
  const end = b.alu("add", total, L3, "end");
  b.unless("gt", end, e.len, pass);
  // Don't fragment is bit 6 of the first byte; its flag here is 2.
  b.mov(flags, b.alu("and", b.alu("rsh", fragment, 5), TNL_F.DF));
  copyMembers(e, e.data, [
    ["tun_tos", L3 + f.dscp.byteOffset],
    ["tun_ttl", L3 + f.ttl.byteOffset],
    ["tun_src", L3 + f.src.byteOffset],
    ["tun_dst", L3 + f.dst.byteOffset],
  ]);
  const proto = b.load("u8", e.data, L3 + f.proto.byteOffset, "proto");
  parseShims(e, plan, { ...o, l4: L3 + ipv4.minBytes, end }, proto);
};

const parseOuterV6 = (e: Emit, plan: TunnelPlan, o: Omit<Outer, "l4" | "end">): void => {
  const { b } = e;
  const f = ipv6.fields;
  const { flags, pass } = o;
  need(e, e.data, L3 + ipv6.minBytes, pass);
  const ours = b.block("to_host");
  isOurs(e, plan.addresses, 16, L3 + f.dst.byteOffset, ours);
  b.jump(pass);
  b.place(ours);
  const payload = b.swap(16, b.load("u16", e.data, L3 + f.payloadLength.byteOffset, "payload"), "payload");
  const end = b.alu("add", payload, L3 + ipv6.minBytes, "end");
  b.unless("gt", end, e.len, pass);
  b.mov(flags, 0);
  const first = b.swap(16, b.load("u16", e.data, L3, "first"), "first");
  putRegister(e, "tun_tos", b.alu("rsh", first, 4, "tos"));
  copyMembers(e, e.data, [
    ["tun_ttl", L3 + f.hopLimit.byteOffset],
    ["tun_ipv6_src", L3 + f.src.byteOffset],
    ["tun_ipv6_dst", L3 + f.dst.byteOffset],
  ]);
  const proto = b.load("u8", e.data, L3 + f.nextHeader.byteOffset, "proto");
  parseShims(e, plan, { ...o, l4: L3 + ipv6.minBytes, end }, proto);
};

/**
 * Emits the outer parser of a plan with tunnels; goes on in the current block with `e.outer`, `e.inPort` and the key's tunnel
 * members set, for packets of tunnels and for those that came by a port.
 */
export const emitTunnelParser = (e: Emit, tunnels: TunnelPlan): void => {
  const { b } = e;
  b.origin = { text: "tunnel headers" };
  const outer = b.value("outer", 0);
  e.inPort = b.value("in_port", e.ifindex);
  for (let word = tunnelPartOf(e.plan.key); word < e.plan.key.size; word += 8) b.store("u64", e.key, word, 0);
  const [uplink, done, pass] = [b.block("uplink"), b.block("tunnel_parsed"), b.block("to_host")];
  for (const ifindex of tunnels.uplinks) b.unless("eq", e.ifindex, ifindex, uplink);
  b.jump(done);
  b.place(pass);
  // Programs of others at TC may want them.
  const { next, pass: accept } = TARGETS[b.hook].verdicts;
  b.ret(next ?? accept);
  b.place(uplink);
  // A tag in metadata: not to an address of an uplink itself.
  if (b.hook === "tc") b.unless("ne", b.ctx("vlan_present"), 0, pass);
  need(e, e.data, L3 + ipv4.minBytes, pass);
  const o = { outer, inPort: e.inPort, flags: b.value("flags", 0), pass, done };
  const type = b.load("u16", e.data, ethernet.fields.type.byteOffset, "outer_type");
  if (tunnels.addresses.some(({ length }) => length === 16)) {
    const [v6, other] = [b.block("outer_ipv6"), b.block("outer_ipv4")];
    b.branch("eq", type, be16(ETH_TYPE.IPV6), v6, other);
    b.place(v6);
    parseOuterV6(e, tunnels, o);
    b.place(other);
  }
  b.unless("ne", type, be16(ETH_TYPE.IPV4), pass);
  parseOuterV4(e, tunnels, o);
  b.place(done);
  e.outer = outer;
  rereadPacket(e);
  b.mov(e.len, b.alu("sub", e.len, outer, "frame_len"));
};
