// What a process that ended left running in the kernel, as the next one finds it: attachments to take over, megaflows to
// read, counters that went on. Nothing of it is changed but by taking an attachment over; disposing lets go of it.

import { RangeViolation, Scope } from "ebpf-assembler";
import {
  FALLBACK_SLOT,
  FLOW,
  type FlowWords,
  type Hook,
  MAPS,
  type Member,
  newFlow,
  publishedEntries,
  setBits,
  SLOT,
  type Subtable,
  tableSize,
  VALUE,
} from "#compiler";
import { Link, listFilters, Rtnl, TcFilter, walk, type BpfMap, type Program, type Sys } from "libbpf-ts";
import type { AttachedHook } from "../ports/port-spec.js";
import type { DatapathPins } from "./pins.js";
import { decodePlan, recordIn, type PlanRecord } from "./plan-record.js";

/** A megaflow as the kernel has it. */
export interface LeftMegaflow {
  readonly table: Subtable;
  /** Its masked bits; in_port is absent, see {@link ifindex}. */
  readonly flow: FlowWords;
  /** Interface that its packets come in by. */
  readonly ifindex: number;
  /** Which counters are its own: see {@link LeftCounters}. */
  readonly at: LeftCounters;
}

/** By what the counters of an entry are known: its map, and a slot with a part of its tag, or a compact key. */
export interface LeftCounters {
  readonly mapId: number;
  readonly slot: number;
  readonly tag: number;
  readonly key: string;
}

/** An attachment that went on. */
export interface LeftAttachment extends Disposable {
  readonly hook: AttachedHook;
  readonly link: Link | undefined;
  /** clsact was added for it. */
  readonly addedClsact: boolean;
  /** Runs another program from now on; every packet sees the old or the new one. @throws {@link SyscallError} */
  update(program: Program): void;
  /** Leaves a cls_bpf filter in place when disposed. */
  release(): void;
}

export class Survivor implements Disposable {
  private constructor(
    private readonly sys: Sys,
    private readonly pins: DatapathPins,
    readonly plan: PlanRecord,
    private readonly maps: ReadonlyMap<string, BpfMap>,
    private readonly stubs: readonly number[],
    private readonly scope: Scope,
  ) {}

  /** What is pinned and runs; undefined when nothing is. @throws {@link RangeViolation} for pins of another version */
  static find(sys: Sys, pins: DatapathPins): Survivor | undefined {
    for (const number of pins.generations.reverse()) {
      using scope = new Scope();
      const { directory } = pins;
      const names = directory.list().filter((name) => name.startsWith(`g${number}_`));
      const maps = new Map<string, BpfMap>();
      for (const name of names) {
        const map = /^g\d+_map_(.+)$/.exec(name)?.[1];
        if (map !== undefined) maps.set(map, scope.use(directory.map(name)));
      }
      if (!names.includes(`g${number}_plan`) || !isRunning(pins, number, maps)) continue;
      using record = directory.map(`g${number}_plan`);
      record.lookup(new Uint8Array(4));
      const plan = decodePlan(recordIn(record.value));
      const stubs = names
        .filter((name) => /_prog_stub_/.test(name))
        .map((name) => {
          using stub = directory.program(name);
          return stub.info.id;
        });
      return new Survivor(sys, pins, plan, maps, stubs, scope.move());
    }
    return undefined;
  }

  /** Members that its programs look at. */
  get members(): Member[] {
    return this.plan.key.fields.map(({ member }) => member);
  }

  /** The hook that an interface of the current namespace is attached at, if it went on. @throws {@link SyscallError} */
  hook(ifindex: number): AttachedHook | undefined {
    using attachment = this.attachment(ifindex);
    attachment?.release();
    return attachment?.hook;
  }

  /** The attachment to an interface of the current namespace, if it went on. @throws {@link SyscallError} */
  attachment(ifindex: number): LeftAttachment | undefined {
    if (this.pins.links.includes(ifindex)) return this.link(ifindex);
    using scope = new Scope();
    const rtnl = scope.use(Rtnl.open(this.sys));
    const filter = listFilters(rtnl, ifindex).find(({ programId }) => this.stubs.includes(programId));
    if (filter === undefined) return undefined;
    const adopted = TcFilter.adopt(rtnl, ifindex, "ingress", filter.programId, this.pins.hasClsact(ifindex));
    scope.use(adopted);
    const owned = scope.move();
    return {
      hook: "tc",
      link: undefined,
      addedClsact: adopted.addedClsact,
      update: (program) => adopted.update(program),
      release: () => adopted.release(),
      [Symbol.dispose]: () => owned[Symbol.dispose](),
    };
  }

  private link(ifindex: number): LeftAttachment | undefined {
    using scope = new Scope();
    const link = scope.use(this.pins.directory.link(`link_${ifindex}`));
    const { type, ifindex: where, programId } = link.info;
    if (where !== ifindex) return undefined;
    const hook = type === "tcx" ? "tc" : xdpMode(this.sys, ifindex, programId);
    if (hook === undefined) return undefined;
    const owned = scope.move();
    return {
      hook,
      link,
      addedClsact: false,
      update: (program) => link.update(program),
      release: () => undefined,
      [Symbol.dispose]: () => owned[Symbol.dispose](),
    };
  }

