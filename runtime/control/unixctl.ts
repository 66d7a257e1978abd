// The control socket: JSON-RPC 1.0 over a UNIX stream socket, as OVS daemons speak it, so that `ovs-appctl -t SOCKET
// COMMAND ARG...` works on ofxdpd. A request is {"id", "method", "params"} with string parameters; the answer has a
// "result" string, or an "error" string, and null for the other. Commands are data; two of them every server has.

import { chmodSync, rmSync } from "node:fs";
import { createServer, connect, type Server, type Socket } from "node:net";
import { z } from "zod";
import { OffloadError, type ExitCode } from "ebpf-assembler";
import { JsonStream } from "./json-stream.js";

/** One command of a server. */
export interface Command {
  /** As `dpctl/dump-flows`. */
  readonly name: string;
  /** Arguments, for the list of commands: `"[-m] [NAMES]"`. */
  readonly usage: string;
  /** Fewest and most arguments. */
  readonly args: readonly [min: number, max: number];
  /**
   * Does it.
   * @returns the text to print; a newline is added when the last line has none
   * @throws anything: its message becomes the error text
   */
  run(args: readonly string[]): string | Promise<string>;
}

const request = z.object({
  id: z.union([z.number(), z.string(), z.null()]),
  method: z.string(),
  params: z.array(z.string()),
});

const answer = z.object({
  id: z.union([z.number(), z.string(), z.null()]),
  result: z.unknown(),
  error: z.unknown(),
});

/** A command that the peer refused or could not do. */
export class ControlError extends OffloadError {
  readonly code = "ECONTROL";

  constructor(
    message: string,
    private readonly exit: ExitCode = 2,
    cause?: unknown,
  ) {
    super(message, cause);
  }

  override get exitCode(): ExitCode {
    return this.exit;
  }
}

const withNewline = (text: string): string => (text === "" || text.endsWith("\n") ? text : `${text}\n`);

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** The control socket of a daemon. Disposing closes it and removes its file. */
export class UnixctlServer implements Disposable {
  private readonly commands = new Map<string, Command>();
  private readonly sockets = new Set<Socket>();

  private constructor(
    readonly path: string,
    private readonly server: Server,
  ) {}

  /**
   * Listens at `path`; a stale socket file there is replaced.
   * @throws {@link ControlError} when it cannot
   */
  static async listen(path: string, commands: readonly Command[]): Promise<UnixctlServer> {
    const net = createServer();
    const server = new UnixctlServer(path, net);
    for (const command of [...commands, server.listCommands]) server.commands.set(command.name, command);
    net.on("connection", (socket) => server.serve(socket));
    rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      net.once("error", (error) => reject(new ControlError(`Cannot listen on ${path}: ${error.message}`, 1, error)));
      net.listen(path, resolve);
    });
    chmodSync(path, 0o700);
    return server;
  }

  private readonly listCommands: Command = {
    name: "list-commands",
    usage: "",
    args: [0, 0],
    run: () =>
      "The available commands are:\n" +
      [...this.commands.values()]
        .sort((a, b) => (a.name < b.name ? -1 : 1))
        .map(({ name, usage }) => `  ${name.padEnd(23)} ${usage}`.trimEnd() + "\n")
        .join(""),
  };

  private serve(socket: Socket): void {
    const stream = new JsonStream();
    this.sockets.add(socket);
    socket.setEncoding("utf8");
    socket.on("close", () => this.sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk: string) => {
      try {
        for (const message of stream.push(chunk)) void this.handle(socket, message);
      } catch {
        // Not JSON: nothing more on this connection can be understood.
        socket.destroy();
      }
    });
  }

  private async handle(socket: Socket, message: unknown): Promise<void> {
    const parsed = request.safeParse(message);
    if (!parsed.success) {
      socket.destroy();
      return;
    }
    const { id, method, params } = parsed.data;
    let reply: { result: string | null; error: string | null };
    try {
      reply = { result: withNewline(await this.run(method, params)), error: null };
    } catch (error) {
      reply = { result: null, error: withNewline(messageOf(error)) };
    }
    if (!socket.destroyed) socket.write(JSON.stringify({ id, ...reply }));
  }

  /** Runs a command as if it had come over the socket. @throws whatever it throws, {@link ControlError} */
  async run(name: string, args: readonly string[]): Promise<string> {
    const command = this.commands.get(name);
    if (command === undefined)
      throw new ControlError(`"${name}" is not a valid command (use "list-commands" to see a list of valid commands)`);
    const [min, max] = command.args;
    if (args.length < min) throw new ControlError(`"${name}" command requires at least ${min} arguments`);
    if (args.length > max) throw new ControlError(`"${name}" command takes at most ${max} arguments`);
    return command.run(args);
  }

  [Symbol.dispose](): void {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
    rmSync(this.path, { force: true });
  }
}

/**
 * Sends one command to a daemon and waits for the answer.
 * @throws {@link ControlError} when nobody listens, and with the daemon's words when it refuses
 */
export const unixctlCall = (path: string, method: string, params: readonly string[]): Promise<string> =>
  new Promise((resolve, reject) => {
    const stream = new JsonStream();
    const socket = connect(path);
    const fail = (error: ControlError): void => {
      socket.destroy();
      reject(error);
    };
    socket.setEncoding("utf8");
    socket.on("connect", () => socket.write(JSON.stringify({ id: 0, method, params })));
    socket.on("error", (error) => fail(new ControlError(`Cannot talk to ${path}: ${error.message}`, 1, error)));
    socket.on("close", () => fail(new ControlError(`Cannot talk to ${path}: it closed the connection`, 1)));
    socket.on("data", (chunk: string) => {
      try {
        const parsed = answer.safeParse(stream.push(chunk)[0]);
        if (!parsed.success) return;
        socket.removeAllListeners("close");
        socket.destroy();
        const { result, error } = parsed.data;
        if (error !== null && error !== undefined) reject(new ControlError(String(error).trimEnd()));
        else resolve(String(result ?? ""));
      } catch (error) {
        fail(new ControlError(`Cannot understand the answer of ${path}: ${messageOf(error)}`, 1, error));
      }
    });
  });
