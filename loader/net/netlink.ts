// Netlink: messages, attributes, and a socket that sends a request and gathers the answer. Used for rtnetlink and generic
// netlink control messages; all integers of the host's (little) endianness unless a doc line says otherwise.

import { concatBytes, RangeViolation, roundUp } from "ebpf-assembler";
import { check, ERRNO, syscallError } from "../sys/errors.js";
import { Fd } from "../sys/fd.js";
import type { Sys } from "../sys/sys.js";

/** Netlink protocols (uapi/linux/netlink.h). */
export const NETLINK = { route: 0, generic: 16 } as const;

/** Message flags (uapi/linux/netlink.h, NLM_F_*). */
export const NLM = {
  REQUEST: 0x1,
  ACK: 0x4,
  DUMP_INTR: 0x10,
  DUMP: 0x300,
  REPLACE: 0x100,
  EXCL: 0x200,
  CREATE: 0x400,
  ACK_TLVS: 0x200,
  CAPPED: 0x100,
} as const;

const NLMSG = { NOOP: 1, ERROR: 2, DONE: 3 } as const;
const HEADER_SIZE = 16;
const SOL_NETLINK = 270;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;
const NESTED = 0x8000;
const ATTR_TYPE_MASK = 0x3fff;
/** NLMSGERR_ATTR_MSG: the kernel's own words. */
const ERR_ATTR_MSG = 1;
const RECEIVE_SIZE = 1 << 17;
const DUMP_TRIES = 10;

/** Attribute payloads. */
export const nlU8 = (n: number): Uint8Array => Uint8Array.of(n);
export const nlU16 = (n: number): Uint8Array => new Uint8Array(new Uint16Array([n]).buffer);
export const nlU32 = (n: number): Uint8Array => new Uint8Array(new Uint32Array([n]).buffer);
export const nlI32 = (n: number): Uint8Array => new Uint8Array(new Int32Array([n]).buffer);
export const nlString = (text: string): Uint8Array => new TextEncoder().encode(`${text}\0`);

/** One attribute: u16 length, u16 type, payload, padding to 4 bytes. */
export const nlAttr = (type: number, payload: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array(roundUp(4 + payload.length, 4));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 4 + payload.length, true);
  view.setUint16(2, type, true);
  bytes.set(payload, 4);
  return bytes;
};

/** An attribute that holds attributes. */
export const nlNest = (type: number, ...attrs: readonly Uint8Array[]): Uint8Array =>
  nlAttr(type | NESTED, concatBytes(...attrs));

/** Attributes by type; of attributes with the same type the last one. Stops at bytes that are no attribute. */
export const parseAttrs = (bytes: Uint8Array): Map<number, Uint8Array> => {
  const found = new Map<number, Uint8Array>();
  for (const [type, payload] of listAttrs(bytes)) found.set(type, payload);
  return found;
};

/** Attributes in order, for lists whose types repeat. */
export const listAttrs = (bytes: Uint8Array): (readonly [type: number, payload: Uint8Array])[] => {
  const list: (readonly [number, Uint8Array])[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > bytes.length) break;
    list.push([view.getUint16(at + 2, true) & ATTR_TYPE_MASK, bytes.subarray(at + 4, at + length)]);
    at += roundUp(length, 4);
  }
  return list;
};

/** Reads payloads; a payload that is too short, or absent, gives undefined. */
export const readU8 = (payload: Uint8Array | undefined): number | undefined => payload?.[0];
export const readU16 = (payload: Uint8Array | undefined): number | undefined =>
  payload !== undefined && payload.length >= 2 ? (payload[0] as number) | ((payload[1] as number) << 8) : undefined;
export const readU32 = (payload: Uint8Array | undefined): number | undefined =>
  payload !== undefined && payload.length >= 4
    ? new DataView(payload.buffer, payload.byteOffset).getUint32(0, true)
    : undefined;
export const readI32 = (payload: Uint8Array | undefined): number | undefined => {
  const n = readU32(payload);
  return n === undefined ? undefined : n | 0;
};
export const readString = (payload: Uint8Array | undefined): string | undefined => {
  if (payload === undefined) return undefined;
  const end = payload.indexOf(0);
  return new TextDecoder().decode(end < 0 ? payload : payload.subarray(0, end));
};

/** One message: its type and what follows the header. Valid until the next call on the socket. */
export interface NlMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly body: Uint8Array;
}

/** The messages of one datagram. */
export const parseMessages = (bytes: Uint8Array): NlMessage[] => {
  const messages: NlMessage[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + HEADER_SIZE <= bytes.length;) {
    const length = view.getUint32(at, true);
    if (length < HEADER_SIZE || at + length > bytes.length) break;
    messages.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      body: bytes.subarray(at + HEADER_SIZE, at + length),
    });
    at += roundUp(length, 4);
  }
  return messages;
};

/** The answer to a refused request. */
interface Refused {
  readonly errno: number;
  readonly detail: string | undefined;
}

