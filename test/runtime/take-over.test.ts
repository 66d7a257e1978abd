import assert from "node:assert/strict";
import { install, Rtnl, statusOf } from "libbpf-ts";
import { compileMain, keyLayout, plan } from "#compiler";
import { Lab } from "./lab.js";

const PING = "ping -c 3 -i 0.1 -W 1 10.0.0.2";

describe("attachPort()", () => {
  for (const [before, hook] of [
    ["tc", "tc"],
    ["native", "tc"],
    ["tc", "native"],
    ["native", "native"],
  ] as const) {
    it(`takes an interface over from a program that was loaded at ${before}, at ${hook}`, async () => {
      using lab = new Lab(2);
      // A host that found nobody by ARP would not ask again at once.
      lab.addNeighbours();
      lab.switchNs.run(() => {
        const spec = compileMain(plan({ key: keyLayout(new Set(["in_port"])) }), before === "tc" ? "tc" : "xdp");
        for (const name of ["p1", "p2"]) install(lab.sys, spec, name, { hook: before });
      });
      const ours = (): number =>
        lab.switchNs.run(() => {
          using rtnl = Rtnl.open(lab.sys);
          return ["p1", "p2"].flatMap((name) => statusOf(lab.sys, rtnl, name).programs.filter((p) => p.isOurs)).length;
        });
      assert.equal(ours(), 2);
      // The loaded program has nobody who answers its misses.
      assert.notEqual((await lab.run(1, PING)).code, 0);
      using bridge = lab.bridge({ hook });
      assert.equal(ours(), 0);
      assert.equal((await lab.run(1, PING)).code, 0);
      assert.deepEqual(
        bridge.stats.ports.map((port) => port.hook),
        [hook, hook],
      );
    });
  }
});
