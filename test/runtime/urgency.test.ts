import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { FaultSys, linux, PrivilegeError } from "libbpf-ts";
import { Urgency } from "#runtime";

/** The policy of this thread, as chrt names it: the number of the main thread is the process's. */
const policy = (): string =>
  /policy: (\w+)/.exec(execFileSync("chrt", ["-p", String(process.pid)], { encoding: "utf8" }))![1]!;

const until = async (wanted: () => boolean): Promise<void> => {
  for (let i = 0; i < 100 && !wanted(); i++) await sleep(10);
  assert.ok(wanted());
};

describe("Urgency", () => {
  it("is SCHED_RR while there is little to do, SCHED_OTHER under load, and in the end", async () => {
    const clock = { nowMs: 0, activeMs: 0 };
    const urgency = Urgency.start(linux(), () => ({ ...clock }));
    try {
      assert.equal(policy(), "SCHED_OTHER");
      await until(() => urgency.stats.policy === "rr");
      assert.equal(policy(), "SCHED_RR");
      clock.nowMs += 100;
      clock.activeMs += 49;
      urgency.worked();
      assert.equal(urgency.stats.policy, "rr", "half of the time is allowed");
      clock.nowMs += 100;
      clock.activeMs += 90;
      urgency.worked();
      assert.equal(policy(), "SCHED_OTHER");
      await sleep(250);
      assert.equal(urgency.stats.policy, "other", "no time has passed");
      clock.nowMs += 1000;
      await until(() => urgency.stats.policy === "rr");
      assert.deepEqual(urgency.stats, { policy: "rr", demotions: 1 });
    } finally {
      urgency[Symbol.dispose]();
    }
    assert.equal(policy(), "SCHED_OTHER");
  });

  it("counts what the thread works, not what it waits", async () => {
    using urgency = Urgency.start(linux());
    await until(() => urgency.stats.policy === "rr");
    await sleep(200);
    // Other tests of this process may have left work behind, such as garbage.
    await until(() => {
      urgency.worked();
      return urgency.stats.policy === "rr";
    });
    const { demotions } = urgency.stats;
    const isDemoted = (): boolean => urgency.stats.demotions > demotions;
    for (const end = performance.now() + 2000; performance.now() < end && !isDemoted();) urgency.worked();
    assert.ok(isDemoted());
  });

  it("says so when it may not", () => {
    const sys = new FaultSys(linux(), (call) => (call === "sched_setattr()" ? 1 : 0));
    assert.throws(() => Urgency.start(sys), PrivilegeError);
  });
});
