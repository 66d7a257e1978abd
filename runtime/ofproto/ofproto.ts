// The OpenFlow side of a bridge (OVS: ofproto and connmgr): everybody who is connected, what their messages do, and what they
// hear unasked.
//
// Messages of one connection are handled in order; one that must wait (for counters, for changes to be in force) holds back
// only those behind it. Whatever a peer sends is answered or refused with an OpenFlow error; it never throws out of here.

import { randomUUID } from "node:crypto";
import {
  decodeMessage,
  encodeError,
  IMPLICIT_MISS,
  N_TABLES,
  OpenFlowError,
  type FragMode,
  type Role,
  type TableMiss,
  type WireDescription,
  type WireTableMod,
} from "#compiler";
import type { Bridge } from "../bridge.js";
import { monotonicMs } from "../clock.js";
import type { Log } from "../log.js";
import type { Connection, ConnectionEvents } from "../openflow/connection.js";
import { expireBundles } from "./bundles.js";
import { openFlowErrorOf, refuseMessage } from "./errors.js";
import { CONNECTION_HANDLERS } from "./handlers/connection.js";
import { FLOW_HANDLERS } from "./handlers/flows.js";
import { MONITOR_HANDLERS } from "./handlers/monitors.js";
import { GROUP_HANDLERS } from "./handlers/groups.js";
import { PACKET_HANDLERS } from "./handlers/packets.js";
import { describePort, PORT_HANDLERS } from "./handlers/ports.js";
import { SWITCH_HANDLERS } from "./handlers/switch.js";
import { tellPacket, tellPort, tellRemoved } from "./news.js";
import type { Source } from "./flow-monitors.js";
import { TlvMap } from "./tlv-map.js";
import { OfConn, type OfConnKind } from "./ofconn.js";
import type { Handler } from "./request.js";

/** What is done for each message, by its name. */
const HANDLERS: ReadonlyMap<string, Handler> = new Map(
  [
    SWITCH_HANDLERS,
    PORT_HANDLERS,
    FLOW_HANDLERS,
    GROUP_HANDLERS,
    PACKET_HANDLERS,
    CONNECTION_HANDLERS,
    MONITOR_HANDLERS,
  ].flatMap((handlers) => Object.entries(handlers) as [string, Handler][]),
);

export interface OfprotoOptions {
  readonly bridge: Bridge;
  readonly log: Log;
  readonly datapathId: bigint;
  readonly description: WireDescription;
}

interface TableConfig {
  readonly miss: TableMiss;
  readonly eviction: boolean;
  readonly vacancy?: { readonly down: number; readonly up: number };
}

const DEFAULT_TABLE: TableConfig = { miss: "default", eviction: false };

const ACTION_REASON = 1;
const IMPLICIT_MISS_REASON = Math.log2(IMPLICIT_MISS);

/** How often bundles that were forgotten are looked for. */
const EXPIRY_MS = 1000;

/** Disposing lets go of the bridge; connections belong to whoever made them. */
export class Ofproto implements Disposable {
  readonly bridge: Bridge;
  readonly datapathId: bigint;
  readonly description: WireDescription;
  /** What packets that wait for a controller are known by, 16 bytes. */
  readonly uuid: Uint8Array = Buffer.from(randomUUID().replaceAll("-", ""), "hex");
  /** The newest election of a primary that a controller named. */
  generation: bigint | undefined;
  readonly tlvMap = new TlvMap();
  private readonly log: Log;
  private readonly conns = new Map<Connection, OfConn>();
  private readonly tables = new Map<number, TableConfig>();
  /** {@link Switch.version} that is in force for every packet. */
  private versionInForce = -1;
  /** Who causes what happens now, and with which message. */
  private source: Source | undefined;
  private readonly timer: NodeJS.Timeout;
  private flushing: NodeJS.Immediate | undefined;
  private nErrors = 0;

  constructor({ bridge, log, datapathId, description }: OfprotoOptions) {
    this.bridge = bridge;
    this.log = log;
    this.datapathId = datapathId;
    this.description = description;
    bridge.slowPath.onController = (action, packet) => tellPacket(this.conns.values(), action, packet, this.uuid);
    bridge.onPort = (reason, port) =>
      tellPort(this.conns.values(), reason, describePort(this, port), this.source?.conn);
    bridge.sw.observe((event) => {
      if (event.kind === "removed") tellRemoved(this.conns.values(), event.rule, event.reason);
      for (const { monitors } of this.conns.values()) monitors.report(event, this.source);
      if (this.source === undefined) this.flushSoon();
    });
    this.timer = setInterval(() => {
      const nowMs = monotonicMs();
      for (const conn of this.conns.values()) expireBundles(conn, nowMs);
      this.flush();
    }, EXPIRY_MS).unref();
  }

  /** What to do about connections of a kind, wherever they come from. */
  events(kind: OfConnKind): ConnectionEvents {
    return {
      onOpen: (connection) => this.onOpen(new OfConn(connection, kind)),
      onMessage: (connection, bytes) => {
        const conn = this.conns.get(connection);
        return conn === undefined ? undefined : this.handle(conn, bytes);
      },
      onClosed: (connection, { reason }) => this.onClosed(connection, reason),
    };
  }

  get connections(): Iterable<OfConn> {
    return this.conns.values();
  }

  /** Whether anybody gets packets that flows send to controllers. */
  get wantsPackets(): boolean {
    return [...this.conns.values()].some((conn) => conn.wants("PACKET_IN", ACTION_REASON));
  }

  private onOpen(conn: OfConn): void {
    this.conns.set(conn.connection, conn);
    this.log.debug({ peer: conn.name, version: conn.version }, "OpenFlow connection");
    this.connsChanged();
  }

