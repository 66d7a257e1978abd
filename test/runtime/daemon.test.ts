import assert from "node:assert/strict";
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { queryTcx, Rtnl } from "libbpf-ts";
import { formatTop, numberPorts, parseDaemonOptions, parsePortSpec } from "#runtime";
import { eventually, Lab, sleep, type Ran } from "./lab.js";

const run = promisify(execFile);
const BIN = new URL("../../../runtime/dist/bin/", import.meta.url).pathname;
const OFXDPD = join(BIN, "ofxdpd.js");
const OFXDP = join(BIN, "ofxdp.js");

const FLOWS = `table=0,priority=100,arp actions=resubmit(,1)
table=0,priority=50,ip actions=dec_ttl,goto_table:1
table=1,priority=20,icmp,nw_dst=10.0.0.3 actions=drop
table=1,priority=10 actions=NORMAL
`;

/** What is attached to the interfaces of the switch's namespace. */
const attached = (lab: Lab): string[] =>
  lab.switchNs.run(() => {
    using rtnl = Rtnl.open(lab.sys);
    return rtnl.interfaces().flatMap(({ index, name, xdp }) => {
      const tcx = queryTcx(lab.sys, index, "ingress")?.length ?? 0;
      return [...Object.keys(xdp).map((mode) => `${name} ${mode}`), ...(tcx > 0 ? [`${name} tcx`] : [])];
    });
  });

