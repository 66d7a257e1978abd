// From a switch's tables to a direct program: no cache and no upcall, the tables themselves as code and data.
//
//   entry ─► parser ─► table 0 ─► … ─► action set ─► rewriting ─► redirect
//               │          │ miss                        │
//               └──────────┴── what no program can do ───┴──► user space if there is one, else counted and dropped
//
// Nothing of the packet is changed before all of it is decided: what goes to user space goes as it came.

import type { MapSpec, ObjectSpec, ProgramSpec } from "ebpf-assembler";
import { OVS_PACKET_CMD } from "../datapath/abi.js";
import { buildStub, countedBytes, datapathMaps, pullHeaders } from "../datapath/compile.js";
import { be16, type Emit } from "../datapath/emit.js";
import { emitParser } from "../datapath/parse.js";
import { plan } from "../datapath/plan.js";
import { emitUpcall } from "../datapath/upcall.js";
import { costOf, VERIFIER_LIMITS } from "../emit/bpf/cost.js";
import { emitProgram } from "../emit/bpf/emit.js";
import { FrameError } from "../emit/bpf/frame.js";
import { IrBuilder } from "../ir/builder.js";
import type { BlockId, Hook, Program } from "../ir/types.js";
import { ethernet, NW_FRAG } from "../packet/headers.js";
import { runPasses } from "../passes/index.js";
import type { Switch } from "../pipeline/switch.js";
import type { Member } from "../openflow/flow.js";
import { TARGETS } from "../targets/index.js";
import { MARKER_TYPE, STATS, UNHANDLED } from "./abi.js";
import { analyse, DirectRefusal, strictRefusal, type Analysis } from "./analyse.js";
import { emitCommit, needsOf } from "./commit.js";
import { element, fieldOf, guess, hiddenZero, type Direct } from "./emit.js";
import { MAX_STAGES, Pipeline } from "./pipeline.js";
import { TAG_MEMBERS } from "./state.js";

/** Further outputs of one packet at TC. */
const MAX_FURTHER_OUTPUTS = 7;

export interface DirectOptions {
  /** Interface index of an OpenFlow port; default the same number. */
  readonly ifindexOf?: (port: number) => number;
  /**
   * Whether user space takes what the program cannot do. Without, such rules are refused, and a packet too odd for the
   * program is counted and dropped. Default false.
   */
  readonly upcalls?: boolean;
}

/** A compiled pipeline. */
export interface DirectProgram {
  readonly analysis: Analysis;
  /** The main program before instructions are selected. */
  readonly ir: Program;
  readonly object: ObjectSpec;
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

const buildProgram = (
  analysis: Analysis,
  hook: Hook,
  { ifindexOf = identity, upcalls = false }: DirectOptions,
  stages: number,
): { program: Program; maps: readonly MapSpec[]; pipeline: Pipeline } => {
  const b = new IrBuilder(`main_${hook}`, hook);
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
    passed: upcalls ? [] : undefined,
    written,
    maps: [],
    finish: b.block("finish"),
  };
  // Before anything is known of the packet.
  const general = b.block("general");
  b.branch("gt", guess(d, d.len), IMPOSSIBLE_LENGTH, general, prepare, "then");
  b.place(begin);
  b.origin = { text: "packet parser" };
  if (hook === "tc") pullHeaders(d);
  if (upcalls) markersUp(d);
  emitParser(d);
  if (d.baseTags !== undefined)
    b.store("u64", d.baseTags, 0, b.load("u64", d.key, fieldOf(d, "vlan0_tpid").off, "tags"));
  hideFragmentPorts(d, analysis);
  const pipeline = new Pipeline(d, analysis, stages);
  pipeline.run();
  b.place(d.finish);
  b.origin = { text: "end of the tables" };
  pipeline.emitActionSet();
  const leave = b.block("leave");
  b.unless("ne", guess(d, d.out), 0, leave);
  emitCounts(d, analysis);
  b.jump(drop);
  b.place(leave);
  emitCommit(d, () => emitCounts(d, analysis), upcalls && hook === "xdp");
  b.place(slow);
  b.origin = { text: "what the program cannot handle" };
  if (upcalls) emitUpcall(b, b.value("cmd", OVS_PACKET_CMD.ACTION), e.ifindex, e.len, drop);
  else {
    b.atomicAdd("u64", b.mapValue(UNHANDLED.map, 0), 0, b.value("one", 1));
    b.jump(drop);
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

const maps = (analysis: Analysis, tables: readonly MapSpec[], upcalls: boolean): readonly MapSpec[] => {
  const stats: MapSpec = {
    name: STATS.map,
    type: "array",
    keySize: 4,
    valueSize: STATS.size * Math.max(1, analysis.counts.nCounters),
    maxEntries: 1,
    flags: 1 << 10,
  };
  if (!upcalls) return [stats, { ...stats, name: UNHANDLED.map, valueSize: UNHANDLED.size }, ...tables];
  const fixed = datapathMaps(plan({ key: analysis.layout })).filter(({ name }) => !name.startsWith("mf_"));
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

/**
 * Compiles the tables of `sw` into a direct program `main_HOOK`; with user space behind it also `stub_HOOK`, and the maps that
 * both share with the megaflow datapath.
 *
 * @throws {@link DirectRefusal} naming table, rule and reason
 */
export const compileDirect = (sw: Switch, hook: Hook, options: DirectOptions = {}): DirectProgram => {
  const { upcalls = false, ifindexOf = identity } = options;
  const analysis = analyse(sw, ifindexOf);
  if (!upcalls) {
    for (const table of analysis.tables.values())
      for (const rule of table.rules) {
        const why = strictRefusal(hook, rule);
        if (why !== undefined) throw new DirectRefusal(table.id, why, rule.from);
      }
  }
  // With user space behind it a program may also be smaller than the tables want.
  for (let stages = MAX_STAGES; ; stages >>>= 1) {
    const { program, maps: tables, pipeline } = buildProgram(analysis, hook, options, stages);
    const ir = runPasses(program);
    const main = emitMain(ir, hook, analysis);
    const why = beyondVerifier(main);
    if (why === undefined) {
      const programs = upcalls ? [emitProgram(buildStub(hook), TARGETS[hook]), main] : [main];
      return { analysis, ir, object: { license: "GPL", maps: maps(analysis, tables, upcalls), programs } };
    }
    if (!upcalls || stages === 1) throw new DirectRefusal(largestTable(main, pipeline), why);
  }
};
