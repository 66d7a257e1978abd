// Messages in text against `ovs-ofctl ofp-print` and `ofp-parse`, which prints a file of them.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import {
  encodeMatch10,
  encodeMatch11,
  encodeNxm,
  encodeOxm,
  formatMessage,
  MESSAGES,
  parseFlowLines,
  type Match,
  type MessageRow,
  type MinorVersion,
} from "#compiler";
import { concatBytes, fromHex, NotSupportedError, toHex } from "ebpf-assembler";
import { randomMatch } from "../../../support/random-matches.js";
import { Random } from "../../../support/random.js";

const u16 = (value: number): number[] => [(value >>> 8) & 0xff, value & 0xff];
const u32 = (value: number): number[] => [...u16(value >>> 16), ...u16(value)];

const anyMatch = (r: Random): Match => {
  for (;;) {
    const [line] = parseFlowLines(`${randomMatch(r)},actions=drop`);
    // OVS shows zeros in the place of tunnel options.
    if (line?.value !== undefined && line.value.flow.match.tunMetadata === undefined) return line.value.flow.match;
  }
};

const seldom = (r: Random, value: number, other: number): number => (r.oneIn(4) ? other : value);

/** A port of 16 or 32 bits, mostly one that is. */
const port = (r: Random, bytes: 2 | 4): number[] => {
  const number = r.pick([0xffffffff, 0xffffffff, 1, 0xfffffffe, 0xfffffffd, 300]);
  return bytes === 2 ? u16(number) : u32(r.oneIn(20) ? 0xff000000 : number);
};

const timeouts = (r: Random): number[] => [...u16(seldom(r, 0, r.below(65536))), ...u16(seldom(r, 0, r.below(99)))];

const priority = (r: Random): number[] => u16(r.pick([0x8000, 0x8000, 0, 1, 65535]));

const bufferId = (r: Random): number[] => u32(seldom(r, 0xffffffff, r.below(1000)));

const cookie = (r: Random): Uint8Array => (r.oneIn(2) ? new Uint8Array(8) : r.bytes(8));

const duration = (r: Random): number[] => [
  ...u32(r.below(100000)),
  ...u32(r.pick([0, 5_000_000, 123_000_000, 123_456_789, 1_200])),
];

/** The match of OpenFlow 1.1 or later. */
const match11 = (r: Random, minor: MinorVersion): Uint8Array =>
  minor === 1 ? encodeMatch11(anyMatch(r)) : encodeOxm(anyMatch(r), minor);

const reason = (r: Random): number => r.pick([0, 1, 2, 3, 4, 5, 9]);

type Make = (r: Random, minor: MinorVersion, row: MessageRow) => readonly (Uint8Array | readonly number[])[];

