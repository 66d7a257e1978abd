// The datapath cases, a row each. A new case is a new row.

import {
  aclFlows,
  aclKey,
  aclPackets,
  aclRules,
  aclRulesHeader,
  aclShapesHeader,
  type AclRule,
} from "../tables/acl.js";
import { hopMacs, makeDir248, makeRoutes, ROUTED, routeFlow, type Route } from "../tables/routes.js";
import { IN_PORT, outPort, type Case, type Contents, type Entry, type Inputs, type Rival } from "./case.js";
import { AT, ipText, macNumber, macText, udpPacket, wordAt, type Vary } from "./packet.js";
import { bytesOf, keyOf, part, rivalValue, VALUE, WIDE, wideFlow, type ValueFields } from "./value.js";

/** Not in quick runs. */
const NOT_QUICK = { quick: [], usual: [1_000, 100_000], full: [1, 1_000, 100_000, 1_000_000] } as const;
const SIZES = { quick: [1_000], usual: [1_000, 100_000], full: [1, 1_000, 100_000, 1_000_000] } as const;

// Words that tell flows apart

const BY_MAC: Vary = { at: AT.dlDst + 2, base: 0 };
const BY_SOURCE: Vary = { at: AT.nwSrc, base: 0x0a00_0000 };
const BY_DESTINATION: Vary = { at: AT.nwDst, base: 0x0a00_0000 };

const ETHERNET_WORDS = [AT.dlDst, AT.dlDst + 4, AT.dlDst + 8] as const;

// Keys

const macKey = (packet: Uint8Array, at: number): Uint8Array => keyOf(8, [[0, part(packet, at, 6)]]);

/** A MAC address as a key that is never zero. */
const macSlot = (packet: Uint8Array, at: number): Uint8Array =>
  keyOf(8, [
    [0, part(packet, at, 6)],
    [6, Uint8Array.of(1)],
  ]);

const UDP = 17;
const tuple = (packet: Uint8Array): readonly (readonly [number, Uint8Array])[] => [
  [0, part(packet, AT.nwSrc, 8)],
  [8, part(packet, AT.tpSrc, 4)],
  [12, Uint8Array.of(UDP)],
];

const fiveTuple = (packet: Uint8Array): string =>
  `udp,nw_src=${ipText(wordAt(packet, AT.nwSrc))},nw_dst=${ipText(wordAt(packet, AT.nwDst))},tp_src=1234,tp_dst=53`;

type KeyOf = (packet: Uint8Array, i: number) => Uint8Array;

/** An entry for each packet. */
const entriesOf = ({ packets }: Inputs, key: KeyOf, value: (i: number) => ValueFields = () => ({})): Entry[] =>
  packets.map((packet, i) => ({ key: key(packet, i), value: rivalValue(value(i)) }));

/** The two best ways to look up one exact key in C: a kernel hash map, and an open-addressed table in an array map. */
const exactRivals = (
  source: string,
  program: string,
  map: string,
  entries: { readonly hash: (inputs: Inputs) => Entry[]; readonly slots: (inputs: Inputs) => Entry[] },
  defines?: Readonly<Record<string, number>>,
): Rival[] => {
  const common = { source, ...(defines === undefined ? {} : { defines }) };
  return [
    {
      ...common,
      name: "C, kernel hash",
      program: `${program}_hash`,
      tables: (inputs) => ({ [map]: { kind: "hash", entries: entries.hash(inputs) } }),
    },
    {
      ...common,
      name: "C, table in array",
      program: `${program}_slot`,
      tables: (inputs) => ({ slots: { kind: "slots", entries: entries.slots(inputs) } }),
    },
  ];
};

/** The same key for both. */
const sameEntries = (key: KeyOf, value?: (i: number) => ValueFields): Parameters<typeof exactRivals>[3] => ({
  hash: (inputs) => entriesOf(inputs, key, value),
  slots: (inputs) => entriesOf(inputs, key, value),
});

const tupleKey: KeyOf = (packet) => keyOf(16, tuple(packet));

