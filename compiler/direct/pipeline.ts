// Emits the tables one after the other. Who resubmits to a table leaves the number of what is to be done after it (the rest of a
// list, or what is done after its own table) in a cell of that table: the tables form no circle (analyse.ts), so none is
// under way twice, and control needs no stack.
//
// The verifier knows no numbers in cells: to it whoever comes back from a table may go on as any of those who went there. So that it
// sees no circle either, code stands in stages: a rest of a list belongs to the stage after the one that the table came
// back in, and a table is emitted once for each stage that it is entered in. A packet passes a copy at most once.

import { unreachable, type Origin } from "ebpf-assembler";
import type { BlockId, VReg } from "../ir/types.js";
import { STATS } from "./abi.js";
import { codeOf, emitEdit, isEdit, textOf, type Args } from "./act.js";
import { DirectRefusal, type Analysis, type DirectTable } from "./analyse.js";
import { dispatch, element, fieldOf, guess, hidden, newCell, TO_IN_PORT, type Cell, type Direct } from "./emit.js";
import { emitFind } from "./find.js";
import type { Op } from "./ops.js";
import { makeRecords, type Records } from "./records.js";
import { emitMeterLater, emitOutput, emitSend, ifindexOf } from "./send.js";
import { waysTo, type Ways } from "./ways.js";

/** What is done after a table. */
type Then =
  /** What is done after the table that resubmitted to it as the last thing. */
  | { readonly kind: "exit"; readonly id: string; readonly of: Instance }
  /** The rest of the list that resubmitted to it. */
  | { readonly kind: "list"; readonly id: string; readonly list: List; readonly at: number };

/** A list of operations that is being emitted. */
interface List {
  readonly of: Instance;
  readonly ops: readonly Op[];
  /** Where their arguments are in records; undefined: in the operations. */
  readonly offsets: readonly number[] | undefined;
}

/** Stages that a program may have. */
export const MAX_STAGES = 8;

/** A table in the stage that it is entered in. */
interface Instance {
  readonly key: string;
  readonly stage: number;
  readonly block: BlockId;
  readonly table: DirectTable;
  readonly ways: Ways;
  /** What is done after it, by number; none for the first table. */
  readonly thens: Then[];
  /** Where it ends, by stage. */
  readonly exits: Map<number, BlockId>;
  /** Rule to be counted, once there is one. */
  passed: Cell | undefined;
}

/** Cells that a table has, whatever the stage. */
interface TableCells {
  /** Number of what is done after it. Absent: nothing is left to do. */
  readonly ret: Cell | undefined;
  /** Rank of the rule whose list is under way, for rests of lists with arguments in records. */
  rank: Cell | undefined;
}

interface Rest {
  readonly block: BlockId;
  readonly list: List;
  readonly at: number;
  readonly stage: number;
}

/** Rests of lists that do the same share their code. */
const restId = ({ of, ops, offsets }: List, at: number): string => {
  const rest = ops.slice(at);
  return offsets === undefined
    ? `${of.key} ${rest.map(textOf).join(";")}`
    : `${of.key} by record ${ops.map(codeOf).join(";")} from ${at}`;
};

/** Emits the tables of an analysis from table 0 on. */
export class Pipeline {
  readonly #ways: ReadonlyMap<number, Ways>;
  readonly #instances = new Map<string, Instance>();
  readonly #cells = new Map<number, TableCells>();
  readonly #waiting: Instance[] = [];
  readonly #records = new Map<number, Records>();
  /** Rests of lists, by what they are. */
  readonly #rests = new Map<string, Rest>();
  /** Of the stage that is being emitted, and of the next. */
  #waitingRests: Rest[] = [];
  #nextRests: Rest[] = [];
  #waitingExits: { block: BlockId; of: Instance }[] = [];
  readonly #hasForeignPorts: boolean;
  readonly #tableOf = new Map<Origin, number>();

