// The field table: the only place where a match field is named. Text parser and printer, OXM codec, prerequisites,
// flow-key layout, help and manual read it. Names, aliases, codes and properties are those of ovs-fields(7), OVS 3.1; the
// rows are parted by family and stand here in OVS's order, which decides where several fields are listed.

import { CONNTRACK_FIELDS } from "./fields/conntrack.js";
import { ETHERNET_FIELDS } from "./fields/ethernet.js";
import { NETWORK_FIELDS } from "./fields/network.js";
import { NSH_FIELDS } from "./fields/nsh.js";
import { METADATA_FIELDS, PIPELINE_FIELDS } from "./fields/pipeline.js";
import { REGISTER_FIELDS } from "./fields/registers.js";
import type { FieldSpec } from "./fields/spec.js";
import { TRANSPORT_FIELDS } from "./fields/transport.js";
import { TUN_METADATA_FIELDS } from "./fields/tun-metadata.js";
import { TUNNEL_FIELDS } from "./fields/tunnel.js";

export type { FieldCode, FieldSpec, Format, MinorVersion, Prerequisite } from "./fields/spec.js";
export { EXPERIMENTER_CLASS } from "./fields/spec.js";

/** The fields of the language, by their OVS name. */
export const FIELDS = {
  ...PIPELINE_FIELDS,
  ...TUNNEL_FIELDS,
  ...TUN_METADATA_FIELDS,
  ...METADATA_FIELDS,
  ...CONNTRACK_FIELDS,
  ...REGISTER_FIELDS,
  ...ETHERNET_FIELDS,
  ...NETWORK_FIELDS,
  ...TRANSPORT_FIELDS,
  ...NSH_FIELDS,
} satisfies Record<string, FieldSpec>;

/** Name of a match field: OVS's `mf_field` name. */
export type FieldName = keyof typeof FIELDS;

/** Every field name, in table order. */
export const FIELD_NAMES = Object.keys(FIELDS) as readonly FieldName[];