// Rows that differ in a number

/** `bits` leading ones of a MAC address. */
const macMask = (bits: number): Uint8Array =>
  Uint8Array.from({ length: 6 }, (_, i) => (0xff00 >>> Math.min(8, Math.max(0, bits - 8 * i))) & 0xff);

const hex = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");

/** The generic program's mask `i`, and the key of a packet under it. */
const wideMask = (i: number): Uint8Array =>
  keyOf(WIDE.size, [
    [WIDE.inPort, Uint8Array.of(255, 255, 255, 255)],
    [WIDE.ethSrc, macMask(i + 1)],
    [WIDE.ethType, Uint8Array.of(255, 255)],
    [WIDE.nwSrc, new Uint8Array(4).fill(255)],
    [WIDE.nwDst, new Uint8Array(4).fill(255)],
    [WIDE.nwProto, Uint8Array.of(255)],
    [WIDE.nwFrag, Uint8Array.of(255)],
    [WIDE.tpSrc, new Uint8Array(4).fill(255)],
  ]);

const wideKey = (packet: Uint8Array, mask: Uint8Array, ifindex: number): Uint8Array =>
  keyOf(WIDE.size, [
    [WIDE.inPort, bytesOf(Uint32Array.of(ifindex))],
    [WIDE.ethSrc, part(packet, AT.dlSrc, 6)],
    [WIDE.ethType, part(packet, AT.type, 2)],
    [WIDE.nwSrc, part(packet, AT.nwSrc, 4)],
    [WIDE.nwDst, part(packet, AT.nwDst, 4)],
    [WIDE.nwProto, Uint8Array.of(UDP)],
    [WIDE.tpSrc, part(packet, AT.tpSrc, 4)],
  ]).map((byte, i) => byte & mask[i]!);

const MAX_WIDE_MASKS = 64;

const genericRival = (masks: number): Rival => ({
  name: "C, generic design",
  source: "generic",
  program: "generic",
  isGeneric: true,
  tables: ({ packets, ifindex }): Record<string, Contents> => {
    const list = Array.from({ length: masks }, (_, i) => wideMask(i));
    const bytes = new Uint8Array(MAX_WIDE_MASKS * WIDE.size);
    list.forEach((mask, i) => bytes.set(mask, i * WIDE.size));
    return {
      masks: { kind: "memory", bytes },
      n_masks: { kind: "memory", bytes: Uint32Array.of(masks) },
      flows: {
        kind: "hash",
        entries: packets.map((packet, i) => ({ key: wideKey(packet, list[i % masks]!, ifindex), value: wideFlow() })),
      },
    };
  },
});

/**
 * Flows under `n` masks: 5-tuples with the first bits of the source MAC, one bit more for each lower priority, so that no
 * mask can stand for another.
 */
const masksCase = (n: number): Case => {
  const key: KeyOf = (packet, i) => {
    const out = keyOf(24, [...tuple(packet), [14, bytesOf(Uint16Array.of(i % n))]]);
    const mac = BigInt(macNumber(packet, AT.dlSrc)) >> BigInt(47 - (i % n));
    new DataView(out.buffer).setBigUint64(16, mac, true);
    return out;
  };
  return {
    name: `masks-${n}`,
    title: `5-tuples under ${n} mask${n === 1 ? "" : "s"}`,
    sizes: { quick: n === 8 ? [1_000] : [], usual: SIZES.usual, full: SIZES.usual },
    packet: { vary: [BY_SOURCE] },
    restore: [],
    flows: ({ packets }) =>
      packets.map(
        (packet, i) =>
          `priority=${1000 - (i % n)},dl_src=${macText(packet, AT.dlSrc)}/${hex(macMask((i % n) + 1))}` +
          `,${fiveTuple(packet)},actions=output:${outPort(i)}`,
      ),
    masks: n,
    rivals: [...exactRivals("masks", "masked", "tuples", sameEntries(key), { MASKS: n }), genericRival(n)],
  };
};

