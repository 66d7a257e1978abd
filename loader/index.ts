// libbpf-ts: puts eBPF objects into the running kernel.

export {};
