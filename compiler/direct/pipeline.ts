// Emits the tables one after the other. A table is emitted once for each way of going on after it (a continuation: the rest of
// the list that resubmitted to it, or the end), so that control needs no stack; the tables form no circle (analyse.ts).

import { unreachable } from "ebpf-assembler";
import type { BlockId, VReg } from "../ir/types.js";
import { STATS } from "./abi.js";
import { argSize, codeOf, emitEdit, isEdit, textOf, type Args } from "./act.js";
import { DirectRefusal, type Analysis, type DirectTable } from "./analyse.js";
import { dispatch, element, fieldOf, guess, hidden, placeOfPassed, rodata, TO_IN_PORT, type Direct } from "./emit.js";
import { emitFind } from "./find.js";
import type { Op } from "./ops.js";

/** What is done after a table. */
type Then =
  | { readonly kind: "end"; readonly id: string }
  | { readonly kind: "list"; readonly id: string; readonly list: List; readonly at: number };

/** A list of operations that is being emitted. */
interface List {
  readonly ops: readonly Op[];
  /** Of each operation. */
  readonly args: readonly Args[];
  readonly then: Then;
}

const END: Then = { kind: "end", id: "" };

/** Copies of tables beyond which the program would not end. */
const MAX_INSTANCES = 64;
/** Copies of tables when each has a place on the stack for the rule that was passed. */
const MAX_PASSED = 40;

/** Records of a table: for each rank the number of its code, then the arguments of its operations. */
interface Records {
  readonly map: string;
  readonly stride: number;
  readonly codes: readonly { readonly ops: readonly Op[]; readonly offsets: readonly number[] }[];
}

/** A copy of a table: control comes to it at one place of the pipeline only, so that no packet passes it twice. */
interface Instance {
  readonly block: BlockId;
  readonly table: DirectTable;
  readonly then: Then;
  /** Whether an output may stand already. */
  readonly pending: boolean;
  /** Its number among all copies of all tables. */
  readonly copy: number;
}

const HEAD = 4;

/** Gathers lists of the same code, and writes the arguments of each. */
const makeRecords = (d: Direct, table: DirectTable): Records => {
  const codes = new Map<string, { ops: readonly Op[]; offsets: readonly number[]; id: number }>();
  const ids: number[] = [];
  let size = HEAD;
  for (const { ops } of table.rules) {
    const text = ops.map(codeOf).join(";");
    let code = codes.get(text);
    if (code === undefined) {
      let at = HEAD;
      const offsets = ops.map((op) => {
        const { size: bytes, phase } = argSize(d, op);
        at = phase < 0 ? Math.ceil(at / 4) * 4 : at + ((phase - (at % 8) + 8) % 8);
        at += bytes;
        return at - bytes;
      });
      size = Math.max(size, at);
      codes.set(text, (code = { ops, offsets, id: codes.size }));
    }
    ids.push(code.id);
  }
  const stride = Math.ceil(size / 8) * 8;
  const bytes = new Uint8Array(stride * table.rules.length);
  const view = new DataView(bytes.buffer);
  const list = [...codes.values()];
  table.rules.forEach(({ ops }, rank) => {
    const base = rank * stride;
    view.setUint32(base, ids[rank]!, true);
    ops.forEach((op, i) => {
      const at = base + list[ids[rank]!]!.offsets[i]!;
      if (op.op === "set") bytes.set(op.value, at);
      else if (op.op === "output") view.setUint32(at, d.ifindexOf(op.port), true);
      else if (op.op === "write_output" && typeof op.port === "number") view.setUint32(at, d.ifindexOf(op.port), true);
    });
  });
  const map = `t${table.id}_rules`;
  if (!d.maps.some(({ name }) => name === map)) d.maps.push(rodata(map, bytes));
  return { map, stride, codes: list };
};

/** Emits the tables of an analysis from table 0 on. */
export class Pipeline {
  readonly #instances = new Map<string, Instance>();
  readonly #waiting: Instance[] = [];
  readonly #records = new Map<number, Records>();
  /** Rests of lists, by what they are and whether an output may stand. */
  readonly #rests = new Map<string, BlockId>();
  readonly #waitingRests: { block: BlockId; list: List; at: number; pending: boolean }[] = [];
  #lists = 0;

  constructor(
    readonly d: Direct,
    readonly analysis: Analysis,
  ) {}

