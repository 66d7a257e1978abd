// Actions and instructions on the wire: the bytes that ovs-ofctl sends, read back to what they were, and for bytes that
// were damaged the errors that OVS gives.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  carryFlow,
  decodeActions,
  decodeInstructions,
  encodeInstructions,
  formatActions,
  formatMessage,
  OpenFlowError,
  parseFlowMods,
  PROTOCOL,
  type MinorVersion,
  type Protocol,
} from "#compiler";
import { fromHex, toHex } from "ebpf-assembler";
import { ACTION_FLOWS } from "../action-flows.js";
import { Random } from "../../../support/random.js";

const VERSIONS: readonly (readonly [version: string, minor: MinorVersion, protocol: Protocol])[] = [
  ["OpenFlow10", 0, "NXM+table_id"],
  ["OpenFlow11", 1, "OpenFlow11"],
  ["OpenFlow12", 2, "OpenFlow12"],
  ["OpenFlow13", 3, "OpenFlow13"],
  ["OpenFlow14", 4, "OpenFlow14"],
  ["OpenFlow15", 5, "OpenFlow15"],
];

/** The flow-mods that ovs-ofctl makes of `flows`, as hex and as it prints them, with a dump. */
const ovsMessages = (version: string, flows: readonly string[]): { hex: string; text: string }[] => {
  const scratch = mkdtempSync(join(tmpdir(), "ofxdp-wire-"));
  try {
    const file = join(scratch, "flows.txt");
    writeFileSync(file, `${flows.join("\n")}\n`);
    const { stdout, stderr, status } = spawnSync("ovs-ofctl", ["-O", version, "-mmmmm", "parse-flows", file], {
      encoding: "utf8",
      maxBuffer: 1 << 28,
    });
    assert.equal(status, 0, stderr);
    const messages: { hex: string; text: string }[] = [];
    for (const line of stdout.split("\n")) {
      const isDump = /^[0-9a-f]{8} {2}/.test(line);
      if (line.includes("_FLOW_MOD")) messages.push({ hex: "", text: "" });
      else if (!isDump) continue;
      const message = messages.at(-1)!;
      message.text += `${line}\n`;
      if (isDump) message.hex += line.slice(10, 58).replace(/[ -]/g, "");
    }
    return messages;
  } finally {
    rmSync(scratch, { recursive: true });
  }
};

/** Where instructions begin in a flow-mod: behind the match, which is padded to 8 bytes. */
const instructionsOf = (message: string, minor: MinorVersion, size: number): string => {
  if (minor === 0) return message.slice(message.length - 2 * size);
  const at = minor === 1 ? 136 : 48 + ((Number.parseInt(message.slice(100, 104), 16) + 7) & ~7);
  return message.slice(2 * at);
};

/** What `ovs-ofctl parse-actions` says of each list of actions: the text, or the name of the error. */
const ovsDecode = (command: string, version: string, lists: readonly string[]): string[] => {
  const { stdout, stderr } = spawnSync("ovs-ofctl", ["-vwarn", command, version], {
    input: `${lists.join("\n")}\n`,
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  const answers = stdout.split("\n").flatMap((line) => {
    const error = /^bad OpenFlow\d\d \w+: (\w+)/.exec(line)?.[1];
    const text = /^(?:actions|instructions)=(.*)$/.exec(line)?.[1] ?? /^(actions|instructions)=$/.exec(line)?.[0];
    return error !== undefined ? [`!${error}`] : text !== undefined ? [text] : [];
  });
  assert.equal(answers.length, lists.length, stderr.slice(0, 2000));
  return answers;
};

describe("actions on the wire against ovs-ofctl", function () {
  this.timeout(120_000);
  const mods = parseFlowMods(ACTION_FLOWS.join("\n"));

  for (const [version, minor, protocol] of VERSIONS) {
    it(`encodeInstructions() gives the bytes of ${version}, decodeInstructions() and formatMessage() read them`, () => {
      const carried = mods.flatMap((mod) => {
        if ((mod.protocols & PROTOCOL[protocol]) === 0) return [];
        const flow = carryFlow(mod.flow, protocol);
        return flow === undefined ? [] : [{ text: mod.flow.source!.text, flow }];
      });
      const messages = ovsMessages(
        version,
        carried.map(({ text }) => text),
      );
      for (const [i, { text, flow }] of carried.entries()) {
        const bytes = encodeInstructions(flow.actions, minor);
        const message = messages[i]!;
        assert.equal(toHex(bytes), instructionsOf(message.hex, minor, bytes.length), text);
        assert.equal(formatMessage(fromHex(message.hex), { verbosity: 5 }), message.text, text);
        assert.equal(formatActions(decodeInstructions(bytes, minor)), formatActions(flow.actions), text);
      }
      assert.ok(carried.length > 80);
    });

    it(`decodeActions() answers as ${version} does to damaged bytes`, () => {
      const r = new Random(minor + 1);
      const lists: string[] = [];
      for (const mod of mods) {
        const flow = (mod.protocols & PROTOCOL[protocol]) === 0 ? undefined : carryFlow(mod.flow, protocol);
        if (flow === undefined) continue;
        const applied = flow.actions.filter(({ kind }) => !INSTRUCTIONS.includes(kind));
        const bytes = encodeInstructions(applied, minor);
        const actions = minor === 0 || bytes.length === 0 ? bytes : bytes.subarray(8);
        for (let round = 0; round < 4; round++) {
          const damaged = actions.slice();
          if (damaged.length > 0) damaged[r.below(damaged.length)] = r.pick([0, 1, 0xff, 0x10, r.below(256)]);
          if (damaged.length > 0) lists.push(toHex(damaged));
        }
      }
      const wanted = ovsDecode("parse-actions", version, lists);
      const differences: string[] = [];
      for (const [i, hex] of lists.entries()) {
        let have: string;
        try {
          have = formatActions(decodeActions(fromHex(hex), minor));
        } catch (error) {
          if (!(error instanceof OpenFlowError)) throw error;
          have = `!${error.error}`;
        }
        // OVS prints reasons that have no name, and forgets errors of bundle_load when it comes to its destination.
        // A dec_ttl that names nobody is the one that names controller 0 here.
        if (/dec_ttl\(\)/.test(wanted[i]!)) continue;
        if (/reason=[\d,)]|bundle_load|<unknown>/.test(wanted[i]!)) continue;
        // Which of these two it is for a field that there is not, in OVS hangs on what else is in a bucket of a hash table.
        const isField = (answer: string): boolean => /^!OFPBAC_BAD_SET_(TYPE|LEN)$/.test(answer);
        if (isField(have) && isField(wanted[i]!)) continue;
        if (have !== wanted[i]) differences.push(`${hex}\n  want ${wanted[i]}\n  have ${have}`);
      }
      assert.deepEqual(differences.slice(0, 8), []);
    });
  }
});

const INSTRUCTIONS: readonly string[] = ["meter", "clear_actions", "write_actions", "write_metadata", "goto_table"];