/** Rules as entries of the tuple space, and counters by rule number. */
const ruleFields = ({ permits }: AclRule, number: number): ValueFields => ({ outputs: permits, number });

/** Values side by side, as an array map holds them. */
const valuesOf = (fields: readonly ValueFields[]): Uint8Array => {
  const bytes = new Uint8Array(fields.length * VALUE.size);
  fields.forEach((f, i) => bytes.set(rivalValue(f), i * VALUE.size));
  return bytes;
};

/** Rules as code up to here: of more the verifier tires, and a search is quicker. */
const CODE_MAX = 100;

const aclCase = (n: number): Case => {
  const rules = (): Contents => ({
    kind: "memory",
    bytes: valuesOf([...aclRules(n).map(ruleFields), {}]),
    counts: VALUE.size,
  });
  const slots = (): Contents => ({
    kind: "slots",
    entries: aclRules(n).map((rule, i) => ({ key: bytesOf(aclKey(rule)), value: rivalValue(ruleFields(rule, i)) })),
  });
  const headers = (): Record<string, string> => ({ "rules.h": aclRulesHeader(n), "shapes.h": aclShapesHeader() });
  const common = { source: "acl", headers, tables: () => ({ rules: rules(), slots: slots() }) } as const;
  const code: Rival = { ...common, name: "C, rules as code", program: "code", defines: { RULES: n, WITH_CODE: 1 } };
  return {
    name: `acl-${n}`,
    title: `Access list of ${n.toLocaleString("en")} rules`,
    sizes: { quick: n === 32 ? [1_000] : [], usual: [1_000], full: SIZES.usual },
    packet: aclPackets(n),
    restore: [],
    flows: () => aclFlows(n, outPort(0)),
    rivals: [
      ...(n <= CODE_MAX ? [code] : []),
      { ...common, name: "C, tuple space", program: "space", defines: { RULES: n } },
    ],
  };
};

const routeFields = ({ hop }: Route): ValueFields => ({ hop: hopMacs(hop) });

const routeCase = (n: number, sizes: Case["sizes"]): Case => {
  let made: Route[] | undefined;
  const routes = (): Route[] => (made ??= makeRoutes(n));
  return {
    name: `routes-${n}`,
    title: `IPv4 routing, ${n.toLocaleString("en")} prefixes`,
    sizes,
    packet: { vary: [ROUTED] },
    restore: [...ETHERNET_WORDS, AT.ttl, AT.nwCheck],
    flows: () => routes().map((route) => routeFlow(route, outPort(route.hop))),
    rivals: [
      {
        name: "C, LPM trie",
        source: "route",
        program: "lpm",
        tables: () => ({
          trie: {
            kind: "hash",
            entries: routes().map((route) => {
              const key = new DataView(new ArrayBuffer(8));
              key.setUint32(0, route.length, true);
              key.setUint32(4, route.prefix);
              return { key: new Uint8Array(key.buffer), value: rivalValue(routeFields(route)) };
            }),
          },
        }),
      },
      {
        name: "C, DIR-24-8",
        source: "route",
        program: "dir",
        tables: () => {
          const { top, groups } = makeDir248(routes());
          return {
            top: { kind: "memory", bytes: top },
            groups: { kind: "memory", bytes: groups },
            routes: { kind: "memory", bytes: valuesOf([{}, ...routes().map(routeFields)]), counts: VALUE.size },
          };
        },
      },
    ],
  };
};

// Jobs with something to write

const NEXT_HOP = hopMacs(1);

const natAddress = (i: number): number => 0xcb00_7100 + (i & 0xff);
const natPort = (i: number): number => 1024 + (i % 60_000);

const natBytes = (i: number): Uint8Array => {
  const view = new DataView(new ArrayBuffer(6));
  view.setUint32(0, natAddress(i));
  view.setUint16(4, natPort(i));
  return new Uint8Array(view.buffer);
};

const VID = 100;
const slotRival = (name: string, program: string, at: number): Rival => ({
  name,
  source: "vlan",
  program,
  defines: { VID },
  tables: (inputs) => ({ slots: { kind: "slots", entries: entriesOf(inputs, (packet) => macSlot(packet, at)) } }),
});

