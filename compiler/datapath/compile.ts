// From a plan to BPF objects: the stub that is attached to interfaces, and the main program behind it, for XDP and for TC.
//
//   entry ─► parser ─► subtable 1 ─► … ─► exact ─► miss ─► upcall(MISS) ─► drop
//                         │ hit                               ▲ packets too odd for the parser
//                         ▼
//               count ─► shape number ─► shape's code ─► redirect
//                                    └─► unknown or slow ─► upcall(ACTION) ─► drop
//
// The stub only tail-calls slot 0 of a PROG_ARRAY, so that a new main program takes over without touching the attachment.

import { MAP_FLAGS, type MapSpec, type ObjectSpec, type ProgramSpec } from "ebpf-assembler";
import { emitProgram } from "../emit/bpf/emit.js";
import { IrBuilder } from "../ir/builder.js";
import type { Hook, Program } from "../ir/types.js";

import { TARGETS } from "../targets/index.js";
import { refusal } from "../pipeline/carriers.js";
import { MAX_METERS, METER_SLOT } from "../pipeline/meter-table.js";
import { emitShape, needsOf } from "./actions.js";
import { CONTROL, MAPS, OVS_PACKET_CMD, SHAPE_DROP } from "./abi.js";
import { lengthCopy, type Emit } from "./emit.js";
import { compileWithinLimits } from "./limits.js";
import { emitLookup } from "./lookup.js";
import { emitParser } from "./parse.js";
import { isInTable, type DatapathPlan } from "./plan.js";
import { tableSize } from "./table.js";
import { emitTunnelParser } from "./tunnel-parse.js";
import { emitUpcall } from "./upcall.js";

/** Bytes that TC programs pull into the linear part: more than any header chain that they rewrite. */
const PULL_BYTES = 192;

/** As many more where outer headers may come before them: of IPv6, with some options. */
const OUTER_BYTES = 128;

/** At TC packet bytes may lie in pages: brings the headers into the linear part. */
export const pullHeaders = (e: Emit, bytes = PULL_BYTES): void => {
  const { b } = e;
  const linear = b.block("linear");
  const short = b.block("short_linear");
  const available = b.alu("sub", e.dataEnd, e.data, "available");
  b.branch("ge", available, bytes, linear, short, "else");
  b.place(short);
  const wanted = lengthCopy(e);
  const pull = b.block("pull");
  b.branch("ge", available, wanted, linear, pull, "then");
  b.place(pull);
  const capped = b.block("capped");
  const cap = b.block("cap");
  b.branch("gt", wanted, bytes, cap, capped);
  b.place(cap);
  b.mov(wanted, bytes);
  b.place(capped);
  b.call("skb_pull_data", ["ctx", wanted]);
  b.place(linear);
  e.data = b.ctx("data");
  e.dataEnd = b.ctx("data_end");
};

/** Bytes for statistics: the whole packet with its tag, as OVS counts. */
export const countedBytes = (e: Emit): Emit["len"] =>
  e.b.hook === "tc" ? e.b.alu("add", e.b.alu("lsh", e.b.ctx("vlan_present"), 2), e.len, "bytes") : e.len;

/** The main program of a plan in IR. */
export const buildMain = (plan: DatapathPlan, hook: Hook): Program => {
  const b = new IrBuilder(`main_${hook}`, hook);
  const miss = b.block("miss");
  const slow = b.block("slow");
  const drop = b.block("drop");
  const carried = plan.shapes.filter(({ example }) => refusal(hook, example) === undefined);
  const e: Emit = {
    b,
    plan,
    key: b.slot("key", plan.key.size),
    data: b.ctx("data"),
    dataEnd: b.ctx("data_end"),
    len: b.ctx("packet_len"),
    ifindex: b.ctx("ingress_ifindex"),
    needs: needsOf(carried),
    found: { l3: b.reg("l3_found"), l4: b.reg("l4_found") },
    miss,
    slow,
    drop,
  };
  b.origin = { text: "packet parser" };
  if (hook === "tc") pullHeaders(e, plan.tunnels === undefined ? PULL_BYTES : PULL_BYTES + OUTER_BYTES);
  if (plan.tunnels !== undefined) emitTunnelParser(e, plan.tunnels);
  emitParser(e);
  const { shape: number, args } = emitLookup(e, countedBytes(e), miss);
  b.unless("eq", number, SHAPE_DROP, drop);
  for (const shape of carried) {
    b.origin = shape.from ?? { text: `actions ${shape.text}` };
    const next = b.block("next_shape");
    b.unless("ne", number, shape.id, next);
    emitShape(e, shape, args);
    b.place(next);
  }
  b.origin = { text: "upcall" };
  b.jump(slow);
  const upcall = b.block("upcall");
  const cmd = b.reg("cmd");
  b.place(slow);
  b.mov(cmd, OVS_PACKET_CMD.ACTION);
  b.jump(upcall);
  b.place(miss);
  b.mov(cmd, OVS_PACKET_CMD.MISS);
  b.jump(upcall);
  b.place(upcall);
  // Read again rather than kept all the way: few packets come here.
  // With its outer headers: nothing has been taken off.
  const whole = e.outer === undefined ? e.len : b.ctx("packet_len");
  emitUpcall(b, cmd, b.ctx("ingress_ifindex"), whole, drop);
  b.place(drop);
  b.ret(TARGETS[hook].verdicts.drop);
  return b.finish();
};

