// Contexts for test runs: what a program would see as its packet's device and metadata.

/** `struct xdp_md` for a packet of `size` bytes that arrives on `ingressIfindex` (0: none). */
export const xdpContext = (size: number, ingressIfindex = 0, rxQueue = 0, metaSize = 0): Uint8Array => {
  const words = new Uint32Array(6);
  words[0] = metaSize;
  words[1] = size;
  words[3] = ingressIfindex;
  words[4] = rxQueue;
  return new Uint8Array(words.buffer);
};

/** Byte offsets in `struct __sk_buff` of the fields that a test run may set (net/bpf/test_run.c). */
const SKB = {
  mark: 8,
  priority: 32,
  ingressIfindex: 36,
  ifindex: 40,
  wireLength: 160,
  gsoSegments: 164,
  gsoSize: 176,
} as const;
const SKB_SIZE = 192;

/** Fields of {@link skbContext}; all default to 0. */
export type SkbFields = { readonly [F in keyof typeof SKB]?: number };

/** `struct __sk_buff` for a test run of a sched_cls program. */
export const skbContext = (fields: SkbFields): Uint8Array => {
  const view = new DataView(new ArrayBuffer(SKB_SIZE));
  for (const name of Object.keys(SKB) as (keyof typeof SKB)[]) view.setUint32(SKB[name], fields[name] ?? 0, true);
  return new Uint8Array(view.buffer);
};