  /** Emits everything; begins in the current block. */
  run(): void {
    this.d.b.jump(this.#enter(0, END, false));
    for (;;) {
      const table = this.#waiting.pop();
      const rest = table === undefined ? this.#waitingRests.pop() : undefined;
      if (table !== undefined) {
        this.d.b.place(table.block);
        this.#table(table);
      } else if (rest !== undefined) {
        this.d.b.place(rest.block);
        this.#list(rest.list, rest.at, rest.pending);
      } else break;
    }
  }

  /** Beginnings of the copies of tables that need no register of a caller, callers first. */
  entries(): BlockId[] {
    const needsRecord = (then: Then): boolean =>
      then.kind === "list" && (then.list.args.some(({ from }) => from === "record") || needsRecord(then.list.then));
    return [...this.#instances.values()].filter(({ then }) => !needsRecord(then)).map(({ block }) => block);
  }

  /** @param pending - whether an output may stand already */
  #enter(id: number, then: Then, pending: boolean): BlockId {
    const key = `${id} ${pending ? 1 : 0} ${then.id}`;
    const known = this.#instances.get(key);
    if (known !== undefined) return known.block;
    if (this.#instances.size >= MAX_INSTANCES)
      throw new DirectRefusal(id, `resubmits make more than ${MAX_INSTANCES} copies of tables`);
    const table = this.analysis.tables.get(id)!;
    const made: Instance = { block: this.d.b.block(`table_${id}`), table, then, pending, copy: this.#instances.size };
    const { passed } = this.d;
    if (passed !== undefined) {
      if (passed.n >= MAX_PASSED)
        throw new DirectRefusal(id, `resubmits make more than ${MAX_PASSED} copies of tables`);
      if (passed.n % 2 === 0) passed.slots.push(this.d.b.slot("passed", 8));
      passed.n++;
    }
    this.#instances.set(key, made);
    this.#waiting.push(made);
    return made.block;
  }

  #table(instance: Instance): void {
    const { table, then, pending } = instance;
    const { d } = this;
    const { b } = d;
    const blocks = new Map<string, { block: BlockId; ops: readonly Op[] }>();
    const heads: { block: BlockId; rank: number; body: BlockId }[] = [];
    const miss = b.block("miss");
    b.origin = { text: `look-up of table ${table.id}` };
    emitFind(d, table, {
      rank: (rank) => {
        const { ops } = table.rules[rank]!;
        const text = ops.map(textOf).join(";");
        let body = blocks.get(text);
        if (body === undefined) blocks.set(text, (body = { block: b.block("actions"), ops }));
        const block = b.block("rule");
        heads.push({ block, rank, body: body.block });
        return block;
      },
      any: (rank) => this.#byRank(instance, rank),
      miss,
    });
    for (const { block, rank, body } of heads) {
      b.place(block);
      b.origin = table.rules[rank]!.from;
      this.#count(instance, rank);
      b.jump(body);
    }
    for (const { block, ops } of blocks.values()) {
      b.place(block);
      this.#list({ ops, args: ops.map(() => ({ from: "op" })), then }, 0, pending);
    }
    b.place(miss);
    b.origin = { text: `miss of table ${table.id}` };
    this.#restoreInPort();
    this.#then(then, pending);
  }

  /** A rule whose rank is in a register. */
  #byRank(instance: Instance, rank: VReg): void {
    const { table, then, pending } = instance;
    const { d } = this;
    const { b } = d;
    let records = this.#records.get(table.id);
    if (records === undefined) this.#records.set(table.id, (records = makeRecords(d, table)));
    b.origin = { text: `rules of table ${table.id}` };
    this.#count(instance, rank);
    const { codes } = records;
    const record = element(b, records.map, 0, rank, records.stride);
    const targets = codes.map(() => b.block("actions"));
    if (codes.length === 1) b.jump(targets[0]!);
    else dispatch(b, b.load("u32", record, 0, "code"), targets);
    codes.forEach(({ ops, offsets }, i) => {
      b.place(targets[i]!);
      this.#list({ ops, args: offsets.map((at) => ({ from: "record", record, at })), then }, 0, pending);
    });
  }

  #count({ table, copy }: Instance, rank: number | VReg): void {
    const { d } = this;
    const { b } = d;
    const { passed } = d;
    this.#restoreInPort();
    if (passed !== undefined) {
      const index =
        typeof rank === "number"
          ? hidden(d, table.firstRule + rank + 1)
          : b.alu("add", rank, table.firstRule + 1, "index");
      b.store("u32", ...placeOfPassed(passed, copy), index);
      return;
    }
    const counters =
      typeof rank === "number"
        ? b.mapValue(STATS.map, STATS.size * (table.firstRule + rank))
        : element(b, STATS.map, STATS.size * table.firstRule, rank, STATS.size);
    b.atomicAdd("u64", counters, STATS.packets, b.value("one", 1));
    b.atomicAdd("u64", counters, STATS.bytes, d.bytes);
  }

