// From a switch's tables to a direct program: no cache and no upcall, the tables themselves as code and data.
//
//   entry ─► parser ─► table 0 ─► … ─► action set ─► rewriting ─► redirect
//               │          │ miss                        │
//               └──────────┴── what no program can do ───┴──► user space if there is one, else counted and dropped
//
// Nothing of the packet is changed before all of it is decided: what goes to user space goes as it came.

import type { MapSpec, ObjectSpec, ProgramSpec } from "ebpf-assembler";
import { CONTROL, MAPS, OVS_PACKET_CMD } from "../datapath/abi.js";
import { buildStub, countedBytes, datapathMaps, METERS, pullHeaders } from "../datapath/compile.js";
import { be16, type Emit } from "../datapath/emit.js";
import { emitMeter } from "../datapath/meter.js";
import { emitParser } from "../datapath/parse.js";
import { plan } from "../datapath/plan.js";
import { emitUpcall } from "../datapath/upcall.js";
import { costOf, VERIFIER_LIMITS } from "../emit/bpf/cost.js";
import { emitProgram } from "../emit/bpf/emit.js";
import { FrameError } from "../emit/bpf/frame.js";
import { IrBuilder } from "../ir/builder.js";
import { estimate } from "../ir/estimate.js";
import type { BlockId, Hook, Program, VReg } from "../ir/types.js";
import { ethernet, NW_FRAG } from "../packet/headers.js";
import { runPasses } from "../passes/index.js";
import { Switch } from "../pipeline/switch.js";
import type { Member } from "../openflow/flow.js";
import { TARGETS } from "../targets/index.js";
import { directProgramOf, FALLBACK_SLOT, MARKER_TYPE, PORT_STATS, STATS, UNHANDLED } from "./abi.js";
import { analyse, DirectRefusal, strictRefusal, type Analysis } from "./analyse.js";
import { emitCommit, needsOf, type Found } from "./commit.js";
import { element, fieldOf, guess, hiddenZero, newCell, type Direct } from "./emit.js";
import { MAX_STAGES, Pipeline } from "./pipeline.js";
import { liveRecords, type LiveRecords } from "./records.js";
import { emitActionSet } from "./send.js";
import { TAG_MEMBERS } from "./state.js";
import { tablesOf, type Tables } from "./tables.js";

/** Further outputs of one packet at TC. */
const MAX_FURTHER_OUTPUTS = 7;

export interface DirectOptions {
  /** Interface index of an OpenFlow port; default the same number. */
  readonly ifindexOf?: (port: number) => number;
  /** Who takes what the program cannot do. Default nobody. */
  readonly behind?: Behind;
  /** What becomes of packets that nobody takes, besides being counted. Default drop. */
  readonly unhandled?: "drop" | "pass";
  /** Interface indices below this have counters and can be redirected to; as in the plan of the megaflow program. */
  readonly portSlots?: number;
  /** Whether {@link MARKER_TYPE} frames are not the program's, for replaying; default when user space is behind it. */
  readonly hasMarkers?: boolean;
  /** Whether there is a map of meters to share with the megaflow program; rules that meter are not direct without. */
  readonly hasMeters?: boolean;
  /** Whether every rule must be direct, else the tables are refused; default when nobody is behind the program. */
  readonly isStrict?: boolean;
}

/**
 * Who takes what a program cannot do:
 *
 * - `nobody`: such packets are counted, and dropped or passed on to the host;
 * - `user-space`: they go there, as they came;
 * - `megaflows`: the program is `direct_HOOK` and stands before a megaflow program, which gets them as they came; it is that
 *   program that hands to user space what it misses.
 */
export type Behind = "nobody" | "user-space" | "megaflows";

/** A compiled pipeline. */
export interface DirectProgram {
  readonly analysis: Analysis;
  /** The main program before instructions are selected. */
  readonly ir: Program;
  readonly object: ObjectSpec;
  /** By table: what of its rules can change while the program runs. */
  readonly records: ReadonlyMap<number, LiveRecords>;
}

const identity = (n: number): number => n;

/** Counts every rule that the packet passed, when that was put off to the end. */
const emitCounts = (d: Direct, analysis: Analysis): void => {
  const { b, passed } = d;
  if (passed === undefined) return;
  for (const cell of passed) {
    const next = b.block("");
    const rule = b.alu("sub", b.load("u32", ...cell, "passed"), 1, "rule");
    // Also where there is none: unsigned.
    b.unless("ge", rule, analysis.counts.nCounters, next);
    const counters = element(b, STATS.map, 0, rule, STATS.size);
    b.atomicAdd("u64", counters, STATS.packets, b.value("one", 1));
    b.atomicAdd("u64", counters, STATS.bytes, d.bytes);
    b.place(next);
  }
};