/** Reads NLMSG_ERROR: i32 error, the header of the request, (its payload,) attributes. Error 0 is an acknowledgement. */
const parseError = (message: NlMessage): Refused => {
  const view = new DataView(message.body.buffer, message.body.byteOffset, message.body.length);
  const errno = -view.getInt32(0, true);
  let at = 4 + HEADER_SIZE;
  if ((message.flags & NLM.CAPPED) === 0) at += roundUp(view.getUint32(4, true) - HEADER_SIZE, 4);
  const detail =
    (message.flags & NLM.ACK_TLVS) === 0
      ? undefined
      : readString(parseAttrs(message.body.subarray(at)).get(ERR_ATTR_MSG));
  return { errno, detail };
};

/** A netlink socket for requests. It belongs to the network namespace that it was opened in. Disposing closes it. */
export class NetlinkSocket implements Disposable {
  private sequence = 0;
  private readonly buffer = new Uint8Array(RECEIVE_SIZE);

  private constructor(
    readonly sys: Sys,
    private readonly fd: Fd,
  ) {}

  /**
   * @param groups - multicast groups to join, as numbers (RTNLGRP_*)
   * @throws {@link SyscallError}
   */
  static open(sys: Sys, protocol: number, groups: readonly number[] = []): NetlinkSocket {
    const action = "open a netlink socket";
    const fd = new Fd(
      sys,
      check(sys.call("socket", AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol), action, "socket()"),
      "netlink socket",
    );
    try {
      const address = new Uint8Array(12);
      new DataView(address.buffer).setUint16(0, AF_NETLINK, true);
      check(sys.call("bind", fd.n, sys.address(address), address.length), action, "bind()");
      const socket = new NetlinkSocket(sys, fd);
      socket.option(NETLINK_EXT_ACK, 1, action);
      socket.option(NETLINK_GET_STRICT_CHK, 1, action);
      for (const group of groups) socket.option(NETLINK_ADD_MEMBERSHIP, group, `join netlink group ${group}`);
      return socket;
    } catch (error) {
      fd[Symbol.dispose]();
      throw error;
    }
  }

  private option(name: number, value: number, action: string): void {
    const word = nlU32(value);
    check(
      this.sys.call("setsockopt", this.fd.n, SOL_NETLINK, name, this.sys.address(word), word.length),
      action,
      "setsockopt()",
    );
  }

  get fdNumber(): number {
    return this.fd.n;
  }

  private send(type: number, flags: number, body: Uint8Array, action: string): void {
    const message = new Uint8Array(HEADER_SIZE + body.length);
    const view = new DataView(message.buffer);
    view.setUint32(0, message.length, true);
    view.setUint16(4, type, true);
    view.setUint16(6, flags, true);
    view.setUint32(8, ++this.sequence, true);
    message.set(body, HEADER_SIZE);
    check(this.sys.call("sendto", this.fd.n, this.sys.address(message), message.length), action, "sendto()");
  }

  /**
   * The next datagram; undefined when none is waiting and `wait` is false.
   * @throws {@link SyscallError}, among them ENOBUFS when notifications were lost
   */
  receive(wait: boolean, action: string): NlMessage[] | undefined {
    const { buffer, sys } = this;
    const flags = MSG_TRUNC | (wait ? 0 : MSG_DONTWAIT);
    for (;;) {
      const size = sys.call("recvfrom", this.fd.n, sys.address(buffer), buffer.length, flags);
      if (size === -ERRNO.EINTR) continue;
      if (size === -ERRNO.EAGAIN && !wait) return undefined;
      check(size, action, "recvfrom()");
      if (size > buffer.length)
        throw new RangeViolation(
          `Cannot ${action}: a netlink datagram of ${size} bytes, want at most ${buffer.length}`,
        );
      return parseMessages(buffer.subarray(0, size));
    }
  }

  /**
   * Sends a request and returns what came back before the acknowledgement (or before the end, for a dump). The bodies are
   * copies.
   * @param action - completes "Cannot …" in the error
   * @throws {@link SyscallError} with the kernel's own words when it gave some
   */
  request(type: number, flags: number, body: Uint8Array, action: string): NlMessage[] {
    for (let tries = 1; ; tries++) {
      const isDump = (flags & NLM.DUMP) === NLM.DUMP;
      this.send(type, flags | NLM.REQUEST | (isDump ? 0 : NLM.ACK), body, action);
      const { messages, interrupted } = this.gather(action);
      if (!interrupted || tries === DUMP_TRIES) return messages;
    }
  }

  private gather(action: string): { messages: NlMessage[]; interrupted: boolean } {
    const messages: NlMessage[] = [];
    let interrupted = false;
    for (;;) {
      for (const message of this.receive(true, action) ?? []) {
        if (message.sequence !== this.sequence) continue; // of an earlier request that was given up
        if ((message.flags & NLM.DUMP_INTR) !== 0) interrupted = true;
        if (message.type === NLMSG.DONE) return { messages, interrupted };
        if (message.type === NLMSG.ERROR) {
          const { errno, detail } = parseError(message);
          if (errno === 0) return { messages, interrupted };
          throw syscallError(action, "netlink", errno, detail);
        }
        if (message.type !== NLMSG.NOOP) messages.push({ ...message, body: message.body.slice() });
      }
    }
  }

  [Symbol.dispose](): void {
    this.fd[Symbol.dispose]();
  }
}

const NETLINK_ADD_MEMBERSHIP = 1;
