// Builds any packet from a description: lengths and checksums come out right unless the description overrides them.
// Layouts come from the header tables of the compiler; checksums are computed here, apart from the product's code.

import { type Header, HEADERS, type HeaderName, IP_PROTO, writeHeaderField } from "#compiler";
import { concatBytes, RangeViolation } from "ebpf-assembler";

/** Bytes, or text of a MAC, IPv4 or IPv6 address. */
export type Address = string | Uint8Array;

export type L4Spec =
  | {
      readonly kind: "tcp";
      readonly src: number;
      readonly dst: number;
      readonly flags?: number;
      readonly options?: Uint8Array;
      readonly payload?: Uint8Array;
    }
  | {
      readonly kind: "udp";
      readonly src: number;
      readonly dst: number;
      readonly payload?: Uint8Array;
      /** Send without a checksum: the field is 0. */
      readonly unchecked?: boolean;
    }
  | { readonly kind: "sctp"; readonly src: number; readonly dst: number; readonly payload?: Uint8Array }
  | {
      readonly kind: "icmp" | "igmp" | "icmpv6";
      readonly type: number;
      readonly code: number;
      readonly rest?: number;
      readonly payload?: Uint8Array;
    }
  | {
      readonly kind: "nd";
      readonly type: number;
      readonly reserved?: number;
      readonly target: Address;
      readonly options?: readonly (Uint8Array | { readonly type: number; readonly mac: Address })[];
    }
  | { readonly kind: "raw"; readonly proto: number; readonly payload: Uint8Array };

/** One IPv6 extension header; `data` follows its first eight bytes and is filled up with zeros. */
export type ExtSpec =
  | { readonly kind: "hopopts" | "dstopts"; readonly data?: Uint8Array }
  | { readonly kind: "routing"; readonly segmentsLeft: number; readonly data?: Uint8Array }
  | { readonly kind: "ah"; readonly data?: Uint8Array }
  | { readonly kind: "fragment"; readonly offset: number; readonly more: boolean; readonly reserved2?: number };

export type L3Spec =
  | {
      readonly kind: "ipv4";
      readonly src: Address;
      readonly dst: Address;
      readonly tos?: number;
      readonly ttl?: number;
      readonly options?: Uint8Array;
      readonly dontFragment?: boolean;
      /** Offset in units of 8 bytes. */
      readonly fragment?: { readonly offset: number; readonly more: boolean };
      readonly l4: L4Spec;
    }
  | {
      readonly kind: "ipv6";
      readonly src: Address;
      readonly dst: Address;
      readonly trafficClass?: number;
      readonly flowLabel?: number;
      readonly hopLimit?: number;
      readonly ext?: readonly ExtSpec[];
      readonly l4: L4Spec;
    }
  | {
      readonly kind: "arp" | "rarp";
      readonly op: number;
      readonly sha: Address;
      readonly spa: Address;
      readonly tha: Address;
      readonly tpa: Address;
    }
  | { readonly kind: "raw"; readonly type: number; readonly payload: Uint8Array };

export interface PacketSpec {
  readonly dst: Address;
  readonly src: Address;
  /** Outermost first. */
  readonly vlans?: readonly { readonly tpid?: number; readonly tci: number }[];
  /** Send as 802.3 frame with LLC/SNAP. */
  readonly snap?: boolean;
  readonly l3: L3Spec;
  /** Fill the frame up to this size with `padding` (0). */
  readonly minSize?: number;
  readonly padding?: number;
  /** Header fields to set against the rules, after lengths and before checksums. */
  readonly override?: Partial<Record<HeaderName, Readonly<Record<string, number>>>>;
}

const EXT_PROTO = {
  hopopts: IP_PROTO.HOPOPTS,
  dstopts: IP_PROTO.DSTOPTS,
  routing: IP_PROTO.ROUTING,
  ah: IP_PROTO.AH,
  fragment: IP_PROTO.FRAGMENT,
} as const;