/** Twenty tables: each looks at something else and leaves a mark for the next; the last has a flow for each packet. */
const pipelineFlows = ({ packets }: Inputs): string[] => {
  const looks = [
    "ip",
    `in_port=${IN_PORT}`,
    "ip,nw_proto=17",
    "dl_src=02:00:00:00:00:00/ff:ff:00:00:00:00",
    "udp,tp_dst=53",
    "ip,nw_dst=192.168.0.0/16",
    "dl_dst=02:00:00:00:00:00/ff:00:00:00:00:00",
    "ip,nw_src=10.0.0.0/8",
  ];
  const last = 19;
  const steps = Array.from({ length: last }, (_, t) => {
    const before = t === 0 ? "" : `,reg${(t - 1) % 8}=${t}`;
    const look = looks[t % looks.length]!;
    return `table=${t},priority=10,${look}${before},actions=load:${t + 1}->NXM_NX_REG${t % 8}[],goto_table:${t + 1}`;
  });
  return [...steps, ...packets.map((p, i) => `table=${last},${fiveTuple(p)},actions=output:${outPort(i)}`)];
};

/** What twenty tables come to, in one. */
const oneTableFlows = ({ packets }: Inputs): string[] =>
  packets.map(
    (p, i) =>
      `in_port=${IN_PORT},dl_src=02:00:00:00:00:00/ff:ff:00:00:00:00,dl_dst=02:00:00:00:00:00/ff:00:00:00:00:00` +
      `,${fiveTuple(p)},actions=output:${outPort(i)}`,
  );