/** Passes the packet through its meter, if it has one: what exceeds it is dropped. */
const emitMetered = (d: Direct): void => {
  const { b, meter } = d;
  if (meter === undefined) return;
  const [slot, off] = meter;
  const passes = b.block("metered");
  const number = b.load("u32", slot, off, "meter");
  b.unless("eq", number, 0, passes);
  b.store("u32", slot, off, b.alu("sub", number, 1, "slot"));
  emitMeter({ b, args: slot, len: d.len, drop: d.drop }, off);
  b.jump(passes);
  b.place(passes);
};

/** Whether some rule meters. */
const meters = ({ rules }: Analysis): boolean => rules.some(({ ops }) => ops.some(({ op }) => op === "meter"));

/** Interface indices of a plan that says nothing of them. */
const DEFAULT_PORT_SLOTS = 4096;

/** Adds the packet to a pair of counters of an interface, which the verifier is told is one of them. */
const countAt = (d: Direct, portSlots: number, ifindex: VReg, pair: "rx" | "tx", bytes: VReg): void => {
  const { b } = d;
  const beyond = b.block("no_counters");
  const known = guess(d, ifindex);
  b.unless("ge", known, portSlots, beyond);
  const counters = element(b, PORT_STATS.map, 0, known, PORT_STATS.size);
  b.atomicAdd("u64", counters, PORT_STATS[pair], b.value("one", 1));
  b.atomicAdd("u64", counters, PORT_STATS[pair] + 8, bytes);
  b.jump(beyond);
  b.place(beyond);
};

/** Counts a packet where it came in and, when it leaves, where it goes; tags that change on the way change its length. */
const emitPortCounts = (d: Direct, portSlots: number, found: Found | undefined): void => {
  const { b } = d;
  countAt(d, portSlots, d.ifindex, "rx", d.bytes);
  if (found === undefined) return;
  const { pops, pushes } = found;
  const bytes =
    pops === undefined || pushes === undefined
      ? d.bytes
      : b.alu("add", d.bytes, b.alu("lsh", b.alu("sub", pushes, pops, "tags"), 2, "tags"), "bytes");
  countAt(d, portSlots, d.out, "tx", bytes);
  if (d.more === undefined) return;
  const all = b.block("outputs_counted");
  for (let i = 0; i < d.more.slot.size / 4; i++) {
    b.unless("le", guess(d, d.more.n), i, all);
    countAt(d, portSlots, b.load("u32", d.more.slot, 4 * i, "ifindex"), "tx", bytes);
  }
  b.jump(all);
  b.place(all);
};

