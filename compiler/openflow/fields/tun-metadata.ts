// Options (TLVs) of Geneve and other tunnels. A switch gives each of these fields a meaning by a table that maps options to
// them. Without an entry there a field has no bits in the flow: what a match demands of it is kept beside the flow, in
// `Match.tunMetadata`, as long as the value was written.

import { code, type FieldSpec } from "./spec.js";

/** Number of fields. */
export const N_TUN_METADATA = 64;

/** Most bytes that one option holds. */
export const TUN_METADATA_BYTES = 124;

/** Most bytes that all options of one packet, and of one match, hold. */
export const TUN_METADATA_TOTAL_BYTES = 256;

type CountTo<N extends number, Seen extends readonly number[] = readonly []> = Seen["length"] extends N
  ? Seen[number]
  : CountTo<N, readonly [...Seen, Seen["length"] & number]>;

export type TunMetadataName = `tun_metadata${CountTo<typeof N_TUN_METADATA>}`;

const FIRST_CODE = 40;

const row = (n: number): FieldSpec => ({
  in: "tun_metadata",
  lsb: 0,
  bits: 0,
  valueBits: 8 * TUN_METADATA_BYTES,
  mask: "any",
  needs: "none",
  format: "hex",
  writable: true,
  codes: [code(`NXM_NX_TUN_METADATA${n}`, FIRST_CODE + n)],
  aka: [],
  doc: `Option ${n} of the tunnel header, of the kind that the switch's table gives this number`,
});

/** Fields of tunnel options. */
export const TUN_METADATA_FIELDS = Object.fromEntries(
  Array.from({ length: N_TUN_METADATA }, (_, n) => [`tun_metadata${n}`, row(n)]),
) as Readonly<Record<TunMetadataName, FieldSpec>>;

/** Whether the value of a field is as long as it was written. */
export const isTunMetadata = (field: string): field is TunMetadataName => Object.hasOwn(TUN_METADATA_FIELDS, field);
