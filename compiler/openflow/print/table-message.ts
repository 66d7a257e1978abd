// Messages about flows, groups, meters and tables in OVS's text: statistics and descriptions.

import { METER } from "../parse/meters.js";
import { PROTOCOLS } from "../versions.js";
import { decodeAggregate, decodeFlowStats, type WireFlowStats } from "../wire/flow-stats.js";
import {
  decodeGroupDescs,
  decodeGroupFeatures,
  decodeGroupMod,
  decodeGroupStats,
  type WireGroupStats,
} from "../wire/group-message.js";
import { minorOf, type Message } from "../wire/message.js";
import {
  decodeMeterConfigs,
  decodeMeterFeatures,
  decodeMeterMod,
  decodeMeterRequest,
  decodeMeterStats,
  type WireMeter,
} from "../wire/meter-message.js";
import { decodeTableDescs, decodeTableMod, type WireTableDesc } from "../wire/switch-message.js";
import { formatActions } from "./actions.js";
import { actionBitNames } from "./action-bits.js";
import { formatArrivedGroup, formatArrivedGroupMod } from "./group.js";
import { formatMatch } from "./match.js";
import { METER_FLAGS } from "../parse/meters.js";
import { alternateHex, bitNames, durationText } from "./words.js";

const flowText = (flow: WireFlowStats): string => {
  const { cookie, durationS, durationNs, table, packets, bytes, idleTimeout, hardTimeout } = flow;
  const { flags, importance, idleAge, hardAge, match, priority, actions } = flow;
  const matchText = formatMatch(match, { priority });
  return [
    `cookie=0x${cookie.toString(16)}, duration=${durationText(durationS, durationNs)}, table=${table}, `,
    `n_packets=${packets ?? "?"}, n_bytes=${bytes ?? "?"}, `,
    ...(idleTimeout === 0 ? [] : [`idle_timeout=${idleTimeout}, `]),
    ...(hardTimeout === 0 ? [] : [`hard_timeout=${hardTimeout}, `]),
    ...flags.map((flag) => `${flag} `),
    ...(importance === 0 ? [] : [`importance=${importance}, `]),
    ...(idleAge === undefined ? [] : [`idle_age=${idleAge}, `]),
    ...(hardAge === undefined || hardAge === durationS ? [] : [`hard_age=${hardAge}, `]),
    ...(matchText === "" ? [] : [`${matchText} `]),
    `actions=${formatActions(actions)}`,
  ].join("");
};

export function* flowStatsText(message: Message): Generator<string> {
  for (const flow of decodeFlowStats(message)) yield `\n ${flowText(flow)}`;
}

export const aggregateText = (message: Message): string => {
  const { packets, bytes, flows } = decodeAggregate(message);
  return ` packet_count=${packets} byte_count=${bytes} flow_count=${flows}`;
};

const protocolOf = (message: Message) => (minorOf(message) === 0 ? "NXM+table_id" : PROTOCOLS[3 + minorOf(message)]!);

export const groupModText = (message: Message): string => {
  const mod = decodeGroupMod(message);
  return `\n ${mod.command === "add" ? "ADD " : ""}${formatArrivedGroupMod(mod, protocolOf(message))}`;
};

export function* groupDescText(message: Message): Generator<string> {
  for (const group of decodeGroupDescs(message)) yield `\n ${formatArrivedGroup(group, protocolOf(message))}`;
}

const groupStatsRow = (stats: WireGroupStats): string => {
  const { group, references, packets, bytes, durationS, durationNs = 0, buckets } = stats;
  const isTimed = durationS !== undefined && durationS !== 0xffffffff;
  const counted = buckets.map((bucket, i) =>
    bucket.packets === 0xffffffffffffffffn
      ? ""
      : `,bucket${i}:packet_count=${bucket.packets},byte_count=${bucket.bytes}`,
  );
  const time = isTimed ? `duration=${durationText(durationS, durationNs)},` : "";
  const head = `group_id=${group},${time}ref_count=${references},packet_count=${packets},byte_count=${bytes}`;
  return `\n ${head}${counted.join("")}`;
};

export function* groupStatsText(message: Message): Generator<string> {
  try {
    for (const stats of decodeGroupStats(message)) yield groupStatsRow(stats);
  } catch (error) {
    yield " ***parse error***";
    throw error;
  }
}

const GROUP_NAMES = ["all", "select", "indirect", "fast failover"] as const;

export const groupFeaturesText = (message: Message): string => {
  const { types, capabilities, maxGroups, actions } = decodeGroupFeatures(message);
  const minor = minorOf(message);
  const rows = GROUP_NAMES.map((name, i) => {
    if ((types & (1 << i)) === 0) return "";
    const max = `       max_groups=${alternateHex(maxGroups[i]!)}\n`;
    return `    ${name} group:\n${max}       actions: ${actionBitNames(actions[i]!, minor)}\n`;
  });
  const head = `    Types:  0x${types.toString(16)}\n    Capabilities:  0x${capabilities.toString(16)}\n`;
  return `\n Group table:\n${head}${rows.join("")}`;
};