  constructor(
    readonly d: Direct,
    readonly analysis: Analysis,
    /** What goes on in later stages is for user space; without one the tables are refused. */
    readonly maxStages = MAX_STAGES,
  ) {
    this.#ways = waysTo(analysis.tables);
    this.#hasForeignPorts = analysis.rules.some(({ ops }) =>
      ops.some((op) => op.op === "resubmit" && op.inPort !== undefined),
    );
  }

  /** Emits everything; begins in the current block. */
  run(): void {
    const { b } = this.d;
    b.jump(this.#instance(0, 0).block);
    for (let stage = 0; stage === 0 || this.#nextRests.length > 0; stage++) {
      this.#waitingRests = this.#nextRests;
      this.#nextRests = [];
      for (;;) {
        const table = this.#waiting.pop();
        const rest = table === undefined ? this.#waitingRests.pop() : undefined;
        if (table !== undefined) {
          b.place(table.block);
          this.#table(table);
        } else if (rest !== undefined) {
          b.place(rest.block);
          this.#list(rest.list, rest.at, this.#recordAgain(rest.list), true, stage);
        } else break;
      }
      // All who go to tables in this stage are known by now.
      for (let exit = this.#waitingExits.pop(); exit !== undefined; exit = this.#waitingExits.pop()) {
        b.place(exit.block);
        this.#exit(exit.of, stage);
      }
    }
  }

  /** Records of the tables that have some. */
  get records(): ReadonlyMap<number, Records> {
    return this.#records;
  }

  /** Table that code with this origin was emitted for. */
  tableOf(origin: Origin): number | undefined {
    return this.#tableOf.get(origin);
  }

  #originate(table: number, origin: Origin): void {
    this.d.b.origin = origin;
    this.#tableOf.set(origin, table);
  }

  /** Beginnings of the tables, callers first. */
  entries(): BlockId[] {
    return [...this.#instances.values()].map(({ block }) => block);
  }

  #instance(id: number, stage: number): Instance {
    const key = `${id} in ${stage}`;
    const known = this.#instances.get(key);
    if (known !== undefined) return known;
    const { d } = this;
    const ways = this.#ways.get(id)!;
    if (!this.#cells.has(id)) this.#cells.set(id, { ret: ways.isLast ? undefined : this.#cell(id), rank: undefined });
    const made: Instance = {
      key,
      stage,
      block: d.b.block(`table_${id}`),
      table: this.analysis.tables.get(id)!,
      ways,
      thens: [],
      exits: new Map(),
      passed: undefined,
    };
    this.#instances.set(key, made);
    this.#waiting.push(made);
    return made;
  }

  #cell(table: number): Cell {
    const cell = newCell(this.d);
    if (cell === undefined) throw new DirectRefusal(table, "the tables before it have taken the whole stack");
    return cell;
  }

  /** Goes to a table; ends the current block. */
  #enter(id: number, then: Then, stage: number): void {
    const { d } = this;
    const instance = this.#instance(id, stage);
    let index = instance.thens.findIndex((known) => known.id === then.id);
    if (index < 0) index = instance.thens.push(then) - 1;
    const { ret } = this.#cells.get(id)!;
    if (ret !== undefined) d.b.store("u32", ...ret, hidden(d, index, "then"));
    d.b.jump(instance.block);
  }

  /** Where a table that was entered in `of.stage` ends in `stage`. */
  #exitOf(of: Instance, stage: number): BlockId {
    if (of.ways.isLast) return this.d.finish;
    let block = of.exits.get(stage);
    if (block === undefined) {
      of.exits.set(stage, (block = this.d.b.block(`exit_${of.table.id}`)));
      this.#waitingExits.push({ block, of });
    }
    return block;
  }

  /** Goes on after a table. */
  #exit({ thens, table }: Instance, stage: number): void {
    const { b } = this.d;
    this.#originate(table.id, { text: `after table ${table.id}` });
    const targets = thens.map((then) =>
      then.kind === "exit" ? this.#exitOf(then.of, stage) : this.#rest(then, table, stage + 1),
    );
    if (new Set(targets).size === 1) b.jump(targets[0]!);
    else dispatch(b, b.load("u32", ...this.#cells.get(table.id)!.ret!, "then"), targets);
  }

  #rest({ id, list, at }: Extract<Then, { readonly kind: "list" }>, table: DirectTable, stage: number): BlockId {
    const { d } = this;
    if (stage >= this.maxStages) {
      if (d.passed !== undefined) return d.slow;
      throw new DirectRefusal(table.id, `packets come back from tables more than ${this.maxStages - 1} times`);
    }
    const key = `${stage} ${id}`;
    let rest = this.#rests.get(key);
    if (rest === undefined) {
      this.#rests.set(key, (rest = { block: d.b.block("rest"), list, at, stage }));
      this.#nextRests.push(rest);
    }
    return rest.block;
  }

  #table(instance: Instance): void {
    const { table } = instance;
    const { d } = this;
    const { b } = d;
    const blocks = new Map<string, { block: BlockId; ops: readonly Op[] }>();
    const heads: { block: BlockId; rank: number; body: BlockId }[] = [];
    const miss = b.block("miss");
    this.#originate(table.id, { text: `look-up of table ${table.id}` });
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
      this.#originate(table.id, table.rules[rank]!.from);
      this.#count(instance, rank);
      b.jump(body);
    }
    for (const { block, ops } of blocks.values()) {
      b.place(block);
      this.#list({ of: instance, ops, offsets: undefined }, 0, undefined, instance.ways.pending, instance.stage);
    }
    b.place(miss);
    this.#originate(table.id, { text: `miss of table ${table.id}` });
    if (this.analysis.missesAreSlow) {
      b.jump(d.slow);
      return;
    }
    this.#restoreInPort();
    const counter = this.analysis.counts.misses.get(table.id);
    if (counter !== undefined) this.#add(instance, counter);
    b.jump(this.#exitOf(instance, instance.stage));
  }

  /** A rule whose rank is in a register. */
  #byRank(instance: Instance, rank: VReg): void {
    const { table } = instance;
    const { d } = this;
    const { b } = d;
    const records = this.#recordsOf(table);
    this.#originate(table.id, { text: `rules of table ${table.id}` });
    this.#count(instance, rank);
    const { codes } = records;
    const record = element(b, records.map, 0, rank, records.stride);
    const targets = codes.map(() => b.block("actions"));
    if (codes.some(({ ops }) => ops.slice(0, -1).some(({ op }) => op === "resubmit"))) {
      const cells = this.#cells.get(table.id)!;
      b.store("u32", ...(cells.rank ??= this.#cell(table.id)), rank);
    }
    if (codes.length === 1) b.jump(targets[0]!);
    else dispatch(b, b.load("u32", record, 0, "code"), targets);
    codes.forEach(({ ops, offsets }, i) => {
      b.place(targets[i]!);
      this.#list({ of: instance, ops, offsets }, 0, record, instance.ways.pending, instance.stage);
    });
  }

  #recordsOf(table: DirectTable): Records {
    let records = this.#records.get(table.id);
    if (records === undefined) this.#records.set(table.id, (records = makeRecords(this.d, table)));
    return records;
  }

  /** The record of a list that goes on after a table. */
  #recordAgain({ of, offsets }: List): VReg | undefined {
    if (offsets === undefined) return undefined;
    const { b, drop } = this.d;
    const rank = b.load("u32", ...this.#cells.get(of.table.id)!.rank!, "rank");
    // Never taken: tells the verifier what it has forgotten.
    b.unless("ge", rank, of.table.rules.length, drop);
    const { map, stride } = this.#recordsOf(of.table);
    return element(b, map, 0, rank, stride);
  }

  /** Counts a rule. */
  #count(instance: Instance, rank: number | VReg): void {
    const { firstRule, rules } = instance.table;
    const { sums } = this.analysis.counts;
    const isCounted = (of: number): boolean => !sums.has(firstRule + of);
    this.#restoreInPort();
    if (typeof rank === "number" ? isCounted(rank) : rules.some((_, of) => isCounted(of)))
      this.#add(instance, typeof rank === "number" ? firstRule + rank : { rank, firstRule });
  }

  /** Adds the packet to a counter, now or at the end. */
  #add(instance: Instance, counter: number | { readonly rank: VReg; readonly firstRule: number }): void {
    const { d } = this;
    const { b } = d;
    if (d.passed !== undefined) {
      if (instance.passed === undefined) d.passed.push((instance.passed = this.#cell(instance.table.id)));
      const index =
        typeof counter === "number"
          ? hidden(d, counter + 1)
          : b.alu("add", counter.rank, counter.firstRule + 1, "index");
      b.store("u32", ...instance.passed, index);
      return;
    }
    const counters =
      typeof counter === "number"
        ? b.mapValue(STATS.map, STATS.size * counter)
        : element(b, STATS.map, STATS.size * counter.firstRule, counter.rank, STATS.size);
    b.atomicAdd("u64", counters, STATS.packets, b.value("one", 1));
    b.atomicAdd("u64", counters, STATS.bytes, d.bytes);
  }

  /** Puts the true port back after a look-up with another. */
  #restoreInPort(): void {
    const { d } = this;
    if (!this.#hasForeignPorts) return;
    d.b.store("u32", d.key, fieldOf(d, "in_port").off, d.ifindex);
  }

  /** Emits a list from operation `at` on; every path ends. */
  #list(list: List, at: number, record: VReg | undefined, pending: boolean, stage: number): void {
    const { d } = this;
    const { b } = d;
    const { of, ops, offsets } = list;
    const argsOf = (i: number): Args =>
      offsets === undefined ? { from: "op" } : { from: "record", record: record!, at: offsets[i]! };
    let sent = pending;
    for (let i = at; i < ops.length; i++) {
      const op = ops[i]!;
      const isLast = i === ops.length - 1;
      if (isEdit(op)) {
        // One packet leaves with one set of edits: what changes after an output is for user space.
        if (sent) b.unless("ne", guess(d, d.out), 0, d.slow);
        emitEdit(d, op, argsOf(i));
        continue;
      }
      switch (op.op) {
        case "slow":
          b.jump(d.slow);
          return;
        case "end_copy":
          if (isLast && of.ways.isLast && d.actionSet === undefined) continue;
          b.jump(d.slow);
          return;
        case "meter":
          emitMeterLater(d, op.slot, argsOf(i), sent);
          break;
        case "output":
          emitOutput(d, op.port, argsOf(i), sent);
          sent = true;
          break;
        case "output_in_port":
          emitSend(d, d.ifindex, sent);
          sent = true;
          break;
        case "write_output":
          if (op.port === undefined) b.mov(d.actionSet!, hidden(d, 0));
          else if (op.port === "in_port") b.mov(d.actionSet!, hidden(d, TO_IN_PORT));
          else b.mov(d.actionSet!, ifindexOf(d, op.port, argsOf(i)));
          break;
        case "resubmit":
          if (op.inPort !== undefined) b.store("u32", d.key, fieldOf(d, "in_port").off, d.ifindexOf(op.inPort));
          this.#enter(
            op.table,
            isLast
              ? { kind: "exit", id: `exit ${of.key}`, of }
              : { kind: "list", id: restId(list, i + 1), list, at: i + 1 },
            stage,
          );
          return;
        default:
          unreachable(op);
      }
    }
    b.jump(this.#exitOf(of, stage));
  }
}