  /** Puts the true port back after a look-up with another. */
  #restoreInPort(): void {
    const { d } = this;
    if (!this.#hasForeignPorts()) return;
    d.b.store("u32", d.key, fieldOf(d, "in_port").off, d.ifindex);
  }

  #hasForeignPorts(): boolean {
    return this.analysis.rules.some(({ ops }) => ops.some((op) => op.op === "resubmit" && op.inPort !== undefined));
  }

  #then(then: Then, pending: boolean): void {
    this.d.b.jump(then.kind === "end" ? this.d.finish : this.#rest(then, pending));
  }

  #rest({ id, list, at }: Extract<Then, { readonly kind: "list" }>, pending: boolean): BlockId {
    const key = `${pending ? 1 : 0} ${id}`;
    let block = this.#rests.get(key);
    if (block === undefined) {
      this.#rests.set(key, (block = this.d.b.block("rest")));
      this.#waitingRests.push({ block, list, at, pending });
    }
    return block;
  }

  /** Emits a list from operation `at` on; every path ends. */
  #list(list: List, at: number, pending: boolean): void {
    const { d } = this;
    const { b } = d;
    let sent = pending;
    for (let i = at; i < list.ops.length; i++) {
      const op = list.ops[i]!;
      if (isEdit(op)) {
        // One packet leaves with one set of edits: what changes after an output is for user space.
        if (sent) b.unless("ne", guess(d, d.out), 0, d.slow);
        emitEdit(d, op, list.args[i]!);
        continue;
      }
      switch (op.op) {
        case "slow":
          b.jump(d.slow);
          return;
        case "end_copy":
          if (i === list.ops.length - 1 && list.then.kind === "end" && d.actionSet === undefined) continue;
          b.jump(d.slow);
          return;
        case "output":
          this.#output(op.port, list.args[i]!, sent);
          sent = true;
          break;
        case "output_in_port":
          this.#send(d.ifindex, sent);
          sent = true;
          break;
        case "write_output":
          if (op.port === undefined) b.mov(d.actionSet!, hidden(d, 0));
          else if (op.port === "in_port") b.mov(d.actionSet!, hidden(d, TO_IN_PORT));
          else b.mov(d.actionSet!, this.#ifindex(op.port, list.args[i]!));
          break;
        case "resubmit": {
          if (op.inPort !== undefined) b.store("u32", d.key, fieldOf(d, "in_port").off, d.ifindexOf(op.inPort));
          const isLast = i === list.ops.length - 1;
          const then: Then = isLast ? list.then : { kind: "list", id: this.#nextId(list, i), list, at: i + 1 };
          b.jump(this.#enter(op.table, then, sent));
          return;
        }
        default:
          unreachable(op);
      }
    }
    this.#then(list.then, sent);
  }

  /** Lists from code share their continuation when they do the same; those from records are one of their kind. */
  #nextId(list: List, at: number): string {
    const isConstant = list.args.every(({ from }) => from === "op");
    const rest = list.ops.slice(at + 1);
    return isConstant ? `(${rest.map(textOf).join(";")}>${list.then.id})` : `#${this.#lists++}`;
  }

  #ifindex(port: number, args: Args): VReg {
    return args.from === "op"
      ? hidden(this.d, this.d.ifindexOf(port), "ifindex")
      : this.d.b.load("u32", args.record, args.at, "ifindex");
  }

  /** To a port, unless the packet came in by it. */
  #output(port: number, args: Args, pending: boolean): void {
    const { b, ifindex } = this.d;
    const done = b.block("sent");
    const to = this.#ifindex(port, args);
    b.unless("eq", to, ifindex, done);
    this.#send(to, pending);
    b.place(done);
  }

  #send(to: VReg, pending: boolean): void {
    const { d } = this;
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
  }

  /** Emits the output of the action set, where there is one; begins and goes on in the current block. */
  emitActionSet(): void {
    const { d } = this;
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
    this.#send(to, true);
    b.place(done);
  }
}