const L4_PROTO = {
  tcp: IP_PROTO.TCP,
  udp: IP_PROTO.UDP,
  sctp: IP_PROTO.SCTP,
  icmp: IP_PROTO.ICMP,
  igmp: IP_PROTO.IGMP,
  icmpv6: IP_PROTO.ICMPV6,
  nd: IP_PROTO.ICMPV6,
} as const;

const NONE = new Uint8Array(0);

/** The bytes of an address in text: MAC with colons, IPv4 with dots, else IPv6 with at most one `::`. */
export const addressBytes = (address: Address): Uint8Array => {
  if (typeof address !== "string") return address;
  if (/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(address))
    return Uint8Array.from(address.split(":").map((x) => parseInt(x, 16)));
  if (address.includes(".")) return Uint8Array.from(address.split(".").map(Number));
  const [head = "", tail] = address.split("::");
  const groups = (text: string): number[] => (text === "" ? [] : text.split(":").map((x) => parseInt(x, 16)));
  const left = groups(head);
  const right = groups(tail ?? "");
  const middle = new Array<number>(8 - left.length - right.length).fill(0);
  return Uint8Array.from([...left, ...middle, ...right].flatMap((x) => [x >> 8, x & 0xff]));
};

/** The fixed part of a header; fields that are not named are 0. */
export const makeHeader = (h: Header, values: Readonly<Record<string, number | Uint8Array>>): Uint8Array => {
  const bytes = new Uint8Array(h.minBytes);
  for (const [name, value] of Object.entries(values)) {
    const field = (h.fields as Readonly<Record<string, Header["fields"][string]>>)[name];
    if (field === undefined) throw new RangeViolation(`Header ${h.name} has no field ${name}`);
    if (typeof value === "number") writeHeaderField(bytes, 0, field, value);
    else bytes.set(value, field.byteOffset);
  }
  return bytes;
};

/** Internet checksum (RFC 1071) of some runs of bytes, each but the last of even size. */
export const internetChecksum = (...runs: readonly Uint8Array[]): number => {
  let sum = 0;
  for (const run of runs) run.forEach((byte, i) => (sum += i % 2 === 0 ? byte * 256 : byte));
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536);
  return ~sum & 0xffff;
};

/** CRC32c (RFC 9260 appendix A), bit by bit. */
export const crc32cOf = (bytes: Uint8Array): number => {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
};

/** Pseudo-header of TCP, UDP and ICMPv6. */
export const pseudoHeader = (src: Uint8Array, dst: Uint8Array, proto: number, size: number): Uint8Array =>
  src.length === 4
    ? concatBytes(src, dst, Uint8Array.of(0, proto, size >> 8, size & 0xff))
    : concatBytes(src, dst, Uint8Array.of(0, 0, size >> 8, size & 0xff, 0, 0, 0, proto));

type Fields = Readonly<Record<string, number>>;

/** A header with the overrides of its name applied. */
const make = (
  name: HeaderName,
  values: Readonly<Record<string, number | Uint8Array>>,
  spec: Pick<PacketSpec, "override">,
): Uint8Array => makeHeader(HEADERS[name], { ...values, ...(spec.override?.[name] as Fields | undefined) });

const store16 = (bytes: Uint8Array, at: number, value: number): void => {
  bytes[at] = value >> 8;
  bytes[at + 1] = value & 0xff;
};

const ndOptions = (options: NonNullable<Extract<L4Spec, { kind: "nd" }>["options"]>): Uint8Array =>
  concatBytes(
    ...options.map((o) =>
      o instanceof Uint8Array ? o : makeHeader(HEADERS.ndOption, { type: o.type, length: 1, mac: addressBytes(o.mac) }),
    ),
  );

