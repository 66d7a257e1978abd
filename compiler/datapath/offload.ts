// Compiles a plan for a NIC that runs the program itself (targets/nic.ts): a cache of megaflows that drop, go up to the host or
// turn round and leave by the port they came in by. Whatever misses is passed to the host, whose own program takes it.
//
// One program serves one port: the key's in_port is 0. The argument of an output is {@link NIC_OUTPUT}.

import { type MapSpec, type ObjectSpec } from "ebpf-assembler";
import { stackBytes } from "../emit/bpf/cost.js";
import { IrBuilder } from "../ir/builder.js";
import type { Program } from "../ir/types.js";
import { nestedActions, type Action } from "../openflow/action.js";
import { matchesField } from "../openflow/field-access.js";
import { formatAction } from "../openflow/print/actions.js";
import { PORT, type ActionKind } from "../openflow/types.js";
import { forecast, originOf } from "../analysis/forecast.js";
import { runPasses } from "../passes/index.js";
import { refusal } from "../pipeline/carriers.js";
import { formatOdpActions } from "../pipeline/odp-text.js";
import type { Switch } from "../pipeline/switch.js";
import type { Rule } from "../pipeline/table.js";
import { nicError, refusalsOfObject, refusalsOfProgram, type NicRefusal } from "../targets/check-nic.js";
import type { NicProfile } from "../targets/nic.js";
import { XDP } from "../targets/xdp.js";
import { SHAPE_DROP } from "./abi.js";
import { emitShape, needsOf } from "./actions.js";
import type { Emit } from "./emit.js";
import { emitWithinLimits } from "./limits.js";
import { emitLookup } from "./lookup.js";
import { emitParser } from "./parse.js";
import type { DatapathPlan } from "./plan.js";

const OUTPUTS = "drop, output:IN_PORT, output:LOCAL";

/** Actions that translation resolves, or that rewrite headers: whether each rewrite has code is asked of the action list. */
const CARRIED: ReadonlySet<ActionKind> = new Set<ActionKind>([
  "set_field",
  "reg_load",
  "reg_move",
  "stack_push",
  "stack_pop",
  "set_vlan_vid",
  "set_vlan_pcp",
  "strip_vlan",
  "push_vlan",
  "set_eth_src",
  "set_eth_dst",
  "set_ipv4_src",
  "set_ipv4_dst",
  "set_ip_dscp",
  "set_ip_ecn",
  "set_ip_ttl",
  "set_l4_src_port",
  "set_l4_dst_port",
  "dec_ttl",
  "resubmit",
  "conjunction",
  "exit",
  "note",
  "clear_actions",
  "write_actions",
  "write_metadata",
  "goto_table",
]);

const HOST_PORTS: ReadonlySet<number> = new Set([PORT.IN_PORT, PORT.LOCAL]);

const isCarried = (action: Action): boolean =>
  action.kind === "output" ? HOST_PORTS.has(action.port) : CARRIED.has(action.kind);

/** Every action of a list, those inside others too. */
const eachAction = (actions: readonly Action[]): Action[] =>
  actions.flatMap((action) => [action, ...eachAction(nestedActions(action))]);

const refusalsOfRule = (rule: Rule): NicRefusal[] => {
  const from = originOf(rule);
  const out: NicRefusal[] = eachAction(rule.actions)
    .filter((action) => !isCarried(action))
    .map((action) => ({
      from,
      what: `action ${formatAction(action)}`,
      limit: "it drops, passes packets to the host or sends them back, and there is no other port",
      fits: OUTPUTS,
    }));
  if (matchesField(rule.match, "in_port"))
    out.push({
      from,
      what: "field in_port",
      limit: "one program serves one port and is not told which",
      fits: "the flows of one port, without in_port",
    });
  return out;
};

const REWRITES = "one output, rewrites of Ethernet, VLAN, IP and ports";

