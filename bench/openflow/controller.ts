// A controller of a bench, in a thread of its own: it prepares what it says before it says it, and answers packets without
// looking at them, so that what is measured is the switch. OpenFlow 1.3.

import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { parentPort, workerData } from "node:worker_threads";
import { encodeMessage, encodeOxm, matchField, newFlow, type ByteWriter } from "#compiler";
import type { Asked, Told } from "./dialogue.js";

const VERSION = 4;
const HEADER_BYTES = 8;
const HELLO = 0;
const ERROR = 1;
const ECHO_REQUEST = 2;
const PACKET_IN = 10;
const MULTIPART_REPLY = 19;
const BARRIER_REPLY = 21;
const NO_BUFFER = 0xffffffff;
const ANY = 0xffffffff;
const OUT_PORT = 2;

const { path, connections } = workerData as { readonly path: string; readonly connections: number };

const tell = (told: Told): void => parentPort!.postMessage(told);

/** Apply-actions with one output: instruction type 4, action type 0. */
const putOutput = (writer: ByteWriter): void => {
  writer.u16(4).u16(24).zeros(4).u16(0).u16(16).u32(OUT_PORT).u16(0).zeros(6);
};

/** A flow of its own for each number: TCP to an address and a port. */
const flowMod = (i: number): Uint8Array =>
  encodeMessage("OFPT_FLOW_MOD", VERSION, i, (writer) => {
    const match = { value: newFlow(), mask: newFlow() };
    matchField(match, "eth_type", Uint8Array.of(8, 0));
    matchField(match, "nw_proto", Uint8Array.of(6));
    matchField(match, "ip_dst", Uint8Array.of(20, (i >>> 16) & 0xff, (i >>> 8) & 0xff, i & 0xff));
    matchField(match, "tcp_dst", Uint8Array.of(0, 80));
    writer.u64(BigInt(i)).u64(0n).u8(0).u8(0).u16(0).u16(0).u16(100);
    writer.u32(NO_BUFFER).u32(ANY).u32(ANY).u16(0).zeros(2).put(encodeOxm(match, 3));
    putOutput(writer);
  });

const header = (type: number, xid = 0): Buffer => Buffer.from([VERSION, type, 0, HEADER_BYTES, 0, 0, 0, xid]);
const BARRIER = header(20, 1);
const DUMP = Buffer.from(
  encodeMessage("OFPST_FLOW request", VERSION, 2, (writer) =>
    writer
      .u8(0xff)
      .zeros(3)
      .u32(ANY)
      .u32(ANY)
      .zeros(4)
      .u64(0n)
      .u64(0n)
      .put(encodeOxm({ value: newFlow(), mask: newFlow() }, 3)),
  ),
);

/** Sends a packet that came in out of the other port. */
const answer = (packetIn: Buffer): Buffer => {
  const matchBytes = (packetIn.readUInt16BE(HEADER_BYTES + 18) + 7) & ~7;
  const packet = packetIn.subarray(HEADER_BYTES + 16 + matchBytes + 2);
  const out = Buffer.alloc(HEADER_BYTES + 16 + 16 + packet.length);
  out.set([VERSION, 13], 0);
  out.writeUInt16BE(out.length, 2);
  out.writeUInt32BE(NO_BUFFER, 8);
  out.writeUInt32BE(1, 12);
  out.writeUInt16BE(16, 16);
  out.writeUInt16BE(16, 26);
  out.writeUInt32BE(OUT_PORT, 28);
  packet.copy(out, 40);
  return out;
};

class Peer {
  readonly socket: Socket;
  private rest: Buffer = Buffer.alloc(0);
  private onBarrier: () => void = () => undefined;
  private onDump: () => void = () => undefined;
  counts = { flows: 0, errors: 0, packetIns: 0 };

  constructor() {
    this.socket = connect(path);
    this.socket.on("data", (bytes: Buffer) => this.read(bytes));
    this.socket.write(header(HELLO));
  }

  private read(bytes: Buffer): void {
    let data = this.rest.length === 0 ? bytes : Buffer.concat([this.rest, bytes]);
    const answers: Buffer[] = [];
    while (data.length >= HEADER_BYTES && data.length >= data.readUInt16BE(2)) {
      const message = data.subarray(0, data.readUInt16BE(2));
      data = data.subarray(message.length);
      const reply = this.take(message);
      if (reply !== undefined) answers.push(reply);
    }
    this.rest = data;
    if (answers.length > 0) this.socket.write(Buffer.concat(answers));
  }

  private take(message: Buffer): Buffer | undefined {
    switch (message[1]) {
      case PACKET_IN:
        this.counts.packetIns++;
        return answer(message);
      case BARRIER_REPLY:
        this.onBarrier();
        return undefined;
      case MULTIPART_REPLY:
        for (let at = 16; at < message.length; at += message.readUInt16BE(at)) this.counts.flows++;
        if ((message.readUInt16BE(10) & 1) === 0) this.onDump();
        return undefined;
      case ERROR:
        this.counts.errors++;
        return undefined;
      case ECHO_REQUEST: {
        const reply = Buffer.from(message);
        reply[1] = 3;
        return reply;
      }
      default:
        return undefined;
    }
  }

  /** Sends something and waits until all of it is in force. */
  async send(bytes: Buffer): Promise<void> {
    const done = new Promise<void>((resolve) => (this.onBarrier = resolve));
    if (!this.socket.write(bytes)) await once(this.socket, "drain");
    this.socket.write(BARRIER);
    await done;
  }

  async dump(): Promise<number> {
    this.counts.flows = 0;
    const done = new Promise<void>((resolve) => (this.onDump = resolve));
    this.socket.write(DUMP);
    await done;
    return this.counts.flows;
  }
}

const peers = Array.from({ length: connections }, () => new Peer());

/** Flow mods for each connection, ready to be sent. */
const prepare = (from: number, each: number): Buffer[] =>
  peers.map((_, peer) => Buffer.concat(Array.from({ length: each }, (_, i) => flowMod(from + peer * each + i))));

const sum = (count: (peer: Peer) => number): number => peers.reduce((total, peer) => total + count(peer), 0);

const carryOut = async (asked: Asked): Promise<Told> => {
  if (asked.kind === "counts")
    return { ms: 0, count: sum(({ counts }) => counts.packetIns), errors: sum(({ counts }) => counts.errors) };
  const mods = asked.kind === "add" ? prepare(asked.from, asked.each) : [];
  const start = performance.now();
  const counts =
    asked.kind === "add"
      ? await Promise.all(peers.map((peer, i) => peer.send(mods[i]!))).then(() => [asked.each * peers.length])
      : await Promise.all(peers.map((peer) => peer.dump()));
  const ms = performance.now() - start;
  return { ms, count: counts.reduce((a, b) => a + b, 0), errors: sum(({ counts: { errors } }) => errors) };
};

parentPort!.on("message", (asked: Asked) => void carryOut(asked).then(tell));
await Promise.all(peers.map((peer) => peer.send(Buffer.alloc(0))));
tell({ ms: 0, count: connections, errors: 0 });
