// The datapath cases, one row each: a flow table in our words, the packets that hit it, and the C programs that do the same
// job by hand. A new case is a new row.

import type { Switch } from "#compiler";
import { IN_PORT, LOOPBACK, OUT_PORTS } from "./megaflows.js";
import { AT, ipText, macNumber, macText, udpPacket, type Vary } from "./packet.js";

/** A hand-written program, and how its table is filled. */
export interface Rival {
  readonly name: string;
  /** `bench/c/SOURCE.bpf.c`; its programs are `PROGRAM_xdp` and `PROGRAM_tc`. */
  readonly source: string;
  readonly program: string;
  readonly table: string;
  readonly defines?: Readonly<Record<string, number>>;
  /** Keys that the packet of flow `i` needs in the table; the last one is the entry that counts. */
  readonly keys: (packet: Uint8Array, i: number) => readonly Uint8Array[];
}

export interface Case {
  readonly name: string;
  readonly title: string;
  /** Numbers of flows to run with by default. */
  readonly sizes: readonly number[];
  readonly vary: Vary;
  /** Byte offsets of 32-bit words that the actions rewrite. */
  readonly restore: readonly number[];
  /** Our flow for a packet; absent = no flows at all. */
  readonly flow?: (packet: Uint8Array, i: number) => string;
  readonly prepare?: (sw: Switch, packets: readonly Uint8Array[]) => void;
  /** Masks that the cache must come to. */
  readonly masks: number;
  readonly rivals: readonly Rival[];
}

const SIZES = [1, 1_000, 100_000] as const;

const outPort = (i: number): number => OUT_PORTS[i % OUT_PORTS.length]!;

/** Next hop addresses of the routing case; the C program finds them in its entries. */
export const NEXT_HOP = { dst: "02:00:ee:00:00:01", src: "02:00:ee:00:00:02" } as const;

/** A key of `size` bytes with `parts` in it, by offset. */
const keyOf = (size: number, parts: readonly (readonly [number, Uint8Array])[]): Uint8Array => {
  const key = new Uint8Array(size);
  for (const [at, bytes] of parts) key.set(bytes, at);
  return key;
};

const part = (packet: Uint8Array, at: number, size: number): Uint8Array => packet.subarray(at, at + size);
const littleEndian32 = (n: number): Uint8Array => new Uint8Array(Uint32Array.of(n).buffer);

const macKey = (packet: Uint8Array, at: number): Uint8Array => keyOf(8, [[0, part(packet, at, 6)]]);

const UDP = 17;
const tuple = (packet: Uint8Array): readonly (readonly [number, Uint8Array])[] => [
  [0, part(packet, AT.nwSrc, 8)],
  [8, part(packet, AT.tpSrc, 4)],
  [12, Uint8Array.of(UDP)],
];

const fiveTuple = (packet: Uint8Array): string =>
  `udp,nw_src=${ipText(packet, AT.nwSrc)},nw_dst=${ipText(packet, AT.nwDst)},tp_src=1234,tp_dst=53`;

/** `bits` leading ones of a MAC address. */
const macMask = (bits: number): string =>
  Array.from({ length: 6 }, (_, i) => (0xff00 >>> Math.min(8, Math.max(0, bits - 8 * i))) & 0xff)
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join(":");

/**
 * Flows under `n` masks: 5-tuples with the first bits of the source MAC, one bit more for each lower priority, so that no
 * mask can stand for another.
 */
