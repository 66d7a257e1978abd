// Emits outputs: they only note where the packet is to go; it leaves when all is decided (commit.ts). One packet leaves with one
// set of edits, at XDP by one port.

import type { VReg } from "../ir/types.js";
import type { Args } from "./act.js";
import { DIRTY, guess, hidden, TO_IN_PORT, type Direct } from "./emit.js";

/** The interface of an output, by its argument. */
export const ifindexOf = (d: Direct, port: number, args: Args): VReg =>
  args.from === "op" ? hidden(d, d.ifindexOf(port), "ifindex") : d.b.load("u32", args.record, args.at, "ifindex");

/**
 * To a port, unless the packet came in by it.
 * @param pending - whether an output may stand already
 */
export const emitOutput = (d: Direct, port: number, args: Args, pending: boolean): void => {
  const { b, ifindex } = d;
  const done = b.block("sent");
  const to = ifindexOf(d, port, args);
  b.unless("eq", to, ifindex, done);
  emitSend(d, to, pending);
  b.place(done);
};

/**
 * Notes the meter that the packet is to pass when all is decided: one, before its tags change, and before any output.
 * @param pending - whether an output may stand already
 */
export const emitMeterLater = (d: Direct, slot: number, args: Args, pending: boolean): void => {
  const { b, meter } = d;
  if (meter === undefined) {
    b.jump(d.slow);
    b.place(b.block("unmetered"));
    return;
  }
  if (pending) b.unless("ne", guess(d, d.out), 0, d.slow);
  b.unless("set", d.dirty, DIRTY.tags, d.slow);
  b.unless("ne", b.load("u32", ...meter, "meter"), 0, d.slow);
  const number = args.from === "op" ? hidden(d, slot + 1, "meter") : b.load("u32", args.record, args.at, "meter");
  b.store("u32", ...meter, number);
};

/** To an interface. */
export const emitSend = (d: Direct, to: VReg, pending: boolean): void => {
  const { b } = d;
  if (!pending) {
    b.mov(d.out, to);
    return;
  }
  const done = b.block("sent");
  const first = b.block("first_output");
  const further = b.block("further_output");
  b.branch("eq", guess(d, d.out), 0, first, further);
  b.place(further);
  if (d.more === undefined) b.jump(d.slow);
  else {
    for (let i = 0; i < d.more.slot.size / 4; i++) {
      const next = b.block("");
      b.unless("ne", guess(d, d.more.n), i, next);
      b.store("u32", d.more.slot, 4 * i, to);
      b.mov(d.more.n, hidden(d, i + 1));
      b.jump(done);
      b.place(next);
    }
    b.jump(d.slow);
  }
  b.place(first);
  b.mov(d.out, to);
  b.place(done);
};

/** Emits the output of the action set, where there is one; begins and goes on in the current block. */
export const emitActionSet = (d: Direct): void => {
  const { b, actionSet } = d;
  if (actionSet === undefined) return;
  const done = b.block("action_set_done");
  const port = b.block("action_set_port");
  const to = b.value("to", actionSet);
  const send = b.block("action_set_output");
  b.unless("eq", actionSet, 0, done);
  b.unless("ne", actionSet, TO_IN_PORT, port);
  b.mov(to, d.ifindex);
  b.jump(send);
  b.place(port);
  b.unless("eq", to, d.ifindex, done);
  b.place(send);
  emitSend(d, to, true);
  b.place(done);
};
