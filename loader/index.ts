// libbpf-ts: puts eBPF objects into the running kernel.

export * from "./attach/clsact.js";
export * from "./attach/link.js";
export * from "./attach/query.js";
export * from "./attach/tc.js";
export * from "./features.js";
export * from "./net/address.js";
export * from "./net/ethtool.js";
export * from "./net/interface.js";
export * from "./net/netdev.js";
export * from "./net/netlink.js";
export * from "./net/netns.js";
export * from "./net/packet-receiver.js";
export * from "./net/packet-sender.js";
export * from "./net/rtnl.js";
export * from "./objects/batch.js";
export * from "./objects/context.js";
export * from "./objects/map.js";
export * from "./objects/object.js";
export * from "./objects/pins.js";
export * from "./objects/program.js";
export * from "./objects/ring-buffer.js";
export * from "./objects/verifier.js";
export * from "./sys/cpus.js";
export * from "./sys/errors.js";
export * from "./sys/fault.js";
export * from "./sys/linux.js";
export type { Memory, Sys, SyscallName } from "./sys/sys.js";
