// Deletions by cookie, port and group find what looking at every rule finds, whatever has happened to the table.

import assert from "node:assert/strict";
import { applyFlowMod, formatActions, parseFlowMods, Switch, type Rule } from "#compiler";
import { Random } from "../../support/random.js";

const MATCHES = ["", "ip", "tcp,nw_src=10.0.0.1", "tcp,nw_src=10.0.0.2", "udp", "ip,nw_src=10.0.0.0/24", "in_port=3"];
const ACTIONS = [
  "drop",
  "output:1",
  "enqueue:2:1",
  "controller",
  "clone(output:2),output:1,output:1",
  "group:1",
  "group:2,output:2",
  "write_actions(group:1)",
  "meter:1,output:3",
];

const randomLine = (r: Random): string => {
  const match = [`table=${r.below(2)}`, r.pick(MATCHES)].filter((part) => part !== "").join(",");
  const cookie = r.pick(["cookie=0", "cookie=1", "cookie=2", "cookie=0xffffffffffffffff"]);
  const flow = `priority=${r.below(3)},${match}`;
  const what = r.below(10);
  if (what === 0) return `modify ${match},actions=${r.pick(ACTIONS)}`;
  if (what === 1) return `delete ${match},${r.pick(["cookie=1/-1", "cookie=1/1", "out_port=1", "out_group=1"])}`;
  if (what === 2) return `delete_strict ${flow}`;
  return `${cookie},${flow},actions=${r.pick(ACTIONS)}`;
};

/** What a deletion asks for, and the rules that it means. */
const QUESTIONS: readonly (readonly [text: string, means: (rule: Rule, text: string) => boolean])[] = [
  ["cookie=1/-1", ({ cookie }) => cookie === 1n],
  ["cookie=0/-1", ({ cookie }) => cookie === 0n],
  ["cookie=2/2", ({ cookie }) => (cookie & 2n) === 2n],
  ["out_port=1", (_, text) => /output:1/.test(text)],
  ["out_port=2", (_, text) => /output:2|enqueue:2/.test(text)],
  ["out_port=CONTROLLER", (_, text) => /CONTROLLER/.test(text)],
  ["out_group=1", (_, text) => /group:1/.test(text)],
  ["cookie=1/-1,out_group=2", ({ cookie }, text) => cookie === 1n && /group:2/.test(text)],
];

const actionsText = ({ actions }: Rule): string => formatActions(actions);

describe("RuleIndex", () => {
  it("lets deletions find what a scan finds, after changes, deletions and transactions undone", () => {
    for (let seed = 1; seed <= 30; seed++) {
      const r = new Random(seed);
      const sw = new Switch();
      for (const id of [1, 2]) sw.addGroup({ id, type: "all", buckets: [] }, 0);
      sw.addMeter({ id: 1, flags: ["kbps"], bands: [] }, 0);
      const run = (line: string): void => {
        for (const mod of parseFlowMods(line)) applyFlowMod(sw, mod, 0);
      };
      for (let i = 0; i < 60; i++) run(randomLine(r));
      assert.throws(() =>
        sw.transaction(() => {
          for (let i = 0; i < 20; i++) run(randomLine(r));
          run("actions=group:77");
        }),
      );
      const [question, means] = r.pick(QUESTIONS);
      const match = r.pick(MATCHES.filter((text) => !text.includes("nw_src")));
      const covered = new Set(
        [...sw.tables()].flatMap((table) =>
          table.collect(parseFlowMods(`delete ${match}`)[0]!.flow.match, 0, false, {}),
        ),
      );
      const want = [...covered].filter((rule) => means(rule, actionsText(rule)));
      const [mod] = parseFlowMods(`delete ${[match, question].filter((part) => part !== "").join(",")}`);
      const gone = applyFlowMod(sw, mod!, 0);
      assert.deepEqual(new Set(gone), new Set(want), `seed ${seed}: ${question}`);
      assert.equal(
        sw.rulesWithGroup(1).length,
        [...sw.rules()].filter((rule) => /group:1/.test(actionsText(rule))).length,
      );
      assert.equal(
        sw.rulesWithMeter(1).length,
        [...sw.rules()].filter((rule) => /meter:1/.test(actionsText(rule))).length,
      );
    }
  });
});