const buildProgram = (
  analysis: Analysis,
  hook: Hook,
  { ifindexOf, behind, unhandled, portSlots, isStrict, hasMarkers }: Required<DirectOptions>,
  stages: number,
): { program: Program; maps: readonly MapSpec[]; pipeline: Pipeline } => {
  const isBacked = behind !== "nobody";
  // Nothing of it is left over but by packets that are too odd.
  const isWhole = !isBacked && isStrict;
  const b = new IrBuilder(behind === "megaflows" ? directProgramOf(hook) : `main_${hook}`, hook);
  const slow = b.block("slow");
  const drop = b.block("drop");
  const e: Emit = {
    b,
    plan: plan({ key: analysis.layout }),
    key: b.slot("flow", analysis.layout.size),
    data: b.ctx("data"),
    dataEnd: b.ctx("data_end"),
    len: b.ctx("packet_len"),
    ifindex: b.ctx("ingress_ifindex"),
    needs: needsOf(analysis.written),
    found: { l3: b.reg("l3_found"), l4: b.reg("l4_found") },
    miss: slow,
    slow,
    drop,
  };
  const written = analysis.written;
  const tagged = TAG_MEMBERS.some((member) => written.has(member));
  const prepare = b.block("prepare");
  const begin = b.block("begin");
  const d: Direct = {
    ...e,
    ifindexOf,
    bytes: countedBytes(e),
    out: hiddenZero(b, e.len, "out"),
    dirty: hiddenZero(b, e.len, "dirty"),
    actionSet: analysis.hasActionSet ? hiddenZero(b, e.len, "action_set") : undefined,
    more:
      hook === "tc" && analysis.canSendTwice
        ? { slot: b.slot("outputs", 4 * MAX_FURTHER_OUTPUTS, 4), n: hiddenZero(b, e.len, "n_outputs") }
        : undefined,
    baseTags: tagged ? b.slot("base_tags", 8) : undefined,
    cells: { slots: [], n: 0 },
    passed: isWhole ? undefined : [],
    meter: undefined,
    isLive: behind === "megaflows",
    written,
    maps: [],
    finish: b.block("finish"),
  };
  if (meters(analysis)) d.meter = newCell(d);
  // Before anything is known of the packet.
  const general = b.block("general");
  b.branch("gt", guess(d, d.len), IMPOSSIBLE_LENGTH, general, prepare, "then");
  b.place(begin);
  b.origin = { text: "packet parser" };
  if (hook === "tc") pullHeaders(d);
  if (hasMarkers) markersUp(d);
  if (behind === "megaflows")
    b.unless("eq", b.load("u32", b.mapValue(MAPS.control, CONTROL.direct), 0, "on"), 0, d.slow);
  emitParser(d);
  if (d.baseTags !== undefined)
    b.store("u64", d.baseTags, 0, b.load("u64", d.key, fieldOf(d, "vlan0_tpid").off, "tags"));
  hideFragmentPorts(d, analysis);
  const pipeline = new Pipeline(d, analysis, stages);
  pipeline.run();
  b.place(d.finish);
  b.origin = { text: "end of the tables" };
  emitActionSet(d);
  const leave = b.block("leave");
  b.unless("ne", guess(d, d.out), 0, leave);
  const count = (found?: Found): void => {
    emitCounts(d, analysis);
    if (behind === "megaflows") emitPortCounts(d, portSlots, found);
    emitMetered(d);
  };
  count();
  b.jump(drop);
  b.place(leave);
  emitCommit(d, count, isBacked && hook === "xdp");
  b.place(slow);
  b.origin = { text: "what the program cannot handle" };
  if (behind === "user-space") emitUpcall(b, b.value("cmd", OVS_PACKET_CMD.ACTION), e.ifindex, e.len, drop);
  else if (behind === "megaflows") b.tailCall(MAPS.progs[hook], FALLBACK_SLOT, drop);
  else {
    b.atomicAdd("u64", b.mapValue(UNHANDLED.map, 0), 0, b.value("one", 1));
    b.ret(TARGETS[hook].verdicts[unhandled]);
  }
  b.place(prepare);
  // Known only now: how many cells there are.
  const zero = hiddenZero(b, e.len, "zero");
  if (d.more !== undefined) for (let at = 0; at < d.more.slot.size; at += 4) b.store("u32", d.more.slot, at, zero);
  for (const slot of d.cells.slots) for (const at of [0, 4]) b.store("u32", slot, at, zero);
  b.jump(begin);
  b.place(general);
  emitGeneral(d, [...pipeline.entries(), d.finish, leave]);
  b.place(drop);
  b.ret(TARGETS[hook].verdicts.drop);
  return { program: b.finish(), maps: d.maps, pipeline };
};

/** Longer than any packet; the verifier does not know. */
const IMPOSSIBLE_LENGTH = 0x3fff_ffff;

/**
 * A way that no packet takes and the verifier takes first: to each of `blocks` with a state that says nothing of any value. What
 * it finds to be safe so, it need not look at again for any of the ways that packets do come by; without, the ways through
 * parser and tables multiply.
 */
const emitGeneral = (d: Direct, blocks: readonly BlockId[]): void => {
  const { b } = d;
  b.origin = { text: "most general state, for the verifier" };
  const unknown = guess(d, d.ifindex);
  const { more, baseTags, cells, actionSet } = d;
  // The second half of a word, stored after the first, makes the verifier take the word for bytes of any value.
  for (const slot of [d.key, ...(baseTags === undefined ? [] : [baseTags]), ...cells.slots])
    for (let at = 0; at < slot.size; at += 4) b.store("u32", slot, at, unknown);
  if (more !== undefined) for (let at = 0; at < more.slot.size; at += 4) b.store("u32", more.slot, at, unknown);
  // Each of its own: that they are equal would be known, too.
  for (const reg of [d.out, d.dirty, actionSet, more?.n]) if (reg !== undefined) b.mov(reg, guess(d, unknown));
  for (const reg of [d.found.l3, d.found.l4]) b.mov(reg, b.alu("and", unknown, 0x3fff, "offset"));
  // The last is looked at first: nothing comes after it.
  blocks.slice(0, -1).forEach((block, i) => {
    b.unless("eq", guess(d, unknown), i, block);
  });
  b.jump(blocks.at(-1)!);
};