/** Bodies of each kind, mostly valid. */
const BODY: Readonly<Partial<Record<MessageRow["kind"], Make>>> = {
  hello: (r) =>
    r.oneIn(3)
      ? []
      : [u16(seldom(r, 1, r.below(3))), u16(seldom(r, 8, r.below(12))), u32(r.pick([0x12, 0x7e, 0x10, 0, 0x80000001]))],
  error: (r) => [
    u16(r.pick([0, 1, 2, 3, 4, 5, 6, 11, 17, 99, 0xb0c2, 0xffff])),
    u16(r.below(12)),
    r.pick([
      [],
      [1, 0, 0, 8, 0, 0, 0, 9],
      [4, 18, 0, 8, 0, 0, 0, 9],
      u32(0x2320),
      [...u32(0x2320), ...u16(1), ...u16(260)],
    ]),
    r.oneIn(3) ? [4, 99, 0, 8, 1, 2, 3, 4] : [],
  ],
  echo: (r) => [r.bytes(r.below(40))],
  empty: () => [],
  config: (r) => [u16(seldom(r, r.below(4), r.below(16))), u16(r.below(65536))],
  features: (r) => [r.bytes(8), u32(r.below(1000)), [r.below(256), seldom(r, 0, 7), 0, 0], u32(r.below(0x900)), u32(0)],
  group_request: (r, _, { body }) => (body[0] === 0 ? [] : [u32(r.pick([1, 0xfffffffc, 0xffffffff])), u32(0)]),
  port_desc_request: (r, _, { body }) => (body[0] === 0 ? [] : [port(r, 4), u32(0)]),
  port_stats_request: (r, minor) => (minor === 0 ? [port(r, 2), [0, 0, 0, 0, 0, 0]] : [port(r, 4), u32(0)]),
  role: (r) => [u32(r.below(5)), u32(0), r.oneIn(2) ? new Uint8Array(8).fill(0xff) : r.bytes(8)],
  nx_role: (r) => [u32(r.below(4))],
  flow_mod_10: (r) => [
    ...[encodeMatch10(anyMatch(r)), cookie(r), [seldom(r, 0, r.below(9)), r.below(6)], timeouts(r)],
    ...[priority(r), bufferId(r), port(r, 2), u16(seldom(r, r.below(4), r.below(16)))],
  ],
  flow_mod_nx: (r) => {
    const { bytes, length } = encodeNxm(anyMatch(r), r.oneIn(4) ? { value: 5n, mask: 7n } : undefined);
    const head = [cookie(r), [seldom(r, 0, r.below(9)), r.below(6)], timeouts(r), priority(r), bufferId(r)];
    return [...head, port(r, 2), u16(r.below(4)), u16(length), [0, 0, 0, 0, 0, 0], bytes];
  },
  flow_mod_11: (r, minor) => [
    ...[cookie(r), cookie(r), [r.pick([0, 0, 1, 7, 255]), r.below(6)], timeouts(r), priority(r), bufferId(r)],
    ...[port(r, 4), u32(0xffffffff), u16(seldom(r, r.below(8), r.below(64))), u16(seldom(r, 0, 9))],
    match11(r, minor),
  ],
  flow_removed_10: (r) => [
    ...[encodeMatch10(anyMatch(r)), cookie(r), priority(r), [reason(r), 0], duration(r), u16(r.below(99)), [0, 0]],
    ...[[0, 0, 0, 0], u32(r.u32()), [0, 0, 0, 0], u32(r.u32())],
  ],
  flow_removed_nx: (r) => {
    const { bytes, length } = encodeNxm(anyMatch(r));
    const head = [cookie(r), priority(r), [reason(r), r.below(3)], duration(r), u16(r.below(99)), u16(length)];
    return [...head, [0, 0, 0, 0], u32(r.u32()), [0, 0, 0, 0], u32(r.u32()), bytes];
  },
  flow_removed_11: (r, minor) => [
    ...[cookie(r), priority(r), [reason(r), r.pick([0, 3, 255])], duration(r), timeouts(r)],
    ...[[0, 0, 0, 0], u32(r.u32()), [0, 0, 0, 0], u32(r.u32()), match11(r, minor)],
  ],
  flow_request_10: (r) => [encodeMatch10(anyMatch(r)), [r.pick([0, 3, 255]), 0], port(r, 2)],
  flow_request_nx: (r) => {
    const { bytes, length } = encodeNxm(anyMatch(r));
    return [port(r, 2), u16(length), [r.pick([0, 3, 255]), 0, 0, 0], bytes];
  },
  flow_request_11: (r, minor) => [
    ...[[r.pick([0, 3, 255]), 0, 0, 0], port(r, 4), u32(0xffffffff), [0, 0, 0, 0], cookie(r), cookie(r)],
    match11(r, minor),
  ],
};

const messageOf = (r: Random, row: MessageRow, version: number): Uint8Array => {
  const stats = row.stat === undefined ? [] : [...u16(row.stat), 0, 0, ...(version === 1 ? [] : [0, 0, 0, 0])];
  const vendor = row.vendor === undefined ? [] : [...u32(row.vendor), ...u32(row.subtype!)];
  const pad = row.stat === undefined || row.vendor === undefined ? [] : [0, 0, 0, 0];
  const body = BODY[row.kind]!(r, (version - 1) as MinorVersion, row).map((part) => Uint8Array.from(part));
  const rest = concatBytes(Uint8Array.from([...stats, ...vendor, ...pad]), ...body);
  return concatBytes(Uint8Array.from([version, row.type, ...u16(8 + rest.length), ...u32(r.u32())]), rest);
};

/** Every message in every version that has it. */
const randomMessages = (r: Random, each: number): Uint8Array[] =>
  MESSAGES.filter(({ kind, versions }) => kind in BODY && (kind !== "features" || versions[0] >= 4)).flatMap((row) =>
    [1, 2, 3, 4, 5, 6]
      .filter((version) => row.versions[0] <= version && version <= row.versions[1])
      .flatMap((version) => Array.from({ length: each }, () => messageOf(r, row, version))),
  );

