import assert from "node:assert/strict";
import { Rtnl } from "libbpf-ts";
import { PORT } from "#compiler";
import { parsePortSpec, type Bridge } from "#runtime";
import { echo } from "./echo.js";
import { Lab } from "./lab.js";

const HOST = 200;
const MEGABYTES = 4;

describe("internal ports", function () {
  this.timeout(60_000);
  let lab: Lab;
  before(() => (lab = new Lab(2)));
  after(() => lab[Symbol.dispose]());

  const interfaces = (): string[] =>
    lab.switchNs.run(() => {
      using rtnl = Rtnl.open(lab.sys);
      return rtnl.interfaces().map(({ name }) => name);
    });

  /** A switch with LOCAL, and ports of a hook. */
  const open = (hook: string): Bridge => {
    const local = { number: PORT.LOCAL, name: "br0", hook: "auto", internal: true } as const;
    const ports = [1, 2].map((n) => parsePortSpec(`${n}=p${n}:${hook}`));
    return lab.bridge({ ports: [...ports, local, parsePortSpec("7=inner0:internal")] });
  };

  for (const hook of ["tc", "native", "generic"]) {
    it(`LOCAL gives the host an address behind a switch with ports at ${hook}: ARP, ping, TCP both ways with every byte as it was`, async () => {
      const before = interfaces();
      const bridge = open(hook);
      try {
        const up = await lab.run(
          "switch",
          `ip link set br0 up && ip addr add ${Lab.ip(HOST)}/24 dev br0 && ip addr add fd00::${HOST}/64 dev br0 nodad`,
        );
        assert.equal(up.code, 0, up.stderr);
        for (const [from, to] of [
          [1, Lab.ip(HOST)],
          ["switch", Lab.ip(2)],
          [2, `fd00::${HOST}`],
        ] as const)
          assert.equal((await lab.run(from, `ping -c 2 -i 0.1 -W 2 ${to}`)).code, 0, `${from} to ${to}`);
        const all = `${MEGABYTES}000000 bytes, the same`;
        assert.equal(await echo(lab, 1, "switch", Lab.ip(HOST), MEGABYTES * 1e6), all);
        assert.equal(await echo(lab, "switch", 2, Lab.ip(2), MEGABYTES * 1e6), all);
        await bridge.settle();
        const local = bridge.stats.ports.find(({ port }) => port === PORT.LOCAL)!;
        assert.deepEqual([local.name, local.hook, local.up], ["br0", "tc", true]);
        assert.ok(local.rxPackets > 100 && local.txPackets > 100, JSON.stringify(local));
        // The other internal port is down, as the host's end of it is.
        assert.equal(bridge.sw.port(7)?.up, false);
        assert.equal(bridge.stats.upcalls.errors, 0);
      } finally {
        bridge[Symbol.dispose]();
      }
      assert.deepEqual(interfaces(), before);
    });
  }

  it("an internal port whose name is somebody's is refused, with nothing made", () => {
    const before = interfaces();
    assert.throws(
      () => lab.bridge({ ports: [parsePortSpec("inner0:internal"), parsePortSpec("p1:internal")] }),
      /^RangeViolation: Cannot make internal port p1: an interface of that name is there; give the port another name, or /,
    );
    assert.deepEqual(interfaces(), before);
  });
});
