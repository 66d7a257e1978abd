// Messages to read and print: bodies of every kind in every version, mostly valid.

import {
  ANY_GROUP,
  ByteWriter,
  encodeActions,
  encodeFlowUpdate,
  encodeGroupDesc,
  encodeGroupStats,
  encodeMatch10,
  encodeMatch11,
  encodeMeterStats,
  encodeNxm,
  encodeOxm,
  encodePortStats,
  encodeTableDesc,
  ETHERNET_COUNTERS,
  MESSAGES,
  parseFlowLines,
  parseGroups,
  PORT,
  PORT_COUNTERS,
  portToText,
  putAggregate,
  putFlowRemoved,
  putFlowStats,
  putPacketIn,
  putPacketIn2,
  putPacketInNx,
  putPacketOut,
  putPortDesc,
  type Match,
  type MessageRow,
  type MinorVersion,
  type WirePacketIn,
} from "#compiler";
import { concatBytes } from "ebpf-assembler";
import { randomMatch } from "./random-matches.js";
import { randomPackets } from "./random-packets.js";
import type { Random } from "./random.js";

const u16 = (value: number): number[] => [(value >>> 8) & 0xff, value & 0xff];
const u32 = (value: number): number[] => [...u16(value >>> 16), ...u16(value)];

const anyMatch = (r: Random): Match => {
  for (;;) {
    const [line] = parseFlowLines(`${randomMatch(r)},actions=drop`);
    // OVS shows zeros in the place of tunnel options.
    if (line?.value !== undefined && line.value.flow.match.tunMetadata === undefined) return line.value.flow.match;
  }
};

const seldom = (r: Random, value: number, other: number): number => (r.oneIn(4) ? other : value);

/** A port of 16 or 32 bits, mostly one that is. */
const port = (r: Random, bytes: 2 | 4): number[] => {
  const number = r.pick([0xffffffff, 0xffffffff, 1, 0xfffffffe, 0xfffffffd, 300]);
  return bytes === 2 ? u16(number) : u32(r.oneIn(20) ? 0xff000000 : number);
};

const timeouts = (r: Random): number[] => [...u16(seldom(r, 0, r.below(65536))), ...u16(seldom(r, 0, r.below(99)))];

const priority = (r: Random): number[] => u16(r.pick([0x8000, 0x8000, 0, 1, 65535]));

const bufferId = (r: Random): number[] => u32(seldom(r, 0xffffffff, r.below(1000)));

const cookie = (r: Random): Uint8Array => (r.oneIn(2) ? new Uint8Array(8) : r.bytes(8));

const duration = (r: Random): number[] => [
  ...u32(r.below(100000)),
  ...u32(r.pick([0, 5_000_000, 123_000_000, 123_456_789, 1_200])),
];

/** The match of OpenFlow 1.1 or later. */
const match11 = (r: Random, minor: MinorVersion): Uint8Array =>
  minor === 1 ? encodeMatch11(anyMatch(r)) : encodeOxm(anyMatch(r), minor);

const reason = (r: Random): number => r.pick([0, 1, 2, 3, 4, 5, 9]);

/** Up to `most` of something. */
const times = <T>(r: Random, most: number, make: () => T): T[] => Array.from({ length: r.below(most + 1) }, make);

const u64 = (r: Random): number[] =>
  r.oneIn(4) ? [255, 255, 255, 255, 255, 255, 255, 255] : [0, 0, 0, 0, ...u32(r.u32())];

const text = (r: Random, size: number): Uint8Array => {
  const bytes = new Uint8Array(size);
  bytes.set(Buffer.from(r.pick(["", "Nicira, Inc.", "None", "x".repeat(31)])));
  return bytes;
};