const masksCase = (n: number): Case => ({
  name: `masks-${n}`,
  title: `5-tuples under ${n} mask${n === 1 ? "" : "s"}`,
  sizes: [1_000, 100_000],
  vary: { at: AT.nwSrc, base: 0x0a00_0000 },
  restore: [],
  flow: (packet, i) =>
    `priority=${1000 - (i % n)},dl_src=${macText(packet, AT.dlSrc)}/${macMask((i % n) + 1)},${fiveTuple(packet)}` +
    `,actions=output:${outPort(i)}`,
  masks: n,
  rivals: [
    {
      name: `C, ${n} hash look-up${n === 1 ? "" : "s"}`,
      source: "masks",
      program: "masked",
      table: "tuples",
      defines: { MASKS: n },
      keys: (packet, i) => {
        const key = keyOf(24, [...tuple(packet), [14, Uint8Array.of(i % n)]]);
        const mac = BigInt(macNumber(packet, AT.dlSrc)) >> BigInt(47 - (i % n));
        new DataView(key.buffer).setBigUint64(16, mac, true);
        return [key];
      },
    },
  ],
});

export const CASES: readonly Case[] = [
  {
    name: "l2",
    title: "L2: by destination MAC",
    sizes: SIZES,
    vary: { at: AT.dlDst + 2, base: 0 },
    restore: [],
    flow: (packet, i) => `dl_dst=${macText(packet, AT.dlDst)},actions=output:${outPort(i)}`,
    masks: 1,
    rivals: [
      {
        name: "C, hash of MAC",
        source: "l2",
        program: "mac",
        table: "by_mac",
        keys: (packet) => [macKey(packet, AT.dlDst)],
      },
      {
        name: "C, hash of port, type, MAC",
        source: "l2",
        program: "key",
        table: "by_key",
        keys: (packet) => [
          keyOf(16, [
            [0, littleEndian32(LOOPBACK)],
            [4, part(packet, 12, 2)],
            [6, part(packet, AT.dlDst, 6)],
          ]),
        ],
      },
    ],
  },
  {
    name: "learning",
    title: "L2: NORMAL, all addresses learned",
    sizes: SIZES,
    vary: { at: AT.dlDst + 2, base: 0 },
    restore: [],
    prepare: (sw, packets) => {
      sw.macs.learn({ mac: macNumber(packets[0]!, AT.dlSrc), vlan: 0, port: IN_PORT }, 0);
      packets.forEach((packet, i) => sw.macs.learn({ mac: macNumber(packet, AT.dlDst), vlan: 0, port: outPort(i) }, 0));
    },
    masks: 1,
    rivals: [
      {
        name: "C, source and destination",
        source: "learning",
        program: "station",
        table: "stations",
        keys: (packet) => [macKey(packet, AT.dlSrc), macKey(packet, AT.dlDst)],
      },
    ],
  },
  {
    name: "5-tuple",
    title: "5-tuple, exact",
    sizes: SIZES,
    vary: { at: AT.nwSrc, base: 0x0a00_0000 },
    restore: [],
    flow: (packet, i) => `${fiveTuple(packet)},actions=output:${outPort(i)}`,
    masks: 1,
    rivals: [
      {
        name: "C, hash of 5-tuple",
        source: "five_tuple",
        program: "tuple",
        table: "tuples",
        keys: (packet) => [keyOf(16, tuple(packet))],
      },
    ],
  },
  {
    name: "l3",
    title: "L3: MACs, dec_ttl, output",
    sizes: SIZES,
    vary: { at: AT.nwDst, base: 0x0a00_0000 },
    restore: [AT.dlDst, AT.dlDst + 4, AT.dlDst + 8, AT.ttl],
    flow: (packet, i) =>
      `ip,nw_dst=${ipText(packet, AT.nwDst)},actions=mod_dl_src:${NEXT_HOP.src},mod_dl_dst:${NEXT_HOP.dst}` +
      `,dec_ttl,output:${outPort(i)}`,
    masks: 1,
    rivals: [
      {
        name: "C, hash of nw_dst",
        source: "route",
        program: "route",
        table: "routes",
        keys: (packet) => [part(packet, AT.nwDst, 4)],
      },
    ],
  },
  masksCase(1),
  masksCase(8),
  masksCase(32),
];

/** The packets of a case. */
export const packetsOf = ({ vary }: Case, flows: number): Uint8Array[] =>
  Array.from({ length: flows }, (_, i) => udpPacket(vary, i));
