// ofxdpd: upcalls, slow path, megaflow cache, ports.

export * from "./channel/codec.js";
export * from "./channel/messages.js";
export * from "./channel/reader.js";
export * from "./control/json-stream.js";
export * from "./control/unixctl.js";
export * from "./megaflow/reasons.js";
export * from "./metrics/histogram.js";
