// Benches: every figure stands beside its floor and its rivals, measured in the same run.

export * from "./cases.js";
export * from "./clang.js";
export * from "./contestant.js";
export * from "./cpu-time.js";
export * from "./daemon.js";
export * from "./datapath.js";
export * from "./error.js";
export * from "./measure.js";
export * from "./megaflows.js";
export * from "./packet.js";
export * from "./report-daemon.js";
export * from "./report.js";
export * from "./statistics.js";
export * from "./table.js";
