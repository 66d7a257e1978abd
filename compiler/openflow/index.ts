// The OpenFlow language: fields, matches, actions, groups, their text both ways.

export * from "./carry.js";
export * from "./field-access.js";
export * from "./fields.js";
export * from "./fields/tun-metadata.js";
export * from "./flow.js";
export * from "./normalize.js";
export { parseBundle, parseBundleLines, type BundleMod, type PacketOut } from "./parse/bundle.js";
export {
  parseFlow,
  parseFlowLines,
  parseFlowMods,
  parseFlows,
  parseMatch,
  type FlowCommand,
  type FlowMod,
  type ParseOptions,
} from "./parse/flows.js";
export {
  ALL_GROUPS,
  parseGroup,
  parseGroupLines,
  parseGroupMods,
  parseGroups,
  type BucketPlace,
  type GroupCommand,
  type GroupMod,
} from "./parse/groups.js";
export {
  MAX_BANDS,
  METER,
  parseMeterLines,
  parseMeterMod,
  parseMeterMods,
  type MeterCommand,
  type MeterMod,
} from "./parse/meters.js";
export { type LineResult } from "./parse/lines.js";
export * from "./ports.js";
export * from "./print/actions.js";
export * from "./print/flow.js";
export * from "./print/group.js";
export * from "./print/match.js";
export { formatMessage, type MessageFormat } from "./print/message.js";
export { hexDump } from "./print/words.js";
export * from "./print/meter.js";
export { formatFlowWords, formatPacket } from "./print/packet.js";
export { ipv4Text, ipv6Text, macText } from "./print/values.js";
export * from "./types.js";
export * from "./versions.js";
export * from "./wire/bytes.js";
export * from "./wire/check-actions.js";
export * from "./wire/connection-message.js";
export * from "./wire/continuation.js";
export * from "./wire/decode-actions.js";
export * from "./wire/decode-match.js";
export * from "./wire/encode-actions.js";
export * from "./wire/encode-match.js";
export * from "./wire/errors.js";
export * from "./wire/field-header.js";
export * from "./wire/fixed-match.js";
export * from "./wire/flow-message.js";
export * from "./wire/flow-monitor.js";
export * from "./wire/flow-stats.js";
export * from "./wire/group-message.js";
export * from "./wire/match-text.js";
export * from "./wire/message.js";
export * from "./wire/messages.js";
export * from "./wire/meter-message.js";
export * from "./wire/oxs.js";
export * from "./wire/packet-message.js";
export * from "./wire/tlv-message.js";
export * from "./wire/port-message.js";
export * from "./wire/port-number.js";
export * from "./wire/switch-message.js";
export * from "./wire/table-features.js";
