// Tunnel ports on real interfaces, against the kernel's own VXLAN device at the other end: host 1 is behind port 1; the interface p2
// is the uplink, behind which host 2 has the device.

import assert from "node:assert/strict";
import { parsePortSpec, parseTunnelSpec, parseUplinkSpec, type Bridge, type BridgeOptions } from "#runtime";
import { eventually, Lab } from "./lab.js";

const [LOCAL, REMOTE] = ["192.0.2.1", "192.0.2.2"] as const;
const MIB = 1 << 20;

describe("runtime/tunnels", function () {
  this.timeout(120_000);
  let lab: Lab;

  const must = async (host: number | "switch", command: string): Promise<string> => {
    const { code, stdout, stderr } = await lab.run(host, command);
    assert.equal(code, 0, `${command} on ${host}: ${stderr}${stdout}`);
    return stdout;
  };

  beforeEach(async () => {
    lab = new Lab(2);
    await must("switch", `ip addr add ${LOCAL}/24 dev p2; ip addr add fd01::1/64 dev p2 nodad`);
    await must(2, `ip addr flush dev eth0; ip addr add ${REMOTE}/24 dev eth0; ip addr add fd01::2/64 dev eth0 nodad`);
    await must(1, "ip link set eth0 mtu 1430");
  });
  afterEach(() => lab[Symbol.dispose]());

  const openBridge = (hook: string, tunnel: string, more: Partial<BridgeOptions> = {}): Bridge =>
    lab.bridge({
      ports: [parsePortSpec(`1=p1:${hook}`)],
      tunnels: [parseTunnelSpec(`5=vx0:${tunnel}`)],
      uplinks: [parseUplinkSpec(`p2:${hook}`)],
      ...more,
    });

  /** The other end. */
  const addDevice = (options: string): Promise<string> =>
    must(
      2,
      `ip link add vx0 type vxlan dstport 4789 ${options} && ip addr add 10.0.0.2/24 dev vx0 && ip link set vx0 up`,
    );

  const ping = async (host: number, address: string, count = 3): Promise<void> => {
    const { code, stdout } = await lab.run(host, `ping -c ${count} -i 0.05 -W 8 ${address}`);
    assert.equal(code, 0, stdout);
    assert.match(stdout, new RegExp(`${count} received`), "no packet may be lost, the first included");
  };

  /** Sends random bytes by TCP and compares what arrived. */
  const transfer = async (from: number, to: number, address: string): Promise<void> => {
    const file = `/tmp/ofxdp-tunnel-${process.pid}`;
    const server =
      `timeout 20 node -e 'const h=require("crypto").createHash("sha256");` +
      `require("net").createServer(s=>s.on("data",d=>h.update(d)).on("end",()=>{console.log(h.digest("hex"));process.exit()}))` +
      `.listen(5201,"0.0.0.0")'`;
    const received = lab.run(to, server, 30_000);
    const client =
      `node -e 'const b=require("crypto").randomBytes(${4 * MIB});` +
      `console.log(require("crypto").createHash("sha256").update(b).digest("hex"));` +
      `const go=()=>{const s=require("net").connect(5201,"${address}",()=>s.end(b));s.on("error",()=>setTimeout(go,100))};go()'`;
    const { stdout: want } = await lab.run(from, `timeout 20 ${client}`, 30_000);
    const { stdout: have } = await received;
    assert.match(want, /^[0-9a-f]{64}$/m, file);
    assert.equal(have, want);
  };

  for (const hook of ["tc", "native", "generic"]) {
    it(`carry ping and TCP both ways to a kernel VXLAN device at ${hook}, and the host's own packets pass the uplink`, async () => {
      await addDevice(`id 5 remote ${LOCAL}`);
      using bridge = openBridge(hook, `type=vxlan,remote_ip=${REMOTE},key=5`);
      await ping(1, "10.0.0.2");
      await ping(2, "10.0.0.1");
      await transfer(1, 2, "10.0.0.2");
      await transfer(2, 1, "10.0.0.1");
      await ping(2, LOCAL);
      const { slow } = bridge.stats.upcalls;
      await transfer(1, 2, "10.0.0.2");
      await bridge.settle();
      const { ports, upcalls, hits } = bridge.stats;
      const tunnel = ports.find(({ port }) => port === 5)!;
      assert.ok(tunnel.rxPackets > 100 && tunnel.txPackets > 100, JSON.stringify(ports));
      assert.equal(upcalls.slow, slow, `${hits} hits: what programs carry must not come up`);
      assert.equal(upcalls.errors, 0);
    });
  }

  it("carry ping and TCP over IPv6", async () => {
    await addDevice("id 7 remote fd01::1 local fd01::2 udp6zerocsumrx udp6zerocsumtx");
    using bridge = openBridge("tc", "type=vxlan,remote_ip=fd01::2,local_ip=fd01::1,key=7");
    await ping(1, "10.0.0.2");
    await transfer(1, 2, "10.0.0.2");
    await transfer(2, 1, "10.0.0.1");
    assert.equal(bridge.stats.upcalls.errors, 0);
  });

  it("are cut into segments by the kernel where the uplink cannot, small enough for it whatever the hosts think", async () => {
    await addDevice(`id 5 remote ${LOCAL}`);
    await must("switch", "ethtool -K p2 tso off gso off tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off");
    for (const mtu of [1430, 1500]) {
      await must(1, `ip link set eth0 mtu ${mtu}`);
      // Nothing above the uplink's MTU may arrive, nor be merged on the way.
      await must(2, "ip link set vx0 mtu 1450; ethtool -K eth0 gro off");
      using bridge = openBridge("tc", `type=vxlan,remote_ip=${REMOTE},key=5`);
      await ping(1, "10.0.0.2");
      await transfer(1, 2, "10.0.0.2");
      await transfer(2, 1, "10.0.0.1");
      assert.equal(bridge.stats.upcalls.errors, 0);
    }
  });

  it("take nothing of other keys, by a megaflow that drops, and come back with their uplink", async () => {
    await addDevice(`id 6 remote ${LOCAL}`);
    await must(2, `ip neigh add 10.0.0.1 lladdr ${Lab.mac(1)} dev vx0`);
    using bridge = openBridge("tc", `type=vxlan,remote_ip=${REMOTE},key=5`);
    assert.notEqual((await lab.run(2, "ping -c 20 -i 0.02 -W 1 10.0.0.1")).code, 0);
    await bridge.settle();
    const { misses } = bridge.stats.upcalls;
    assert.notEqual((await lab.run(2, "ping -c 20 -i 0.02 -W 1 10.0.0.1")).code, 0);
    // Whatever the kernel sends of its own.
    assert.ok(bridge.stats.upcalls.misses - misses < 10);
    assert.equal(bridge.stats.ports.find(({ port }) => port === 5)!.rxPackets, 0);

    await must("switch", "ip link del p2");
    await must("switch", `ip link add p2 type veth peer name eth0 netns $(basename ${lab.path(2)})`);
    await must("switch", `ip link set p2 up; ip addr add ${LOCAL}/24 dev p2`);
    await must(2, `ip link set eth0 up; ip addr add ${REMOTE}/24 dev eth0; ip link del vx0`);
    await addDevice(`id 5 remote ${LOCAL}`);
    for (let i = 0; i < 20 && (await lab.run(1, "ping -c 1 -W 1 10.0.0.2")).code !== 0; i++);
    await ping(1, "10.0.0.2");
  });

  it("follow the other end's link-layer address when it changes", async () => {
    await addDevice(`id 5 remote ${LOCAL}`);
    using bridge = openBridge("tc", `type=vxlan,remote_ip=${REMOTE},key=5`);
    await ping(1, "10.0.0.2");
    await must(2, "ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:77; ip link set eth0 up");
    await must("switch", `ip neigh replace ${REMOTE} lladdr 02:00:00:00:00:77 dev p2`);
    assert.ok(await eventually(() => bridge.stats.ports.length === 2));
    await ping(1, "10.0.0.2");
  });
});
