// The daemon: a switch with its control socket and pid file, from validated options to a clean end.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { z } from "zod";
import { NotSupportedError, RangeViolation, Scope } from "ebpf-assembler";
import {
  flowMods,
  groupMods,
  meterMods,
  parseFlowMods,
  parseGroupMods,
  parseMeterMods,
  PORT,
  type ParseOptions,
  type PortNames,
} from "#compiler";
import { BPFFS, linux, SyscallError, type Sys } from "libbpf-ts";
import { Bridge } from "./bridge.js";
import { controlCommands } from "./control/commands.js";
import { UnixctlServer } from "./control/unixctl.js";
import { DatapathPins } from "./datapath/pins.js";
import { settleHeap } from "./heap.js";
import type { Log } from "./log.js";
import { Ofproto } from "./ofproto/ofproto.js";
import { Services } from "./ofproto/services.js";
import type { TlsFiles } from "./openflow/stream.js";
import { parsePortSpec, type PortSpec } from "./ports/port-spec.js";
import { parseTunnelSpec, parseUplinkSpec, type TunnelSpec } from "./ports/tunnel-spec.js";
import { StateKeeper } from "./state/keeper.js";
import { Urgency } from "./urgency.js";

/** Where control sockets and pid files of OVS daemons are. */
export const DEFAULT_RUNDIR = "/var/run/openvswitch";

export const rundirOf = (option: string | undefined): string => option ?? process.env["OVS_RUNDIR"] ?? DEFAULT_RUNDIR;

const count = (min: number, max: number) => z.coerce.number().int().min(min).max(max);

/** Options of ofxdpd as they come from the command line. */
export const daemonOptions = z.object({
  bridge: z
    .string()
    .regex(/^[A-Za-z0-9_.-]{1,15}$/, "want 1 to 15 letters, digits, '_', '.' or '-'")
    .default("br0"),
  port: z.array(z.string().transform((text) => parsePortSpec(text))).default([]),
  tunnel: z.array(z.string().transform((text) => parseTunnelSpec(text))).default([]),
  uplink: z.array(z.string().transform((text) => parseUplinkSpec(text))).default([]),
  local: z.boolean().default(false),
  flows: z.string().optional(),
  groups: z.string().optional(),
  meters: z.string().optional(),
  failMode: z.enum(["standalone", "secure"]).default("standalone"),
  mode: z.enum(["megaflow", "direct", "auto"]).default("megaflow"),
  rundir: z.string().optional(),
  pidfile: z.union([z.string(), z.boolean()]).optional(),
  maxIdle: count(100, 86_400_000).default(10_000),
  bpffs: z.string().default(BPFFS),
  pins: z.boolean().default(true),
  flowLimit: count(1, 10_000_000).default(200_000),
  maxMasks: count(0, 256).default(32),
  sched: z.enum(["rr", "other"]).default("rr"),
  controller: z.array(z.string()).default([]),
  listen: z.array(z.string()).default([]),
  privateKey: z.string().optional(),
  certificate: z.string().optional(),
  caCert: z.string().optional(),
  datapathId: z
    .string()
    .regex(/^[0-9a-fA-F]{16}$/, "want 16 hex digits")
    .optional(),
});
export type DaemonOptions = z.infer<typeof daemonOptions>;

/** @throws {@link RangeViolation} that names the option */
export const parseDaemonOptions = (options: unknown): DaemonOptions => {
  const parsed = daemonOptions.safeParse(options);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const name = String(issue?.path[0] ?? "").replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`);
  throw new RangeViolation(`Bad option --${name}: ${issue?.message ?? "not valid"}`);
};

/** Text of a file, or of stdin for `-`. @throws {@link RangeViolation} */
export const readInput = (path: string): string => {
  try {
    return readFileSync(path === "-" ? 0 : path, "utf8");
  } catch (error) {
    throw new RangeViolation(`Cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
};

/**
 * Ports get the numbers that the switch will give them: those asked for, those that they had, and the lowest free ones in
 * order.
 * @param before - numbers of an earlier process, by name
 */