  /** All megaflows. */
  *megaflows(): Generator<LeftMegaflow> {
    const { plan, maps } = this;
    const byNumber = new Map(plan.subtables.map((table) => [table.number, table]));
    const shared = plan.table === undefined ? undefined : maps.get(plan.table.map);
    if (plan.table !== undefined && shared !== undefined) {
      const { layout, memory } = { layout: plan.table, memory: shared.memory };
      const bytes = new Uint8Array(memory, 0, tableSize(layout));
      const words = new Uint32Array(memory);
      const mapId = shared.info.id;
      for (const { slot, number } of publishedEntries(layout, memory)) {
        const table = byNumber.get(number);
        if (table === undefined) continue;
        const at = slot * 2 ** layout.shift;
        const key = bytes.subarray(at + SLOT.key, at + SLOT.key + table.keySize);
        yield { table, ...this.flowOf(table, key), at: { mapId, slot, tag: words[at / 4 + 1]!, key: "" } };
      }
    }
    for (const table of [...plan.subtables, plan.exact]) {
      const map = maps.get(table.map);
      if (map === undefined || (table.number !== undefined && plan.table !== undefined)) continue;
      const mapId = map.info.id;
      for (const { count, keys } of walk(map)) {
        for (let i = 0; i < count; i++) {
          const key = keys.slice(i * map.keySize, (i + 1) * map.keySize);
          yield {
            table,
            ...this.flowOf(table, key),
            at: { mapId, slot: -1, tag: 0, key: Buffer.from(key).toString("latin1") },
          };
        }
      }
    }
  }

  /** What a compact key says of a packet. */
  private flowOf(table: Subtable, compact: Uint8Array): { flow: FlowWords; ifindex: number } {
    const { key } = this.plan;
    const full = new Uint8Array(key.size);
    table.words.forEach((word, i) => full.set(compact.subarray(8 * i, 8 * i + 8), 8 * word));
    const flow = newFlow();
    let ifindex = 0;
    for (const { member, off, size } of key.fields) {
      if (member === "in_port") ifindex = new DataView(full.buffer).getUint32(off, true);
      else for (let i = 0; i < size; i++) setBits(flow, FLOW[member].at + 8 * i, 8, full[off + i]!);
    }
    return { flow, ifindex };
  }

  /** What a megaflow has counted up to now; undefined when it is gone. */
  counters({ table, at }: Pick<LeftMegaflow, "table" | "at">): { packets: number; bytes: number } | undefined {
    const { plan, maps } = this;
    if (at.slot >= 0) {
      const layout = plan.table!;
      const view = new DataView(maps.get(layout.map)!.memory, at.slot * 2 ** layout.shift);
      return countersAt(view, SLOT.value);
    }
    const map = maps.get(table.map)!;
    if (!map.lookup(Buffer.from(at.key, "latin1"))) return undefined;
    return countersAt(new DataView(map.value.buffer, map.value.byteOffset), 0);
  }

  /** Upcalls of interfaces that were lost. */
  lost(ifindex: number): number {
    const map = this.maps.get(MAPS.lost);
    return map === undefined || ifindex >= map.maxEntries ? 0 : Number(new BigUint64Array(map.memory)[ifindex]);
  }

  /** Upcalls that nobody has taken. @throws {@link RangeViolation} when there is no ring */
  get ring(): BpfMap {
    const ring = this.maps.get(MAPS.upcalls);
    if (ring === undefined) throw new RangeViolation("The datapath that was left has no ring of upcalls");
    return ring;
  }

  /** Memory of the meters that programs take from; undefined when none did. */
  get meters(): Uint8Array<ArrayBuffer> | undefined {
    const map = this.maps.get(MAPS.meters);
    return map === undefined ? undefined : new Uint8Array(map.memory);
  }

  [Symbol.dispose](): void {
    this.scope[Symbol.dispose]();
  }
}

const countersAt = (view: DataView, at: number): { packets: number; bytes: number } => ({
  packets: Number(view.getBigUint64(at + VALUE.packets, true)),
  bytes: Number(view.getBigUint64(at + VALUE.bytes, true)),
});

/** A direct program may run first, in another slot. */
const MEGAFLOW_SLOT = new Uint8Array(Uint32Array.of(FALLBACK_SLOT).buffer);

/** Whether the slot of a program array holds the main program of a generation. */
const isRunning = ({ directory }: DatapathPins, number: number, maps: ReadonlyMap<string, BpfMap>): boolean =>
  (["tc", "xdp"] as const satisfies readonly Hook[]).some((hook) => {
    const name = `g${number}_prog_main_${hook}`;
    const array = maps.get(MAPS.progs[hook]);
    if (array === undefined || !directory.has(name) || !array.lookup(MEGAFLOW_SLOT)) return false;
    using main = directory.program(name);
    return new DataView(array.value.buffer, array.value.byteOffset).getUint32(0, true) === main.info.id;
  });

const xdpMode = (sys: Sys, ifindex: number, programId: number): AttachedHook | undefined => {
  using rtnl = Rtnl.open(sys);
  const { native, generic } = rtnl.get(ifindex).xdp;
  return native === programId ? "native" : generic === programId ? "generic" : undefined;
};
