// Programs whose helpers must do the same in the interpreter and in the kernel: same verdict, same packet, same bytes in
// the map `result` (one value of 16 words of 64 bits), same entries in the other maps.

import { concatBytes, fromHex, MAP_FLAGS, type MapSpec } from "ebpf-assembler";
import { mapSpec, u32 } from "./fixtures.js";
import { call, END, KEEP, put, putLoad, STPID, TPID, VLAN_FIELDS } from "./helper-asm.js";

export interface HelperCase {
  readonly name: string;
  readonly hook: "xdp" | "tc";
  readonly code: string;
  readonly packet?: Uint8Array;
  readonly maps?: readonly MapSpec[];
  /** Maps whose entries are compared afterwards. */
  readonly compare?: readonly string[];
}

/** Ethernet, IPv4 10.0.0.1 > 10.0.0.2, UDP 1000 > 53, 22 bytes of data; checksums are right. */
export const UDP4 = fromHex(
  "020000000002 020000000001 0800" +
    "45000032 12340000 4011 5485 0a000001 0a000002" +
    "03e80035 001e 0000" +
    "000102030405060708090a0b0c0d0e0f101112131415",
);
/** The same in two VLAN tags: 88a8 0x0123, 8100 0x2045. */
export const QINQ = concatBytes(UDP4.subarray(0, 12), fromHex("88a80123 81002045"), UDP4.subarray(12));
/** IPv6 with 20 bytes of experimental payload, to a multicast address. */
export const IPV6 = fromHex(
  "333300000001 020000000001 86dd" +
    "60000000 0014 fd 40 20010db8000000000000000000000001 ff020000000000000000000000000001" +
    "000102030405060708090a0b0c0d0e0f10111213",
);

const tc = (name: string, code: string, more: Partial<HelperCase> = {}): HelperCase => ({
  name,
  hook: "tc",
  code: KEEP + code + END,
  ...more,
});
const xdp = (name: string, code: string, more: Partial<HelperCase> = {}): HelperCase => ({
  ...tc(name, code, more),
  hook: "xdp",
});

const VLAN: readonly HelperCase[] = [
  tc("skb_vlan_push once", call(0, "skb_vlan_push", TPID, 0x2064) + VLAN_FIELDS(1)),
  tc(
    "skb_vlan_push twice moves the first tag into the packet",
    call(0, "skb_vlan_push", STPID, 100) + call(1, "skb_vlan_push", TPID, 0x2064) + VLAN_FIELDS(2),
  ),
  tc("skb_vlan_push of another TPID takes 0x8100", call(0, "skb_vlan_push", 0x1234, 7) + VLAN_FIELDS(1)),
  tc(
    "skb_vlan_push, skb_vlan_push, skb_vlan_pop",
    call(0, "skb_vlan_push", STPID, 100) +
      call(1, "skb_vlan_push", TPID, 200) +
      call(2, "skb_vlan_pop") +
      VLAN_FIELDS(3),
  ),
  tc("skb_vlan_pop of an untagged packet", call(0, "skb_vlan_pop") + VLAN_FIELDS(1)),
  tc("skb_vlan_pop of two inline tags", call(0, "skb_vlan_pop") + VLAN_FIELDS(1), { packet: QINQ }),
  tc("skb_vlan_pop twice of two inline tags", call(0, "skb_vlan_pop") + call(1, "skb_vlan_pop") + VLAN_FIELDS(2), {
    packet: QINQ,
  }),
  tc(
    "skb_vlan_push on inline tags",
    call(0, "skb_vlan_push", TPID, 5) + call(1, "skb_vlan_push", TPID, 6) + VLAN_FIELDS(2),
    { packet: QINQ },
  ),
  tc("skb_vlan_pop of a tag that is cut off", call(0, "skb_vlan_pop") + VLAN_FIELDS(1), {
    packet: QINQ.subarray(0, 16),
  }),
  tc("skb_vlan_pop down to an 802.3 length", call(0, "skb_vlan_pop") + VLAN_FIELDS(1), {
    packet: concatBytes(QINQ.subarray(0, 12), fromHex("81000005 0010 4242 0300"), new Uint8Array(20)),
  }),
];