const portDesc = (r: Random, minor: MinorVersion): Uint8Array => {
  const writer = new ByteWriter();
  const features = { current: r.below(0x10000), advertised: r.below(2), supported: r.below(0x10000), peer: 0 };
  const port = { port: r.pick([1, 300, PORT.LOCAL]), mac: r.bytes(6), name: r.pick(["p1", "eth0.100", "a b\tc"]) };
  const bits = { config: r.below(128), state: r.pick([0, 1, 4, 0x100, 0x301]) };
  putPortDesc(writer, { ...port, ...bits, ...features, currentSpeed: r.u32(), maxSpeed: r.below(9999) }, minor);
  return writer.finish();
};

const bucket = (r: Random, minor: MinorVersion): number[] => {
  const watch = [...u32(seldom(r, 0xffffffff, 1)), ...u32(seldom(r, 0xffffffff, 2))];
  const action = [...encodeActions([{ kind: "output", port: 1, maxLen: 0 }], minor)];
  if (minor > 0 && minor < 5)
    return [...u16(16 + action.length), ...u16(seldom(r, 0, 3)), ...watch, 0, 0, 0, 0, ...action];
  const weight = r.oneIn(3) ? [0, 0, 0, 8, ...u16(r.below(5)), 0, 0] : [];
  const port = r.oneIn(3) ? [0, 1, 0, 8, ...u32(1)] : [];
  const rest = [...action, ...weight, ...port];
  return [...u16(8 + rest.length), ...u16(action.length), ...u32(r.below(4)), ...rest];
};

const band = (r: Random): number[] => [
  ...[...u16(r.pick([1, 2, 1, 9])), ...u16(16), ...u32(r.below(9999)), ...u32(r.below(99)), r.below(4), 0, 0, 0],
];

const tlvMap = (r: Random): number[] => [
  ...[...u16(r.below(65536)), r.below(256), r.pick([4, 8, 124, 5]), ...u16(r.pick([0, 5, 63, 64])), 0, 0],
];

const monitorRequest = (r: Random, minor: MinorVersion): number[] => {
  const table = r.pick([0, 3, 255]);
  const bits = seldom(r, r.below(32) | 2, r.below(128));
  if (minor >= 4) {
    const head = [
      ...u32(r.below(99)),
      ...port(r, 4),
      ...u32(r.pick([0, 5, ANY_GROUP])),
      ...u16(bits),
      table,
      r.below(3),
    ];
    return [...head, ...match11(r, minor)];
  }
  if (minor === 3) {
    const match = match11(r, minor);
    return [...u32(r.below(99)), ...u16(bits), ...u16(match.length), ...port(r, 4), table, 0, 0, 0, ...match];
  }
  const { bytes, length } = encodeNxm(anyMatch(r));
  return [...u32(r.below(99)), ...u16(bits), ...port(r, 2), ...u16(length), table, 0, 0, 0, 0, 0, ...bytes];
};

const flowUpdate = (r: Random, minor: MinorVersion): number[] => {
  const event = r.pick(["initial", "added", "removed", "modified", "abbrev", "paused"] as const);
  if (event === "abbrev") return [...encodeFlowUpdate({ event, xid: r.u32() }, minor)];
  if (event === "paused") return minor < 4 ? [] : [...encodeFlowUpdate({ event }, minor)];
  const [line] = parseFlowLines(`${randomMatch(r)},actions=${r.pick(ACTIONS)}`);
  if (line?.value === undefined || line.value.flow.match.tunMetadata !== undefined) return [];
  const { match, actions } = line.value.flow;
  const head = { event, reason: r.below(7), table: r.below(4), priority: r.pick([0x8000, 0, 7]), match, actions };
  const rest = { idleTimeout: r.below(3), hardTimeout: r.below(3), cookie: BigInt(r.below(3)) };
  return [...encodeFlowUpdate({ ...head, ...rest }, minor)];
};

const ACTIONS = ["drop", "output:1,output:2", "dec_ttl,controller", "set_queue:1,normal", "resubmit(,3)"] as const;