describe("runtime/daemon", function () {
  this.timeout(60_000);
  let lab: Lab;
  let dir: string;
  let pid = 0;
  let target = "";

  const inSwitch = (...args: string[]): Promise<Ran> =>
    lab.run("switch", [process.execPath, OFXDPD, "--rundir", dir, ...args].join(" "), 30_000);
  const appctl = async (...args: string[]): Promise<string> =>
    (await run("ovs-appctl", ["-t", target, ...args], { timeout: 20_000 })).stdout;
  const ping = async (host: number, n = 3): Promise<number> => {
    const { stdout } = await lab.run(1, `ping -c ${n} -i 0.1 -W 1 ${Lab.ip(host)}`);
    return Number(/(\d+) received/.exec(stdout)?.[1]);
  };

  before(async () => {
    lab = new Lab(3);
    await lab.silence();
    dir = mkdtempSync(join(tmpdir(), "ofxdpd-"));
    writeFileSync(join(dir, "flows.txt"), FLOWS);
    const ports = ["p1", "2=p2", "3=p3:tc"].flatMap((port) => ["--port", port]);
    const { code, stderr } = await inSwitch(
      ...ports,
      "--flows",
      join(dir, "flows.txt"),
      "--pidfile",
      "--detach",
      "-v warn",
    );
    assert.equal(code, 0, stderr);
    pid = Number(readFileSync(join(dir, "ofxdpd.pid"), "utf8"));
    target = join(dir, `ofxdpd.${pid}.ctl`);
  });
  after(async () => {
    if (pid > 0 && existsSync(`/proc/${pid}`)) process.kill(pid, "SIGKILL");
    lab[Symbol.dispose]();
    rmSync(dir, { recursive: true });
  });

  it("ofxdpd --detach handles packets by its flows when it returns", async () => {
    assert.deepEqual([await ping(2), await ping(3)], [3, 0]);
  });

  it("bridge/dump-flows counts every packet of every rule it passed", async () => {
    const text = await appctl("bridge/dump-flows", "br0");
    const count = (rule: string): number =>
      Number(/n_packets=(\d+)/.exec(text.split("\n").find((line) => line.endsWith(rule)) ?? "")?.[1]);
    // Three requests there, three answers back, three requests dropped.
    assert.equal(count("priority=50,ip,actions=dec_ttl,goto_table:1"), 9, text);
    assert.equal(count("priority=20,icmp,nw_dst=10.0.0.3,actions=drop"), 3, text);
    assert.match(text, /n_packets=9, n_bytes=882, priority=50,ip,/);
  });

  it("ovs-appctl gets the commands that OVS has, in its words", async () => {
    assert.match(await appctl("version"), /^ofxdpd \(ofxdp\) \d+\.\d+\.\d+\n$/);
    assert.match(await appctl("list-commands"), /^The available commands are:\n(.*\n)* {2}dpctl\/dump-flows/);
    assert.match(await appctl("dpif/show"), /^ofxdp@br0: hit:\d+ missed:\d+\n {2}br0:\n {4}p1 1\/\d+: \(tc\)\n/);
    assert.match(
      await appctl("fdb/show", "br0"),
      /^ port {2}VLAN {2}MAC {16}Age\n( +\d {5}0 {2}02:00:00:00:00:0\d +\d+\n)+$/,
    );
    assert.match(await appctl("upcall/show"), /flows +: \(current \d+\)/);
    assert.match(await appctl("memory/show"), /^ports:3 rules:4 udpif keys:\d+ /);
    assert.match(
      await appctl("ofproto/trace", "br0", "in_port=1,icmp,nw_dst=10.0.0.3,nw_ttl=64"),
      /Datapath actions: drop/,
    );
    assert.match(
      await appctl("dpctl/dump-flows"),
      /in_port\(1\),.*eth_type\(0x0800\),ipv4\(.*\), packets:\d+, bytes:\d+, used:\S+, dp:tc, actions:set\(ipv4\(ttl=63\)\),2\n/,
    );
  });

  it("ofxdp/add-flows changes what happens to cached flows, ofxdp/replace-flows takes it back", async () => {
    const path = join(dir, "more.txt");
    writeFileSync(path, "table=1,priority=30,icmp actions=drop\n");
    await appctl("ofxdp/add-flows", path);
    await sleep(100);
    assert.equal(await ping(2), 0);
    await appctl("ofxdp/replace-flows", join(dir, "flows.txt"));
    await sleep(100);
    assert.equal(await ping(2), 3);
    const stats = JSON.parse(await appctl("ofxdp/stats")) as { rules: number; upcalls: { errors: number } };
    assert.deepEqual([stats.rules, stats.upcalls.errors], [4, 0]);
  });

  it("ofxdp/add-flows refuses bad text with place and reason, and changes nothing", async () => {
    const path = join(dir, "bad.txt");
    writeFileSync(path, "priority=1 actions=drop\ntcp,tp_dst=x actions=drop\n");
    await assert.rejects(appctl("ofxdp/add-flows", path), /bad\.txt:2:12: /);
    assert.match(await appctl("memory/show"), /rules:4 /);
  });

  it("fdb/flush forgets what was learned", async () => {
    assert.equal(await appctl("fdb/flush", "br0"), "table successfully flushed\n");
    assert.equal(await appctl("fdb/show", "br0"), " port  VLAN  MAC                Age\n");
    assert.equal(await ping(2), 3);
  });

  it("ofxdp/add-meters and ofxdp/bundle let so many packets pass and no more; a wrong bundle changes nothing", async () => {
    const file = (name: string, text: string): string => {
      writeFileSync(join(dir, name), text);
      return join(dir, name);
    };
    await appctl("ofxdp/add-meters", file("meters.txt", "meter=1 pktps burst bands=type=drop rate=1 burst_size=4\n"));
    const bundle = "group add group_id=1,type=indirect,bucket=NORMAL\n";
    const flow = "flow add table=1,priority=30,icmp actions=meter:1,group:1\n";
    const wrong = file("wrong.txt", `${bundle}${flow}flow add actions=group:9\n`);
    await assert.rejects(appctl("ofxdp/bundle", wrong), /wrong\.txt:3:1: Cannot use group 9/);
    assert.equal(await ping(2), 3);
    await appctl("ofxdp/bundle", file("bundle.txt", `${bundle}${flow}`));
    await sleep(100);
    // A request and its answer take two tokens.
    const answered = await ping(2, 8);
    assert.ok(answered === 2 || answered === 3, `${answered} answers`);
    const meters = await appctl("ofxdp/dump-meters");
    const [, packets, dropped] = /packet_in_count:(\d+) .*\n0: packet_count:(\d+) /.exec(meters) ?? [];
    assert.equal(Number(packets) - Number(dropped), Number(packets) === 8 + answered ? 2 * answered : NaN, meters);
    await appctl("ofxdp/bundle", file("back.txt", "group delete\n"));
    await sleep(100);
    assert.equal(await ping(2), 3);
  });

  it("ofxdp dump-flows and top talk to the daemon of the run directory", async () => {
    const ofxdp = (...args: string[]) => run(process.execPath, [OFXDP, ...args, "--rundir", dir]);
    const flows = JSON.parse((await ofxdp("dump-flows", "-j")).stdout) as { match: string; hook: string }[];
    assert.ok(
      flows.some(({ match, hook }) => match.includes("ipv4(") && hook === "tc"),
      JSON.stringify(flows),
    );
    assert.match((await ofxdp("top", "-n", "1", "-i", "0.2")).stdout, /^megaflows \d+ .*\n\nport .*\np1 +tc /);
    await assert.rejects(
      run(process.execPath, [OFXDP, "dump-flows", "--rundir", join(dir, "none")]),
      (error: { code: number; stderr: string }) => error.code === 2 && /No running ofxdpd in/.test(error.stderr),
    );
  });

  it("ofxdpd says in one line what is wrong, with the exit status of the contract, and attaches nothing", async () => {
    const before = attached(lab);
    writeFileSync(join(dir, "wrong.txt"), "ip,nw_src=1.2.3 actions=drop\n");
    const drop = "-net_admin,-sys_admin,-bpf,-perfmon";
    const cases: readonly (readonly [args: string, code: number, line: RegExp])[] = [
      ["--port nope", 1, /^ofxdpd: No network interface named "nope" in this network namespace\n$/],
      [
        "--port p1:fast",
        1,
        /^ofxdpd: Bad hook "fast" in "p1:fast": want one of auto, native, generic, tc, peer, internal\n$/,
      ],
      ["--port 1=p1 --port 1=p2", 1, /^ofxdpd: Bad option --port: number 1 is given twice\n$/],
      ["--bridge a/b", 1, /^ofxdpd: Bad option --bridge: want /],
      [`--flows ${join(dir, "wrong.txt")}`, 1, /wrong\.txt:1:11: [^\n]+\n$/],
      ["--flows /nowhere", 1, /^ofxdpd: Cannot read \/nowhere: ENOENT[^\n]+\n$/],
      ["--frob", 1, /unknown option '--frob'/],
    ];
    for (const [args, code, line] of cases) {
      const got = await inSwitch("--bridge br1", args);
      assert.match(got.stderr, line, args);
      assert.equal(got.code, code, args);
    }
    const unprivileged = `setpriv --bounding-set ${drop} --inh-caps -all ${process.execPath} ${OFXDPD} --bridge br1 --rundir ${dir} --port p1`;
    const got = await lab.run("switch", unprivileged);
    assert.match(got.stderr, /^ofxdpd: Cannot [^\n]*EPERM[^\n]*\n$/);
    assert.equal(got.code, 4);
    assert.deepEqual(attached(lab), before);
  });

  it("SIGTERM leaves no attachment, socket or pid file", async () => {
    assert.deepEqual(attached(lab), ["p1 tcx", "p2 tcx", "p3 tcx"]);
    process.kill(pid, "SIGTERM");
    assert.ok(await eventually(() => !existsSync(`/proc/${pid}`), 10_000));
    assert.deepEqual(attached(lab), []);
    assert.deepEqual(
      readdirSync(dir).filter((name) => name.startsWith("ofxdpd")),
      [],
    );
  });

  it("exit --cleanup ends a daemon in the foreground with status 0; what one left is taken over by the next", async () => {
    const start = async (): Promise<{ child: ChildProcess; socket: string }> => {
      const args = [`--net=${lab.path("switch")}`, process.execPath, OFXDPD, "--rundir", dir, "--port", "p1:native"];
      const child = spawn("nsenter", args, { stdio: "ignore" });
      const socket = join(dir, `ofxdpd.${child.pid}.ctl`);
      assert.ok(await eventually(() => existsSync(socket), 15_000));
      return { child, socket };
    };
    const ended = (child: ChildProcess) => new Promise<number | null>((resolve) => child.once("exit", resolve));

    const first = await start();
    assert.deepEqual(attached(lab), ["p1 native"]);
    const end = ended(first.child);
    await run("ovs-appctl", ["-t", first.socket, "exit", "--cleanup"]);
    assert.equal(await end, 0);
    assert.deepEqual(attached(lab), []);

    const second = await start();
    const killed = ended(second.child);
    second.child.kill("SIGKILL");
    await killed;
    assert.deepEqual(attached(lab), ["p1 native"]);
    const third = await start();
    const terminated = ended(third.child);
    third.child.kill("SIGTERM");
    await terminated;
    assert.deepEqual(attached(lab), []);
  });
});