const CHECKSUM: readonly HelperCase[] = [
  tc("l3_csum_replace of 2 bytes", call(0, "l3_csum_replace", 24, 0x1140, 0x113f, 2)),
  tc("l3_csum_replace of 4 bytes", call(0, "l3_csum_replace", 24, 0x0100000a, 0x0164a8c0, 4)),
  tc("l3_csum_replace by a difference", call(0, "l3_csum_replace", 24, 0, 0x12345, 0)),
  tc(
    "l3_csum_replace with bad arguments",
    call(0, "l3_csum_replace", 24, 1, 2, 0) +
      call(1, "l3_csum_replace", 25, 1, 2, 2) +
      call(2, "l3_csum_replace", 24, 1, 2, 3) +
      call(3, "l3_csum_replace", 24, 1, 2, 0x12) +
      call(4, "l3_csum_replace", 4000, 1, 2, 2),
  ),
  tc("l4_csum_replace of 4 bytes of the pseudo header", call(0, "l4_csum_replace", 40, 0x0100000a, 0x0164a8c0, 0x14)),
  tc("l4_csum_replace of 2 bytes", call(0, "l4_csum_replace", 40, 0x1234, 0x5678, 2)),
  tc("l4_csum_replace keeps an absent UDP checksum", call(0, "l4_csum_replace", 40, 0x1234, 0x5678, 0x22)),
  tc(
    "l4_csum_replace never leaves 0 when told so",
    call(0, "l4_csum_replace", 42, 0, 0xffff, 0x62) + call(1, "l4_csum_replace", 44, 0x0302, 0xffff, 0x22),
  ),
  tc(
    "l4_csum_replace with bad arguments",
    call(0, "l4_csum_replace", 40, 1, 2, 0x10) +
      call(1, "l4_csum_replace", 40, 1, 2, 3) +
      call(2, "l4_csum_replace", 40, 1, 2, 0x102),
  ),
  ...[0, 1, 0xffff, 0x10000, 0xfffffffe, 0xffffffff].map((seed) =>
    xdp(
      `csum_diff with seed 0x${seed.toString(16)}`,
      " r1 = 0xfffefdfc01020304 ll\n *(u64 *)(r10 -16) = r1\n r1 = 0x00000000ffff1234 ll\n *(u64 *)(r10 -8) = r1\n" +
        (
          [
            [16, 0],
            [0, 16],
            [8, 8],
            [4, 8],
            [0, 0],
            [3, 4],
          ] as const
        )
          .map(
            ([from, to], i) =>
              ` r1 = ${from === 0 ? "0" : "r10"}\n${from === 0 ? "" : " r1 += -16\n"} r2 = ${from}\n` +
              ` r3 = ${to === 0 ? "0" : "r10"}\n${to === 0 ? "" : ` r3 += ${-to}\n`} r4 = ${to}\n r5 = 0x${seed.toString(16)} ll\n call bpf_csum_diff\n${put(i)}`,
          )
          .join(""),
    ),
  ),
];

const SKB_BYTES: readonly HelperCase[] = [
  tc(
    "skb_load_bytes inside and outside of the packet",
    " *(u64 *)(r10 -8) = -1\n" +
      call(0, "skb_load_bytes", 14, "r10", 8).replace("r3 = r10", "r3 = r10\n r3 += -8") +
      putLoad(1, "*(u64 *)(r10 -8)") +
      call(2, "skb_load_bytes", 60, "r10", 8).replace("r3 = r10", "r3 = r10\n r3 += -8") +
      putLoad(3, "*(u64 *)(r10 -8)") +
      call(4, "skb_load_bytes", -1, "r10", 8).replace("r3 = r10", "r3 = r10\n r3 += -8"),
  ),
  tc(
    "skb_store_bytes inside and outside of the packet",
    " *(u64 *)(r10 -8) = -2\n" +
      call(0, "skb_store_bytes", 30, "r10", 6, 0).replace("r3 = r10", "r3 = r10\n r3 += -8") +
      call(1, "skb_store_bytes", 60, "r10", 8, 0).replace("r3 = r10", "r3 = r10\n r3 += -8") +
      call(2, "skb_store_bytes", 0, "r10", 8, 4).replace("r3 = r10", "r3 = r10\n r3 += -8") +
      call(3, "skb_store_bytes", 2, "r10", 2, 1).replace("r3 = r10", "r3 = r10\n r3 += -8"),
  ),
  tc("skb_pull_data", call(0, "skb_pull_data", 0) + call(1, "skb_pull_data", 64) + call(2, "skb_pull_data", 65)),
  tc(
    "csum_update and csum_level without a complete checksum",
    call(0, "csum_update", 1) + call(1, "csum_level", 0) + call(2, "csum_level", 4),
  ),
  tc(
    "set_hash and set_hash_invalid",
    call(0, "set_hash", 77) +
      putLoad(1, "*(u32 *)(r6 +68)") +
      ` r1 = r6\n call bpf_set_hash_invalid\n` +
      putLoad(2, "*(u32 *)(r6 +68)"),
  ),
  tc("skb_change_type", call(0, "skb_change_type", 3) + putLoad(1, "*(u32 *)(r6 +4)") + call(2, "skb_change_type", 4)),
];