const GROUPS = parseGroups(
  [
    "group_id=1,type=all,bucket=output:1,bucket=output:2",
    "group_id=2,type=select,bucket=weight:3,output:1,bucket=output:2",
    "group_id=3,type=ff,bucket=watch_port:1,output:1",
    "group_id=5,type=select,selection_method=hash,fields(ip_src,tcp_dst),bucket=output:1",
    "group_id=6,type=select,selection_method=dp_hash,selection_method_param=5,bucket=output:1",
  ].join("\n"),
);

const PACKETS = randomPackets(7, 60);

const packetIn = (r: Random): WirePacketIn => {
  const packet = r.pick(PACKETS);
  const [line] = parseFlowLines("in_port=3,reg1=0x5,metadata=0x99,actions=drop");
  return {
    ...{ packet, totalBytes: seldom(r, packet.length, packet.length + 9), reason: r.below(8), table: r.below(3) },
    ...(r.oneIn(2) ? { cookie: BigInt(r.below(99)) } : {}),
    ...(r.oneIn(4) ? { buffer: r.below(99) } : {}),
    ...(r.oneIn(2) ? { userdata: r.bytes(5) } : {}),
    metadata: line!.value!.flow.match,
  };
};

/** Types and rates of properties of a queue; one in ten of a type that nobody knows. */
const queueRates = (r: Random): readonly (readonly [type: number, rate: number])[] =>
  [1, 2].filter(() => r.oneIn(2)).map((type) => [seldom(r, type, 9), r.pick([0, 5, 500, 1000, 1001, 65535])]);

type Make = (r: Random, minor: MinorVersion, row: MessageRow) => readonly (Uint8Array | readonly number[])[];