const METER_NAMES: ReadonlyMap<number, string> = new Map([
  [METER.SLOWPATH, "slowpath"],
  [METER.CONTROLLER, "controller"],
  [METER.ALL, "all"],
]);

const meterId = (id: number): string => (id <= METER.MAX ? String(id) : (METER_NAMES.get(id) ?? "unknown"));

const meterText = ({ id, flags, bands, otherFlags }: WireMeter): string => {
  const words = METER_FLAGS.filter((flag) => flags.includes(flag)).map((flag) => `${flag} `);
  const rows = bands.map(({ type, rate, burstSize, precLevel }) => {
    const burst = flags.includes("burst") ? ` burst_size=${burstSize}` : "";
    return `\ntype=${type} rate=${rate}${burst}${type === "dscp_remark" ? ` prec_level=${precLevel}` : ""}`;
  });
  const others = otherFlags === 0 ? "" : `flags:0x${otherFlags.toString(16)} `;
  return `meter=${meterId(id)} ${words.join("")}${others}bands=${rows.join("")}\n`;
};

const METER_COMMANDS = { add: "ADD", modify: "MOD", delete: "DEL" } as const;

export const meterModText = (message: Message): string => {
  const { command, meter } = decodeMeterMod(message);
  return ` ${METER_COMMANDS[command]} ${meterText(meter)}`;
};

export const meterRequestText = (message: Message): string => ` meter=${meterId(decodeMeterRequest(message))}`;

export function* meterConfigText(message: Message): Generator<string> {
  for (const meter of decodeMeterConfigs(message)) yield `\n${meterText(meter)}`;
}

export function* meterStatsText(message: Message): Generator<string> {
  for (const { meter, flows, packets, bytes, durationS, durationNs, bands } of decodeMeterStats(message)) {
    const rows = bands.map((band, i) => `${i}: packet_count:${band.packets} byte_count:${band.bytes}\n`);
    yield (
      `\nmeter:${meterId(meter)} flow_count:${flows} packet_in_count:${packets} byte_in_count:${bytes} ` +
      `duration:${durationText(durationS, durationNs)} bands:\n${rows.join("")}`
    );
  }
}

const BAND_NAMES: ReadonlyMap<number, string> = new Map([
  [2, "drop"],
  [4, "dscp_remark"],
]);
const METER_BITS: ReadonlyMap<number, string> = new Map(METER_FLAGS.map((flag, i) => [1 << i, flag]));

export const meterFeaturesText = (message: Message): string => {
  const { maxMeters, maxBands, maxColor, bandTypes, capabilities } = decodeMeterFeatures(message);
  return [
    `\nmax_meter:${maxMeters} max_bands:${maxBands} max_color:${maxColor}`,
    `band_types: ${bitNames(bandTypes, BAND_NAMES)}`,
    `capabilities: ${bitNames(capabilities, METER_BITS)}\n`,
  ].join("\n");
};

const EVICTION_NAMES: ReadonlyMap<number, string> = new Map([
  [1, "OTHER"],
  [2, "IMPORTANCE"],
  [4, "LIFETIME"],
]);

const evictionText = (flags: number): string =>
  flags === 0xffffffff ? "(default)" : bitNames(flags, EVICTION_NAMES, "|");

const onOff = (isOn: boolean): string => (isOn ? "on" : "off");

export const tableModText = (message: Message): string => {
  const { table, miss, eviction, evictionFlags, vacancy } = decodeTableMod(message);
  return [
    table === 0xff ? " table_id: ALL_TABLES" : ` table_id=${table}`,
    ...(miss === "default" ? [] : [`, flow_miss_config=${miss}`]),
    ...(eviction === undefined ? [] : [`, eviction=${onOff(eviction)}`]),
    ...(evictionFlags === undefined || evictionFlags === 0xffffffff
      ? []
      : [`eviction_flags=${evictionText(evictionFlags)}`]),
    ...(vacancy === undefined ? [] : [`, vacancy=${onOff(vacancy !== "off")}`]),
    ...(vacancy === undefined || vacancy === "off" ? [] : [` vacancy:${vacancy.down},${vacancy.up}`]),
  ].join("");
};

const tableDescRow = ({ table, eviction, evictionFlags, vacancy }: WireTableDesc): string => {
  const shown =
    vacancy === undefined ? "" : ` vacancy_down=${vacancy.down}% vacancy_up=${vacancy.up}% vacancy=${vacancy.now}%`;
  return (
    `\n  table ${table}:\n   eviction=${onOff(eviction)} eviction_flags=${evictionText(evictionFlags)}\n` +
    `   vacancy=${onOff(vacancy !== undefined)}${shown}\n`
  );
};

export function* tableDescText(message: Message): Generator<string> {
  for (const desc of decodeTableDescs(message)) yield tableDescRow(desc);
}