const refusalsOfPlan = (sw: Switch, plan: DatapathPlan, profile: NicProfile): NicRefusal[] => {
  const slow = forecast(sw, plan.key).slow.map(({ why, from }): NicRefusal => ({
    from,
    what: "what only user space does",
    limit: why,
    fits: REWRITES,
  }));
  const shapes = plan.shapes.flatMap(({ example, from }): NicRefusal[] => {
    const why = refusal("xdp", example);
    if (why === undefined) return [];
    const what = `actions ${formatOdpActions(example)}`;
    return [{ what, limit: why, fits: REWRITES, ...(from && { from }) }];
  });
  const masks = plan.subtables.slice(Math.max(0, profile.maxMaps - 1)).map(({ from }): NicRefusal => ({
    what: "one mask more",
    limit: `${plan.subtables.length + 1} masks, it takes ${profile.maxMaps} maps`,
    fits: "matches on the same fields in all flows",
    ...(from && { from }),
  }));
  const keys = plan.subtables
    .filter(({ keySize }) => keySize > profile.maxKeyBytes)
    .map(({ keySize, from }): NicRefusal => ({
      what: `a key of ${keySize} bytes`,
      limit: `keys have at most ${profile.maxKeyBytes} bytes`,
      fits: "matches on fewer fields",
      ...(from && { from }),
    }));
  return [...slow, ...shapes, ...masks, ...keys];
};

/** The program of a plan for a NIC, in IR. */
export const buildOffload = (plan: DatapathPlan): Program => {
  const b = new IrBuilder("main_offload", "xdp");
  const [pass, drop] = [b.block("pass"), b.block("drop")];
  const e: Emit = {
    b,
    plan,
    key: b.slot("key", plan.key.size),
    data: b.ctx("data"),
    dataEnd: b.ctx("data_end"),
    len: b.ctx("packet_len"),
    ifindex: b.value("in_port", 0),
    needs: needsOf(plan.shapes),
    found: { l3: b.reg("l3_found"), l4: b.reg("l4_found") },
    outputs: "nic",
    miss: pass,
    slow: pass,
    drop,
  };
  b.origin = { text: "packet parser" };
  emitParser(e);
  const { shape: number, args } = emitLookup(e, e.len, pass);
  b.unless("eq", number, SHAPE_DROP, drop);
  for (const shape of plan.shapes) {
    b.origin = shape.from ?? { text: `actions ${shape.text}` };
    const next = b.block("next_shape");
    b.unless("ne", number, shape.id, next);
    emitShape(e, shape, args);
    b.place(next);
  }
  b.jump(pass);
  b.place(pass);
  b.ret(XDP.verdicts.pass);
  b.place(drop);
  b.ret(XDP.verdicts.drop);
  return b.finish();
};

/** The subtables as the NIC takes them: hash maps without flags. */
const nicMaps = (plan: DatapathPlan, profile: NicProfile): MapSpec[] =>
  [...plan.subtables, plan.exact].map(({ map, keySize }) => ({
    name: map,
    type: "hash",
    keySize,
    valueSize: plan.valueSize,
    maxEntries: Math.min(plan.maxEntries, profile.maxEntries),
    flags: 0,
  }));

/**
 * Compiles a plan for a NIC.
 * @param sw - the switch that the plan was made for: its rules are what messages name
 * @throws {@link CompileError} naming the flow, field or action that the NIC does not carry, its limit and what would fit
 */
export const compileOffload = (sw: Switch, plan: DatapathPlan, profile: NicProfile): ObjectSpec => {
  const first = [...[...sw.rules()].flatMap(refusalsOfRule), ...refusalsOfPlan(sw, plan, profile)];
  if (first.length > 0) throw nicError(first, profile);
  const program = runPasses(buildOffload(plan));
  const object: ObjectSpec = {
    license: "GPL",
    maps: nicMaps(plan, profile),
    programs: [emitWithinLimits(plan, program, XDP)],
  };
  const stacks = new Map(object.programs.map((p) => [p.name, stackBytes(p)]));
  const refused = [...refusalsOfProgram(program, profile), ...refusalsOfObject(object, profile, stacks)];
  if (refused.length > 0) throw nicError(refused, profile);
  return object;
};
