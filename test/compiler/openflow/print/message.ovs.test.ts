// Messages in text against `ovs-ofctl ofp-print` and `ofp-parse`, which prints a file of them.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { formatMessage } from "#compiler";
import { concatBytes, fromHex, NotSupportedError, toHex } from "ebpf-assembler";
import { damaged, randomMessages } from "../../../support/random-messages.js";
import { Random } from "../../../support/random.js";

const ovsPrints = (message: Uint8Array, verbosity: number): string =>
  spawnSync("ovs-ofctl", ["ofp-print", toHex(message), String(verbosity)], { encoding: "utf8" }).stdout;

/** What OVS prints of messages, one after the other in a file. */
const ovsPrintsAll = (messages: readonly Uint8Array[], options: readonly string[]): string => {
  const scratch = mkdtempSync(join(tmpdir(), "ofxdp-messages-"));
  try {
    const file = join(scratch, "messages");
    writeFileSync(file, concatBytes(...messages));
    return execFileSync("ovs-ofctl", [...options, "ofp-parse", file], {
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
  const compare = (messages: readonly Uint8Array[], verbosity = 4, options: readonly string[] = ["-mm"]): void => {
    const ours = messages.map((message) => formatMessage(message, { verbosity }));
    if (ours.join("") === ovsPrintsAll(messages, options)) return;
    const differ: string[] = [];
    for (const [i, message] of messages.entries()) {
      const ovs = ovsPrints(message, verbosity);
      if (ours[i] !== ovs) differ.push(`${toHex(message)}\nwe:  ${ours[i]}OVS: ${ovs}`);
      if (differ.length === 8) break;
    }
    assert.ok(differ.length === 0, differ.join("\n"));
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
          // OVS shows zeros in the place of tunnel options, takes by what to evict for whether to, loses errors of
          // statistics of OpenFlow 1.5, shows groups of no type, and bytes of texts as they are.
          const special = [
            ...[
              /TUN_METADATA/,
              /eviction_flags=.*vacancy=o/,
              /GROUP_DESC reply[^]*OFPGMFC_BAD_TYPE/,
              /[\u0080-\uffff]/,
            ],
            /OFPST_(FLOW|AGGREGATE) reply \(OF1\.5\)[^]*decode error/,
          ];
          const text = formatMessage(message);
          return !special.some((each) => each.test(text));
        } catch (error) {
          // An error message may hold any other message.
          assert.ok(error instanceof NotSupportedError);
          return false;
        }
      }),
    );
  });

  for (const [verbosity, options] of [
    [2, []],
    [3, ["-m"]],
    [5, ["-mmm"]],
  ] as const) {
    it(`prints what ovs-ofctl prints with a verbosity of ${verbosity}`, () => {
      compare(randomMessages(new Random(seed + 2), 2), verbosity, options);
    });
  }

  it("prints less with less verbosity", () => {
    const seen = new Set<string>();
    for (const message of randomMessages(new Random(seed + 3), 1)) {
      // A message of each kind: each costs a run of ovs-ofctl.
      const kind = formatMessage(message).slice(0, 20);
      if (seen.has(kind)) continue;
      seen.add(kind);
      for (const verbosity of [0, 1]) {
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
    ["a version that no bitmap has", "4000000800000000"],
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
