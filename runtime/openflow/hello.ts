// Which version of OpenFlow two peers speak (OpenFlow 1.3.5 section 6.3.1, 7.5.1): the highest that both know. A set of versions
// is a bitmap, bit N for wire version N, as in the hello's element.

import { CodecError } from "ebpf-assembler";
import { HEADER_SIZE } from "./framer.js";

/** Wire versions (ofp_header.version). */
export const OPENFLOW_VERSIONS = {
  OpenFlow10: 1,
  OpenFlow11: 2,
  OpenFlow12: 3,
  OpenFlow13: 4,
  OpenFlow14: 5,
  OpenFlow15: 6,
} as const;

export type OpenFlowVersion = keyof typeof OPENFLOW_VERSIONS;

/** All of them. */
export const ALL_VERSIONS = Object.values(OPENFLOW_VERSIONS).reduce((set, version) => set | (1 << version), 0);

const HELLO = 0;
const ERROR = 1;
const OFPET_HELLO_FAILED = 0;
const OFPHFC_INCOMPATIBLE = 0;
const OFPHET_VERSIONBITMAP = 1;
const ELEMENT_HEADER = 4;

/** The highest version of a set; 0 for none. */
export const highestVersion = (set: number): number => (set === 0 ? 0 : 31 - Math.clz32(set));

/** A hello that offers `versions`, not empty. The element is left out when it would say no more than the header. */
export const encodeHello = (versions: number, xid: number): Buffer => {
  const highest = highestVersion(versions);
  const isPlain = versions === (2 << highest) - 2;
  const hello = Buffer.alloc(isPlain ? HEADER_SIZE : HEADER_SIZE + 2 * ELEMENT_HEADER);
  hello.writeUInt8(highest, 0);
  hello.writeUInt8(HELLO, 1);
  hello.writeUInt16BE(hello.length, 2);
  hello.writeUInt32BE(xid, 4);
  if (isPlain) return hello;
  hello.writeUInt16BE(OFPHET_VERSIONBITMAP, HEADER_SIZE);
  hello.writeUInt16BE(2 * ELEMENT_HEADER, HEADER_SIZE + 2);
  hello.writeUInt32BE(versions >>> 0, HEADER_SIZE + ELEMENT_HEADER);
  return hello;
};

/**
 * The versions that a peer's hello offers: those of its bitmap, or without one all up to that of its header.
 * @throws {@link CodecError} when the message is no hello, or an element does not fit
 */
export const decodeHello = (message: Buffer): number => {
  const type = message.readUInt8(1);
  if (type !== HELLO) throw new CodecError("decode a hello", 1, `want message type 0, got ${type}`);
  let at = HEADER_SIZE;
  while (at + ELEMENT_HEADER <= message.length) {
    const length = message.readUInt16BE(at + 2);
    if (length < ELEMENT_HEADER || at + length > message.length)
      throw new CodecError("decode a hello", at, `want an element within the message, got a length of ${length}`);
    // Bit 0 stands for no version; versions above 31 nobody speaks.
    if (message.readUInt16BE(at) === OFPHET_VERSIONBITMAP && length >= 2 * ELEMENT_HEADER)
      return message.readUInt32BE(at + ELEMENT_HEADER) & ~1;
    at += (length + 7) & ~7;
  }
  const version = message.readUInt8(0);
  return version === 0 ? 0 : version > 30 ? -2 : (2 << version) - 2;
};

const versionsText = (set: number): string => {
  const versions = Array.from({ length: 32 }, (_, i) => i).filter((i) => ((set >>> i) & 1) === 1);
  const hex = versions.map((version) => `0x${version.toString(16).padStart(2, "0")}`);
  return `version${hex.length === 1 ? "" : "s"} ${hex.join(", ")}`;
};

/** What two peers say to each other when they have no version in common. */
export const encodeHelloFailed = (ours: number, theirs: number, xid: number): Buffer => {
  const text = `We support ${versionsText(ours)}, you support ${versionsText(theirs)}, no common versions.`;
  const error = Buffer.alloc(HEADER_SIZE + 4 + text.length);
  // The highest version that the peer can read.
  error.writeUInt8(Math.min(highestVersion(ours), Math.max(1, highestVersion(theirs & 0x7e))), 0);
  error.writeUInt8(ERROR, 1);
  error.writeUInt16BE(error.length, 2);
  error.writeUInt32BE(xid, 4);
  error.writeUInt16BE(OFPET_HELLO_FAILED, HEADER_SIZE);
  error.writeUInt16BE(OFPHFC_INCOMPATIBLE, HEADER_SIZE + 2);
  error.write(text, HEADER_SIZE + 4, "latin1");
  return error;
};
