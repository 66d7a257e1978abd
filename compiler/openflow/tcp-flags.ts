// The twelve flag bits of TCP by name, RFC 793, RFC 3168 and RFC 3540, the reserved ones as OVS calls them.

/** Name of bit i at index i. */
export const TCP_FLAG_NAMES = [
  ...(["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"] as const),
  ...(["[200]", "[400]", "[800]"] as const),
] as const;

export const TCP_FLAGS_MASK = 0xfff;