export const numberPorts = <T extends Pick<PortSpec, "number" | "name">>(
  specs: readonly T[],
  before: ReadonlyMap<string, number> = new Map(),
): (T & { readonly number: number })[] => {
  const taken = new Set<number>();
  const names = new Set<string>();
  for (const { number, name } of specs) {
    if (names.has(name)) throw new RangeViolation(`Bad option --port: interface ${name} is given twice`);
    names.add(name);
    if (number === undefined) continue;
    if (taken.has(number)) throw new RangeViolation(`Bad option --port: number ${number} is given twice`);
    taken.add(number);
  }
  const kept = new Map<string, number>();
  for (const { number, name } of specs) {
    const had = before.get(name);
    if (number !== undefined || had === undefined || taken.has(had)) continue;
    kept.set(name, had);
    taken.add(had);
  }
  let next = 1;
  return specs.map((spec) => {
    const number = spec.number ?? kept.get(spec.name);
    if (number !== undefined) return { ...spec, number };
    while (taken.has(next)) next++;
    taken.add(next);
    return { ...spec, number: next };
  });
};

/** The bridge's own port, if it is to have one. */
const localPort = ({ local, bridge }: DaemonOptions): readonly PortSpec[] =>
  local ? [{ number: PORT.LOCAL, name: bridge, hook: "auto", internal: true }] : [];

/** Interface names may stand for port numbers in flow text. */
export const portNames = (specs: readonly { readonly name: string; readonly number: number }[]): PortNames => ({
  numbers: new Map(specs.map(({ name, number }) => [name, number])),
});

/** Without the privilege the daemon does what it does, only later. */
const urgent = (sys: Sys, log: Log): Urgency | undefined => {
  try {
    return Urgency.start(sys);
  } catch (error) {
    log.warn({ err: error }, "cannot run before other threads; first packets may wait for a processor");
    return undefined;
  }
};

/** The files for TLS, of which there are all or none. @throws {@link RangeViolation} */
const tlsOf = ({ privateKey, certificate, caCert }: DaemonOptions): { readonly tls?: TlsFiles } => {
  if (privateKey === undefined && certificate === undefined && caCert === undefined) return {};
  if (privateKey === undefined || certificate === undefined || caCert === undefined)
    throw new RangeViolation("Bad options for TLS: want --private-key, --certificate and --ca-cert together");
  return { tls: { privateKey, certificate, caCert } };
};

/** A switch is known by the address of its lowest port, unless told otherwise. */
const datapathIdOf = ({ datapathId }: DaemonOptions, bridge: Bridge): bigint => {
  if (datapathId !== undefined) return BigInt(`0x${datapathId}`);
  const mac = bridge.ports.all.find((port) => port.mac !== "")?.mac.replaceAll(":", "");
  return BigInt(`0x${mac ?? "0"}`);
};

/** Where the datapath is pinned; without the right or the place to pin, it ends with the process. */
const pinsOf = (sys: Sys, { bridge, bpffs, pins }: DaemonOptions, log: Log): DatapathPins | undefined => {
  if (!pins) return undefined;
  try {
    return DatapathPins.open(sys, bridge, bpffs);
  } catch (error) {
    if (!(error instanceof NotSupportedError) && !(error instanceof SyscallError)) throw error;
    log.warn({ err: error }, "cannot pin the datapath: it will end with this process");
    return undefined;
  }
};

/**
 * Makes sure that nobody else runs this switch, for as long as the result is not disposed or the process ends.
 * @throws {@link RangeViolation}
 */
const lock = async (bridge: string): Promise<Disposable> => {
  // Names without a file are per network namespace, as the datapath is.
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) =>
      reject(
        error.code === "EADDRINUSE"
          ? new RangeViolation(
              `Cannot run ${bridge}: another ofxdpd runs it in this network namespace; end that one, or give --bridge another name`,
            )
          : error,
      ),
    );
    server.listen(`\0ofxdpd/${bridge}`, resolve);
  });
  server.unref();
  return { [Symbol.dispose]: () => void server.close() };
};

/** Removes the control sockets of daemons that are no more: they were killed. */
const removeStaleSockets = (rundir: string): void => {
  for (const name of readdirSync(rundir)) {
    const pid = /^ofxdpd\.(\d+)\.ctl$/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(rundir, name), { force: true });
  }
};

/** Names the tables that the command line gives. */
const inputOf = (options: DaemonOptions, texts: readonly (string | undefined)[]): string =>
  createHash("sha256")
    .update(JSON.stringify([options.failMode, ...texts]))
    .digest("hex");

/** A running daemon. Disposing stops it: nothing stays attached, no file stays. */
export class Daemon implements Disposable {
  private constructor(
    readonly bridge: Bridge,
    readonly control: UnixctlServer,
    private readonly scope: Scope,
    private readonly ends: { isForGood: boolean },
  ) {}

  /** Whether the datapath goes on when the process ends by surprise. */
  get isPinned(): boolean {
    return this.bridge.isPinned;
  }

