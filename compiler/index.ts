// Compiles OpenFlow tables into eBPF objects. Pure: no clock, no randomness, no environment, no I/O outside cli.ts.
export {};