const LENGTH = putLoad(14, "*(u32 *)(r6 +0)") + putLoad(15, "*(u32 *)(r6 +16)");
const RESIZE: readonly HelperCase[] = [
  ...[0, 4, 14, 50, 300].map((n) => tc(`skb_change_head by ${n}`, call(0, "skb_change_head", n, 0) + LENGTH)),
  tc(
    "skb_change_head with bad arguments",
    call(0, "skb_change_head", -4, 0) +
      call(1, "skb_change_head", 4, 1) +
      call(2, "skb_change_head", 20000, 0) +
      LENGTH,
  ),
  ...[10, 13, 14, 20, 64, 65, 200].map((n) => tc(`skb_change_tail to ${n}`, call(0, "skb_change_tail", n, 0) + LENGTH)),
  tc(
    "skb_change_tail with bad arguments",
    call(0, "skb_change_tail", 60, 1) + call(1, "skb_change_tail", 20000, 0) + LENGTH,
  ),
  ...[4, 8, 50, -4, -8, -29, -30, -31, -50].map((n) =>
    tc(`skb_adjust_room by ${n} behind the Ethernet header`, call(0, "skb_adjust_room", n, 1, 0) + LENGTH),
  ),
  ...[4, 20, -4, -20, -30, -31].map((n) =>
    tc(`skb_adjust_room by ${n} behind the IP header`, call(0, "skb_adjust_room", n, 0, 0) + LENGTH),
  ),
  tc("skb_adjust_room on IPv6", call(0, "skb_adjust_room", 8, 1, 0) + call(1, "skb_adjust_room", -8, 0, 0) + LENGTH, {
    packet: IPV6,
  }),
  tc("skb_adjust_room on a protocol it does not know", call(0, "skb_adjust_room", 4, 1, 0) + LENGTH, { packet: QINQ }),
  tc(
    "skb_adjust_room with bad arguments",
    call(0, "skb_adjust_room", 4, 2, 0) +
      call(1, "skb_adjust_room", 5000, 1, 0) +
      call(2, "skb_adjust_room", 4, 1, 0x1000) +
      call(3, "skb_adjust_room", 40, 1, 6) +
      call(4, "skb_adjust_room", -4, 1, 2) +
      LENGTH,
  ),
  tc("skb_adjust_room for IPv4 and UDP", call(0, "skb_adjust_room", 28, 1, 0x12) + LENGTH),
  tc("skb_adjust_room for IPv6", call(0, "skb_adjust_room", 40, 1, 4) + LENGTH),
  tc(
    "skb_adjust_room for IPv4, UDP and VXLAN with Ethernet",
    call(0, "skb_adjust_room", 50, 1, "0x1600000000000012 ll") + LENGTH,
  ),
  tc(
    "skb_adjust_room after a second tag",
    call(0, "skb_vlan_push", TPID, 5) +
      call(1, "skb_vlan_push", TPID, 6) +
      call(2, "skb_vlan_pop") +
      call(3, "skb_adjust_room", 4, 1, 0) +
      LENGTH,
  ),
  tc(
    "skb_adjust_room after skb_change_head",
    call(0, "skb_change_head", 4, 0) + call(1, "skb_adjust_room", 4, 1, 0) + LENGTH,
  ),
  tc("skb_change_proto to IPv6 and back", call(0, "skb_change_proto", 0xdd86, 0) + LENGTH),
  tc("skb_change_proto to IPv4", call(0, "skb_change_proto", 0x0008, 0) + LENGTH, { packet: IPV6 }),
  tc(
    "skb_change_proto to the same",
    call(0, "skb_change_proto", 0x0008, 0) + call(1, "skb_change_proto", 0xdd86, 1) + LENGTH,
  ),
];

