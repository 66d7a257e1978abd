// A real Open vSwitch as an oracle: ovsdb-server and ovs-vswitchd with the dummy datapath, in a directory of its own.
// Needs no privilege, touches no interface; whatever is sent out of a port is read back byte for byte.
//
// The daemon is driven through its unixctl socket without a process per command: a packet takes well under a
// millisecond. Its datapath runs in the thread that answers unixctl, so once a command reports a packet as received,
// everything that the packet caused has happened.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { PORT, readPcap, writePcap } from "#compiler";
import { NotSupportedError, OffloadError, toHex } from "ebpf-assembler";

const SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema";
const START_TIMEOUT_MS = 20_000;
const PACKET_TIMEOUT_MS = 10_000;
/** Packets given to a dummy port at once; it drops those that wait in a line of more than 100. */
const RECEIVE_BATCH = 64;
/** Bytes of the header that begins a capture file. */
const PCAP_HEADER = writePcap([]).length;

/** The oracle refused a command or died. */
export class OvsError extends OffloadError {
  readonly code = "EOVS";

  constructor(
    readonly command: string,
    readonly reply: string,
  ) {
    super(`Cannot run ${command}: ${reply.trim()}`);
  }
}

/** A JSON-RPC client of a unixctl socket; one command at a time. */
class Unixctl {
  #id = 0;
  #text = "";
  #answer: { resolve: (reply: unknown) => void; reject: (error: Error) => void } | undefined;

  private constructor(private readonly socket: Socket) {
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => this.#take(chunk));
    const end = (): void => this.#answer?.reject(new OvsError("unixctl", "the connection was closed"));
    socket.on("error", end);
    socket.on("close", end);
  }

  static connect(path: string): Promise<Unixctl> {
    return new Promise((resolve, reject) => {
      const socket = connect(path);
      socket.once("connect", () => {
        socket.off("error", reject);
        resolve(new Unixctl(socket));
      });
      socket.once("error", reject);
    });
  }