export const CASES: readonly Case[] = [
  {
    name: "l2",
    title: "L2: by destination MAC",
    sizes: SIZES,
    hooks: ["xdp", "tc"],
    packet: { vary: [BY_MAC] },
    restore: [],
    flows: ({ packets }) => packets.map((p, i) => `dl_dst=${macText(p, AT.dlDst)},actions=output:${outPort(i)}`),
    masks: 1,
    rivals: exactRivals("l2", "mac", "by_mac", {
      hash: (inputs) => entriesOf(inputs, (packet) => macKey(packet, AT.dlDst)),
      slots: (inputs) => entriesOf(inputs, (packet) => macSlot(packet, AT.dlDst)),
    }),
  },
  {
    name: "learning",
    title: "L2: NORMAL, all addresses learned",
    // A MAC table holds 8,192.
    sizes: { quick: [], usual: [1_000], full: [1, 1_000] },
    packet: { vary: [BY_MAC] },
    restore: [],
    flows: () => ["priority=0,actions=NORMAL"],
    stations: ({ packets }) => [
      { mac: macNumber(packets[0]!, AT.dlSrc), port: IN_PORT },
      ...packets.map((p, i) => ({ mac: macNumber(p, AT.dlDst), port: outPort(i) })),
    ],
    masks: 1,
    // NORMAL learns.
    isDirect: false,
    rivals: exactRivals("l2", "known", "by_mac", {
      hash: (inputs) => stations(inputs, macKey),
      slots: (inputs) => stations(inputs, macSlot),
    }),
  },
  {
    name: "5-tuple",
    title: "5-tuple, exact",
    sizes: SIZES,
    hooks: ["xdp", "tc"],
    packet: { vary: [BY_SOURCE] },
    restore: [],
    flows: ({ packets }) => packets.map((p, i) => `${fiveTuple(p)},actions=output:${outPort(i)}`),
    masks: 1,
    rivals: exactRivals("five_tuple", "tuple", "tuples", sameEntries(tupleKey)),
  },
  masksCase(1),
  masksCase(8),
  masksCase(32),
  aclCase(10),
  aclCase(32),
  aclCase(100),
  aclCase(1_000),
  aclCase(10_000),
  {
    name: "hosts",
    title: "L3: host routes, MACs, dec_ttl",
    sizes: NOT_QUICK,
    packet: { vary: [BY_DESTINATION] },
    restore: [...ETHERNET_WORDS, AT.ttl, AT.nwCheck],
    flows: ({ packets }) =>
      packets.map(
        (p, i) =>
          `ip,nw_dst=${ipText(wordAt(p, AT.nwDst))},actions=mod_dl_src:${NEXT_HOP.src},mod_dl_dst:${NEXT_HOP.dst}` +
          `,dec_ttl,output:${outPort(i)}`,
      ),
    masks: 1,
    rivals: [
      {
        name: "C, kernel hash",
        source: "route",
        program: "host",
        tables: (inputs) => ({
          hosts: {
            kind: "hash",
            entries: entriesOf(
              inputs,
              (packet) => part(packet, AT.nwDst, 4),
              () => ({ hop: NEXT_HOP }),
            ),
          },
        }),
      },
    ],
  },
  routeCase(1_000, { quick: [1_000], usual: [1_000], full: [1, 1_000] }),
  routeCase(100_000, { quick: [], usual: [1_000], full: [1_000, 100_000] }),
  routeCase(700_000, { quick: [], usual: [], full: [1_000, 100_000, 700_000] }),
  {
    name: "vlan-push",
    title: "VLAN push, by destination MAC",
    sizes: { ...SIZES, usual: [1_000] },
    hooks: ["xdp"],
    packet: { vary: [BY_MAC] },
    restore: [...ETHERNET_WORDS, AT.type],
    flows: ({ packets }) =>
      packets.map((p, i) => `dl_dst=${macText(p, AT.dlDst)},actions=mod_vlan_vid:${VID},output:${outPort(i)}`),
    masks: 1,
    rivals: [slotRival("C, table in array", "push", AT.dlDst)],
  },
  {
    name: "vlan-pop",
    title: "VLAN pop, by destination MAC",
    sizes: { ...NOT_QUICK, usual: [1_000] },
    hooks: ["xdp"],
    packet: { vary: [BY_MAC], vid: VID },
    restore: [...ETHERNET_WORDS, AT.type],
    flows: ({ packets }) =>
      packets.map((p, i) => `dl_vlan=${VID},dl_dst=${macText(p, AT.dlDst)},actions=strip_vlan,output:${outPort(i)}`),
    masks: 1,
    rivals: [slotRival("C, table in array", "pop", AT.dlDst)],
  },
  {
    name: "nat",
    title: "NAT-like: source address and port",
    sizes: SIZES,
    packet: { vary: [BY_SOURCE] },
    restore: [AT.nwCheck - 2, AT.tpSrc, AT.udpCheck],
    flows: ({ packets }) =>
      packets.map(
        (p, i) =>
          `${fiveTuple(p)},actions=mod_nw_src:${ipText(natAddress(i))},mod_tp_src:${natPort(i)},output:${outPort(i)}`,
      ),
    masks: 1,
    rivals: exactRivals(
      "five_tuple",
      "nat",
      "tuples",
      sameEntries(tupleKey, (i) => ({ nat: natBytes(i) })),
    ),
  },
  {
    name: "pipeline-20",
    title: "20 tables, then the 5-tuple",
    sizes: SIZES,
    packet: { vary: [BY_SOURCE] },
    restore: [],
    flows: pipelineFlows,
    masks: 1,
    variants: [{ name: "ours, one table", flows: oneTableFlows }],
    rivals: exactRivals("five_tuple", "tuple", "tuples", sameEntries(tupleKey)),
  },
];

/** All destinations, and the source at the port that packets come in by. */
function stations({ packets, ifindex }: Inputs, key: (packet: Uint8Array, at: number) => Uint8Array): Entry[] {
  return [
    { key: key(packets[0]!, AT.dlSrc), value: rivalValue({ number: ifindex }) },
    ...packets.map((packet) => ({ key: key(packet, AT.dlDst), value: rivalValue() })),
  ];
}

/** The packets of a case. */
export const packetsOf = ({ packet }: Case, flows: number): Uint8Array[] =>
  Array.from({ length: flows }, (_, i) => udpPacket(packet, i));
