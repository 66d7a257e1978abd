// Compiles OpenFlow tables into eBPF objects. Pure: no clock, no randomness, no environment, no I/O outside cli.ts.

export * from "./analysis/forecast-plan.js";
export * from "./analysis/forecast.js";
export * from "./analysis/relevance.js";
export * from "./cli.js";
export * from "./datapath/abi.js";
export * from "./datapath/compile.js";
export * from "./datapath/key.js";
export { LimitError } from "./datapath/limits.js";
export * from "./datapath/mask.js";
export * from "./datapath/offload.js";
export * from "./datapath/plan.js";
export * from "./datapath/report.js";
export * from "./datapath/table.js";
export * from "./datapath/table-memory.js";
export * from "./direct/index.js";
export * from "./emit/bpf/index.js";
export * from "./ir/index.js";
export * from "./openflow/index.js";
export * from "./packet/dp-hash.js";
export * from "./packet/execute.js";
export * from "./packet/extract.js";
export * from "./packet/header.js";
export * from "./packet/pcap.js";
export * from "./packet/segment.js";
export * from "./packet/tunnel.js";
export * from "./passes/index.js";
export * from "./pipeline/action-set.js";
export * from "./pipeline/bundle.js";
export * from "./pipeline/carriers.js";
export * from "./pipeline/classifier.js";
export * from "./pipeline/credit.js";
export * from "./pipeline/dp-action.js";
export * from "./pipeline/flow-mod.js";
export * from "./pipeline/frozen.js";
export * from "./pipeline/group-mod.js";
export * from "./pipeline/group-table.js";
export * from "./pipeline/learned-flows.js";
export * from "./pipeline/mac-learning.js";
export * from "./pipeline/megaflow-cache.js";
export * from "./pipeline/meter-mod.js";
export * from "./pipeline/meter-table.js";
export * from "./pipeline/odp-text.js";
export * from "./pipeline/ovs-hash.js";
export * from "./pipeline/ports.js";
export * from "./pipeline/rule-events.js";
export * from "./pipeline/runner.js";
export * from "./pipeline/switch.js";
export * from "./pipeline/table-mod.js";
export * from "./pipeline/table.js";
export * from "./pipeline/trace.js";
export * from "./pipeline/tunnel/config.js";
export * from "./pipeline/tunnel/ports.js";
export * from "./pipeline/tunnel/receive.js";
export * from "./pipeline/translate.js";
export * from "./replay/datapath-engine.js";
export * from "./replay/direct-engine.js";
export * from "./replay/engine.js";
export * from "./replay/reference-engine.js";
export * from "./replay/vm-backend.js";
export * from "./targets/check-nic.js";
export * from "./targets/index.js";
export {
  completeChecksum,
  crc32c,
  foldSum,
  pseudoHeaderChecksumAt,
  pseudoHeaderSum,
  sumWords,
  updateChecksum,
} from "./packet/checksum.js";
export { ETH_TYPE, HEADERS, IP_PROTO, MAX_VLANS, ND, NW_FRAG, VLAN_CFI, type HeaderName } from "./packet/headers.js";
export { MAX_EXT_HEADERS } from "./datapath/parse-l3.js";
export { MAX_ND_OPTIONS } from "./datapath/parse-l4.js";
export { processIo, runCommand, type Io } from "./cli/io.js";
