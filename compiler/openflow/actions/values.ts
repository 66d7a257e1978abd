// Values that carrying an action from one version of OpenFlow to another makes: fields set as a whole, bits loaded.

import { fromBytes, toBytes } from "../big-endian.js";
import { FIELD_WIDTH, WIRE_BYTES } from "../field-access.js";
import type { FieldName } from "../fields.js";
import type { ActionOf } from "../action.js";

export const settingField = (field: FieldName, value: number | bigint): ActionOf<"set_field"> => ({
  kind: "set_field",
  field,
  value: toBytes(BigInt(value), (FIELD_WIDTH[field] + 7) >>> 3),
});

export const loading = (field: FieldName, lsb: number, bits: number, value: bigint): ActionOf<"reg_load"> => ({
  kind: "reg_load",
  value: toBytes(value, (bits + 7) >>> 3),
  dst: { field, lsb, bits },
});

/** A load as the set_field of OpenFlow 1.5, whose mask goes without saying only when it has all bits of the bytes sent. */
export const loadAsSetField = ({ value, dst: { field, lsb, bits } }: ActionOf<"reg_load">): ActionOf<"set_field"> => {
  const size = (FIELD_WIDTH[field] + 7) >>> 3;
  const mask = ((1n << BigInt(bits)) - 1n) << BigInt(lsb);
  const placed = toBytes(fromBytes(value) << BigInt(lsb), size);
  return bits === 8 * WIRE_BYTES[field]
    ? { kind: "set_field", field, value: placed }
    : { kind: "set_field", field, value: placed, mask: toBytes(mask, size) };
};