  private onClosed(connection: Connection, reason: string): void {
    if (!this.conns.delete(connection)) return;
    this.log.debug({ peer: connection.name, reason }, "OpenFlow connection ended");
    this.connsChanged();
  }

  private connsChanged(): void {
    const before = this.bridge.sw.hasController;
    this.bridge.sw.setController([...this.conns.values()].some(({ kind }) => kind === "primary"));
    if (this.bridge.sw.hasController !== before) this.bridge.tablesChanged();
    this.missesChanged();
  }

  /** To be called when it may have changed who wants packets that no flow matches. */
  missesChanged(): void {
    const { sw } = this.bridge;
    const before = sw.missesToController;
    sw.setMissesToController(
      [...this.conns.values()].some((conn) => conn.controllerId === 0 && conn.wants("PACKET_IN", IMPLICIT_MISS_REASON)),
    );
    if (sw.missesToController !== before) this.bridge.tablesChanged();
  }

  /** Answers one message. A promise when it takes time. */
  private handle(conn: OfConn, bytes: Uint8Array): void | Promise<void> {
    try {
      if (bytes[0] !== conn.version)
        throw new OpenFlowError("OFPBRC_BAD_VERSION", `Cannot read a message of version ${bytes[0]}`);
      const message = decodeMessage(bytes);
      const handler = HANDLERS.get(message.row.name);
      if (handler === undefined) return refuseMessage(message);
      const done = handler({ ofproto: this, conn, message, bytes });
      return done?.catch((error: unknown) => this.refuse(conn, bytes, error));
    } catch (error) {
      this.refuse(conn, bytes, error);
      return undefined;
    }
  }

  private refuse(conn: OfConn, bytes: Uint8Array, error: unknown): void {
    const name = openFlowErrorOf(error);
    if (name === undefined) this.log.error({ err: error, peer: conn.name }, "cannot handle an OpenFlow message");
    // A peer can cause any number of these.
    else if (this.nErrors++ % 100 === 0)
      this.log.info({ peer: conn.name, error: name, errors: this.nErrors, why: String(error) }, "message refused");
    conn.send(encodeError(name ?? "OFPBRC_EPERM", conn.version, bytes));
  }

  /** Changes tables or ports because a peer says so. */
  change(run: () => void, source: Source): void {
    const { version } = this.bridge.sw;
    this.source = source;
    try {
      run();
    } finally {
      this.source = undefined;
      this.flush();
      if (this.bridge.sw.version !== version) this.bridge.tablesChanged();
    }
  }

  /** Sends what monitors of flows have to report, together as far as it goes. */
  private flush(): void {
    for (const { monitors } of this.conns.values()) monitors.flush();
  }

  private flushSoon(): void {
    this.flushing ??= setImmediate(() => {
      this.flushing = undefined;
      this.flush();
    });
  }

  /** Waits until the tables as they are now hold for the next packet. */
  async inForce(): Promise<void> {
    const { sw } = this.bridge;
    if (sw.version === this.versionInForce) return;
    const { version } = sw;
    await this.bridge.settle();
    this.versionInForce = version;
  }

  // Configuration

  setFragMode(mode: FragMode): void {
    const { sw } = this.bridge;
    if (mode === "reassemble") this.log.warn({ mode }, "this way to handle fragments is not carried out");
    else if (sw.fragMode !== mode) {
      sw.setFragMode(mode);
      this.bridge.tablesChanged();
    }
  }

  tableConfig(table: number): TableConfig {
    return this.tables.get(table) ?? DEFAULT_TABLE;
  }

  tableMiss(table: number): TableMiss {
    return this.tableConfig(table).miss;
  }

  configureTable({ table, miss, eviction, vacancy }: WireTableMod): void {
    const ids = table === 0xff ? Array.from({ length: N_TABLES }, (_, i) => i) : [table];
    for (const id of ids) {
      const { vacancy: oldVacancy, ...old } = this.tableConfig(id);
      const newVacancy = vacancy === "off" ? undefined : (vacancy ?? oldVacancy);
      this.tables.set(id, {
        ...old,
        miss,
        ...(eviction === undefined ? {} : { eviction }),
        ...(newVacancy === undefined ? {} : { vacancy: newVacancy }),
      });
    }
  }

  /** Packets that a table was asked about, and those that a flow of it matched. */
  lookups(table: number): { readonly lookups: bigint; readonly matched: bigint } {
    const rules = this.bridge.sw.tableIfAny(table)?.rules ?? [];
    let matched = 0n;
    for (const rule of rules) matched += BigInt(rule.packets);
    return { lookups: matched, matched };
  }

  // Roles

  /** @throws {@link OpenFlowError} for an election that is over */
  takeGeneration(generation: bigint): void {
    const isOld = this.generation !== undefined && BigInt.asIntN(64, generation - this.generation) < 0n;
    if (isOld) throw new OpenFlowError("OFPRRFC_STALE", `Cannot take generation ${generation}: there was a newer one`);
    this.generation = generation;
  }

  /** Gives a controller a role; there is one primary at most. */
  setRole(conn: OfConn, role: Role): void {
    if (role === "primary" && conn.role !== "primary")
      for (const other of this.conns.values()) if (other.role === "primary") other.role = "secondary";
    conn.role = role;
    this.missesChanged();
  }

  [Symbol.dispose](): void {
    clearInterval(this.timer);
    clearImmediate(this.flushing);
    this.bridge.slowPath.onController = () => undefined;
    this.bridge.onPort = () => undefined;
    this.bridge.sw.observe(undefined);
  }
}