  /** Stops it, but for the datapath, which goes on forwarding what it knows until the next one starts. */
  async leave(): Promise<void> {
    await this.bridge.leave();
    this.ends.isForGood = false;
    this[Symbol.dispose]();
  }

  /**
   * Starts in the current network namespace. Where an earlier one left its datapath, or was killed, this one goes on.
   * @param onExit - called when a user asks for the end over the control socket: for good, or leaving the datapath
   * @throws {@link CompileError}, {@link NoInterfaceError}, {@link PrivilegeError} and what else {@link Bridge.open} throws;
   *   nothing stays behind
   */
  static async start(
    options: DaemonOptions,
    version: string,
    log: Log,
    onExit: (cleanup: boolean) => void,
  ): Promise<Daemon> {
    using scope = new Scope();
    const rundir = resolve(rundirOf(options.rundir));
    const texts = [options.meters, options.groups, options.flows].map((path) =>
      path === undefined ? undefined : readInput(path),
    );
    mkdirSync(rundir, { recursive: true });
    scope.use(await lock(options.bridge));
    const keeper = new StateKeeper(rundir, options.bridge, version, inputOf(options, texts), (error) =>
      log.error({ err: error }, "cannot save the state of the switch"),
    );
    const numbered = numberPorts<PortSpec | TunnelSpec>(
      [...options.port, ...localPort(options), ...options.tunnel],
      keeper.portNumbers,
    );
    const ports = numbered.filter((spec) => !("config" in spec)) as (PortSpec & { readonly number: number })[];
    const tunnels = numbered.filter((spec) => "config" in spec);
    const names = portNames(numbered);
    const [meterText, groupText, flowText] = texts;
    const parse = <T>(
      path: string | undefined,
      text: string | undefined,
      parser: (text: string, options: ParseOptions) => T[],
    ): T[] => (text === undefined ? [] : parser(text, { file: path === "-" ? "<stdin>" : (path ?? ""), ports: names }));
    // What was saved began with the same input.
    const changes =
      keeper.saved !== undefined
        ? []
        : [
            ...meterMods(parse(options.meters, meterText, parseMeterMods)),
            ...groupMods(parse(options.groups, groupText, parseGroupMods)),
            ...flowMods(parse(options.flows, flowText, parseFlowMods)),
          ];
    const sys = linux();
    const pins = pinsOf(sys, options, log);
    const ends = { hasStarted: false, isForGood: false };
    scope.defer(() => {
      if (ends.isForGood) {
        pins?.remove();
        keeper[Symbol.dispose]();
      } else if (!ends.hasStarted) pins?.giveUp();
    });
    const urgency = options.sched === "rr" ? urgent(sys, log) : undefined;
    if (urgency !== undefined) scope.use(urgency);
    const bridge = scope.use(
      Bridge.open(sys, {
        name: options.bridge,
        failMode: options.failMode,
        mode: options.mode,
        ports,
        tunnels,
        uplinks: options.uplink,
        changes,
        maxIdleMs: options.maxIdle,
        maxFlows: options.flowLimit,
        maxMasks: options.maxMasks,
        keeper,
        ...(pins === undefined ? {} : { pins }),
        log,
        onWarm: settleHeap,
        ...(urgency === undefined ? {} : { onWork: urgency.worked }),
      }),
    );
    ends.hasStarted = ends.isForGood = true;
    const commands = controlCommands({ bridge, version, ports: names, exit: onExit });
    const ofproto = scope.use(
      new Ofproto({
        bridge,
        log,
        datapathId: datapathIdOf(options, bridge),
        description: {
          manufacturer: "ofxdp",
          hardware: "XDP and TC",
          software: version,
          serialNumber: "None",
          datapath: options.bridge,
        },
      }),
    );
    scope.use(
      await Services.open({
        ofproto,
        log,
        management: join(rundir, `${options.bridge}.mgmt`),
        controllers: options.controller,
        listen: options.listen,
        ...tlsOf(options),
      }),
    );
    removeStaleSockets(rundir);
    const control = scope.use(await UnixctlServer.listen(join(rundir, `ofxdpd.${process.pid}.ctl`), commands));
    if (options.pidfile !== undefined && options.pidfile !== false) {
      const path = resolve(rundir, options.pidfile === true ? "ofxdpd.pid" : options.pidfile);
      writeFileSync(path, `${process.pid}\n`);
      scope.defer(() => rmSync(path, { force: true }));
    }
    log.info({ bridge: options.bridge, flows: bridge.sw.size, control: control.path }, "ready");
    return new Daemon(bridge, control, scope.move(), ends);
  }

  [Symbol.dispose](): void {
    this.scope[Symbol.dispose]();
  }
}
