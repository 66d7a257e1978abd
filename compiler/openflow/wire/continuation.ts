// What a packet that waits for its controller needs to go on (NXT_PACKET_IN2 with NXPINT_CONTINUATION, and NXT_RESUME, which
// brings it back): the pipeline as it was broken off, as properties of OVS's own. Controllers do not look into it.

import { carryActions } from "../carry.js";
import type { MinorVersion } from "../fields.js";
import type { Action, Match } from "../types.js";
import { PROTOCOLS } from "../versions.js";
import { ByteReader, ByteWriter, properties, putProperty } from "./bytes.js";
import { instructionOf } from "../order.js";
import { decodeActions, decodeInstructions } from "./decode-actions.js";
import { encodeActions, encodeInstructions } from "./encode-actions.js";
import { OpenFlowError } from "./errors.js";

/** What is left to do; before it, whose it is. */
export type WireStep = Action | { readonly kind: "unroll"; readonly table: number; readonly cookie: bigint };

/** A translation that was broken off; where the packet's fields are is elsewhere in the message. */
export interface WireContinuation {
  /** The bridge that it belongs to: a UUID, 16 bytes. */
  readonly bridge: Uint8Array;
  /** Topmost last. */
  readonly stack: readonly Uint8Array[];
  readonly steps: readonly WireStep[];
  readonly actionSet: readonly Action[];
  readonly inPort: number;
}

/** Properties (NXCPT_*); between the bridge and the connection lie mirrors, which do not exist here. */
const PROPERTY = {
  bridge: 0x8000,
  stack: 0x8001,
  mirrors: 0x8002,
  conntracked: 0x8003,
  table: 0x8004,
  cookie: 0x8005,
  actions: 0x8006,
  actionSet: 0x8007,
  inPort: 0x8008,
  /** Ours: OVS 3.1 writes instructions among actions, where it cannot read them again. */
  instructions: 0x80f0,
} as const;

/** Instructions travel in the words of OpenFlow 1.3, whatever the version. */
const INSTRUCTIONS_MINOR = 3;

const MAX_STACK_BYTES = 128;

/** A property whose value begins at a multiple of 8 bytes. */
const putNested = (writer: ByteWriter, type: number, bytes: Uint8Array): void =>
  putProperty(writer, type, (to) => to.zeros(4).put(bytes));

const nested = (body: ByteReader): Uint8Array => body.skip(4).rest();

interface Run {
  readonly table: number;
  readonly cookie: bigint;
  readonly isInstruction: boolean;
  readonly actions: Action[];
}

const isInstruction = ({ kind }: Action): boolean => !["apply_actions", "meter"].includes(instructionOf(kind));

/** Steps in runs that have one origin and are all actions, or all instructions; the first run has no origin. */
const runsOf = (steps: readonly WireStep[]): Run[] => {
  const runs: Run[] = [];
  let last: Run = { table: 0, cookie: 0n, isInstruction: false, actions: [] };
  const begin = (run: Run): void => void runs.push((last = run));
  begin(last);
  for (const step of steps) {
    if (step.kind === "unroll") begin({ table: step.table, cookie: step.cookie, isInstruction: false, actions: [] });
    else {
      const is = isInstruction(step);
      if (is !== last.isInstruction) begin({ table: last.table, cookie: last.cookie, isInstruction: is, actions: [] });
      last.actions.push(step);
    }
  }
  return runs;
};

/** The value of the property NXPINT_CONTINUATION. @param match - what the packet is, for the words of the version */
export const encodeContinuation = (frozen: WireContinuation, match: Match, minor: MinorVersion): Uint8Array => {
  const writer = new ByteWriter();
  const carried = (actions: readonly Action[], version: MinorVersion): readonly Action[] =>
    carryActions(actions, match, PROTOCOLS[3 + version]!) ?? actions;
  const bytesOf = (actions: readonly Action[]): Uint8Array => encodeActions(carried(actions, minor), minor);
  putProperty(writer, PROPERTY.bridge, (to) => to.put(frozen.bridge));
  for (const value of [...frozen.stack].reverse()) putProperty(writer, PROPERTY.stack, (to) => to.put(value));
  let [table, cookie] = [0, 0n];
  for (const run of runsOf(frozen.steps)) {
    if (run.table !== table) putProperty(writer, PROPERTY.table, (to) => to.u8((table = run.table)));
    if (run.cookie !== cookie) putProperty(writer, PROPERTY.cookie, (to) => to.zeros(4).u64((cookie = run.cookie)));
    if (run.actions.length === 0) continue;
    if (!run.isInstruction) putNested(writer, PROPERTY.actions, bytesOf(run.actions));
    else {
      const instructions = carried(run.actions, INSTRUCTIONS_MINOR);
      putNested(writer, PROPERTY.instructions, encodeInstructions(instructions, INSTRUCTIONS_MINOR));
    }
  }
  if (frozen.actionSet.length > 0) putNested(writer, PROPERTY.actionSet, bytesOf(frozen.actionSet));
  if (frozen.inPort !== 0) putProperty(writer, PROPERTY.inPort, (to) => to.u32(frozen.inPort));
  return writer.finish();
};

const refuse = (error: "OFPBPC_BAD_LEN" | "OFPBPC_BAD_TYPE", why: string): never => {
  throw new OpenFlowError(error, `Cannot read a continuation: ${why}`);
};

/** @throws {@link OpenFlowError} */
export const decodeContinuation = (bytes: Uint8Array, minor: MinorVersion): WireContinuation => {
  let bridge: Uint8Array = new Uint8Array(16);
  let inPort = 0;
  const stack: Uint8Array[] = [];
  const steps: WireStep[] = [];
  let actionSet: readonly Action[] = [];
  let [table, cookie] = [0, 0n];
  for (const { type, body } of properties(new ByteReader(bytes, "OFPBPC_BAD_LEN"))) {
    const exact = (size: number): ByteReader =>
      body.left === size ? body : refuse("OFPBPC_BAD_LEN", `want ${size} bytes of property ${type}, got ${body.left}`);
    switch (type) {
      case PROPERTY.bridge:
        bridge = exact(16).rest();
        break;
      case PROPERTY.stack:
        if (body.left > MAX_STACK_BYTES) refuse("OFPBPC_BAD_LEN", `${body.left} bytes cannot be on the stack`);
        stack.unshift(body.rest());
        break;
      case PROPERTY.mirrors:
        exact(4);
        break;
      case PROPERTY.conntracked:
        break;
      case PROPERTY.table:
        table = body.u8();
        break;
      case PROPERTY.cookie:
        cookie = exact(12).skip(4).u64();
        break;
      case PROPERTY.actions:
        steps.push({ kind: "unroll", table, cookie }, ...decodeActions(nested(body), minor));
        break;
      case PROPERTY.instructions:
        steps.push({ kind: "unroll", table, cookie }, ...decodeInstructions(nested(body), INSTRUCTIONS_MINOR));
        break;
      case PROPERTY.actionSet:
        actionSet = decodeActions(nested(body), minor);
        break;
      case PROPERTY.inPort:
        inPort = exact(4).u32();
        break;
      default:
        refuse("OFPBPC_BAD_TYPE", `property ${type} is not known`);
    }
  }
  return { bridge, stack, steps, actionSet, inPort };
};
