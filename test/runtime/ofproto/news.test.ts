// What controllers hear unasked: the same text in `ovs-ofctl monitor` as from Open vSwitch; and a stock controller that makes
// a learning switch of us.

import assert from "node:assert/strict";
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { toHex } from "ebpf-assembler";
import { encodeMessage, encodeOxm, newFlow } from "#compiler";
import { Ovs } from "../../support/ovs.js";
import { skip } from "../../support/skip.js";
import { eventually, frame, Lab } from "../lab.js";
import { ofctl, OfprotoLab, socketOf } from "./lab.js";

const HOST_1 = "02:00:00:00:00:01";
const HOST_2 = "02:00:00:00:00:02";

/** `ovs-ofctl monitor` while it runs. */
class Monitor implements Disposable {
  private text = "";
  private readonly child: ChildProcess;

  /** @param dir - for its control socket */
  constructor(
    private readonly dir: string,
    version: string,
    args: readonly string[],
  ) {
    this.child = spawn("ovs-ofctl", ["-O", version, "monitor", ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, OVS_RUNDIR: dir },
    });
    for (const stream of [this.child.stdout, this.child.stderr])
      stream?.setEncoding("utf8").on("data", (part: string) => (this.text += part));
  }

  /** What it has printed, without what differs from one switch to another. */
  get said(): string {
    return this.text
      .replace(/^\d{4}-\d\d-\d\dT.*\|.*\n/gm, "")
      .replace(/duration[0-9.]+s/g, "durationD")
      .replace(/addr:[0-9a-f:]+/g, "addr:X")
      .replace(/(pkts|bytes)\d+/g, "$1N");
  }

  /** Whether it has heard what there is at first. */
  get isListening(): boolean {
    return this.text.includes("FLOW_MONITOR reply");
  }

  /** What it has said of flows: each change in a line, in any order. */
  get changes(): string {
    return this.said
      .replace(/xid=0x[1-9a-f][0-9a-f]*\):/g, "xid):")
      .split("\n")
      .sort()
      .join("\n");
  }

  /** Has it send an OpenFlow message. */
  send(message: string): void {
    execFileSync("ovs-appctl", ["-t", join(this.dir, `ovs-ofctl.${this.child.pid}.ctl`), "ofctl/send", message]);
  }

  [Symbol.dispose](): void {
    this.child.kill("SIGKILL");
  }
}

const FLOWS = [
  "table=0,priority=10,dl_type=0x88b5,in_port=1,actions=load:0x7->NXM_NX_REG3[],set_field:5->metadata,resubmit(,1)",
  "table=1,cookie=0x99,priority=10,actions=controller(reason=action,max_len=65535),2",
  "table=0,priority=20,dl_type=0x88b6,actions=controller(userdata=01.02.03),3",
  "table=0,priority=30,dl_type=0x88b7,actions=goto_table:9",
  "table=0,priority=0,actions=CONTROLLER:65535",
  "table=5,send_flow_rem,cookie=0x5,priority=44,ip,actions=drop",
];

