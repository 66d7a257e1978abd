// The daemon: a switch with its control socket and pid file, from validated options to a clean end.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { z } from "zod";
import { RangeViolation, Scope } from "ebpf-assembler";
import {
  flowMods,
  groupMods,
  meterMods,
  parseFlowMods,
  parseGroupMods,
  parseMeterMods,
  type ParseOptions,
  type PortNames,
} from "#compiler";
import { linux, type Sys } from "libbpf-ts";
import { Bridge } from "./bridge.js";
import { controlCommands } from "./control/commands.js";
import { UnixctlServer } from "./control/unixctl.js";
import { settleHeap } from "./heap.js";
import type { Log } from "./log.js";
import { Ofproto } from "./ofproto/ofproto.js";
import { Services } from "./ofproto/services.js";
import type { TlsFiles } from "./openflow/stream.js";
import { parsePortSpec, type PortSpec } from "./ports/port-spec.js";
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
  flows: z.string().optional(),
  groups: z.string().optional(),
  meters: z.string().optional(),
  failMode: z.enum(["standalone", "secure"]).default("standalone"),
  rundir: z.string().optional(),
  pidfile: z.union([z.string(), z.boolean()]).optional(),
  maxIdle: count(100, 86_400_000).default(10_000),
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

/** Ports get the numbers that the switch will give them: those asked for, and the lowest free ones in order. */
export const numberPorts = (specs: readonly PortSpec[]): (PortSpec & { readonly number: number })[] => {
  const taken = new Set<number>();
  const names = new Set<string>();
  for (const { number, name } of specs) {
    if (names.has(name)) throw new RangeViolation(`Bad option --port: interface ${name} is given twice`);
    names.add(name);
    if (number === undefined) continue;
    if (taken.has(number)) throw new RangeViolation(`Bad option --port: number ${number} is given twice`);
    taken.add(number);
  }
  let next = 1;
  return specs.map((spec) => {
    if (spec.number !== undefined) return { ...spec, number: spec.number };
    while (taken.has(next)) next++;
    taken.add(next);
    return { ...spec, number: next };
  });
};

/** Interface names may stand for port numbers in flow text. */
export const portNames = (specs: readonly (PortSpec & { readonly number: number })[]): PortNames => ({
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

/** A running daemon. Disposing stops it: nothing stays attached, no file stays. */
export class Daemon implements Disposable {
  private constructor(
    readonly bridge: Bridge,
    readonly control: UnixctlServer,
    private readonly scope: Scope,
  ) {}

  /**
   * Starts in the current network namespace.
   * @param onExit - called when a user asks for the end over the control socket
   * @throws {@link CompileError}, {@link NoInterfaceError}, {@link PrivilegeError} and what else {@link Bridge.open} throws;
   *   nothing stays behind
   */
  static async start(options: DaemonOptions, version: string, log: Log, onExit: () => void): Promise<Daemon> {
    using scope = new Scope();
    const ports = numberPorts(options.port);
    const names = portNames(ports);
    const parse = <T>(path: string | undefined, parser: (text: string, options: ParseOptions) => T[]): T[] =>
      path === undefined ? [] : parser(readInput(path), { file: path === "-" ? "<stdin>" : path, ports: names });
    const changes = [
      ...meterMods(parse(options.meters, parseMeterMods)),
      ...groupMods(parse(options.groups, parseGroupMods)),
      ...flowMods(parse(options.flows, parseFlowMods)),
    ];
    const rundir = resolve(rundirOf(options.rundir));
    mkdirSync(rundir, { recursive: true });
    const sys = linux();
    const urgency = options.sched === "rr" ? urgent(sys, log) : undefined;
    if (urgency !== undefined) scope.use(urgency);
    const bridge = scope.use(
      Bridge.open(sys, {
        name: options.bridge,
        failMode: options.failMode,
        ports,
        changes,
        maxIdleMs: options.maxIdle,
        maxFlows: options.flowLimit,
        maxMasks: options.maxMasks,
        log,
        onWarm: settleHeap,
        ...(urgency === undefined ? {} : { onWork: urgency.worked }),
      }),
    );
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
    const control = scope.use(await UnixctlServer.listen(join(rundir, `ofxdpd.${process.pid}.ctl`), commands));
    if (options.pidfile !== undefined && options.pidfile !== false) {
      const path = resolve(rundir, options.pidfile === true ? "ofxdpd.pid" : options.pidfile);
      writeFileSync(path, `${process.pid}\n`);
      scope.defer(() => rmSync(path, { force: true }));
    }
    log.info({ bridge: options.bridge, flows: bridge.sw.size, control: control.path }, "ready");
    return new Daemon(bridge, control, scope.move());
  }

  [Symbol.dispose](): void {
    this.scope[Symbol.dispose]();
  }
}
