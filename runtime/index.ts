// ofxdpd: upcalls, slow path, megaflow cache, ports.

export * from "./channel/codec.js";
export * from "./channel/messages.js";
export * from "./channel/reader.js";
