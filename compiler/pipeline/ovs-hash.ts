// The hash functions by which OVS spreads packets over the buckets of a select group, bit for bit, so that a connection
// takes the same bucket in ofxdp and in OVS. All run on little-endian words, as they do on OVS's usual machines:
// murmurhash3 (packet/murmur.ts) and jhash (OVS lib/jhash.h).

import { FLOW, get, getBytes, type FlowWords, type Member } from "../openflow/flow.js";
import { murmurAdd, murmurFinish } from "../packet/murmur.js";

const rotate = (x: number, k: number): number => (x << k) | (x >>> (32 - k));

/** `hash_int` = `hash_2words`. */
export const hashInt = (x: number, basis: number): number => murmurFinish(murmurAdd(murmurAdd(x, 0), basis), 8);

/** `hash_uint64` of a 64-bit value. */
export const hashUint64 = (value: bigint): number =>
  murmurFinish(murmurAdd(murmurAdd(0, Number(value & 0xffffffffn)), Number(value >> 32n)), 8);

const wordAt = (bytes: Uint8Array, at: number): number =>
  (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24);

const wordsOf = (bytes: Uint8Array, hash: number): number => {
  for (let at = 0; at < bytes.length; at += 4) hash = murmurAdd(hash, wordAt(bytes, at));
  return hash;
};

/** `hash_bytes`. */
export const hashBytes = (bytes: Uint8Array, basis: number): number => {
  return murmurFinish(wordsOf(bytes, basis), bytes.length);
};

/** `jhash_bytes`. */
export const jhashBytes = (bytes: Uint8Array, basis: number): number => {
  let a = (0xdeadbeef + bytes.length + basis) | 0;
  let b = a;
  let c = a;
  let at = 0;
  for (; bytes.length - at >= 12; at += 12) {
    a = (a + wordAt(bytes, at)) | 0;
    b = (b + wordAt(bytes, at + 4)) | 0;
    c = (c + wordAt(bytes, at + 8)) | 0;
    a = ((a - c) ^ rotate(c, 4)) | 0;
    c = (c + b) | 0;
    b = ((b - a) ^ rotate(a, 6)) | 0;
    a = (a + c) | 0;
    c = ((c - b) ^ rotate(b, 8)) | 0;
    b = (b + a) | 0;
    a = ((a - c) ^ rotate(c, 16)) | 0;
    c = (c + b) | 0;
    b = ((b - a) ^ rotate(a, 19)) | 0;
    a = (a + c) | 0;
    c = ((c - b) ^ rotate(b, 4)) | 0;
    b = (b + a) | 0;
  }
  if (at < bytes.length) {
    a = (a + wordAt(bytes, at)) | 0;
    b = (b + wordAt(bytes, at + 4)) | 0;
    c = (c + wordAt(bytes, at + 8)) | 0;
    c = ((c ^ b) - rotate(b, 14)) | 0;
    a = ((a ^ c) - rotate(c, 11)) | 0;
    b = ((b ^ a) - rotate(a, 25)) | 0;
    c = ((c ^ b) - rotate(b, 16)) | 0;
    a = ((a ^ c) - rotate(c, 4)) | 0;
    b = ((b ^ a) - rotate(a, 14)) | 0;
    c = ((c ^ b) - rotate(b, 24)) | 0;
  }
  return c >>> 0;
};

const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
const IPPROTO_SCTP = 132;

const bytesOf = (flow: FlowWords, member: Member): Uint8Array => getBytes(flow, FLOW[member].at, FLOW[member].bits);

const xored = (flow: FlowWords, a: Member, b: Member): Uint8Array => {
  const other = bytesOf(flow, b);
  return bytesOf(flow, a).map((byte, i) => byte ^ other[i]!);
};

const vlanIds = (flow: FlowWords): number => (get(flow, "vlan0_tci") ^ get(flow, "vlan1_tci")) & 0xfff;

/** `flow_hash_symmetric_l4`: addresses of both layers, VLAN ids, and TCP or SCTP ports; the same in both directions. */
export const symmetricL4 = (flow: FlowWords, basis: number): number => {
  // union { ipv4; ipv6 }, eth_type, vlan_tci, tp_port, eth_addr, ip_proto, padded to words.
  const bytes = new Uint8Array(32);
  const type = get(flow, "dl_type");
  if (type === 0x0800 || type === 0x86dd) {
    const ipv4 = type === 0x0800;
    bytes.set(ipv4 ? xored(flow, "nw_src", "nw_dst") : xored(flow, "ipv6_src", "ipv6_dst"), 0);
    const proto = get(flow, "nw_proto");
    bytes[28] = proto;
    if (proto === IPPROTO_TCP || proto === IPPROTO_SCTP) bytes.set(xored(flow, "tp_src", "tp_dst"), 20);
  }
  bytes.set(bytesOf(flow, "dl_type"), 16);
  const vlan = vlanIds(flow);
  bytes.set([vlan >>> 8, vlan & 0xff], 18);
  bytes.set(xored(flow, "dl_src", "dl_dst"), 22);
  return jhashBytes(bytes, basis);
};

/** `flow_hash_symmetric_l2`. */
const symmetricL2 = (flow: FlowWords, basis: number): number => {
  const bytes = new Uint8Array(12);
  bytes.set(bytesOf(flow, "dl_type"), 0);
  const vlan = vlanIds(flow);
  bytes.set([vlan >>> 8, vlan & 0xff], 2);
  bytes.set(xored(flow, "dl_src", "dl_dst"), 4);
  return murmurFinish(wordsOf(bytes, basis), basis);
};

/** `flow_hash_symmetric_l3l4`: what the `hash(sym_l4())` datapath action computes. */
export const symmetricL3L4 = (flow: FlowWords, basis: number, udpPorts: boolean): number => {
  const type = get(flow, "dl_type");
  if (type !== 0x0800 && type !== 0x86dd) return symmetricL2(flow, basis);
  let hash = wordsOf(type === 0x0800 ? xored(flow, "nw_src", "nw_dst") : xored(flow, "ipv6_src", "ipv6_dst"), basis);
  const proto = get(flow, "nw_proto");
  hash = murmurAdd(hash, proto);
  const ports = proto === IPPROTO_TCP || proto === IPPROTO_SCTP || (udpPorts && proto === IPPROTO_UDP);
  if (ports && (get(flow, "nw_frag") & 3) === 0) hash = murmurAdd(hash, wordAt(xored(flow, "tp_src", "tp_dst"), 0));
  return murmurFinish(hash, basis);
};

/** `flow_hash_5tuple`: what the `hash(l4())` datapath action computes for a packet without a hash from the NIC. */
export const hash5Tuple = (flow: FlowWords, basis: number): number => {
  const type = get(flow, "dl_type");
  let hash = basis;
  if (type === 0x86dd) hash = wordsOf(bytesOf(flow, "ipv6_dst"), wordsOf(bytesOf(flow, "ipv6_src"), hash));
  else if (type === 0x0800 || type === 0x0806)
    hash = wordsOf(bytesOf(flow, "nw_dst"), wordsOf(bytesOf(flow, "nw_src"), hash));
  else return murmurFinish(hash, 42);
  const proto = get(flow, "nw_proto");
  hash = murmurAdd(hash, proto);
  if (![IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP, 1, 58].includes(proto)) return murmurFinish(hash, 42);
  const ports = new Uint8Array(4);
  ports.set(bytesOf(flow, "tp_src"), 0);
  ports.set(bytesOf(flow, "tp_dst"), 2);
  return murmurFinish(murmurAdd(hash, wordAt(ports, 0)), 42);
};