/** The stub: whatever the slot holds runs; an empty slot drops. */
export const buildStub = (hook: Hook): Program => {
  const b = new IrBuilder(`stub_${hook}`, hook);
  const empty = b.block("empty");
  b.tailCall(MAPS.progs[hook], 0, empty);
  b.place(empty);
  b.ret(TARGETS[hook].verdicts.drop);
  return b.finish();
};

const array = (name: string, valueSize: number, maxEntries: number, flags = 0): MapSpec => ({
  name,
  type: "array",
  keySize: 4,
  valueSize,
  maxEntries,
  flags,
});

/** The map of a switch's meters. */
export const METERS: MapSpec = array(MAPS.meters, METER_SLOT.size, MAX_METERS, MAP_FLAGS.MMAPABLE);

const meters = ({ shapes }: DatapathPlan): boolean =>
  shapes.some(({ example }) => example.some(({ kind }) => kind === "meter"));

/** Maps of a plan: the fixed ones, the megaflow table, and a hash map for each subtable that is not in it. */
export const datapathMaps = (plan: DatapathPlan): MapSpec[] => [
  { name: MAPS.progs.xdp, type: "prog_array", keySize: 4, valueSize: 4, maxEntries: 2, flags: 0 },
  { name: MAPS.progs.tc, type: "prog_array", keySize: 4, valueSize: 4, maxEntries: 2, flags: 0 },
  { name: MAPS.ports, type: "devmap", keySize: 4, valueSize: 4, maxEntries: plan.portSlots, flags: 0 },
  { name: MAPS.upcalls, type: "ringbuf", keySize: 0, valueSize: 0, maxEntries: plan.ringSize, flags: 0 },
  array(MAPS.control, CONTROL.size, 1, MAP_FLAGS.MMAPABLE),
  array(MAPS.lost, 8, plan.portSlots, MAP_FLAGS.MMAPABLE),
  ...(meters(plan) ? [METERS] : []),
  ...(plan.table === undefined ? [] : [array(plan.table.map, tableSize(plan.table), 1, MAP_FLAGS.MMAPABLE)]),
  ...[...plan.subtables, plan.exact]
    .filter((table) => !isInTable(plan, table))
    .map((table): MapSpec => ({
      name: table.map,
      type: "hash",
      keySize: table.keySize,
      valueSize: plan.valueSize,
      maxEntries: plan.maxEntries,
      flags: MAP_FLAGS.NO_PREALLOC,
    })),
];

const HOOKS = ["xdp", "tc"] as const satisfies readonly Hook[];

/**
 * The main program alone, for an object file: it is attached itself, without a stub before it.
 */
export const compileMain = (plan: DatapathPlan, hook: Hook): ObjectSpec => {
  const unused: readonly string[] = [MAPS.progs.xdp, MAPS.progs.tc, ...(hook === "tc" ? [MAPS.ports] : [])];
  return {
    license: "GPL",
    maps: datapathMaps(plan).filter(({ name }) => !unused.includes(name)),
    programs: [compileWithinLimits(plan, buildMain(plan, hook), TARGETS[hook])],
  };
};

/** Compiles a plan: programs `stub_xdp`, `main_xdp`, `stub_tc`, `main_tc` and the maps they share. */
export const compileDatapath = (plan: DatapathPlan, hooks: readonly Hook[] = HOOKS): ObjectSpec => {
  const programs: ProgramSpec[] = hooks.flatMap((hook) => [
    emitProgram(buildStub(hook), TARGETS[hook]),
    compileWithinLimits(plan, buildMain(plan, hook), TARGETS[hook]),
  ]);
  return { license: "GPL", maps: datapathMaps(plan), programs };
};
