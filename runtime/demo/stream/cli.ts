// Ends of streams for the demo, to be run in namespaces: what iperf3 does, for machines without it, and what it does not.
//
//   tcp-serve PORT                    counts what one connection brings
//   tcp-send ADDRESS PORT SECONDS     sends as fast as it can
//   tcp-try ADDRESS PORT MS           tells whether a connection comes about
//   udp-serve PORT PACKETS            counts datagrams until all are there, or none comes for a second
//   udp-send ADDRESS PORT FLOWS EACH  sends datagrams from so many source ports
//
// A server says "listening" on stderr. The result is one line of JSON on stdout.

import { createSocket, type Socket } from "node:dgram";
import { connect, createServer, isIPv6 } from "node:net";

const CHUNK = new Uint8Array(128 * 1024);
const DATAGRAM = new Uint8Array(64);
const UDP_SILENCE_MS = 1000;
/** Datagrams between two pauses, so that small socket buffers do not overflow. */
const UDP_BURST = 20;

const answer = (facts: Readonly<Record<string, unknown>>): void =>
  void process.stdout.write(`${JSON.stringify(facts)}\n`);
const listening = (): void => void process.stderr.write("listening\n");
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const tcpServe = (port: number): void => {
  const server = createServer((socket) => {
    let bytes = 0;
    let firstMs = 0;
    let lastMs = 0;
    socket.on("data", (chunk) => {
      lastMs = performance.now();
      if (bytes === 0) firstMs = lastMs;
      bytes += chunk.length;
    });
    socket.on("error", () => undefined);
    socket.on("close", () => {
      answer({ bytes, seconds: (lastMs - firstMs) / 1000 });
      server.close();
    });
  });
  server.listen(port, listening);
};

const tcpSend = (address: string, port: number, seconds: number): void => {
  const socket = connect(port, address, () => {
    const endMs = performance.now() + seconds * 1000;
    const send = (): void => {
      while (performance.now() < endMs) if (!socket.write(CHUNK)) return;
      socket.end();
    };
    socket.on("drain", send);
    send();
  });
};

const tcpTry = (address: string, port: number, ms: number): void => {
  const socket = connect(port, address);
  const end = (outcome: string): void => {
    clearTimeout(timer);
    socket.destroy();
    answer({ outcome });
  };
  const timer = setTimeout(() => end("timeout"), ms);
  socket.once("connect", () => end("connected"));
  socket.once("error", (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
};

const udpServe = (port: number, want: number): void => {
  const socket = createSocket("udp4");
  let packets = 0;
  let timer: NodeJS.Timeout | undefined;
  const end = (): void => {
    clearTimeout(timer);
    answer({ packets });
    socket.close();
  };
  socket.on("message", () => {
    clearTimeout(timer);
    if (++packets === want) end();
    else timer = setTimeout(end, UDP_SILENCE_MS);
  });
  socket.bind(port, listening);
};

const udpSend = async (address: string, port: number, flows: number, each: number): Promise<void> => {
  const send = (socket: Socket): Promise<void> =>
    new Promise((resolve, reject) => {
      socket.send(DATAGRAM, port, address, (error) => (error === null ? resolve() : reject(error)));
    });
  const sockets = Array.from({ length: flows }, () => createSocket(isIPv6(address) ? "udp6" : "udp4"));
  let packets = 0;
  for (let i = 0; i < each; i++) {
    for (const socket of sockets) {
      await send(socket);
      if (++packets % UDP_BURST === 0) await sleep(1);
    }
  }
  for (const socket of sockets) socket.close();
  answer({ packets });
};

const [command, ...args] = process.argv.slice(2);
const text = (i: number): string => args[i] ?? "";
const number = (i: number): number => Number(args[i]);

const COMMANDS: Readonly<Record<string, () => void | Promise<void>>> = {
  "tcp-serve": () => tcpServe(number(0)),
  "tcp-send": () => tcpSend(text(0), number(1), number(2)),
  "tcp-try": () => tcpTry(text(0), number(1), number(2)),
  "udp-serve": () => udpServe(number(0), number(1)),
  "udp-send": () => udpSend(text(0), number(1), number(2), number(3)),
};

const run = COMMANDS[command ?? ""];
if (run === undefined) {
  process.stderr.write(`Unknown command ${command}: want one of ${Object.keys(COMMANDS).join(", ")}\n`);
  process.exitCode = 1;
} else await run();