const CONTEXT: readonly HelperCase[] = [
  ...[UDP4, QINQ, IPV6].map((packet, n) =>
    tc(
      `fields of __sk_buff of packet ${n}`,
      [0, 4, 8, 12, 16, 20, 24, 28, 32, 40, 44, 68, 72, 160, 164, 176]
        .map((offset, i) => putLoad(i, `*(u32 *)(r6 +${offset})`))
        .join(""),
      { packet },
    ),
  ),
  tc(
    "narrow loads of __sk_buff",
    putLoad(0, "*(u8 *)(r6 +16)") +
      putLoad(1, "*(u8 *)(r6 +17)") +
      putLoad(2, "*(u16 *)(r6 +16)") +
      putLoad(3, "*(u16 *)(r6 +0)") +
      putLoad(4, "*(u8 *)(r6 +1)"),
  ),
  tc(
    "stores to __sk_buff",
    [8, 32, 44, 72, 12]
      .map((offset, i) => ` *(u32 *)(r6 +${offset}) = ${0x12340 + i}\n` + putLoad(i, `*(u32 *)(r6 +${offset})`))
      .join("") +
      " *(u64 *)(r6 +48) = -2\n *(u32 *)(r6 +64) = 5\n *(u8 *)(r6 +50) = 1\n" +
      putLoad(8, "*(u64 *)(r6 +48)") +
      putLoad(9, "*(u16 *)(r6 +50)") +
      putLoad(10, "*(u32 *)(r6 +64)") +
      putLoad(11, "*(u32 *)(r6 +56)"),
  ),
  xdp(
    "fields of xdp_md",
    putLoad(0, "*(u32 *)(r6 +16)") + " r1 = *(u32 *)(r6 +0)\n r0 = *(u32 *)(r6 +8)\n r0 -= r1\n" + put(1),
  ),
];

/** Length of the packet and of its metadata. */
const XDP_SIZE = (i: number): string =>
  ` r2 = *(u32 *)(r6 +0)\n r0 = *(u32 *)(r6 +4)\n r0 -= r2\n${put(i)} r2 = *(u32 *)(r6 +8)\n r0 = *(u32 *)(r6 +0)\n r0 -= r2\n${put(i + 1)}`;
const XDP: readonly HelperCase[] = [
  ...[-4, -50, -192, -216, -217, -256, 4, 14, 49, 50, 51, 64, 100].map((n) =>
    xdp(`xdp_adjust_head by ${n}`, call(0, "xdp_adjust_head", n) + XDP_SIZE(1)),
  ),
  ...[-1, -49, -50, -51, 1, 10, 190].map((n) =>
    xdp(`xdp_adjust_tail by ${n}`, call(0, "xdp_adjust_tail", n) + XDP_SIZE(1)),
  ),
  ...[-4, -3, -32, -36, -216, -220, -256, 4].map((n) =>
    xdp(`xdp_adjust_meta by ${n}`, call(0, "xdp_adjust_meta", n) + XDP_SIZE(1)),
  ),
  xdp(
    "xdp_adjust_head moves the metadata along",
    call(0, "xdp_adjust_meta", -8) +
      " r2 = *(u32 *)(r6 +8)\n r3 = *(u32 *)(r6 +0)\n r4 = r2\n r4 += 8\n if r4 > r3 goto out\n *(u64 *)(r2 +0) = 77\n" +
      call(1, "xdp_adjust_head", -20) +
      XDP_SIZE(2) +
      " r2 = *(u32 *)(r6 +8)\n r3 = *(u32 *)(r6 +0)\n r4 = r2\n r4 += 8\n if r4 > r3 goto out\n" +
      putLoad(4, "*(u64 *)(r2 +0)") +
      " out:",
  ),
  xdp(
    "xdp_load_bytes and xdp_store_bytes",
    " *(u64 *)(r10 -8) = -1\n" +
      ["load", "store"]
        .flatMap((verb, v) =>
          [14, 56, 57, 65536].map((offset, i) =>
            call(4 * v + i, `xdp_${verb}_bytes`, offset, "r10", 8).replace("r3 = r10", "r3 = r10\n r3 += -8"),
          ),
        )
        .join("") +
      call(8, "xdp_get_buff_len"),
  ),
];

