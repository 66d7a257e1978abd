// Direct mode: OpenFlow tables as code and data of one program.

export { MARKER_TYPE, STATS, UNHANDLED } from "./abi.js";
export { analyse, DirectRefusal, strictRefusal, type Analysis, type DirectRule, type DirectTable } from "./analyse.js";
export { compileDirect, type DirectOptions, type DirectProgram } from "./compile.js";
export { readCounts, type Counting, type Counts } from "./counts.js";
export { type Part } from "./parts.js";
export { directReport, formatDirectReport, type DirectReport } from "./report.js";
