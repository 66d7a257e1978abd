// Which tunnel option stands for which field `tun_metadata0` to `tun_metadata63` (NXT_TLV_TABLE_*).

import { N_TUN_METADATA, TUN_METADATA_TOTAL_BYTES } from "../fields/tun-metadata.js";
import { ByteReader, type ByteWriter } from "./bytes.js";
import { OpenFlowError } from "./errors.js";
import type { Message } from "./message.js";

/** A tunnel option and its field. */
export interface WireTlvMapping {
  readonly optionClass: number;
  readonly optionType: number;
  /** Bytes of the option's value: 0 to 124, a multiple of 4. */
  readonly optionBytes: number;
  /** N of `tun_metadataN`. */
  readonly index: number;
}

export const TLV_COMMANDS = ["add", "delete", "clear"] as const;
export type TlvCommand = (typeof TLV_COMMANDS)[number];

export interface WireTlvMod {
  readonly command: TlvCommand;
  readonly mappings: readonly WireTlvMapping[];
}

const MAX_OPTION_BYTES = 124;

/** @throws {@link OpenFlowError} */
export const decodeTlvMod = ({ body }: Message): WireTlvMod => {
  const reader = new ByteReader(body);
  const number = reader.u16();
  const command = TLV_COMMANDS[number];
  if (command === undefined) throw new OpenFlowError("NXTTMFC_BAD_COMMAND", `Cannot do command ${number} on options`);
  reader.skip(6);
  const mappings: WireTlvMapping[] = [];
  while (reader.left > 0) {
    const [optionClass, optionType, optionBytes, index] = [reader.u16(), reader.u8(), reader.u8(), reader.u16()];
    reader.skip(2);
    if (optionBytes % 4 !== 0 || optionBytes > MAX_OPTION_BYTES)
      throw new OpenFlowError("NXTTMFC_BAD_OPT_LEN", `Cannot map an option of ${optionBytes} bytes`);
    if (index >= N_TUN_METADATA)
      throw new OpenFlowError("NXTTMFC_BAD_FIELD_IDX", `Cannot map tun_metadata${index}: want at most 63`);
    mappings.push({ optionClass, optionType, optionBytes, index });
  }
  return { command, mappings };
};

/** The body of a reply. */
export const putTlvReply = (writer: ByteWriter, mappings: readonly WireTlvMapping[]): void => {
  writer.u32(TUN_METADATA_TOTAL_BYTES).u16(N_TUN_METADATA).zeros(10);
  for (const { optionClass, optionType, optionBytes, index } of mappings)
    writer.u16(optionClass).u8(optionType).u8(optionBytes).u16(index).zeros(2);
};