const LO = u32(1);
const DEVMAP = mapSpec("devs", { type: "devmap", valueSize: 4, entries: [[u32(2), LO]] });
const DEVHASH = mapSpec("devs", { type: "devmap_hash", valueSize: 4, entries: [[u32(70000), LO]] });
const verdict = (name: string, hook: "xdp" | "tc", code: string, maps: readonly MapSpec[] = []): HelperCase => ({
  name,
  hook,
  code: `${code}\n exit`,
  maps,
});
const REDIRECT: readonly HelperCase[] = [
  verdict("redirect at XDP", "xdp", "r1 = 1\n r2 = 0\n call bpf_redirect"),
  verdict("redirect at XDP with flags", "xdp", "r1 = 1\n r2 = 1\n call bpf_redirect"),
  verdict("redirect at TC", "tc", "r1 = 1\n r2 = 0\n call bpf_redirect"),
  verdict("redirect into ingress at TC", "tc", "r1 = 1\n r2 = 1\n call bpf_redirect"),
  verdict("redirect at TC with unknown flags", "tc", "r1 = 1\n r2 = 2\n call bpf_redirect"),
  verdict("redirect_peer", "tc", "r1 = 1\n r2 = 0\n call bpf_redirect_peer"),
  verdict("redirect_peer with flags", "tc", "r1 = 1\n r2 = 1\n call bpf_redirect_peer"),
  ...(
    [
      [2, 0],
      [3, 0],
      [3, 2],
      [100, 1],
      [2, 8],
      [2, 24],
      [2, 32],
    ] as const
  ).map(([index, flags]) =>
    verdict(
      `redirect_map of ${index} with flags ${flags}`,
      "xdp",
      `r1 = map[devs]\n r2 = ${index}\n r3 = ${flags}\n call bpf_redirect_map`,
      [DEVMAP],
    ),
  ),
  ...[70000, 2].map((key) =>
    verdict(
      `redirect_map of ${key} in a devmap_hash`,
      "xdp",
      `r1 = map[devs]\n r2 = ${key}\n r3 = 2\n call bpf_redirect_map`,
      [DEVHASH],
    ),
  ),
  tc(
    "check_mtu",
    [0, 1500, 65536, 65537]
      .map(
        (length, i) =>
          ` *(u32 *)(r10 -4) = ${length}\n` +
          call(2 * i, "check_mtu", 0, "r10", 0, 0).replace("r3 = r10", "r3 = r10\n r3 += -4") +
          putLoad(2 * i + 1, "*(u32 *)(r10 -4)"),
      )
      .join(""),
  ),
];

const KEY = " *(u32 *)(r10 -4) = ";
const MAP_ARGS = " r1 = map[m]\n r2 = r10\n r2 += -4\n";
const update = (i: number, key: number, value: number, flags = 0): string =>
  `${KEY}${key}\n *(u64 *)(r10 -16) = ${value}\n${MAP_ARGS} r3 = r10\n r3 += -16\n r4 = ${flags}\n call bpf_map_update_elem\n${put(i)}`;
const remove = (i: number, key: number): string => `${KEY}${key}\n${MAP_ARGS} call bpf_map_delete_elem\n${put(i)}`;
let nLabels = 0;
const lookup = (i: number, key: number): string => {
  const miss = `miss${nLabels++}`;
  return `${KEY}${key}\n${MAP_ARGS} call bpf_map_lookup_elem\n if r0 == 0 goto ${miss}\n r0 = *(u64 *)(r0 +0)\n ${miss}: r1 = map[result][0]+${8 * i}\n *(u64 *)(r1 +0) = r0\n`;
};
const M = mapSpec("m", { maxEntries: 2 });
const WALK =
  lookup(0, 1) +
  update(1, 1, 11) +
  update(2, 1, 12, 1) +
  update(3, 2, 22, 2) +
  update(4, 2, 22, 1) +
  update(5, 3, 33) +
  lookup(6, 1) +
  update(7, 1, 13, 2) +
  lookup(8, 1) +
  remove(9, 1) +
  remove(10, 1) +
  lookup(11, 1) +
  update(12, 3, 34, 3) +
  update(13, 3, 35) +
  lookup(14, 3);
const lpmKey = (bits: number, ...bytes: readonly number[]): Uint8Array =>
  concatBytes(u32(bits), Uint8Array.from(bytes));