  #take(chunk: string): void {
    this.#text += chunk;
    // Only one command is under way, so a text that is valid JSON is its whole reply.
    if (!this.#text.trimEnd().endsWith("}")) return;
    let reply: unknown;
    try {
      reply = JSON.parse(this.#text);
    } catch {
      return;
    }
    this.#text = "";
    this.#answer?.resolve(reply);
  }

  async call(method: string, params: readonly string[]): Promise<string> {
    const replied = new Promise<unknown>((resolve, reject) => (this.#answer = { resolve, reject }));
    this.socket.write(JSON.stringify({ id: this.#id++, method, params }));
    const { result, error } = (await replied) as { result: string | null; error: string | null };
    if (error !== null) throw new OvsError([method, ...params].join(" ").slice(0, 200), error);
    return result ?? "";
  }

  close(): void {
    this.#answer = undefined;
    this.socket.destroy();
  }
}

/** A packet that left the switch. */
export interface OvsOutput {
  /** OpenFlow port; PORT.LOCAL for the bridge's own. */
  readonly port: number;
  readonly packet: Uint8Array;
}

export interface OvsOptions {
  /** Ports 1..ports, named p1.. . Default 4. */
  readonly ports?: number;
  /** What the bridge does without flows. Default secure: it drops. */
  readonly failMode?: "secure" | "standalone";
  /** More ports: name, number, and the columns of their interfaces, for example `type=vxlan options:remote_ip=1.1.1.1`. */
  readonly interfaces?: readonly (readonly [name: string, number: number, columns: string])[];
}

/** Whether the daemons are installed. */
export const hasOvs = (): boolean => existsSync(SCHEMA);

const waitFor = async (what: string, isDone: () => boolean, child: ChildProcess): Promise<void> => {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!isDone()) {
    if (child.exitCode !== null) throw new OvsError(what, `the daemon ended with status ${child.exitCode}`);
    if (Date.now() > deadline) throw new OvsError(what, `nothing after ${START_TIMEOUT_MS} ms`);
    await sleep(5);
  }
};

const daemon = (command: string, args: readonly string[], dir: string): ChildProcess =>
  spawn(command, args, {
    cwd: dir,
    env: { ...process.env, OVS_RUNDIR: dir, OVS_LOGDIR: dir, OVS_DBDIR: dir },
    stdio: "ignore",
  });

const QUIET = ["-vconsole:off", "-vsyslog:off", "--log-file"] as const;

/**
 * One switch `br0`. Use as `await using ovs = await Ovs.start({ ports: 4 })`, or call {@link Ovs.stop}; `using` without
 * `await` ends the daemons without waiting for them.
 */
export class Ovs implements Disposable, AsyncDisposable {
  /** Bytes of each port's capture file that were read. */
  readonly #seen = new Map<number, number>();
  /** Packets given to each port. */
  readonly #sent = new Map<number, number>();

  private constructor(
    /** The daemons' run directory: sockets, logs, capture files. */
    readonly dir: string,
    readonly ports: readonly number[],
    private readonly daemons: readonly ChildProcess[],
    private readonly unixctl: Unixctl,
  ) {}

  /**
   * @throws {@link NotSupportedError} when Open vSwitch is not installed
   * @throws {@link OvsError} when a daemon does not come up
   */
  static async start(options: OvsOptions = {}): Promise<Ovs> {
    if (!hasOvs()) throw new NotSupportedError("The Open vSwitch oracle", "install openvswitch-switch");
    const dir = mkdtempSync(join(tmpdir(), "ofxdp-ovs-"));
    const daemons: ChildProcess[] = [];
    try {
      const db = join(dir, "db.sock");
      execFileSync("ovsdb-tool", ["create", join(dir, "conf.db"), SCHEMA]);
      const dbServer = daemon(
        "ovsdb-server",
        [join(dir, "conf.db"), `--remote=punix:${db}`, `--unixctl=${join(dir, "db.ctl")}`, ...QUIET],
        dir,
      );
      daemons.push(dbServer);
      await waitFor("ovsdb-server", () => existsSync(db), dbServer);
      const ports = Array.from({ length: options.ports ?? 4 }, (_, i) => i + 1);
      const vsctl = [`--db=unix:${db}`, "--no-wait", "init", "--", ...Ovs.#configuration(dir, ports, options)];
      execFileSync("ovs-vsctl", vsctl, { stdio: ["ignore", "ignore", "pipe"] });
      const ctl = join(dir, "vswitchd.ctl");
      const vswitchd = daemon(
        "ovs-vswitchd",
        [
          // Tunnels are to be tunnels.
          options.interfaces === undefined ? "--enable-dummy=override" : "--enable-dummy=system",
          "--disable-system",
          "--disable-system-route",
          `--unixctl=${ctl}`,
          ...QUIET,
          `unix:${db}`,
        ],
        dir,
      );
      daemons.push(vswitchd);
      const files = [...ports, PORT.LOCAL].map((port) => Ovs.#capture(dir, port));
      await waitFor(
        "ovs-vswitchd",
        () => existsSync(ctl) && existsSync(join(dir, "br0.mgmt")) && files.every((file) => existsSync(file)),
        vswitchd,
      );
      return new Ovs(dir, ports, daemons, await Unixctl.connect(ctl));
    } catch (error) {
      for (const child of daemons) child.kill("SIGKILL");
      rmSync(dir, { recursive: true, force: true });
      throw error;
    }
  }

  static #capture(dir: string, port: number): string {
    return join(dir, port === PORT.LOCAL ? "br0.pcap" : `p${port}.pcap`);
  }

  /** The configuration as ovs-vsctl arguments. Two tags are parsed, as ofxdp does; OVS's default is one. */
  static #configuration(dir: string, ports: readonly number[], options: OvsOptions): string[] {
    const part = (...words: readonly string[]): string[] => ["--", ...words];
    return [
      ...["set", "Open_vSwitch", ".", "other_config:vlan-limit=2"],
      ...part("add-br", "br0"),
      ...part("set", "Bridge", "br0", "datapath_type=dummy", `fail-mode=${options.failMode ?? "secure"}`),
      ...part("set", "Bridge", "br0", "other_config:hwaddr=aa:55:00:00:00:00", "other_config:disable-in-band=true"),
      ...part("set", "Interface", "br0", "mtu_request=9000", `options:tx_pcap=${Ovs.#capture(dir, PORT.LOCAL)}`),
      ...ports.flatMap((port) => [
        ...part("add-port", "br0", `p${port}`),
        ...part("set", "Interface", `p${port}`, "type=dummy", `ofport_request=${port}`, "mtu_request=9000"),
        ...part("set", "Interface", `p${port}`, `options:tx_pcap=${Ovs.#capture(dir, port)}`),
      ]),
      ...(options.interfaces ?? []).flatMap(([name, number, columns]) => [
        ...part("add-port", "br0", name),
        ...part("set", "Interface", name, `ofport_request=${number}`, ...columns.split(" ")),
      ]),
    ];
  }

  /** Runs a unixctl command of ovs-vswitchd, as `ovs-appctl` does. */
  async appctl(command: string, ...args: readonly string[]): Promise<string> {
    try {
      return await this.unixctl.call(command, args);
    } catch (error) {
      const lastWords = this.#lastWords();
      throw lastWords === undefined ? error : new OvsError(command, lastWords);
    }
  }

  /** Why the daemon died, if it did and said so. */
  #lastWords(): string | undefined {
    const log = readFileSync(join(this.dir, "ovs-vswitchd.log"), "utf8");
    return log.split("\n").findLast((line) => line.includes("|EMER|"));
  }

  /**
   * Runs `ovs-ofctl -O OpenFlow10..15 COMMAND br0 ARGS...`.
   *
   * @param input - standard input, read where an argument is `-`
   */
  ofctl(command: string, args: readonly string[] = [], input = ""): string {
    const bridge = `unix:${join(this.dir, "br0.mgmt")}`;
    try {
      return execFileSync("ovs-ofctl", ["-O", "OpenFlow10,OpenFlow13,OpenFlow15", command, bridge, ...args], {
        input,
        encoding: "utf8",
        stdio: ["pipe", "pipe", "pipe"],
        maxBuffer: 1 << 28,
      });
    } catch (error) {
      throw new OvsError(`ovs-ofctl ${command}`, (error as { stderr?: string }).stderr ?? String(error));
    }
  }

  /** Replaces all flows, in `ovs-ofctl add-flows` syntax, and forgets what the datapath has cached. */
  async setFlows(text: string): Promise<void> {
    this.ofctl("add-flows", ["-"], `delete\n${text}`);
    await this.appctl("revalidator/purge");
  }

  /** Replaces all groups, in `ovs-ofctl add-groups` syntax. Flows that use them go, too. */
  async setGroups(text: string): Promise<void> {
    this.ofctl("del-groups");
    this.ofctl("add-groups", ["-"], text);
    await this.appctl("revalidator/purge");
  }

  /** How many packets a port has received since the start. */
  async #received(port: number): Promise<number> {
    const stats = await this.appctl("dpctl/show", "-s");
    const found = new RegExp(`port \\d+: p${port} [^]*?RX packets:(\\d+)`).exec(stats);
    if (found === null) throw new OvsError("dpctl/show -s", `no port p${port} in ${stats}`);
    return Number(found[1]);
  }

  /**
   * Lets packets of at least 14 bytes arrive at a port, in order; resolves when all of them have been forwarded.
   *
   * @throws {@link OvsError} when that takes more than 10 s
   */
  async receive(port: number, ...packets: readonly (Uint8Array | string)[]): Promise<void> {
    let wanted = this.#sent.get(port) ?? 0;
    for (let at = 0; at < packets.length; at += RECEIVE_BATCH) {
      const batch = packets.slice(at, at + RECEIVE_BATCH).map((p) => (typeof p === "string" ? p : toHex(p)));
      await this.appctl("netdev-dummy/receive", `p${port}`, ...batch);
      wanted += batch.length;
      this.#sent.set(port, wanted);
      const deadline = Date.now() + PACKET_TIMEOUT_MS;
      while ((await this.#received(port)) < wanted)
        if (Date.now() > deadline) throw new OvsError("netdev-dummy/receive", `packets not received by p${port}`);
    }
  }

  /** What has left the switch since the last call: by port, and in order within a port. */
  outputs(): OvsOutput[] {
    const all: OvsOutput[] = [];
    for (const port of [...this.ports, PORT.LOCAL]) {
      const file = readFileSync(Ovs.#capture(this.dir, port));
      const from = this.#seen.get(port) ?? PCAP_HEADER;
      this.#seen.set(port, file.length);
      if (file.length <= from) continue;
      const fresh = new Uint8Array(PCAP_HEADER + file.length - from);
      fresh.set(file.subarray(0, PCAP_HEADER));
      fresh.set(file.subarray(from), PCAP_HEADER);
      for (const { packet } of readPcap(fresh)) all.push({ port, packet });
    }
    return all;
  }

  /** One packet in, everything that it causes out. */
  async forward(port: number, packet: Uint8Array | string): Promise<OvsOutput[]> {
    this.outputs();
    await this.receive(port, packet);
    return this.outputs();
  }

  /** `ofproto/trace`: what would happen to a packet, as text. */
  trace(inPort: number, packet: Uint8Array): Promise<string> {
    return this.appctl("ofproto/trace", "br0", `in_port=${inPort}`, toHex(packet));
  }

  #end(signal: "SIGTERM" | "SIGKILL"): Promise<unknown> {
    this.unixctl.close();
    const ended = this.daemons.map(
      (child) => child.exitCode ?? child.signalCode ?? new Promise((resolve) => child.once("exit", resolve)),
    );
    for (const child of this.daemons) child.kill(signal);
    return Promise.all(ended);
  }

  /** Ends the daemons and removes their directory. */
  async stop(): Promise<void> {
    await this.#end("SIGTERM");
    rmSync(this.dir, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  [Symbol.dispose](): void {
    void this.#end("SIGKILL");
    rmSync(this.dir, { recursive: true, force: true });
  }
}