/** Bodies of each kind, mostly valid. */
const BODY: Readonly<Partial<Record<MessageRow["kind"], Make>>> = {
  hello: (r) =>
    r.oneIn(3)
      ? []
      : [u16(seldom(r, 1, r.below(3))), u16(seldom(r, 8, r.below(12))), u32(r.pick([0x12, 0x7e, 0x10, 0, 0x80000001]))],
  error: (r) => [
    u16(r.pick([0, 1, 2, 3, 4, 5, 6, 11, 17, 99, 0xb0c2, 0xffff])),
    u16(r.below(12)),
    r.pick([
      [],
      [1, 0, 0, 8, 0, 0, 0, 9],
      [4, 18, 0, 8, 0, 0, 0, 9],
      u32(0x2320),
      [...u32(0x2320), ...u16(1), ...u16(260)],
    ]),
    r.oneIn(3) ? [4, 99, 0, 8, 1, 2, 3, 4] : [],
  ],
  echo: (r) => [r.bytes(r.below(40))],
  empty: () => [],
  config: (r) => [u16(seldom(r, r.below(4), r.below(16))), u16(r.below(65536))],
  features: (r, minor) => [
    ...[r.bytes(8), u32(r.below(1000)), [r.below(256), seldom(r, 0, 7), 0, 0], u32(r.below(0x900))],
    ...[u32(minor === 0 ? r.below(0x1000) : 0), ...(minor < 3 ? times(r, 3, () => portDesc(r, minor)) : [])],
  ],
  port_desc_reply: (r, minor) => times(r, 4, () => portDesc(r, minor)),
  port_status: (r, minor) => [[r.below(4), 0, 0, 0, 0, 0, 0, 0], portDesc(r, minor)],
  port_mod: (r, minor) => {
    const config = [...u32(r.below(128)), ...u32(r.below(128))];
    if (minor === 0) return [port(r, 2), r.bytes(6), config, u32(r.below(0x1000)), u32(0)];
    const head = [port(r, 4), u32(0), r.bytes(6), u16(0), config];
    if (minor < 4) return [...head, u32(r.below(0x10000)), u32(0)];
    return [...head, r.oneIn(2) ? [...u16(0), ...u16(8), ...u32(r.below(0x10000))] : []];
  },
  port_stats_reply: (r, minor) =>
    times(r, 4, () => {
      const names = [...PORT_COUNTERS, ...ETHERNET_COUNTERS].filter(() => !r.oneIn(5));
      const counters = Object.fromEntries(names.map((name) => [name, BigInt(r.u32())]));
      const time = { durationS: r.below(1e6), durationNs: r.pick([0, 5_000_000, 123_456_789]) };
      return encodePortStats({ port: r.pick([1, 9, 10, PORT.LOCAL]), counters, ...time }, minor);
    }),
  queue_stats_request: (r, minor) => [
    ...(minor === 0 ? [port(r, 2), u16(0)] : [port(r, 4)]),
    u32(r.pick([0, 5, 0xffffffff])),
  ],
  queue_config_request: (r, minor) => (minor === 0 ? [port(r, 2), u16(0)] : [port(r, 4), u32(0)]),
  queue_desc_request: (r) => [port(r, 4), u32(r.pick([0, 5, 0xffffffff]))],
  queue_stats_reply: (r, minor) =>
    times(r, 3, () => {
      const where = minor === 0 ? [...u16(r.below(9)), 0, 0] : u32(r.below(9));
      const counts = [u64(r), u64(r), u64(r)].flat();
      const time = minor >= 3 ? duration(r) : [];
      return [...(minor >= 4 ? [...u16(48), 0, 0, 0, 0, 0, 0] : []), ...where, ...u32(r.below(9)), ...counts, ...time];
    }),
  queue_config_reply: (r, minor) => [
    ...(minor === 0 ? [port(r, 2), u16(0), u32(0)] : [port(r, 4), u32(0)]),
    ...times(r, 3, () => {
      const rates = queueRates(r).map(([type, rate]) => [
        ...u16(type),
        ...u16(16),
        ...u32(0),
        ...u16(rate),
        ...u16(0),
        ...u32(0),
      ]);
      const head = minor < 2 ? 8 : 16;
      const size = u16(head + 16 * rates.length);
      return [
        ...u32(r.below(9)),
        ...(minor < 2 ? [...size, 0, 0] : [...u32(0), ...size, 0, 0, 0, 0, 0, 0]),
        ...rates.flat(),
      ];
    }),
  ],
  queue_desc_reply: (r) =>
    times(r, 3, () => {
      const rates = queueRates(r).map(([type, rate]) => [...u16(type), ...u16(6), ...u16(rate), ...u16(0)]);
      return [...port(r, 4), ...u32(r.below(9)), ...u16(16 + 8 * rates.length), 0, 0, 0, 0, 0, 0, ...rates.flat()];
    }),
  desc_reply: (r) => [...[text(r, 256), text(r, 256), text(r, 256), text(r, 32), text(r, 256)]],
  flow_reply: (r, minor, { vendor }) =>
    times(r, 4, () => {
      const [line] = parseFlowLines(`${randomMatch(r)},actions=${r.pick(ACTIONS)}`);
      if (line?.value === undefined || line.value.flow.match.tunMetadata !== undefined) return [];
      const { match, actions } = line.value.flow;
      const counts = r.oneIn(3) ? {} : { packets: BigInt(r.u32()), bytes: BigInt(r.u32()) };
      const ages = r.oneIn(2) ? {} : { idleAge: r.below(99), hardAge: r.below(99) };
      const time = { durationS: r.below(1e5), durationNs: r.pick([0, 5_000_000, 1_200]) };
      const stats = {
        match,
        actions,
        table: r.below(4),
        priority: r.pick([0x8000, 0, 7]),
        cookie: BigInt(r.below(99)),
      };
      const rest = { idleTimeout: r.below(3), hardTimeout: r.below(3), importance: r.below(3), flags: [], ...time };
      const writer = new ByteWriter();
      putFlowStats(
        writer,
        { ...stats, ...rest, ...counts, ...ages },
        minor,
        vendor === undefined ? "openflow10" : "nxm",
      );
      return writer.finish();
    }),
  aggregate_reply: (r, minor) => {
    const writer = new ByteWriter();
    putAggregate(writer, { packets: BigInt(r.u32()), bytes: BigInt(r.u32()), flows: r.below(99) }, minor);
    return [writer.finish()];
  },
  flow_removed_15: (r) => {
    const writer = new ByteWriter();
    putFlowRemoved(
      writer,
      {
        ...{
          match: anyMatch(r),
          priority: r.pick([0x8000, 4]),
          cookie: BigInt(r.below(9)),
          reason: reason(r),
          table: r.below(9),
        },
        ...{ durationS: r.below(9999), durationNs: 0, idleTimeout: r.below(9), hardTimeout: r.below(9) },
        ...{ packets: BigInt(r.u32()), bytes: BigInt(r.u32()) },
      },
      5,
      false,
    );
    return [writer.finish()];
  },
  group_mod: (r, minor) => {
    const [command, type, buckets] = [
      r.pick([0, 1, 2, 0, 0x8000, 3, 5]),
      r.below(5),
      times(r, 3, () => bucket(r, minor)),
    ];
    const head = [u16(command), [type, 0], u32(r.pick([1, 7, 0xfffffffc]))];
    if (minor > 0 && minor < 5) return [...head, ...buckets];
    const bytes = buckets.reduce((sum, { length }) => sum + length, 0);
    return [...head, u16(bytes), u16(0), u32(command === 3 ? 0xfffffffe : command === 5 ? 0 : 0xffffffff), ...buckets];
  },
  group_desc_reply: (r, minor) => times(r, 3, () => encodeGroupDesc(r.pick(GROUPS), minor)),
  group_stats_reply: (r, minor) =>
    times(r, 3, () => {
      const counts = (): { packets: bigint; bytes: bigint } => ({ packets: BigInt(r.u32()), bytes: BigInt(r.u32()) });
      const head = { group: r.below(99), references: r.below(5), durationS: r.below(99), durationNs: 0 };
      return encodeGroupStats({ ...head, ...counts(), buckets: times(r, 3, counts) }, minor);
    }),
  group_features_reply: (r) => [u32(r.below(16)), u32(r.below(16)), ...Array.from({ length: 8 }, () => u32(r.u32()))],
  meter_mod: (r) => [u16(r.below(4)), u16(r.below(16)), u32(r.pick([1, 0xfffffffd])), ...times(r, 3, () => band(r))],
  meter_request: (r) => [u32(r.pick([1, 0xffffffff, 0xfffffffe, 0xffff0001])), u32(0)],
  meter_config_reply: (r) =>
    times(r, 3, () => {
      const bands = times(r, 3, () => band(r)).flat();
      return [...u16(8 + bands.length), ...u16(r.below(16)), ...u32(r.below(99)), ...bands];
    }),
  meter_stats_reply: (r) =>
    times(r, 3, () => {
      const counts = (): { packets: bigint; bytes: bigint } => ({ packets: BigInt(r.u32()), bytes: BigInt(r.u32()) });
      const head = { meter: r.below(99), flows: r.below(5), durationS: r.below(99), durationNs: 7_000_000 };
      return encodeMeterStats({ ...head, ...counts(), bands: times(r, 3, counts) });
    }),
  meter_features_reply: (r) => [u32(r.u32()), u32(r.below(16)), u32(r.below(32)), [r.below(9), r.below(9), 0, 0]],
  table_mod: (r, minor) => {
    const head = [[r.pick([0, 7, 255]), 0, 0, 0], u32(r.pick(minor < 3 ? [0, 1, 2] : [0, 4, 8, 12]))];
    if (minor < 4) return head;
    return [...head, r.oneIn(2) ? [...u16(3), ...u16(8), r.below(60), 60 + r.below(50), seldom(r, 0, 3), 0] : []];
  },
  table_desc_reply: (r) => [
    encodeTableDesc({ table: 0, eviction: true, evictionFlags: 7 }),
    ...times(r, 3, () =>
      encodeTableDesc({
        ...{ table: r.below(254), eviction: r.oneIn(2), evictionFlags: r.pick([7, 0, 8]) },
        ...(r.oneIn(2) ? { vacancy: { down: 10, up: 90, now: 100 } } : {}),
      }),
    ),
  ],
  packet_in: (r, minor) => {
    const writer = new ByteWriter();
    putPacketIn(writer, packetIn(r), minor);
    return [writer.finish()];
  },
  packet_in_nx: (r) => {
    const writer = new ByteWriter();
    putPacketInNx(writer, packetIn(r));
    return [writer.finish()];
  },
  packet_in2: (r, minor) => {
    const writer = new ByteWriter();
    putPacketIn2(writer, packetIn(r), minor);
    return [writer.finish()];
  },
  packet_out: (r, minor) => {
    const writer = new ByteWriter();
    const inPort = r.pick([1, PORT.CONTROLLER, PORT.NONE]);
    const [line] = parseFlowLines(`in_port=${inPort === PORT.NONE ? 5 : portToText(inPort)},actions=drop`);
    const actions = encodeActions(r.oneIn(2) ? [] : [{ kind: "output", port: 2, maxLen: 0 }], minor);
    const packet = r.pick(PACKETS);
    putPacketOut(writer, { inPort, metadata: line!.value!.flow.match, packet }, actions, minor);
    return [writer.finish()];
  },
  async: (r, _, { body }) => {
    if (body[0] === 24) return Array.from({ length: 6 }, () => u32(r.below(16)));
    return times(r, 6, () => [...u16(r.below(13)), ...u16(8), ...u32(seldom(r, r.below(4), r.below(256)))]);
  },
  bundle_control: (r) => [u32(r.below(3)), u16(r.below(9)), u16(r.below(5))],
  nx_flow_format: (r) => [u32(r.below(4))],
  nx_table_id: (r) => [[r.below(2), 0, 0, 0, 0, 0, 0, 0]],
  nx_packet_in_format: (r) => [u32(r.below(4))],
  nx_controller_id: (r) => [[0, 0, 0, 0, 0, 0], u16(r.below(65536))],
  flow_monitor_cancel: (r) => [u32(r.u32())],
  flow_monitor_request: (r, minor) => times(r, 3, () => monitorRequest(r, minor)),
  flow_monitor_reply: (r, minor) => times(r, 4, () => flowUpdate(r, minor)),
  tlv_table_mod: (r) => [u16(r.below(4)), new Uint8Array(6), ...times(r, 3, () => tlvMap(r))],
  tlv_table_reply: (r) => [u32(r.below(999)), u16(64), new Uint8Array(10), ...times(r, 3, () => tlvMap(r))],
  ct_flush_zone: (r) => [new Uint8Array(6), u16(r.below(65536))],
  group_request: (r, _, { body }) => (body[0] === 0 ? [] : [u32(r.pick([1, 0xfffffffc, 0xffffffff])), u32(0)]),
  port_desc_request: (r, _, { body }) => (body[0] === 0 ? [] : [port(r, 4), u32(0)]),
  port_stats_request: (r, minor) => (minor === 0 ? [port(r, 2), [0, 0, 0, 0, 0, 0]] : [port(r, 4), u32(0)]),
  role: (r) => [u32(r.below(5)), u32(0), r.oneIn(2) ? new Uint8Array(8).fill(0xff) : r.bytes(8)],
  nx_role: (r) => [u32(r.below(4))],
  flow_mod_10: (r) => [
    ...[encodeMatch10(anyMatch(r)), cookie(r), [seldom(r, 0, r.below(9)), r.below(6)], timeouts(r)],
    ...[priority(r), bufferId(r), port(r, 2), u16(seldom(r, r.below(4), r.below(16)))],
  ],
  flow_mod_nx: (r) => {
    const { bytes, length } = encodeNxm(anyMatch(r), r.oneIn(4) ? { value: 5n, mask: 7n } : undefined);
    const head = [cookie(r), [seldom(r, 0, r.below(9)), r.below(6)], timeouts(r), priority(r), bufferId(r)];
    return [...head, port(r, 2), u16(r.below(4)), u16(length), [0, 0, 0, 0, 0, 0], bytes];
  },
  flow_mod_11: (r, minor) => [
    ...[cookie(r), cookie(r), [r.pick([0, 0, 1, 7, 255]), r.below(6)], timeouts(r), priority(r), bufferId(r)],
    ...[port(r, 4), u32(0xffffffff), u16(seldom(r, r.below(8), r.below(64))), u16(seldom(r, 0, 9))],
    match11(r, minor),
  ],
  flow_removed_10: (r) => [
    ...[encodeMatch10(anyMatch(r)), cookie(r), priority(r), [reason(r), 0], duration(r), u16(r.below(99)), [0, 0]],
    ...[[0, 0, 0, 0], u32(r.u32()), [0, 0, 0, 0], u32(r.u32())],
  ],
  flow_removed_nx: (r) => {
    const { bytes, length } = encodeNxm(anyMatch(r));
    const head = [cookie(r), priority(r), [reason(r), r.below(3)], duration(r), u16(r.below(99)), u16(length)];
    return [...head, [0, 0, 0, 0], u32(r.u32()), [0, 0, 0, 0], u32(r.u32()), bytes];
  },
  flow_removed_11: (r, minor) => [
    ...[cookie(r), priority(r), [reason(r), r.pick([0, 3, 255])], duration(r), timeouts(r)],
    ...[[0, 0, 0, 0], u32(r.u32()), [0, 0, 0, 0], u32(r.u32()), match11(r, minor)],
  ],
  flow_request_10: (r) => [encodeMatch10(anyMatch(r)), [r.pick([0, 3, 255]), 0], port(r, 2)],
  flow_request_nx: (r) => {
    const { bytes, length } = encodeNxm(anyMatch(r));
    return [port(r, 2), u16(length), [r.pick([0, 3, 255]), 0, 0, 0], bytes];
  },
  flow_request_11: (r, minor) => [
    ...[[r.pick([0, 3, 255]), 0, 0, 0], port(r, 4), u32(0xffffffff), [0, 0, 0, 0], cookie(r), cookie(r)],
    match11(r, minor),
  ],
};

