// One controller, or one user of the management socket, as the switch knows it (OVS: ofconn): the connection and what was
// agreed on over it.

import {
  defaultAsync,
  encodeMessage,
  MultipartWriter,
  OpenFlowError,
  PROTOCOLS,
  type AsyncConfig,
  type AsyncMessage,
  type ByteWriter,
  type FlowFormat10,
  type MessageName,
  type MinorVersion,
  type PacketInFormat,
  type Protocol,
  type Role,
} from "#compiler";
import type { Connection } from "../openflow/connection.js";
import type { Bundle } from "./bundles.js";
import { FlowMonitors } from "./flow-monitors.js";

/** A `primary` connection is one to a controller; a `service` is of somebody who asks things, and hears nothing unasked. */
export type OfConnKind = "primary" | "service";

/** Bytes of a packet that a controller gets with a miss until it says otherwise (OFP_DEFAULT_MISS_SEND_LEN). */
export const DEFAULT_MISS_SEND_LEN = 128;

export class OfConn {
  readonly version: number;
  readonly minor: MinorVersion;
  /** OpenFlow 1.0: how flows travel, and whether their tables do. */
  flowFormat: FlowFormat10 = "openflow10";
  tableIds = false;
  packetInFormat: PacketInFormat = "standard";
  role: Role = "equal";
  async: AsyncConfig;
  controllerId = 0;
  missSendLen: number;
  invalidTtlToController = false;
  readonly bundles = new Map<number, Bundle>();
  readonly monitors = new FlowMonitors(this);
  /** Messages that were not sent because the peer does not read. */
  dropped = 0;

  constructor(
    readonly connection: Connection,
    readonly kind: OfConnKind,
  ) {
    this.version = connection.version;
    this.minor = Math.min(connection.version - 1, 5) as MinorVersion;
    this.async = defaultAsync(this.minor);
    this.missSendLen = kind === "primary" ? DEFAULT_MISS_SEND_LEN : 0;
  }

  get name(): string {
    return this.connection.name;
  }

  /** The dialect in which flows travel. */
  get protocol(): Protocol {
    if (this.minor > 0) return PROTOCOLS[3 + this.minor]!;
    const format = this.flowFormat === "nxm" ? "NXM" : "OpenFlow10";
    return `${format}${this.tableIds ? "+" : "-"}table_id`;
  }

  /** @throws {@link OpenFlowError} for a secondary controller, which changes nothing */
  requireChanges(): void {
    if (this.role === "secondary")
      throw new OpenFlowError("OFPBRC_IS_SECONDARY", "Cannot change anything: the controller is secondary");
  }

  send(message: Uint8Array): void {
    this.connection.send(message);
  }

  /** Answers a message. */
  reply(name: MessageName, xid: number, put?: (writer: ByteWriter) => void): void {
    this.send(encodeMessage(name, this.version, xid, put));
  }

  /** Begins an answer of many parts. */
  multipart(name: MessageName, xid: number): MultipartWriter {
    return new MultipartWriter(name, this.version, xid, (message) => this.send(message));
  }

  /** Whether it wants a message unasked for, by reason. */
  wants(message: AsyncMessage, reason: number): boolean {
    if (this.kind === "service" && this.missSendLen === 0) return false;
    const masks = this.role === "secondary" ? this.async.secondary : this.async.primary;
    return (masks[message] & (1 << reason)) !== 0;
  }

  /** Sends a message that was not asked for, unless the peer is far behind. */
  notify(message: Uint8Array): void {
    if (this.connection.isCongested) this.dropped++;
    else this.send(message);
  }
}
