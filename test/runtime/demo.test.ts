import assert from "node:assert/strict";
import { spawn, type ChildProcessByStdio } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { formatReport, type DemoFacts, wrap } from "#runtime";

const OFXDP = fileURLToPath(new URL("../../../runtime/dist/bin/ofxdp.js", import.meta.url));

type Child = ChildProcessByStdio<null, Readable, Readable>;

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly pid: number;
}

/** Starts a command; `onText` sees what it has written to stderr so far. */
const start = (
  args: readonly string[],
  onText: (child: Child, text: string) => void = () => undefined,
  env: Readonly<Record<string, string>> = {},
): Promise<Ended> =>
  new Promise((resolve) => {
    const child = spawn(process.execPath, [OFXDP, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...env },
    });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
      onText(child, stderr);
    });
    child.once("close", (code) => resolve({ code, stdout, stderr, pid: child.pid! }));
  });

/** Whatever a demo with this process id could leave: namespace names, directories, processes that know their names. */
const remains = (pid: number): string[] => {
  const mine = (directory: string): string[] =>
    readdirSync(directory).filter((name) => name.startsWith(`ofxdp-demo-${pid}-`));
  const processes = readdirSync("/proc").filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      return readFileSync(`/proc/${name}/cmdline`, "utf8").includes(`ofxdp-demo-${pid}-`);
    } catch {
      return false;
    }
  });
  return [...mine("/var/run/netns"), ...mine(tmpdir()), ...processes.map((process) => `process ${process}`)];
};

describe("ofxdp demo", function () {
  this.timeout(70_000);

  describe("-j", () => {
    let ended: Ended;
    let facts: DemoFacts;
    before(async () => {
      ended = await start(["demo", "-s", "1", "-j"]);
      facts = JSON.parse(ended.stdout) as DemoFacts;
    });

    it("finds everything as it should be, but perhaps for the speed of a busy machine", () => {
      const failed = facts.checks.filter(({ name, ok }) => !ok && !name.includes("quick"));
      assert.deepEqual(failed, []);
      assert.equal(ended.code, facts.checks.every(({ ok }) => ok) ? 0 : 2);
    });

    it("handles most first packets within 20 ms, however busy the machine, and says whether it took less than 2", () => {
      const { count, p50, p99 } = facts.standalone.counters.upcallUs;
      assert.ok(count >= 400 && p50 > 0 && p50 < 20_000, `p50 ${p50} us of ${count}`);
      assert.equal(facts.checks.find(({ name }) => name.includes("quick"))?.ok, p99 < 2000);
    });

    it("compiles at least four tables", () => assert.ok(facts.flows.tables >= 4));

    it("shows megaflows that push, pop, route in IPv4 and IPv6, and drop", () => {
      const find = (match: RegExp, actions: RegExp): boolean =>
        facts.megaflows.some((megaflow) => match.test(megaflow.match) && actions.test(megaflow.actions));
      assert.ok(find(/in_port\(1\).*ipv4/, /^push_vlan\(vid=10,pcp=0\),2$/), "push");
      assert.ok(find(/in_port\(2\).*vlan\(vid=10\).*ipv4/, /^pop_vlan,1$/), "pop");
      assert.ok(find(/in_port\(1\).*ipv4/, /set\(eth\(.*set\(ipv4\(ttl=63\)\),3$/), "route IPv4");
      assert.ok(find(/in_port\(2\).*ipv6/, /set\(ipv6\(hlimit=63\)\).*pop_vlan,3$/), "route IPv6");
      assert.ok(find(/tcp\(dst=23\)/, /^drop$/), "telnet");
      assert.ok(find(/ipv6.*tcp\(dst=22\)/, /^drop$/), "ssh");
    });

    it("counts packets and bytes of megaflows, and hits far above misses", () => {
      const largest = facts.megaflows.reduce((a, b) => (a.packets > b.packets ? a : b));
      assert.ok(largest.packets > 1000 && largest.bytes > 1e6 && largest.hook === "tc");
      assert.ok(facts.counters.hits > 100 * facts.counters.misses && facts.counters.misses > 0);
    });

    it("compares speeds with the kernel's bridge and router", () => {
      for (const { ofxdp, linux, job } of facts.speeds) {
        assert.ok(ofxdp.tcpBitsPerSecond > 1e8 && ofxdp.pingUs > 0, job);
        if (linux !== undefined) assert.ok(linux.tcpBitsPerSecond > 1e8 && linux.pingUs > 0, job);
      }
      assert.ok(facts.speeds.filter(({ linux }) => linux !== undefined).length >= 2);
    });

    it("takes less than a minute and leaves nothing", () => {
      assert.ok(facts.seconds < 60);
      assert.deepEqual(remains(ended.pid), []);
    });

    it("has a report that names every check and counts every megaflow", () => {
      const report = formatReport(facts, 100);
      for (const { name } of facts.checks) assert.ok(report.includes(name), name);
      assert.ok(report.includes(`became ${facts.megaflows.length} megaflows`));
    });
  });

  for (const [signal, status] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const) {
    it(`cleans up on ${signal} in the middle of its traffic`, async () => {
      let isSent = false;
      const ended = await start(["demo"], (child, text) => {
        if (isSent || !text.includes("# ping")) return;
        isSent = true;
        child.kill(signal);
      });
      assert.equal(ended.code, status);
      assert.match(ended.stderr, new RegExp(`Stopped by ${signal}`));
      assert.deepEqual(remains(ended.pid), []);
    });
  }

  it("removes what a killed run left", async () => {
    const killed = await start(["demo"], (child, text) => {
      if (text.includes("# ping")) child.kill("SIGKILL");
    });
    assert.ok(remains(killed.pid).length > 0);
    let isSent = false;
    const next = await start(["demo"], (child) => {
      if (!isSent) child.kill("SIGINT");
      isSent = true;
    });
    assert.match(next.stderr, /Removed what an earlier demo left/);
    assert.deepEqual([...remains(killed.pid), ...remains(next.pid)], []);
  });

  it("names a missing program, ends with 4 and leaves nothing", async () => {
    const ended = await start(["demo"], undefined, { PATH: "/nowhere" });
    assert.equal(ended.code, 4);
    assert.match(ended.stderr, /Program \w+ is not supported: install the package/);
    assert.deepEqual(remains(ended.pid), []);
  });

  it("refuses bad options with 1", async () => {
    assert.equal((await start(["demo", "--seconds", "99"])).code, 1);
    assert.equal((await start(["demo", "--hook", "nic"])).code, 1);
  });
});

describe("wrap()", () => {
  it("breaks between the parts of a match, never inside brackets", () => {
    assert.deepEqual(wrap("in_port(1),eth(src=a,dst=b),ipv4(proto=6)", 24), [
      "in_port(1),",
      "eth(src=a,dst=b),",
      "ipv4(proto=6)",
    ]);
    assert.deepEqual(wrap("drop", 3), ["drop"]);
  });
});
