// ofxdpd: upcalls, slow path, megaflow cache, ports.

export * from "./channel/codec.js";
export * from "./channel/messages.js";
export * from "./channel/reader.js";
export * from "./control/json-stream.js";
export * from "./control/unixctl.js";
export * from "./megaflow/reasons.js";
export * from "./metrics/histogram.js";
export * from "./bridge.js";
export * from "./clock.js";
export * from "./datapath/datapath.js";
export * from "./datapath/store.js";
export * from "./log.js";
export * from "./megaflow/actions.js";
export * from "./megaflow/cache.js";
export * from "./megaflow/members.js";
export * from "./megaflow/revalidator.js";
export * from "./megaflow/specialiser.js";
export * from "./megaflow/ukey.js";
export * from "./ports/attach.js";
export * from "./ports/offloads.js";
export * from "./ports/peer-netns.js";
export * from "./ports/port-spec.js";
export * from "./ports/port-table.js";
export * from "./replay/kernel-lab.js";
export * from "./slow-path.js";
