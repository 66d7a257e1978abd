// What a switch answers when it refuses something: the OpenFlow error for each problem that the tables have a name for.

import { NotSupportedError } from "ebpf-assembler";
import {
  FlowModError,
  GroupModError,
  MeterModError,
  OpenFlowError,
  type FlowModProblem,
  type GroupModProblem,
  type Message,
  type MeterModProblem,
  type OpenFlowErrorName,
} from "#compiler";

const FLOW: Readonly<Record<FlowModProblem, OpenFlowErrorName>> = {
  overlap: "OFPFMFC_OVERLAP",
  bad_table_id: "OFPBRC_BAD_TABLE_ID",
  bad_out_group: "OFPBAC_BAD_OUT_GROUP",
  invalid_meter: "OFPMMFC_INVALID_METER",
  table_full: "OFPFMFC_TABLE_FULL",
  invalid_tlv_field: "NXFMFC_INVALID_TLV_FIELD",
};

const GROUP: Readonly<Record<GroupModProblem, OpenFlowErrorName>> = {
  group_exists: "OFPGMFC_GROUP_EXISTS",
  unknown_group: "OFPGMFC_UNKNOWN_GROUP",
  unknown_bucket: "OFPGMFC_UNKNOWN_BUCKET",
  bucket_exists: "OFPGMFC_BUCKET_EXISTS",
};

const METER: Readonly<Record<MeterModProblem, OpenFlowErrorName>> = {
  meter_exists: "OFPMMFC_METER_EXISTS",
  unknown_meter: "OFPMMFC_UNKNOWN_METER",
  out_of_meters: "OFPMMFC_OUT_OF_METERS",
};

/** The error to answer with; undefined for one that is no fault of the peer's. */
export const openFlowErrorOf = (error: unknown): OpenFlowErrorName | undefined => {
  if (error instanceof OpenFlowError) return error.error;
  if (error instanceof FlowModError) return FLOW[error.problem];
  if (error instanceof GroupModError) return GROUP[error.problem];
  if (error instanceof MeterModError) return METER[error.problem];
  return error instanceof NotSupportedError ? "OFPBRC_BAD_TYPE" : undefined;
};

/** @throws {@link OpenFlowError} always: nothing does what a message asks for */
export const refuseMessage = ({ row, header }: Message): never => {
  const isStats = header.stat !== undefined;
  const error = header.vendor !== undefined ? "OFPBRC_BAD_SUBTYPE" : isStats ? "OFPBRC_BAD_STAT" : "OFPBRC_BAD_TYPE";
  throw new OpenFlowError(error, `Cannot do ${row.name}: no switch does`);
};
