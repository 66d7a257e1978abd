// Decoders of bytes under random, mutated and cut bytes: OpenFlow messages, actions and matches, packets, captures. Each is read
// or refused with the error that is its own, in time that does not run away with its length; and a running switch that is sent
// such messages answers each and goes on.

import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { inspect } from "node:util";
import { CodecError, NotSupportedError } from "ebpf-assembler";
import {
  decodeActions,
  decodeInstructions,
  decodeNxm,
  decodeOxm,
  extract,
  formatMessage,
  formatPacket,
  newFlow,
  newLayers,
  OpenFlowError,
  readPcap,
  writePcap,
  type MinorVersion,
} from "#compiler";
import { silentLog, type Log } from "#runtime";
import { OfprotoLab } from "../runtime/ofproto/lab.js";
import { seeds, timeLimit } from "../support/fuzz-scale.js";
import { randomMessages } from "../support/random-messages.js";
import { randomPacket, randomPackets } from "../support/random-packets.js";
import { Random } from "../support/random.js";

/** Nothing takes longer than this, however busy the machine is. */
const LIMIT_MS = 2000;
/** Text is at most so many times as long as the bytes that it is of: a hex dump is five times, lists of flags are worse. */
const TEXT_PER_BYTE = 400;
const TEXT_AT_LEAST = 10_000;

const inTime = <T>(what: () => string, run: () => T): T => {
  const started = performance.now();
  const result = run();
  const took = performance.now() - started;
  assert.ok(took < LIMIT_MS, `${took.toFixed(0)} ms: ${what()}`);
  return result;
};

const HUGE = [0, 1, 3, 4, 7, 8, 0x7fff, 0x8000, 0xfff8, 0xffff] as const;

/** One change: bits, bytes, a 16-bit number that may be a length, bytes left out, put in or taken from another. */
const mutate = (r: Random, bytes: Uint8Array, other: Uint8Array): Uint8Array => {
  const copy = bytes.slice();
  if (copy.length < 2) return r.bytes(r.below(40));
  const at = r.below(copy.length - 1);
  switch (r.below(7)) {
    case 0:
      copy[at]! ^= 1 << r.below(8);
      return copy;
    case 1:
      copy[at] = r.below(256);
      return copy;
    case 2: {
      const value = r.pick(HUGE);
      copy.set([value >>> 8, value & 0xff], at & ~1);
      return copy;
    }
    case 3:
      return copy.subarray(0, at);
    case 4:
      return Uint8Array.from([...copy.subarray(0, at), ...r.bytes(r.below(16)), ...copy.subarray(at)]);
    case 5:
      return Uint8Array.from([...copy.subarray(0, at), ...other.subarray(r.below(other.length + 1))]);
    default:
      return Uint8Array.from([...copy.subarray(0, at), ...copy.subarray(Math.min(copy.length, at + 1 + r.below(16)))]);
  }
};

const MAX_MESSAGE = 0xffff;

/** The message with its length right again, so that what is wrong is inside. */
const fitted = (message: Uint8Array): Uint8Array => {
  const copy = message.slice(0, MAX_MESSAGE);
  if (copy.length >= 4) copy.set([copy.length >>> 8, copy.length & 0xff], 2);
  return copy;
};

const mutatedMessage = (r: Random, messages: readonly Uint8Array[]): Uint8Array => {
  let message = r.pick(messages);
  for (let n = r.below(5); n > 0; n--) message = mutate(r, message, r.pick(messages));
  return r.oneIn(4) ? message : fitted(message);
};

/** Random bytes behind a header that a switch reads. */
const noise = (r: Random): Uint8Array =>
  fitted(Uint8Array.from([r.between(1, 6), r.below(40), 0, 0, ...r.bytes(4 + r.below(200))]));

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

