import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  ClosedError,
  Link,
  linux,
  NoInterfaceError,
  OccupiedError,
  Program,
  SyscallError,
  type XdpMode,
} from "libbpf-ts";
import { checkNoLeaks, returning } from "../fixtures.js";
import { VethLab } from "../lab.js";

const NO_MAPS = new Map<string, never>();
const [XDP_DROP, XDP_PASS] = [1, 2];

describe("Link", () => {
  checkNoLeaks();
  const sys = linux();

  describe("on a veth pair", () => {
    let lab: VethLab;
    let pass: Program;
    let drop: Program;
    before(() => {
      lab = new VethLab();
      lab.address("10.9.1");
      pass = Program.load(sys, returning("pass", XDP_PASS), NO_MAPS);
      drop = Program.load(sys, returning("drop", XDP_DROP), NO_MAPS);
    });
    after(() => {
      for (const owned of [drop, pass, lab]) owned[Symbol.dispose]();
    });

    const pings = (): boolean => {
      try {
        lab.a.ns.run(() => execFileSync("ping", ["-c1", "-W1", "10.9.1.2"], { stdio: "ignore" }));
        return true;
      } catch {
        return false;
      }
    };
    const attach = (program: Program, mode: XdpMode): Link =>
      lab.b.ns.run(() => Link.xdp(sys, program, lab.b.interface.index, mode));
    const xdpState = () => lab.b.rtnl.get("b").xdp;

    for (const mode of ["native", "generic"] as const)
      it(`xdp() in mode ${mode} filters real traffic, update() replaces, dispose detaches`, () => {
        {
          using link = attach(drop, mode);
          assert.deepEqual(xdpState(), { [mode]: drop.info.id });
          assert.equal(pings(), false);
          link.update(pass);
          assert.deepEqual(xdpState(), { [mode]: pass.info.id });
          assert.equal(pings(), true);
          assert.deepEqual(
            { ...link.info, id: 0 },
            { type: "xdp", id: 0, programId: pass.info.id, ifindex: lab.b.interface.index, attachType: 0 },
          );
        }
        assert.deepEqual(xdpState(), {});
        assert.equal(pings(), true);
      });

    it("update() refuses when another program is there than expected", () => {
      using link = attach(pass, "generic");
      assert.throws(() => link.update(drop, drop), SyscallError);
      link.update(drop, pass);
      assert.deepEqual(xdpState(), { generic: drop.info.id });
    });

    it("xdp() never replaces a program that is there, and names it and the interface", () => {
      using _first = attach(pass, "native");
      for (const mode of ["native", "generic"] as const)
        assert.throws(
          () => attach(drop, mode),
          (e: unknown) => {
            assert.ok(e instanceof OccupiedError, String(e));
            assert.equal(e.exitCode, 3);
            assert.equal(e.message, `Cannot attach to XDP of b: program id ${pass.info.id} is there; detach it first`);
            return true;
          },
        );
      assert.deepEqual(xdpState(), { native: pass.info.id });
    });

    it("xdp() names an interface that is not there, and a mode that the device has not", () => {
      assert.throws(() => lab.b.ns.run(() => Link.xdp(sys, pass, 9999, "native")), NoInterfaceError);
      assert.throws(
        () => lab.b.ns.run(() => Link.xdp(sys, pass, 1, "native")),
        (e: unknown) =>
          e instanceof SyscallError && /XDP native of lo: .*EOPNOTSUPP.*try --hook generic/.test(e.message),
      );
    });

    it("detach() detaches now; the link stays usable as a shell", () => {
      using link = attach(drop, "native");
      link.detach();
      assert.deepEqual(xdpState(), {});
      assert.equal(link.info.ifindex, 0);
    });

    it("fromId() opens a link, which keeps the program attached", () => {
      const link = attach(pass, "native");
      using again = Link.fromId(sys, link.info.id);
      link[Symbol.dispose]();
      assert.deepEqual(xdpState(), { native: pass.info.id });
      assert.equal(again.info.programId, pass.info.id);
    });

    it("throws after it was closed", () => {
      const link = attach(pass, "native");
      link[Symbol.dispose]();
      assert.throws(() => link.update(drop), ClosedError);
    });
  });
});
