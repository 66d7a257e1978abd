// Internet addresses from text to network byte order, for netlink.

import { isIPv4, isIPv6 } from "node:net";
import { CodecError } from "ebpf-assembler";

/** Address families (AF_*). */
export const AF = { INET: 2, INET6: 10, PACKET: 17 } as const;

/** An address in network byte order. */
export interface PackedAddress {
  readonly family: number;
  readonly bytes: Uint8Array;
}

const packV4 = (text: string): number[] => text.split(".").map(Number);

/** One side of "::" as bytes; the last group may be a dotted quad. */
const packGroups = (text: string): number[] =>
  text === ""
    ? []
    : text.split(":").flatMap((group) => {
        if (group.includes(".")) return packV4(group);
        const n = parseInt(group, 16);
        return [n >> 8, n & 0xff];
      });

/** `10.0.0.1` or `fd00::1`. @throws {@link CodecError} */
export const packAddress = (text: string): PackedAddress => {
  if (isIPv4(text)) return { family: AF.INET, bytes: Uint8Array.from(packV4(text)) };
  if (!isIPv6(text) || text.includes("%"))
    throw new CodecError("decode address", -1, `want an IPv4 or IPv6 address, got ${JSON.stringify(text)}`);
  const [head = "", tail] = text.split("::");
  const front = packGroups(head);
  const back = packGroups(tail ?? "");
  const bytes = new Uint8Array(16);
  bytes.set(front);
  if (tail !== undefined) bytes.set(back, 16 - back.length);
  return { family: AF.INET6, bytes };
};

/** `10.0.0.0/24`, `fd00::/64`; the length may be absent for a host. @throws {@link CodecError} */
export const packPrefix = (text: string): PackedAddress & { readonly length: number } => {
  const [address = "", suffix] = text.split("/");
  const packed = packAddress(address);
  const max = packed.bytes.length * 8;
  const length = suffix === undefined ? max : /^\d+$/.test(suffix) ? Number(suffix) : -1;
  if (length < 0 || length > max)
    throw new CodecError("decode prefix", -1, `want ADDRESS/0..${max}, got ${JSON.stringify(text)}`);
  return { ...packed, length };
};

/** `02:00:00:00:00:01`. @throws {@link CodecError} */
export const packMac = (text: string): Uint8Array => {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text))
    throw new CodecError("decode MAC address", -1, `want XX:XX:XX:XX:XX:XX, got ${JSON.stringify(text)}`);
  return Uint8Array.from(text.split(":"), (part) => parseInt(part, 16));
};

/** Lower-case, colons between. */
export const formatMac = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