/** Sends {@link MARKER_TYPE} frames to user space. */
const markersUp = (d: Direct): void => {
  const { b } = d;
  const end = b.alu("add", d.data, ethernet.minBytes, "need");
  b.unless("gt", end, d.dataEnd, d.drop);
  b.unless("eq", b.load("u16", d.data, ethernet.fields.type.byteOffset, "type"), be16(MARKER_TYPE), d.slow);
};

/** Look-ups see no ports in a fragment, not even in the first; who writes them there needs user space. */
const hideFragmentPorts = (d: Direct, { rules }: Analysis): void => {
  const { b } = d;
  const ports = d.plan.key.fields.filter(({ member }) => member === "tp_src" || member === "tp_dst");
  if (ports.length === 0) return;
  const isPort = (member: Member): boolean => ports.some((field) => field.member === member);
  const isUsed =
    ports.some(({ member }) => d.written.has(member)) ||
    rules.some(({ ops }) => ops.some((op) => op.op === "move" && isPort(op.src.member)));
  const whole = b.block("no_first_fragment");
  b.unless("ne", b.load("u8", d.key, fieldOf(d, "nw_frag").off, "fragment"), NW_FRAG.ANY, whole);
  if (isUsed) b.jump(d.slow);
  else for (const { off } of ports) b.store("u16", d.key, off, 0);
  b.place(whole);
};

const maps = (
  analysis: Analysis,
  tables: readonly MapSpec[],
  hook: Hook,
  behind: Behind,
  portSlots: number,
): readonly MapSpec[] => {
  const stats: MapSpec = {
    name: STATS.map,
    type: "array",
    keySize: 4,
    valueSize: STATS.size * Math.max(1, analysis.counts.nCounters),
    maxEntries: 1,
    flags: 1 << 10,
  };
  if (behind === "nobody") return [stats, { ...stats, name: UNHANDLED.map, valueSize: UNHANDLED.size }, ...tables];
  const fixed = datapathMaps(plan({ key: analysis.layout, portSlots })).filter(({ name }) => !name.startsWith("mf_"));
  if (behind === "megaflows") {
    const metered: readonly MapSpec[] = meters(analysis) ? [METERS] : [];
    const shared: readonly string[] = [MAPS.progs[hook], MAPS.control, ...(hook === "xdp" ? [MAPS.ports] : [])];
    const ports: MapSpec = { ...stats, name: PORT_STATS.map, valueSize: PORT_STATS.size * portSlots };
    return [...fixed.filter(({ name }) => shared.includes(name)), ...metered, stats, ports, ...tables];
  }
  return [...fixed, stats, ...tables];
};

/** Which limit of the verifier a program is expected to be beyond. */
const beyondVerifier = (main: ProgramSpec): string | undefined => {
  const { instructions, estimatedSteps, pendingJumps } = costOf(main);
  if (estimatedSteps > VERIFIER_LIMITS.instructions)
    return (
      `it has the most of the program's ${instructions} instructions, which may take the verifier ${estimatedSteps} ` +
      `steps, and ${VERIFIER_LIMITS.instructions} are the limit`
    );
  if (pendingJumps > VERIFIER_LIMITS.pendingJumps)
    return `it has the most of the program's ${pendingJumps} pending branches, and ${VERIFIER_LIMITS.pendingJumps} are the limit`;
  return undefined;
};

/** Share of a limit beyond which an estimate from IR says for sure: the code of large programs comes out larger still. */
const SURE = { estimatedSteps: 0.8, pendingJumps: 1.1 } as const;

/** {@link beyondVerifier}, before a program has been made: of one that is far beyond. */
const farBeyondVerifier = (program: Program): string | undefined => {
  const { instructions, estimatedSteps, pendingJumps } = estimate(program);
  const { instructions: maxSteps, pendingJumps: maxJumps } = VERIFIER_LIMITS;
  if (estimatedSteps > SURE.estimatedSteps * maxSteps)
    return (
      `it has the most of more than ${instructions} instructions, which may take the verifier more than ` +
      `${estimatedSteps} steps, and ${maxSteps} are the limit`
    );
  if (pendingJumps > SURE.pendingJumps * maxJumps)
    return `it has the most of the program's ${pendingJumps} pending branches, and ${maxJumps} are the limit`;
  return undefined;
};

