// An access list of N rules over IPv4, as flows and as what the hand-written programs want. A rule takes one of eight
// shapes; every fourth denies. Flow i comes under rule i % N: the source network and the destination network say which.

import type { PacketSpec } from "../datapath/packet.js";
import { AT, ipText, udpPacket, wordAt } from "../datapath/packet.js";

/** Prefix lengths of source and destination, and whether the destination port counts. */
interface Shape {
  readonly src: number;
  readonly dst: number;
  readonly port: boolean;
}

/** Their order is that of bench/c/acl.bpf.c's shapes. */
const SHAPES: readonly Shape[] = [
  { src: 24, dst: 0, port: false },
  { src: 24, dst: 0, port: true },
  { src: 24, dst: 16, port: false },
  { src: 24, dst: 24, port: false },
  { src: 24, dst: 24, port: true },
  { src: 22, dst: 24, port: true },
  { src: 20, dst: 24, port: true },
  { src: 0, dst: 24, port: true },
];

const DENY_EVERY = 4;
const HOSTS = 1 << 8;

export interface AclRule {
  readonly shape: number;
  /** Host order. */
  readonly src: number;
  readonly dst: number;
  /** 0 when the port does not count. */
  readonly port: number;
  readonly permits: boolean;
}

/** Packets whose flow i comes under rule i % n. */
export const aclPackets = (n: number): PacketSpec => ({
  vary: [
    {
      at: AT.nwSrc,
      base: 0x0a00_0000,
      parts: [
        { mod: n, step: 1 << 8 },
        { div: n, mod: HOSTS },
      ],
    },
    {
      at: AT.nwDst,
      base: 0xac10_0000,
      parts: [
        { mod: n, step: 1 << 8 },
        { div: n * HOSTS, mod: HOSTS },
      ],
    },
    { at: AT.tpSrc, base: (1234 << 16) | 1000, parts: [{ mod: n, step: 1 }] },
  ],
});

const maskOf = (length: number): number => (length === 0 ? 0 : -1 << (32 - length));

/** Rules by falling priority; rule i takes the packets of flow i. */
export const aclRules = (n: number): AclRule[] =>
  Array.from({ length: n }, (_, i) => {
    const packet = udpPacket(aclPackets(n), i);
    const shape = SHAPES[i % SHAPES.length]!;
    return {
      shape: i % SHAPES.length,
      src: (wordAt(packet, AT.nwSrc) & maskOf(shape.src)) >>> 0,
      dst: (wordAt(packet, AT.nwDst) & maskOf(shape.dst)) >>> 0,
      port: shape.port ? wordAt(packet, AT.tpSrc) & 0xffff : 0,
      permits: i % DENY_EVERY !== DENY_EVERY - 1,
    };
  });

/** The rules as flows; what no rule takes is let through. */
export const aclFlows = (n: number, outPort: number): string[] => {
  const flows = aclRules(n).map(({ shape, src, dst, port, permits }, i) => {
    const lengths = SHAPES[shape]!;
    const match = [
      `priority=${n + 1 - i}`,
      "udp",
      ...(lengths.src > 0 ? [`nw_src=${ipText(src)}/${lengths.src}`] : []),
      ...(lengths.dst > 0 ? [`nw_dst=${ipText(dst)}/${lengths.dst}`] : []),
      ...(lengths.port ? [`tp_dst=${port}`] : []),
    ];
    return `${match.join(",")},actions=${permits ? `output:${outPort}` : "drop"}`;
  });
  return [...flows, `priority=0,actions=output:${outPort}`];
};

/** A word or half-word as C writes it on a little-endian machine, so that it reads as network byte order. */
const be32 = (n: number): string => `0x${swap32(n).toString(16)}u`;
const be16 = (n: number): string => `0x${(((n & 0xff) << 8) | (n >>> 8)).toString(16)}`;

/** `n` with its bytes turned around. */
export const swap32 = (n: number): number =>
  (((n & 0xff) << 24) | ((n & 0xff00) << 8) | ((n >>> 8) & 0xff00) | (n >>> 24)) >>> 0;

const masksOf = (shape: Shape): readonly [src: string, dst: string, port: string] => [
  be32(maskOf(shape.src) >>> 0),
  be32(maskOf(shape.dst) >>> 0),
  shape.port ? "0xffff" : "0",
];

/** `rules.h`: the rules as RULE(...) lines. */
export const aclRulesHeader = (n: number): string =>
  aclRules(n)
    .map(({ shape, src, dst, port }, i) => {
      const [srcMask, dstMask, portMask] = masksOf(SHAPES[shape]!);
      return `RULE(${i}, ${be32(src)}, ${srcMask}, ${be32(dst)}, ${dstMask}, ${be16(port)}, ${portMask})\n`;
    })
    .join("");

/** `shapes.h`: the shapes as SHAPE(...) lines. */
export const aclShapesHeader = (): string =>
  SHAPES.map((shape, i) => `SHAPE(${i}, ${masksOf(shape).join(", ")})\n`).join("");

/** The key of a rule in the tuple space: source, destination, port, number of the shape from 1. */
export const aclKey = ({ shape, src, dst, port }: AclRule): Uint32Array =>
  Uint32Array.of(swap32(src), swap32(dst), swap32(port) >>> 16, 1 + shape);
