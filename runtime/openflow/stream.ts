// Opens the byte streams of OpenFlow connections: TCP, TLS and UNIX sockets, as a client or listening.

import { readFileSync, rmSync } from "node:fs";
import { connect as connectNet, createServer, type NetConnectOpts, type Server, type Socket } from "node:net";
import {
  connect as connectTls,
  createSecureContext,
  createServer as createTlsServer,
  type SecureContextOptions,
} from "node:tls";
import type { Duplex } from "node:stream";
import { OffloadError, RangeViolation } from "ebpf-assembler";
import type { Target } from "./target.js";

/** A peer that cannot be reached, or a place that cannot be listened at. */
export class StreamError extends OffloadError {
  readonly code = "ESTREAM";
}

/** Files for TLS, in PEM, as the options of ovs-vswitchd name them. */
export interface TlsFiles {
  readonly privateKey: string;
  readonly certificate: string;
  /** Certificate of the authority that must have signed the peer's. */
  readonly caCert: string;
}

/** What both sides of a TLS connection need. @throws {@link RangeViolation} for a file that cannot be read or used */
const tlsOptions = (files: TlsFiles | undefined): SecureContextOptions => {
  if (files === undefined)
    throw new RangeViolation(
      "Cannot use SSL: want --private-key, --certificate and --ca-cert for an ssl or pssl target",
    );
  const read = (path: string): Buffer => {
    try {
      return readFileSync(path);
    } catch (error) {
      throw new RangeViolation(`Cannot read ${path}: ${messageOf(error)}`);
    }
  };
  const options = {
    key: read(files.privateKey),
    cert: read(files.certificate),
    ca: read(files.caCert),
    minVersion: "TLSv1.2",
  } as const;
  try {
    createSecureContext(options);
  } catch (error) {
    throw new RangeViolation(
      `Cannot use ${files.privateKey}, ${files.certificate} and ${files.caCert}: ${messageOf(error)}`,
    );
  }
  return options;
};

const addressOf = (target: Target): NetConnectOpts =>
  target.transport === "unix" ? { path: target.path } : { port: target.port, host: target.host ?? "localhost" };

/** Longest time until a peer answers. */
const CONNECT_LIMIT_MS = 10_000;

/**
 * Connects to an active target.
 * @param signal - gives it up
 * @throws {@link StreamError} (rejects) that says why not
 */
export const openStream = (target: Target, tls: TlsFiles | undefined, signal: AbortSignal): Promise<Duplex> =>
  new Promise((resolve, reject) => {
    const isTls = target.transport === "ssl";
    // Peers are named by address, so it is the authority that vouches for them, not the name (as in OVS).
    const socket = isTls
      ? connectTls({ ...addressOf(target), ...tlsOptions(tls), checkServerIdentity: () => undefined })
      : connectNet(addressOf(target));
    const settle = (error: Error | undefined): void => {
      signal.removeEventListener("abort", onAbort);
      clearTimeout(timer);
      socket.removeListener("error", settle);
      if (error === undefined) {
        socket.setNoDelay?.(true);
        resolve(socket);
        return;
      }
      socket.on("error", () => undefined).destroy();
      reject(new StreamError(`Cannot connect to ${target.text}: ${error.message}`, error));
    };
    const onAbort = (): void => settle(new StreamError("given up"));
    const timer = setTimeout(() => settle(new StreamError("no answer within 10 s")), CONNECT_LIMIT_MS).unref();
    signal.addEventListener("abort", onAbort);
    socket.once("error", settle).once(isTls ? "secureConnect" : "connect", () => settle(undefined));
  });

/** A place where peers connect to. Disposing stops listening; connections that are there live on. */
export class Listener implements Disposable {
  private constructor(
    readonly target: Target,
    private readonly server: Server,
  ) {}

  /**
   * Listens at a passive target.
   * @param onStream - gets each peer's stream and its address, once it can be used
   * @throws {@link StreamError} (rejects) that says why not
   */
  static open(
    target: Target,
    tls: TlsFiles | undefined,
    onStream: (stream: Duplex, peer: string) => void,
  ): Promise<Listener> {
    const serve = (socket: Socket): void => {
      socket.setNoDelay(true);
      onStream(socket, peerOf(target, socket));
    };
    const server =
      target.transport === "ssl"
        ? createTlsServer(
            { ...tlsOptions(tls), requestCert: true, rejectUnauthorized: true, handshakeTimeout: CONNECT_LIMIT_MS },
            serve,
          )
        : createServer(serve);
    // A peer that cannot prove who it is is no matter for the others.
    server.on("tlsClientError", (_error, socket: Socket) => void socket.destroy());
    return new Promise((resolve, reject) => {
      server.once("error", (error) =>
        reject(new StreamError(`Cannot listen at ${target.text}: ${error.message}`, error)),
      );
      if (target.transport === "unix") {
        rmSync(target.path, { force: true });
        server.listen({ path: target.path });
      } else server.listen({ port: target.port, ...(target.host === undefined ? {} : { host: target.host }) });
      server.once("listening", () => resolve(new Listener(target, server)));
    });
  }

  /** Where it listens, when the system chose the port. */
  get port(): number | undefined {
    const address = this.server.address();
    return address === null || typeof address === "string" ? undefined : address.port;
  }

  [Symbol.dispose](): void {
    this.server.close();
    if (this.target.transport === "unix") rmSync(this.target.path, { force: true });
  }
}

const peerOf = (target: Target, socket: Socket): string =>
  target.transport === "unix"
    ? target.text.replace(/^p/, "")
    : `${target.transport}:${socket.remoteAddress}:${socket.remotePort}`;

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