/** The table that most of a program's IR is there for. */
const largestInIr = ({ blocks }: Program, pipeline: Pipeline): number => {
  const sizes = new Map<number, number>();
  for (const { body } of blocks)
    for (const { from } of body) {
      const table = from === undefined ? undefined : pipeline.tableOf(from);
      if (table !== undefined) sizes.set(table, (sizes.get(table) ?? 0) + 1);
    }
  return [...sizes].reduce((largest, entry) => (entry[1] > largest[1] ? entry : largest), [0, 0])[0];
};

/** The main program. @throws {@link DirectRefusal} naming the last table when the stack does not suffice for all */
const emitMain = (ir: Program, hook: Hook, { tables }: Analysis): ProgramSpec => {
  try {
    return emitProgram(ir, TARGETS[hook]);
  } catch (error) {
    if (!(error instanceof FrameError)) throw error;
    throw new DirectRefusal([...tables.keys()].at(-1) ?? 0, `with those before it, ${error.problem}`);
  }
};

/** The table that most instructions are there for. */
const largestTable = ({ lines, code }: ProgramSpec, pipeline: Pipeline): number => {
  const sizes = new Map<number, number>();
  lines.forEach(({ insn, origin }, i) => {
    const table = pipeline.tableOf(origin) ?? 0;
    sizes.set(table, (sizes.get(table) ?? 0) + (lines[i + 1]?.insn ?? code.length / 8) - insn);
  });
  return [...sizes].reduce((largest, entry) => (entry[1] > largest[1] ? entry : largest), [0, 0])[0];
};

/** Makes the programs of tables that were analysed. @throws {@link DirectRefusal} naming the table that is too much */
const compileAnalysed = (analysis: Analysis, hook: Hook, options: Required<DirectOptions>): DirectProgram => {
  const { behind, portSlots, isStrict } = options;
  // Where not all need be the program's, it may also be smaller than the tables want.
  for (let stages = MAX_STAGES; ; stages >>>= 1) {
    const { program, maps: tables, pipeline } = buildProgram(analysis, hook, options, stages);
    const isLast = (behind === "nobody" && isStrict) || stages === 1;
    const tooLarge = farBeyondVerifier(program);
    if (tooLarge !== undefined) {
      if (isLast) throw new DirectRefusal(largestInIr(program, pipeline), tooLarge);
      continue;
    }
    const ir = runPasses(program);
    const main = emitMain(ir, hook, analysis);
    const why = beyondVerifier(main);
    if (why === undefined) {
      const programs = behind === "user-space" ? [emitProgram(buildStub(hook), TARGETS[hook]), main] : [main];
      return {
        analysis,
        ir,
        records: new Map([...pipeline.records].map(([id, records]) => [id, liveRecords(records)])),
        object: { license: "GPL", maps: maps(analysis, tables, hook, behind, portSlots), programs },
      };
    }
    if (isLast) throw new DirectRefusal(largestTable(main, pipeline), why);
  }
};

/**
 * Compiles tables into a direct program: `main_HOOK`, or {@link directProgramOf} before a megaflow program; with user space
 * behind it also `stub_HOOK`; and the maps that both share with the megaflow datapath. Unless it must be strict, tables and rules
 * that it cannot carry are left to whoever is behind it, and so are those that would make it too large.
 *
 * @throws {@link DirectRefusal} naming table, rule and reason
 */
export const compileDirect = (of: Switch | Tables, hook: Hook, options: DirectOptions = {}): DirectProgram => {
  const {
    behind = "nobody",
    ifindexOf = identity,
    isStrict = behind === "nobody",
    unhandled = "drop",
    portSlots = DEFAULT_PORT_SLOTS,
    hasMarkers = behind === "user-space",
    hasMeters = false,
  } = options;
  const whole = { behind, ifindexOf, isStrict, unhandled, portSlots, hasMarkers, hasMeters };
  const all = of instanceof Switch ? tablesOf(of) : of;
  const tables: Tables = hasMeters ? all : { ...all, meters: new Map() };
  const without = new Map<number, string>();
  for (;;) {
    const analysis = analyse(tables, { ifindexOf, isStrict, without });
    if (isStrict) {
      for (const table of analysis.tables.values())
        for (const rule of table.rules) {
          const why = strictRefusal(hook, rule);
          if (why !== undefined) throw new DirectRefusal(table.id, why, rule.from);
        }
    }
    try {
      return compileAnalysed(analysis, hook, whole);
    } catch (error) {
      if (isStrict || !(error instanceof DirectRefusal) || error.table === 0) throw error;
      without.set(error.table, error.why);
    }
  }
};