/** An L4 segment; its checksum field is still 0. */
const segment = (l4: L4Spec, spec: PacketSpec): Uint8Array => {
  switch (l4.kind) {
    case "raw":
      return l4.payload.slice();
    case "tcp": {
      const options = l4.options ?? NONE;
      const values = { src: l4.src, dst: l4.dst, flags: l4.flags ?? 0x10, dataOffset: 5 + options.length / 4 };
      return concatBytes(make("tcp", { ...values, window: 1000 }, spec), options, l4.payload ?? NONE);
    }
    case "udp": {
      const payload = l4.payload ?? NONE;
      return concatBytes(make("udp", { src: l4.src, dst: l4.dst, length: 8 + payload.length }, spec), payload);
    }
    case "sctp":
      return concatBytes(make("sctp", { src: l4.src, dst: l4.dst, tag: 0xdecafbad }, spec), l4.payload ?? NONE);
    case "igmp":
      return concatBytes(make("igmp", { type: l4.type, code: l4.code, group: l4.rest ?? 0 }, spec), l4.payload ?? NONE);
    case "icmp":
    case "icmpv6":
      return concatBytes(make(l4.kind, { type: l4.type, code: l4.code, rest: l4.rest ?? 0 }, spec), l4.payload ?? NONE);
    case "nd":
      return concatBytes(
        make("nd", { type: l4.type, reserved: l4.reserved ?? 0, target: addressBytes(l4.target) }, spec),
        ndOptions(l4.options ?? []),
      );
  }
};

/** Fills in the checksum of a whole segment. */
const seal = (bytes: Uint8Array, l4: L4Spec, proto: number, src: Uint8Array, dst: Uint8Array): Uint8Array => {
  const pseudo = pseudoHeader(src, dst, proto, bytes.length);
  switch (l4.kind) {
    case "raw":
      break;
    case "tcp":
      store16(bytes, 16, internetChecksum(pseudo, bytes));
      break;
    case "udp":
      if (l4.unchecked !== true) store16(bytes, 6, internetChecksum(pseudo, bytes) || 0xffff);
      break;
    case "sctp": {
      const crc = crc32cOf(bytes);
      bytes.set([crc & 0xff, (crc >>> 8) & 0xff, (crc >>> 16) & 0xff, crc >>> 24], 8);
      break;
    }
    case "icmp":
    case "igmp":
      store16(bytes, 2, internetChecksum(bytes));
      break;
    case "icmpv6":
    case "nd":
      store16(bytes, 2, internetChecksum(pseudo, bytes));
      break;
  }
  return bytes;
};

const pad = (bytes: Uint8Array, unit: number): Uint8Array => {
  const out = new Uint8Array(Math.ceil(bytes.length / unit) * unit);
  out.set(bytes);
  return out;
};

const extension = (ext: ExtSpec, nextHeader: number, spec: PacketSpec): Uint8Array => {
  switch (ext.kind) {
    case "fragment":
      return make(
        "ipv6Frag",
        {
          nextHeader,
          fragOffset: ext.offset,
          moreFragments: ext.more ? 1 : 0,
          reserved2: ext.reserved2 ?? 0,
          id: 0x1234,
        },
        spec,
      );
    case "ah": {
      const body = pad(ext.data ?? new Uint8Array(4), 4);
      return concatBytes(make("ah", { nextHeader, length: body.length / 4, spi: 7 }, spec), body);
    }
    case "routing":
    case "hopopts":
    case "dstopts": {
      const rest = pad(ext.data ?? NONE, 8);
      const values = { nextHeader, length: rest.length / 8 };
      return concatBytes(
        make("ipv6Ext", ext.kind === "routing" ? { ...values, segmentsLeft: ext.segmentsLeft } : values, spec),
        rest,
      );
    }
  }
};

