// A reliable connection (OVS: rconn): connects to a controller, again and again with longer and longer pauses, notices when the
// peer is silent, and gives it up then. The pauses and probes are those of OVS's lib/reconnect.c.

import type { Log } from "../log.js";
import { Connection, type Closed, type ConnectionEvents } from "./connection.js";
import { openStream, type TlsFiles } from "./stream.js";
import type { Target } from "./target.js";

/** Pause before a second attempt, and the longest one (ovs-vswitchd.conf.db(5), Controller: max_backoff). */
const MIN_BACKOFF_MS = 1000;
const MAX_BACKOFF_MS = 8000;
/** Silence after which the peer is asked whether it is there (Controller: inactivity_probe); as long again ends the connection. */
export const PROBE_MS = 5000;

export interface RconnOptions {
  readonly target: Target;
  readonly tls?: TlsFiles;
  readonly versions?: number;
  /** 0: never. */
  readonly probeMs?: number;
  readonly maxBackoffMs?: number;
  readonly clock: () => number;
  readonly log: Log;
}

/** Where the state machine is. */
export type RconnState = "BACKOFF" | "CONNECTING" | "ACTIVE" | "IDLE" | "VOID";

/** Disposing ends it for good. */
export class Rconn implements Disposable {
  state: RconnState = "BACKOFF";
  /** When the last connection was open, and when it ended; undefined for never. */
  connectedMs: number | undefined;
  disconnectedMs: number | undefined;
  /** Why the last attempt or connection failed. */
  lastError: string | undefined;
  private connection: Connection | undefined;
  private backoffMs = 0;
  private timer: NodeJS.Timeout | undefined;
  private readonly abort = new AbortController();

  constructor(
    private readonly options: RconnOptions,
    private readonly events: ConnectionEvents,
  ) {
    this.connect();
  }

  /** The connection while there is one with an agreed version. */
  get current(): Connection | undefined {
    return this.connection?.version === 0 ? undefined : this.connection;
  }

  private connect(): void {
    const { target, tls, clock, versions } = this.options;
    this.state = "CONNECTING";
    openStream(target, tls, this.abort.signal).then(
      (stream) => {
        this.connection = new Connection(target.text, stream, this.own, clock, versions);
        this.probeLater();
      },
      (error: unknown) =>
        this.failed({ reason: error instanceof Error ? error.message : String(error), wasOpen: false }),
    );
  }

  private readonly own: ConnectionEvents = {
    onOpen: (connection) => {
      this.state = "ACTIVE";
      this.connectedMs = this.options.clock();
      this.options.log.info({ controller: connection.name, version: connection.version }, "connected");
      this.events.onOpen(connection);
    },
    onMessage: (connection, message) => this.events.onMessage(connection, message),
    onClosed: (connection, closed) => {
      this.connection = undefined;
      if (closed.wasOpen) this.events.onClosed(connection, closed);
      this.failed(closed);
    },
  };

  /** Tries again later. */
  private failed({ reason, wasOpen }: Closed): void {
    if (this.abort.signal.aborted) return;
    const { clock, log, target, maxBackoffMs = MAX_BACKOFF_MS } = this.options;
    const nowMs = clock();
    // A connection that held for longer than the pause before it was a good one.
    const held = wasOpen ? nowMs - (this.connectedMs ?? nowMs) : -1;
    const longer = this.backoffMs < MIN_BACKOFF_MS ? MIN_BACKOFF_MS : this.backoffMs * 2;
    this.backoffMs = Math.min(maxBackoffMs, held >= this.backoffMs ? MIN_BACKOFF_MS : longer);
    if (wasOpen) this.disconnectedMs = nowMs;
    if (reason !== this.lastError || wasOpen) log.warn({ controller: target.text, reason }, "not connected");
    this.lastError = reason;
    this.state = "BACKOFF";
    this.after(this.backoffMs, () => this.connect());
  }

  /** Looks at the time of the last message from the peer when it could be too long ago. */
  private probeLater(): void {
    const { probeMs = PROBE_MS, clock } = this.options;
    if (probeMs === 0 || this.connection === undefined) return;
    const silentMs = clock() - this.connection.heardMs;
    this.after(Math.max(1, probeMs * (this.state === "IDLE" ? 2 : 1) - silentMs), () => this.probe(probeMs));
  }

  private probe(probeMs: number): void {
    const { connection } = this;
    if (connection === undefined) return;
    const silentMs = this.options.clock() - connection.heardMs;
    if (silentMs < probeMs) {
      if (this.state === "IDLE") this.state = "ACTIVE";
    } else if (silentMs >= 2 * probeMs) {
      connection.close(`no response to inactivity probe after ${Math.round(silentMs / 1000)} seconds`);
      return;
    } else if (this.state === "ACTIVE") {
      this.state = "IDLE";
      connection.probe();
    }
    this.probeLater();
  }

  private after(ms: number, then: () => void): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(then, ms);
  }

  [Symbol.dispose](): void {
    this.state = "VOID";
    clearTimeout(this.timer);
    this.abort.abort();
    this.connection?.[Symbol.dispose]();
  }
}
