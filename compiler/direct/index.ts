// Direct mode: OpenFlow tables as code and data of one program.

export { directProgramOf, FALLBACK_SLOT, MARKER_TYPE, PORT_STATS, STATS, UNHANDLED } from "./abi.js";
export { analyse, DirectRefusal, strictRefusal, type Analysis, type DirectRule, type DirectTable } from "./analyse.js";
export { compileDirect, type Behind, type DirectOptions, type DirectProgram } from "./compile.js";
export { CountReader, creditCounts, ledgerOf, readCounts, type Counting, type Counts, type Ledger } from "./counts.js";
export { type Part } from "./parts.js";
export { lower, type Lowered } from "./ops.js";
export { changeInPlace, type LiveRecords } from "./records.js";
export { directReport, formatDirectReport, sendsAny, type DirectReport } from "./report.js";
export { plainTables, tablesOf, type PlainRule, type SwitchTables, type Tables } from "./tables.js";