describe("runtime/ofproto: news", function () {
  this.timeout(120_000);
  let ovs: Ovs;
  let own: OfprotoLab;
  let host: ReturnType<Lab["sender"]>;

  before(async () => {
    ovs = await Ovs.start({ ports: 3 });
    own = await OfprotoLab.open(3);
    host = own.lab.sender(1);
  });
  after(async () => {
    host?.sender[Symbol.dispose]();
    await own?.[Symbol.asyncDispose]();
    await ovs?.stop();
  });

  const receive = async (packet: Uint8Array): Promise<void> => {
    await ovs.receive(1, toHex(packet));
    host.sender.queue(host.ifindex, packet);
    host.sender.flush();
  };

  const both = async (version: string, args: readonly string[], input = ""): Promise<void> => {
    for (const socket of [socketOf(ovs), own.socket]) {
      const { code, text } = await ofctl(
        version,
        args.map((arg) => (arg === "@" ? socket : arg)),
        input,
      );
      assert.equal(code, 0, text);
    }
  };

  for (const [version, format] of [
    ["OpenFlow10", "standard"],
    ["OpenFlow10", "nxt_packet_in"],
    ["OpenFlow11", "standard"],
    ["OpenFlow12", "standard"],
    ["OpenFlow13", "standard"],
    ["OpenFlow13", "nxt_packet_in2"],
    ["OpenFlow14", "nxt_packet_in"],
    ["OpenFlow15", "standard"],
    ["OpenFlow15", "nxt_packet_in2"],
  ] as const) {
    it(`ovs-ofctl monitor -P ${format} shows in ${version} the packets, ports and flows that Open vSwitch shows`, async () => {
      const flows = FLOWS.filter((flow) => version !== "OpenFlow10" || !flow.includes("goto_table")).join("\n");
      await both("OpenFlow10,OpenFlow13", ["add-flows", "@", "-"], `${flows}\n`);
      using theirs = new Monitor(ovs.dir, version, [socketOf(ovs), "65534", "-P", format]);
      using ours = new Monitor(ovs.dir, version, [own.socket, "65534", "-P", format]);
      const wants = async (count: number, what: string): Promise<void> => {
        const all = (monitor: Monitor): boolean => monitor.said.split("(xid=0x0)").length > count;
        await eventually(() => all(theirs) && all(ours) && ours.said === theirs.said);
        assert.equal(ours.said, theirs.said, what);
      };
      await eventually(() => own.ofproto.wantsPackets);
      for (let i = 0; i < 20; i++) await ovs.appctl("version");
      await receive(frame(HOST_1, HOST_2, 64, 0x88b5));
      await wants(1, "a packet with metadata");
      await receive(frame(HOST_1, HOST_2, 64, 0x88b6));
      await wants(2, "a packet with userdata");
      await receive(frame(HOST_1, HOST_2, 64, 0x88b9));
      await wants(3, "a miss by a flow");
      await both(version, ["mod-port", "@", "3", "no-flood"]);
      await both(version, ["mod-port", "@", "3", "flood"]);
      await both(version, ["del-flows", "@", "table=5"]);
      await wants(6, "two changes of a port and a flow that is gone");
      assert.match(ours.said, /FLOW_REMOVED/);
      await both("OpenFlow13", ["del-flows", "@"]);
    });
  }

  /** What is left to do behind a pause: actions, other tables, what is on the stack. */
  const PAUSING = [
    "table=0,dl_type=0x88b5,actions=load:0x7->NXM_NX_REG3[],push:NXM_NX_REG3[],push:NXM_OF_ETH_SRC[],set_field:5->metadata,controller(pause,userdata=01.02),load:0->NXM_NX_REG3[],pop:NXM_NX_REG4[],pop:NXM_NX_REG3[],resubmit(,1),2",
    "table=1,cookie=0x99,priority=9,reg3=0x7,metadata=5,actions=push:NXM_NX_REG3[0..11],controller(pause),mod_dl_dst:02:00:00:00:00:07,pop:NXM_NX_REG5[0..11],resubmit(,2)",
    "table=2,cookie=0x98,priority=8,reg5=0x7,dl_type=0x88b5,actions=controller(pause),3",
  ];
  /** An action set, and instructions behind a pause, with which Open vSwitch itself cannot go on. */
  const PAUSING_BETWEEN = [
    "table=0,dl_type=0x88b5,actions=write_actions(output:3),write_metadata:0x5,goto_table:1",
    "table=1,cookie=0x97,actions=controller(pause),write_actions(set_field:02:00:00:00:00:07->eth_dst),goto_table:2",
    "table=2,metadata=0x5,actions=controller(pause),2,write_metadata:0x7/0xff,goto_table:3",
    "table=3,metadata=0x7,actions=drop",
  ];

  it("a packet goes on with its action set and instructions", async () => {
    await both("OpenFlow13", ["del-flows", "@"]);
    assert.equal((await ofctl("OpenFlow13", ["add-flows", own.socket, "-"], PAUSING_BETWEEN.join("\n"))).code, 0);
    for (const version of ["OpenFlow10", "OpenFlow13", "OpenFlow15"]) {
      using monitor = new Monitor(own.dir, version, [own.socket, "65534", "resume", "-P", "nxt_packet_in2"]);
      const formats = (): string[] => [...own.ofproto.connections].map(({ packetInFormat }) => packetInFormat);
      await eventually(() => own.ofproto.wantsPackets && formats().includes("nxt_packet_in2"));
      const sent = (): number => own.bridge.stats.ports.reduce((sum, { txPackets }) => sum + txPackets, 0);
      const before = sent();
      host.sender.queue(host.ifindex, frame(HOST_1, HOST_2, 64, 0x88b5));
      host.sender.flush();
      await eventually(() => sent() === before + 2);
      assert.equal(sent(), before + 2, `${version}: ${monitor.said}`);
      const { text } = await ofctl("OpenFlow13", ["dump-flows", own.socket, "table=3"]);
      assert.match(text, /n_packets=[1-3],/);
      monitor[Symbol.dispose]();
      await eventually(() => !own.ofproto.wantsPackets);
    }
  });

  for (const version of ["OpenFlow10", "OpenFlow11", "OpenFlow13", "OpenFlow15"])
    it(`ovs-ofctl monitor resume has packets go on in ${version} as in Open vSwitch`, async () => {
      await both("OpenFlow13", ["del-flows", "@"]);
      await both("OpenFlow10,OpenFlow13", ["add-flows", "@", "-"], `${PAUSING.join("\n")}\n`);
      using theirs = new Monitor(ovs.dir, version, [socketOf(ovs), "65534", "resume", "-P", "nxt_packet_in2"]);
      using ours = new Monitor(ovs.dir, version, [own.socket, "65534", "resume", "-P", "nxt_packet_in2"]);
      await eventually(() => own.ofproto.wantsPackets);
      for (let i = 0; i < 20; i++) await ovs.appctl("version");
      const sentOut = async (socket: string): Promise<number> => {
        const { text } = await ofctl("OpenFlow13", ["dump-ports", socket]);
        const ports = text.split(/^ {2}port /m).filter((port) => / *"?p?[23]"?:/.test(port.slice(0, 8)));
        return ports.reduce((sum, port) => sum + Number(/tx pkts=(\d+)/.exec(port)?.[1]), 0);
      };
      const [theirsBefore, oursBefore] = [await sentOut(socketOf(ovs)), await sentOut(own.socket)];
      await receive(frame(HOST_1, HOST_2, 64, 0x88b5));
      const said = (monitor: Monitor): string => monitor.said.replace(/bridge=[0-9a-f-]+/g, "bridge=X");
      const pauses = (monitor: Monitor): number => monitor.said.split("PACKET_IN2").length - 1;
      await eventually(() => pauses(theirs) >= 3 && pauses(ours) >= 3);
      assert.equal(said(ours), said(theirs));
      assert.equal(pauses(ours), 3);
      const counts = async (socket: string): Promise<string> =>
        (await ofctl("OpenFlow13", ["dump-flows", socket])).text.match(/n_packets=\d+/g)?.join() ?? "";
      // Open vSwitch counts a little later.
      for (let i = 0; i < 50 && (await counts(own.socket)) !== (await counts(socketOf(ovs))); i++)
        await new Promise((resolve) => setTimeout(resolve, 50));
      assert.equal(await counts(own.socket), await counts(socketOf(ovs)));
      assert.equal(await sentOut(socketOf(ovs)), theirsBefore + 2);
      assert.equal(await sentOut(own.socket), oursBefore + 2);
    });

  it("a packet that no flow matches goes to controllers of OpenFlow 1.0 to 1.2, and not of later versions", async () => {
    for (const [version, comes] of [
      ["OpenFlow12", true],
      ["OpenFlow13", false],
    ] as const) {
      await both("OpenFlow13", ["del-flows", "@"]);
      using theirs = new Monitor(ovs.dir, version, [socketOf(ovs), "65534"]);
      using ours = new Monitor(ovs.dir, version, [own.socket, "65534"]);
      if (comes) await eventually(() => own.bridge.sw.missesToController);
      else await eventually(() => own.ofproto.wantsPackets);
      for (let i = 0; i < 20; i++) await ovs.appctl("version");
      await receive(frame(HOST_1, HOST_2, 64, 0x88c0));
      await eventually(() => ours.said.includes("PACKET_IN") && theirs.said.includes("PACKET_IN"), comes ? 5000 : 300);
      assert.equal(ours.said.includes("PACKET_IN"), comes);
      assert.equal(ours.said, theirs.said);
    }
  });

  /** An OpenFlow message that adds a flow, or deletes all, for `ofctl/send`. */
  const flowMod = (version: number, xid: number, command: number, priority: number): string =>
    toHex(
      encodeMessage("OFPT_FLOW_MOD", version, xid, (writer) => {
        writer.u64(5n).u64(0n).u8(0).u8(command).u16(0).u16(0).u16(priority);
        writer.u32(0xffffffff).u32(0xffffffff).u32(0xffffffff).u16(0).zeros(2);
        writer.put(encodeOxm({ value: newFlow(), mask: newFlow() }, 3));
      }),
    );

  for (const [i, version] of [
    "OpenFlow10",
    "OpenFlow11",
    "OpenFlow12",
    "OpenFlow13",
    "OpenFlow14",
    "OpenFlow15",
  ].entries()) {
    for (const watch of ["watch:", "watch:!initial,table=1,out_port=2", "watch:!actions,!own,ip", "watch:!delete,!own"])
      it(`ovs-ofctl monitor ${watch} shows in ${version} the changes of flows that Open vSwitch shows`, async () => {
        const change = async (...args: readonly string[]): Promise<void> =>
          both("OpenFlow13", [args[0]!, "@", ...args.slice(1)]);
        await change("del-flows");
        await change("add-flow", "table=1,cookie=3,idle_timeout=90,ip,nw_dst=10.0.0.0/8,actions=output:2");
        using theirs = new Monitor(ovs.dir, version, [socketOf(ovs), watch]);
        using ours = new Monitor(ovs.dir, version, [own.socket, watch]);
        const settled = async (what: string): Promise<void> => {
          await eventually(() => ours.changes === theirs.changes, 3000);
          assert.equal(ours.changes, theirs.changes, what);
        };
        assert.ok(await eventually(() => ours.isListening && theirs.isListening));
        await settled("what is there");
        await change("add-flow", "table=1,priority=7,ip,actions=load:5->NXM_NX_REG1[],output:2,3");
        await settled("a new flow");
        await change("add-flow", "table=1,cookie=9,priority=7,ip,actions=output:2,3");
        await settled("a flow in place of an old one");
        await change("mod-flows", "table=1,ip,actions=output:3");
        await settled("modified flows");
        await change("mod-flows", "table=1,ip,actions=output:3");
        await settled("flows modified to what they are");
        // It takes a second.
        if (watch === "watch:") {
          await change("add-flow", "table=1,priority=1,hard_timeout=1,ip,actions=output:2");
          await eventually(() => [...(own.bridge.sw.tableIfAny(1)?.rules ?? [])].length === 2, 10_000);
          for (
            let n = 0;
            n < 100 && (await ofctl("OpenFlow13", ["dump-flows", socketOf(ovs)])).text.includes("hard_timeout");
            n++
          )
            await new Promise((resolve) => setTimeout(resolve, 50));
          await settled("a flow that has expired");
        }
        if (i >= 3)
          for (const message of [flowMod(i + 1, 0x77, 0, 3), flowMod(i + 1, 0x78, 0, 3), flowMod(i + 1, 0x79, 3, 0)]) {
            for (const monitor of [theirs, ours]) monitor.send(message);
            await settled("its own doing");
          }
        await change("del-flows");
        await settled("flows that are gone");
        assert.match(ours.changes, /event=ADDED/);
        if (i >= 3 && watch === "watch:!delete,!own") assert.match(ours.changes, /event=ABBREV xid=0x77/);
      });
  }

  it("ovs-testcontroller makes a learning switch of it: all hosts ping all", async function () {
    const path = ["/usr/bin", ...(process.env["PATH"] ?? "").split(":")].find((dir) =>
      existsSync(join(dir, "ovs-testcontroller")),
    );
    if (path === undefined) skip(this, "needs the Debian package openvswitch-testcontroller");
    await using switched = await OfprotoLab.open(3, { failMode: "secure", controllers: [] });
    const socket = join(switched.dir, "controller");
    const controller = spawn(join(path!, "ovs-testcontroller"), [`punix:${socket}`], {
      stdio: "ignore",
      env: { ...process.env, OVS_RUNDIR: switched.dir, OVS_LOGDIR: switched.dir },
    });
    try {
      await eventually(() => existsSync(socket));
      switched.services.connect(`unix:${socket}`);
      assert.ok(await eventually(() => switched.bridge.sw.hasController), "connected");
      for (const [from, to] of [
        [1, 2],
        [1, 3],
        [2, 1],
        [2, 3],
        [3, 1],
        [3, 2],
      ] as const) {
        const { stdout } = await switched.lab.run(from, `ping -c 3 -i 0.2 -W 2 ${Lab.ip(to)}`);
        assert.match(stdout, / [23] received/, `host ${from} to host ${to}: ${stdout}`);
      }
      const flows = (await ofctl("OpenFlow10", ["dump-flows", switched.socket])).text;
      assert.match(flows, /n_packets=\d+.*idle_timeout=60/, "the controller made flows");
    } finally {
      controller.kill("SIGKILL");
    }
  });
});