describe("runtime/daemon options", () => {
  it("numberPorts() gives the lowest free numbers in order", () => {
    const numbers = numberPorts(["a", "2=b", "c", "9=d", "e"].map(parsePortSpec)).map(
      ({ name, number }) => `${name}${number}`,
    );
    assert.deepEqual(numbers, ["a1", "b2", "c3", "d9", "e4"]);
  });

  for (const text of ["", "0=a", "65280=a", "a b", "1=", "a:b:c", "x=a", "nameistoolong12345"]) {
    it(`parsePortSpec() refuses ${JSON.stringify(text)}`, () => {
      assert.throws(() => parsePortSpec(text), /^RangeViolation: Bad (port|hook)/);
    });
  }

  it("parseDaemonOptions() names the option that is wrong", () => {
    assert.throws(() => parseDaemonOptions({ maxIdle: "never" }), /Bad option --max-idle: /);
    assert.throws(() => parseDaemonOptions({ flowLimit: "0" }), /Bad option --flow-limit: /);
    assert.equal(parseDaemonOptions({ maxMasks: "4" }).maxMasks, 4);
  });

  it("formatTop() shows rates between two readings", () => {
    const reading = (uptimeMs: number, packets: number) => ({
      hits: packets,
      lost: 0,
      uptimeMs,
      upcalls: { misses: 0, slow: 0, latency: { p99: 12_345 } },
      cache: { megaflows: 2, subtables: 1 },
      ports: [{ name: "p1", hook: "tc", rxPackets: packets, txPackets: 0, rxBytes: packets * 1000, txBytes: 0 }],
    });
    const text = formatTop(reading(3000, 5000), reading(1000, 1000));
    assert.match(text, /hits\/s 2,000 .* upcall p99 12 us\n/);
    assert.match(text, /p1 +tc +2,000 +0 +16\.0 +0\.0\n/);
  });
});