describe("decoders of bytes under fuzz", function () {
  this.timeout(timeLimit(120_000));

  it("formatMessage() prints or refuses whatever comes, in few words", () => {
    let printed = 0;
    let refused = 0;
    for (const seed of seeds(6)) {
      const r = new Random(seed);
      const messages = randomMessages(r, 1);
      for (let i = 0; i < 1500; i++) {
        const message = r.oneIn(8) ? noise(r) : mutatedMessage(r, messages);
        try {
          const text = inTime(
            () => hex(message),
            () => formatMessage(message),
          );
          const most = TEXT_AT_LEAST + TEXT_PER_BYTE * message.length;
          assert.ok(text.length < most, `${text.length} characters for ${hex(message)}`);
          if (text.includes("decode error")) refused++;
          else printed++;
        } catch (error) {
          assert.ok(error instanceof NotSupportedError, `${String(error)}: ${hex(message)}`);
        }
      }
    }
    assert.ok(printed > 500 && refused > 500, `${printed} printed, ${refused} refused`);
  });

  const DECODERS: Readonly<Record<string, (bytes: Uint8Array, minor: MinorVersion) => unknown>> = {
    "decodeActions()": decodeActions,
    "decodeInstructions()": decodeInstructions,
    "decodeNxm()": (bytes) => decodeNxm(bytes, 0, bytes.length),
    "decodeOxm()": (bytes) => decodeOxm(bytes, 0),
  };

  for (const [name, decode] of Object.entries(DECODERS)) {
    it(`${name} reads or refuses whatever comes`, () => {
      for (const seed of seeds(4)) {
        const r = new Random(seed);
        const messages = randomMessages(r, 1);
        for (let i = 0; i < 2000; i++) {
          const bytes = r.oneIn(3) ? r.bytes(r.below(80)) : mutatedMessage(r, messages).subarray(8 * r.below(8));
          const minor = r.below(6) as MinorVersion;
          try {
            inTime(
              () => hex(bytes),
              () => decode(bytes, minor),
            );
          } catch (error) {
            assert.ok(error instanceof OpenFlowError, `${String(error)}: version ${minor}: ${hex(bytes)}`);
          }
        }
      }
    });
  }

  it("extract() and formatPacket() take packets of any bytes and length", () => {
    const flow = newFlow();
    const layers = newLayers();
    for (const seed of seeds(6)) {
      const r = new Random(seed);
      for (let i = 0; i < 1000; i++) {
        let packet = r.oneIn(6) ? r.bytes(r.below(300)) : randomPacket(r);
        for (let n = r.below(4); n > 0; n--) packet = mutate(r, packet, randomPacket(r));
        inTime(
          () => hex(packet),
          () => {
            extract(packet, packet.length, 1, flow, layers);
            assert.ok(
              layers.l3 <= packet.length && layers.l4 <= packet.length && layers.end <= packet.length,
              hex(packet),
            );
            formatPacket(packet);
          },
        );
      }
    }
  });

  it("readPcap() reads or refuses whatever comes", () => {
    for (const seed of seeds(4)) {
      const r = new Random(seed);
      const file = writePcap(randomPackets(seed, 6).map((packet, i) => ({ packet, timeNs: BigInt(i) })));
      for (let i = 0; i < 1000; i++) {
        let bytes = file;
        for (let n = 1 + r.below(4); n > 0; n--) bytes = mutate(r, bytes, file);
        try {
          const records = inTime(
            () => hex(bytes),
            () => readPcap(bytes),
          );
          const size = records.reduce((sum, { packet }) => sum + packet.length, 0);
          assert.ok(size <= bytes.length, `${size} bytes of packets in a file of ${bytes.length}`);
        } catch (error) {
          assert.ok(
            error instanceof CodecError || error instanceof NotSupportedError,
            `${String(error)}: ${hex(bytes)}`,
          );
        }
      }
    }
  });
});

const HELLO = (version: number): Uint8Array => Uint8Array.from([version, 0, 0, 8, 0, 0, 0, 1]);
const ECHO = (version: number): Uint8Array => Uint8Array.from([version, 2, 0, 8, 0, 0, 0, 0x77]);
const TYPE = { error: 1, echoReply: 3 } as const;

/** A peer may wait for an answer for so long, and when none must come, does for so long. */
const ANSWER_MS = 20_000;
const SILENCE_MS = 300;

interface Heard {
  readonly errors: number;
  readonly echo: boolean;
}

/** Sends bytes over a connection of its own. @returns what came until an echo was answered, the peer hung up, or time was over */
const talk = (path: string, bytes: Uint8Array, waitMs: number): Promise<Heard> =>
  new Promise((resolve) => {
    const socket: Socket = connect(path);
    let errors = 0;
    let seen = Buffer.alloc(0);
    const done = (echo: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ errors, echo });
    };
    const timer = setTimeout(() => done(false), waitMs);
    socket.on("error", () => done(false));
    socket.on("close", () => done(false));
    socket.on("data", (data) => {
      seen = Buffer.concat([seen, data]);
      while (seen.length >= 8 && seen.length >= seen.readUInt16BE(2)) {
        if (seen[1] === TYPE.error) errors++;
        if (seen[1] === TYPE.echoReply && seen.readUInt32BE(4) === 0x77) return done(true);
        seen = seen.subarray(seen.readUInt16BE(2));
      }
    });
    socket.write(bytes);
  });

describe("a switch under fuzz", function () {
  this.timeout(timeLimit(180_000));

  it("refuses malformed messages by errors, and answers the next peer", async () => {
    const problems: string[] = [];
    const log: Log = { ...silentLog, error: (facts, text) => void problems.push(`${text}: ${inspect(facts)}`) };
    await using lab = await OfprotoLab.open(2, { log });
    let refused = 0;
    for (const seed of seeds(3)) {
      const r = new Random(seed);
      const messages = randomMessages(r, 1);
      for (let i = 0; i < 12; i++) {
        const version = r.between(1, 6);
        const own = messages.filter((message) => message[0] === version);
        // With a length that is wrong, nothing after it can be trusted: most connections carry many messages.
        const many = Array.from({ length: 60 }, () => fitted(mutatedMessage(r, own)))
          .filter(({ length }) => length >= 8)
          .map((message) => message.with(0, version));
        const last = r.oneIn(3) ? [r.bytes(r.below(100))] : [];
        const { errors } = await talk(
          lab.socket,
          Buffer.concat([HELLO(version), ...many, ...last, ECHO(version)]),
          SILENCE_MS,
        );
        refused += errors;
      }
      const { echo } = await talk(lab.socket, Buffer.concat([HELLO(4), ECHO(4)]), ANSWER_MS);
      assert.ok(echo, `seed ${seed}: no answer to an echo request`);
      assert.deepEqual(problems, [], `seed ${seed}`);
    }
    assert.ok(refused > 100, `${refused} errors`);
  });
});
