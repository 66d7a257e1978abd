// Benches: every figure stands beside its floor and its rivals, measured in the same run.

export * from "./clang.js";
export * from "./daemon/cpu-time.js";
export * from "./daemon/upcalls.js";
export * from "./datapath/case.js";
export * from "./datapath/cases.js";
export * from "./datapath/measure.js";
export * from "./datapath/ours.js";
export * from "./datapath/packet.js";
export * from "./datapath/ports.js";
export * from "./datapath/rival.js";
export * from "./datapath/run.js";
export * from "./datapath/slots.js";
export * from "./error.js";
export * from "./row.js";
export * from "./statistics.js";
export * from "./table.js";
export * from "./tables/acl.js";
export * from "./tables/routes.js";
