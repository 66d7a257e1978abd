// Peers that send anything: whatever comes is answered, refused with an OpenFlow error or ends the connection that it came by,
// and nobody else notices. An error that the switch has no name for is a fault of ours.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { ByteWriter, encodeMessage, MESSAGES, type MessageRow } from "#compiler";
import { silentLog, type Log } from "#runtime";
import { Random } from "../../support/random.js";
import { seeds, timeLimit } from "../../support/fuzz-scale.js";
import { OfprotoLab } from "./lab.js";

const HEADER_BYTES = 8;
const BARRIER_REPLY = (version: number): number => (version === 1 ? 19 : 21);
const ERROR = 1;

/** A peer that says what it likes. */
class Peer implements Disposable {
  private readonly socket: Socket;
  private data: Buffer = Buffer.alloc(0);
  private readonly types: number[] = [];
  isClosed = false;
  received = 0;

  constructor(path: string) {
    this.socket = connect(path);
    this.socket.on("data", (bytes: Buffer) => this.read(bytes));
    this.socket.on("close", () => (this.isClosed = true)).on("error", () => undefined);
  }

  private read(bytes: Buffer): void {
    this.received += bytes.length;
    this.data = this.data.length === 0 ? bytes : Buffer.concat([this.data, bytes]);
    while (this.data.length >= HEADER_BYTES && this.data.length >= this.data.readUInt16BE(2)) {
      this.types.push(this.data[1]!);
      this.data = this.data.subarray(this.data.readUInt16BE(2));
    }
  }

  send(bytes: Uint8Array): void {
    if (!this.isClosed) this.socket.write(bytes);
  }

  hello(version: number): void {
    this.send(Buffer.from([version, 0, 0, HEADER_BYTES, 0, 0, 0, 0]));
  }

  pause(): void {
    this.socket.pause();
  }

  count(type: number): number {
    return this.types.filter((each) => each === type).length;
  }

