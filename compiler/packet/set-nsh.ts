// Rewrites one field of a network service header (RFC 8300). No checksum covers it.

import { nsh, NSH_TYPE_1 } from "./headers.js";
import type { ShimTarget } from "./set-field.js";
import { read16, write16 } from "./words.js";

type NshTarget = Extract<ShimTarget, `nsh_${string}`>;

const { path, mdtype } = nsh.fields;

/** Version (2), flags (2), TTL (6) and length (6) share the first two bytes. */
const FLAGS_SHIFT = 12;
const TTL_SHIFT = 6;

const CONTEXT: Readonly<Record<Exclude<NshTarget, "nsh_flags" | "nsh_ttl" | "nsh_spi" | "nsh_si">, number>> = {
  nsh_c1: 0,
  nsh_c2: 1,
  nsh_c3: 2,
  nsh_c4: 3,
};

const setBase = (packet: Uint8Array, at: number, shift: number, all: number, value: number): void =>
  write16(packet, at, (read16(packet, at) & ~(all << shift)) | ((value & all) << shift));

/**
 * @param at - where the header begins; at least its fixed part is there
 * @param value - of the size that the target states
 */
export const setNsh = (packet: Uint8Array, at: number, target: NshTarget, value: Uint8Array): void => {
  switch (target) {
    case "nsh_flags":
      setBase(packet, at, FLAGS_SHIFT, 3, value[0]!);
      return;
    case "nsh_ttl":
      setBase(packet, at, TTL_SHIFT, 0x3f, value[0]!);
      return;
    case "nsh_spi":
      packet.set(value, at + path.byteOffset);
      return;
    case "nsh_si":
      packet.set(value, at + path.byteOffset + 3);
      return;
    default:
      // Only metadata of type 1 has context words.
      if (packet[at + mdtype.byteOffset] === NSH_TYPE_1.MDTYPE && packet.length - at >= NSH_TYPE_1.BYTES)
        packet.set(value, at + nsh.minBytes + 4 * CONTEXT[target]);
  }
};