/** One bit wrong, but where it says which message it is and how long. */
const damaged = (r: Random, message: Uint8Array): Uint8Array => {
  const copy = message.slice();
  if (copy.length > 16) copy[r.between(16, copy.length - 1)]! ^= 1 << r.below(8);
  return copy;
};

const ovsPrints = (message: Uint8Array, verbosity: number): string =>
  spawnSync("ovs-ofctl", ["ofp-print", toHex(message), String(verbosity)], { encoding: "utf8" }).stdout;

/** What OVS prints of messages, one after the other in a file. */
const ovsPrintsAll = (messages: readonly Uint8Array[]): string => {
  const scratch = mkdtempSync(join(tmpdir(), "ofxdp-messages-"));
  try {
    const file = join(scratch, "messages");
    writeFileSync(file, concatBytes(...messages));
    return execFileSync("ovs-ofctl", ["-mm", "ofp-parse", file], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
      maxBuffer: 1 << 28,
    });
  } finally {
    rmSync(scratch, { recursive: true });
  }
};

describe("formatMessage()", function () {
  this.timeout(120_000);
  const seed = Number(process.env["SEED"] ?? 1);

  /** Compares all at once, and looks for the first that differs if they do. */
  const compare = (messages: readonly Uint8Array[]): void => {
    const ours = messages.map((message) => formatMessage(message));
    if (ours.join("") === ovsPrintsAll(messages)) return;
    const differ: string[] = [];
    for (const [i, message] of messages.entries()) {
      const ovs = ovsPrints(message, 4);
      if (ours[i] !== ovs) differ.push(`${toHex(message)}\nwe:  ${ours[i]}OVS: ${ovs}`);
      if (differ.length === 8) break;
    }
    assert.equal(differ.join("\n"), "");
  };

  it("prints what ovs-ofctl prints: all messages in all versions", () => {
    compare(randomMessages(new Random(seed), 12));
  });

  it("prints what ovs-ofctl prints of messages with a wrong bit", () => {
    const r = new Random(seed + 1);
    const messages = randomMessages(r, 8).map((message) => damaged(r, message));
    compare(
      messages.filter((message) => {
        try {
          // OVS shows zeros in the place of tunnel options.
          return !formatMessage(message).includes("TUN_METADATA");
        } catch (error) {
          // An error message may hold any other message.
          assert.ok(error instanceof NotSupportedError);
          return false;
        }
      }),
    );
  });

  it("prints less with less verbosity, and a dump with more", () => {
    const r = new Random(seed + 2);
    for (const message of randomMessages(r, 1)) {
      for (const verbosity of [0, 1, 2, 3, 5]) {
        assert.equal(formatMessage(message, { verbosity }), ovsPrints(message, verbosity), toHex(message));
      }
    }
  });

  for (const [what, text] of [
    ["nothing", ""],
    ["a header cut off", "04000008"],
    ["less than it says", "0412001000000001"],
    ["more than it says", "041200080000000199"],
    ["an unknown type", "0463000800000001"],
    ["an unknown vendor", "010400100000000112345678000000ff"],
    ["a vendor cut off", "0104000a000000010000"],
    ["statistics cut off", "0412000a000000010000"],
    ["a body too long", "0414000c0000000100000000"],
  ] as const) {
    it(`prints what ovs-ofctl prints of ${what}`, () => {
      const message = fromHex(text);
      if (text !== "") assert.equal(formatMessage(message), ovsPrints(message, 4));
      else assert.equal(formatMessage(message), "OpenFlow message is empty\n");
    });
  }

  it("prints or names what it cannot, whatever the bytes", () => {
    const bytes = fc.tuple(fc.uint8Array({ maxLength: 120 }), fc.boolean()).map(([b, fits]) => {
      if (fits && b.length >= 8) b.set([(b[0]! % 7) + 1, b[1]! % 36, 0, b.length]);
      return b;
    });
    fc.assert(
      fc.property(bytes, (b) => {
        try {
          assert.match(formatMessage(b), /\n$/);
        } catch (error) {
          assert.ok(error instanceof NotSupportedError, String(error));
        }
      }),
      { numRuns: 3000 },
    );
  });
});
