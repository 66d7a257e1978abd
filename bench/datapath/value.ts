// Keys and values of the hand-written programs, as bytes: the layouts of bench/c/job.h and bench/c/generic.bpf.c.

import { packMac } from "libbpf-ts";

/** Redirects of test runs are not carried out; all lead to the loopback interface. */
export const LOOPBACK = 1;

/** `struct value`. */
export const VALUE = { ifindex: 16, rewrite: 20, size: 32 } as const;

export interface ValueFields {
  /** false: the packet is dropped. */
  readonly outputs?: boolean;
  readonly hop?: { readonly dst: string; readonly src: string };
  /** Address and port, network byte order. */
  readonly nat?: Uint8Array;
  /** In place of an address: a number that the program knows the meaning of. */
  readonly number?: number;
}

export const rivalValue = ({ outputs = true, hop, nat, number }: ValueFields = {}): Uint8Array => {
  const value = new Uint8Array(VALUE.size);
  const view = new DataView(value.buffer);
  view.setUint32(VALUE.ifindex, outputs ? LOOPBACK : 0, true);
  if (hop !== undefined) {
    value.set(packMac(hop.dst), VALUE.rewrite);
    value.set(packMac(hop.src), VALUE.rewrite + 6);
  }
  if (nat !== undefined) value.set(nat, VALUE.rewrite);
  if (number !== undefined) view.setUint32(VALUE.rewrite, number, true);
  return value;
};

/** A key of `size` bytes with `parts` in it, by offset. */
export const keyOf = (size: number, parts: readonly (readonly [number, Uint8Array])[]): Uint8Array => {
  const key = new Uint8Array(size);
  for (const [at, bytes] of parts) key.set(bytes, at);
  return key;
};

export const part = (packet: Uint8Array, at: number, size: number): Uint8Array => packet.subarray(at, at + size);

export const bytesOf = (words: Uint32Array | Uint16Array): Uint8Array =>
  new Uint8Array(words.buffer, words.byteOffset, words.byteLength);

/** `struct flow_key` of bench/c/generic.bpf.c. */
export const WIDE = {
  inPort: 0,
  ethDst: 4,
  ethSrc: 10,
  ethType: 16,
  nwSrc: 24,
  nwDst: 40,
  nwProto: 56,
  nwFrag: 59,
  tpSrc: 60,
  tpDst: 62,
  size: 96,
} as const;

/** `struct flow`: counters, then actions of 16 bytes. */
const FLOW = { actions: 16, size: 16 + 8 * 16 } as const;
const ACTION_OUTPUT = 1;

/** A flow of the generic program that only sends on. */
export const wideFlow = (): Uint8Array => {
  const flow = new Uint8Array(FLOW.size);
  new Uint32Array(flow.buffer, FLOW.actions, 2).set([ACTION_OUTPUT, LOOPBACK]);
  return flow;
};