const buildIpv4 = (l3: Extract<L3Spec, { kind: "ipv4" }>, spec: PacketSpec): Uint8Array => {
  const src = addressBytes(l3.src);
  const dst = addressBytes(l3.dst);
  const proto = l3.l4.kind === "raw" ? l3.l4.proto : L4_PROTO[l3.l4.kind];
  const body = seal(segment(l3.l4, spec), l3.l4, proto, src, dst);
  const options = l3.options ?? NONE;
  const tos = l3.tos ?? 0;
  const values = {
    version: 4,
    ihl: 5 + options.length / 4,
    dscp: tos >> 2,
    ecn: tos & 3,
    totalLength: 20 + options.length + body.length,
    id: 0x4242,
    dontFragment: l3.dontFragment === true ? 1 : 0,
    moreFragments: l3.fragment?.more === true ? 1 : 0,
    fragOffset: l3.fragment?.offset ?? 0,
    ttl: l3.ttl ?? 64,
    proto,
    src,
    dst,
  };
  const head = concatBytes(make("ipv4", values, spec), options);
  store16(head, 10, internetChecksum(head));
  return concatBytes(head, body);
};

const buildIpv6 = (l3: Extract<L3Spec, { kind: "ipv6" }>, spec: PacketSpec): Uint8Array => {
  const src = addressBytes(l3.src);
  const dst = addressBytes(l3.dst);
  const proto = l3.l4.kind === "raw" ? l3.l4.proto : L4_PROTO[l3.l4.kind];
  let body = seal(segment(l3.l4, spec), l3.l4, proto, src, dst);
  let next: number = proto;
  for (const ext of [...(l3.ext ?? [])].reverse()) {
    body = concatBytes(extension(ext, next, spec), body);
    next = EXT_PROTO[ext.kind];
  }
  const values = {
    version: 6,
    trafficClass: l3.trafficClass ?? 0,
    flowLabel: l3.flowLabel ?? 0,
    payloadLength: body.length,
    nextHeader: next,
    hopLimit: l3.hopLimit ?? 64,
    src,
    dst,
  };
  return concatBytes(make("ipv6", values, spec), body);
};

const buildL3 = (l3: L3Spec, spec: PacketSpec): { type: number; bytes: Uint8Array } => {
  switch (l3.kind) {
    case "raw":
      return { type: l3.type, bytes: l3.payload };
    case "ipv4":
      return { type: 0x0800, bytes: buildIpv4(l3, spec) };
    case "ipv6":
      return { type: 0x86dd, bytes: buildIpv6(l3, spec) };
    case "arp":
    case "rarp": {
      const addresses = {
        sha: addressBytes(l3.sha),
        spa: addressBytes(l3.spa),
        tha: addressBytes(l3.tha),
        tpa: addressBytes(l3.tpa),
      };
      const values = { hardware: 1, protocol: 0x0800, hardwareSize: 6, protocolSize: 4, op: l3.op, ...addresses };
      return { type: l3.kind === "arp" ? 0x0806 : 0x8035, bytes: make("arp", values, spec) };
    }
  }
};

/** The frame that `spec` describes. */
export const buildPacket = (spec: PacketSpec): Uint8Array => {
  const { type, bytes } = buildL3(spec.l3, spec);
  const vlans = spec.vlans ?? [];
  let body = bytes;
  let outer = type;
  if (spec.snap === true) {
    body = concatBytes(make("llcSnap", { dsap: 0xaa, ssap: 0xaa, control: 3, org: 0, type }, spec), bytes);
    outer = body.length;
  }
  for (const { tpid, tci } of [...vlans].reverse()) {
    body = concatBytes(Uint8Array.of(tci >> 8, tci & 0xff, outer >> 8, outer & 0xff), body);
    outer = tpid ?? 0x8100;
  }
  const head = make("ethernet", { dst: addressBytes(spec.dst), src: addressBytes(spec.src), type: outer }, spec);
  const frame = concatBytes(head, body);
  const missing = (spec.minSize ?? 0) - frame.length;
  return missing > 0 ? concatBytes(frame, new Uint8Array(missing).fill(spec.padding ?? 0)) : frame;
};
