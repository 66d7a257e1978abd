// One OpenFlow connection over any stream: hello and version, echo, and messages in both directions with bounded queues.
//
// Received messages are handled a few at a time, so that a peer that floods one connection keeps nobody else waiting; while too
// many wait, the socket is not read, and TCP holds the peer back. What is sent while the peer does not read piles up here:
// whoever sends unasked-for messages looks at `isCongested` first, and a peer that lets answers pile up beyond reason is cut off.

import type { Duplex } from "node:stream";
import { CodecError } from "ebpf-assembler";
import { takeTurns } from "./turns.js";
import { Framer, HEADER_SIZE } from "./framer.js";
import { ALL_VERSIONS, decodeHello, encodeHello, encodeHelloFailed, highestVersion } from "./hello.js";

const ECHO_REQUEST = 2;
const ECHO_REPLY = 3;

/** Messages handled before other connections get their turn. */
const MESSAGES_PER_TURN = 16;
/** Bytes of messages that wait to be handled, above which the socket is not read. */
const BACKLOG_MAX = 1 << 20;
/** Bytes that wait to be handled, below which it is read again. */
const BACKLOG_LOW = 1 << 18;
/** Bytes that wait to be sent, above which nothing more is sent unasked for. */
const CONGESTED = 1 << 20;
/** Bytes that wait to be sent, above which the peer is not worth waiting for: a dump of a million flows is below it. */
const SEND_MAX = 1 << 28;
/** Bytes that are gathered before they are sent. */
const GATHERED_MAX = 1 << 15;
/** Time that a peer has to say which versions it speaks. */
const HELLO_MS = 10_000;
/** Time that a closed connection has for its last words. */
const LINGER_MS = 1000;

/** Why a connection ended. */
export interface Closed {
  /** A sentence for logs. */
  readonly reason: string;
  /** Whether messages were exchanged: hellos were enough alike. */
  readonly wasOpen: boolean;
}

export interface ConnectionEvents {
  /** The version is agreed on: {@link Connection.version}. */
  readonly onOpen: (connection: Connection) => void;
  /**
   * A message that is not about the connection itself; valid only until the call has ended. The next one of this
   * connection waits for the promise, if there is one, which does not reject.
   */
  readonly onMessage: (connection: Connection, message: Buffer) => void | Promise<void>;
  /** Last of all, once. */
  readonly onClosed: (connection: Connection, closed: Closed) => void;
}

/** Messages and bytes since the connection began. */
export interface ConnectionStats {
  readonly received: number;
  readonly sent: number;
  readonly receivedBytes: number;
  readonly sentBytes: number;
}

/** Disposing closes the stream. */
export class Connection implements Disposable {
  /** Wire version; 0 until both hellos are there. */
  version = 0;
  /** When the last bytes came, in the milliseconds of the caller's clock. */
  heardMs: number;
  private readonly framer = new Framer();
  private backlog: Buffer[] = [];
  private backlogBytes = 0;
  private next = 0;
  private hasTurn = false;
  /** What is sent goes out together with what else is sent by the work in hand. */
  private gathered: Uint8Array[] = [];
  private gatheredBytes = 0;
  /** A message is being handled that takes time. */
  private isBusy = false;
  private hasEnded = false;
  private readonly helloTimer: NodeJS.Timeout;
  private isClosed = false;
  private nextXid = 1;
  private readonly counters = { received: 0, sent: 0, receivedBytes: 0, sentBytes: 0 };

  /**
   * @param stream - connected; owned from now on
   * @param versions - bitmap of what we speak
   * @param clock - milliseconds that never go back
   */
  constructor(
    readonly name: string,
    private readonly stream: Duplex,
    private readonly events: ConnectionEvents,
    private readonly clock: () => number,
    private readonly versions = ALL_VERSIONS,
  ) {
    this.heardMs = clock();
    stream.on("data", (bytes: Buffer) => this.onData(bytes));
    stream.on("error", (error: Error) => this.close(error.message));
    stream.on("end", () => this.onEnd());
    stream.on("close", () => this.close("the connection was closed"));
    this.write(encodeHello(versions, this.xid()));
    this.helloTimer = setTimeout(() => this.close("no hello came"), HELLO_MS).unref();
  }

  get stats(): ConnectionStats {
    return this.counters;
  }

  /** Whether the peer reads so slowly that messages it did not ask for should be dropped. */
  get isCongested(): boolean {
    return this.stream.writableLength + this.gatheredBytes > CONGESTED;
  }

  /** Settles when the peer has read most of what was sent, or the connection has ended. */
  async drained(): Promise<void> {
    this.flush();
    while (this.isCongested && !this.isClosed)
      await new Promise<void>((resolve) => {
        const done = (): void => {
          this.stream.off("drain", done).off("close", done);
          resolve();
        };
        this.stream.on("drain", done).on("close", done);
      });
  }

  /** A transaction id for a message of ours. */
  xid(): number {
    this.nextXid = (this.nextXid + 1) >>> 0;
    return this.nextXid;
  }

