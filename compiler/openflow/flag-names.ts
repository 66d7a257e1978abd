// Sets of flags by name: TCP (RFC 793, RFC 3168, RFC 3540, the reserved ones as OVS calls them), state of connections,
// tunnel headers.

export interface FlagNames {
  /** What they are flags of, for messages. */
  readonly of: string;
  /** Name of bit i at index i. */
  readonly names: readonly string[];
  /** Bits that text may name. */
  readonly allowed: number;
}

export const TCP_FLAGS = {
  of: "TCP",
  names: [
    ...(["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"] as const),
    ...(["[200]", "[400]", "[800]"] as const),
  ],
  allowed: 0xfff,
} as const satisfies FlagNames;

export const CT_STATE_FLAGS = {
  of: "ct_state",
  names: ["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"],
  allowed: 0xff,
} as const satisfies FlagNames;

export const TUN_FLAGS = { of: "tunnel", names: ["oam"], allowed: 0x1 } as const satisfies FlagNames;
