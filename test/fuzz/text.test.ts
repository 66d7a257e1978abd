// Decoders of text under random and mutated lines: each line is read or refused with a CompileError that names a place in
// it, in time that does not run away with its length.

import assert from "node:assert/strict";
import { CompileError } from "ebpf-assembler";
import {
  parseBundleLines,
  parseFlowLines,
  parseGroupLines,
  parseMeterLines,
  parseMeterMod,
  type LineResult,
} from "#compiler";
import { seeds, timeLimit } from "../support/fuzz-scale.js";
import { randomTable } from "../support/random-flows.js";
import { Random } from "../support/random.js";

const GROUPS = [
  "group_id=1,type=all,bucket=output:1,bucket=output:2",
  "add group_id=2,type=select,selection_method=hash,selection_method_param=7,fields(ip_src,tcp_dst=0xff00),bucket=weight:5,1",
  "group_id=3,type=ff,bucket=watch_port:3,watch_group=4,set_field:1->reg0,output:1,bucket=watch_group=1,resubmit(,2)",
  "insert_bucket group_id=1,command_bucket_id=last,bucket=bucket_id=8,weight=2,output:3",
  "remove_bucket group_id=1,command_bucket_id=0",
  "delete group_id=all",
];

const METERS = [
  "meter=1 pktps burst stats bands=type=drop rate=5 burst_size=10,type=dscp_remark rate=3 burst_size=2 prec_level=1",
  "meter=controller,kbps,bands=type=drop,rate=4294967295",
];

const PACKET_OUT =
  "packet-out in_port=1,metadata=5,packet=02000000000202000000000112340000,actions=output:2,resubmit(,1)";

/** Words and characters that mean something somewhere. */
const PIECES = [
  ...["=", ":", "(", ")", ",", " ", "->", "..", "[", "]", "/", "-", "+", "|", "#", '"', "\t", "\0", "\u{1f4a9}", "é"],
  ...[
    "0x",
    "-1",
    "0",
    "4294967296",
    "18446744073709551616",
    "0xffffffffffffffffff",
    "1e9",
    "09",
    "99999999999999999999",
  ],
  ...["actions=", "bucket=", "bands=", "write_actions(", "learn(", "clone(", "ct(", "controller(", "fields(", "type="],
  ...[
    "__proto__",
    "constructor",
    "toString",
    "reg0[0..31]",
    "NXM_NX_REG0[]",
    "ipv6_src=::1/",
    "tcp_flags=+",
    "hasOwnProperty",
  ],
];

const mutate = (r: Random, line: string, other: string): string => {
  const at = r.below(line.length + 1);
  const to = Math.min(line.length, at + r.below(8));
  switch (r.below(7)) {
    case 0:
      return line.slice(0, at) + line.slice(to);
    case 1:
      return line.slice(0, at) + r.pick(PIECES) + line.slice(at);
    case 2:
      return line.slice(0, at) + r.pick(PIECES) + line.slice(to);
    case 3:
      return line.slice(0, at) + other.slice(r.below(other.length + 1));
    case 4:
      return line.slice(0, to) + line.slice(at);
    case 5:
      return line.slice(0, at) + String.fromCharCode(r.below(0x180)) + line.slice(to);
    default:
      return line.slice(0, at) + line.slice(at, to).repeat(1 + r.below(40)) + line.slice(to);
  }
};

const noise = (r: Random): string => Array.from({ length: r.below(30) }, () => r.pick(PIECES)).join("");

type Decode = (text: string) => readonly LineResult<unknown>[];

interface Decoder {
  readonly decode: Decode;
  readonly corpus: (r: Random) => readonly string[];
}

const flows = (r: Random): readonly string[] => randomTable(r, { nTables: 4, nFlows: 40, groups: [1, 2] });