  /** Sends a whole message, not copied. Nothing happens after the end. */
  send(message: Uint8Array): void {
    if (this.isClosed) return;
    if (this.stream.writableLength > SEND_MAX) this.close("the peer does not read what it asked for");
    else this.write(message);
  }

  /** Asks the peer whether it is there; its answer counts as hearing from it. */
  probe(): void {
    const request = Buffer.alloc(HEADER_SIZE);
    request.writeUInt8(this.version, 0);
    request.writeUInt8(ECHO_REQUEST, 1);
    request.writeUInt16BE(HEADER_SIZE, 2);
    this.send(request);
  }

  private write(message: Uint8Array): void {
    this.counters.sent++;
    this.counters.sentBytes += message.length;
    if (this.gathered.push(message) === 1) process.nextTick(this.flush);
    this.gatheredBytes += message.length;
    if (this.gatheredBytes > GATHERED_MAX) this.flush();
  }

  private readonly flush = (): void => {
    const { gathered } = this;
    if (gathered.length === 0) return;
    this.gathered = [];
    this.gatheredBytes = 0;
    this.stream.write(gathered.length === 1 ? gathered[0]! : Buffer.concat(gathered));
  };

  private onData(bytes: Buffer): void {
    if (this.isClosed) return;
    this.heardMs = this.clock();
    this.counters.receivedBytes += bytes.length;
    try {
      // The stream gives each buffer away, so that views of it may wait.
      this.framer.push(bytes, (message) => {
        this.backlog.push(message);
        this.backlogBytes += message.length;
      });
    } catch (error) {
      this.close(messageOf(error));
      return;
    }
    if (this.backlogBytes > BACKLOG_MAX) this.stream.pause();
    this.workLater();
  }

  private workLater(): void {
    if (this.isClosed || this.isBusy || this.hasTurn) return;
    this.hasTurn = true;
    takeTurns(this);
  }

  /** What came before the end is handled first. */
  private onEnd(): void {
    this.hasEnded = true;
    this.workLater();
  }

  /** Handles some of what waits. Returns whether there is more. */
  work(): boolean {
    this.hasTurn = false;
    if (this.isCongested) {
      // Who does not read answers is not asked for more questions.
      void this.drained().then(() => this.workLater());
      return false;
    }
    for (let i = 0; i < MESSAGES_PER_TURN && this.next < this.backlog.length && !this.isClosed; i++) {
      const message = this.backlog[this.next++]!;
      this.backlogBytes -= message.length;
      const done = this.handle(message);
      if (done === undefined) continue;
      this.isBusy = true;
      void done.finally(() => {
        this.isBusy = false;
        if (!this.isClosed) this.workLater();
      });
      return false;
    }
    if (this.isClosed) return false;
    if (this.backlogBytes < BACKLOG_LOW && this.stream.isPaused()) this.stream.resume();
    if (this.next < this.backlog.length) {
      this.hasTurn = true;
      return true;
    }
    this.backlog = [];
    this.next = 0;
    if (this.hasEnded) this.close("the peer closed the connection");
    return false;
  }

  /** A promise for a message that takes time. */
  private handle(message: Buffer): Promise<void> | undefined {
    this.counters.received++;
    if (this.version === 0) {
      this.greet(message);
      return undefined;
    }
    const type = message.readUInt8(1);
    if (type === ECHO_REQUEST) {
      const reply = Buffer.from(message);
      reply.writeUInt8(ECHO_REPLY, 1);
      this.send(reply);
    } else if (type !== ECHO_REPLY) return this.events.onMessage(this, message) ?? undefined;
    return undefined;
  }

  /** The first message must be a hello. */
  private greet(message: Buffer): void {
    let theirs: number;
    try {
      theirs = decodeHello(message);
    } catch (error) {
      this.close(messageOf(error));
      return;
    }
    const common = this.versions & theirs;
    if (common === 0) {
      this.write(encodeHelloFailed(this.versions, theirs, message.readUInt32BE(4)));
      this.close("no version of OpenFlow in common with the peer");
      return;
    }
    clearTimeout(this.helloTimer);
    this.version = highestVersion(common);
    this.events.onOpen(this);
  }

  /** Ends the connection: what is queued to be sent is sent, as far as the peer takes it. */
  close(reason: string): void {
    if (this.isClosed) return;
    this.isClosed = true;
    clearTimeout(this.helloTimer);
    this.backlog = [];
    this.flush();
    this.stream.end();
    // A peer that does not read must not keep the stream.
    this.stream.resume();
    setTimeout(() => this.stream.destroy(), LINGER_MS).unref();
    this.events.onClosed(this, { reason, wasOpen: this.version !== 0 });
  }

  [Symbol.dispose](): void {
    this.close("closed by this side");
    this.stream.destroy();
  }
}

const messageOf = (error: unknown): string => (error instanceof CodecError ? error.message : String(error));