  /** Whether the switch still answers. */
  async barrier(version: number): Promise<boolean> {
    const before = this.count(BARRIER_REPLY(version));
    this.send(encodeMessage("OFPT_BARRIER_REQUEST", version, 1));
    for (let i = 0; i < 1000 && !this.isClosed; i++) {
      if (this.count(BARRIER_REPLY(version)) > before) return true;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return false;
  }

  async closed(): Promise<void> {
    if (!this.isClosed) await once(this.socket, "close");
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

/** A message of a row, its body as long as it must be at least or longer, with any bytes in it. */
const anyMessage = (random: Random, row: MessageRow, version: number): Buffer => {
  const writer = new ByteWriter();
  writer.u8(version).u8(row.type).u16(0).u32(random.u32());
  if (row.stat !== undefined)
    writer
      .u16(row.stat)
      .u16(0)
      .zeros(version > 1 ? 4 : 0);
  if (row.vendor !== undefined) writer.u32(row.vendor).u32(row.subtype!);
  if (row.vendor !== undefined && row.stat !== undefined && version === 1) writer.zeros(4);
  const [least, multiple] = row.body;
  const bytes = least + multiple * random.below(multiple === 1 ? 64 : 12);
  // Zeros and small numbers come further than others.
  for (let i = 0; i < bytes; i++) writer.u8(random.oneIn(3) ? random.below(256) : random.below(4));
  return Buffer.from(writer.set16(2, writer.length).finish());
};

/** `bytes` with some of them changed. */
const damaged = (random: Random, bytes: Buffer): Buffer => {
  const copy = Buffer.from(bytes);
  for (let i = random.below(4); i >= 0; i--) {
    // The length is the framer's business.
    const at = random.below(copy.length);
    if (at !== 2 && at !== 3) copy[at] = random.below(256);
  }
  return copy;
};

describe("runtime/ofproto: hostile peers", function () {
  this.timeout(timeLimit(60_000));
  let own: OfprotoLab;
  const faults: string[] = [];

  before(async () => {
    const log: Log = {
      ...silentLog,
      error: (what: object) => void faults.push(String((what as { err?: Error }).err?.stack)),
    };
    own = await OfprotoLab.open(3, { log });
  });
  after(async () => {
    await own?.[Symbol.asyncDispose]();
  });
  afterEach(() => assert.deepEqual(faults.splice(0), []));

  it("messages of every kind in every version with any bytes in them", async () => {
    for (let version = 1; version <= 6; version++) {
      using peer = new Peer(own.socket);
      peer.hello(version);
      for (const seed of seeds(10)) {
        const random = new Random(seed * 8 + version);
        for (const row of MESSAGES as readonly MessageRow[]) {
          if (version < row.versions[0] || version > row.versions[1]) continue;
          const message = anyMessage(random, row, version);
          peer.send(random.oneIn(2) ? message : damaged(random, message));
        }
        assert.ok(await peer.barrier(version), `FUZZ_SEED=${seed}, version ${version}`);
        assert.deepEqual(faults.splice(0), [], `FUZZ_SEED=${seed}, version ${version}`);
      }
      assert.ok(peer.count(ERROR) > 0);
    }
  });

  it("bytes that are no messages end the connection, and no other", async () => {
    using good = new Peer(own.socket);
    good.hello(4);
    const random = new Random(7);
    for (let i = 0; i < 50; i++) {
      using peer = new Peer(own.socket);
      if (i % 2 === 0) peer.hello(4);
      // A length that no header can have, early or late.
      const bytes = Buffer.from(Array.from({ length: 64 }, () => random.below(256)));
      bytes.set([4, 2, 0, random.below(HEADER_BYTES)], 0);
      peer.send(bytes);
      await peer.closed();
    }
    assert.ok(await good.barrier(4));
  });

  it("half a message, and nothing behind it, keeps nobody waiting", async () => {
    const halves = Array.from({ length: 64 }, (_, i) => {
      const peer = new Peer(own.socket);
      if (i % 2 === 0) peer.hello(1 + (i % 6));
      peer.send(Buffer.from([4, 14, 0xff, 0xff, 0, 0, 0, 0, 1, 2, 3]));
      return peer;
    });
    using good = new Peer(own.socket);
    good.hello(5);
    assert.ok(await good.barrier(5));
    for (const peer of halves) peer[Symbol.dispose]();
    assert.ok(await good.barrier(5));
  });

  it("messages of 64 KiB, nested as deep as they can be", async () => {
    // clone(clone(...)), each a Nicira action around the rest.
    const nested = (bytes: number): Uint8Array => {
      const writer = new ByteWriter();
      for (let left = bytes & ~7; left >= 16; left -= 16) writer.u16(0xffff).u16(left).u32(0x2320).u16(42).zeros(6);
      return writer.finish();
    };
    using peer = new Peer(own.socket);
    peer.hello(4);
    for (const bytes of [64, 1024, 16_384, 65_000]) {
      const actions = nested(bytes);
      peer.send(
        encodeMessage("OFPT_PACKET_OUT", 4, 1, (writer) =>
          writer.u32(0xffffffff).u32(1).u16(actions.length).zeros(6).put(actions).zeros(64),
        ),
      );
      peer.send(encodeMessage("OFPT_ECHO_REQUEST", 4, 1, (writer) => writer.zeros(0xffff - HEADER_BYTES)));
      peer.send(encodeMessage("OFPT_FLOW_MOD", 4, 1, (writer) => writer.zeros(65_504)));
    }
    assert.ok(await peer.barrier(4));
  });

  it("a peer that asks and does not read is asked no more of, and the others are answered", async () => {
    using greedy = new Peer(own.socket);
    greedy.hello(4);
    assert.ok(await greedy.barrier(4));
    const conn = [...own.ofproto.connections].at(-1)!;
    greedy.pause();
    const echo = encodeMessage("OFPT_ECHO_REQUEST", 4, 1, (writer) => writer.zeros(0xffff - HEADER_BYTES));
    for (let i = 0; i < 500; i++) greedy.send(echo);
    using good = new Peer(own.socket);
    good.hello(4);
    for (let i = 0; i < 20; i++) assert.ok(await good.barrier(4));
    assert.ok(conn.connection.stats.sentBytes < 8 << 20, `${conn.connection.stats.sentBytes} bytes wait for it`);
  });
});
