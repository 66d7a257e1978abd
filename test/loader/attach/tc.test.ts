import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  attachTc,
  failNth,
  FaultSys,
  FILTER_PRIORITY,
  linux,
  listFilters,
  Netns,
  NoFilterError,
  NoInterfaceError,
  OccupiedError,
  Program,
  queryAttached,
  queryTcx,
  TcFilter,
  type Sys,
  type TcAttachment,
  type TcDirection,
} from "libbpf-ts";
import { checkNoLeaks, openFds, returning } from "../fixtures.js";
import { VethLab } from "../lab.js";
import { hasFeature, needs, tcWay } from "../../support/kernel.js";

const NO_MAPS = new Map<string, never>();
/** TC_ACT_SHOT; TCX_NEXT, which for cls_bpf is TC_ACT_UNSPEC: go on as if the program were not there. */
const [SHOT, NEXT] = [2, -1];

describe("attachTc()", () => {
  checkNoLeaks();
  const sys = linux();

  describe("on a veth pair", () => {
    let lab: VethLab;
    let next: Program;
    let shot: Program;
    before(() => {
      lab = new VethLab();
      lab.address("10.9.2");
      next = Program.load(sys, returning("next", NEXT, "sched_cls"), NO_MAPS);
      shot = Program.load(sys, returning("shot", SHOT, "sched_cls"), NO_MAPS);
    });
    after(() => {
      for (const owned of [shot, next, lab]) owned[Symbol.dispose]();
    });

    const pings = (): boolean => {
      try {
        lab.a.ns.run(() => execFileSync("ping", ["-c1", "-W1", "10.9.2.2"], { stdio: "ignore" }));
        return true;
      } catch {
        return false;
      }
    };
    const index = () => lab.b.interface.index;
    const attach = (program: Program, direction: TcDirection, via?: "tcx" | "clsact", on: Sys = sys): TcAttachment =>
      lab.b.ns.run(() => attachTc(on, program, index(), direction, via));
    const state = () => lab.b.ns.run(() => queryAttached(sys, lab.b.rtnl, index()));
    const tcText = (...args: string[]) => lab.b.ns.run(() => execFileSync("tc", args, { encoding: "utf8" }));

    for (const via of ["tcx", "clsact"] as const)
      for (const direction of ["ingress", "egress"] as const)
        it(`by ${via} ${direction} filters real traffic, update() replaces, dispose leaves the interface as it was`, function () {
          if (via === "tcx") needs(this, "tcx");
          const before = state();
          const qdiscs = tcText("qdisc");
          {
            using attached = attach(shot, direction, via);
            assert.equal(attached.via, via);
            const ids = () =>
              via === "tcx" ? state().tcx[direction]?.map((e) => e.programId) : state().filters.map((f) => f.programId);
            assert.deepEqual(ids(), [shot.info.id]);
            assert.equal(pings(), false);
            attached.update(next);
            assert.deepEqual(ids(), [next.info.id]);
            assert.equal(pings(), true);
          }
          assert.deepEqual(state(), before);
          assert.equal(tcText("qdisc"), qdiscs);
          assert.equal(pings(), true);
        });

    it("takes tcx where the kernel has it, clsact where it has not", () => {
      using first = attach(next, "ingress");
      assert.equal(first.via, tcWay());
      first[Symbol.dispose]();
      const old = new FaultSys(sys, (call) => (call === "bpf(PROG_QUERY)" ? 22 : 0));
      using second = attach(next, "ingress", undefined, old);
      assert.equal(second.via, "clsact");
    });

    it("leaves the programs of others in place, before its own", function () {
      needs(this, "tcx");
      using others = attach(next, "ingress", "tcx");
      using _ours = attach(shot, "ingress", "tcx");
      assert.deepEqual(
        state().tcx.ingress?.map((e) => e.programId),
        [next.info.id, shot.info.id],
      );
      others[Symbol.dispose]();
      assert.deepEqual(
        state().tcx.ingress?.map((e) => e.programId),
        [shot.info.id],
      );
    });

    it("never replaces a filter at its place, and keeps clsact for a filter of somebody else", () => {
      const ours = attach(next, "ingress", "clsact");
      assert.throws(
        () => attach(shot, "ingress", "clsact"),
        (e: unknown) => e instanceof OccupiedError && e.programId === next.info.id && e.interfaceName === "b",
      );
      {
        using _other = attach(shot, "egress", "clsact");
        ours[Symbol.dispose]();
        assert.deepEqual(
          listFilters(lab.b.rtnl, index()).map((f) => [f.direction, f.priority, f.name]),
          [["egress", FILTER_PRIORITY, "shot"]],
        );
      }
      assert.match(tcText("qdisc", "show", "dev", "b", "clsact"), /clsact/, "not added by the last one to leave");
      tcText("qdisc", "del", "dev", "b", "clsact");
    });

    it("keeps the clsact it added for a filter of another kind", () => {
      const ours = attach(next, "ingress", "clsact");
      tcText("filter", "add", "dev", "b", "egress", "prio", "7", "u32", "match", "u32", "0", "0", "flowid", "1:1");
      ours[Symbol.dispose]();
      assert.match(tcText("filter", "show", "dev", "b", "egress"), /u32/);
      tcText("qdisc", "del", "dev", "b", "clsact");
    });

    it("release() leaves a filter, which TcFilter.adopt() takes over", () => {
      const left = attach(next, "ingress", "clsact");
      left.release();
      left[Symbol.dispose]();
      assert.equal(listFilters(lab.b.rtnl, index()).length, 1);
      assert.throws(() => TcFilter.adopt(lab.b.rtnl, index(), "ingress", shot.info.id, true), NoFilterError);
      TcFilter.adopt(lab.b.rtnl, index(), "ingress", next.info.id, true)[Symbol.dispose]();
      assert.equal(tcText("qdisc", "show", "dev", "b", "clsact"), "");
    });

    it("names an interface that is not there", () => {
      assert.throws(() => lab.b.ns.run(() => attachTc(sys, next, 9999, "ingress")), NoInterfaceError);
      const query = () => lab.b.ns.run(() => queryTcx(sys, 9999, "ingress"));
      if (hasFeature("tcx")) assert.throws(query, /ENODEV/);
      else assert.equal(query(), undefined);
    });

    it("survives that its interface goes away first", () => {
      using ns = Netns.create(sys);
      using gone = new VethLab();
      using _filter = gone.a.ns.run(() => attachTc(sys, next, gone.a.interface.index, "ingress", "clsact"));
      using _link = gone.a.ns.run(() => attachTc(sys, next, gone.a.interface.index, "egress"));
      gone.a.rtnl.remove(gone.a.interface.index);
      assert.equal(ns.name, undefined);
    });

    for (const via of ["tcx", "clsact"] as const)
      it(`by ${via} leaves nothing behind, whichever of its steps fails`, function () {
        if (via === "tcx") needs(this, "tcx");
        const counting = new FaultSys(sys);
        const attached = attach(next, "ingress", via, counting);
        const steps = counting.calls.filter((c) => c.call !== "close()").map((c) => c.call);
        attached[Symbol.dispose]();
        const observe = () => [openFds(), tcText("qdisc"), state()];
        const before = observe();
        let failed = 0;
        steps.forEach((call, step) => {
          // An answer that cannot be received leaves open what the request did.
          if (call === "recvfrom()") return;
          assert.throws(() => attach(next, "ingress", via, new FaultSys(sys, failNth(step, 12))), /ENOMEM/);
          failed++;
          assert.deepEqual(observe(), before, `after a failure of step ${step}, ${call}`);
        });
        assert.ok(failed >= (via === "tcx" ? 5 : 7), `${failed} failures injected`);
      });
  });
});