const messageOf = (r: Random, row: MessageRow, version: number): Uint8Array => {
  const stats = row.stat === undefined ? [] : [...u16(row.stat), 0, 0, ...(version === 1 ? [] : [0, 0, 0, 0])];
  const vendor = row.vendor === undefined ? [] : [...u32(row.vendor), ...u32(row.subtype!)];
  const pad = row.stat === undefined || row.vendor === undefined ? [] : [0, 0, 0, 0];
  const body = BODY[row.kind]!(r, (version - 1) as MinorVersion, row).map((part) => Uint8Array.from(part));
  const rest = concatBytes(Uint8Array.from([...stats, ...vendor, ...pad]), ...body);
  return concatBytes(Uint8Array.from([version, row.type, ...u16(8 + rest.length), ...u32(r.u32())]), rest);
};

/** Every message in every version that has it. */
export const randomMessages = (r: Random, each: number): Uint8Array[] =>
  MESSAGES.filter(({ kind }) => kind in BODY).flatMap((row) =>
    [1, 2, 3, 4, 5, 6]
      .filter((version) => row.versions[0] <= version && version <= row.versions[1])
      .flatMap((version) => Array.from({ length: each }, () => messageOf(r, row, version))),
  );

/** One bit wrong, but where it says which message it is and how long. */
export const damaged = (r: Random, message: Uint8Array): Uint8Array => {
  const copy = message.slice();
  if (copy.length > 16) copy[r.between(16, copy.length - 1)]! ^= 1 << r.below(8);
  return copy;
};