const LPM = mapSpec("lpm", {
  type: "lpm_trie",
  keySize: 8,
  flags: MAP_FLAGS.NO_PREALLOC,
  maxEntries: 5,
  entries: (
    [
      [0, 0, 0, 0, 0],
      [8, 10, 0, 0, 0],
      [20, 10, 1, 0x10, 0],
      [32, 10, 1, 0x12, 3],
    ] as const
  ).map(
    ([bits, ...bytes], i) =>
      [lpmKey(bits, ...bytes), new Uint8Array(BigUint64Array.of(BigInt(100 + i)).buffer)] as const,
  ),
});
const lpmLookup = (i: number, bits: number, word: number): string => {
  const miss = `miss${nLabels++}`;
  return ` *(u32 *)(r10 -8) = ${bits}\n *(u32 *)(r10 -4) = ${word}\n r1 = map[lpm]\n r2 = r10\n r2 += -8\n call bpf_map_lookup_elem\n if r0 == 0 goto ${miss}\n r0 = *(u64 *)(r0 +0)\n ${miss}: r1 = map[result][0]+${8 * i}\n *(u64 *)(r1 +0) = r0\n`;
};
const MAPS: readonly HelperCase[] = [
  ...(["hash", "lru_hash", "array"] as const).map((type) =>
    // An LRU of two entries evicts by batches in the kernel: room for all keys keeps the comparison to the rules.
    xdp(`flags and errors of ${type}`, WALK, {
      maps: [{ ...M, type, maxEntries: type === "lru_hash" ? 1024 : 2 }],
      compare: ["m"],
    }),
  ),
  xdp("hash without preallocation", WALK, { maps: [{ ...M, flags: MAP_FLAGS.NO_PREALLOC }], compare: ["m"] }),
  xdp(
    "values are shared by address",
    update(0, 1, 5) +
      `${KEY}1\n${MAP_ARGS} call bpf_map_lookup_elem\n if r0 == 0 goto out\n r1 = 7\n lock *(u64 *)(r0 +0) += r1\n` +
      lookup(1, 1) +
      " out:",
    { maps: [M], compare: ["m"] },
  ),
  xdp(
    "lpm_trie finds the longest prefix",
    lpmLookup(0, 32, 0x0312010a) +
      lpmLookup(1, 32, 0x0412010a) +
      lpmLookup(2, 32, 0x0420010a) +
      lpmLookup(3, 32, 0x0420010b) +
      lpmLookup(4, 16, 0x0312010a) +
      lpmLookup(5, 33, 0x0312010a),
    { maps: [LPM] },
  ),
];

const RING = mapSpec("ring", { type: "ringbuf", keySize: 0, valueSize: 0, maxEntries: 4096 });
const ringQuery = (i: number, what: number): string =>
  ` r1 = map[ring]\n r2 = ${what}\n call bpf_ringbuf_query\n${put(i)}`;
const reserve = (size: number, then: string): string => {
  const full = `full${nLabels++}`;
  return ` r1 = map[ring]\n r2 = ${size}\n r3 = 0\n call bpf_ringbuf_reserve\n if r0 == 0 goto ${full}\n ${then}\n ${full}:\n`;
};
const SUBMIT = "*(u64 *)(r0 +0) = 99\n r1 = r0\n r2 = 0\n call bpf_ringbuf_submit";
const RINGS: readonly HelperCase[] = [
  xdp(
    "ringbuf positions",
    reserve(8, SUBMIT) +
      ringQuery(0, 0) +
      reserve(13, SUBMIT) +
      ringQuery(1, 0) +
      ringQuery(2, 1) +
      ringQuery(3, 2) +
      ringQuery(4, 3) +
      ringQuery(5, 4) +
      reserve(24, "r1 = r0\n r2 = 0\n call bpf_ringbuf_discard") +
      ringQuery(6, 3),
    { maps: [RING] },
  ),
  xdp(
    "ringbuf that is full",
    reserve(2000, SUBMIT) +
      reserve(2000, SUBMIT) +
      ringQuery(0, 3) +
      reserve(80, SUBMIT) +
      ringQuery(1, 3) +
      reserve(64, SUBMIT) +
      ringQuery(2, 3) +
      reserve(8, SUBMIT) +
      ringQuery(3, 3) +
      " *(u64 *)(r10 -8) = 1\n r1 = map[ring]\n r2 = r10\n r2 += -8\n r3 = 8\n r4 = 0\n call bpf_ringbuf_output\n" +
      put(4),
    { maps: [RING] },
  ),
  xdp(
    "ringbuf_output",
    " *(u64 *)(r10 -8) = 1\n r1 = map[ring]\n r2 = r10\n r2 += -8\n r3 = 8\n r4 = 0\n call bpf_ringbuf_output\n" +
      put(0) +
      " r1 = map[ring]\n r2 = r10\n r2 += -8\n r3 = 8\n r4 = 4\n call bpf_ringbuf_output\n" +
      put(1) +
      ringQuery(2, 0),
    { maps: [RING] },
  ),
];

export const HELPER_CASES: readonly HelperCase[] = [
  ...VLAN,
  ...CHECKSUM,
  ...SKB_BYTES,
  ...RESIZE,
  ...CONTEXT,
  ...XDP,
  ...REDIRECT,
  ...MAPS,
  ...RINGS,
];
