// Port numbers on the wire: 16 bits in OpenFlow 1.0 and the Nicira extensions, 32 bits later.

import { MAX_PORTS } from "../ports.js";
import type { ByteReader, ByteWriter } from "./bytes.js";
import { OpenFlowError } from "./errors.js";

export const port16 = (port: number): number => (port < MAX_PORTS ? port : port + 0xffff0000);

/** @throws {@link OpenFlowError} OFPBAC_BAD_OUT_PORT */
export const port32 = (port: number): number => {
  if (port < MAX_PORTS || port >= 0xffffff00) return port;
  throw new OpenFlowError("OFPBAC_BAD_OUT_PORT", `Cannot use port 0x${port.toString(16)}: there is no such port`);
};

/** A port number in the width of a version. */
export const putPort = (writer: ByteWriter, port: number, minor: number): ByteWriter =>
  minor === 0 ? writer.u16(port & 0xffff) : writer.u32(port);

/** @throws {@link OpenFlowError} OFPBAC_BAD_OUT_PORT */
export const readPort = (reader: ByteReader, minor: number): number =>
  minor === 0 ? port16(reader.u16()) : port32(reader.u32());
