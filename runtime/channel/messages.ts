// The messages between datapath and slow path: `nlmsghdr`, `genlmsghdr`, `ovs_header`, attributes, with the numbers of
// Linux's uapi openvswitch.h, whatever carries them. The datapath writes upcalls with constant offsets (UPCALL of the
// compiler's abi); read here as attributes they need not lie there.

import { CodecError } from "ebpf-assembler";
import { ATTR_GSO, ATTR_TIME, OVS_KEY_ATTR_IN_PORT, OVS_PACKET_ATTR, OVS_PACKET_CMD, PACKET_FAMILY } from "#compiler";
import { attrs, bytes, struct, u16, u32, u64, u8, type Codec, type ValueOf } from "./codec.js";

/** `struct nlmsghdr`. `len` is the length of the message, this header included. */
const nlmsghdr = struct({ len: u32, type: u16, flags: u16, seq: u32, pid: u32 });
/** `struct genlmsghdr`. */
const genlmsghdr = struct({ cmd: u8, version: u8, reserved: u16 });
/** `struct ovs_header`. */
const ovsHeader = struct({ dpIfindex: u32 });

const NL_SIZE = 16;
const GENL_SIZE = 4;
/** Bytes before the attributes of a message. */
export const HEADERS_SIZE = 24;

/** A message: which command, for which datapath, and the attributes. */
export interface Message<T> {
  readonly type: number;
  readonly seq: number;
  readonly cmd: number;
  readonly version: number;
  readonly dpIfindex: number;
  readonly body: T;
}

/** The codec of messages with `body` behind the headers. */
export const message = <T>(body: Codec<T>): Codec<Message<T>> => ({
  isNested: false,
  size: (value) => HEADERS_SIZE + body.size(value.body),
  put: (value, out, at, path) => {
    const len = HEADERS_SIZE + body.size(value.body);
    nlmsghdr.put({ len, type: value.type, flags: 0, seq: value.seq, pid: 0 }, out, at, `${path}.nlmsghdr`);
    genlmsghdr.put({ cmd: value.cmd, version: value.version, reserved: 0 }, out, at + NL_SIZE, `${path}.genlmsghdr`);
    ovsHeader.put({ dpIfindex: value.dpIfindex }, out, at + NL_SIZE + GENL_SIZE, `${path}.ovs_header`);
    body.put(value.body, out, at + HEADERS_SIZE, path);
  },
  get: (from, at, size, path) => {
    if (size < HEADERS_SIZE)
      throw new CodecError(`decode ${path}`, at, `want ${HEADERS_SIZE} bytes of headers, got ${size}`);
    const nl = nlmsghdr.get(from, at, NL_SIZE, `${path}.nlmsghdr`);
    if (nl.len < HEADERS_SIZE || nl.len > size)
      throw new CodecError(
        `decode ${path}.nlmsghdr.len`,
        at,
        `want a length from ${HEADERS_SIZE} to ${size}, got ${nl.len}`,
      );
    const genl = genlmsghdr.get(from, at + NL_SIZE, GENL_SIZE, `${path}.genlmsghdr`);
    const ovs = ovsHeader.get(from, at + NL_SIZE + GENL_SIZE, 4, `${path}.ovs_header`);
    return {
      type: nl.type,
      seq: nl.seq,
      cmd: genl.cmd,
      version: genl.version,
      dpIfindex: ovs.dpIfindex,
      body: body.get(from, at + HEADERS_SIZE, nl.len - HEADERS_SIZE, path),
    };
  },
});

/** The flow key of an upcall: which port; the slow path extracts the rest from the packet itself. */
const upcallKey = attrs({ inPort: [OVS_KEY_ATTR_IN_PORT, u32] });

/** Attributes of an upcall, in the order in which the datapath writes them: the packet comes last. */
export const upcall = message(
  attrs({
    key: [OVS_PACKET_ATTR.KEY, upcallKey],
    /** Length of the whole packet. */
    len: [OVS_PACKET_ATTR.LEN, u32],
    /** gso_size | gso_segs << 16. */
    gso: [ATTR_GSO, u32],
    /** CLOCK_MONOTONIC nanoseconds. */
    time: [ATTR_TIME, u64],
    packet: [OVS_PACKET_ATTR.PACKET, bytes],
  }),
);
export type Upcall = ValueOf<typeof upcall>;

/** An upcall as the datapath would send it: what tests and tools build records with. */
export const upcallMessage = (fields: {
  readonly cmd: (typeof OVS_PACKET_CMD)[keyof typeof OVS_PACKET_CMD];
  /** Interface index. */
  readonly inPort: number;
  readonly packet: Uint8Array;
  readonly len?: number;
  readonly gso?: number;
  readonly time?: bigint;
}): Upcall => ({
  type: PACKET_FAMILY,
  seq: 0,
  cmd: fields.cmd,
  version: 1,
  dpIfindex: 0,
  body: {
    key: { inPort: fields.inPort },
    len: fields.len ?? fields.packet.length,
    gso: fields.gso ?? 0,
    time: fields.time ?? 0n,
    packet: fields.packet,
  },
});