const DECODERS: Readonly<Record<string, Decoder>> = {
  parseFlowLines: { decode: parseFlowLines, corpus: flows },
  parseGroupLines: { decode: parseGroupLines, corpus: () => GROUPS },
  parseMeterLines: { decode: parseMeterLines, corpus: () => METERS },
  parseBundleLines: {
    decode: parseBundleLines,
    corpus: (r) => [...flows(r).map((line) => `flow ${line}`), ...GROUPS.map((line) => `group ${line}`), PACKET_OUT],
  },
};

/** No line takes longer than this, however busy the machine is. */
const LINE_LIMIT_MS = 2000;

describe("text decoders under fuzz", function () {
  this.timeout(timeLimit(120_000));

  for (const [name, { decode, corpus }] of Object.entries(DECODERS)) {
    it(`${name}() reads or refuses whatever comes`, () => {
      let read = 0;
      let refused = 0;
      for (const seed of seeds(8)) {
        const r = new Random(seed);
        const lines = corpus(r);
        for (let i = 0; i < 400; i++) {
          let line = r.oneIn(10) ? noise(r) : r.pick(lines);
          for (let n = r.below(4); n > 0; n--) line = mutate(r, line, r.pick(lines));
          const started = performance.now();
          for (const { error, line: where } of decode(line)) {
            if (error === undefined) {
              read++;
              continue;
            }
            refused++;
            const [first] = error.diagnostics;
            const columns = where.text.length + 1;
            assert.ok(first!.column >= 1 && first!.column <= columns, `column ${first!.column} of ${columns}: ${line}`);
          }
          const took = performance.now() - started;
          assert.ok(took < LINE_LIMIT_MS, `seed ${seed}: ${took.toFixed(0)} ms for ${JSON.stringify(line)}`);
        }
      }
      assert.ok(read > 100 && refused > 100, `${read} read, ${refused} refused`);
    });
  }

  it("parseMeterMod() to delete reads or refuses whatever comes", () => {
    for (const seed of seeds(4)) {
      const r = new Random(seed);
      for (let i = 0; i < 200; i++) {
        const line = mutate(r, "meter=12", noise(r));
        try {
          parseMeterMod(line, "delete");
        } catch (error) {
          assert.ok(error instanceof CompileError, `${line}: ${String(error)}`);
        }
      }
    }
  });

  const LONG = 20_000;
  const long: readonly (readonly [decoder: string, line: string])[] = [
    ["parseFlowLines", `actions=${"output:1,".repeat(LONG)}1`],
    ["parseFlowLines", `actions=${"clone(".repeat(LONG)}`],
    ["parseFlowLines", `actions=${"(".repeat(LONG)}`],
    ["parseFlowLines", `${"ip,".repeat(LONG)}actions=drop`],
    ["parseFlowLines", `reg0=${"9".repeat(LONG)},actions=drop`],
    ["parseFlowLines", `ipv6,ipv6_src=${":".repeat(LONG)},actions=drop`],
    ["parseFlowLines", `tcp,tcp_flags=${"+syn".repeat(LONG)},actions=drop`],
    ["parseFlowLines", `${" ".repeat(LONG)}${"=".repeat(LONG)}`],
    ["parseGroupLines", `group_id=1,type=all,${"bucket=1,".repeat(LONG / 4)}`],
    ["parseGroupLines", `group_id=1,type=select,selection_method=hash,fields(${"ip_src,".repeat(LONG)}),bucket=1`],
    ["parseMeterLines", `meter=1 pktps bands=${"type=drop rate=1 ".repeat(LONG)}`],
    ["parseBundleLines", `packet-out packet=${"00".repeat(LONG)} actions=output:1`],
    ["parseBundleLines", `flow ${"flow ".repeat(LONG)}`],
  ];
  for (const [name, line] of long) {
    it(`${name}() takes a line of ${line.length} characters in time: ${line.slice(0, 40)}…`, () => {
      const started = performance.now();
      DECODERS[name]!.decode(line);
      const took = performance.now() - started;
      assert.ok(took < LINE_LIMIT_MS, `${took.toFixed(0)} ms`);
    });
  }
});
