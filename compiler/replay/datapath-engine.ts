// One switch whose packets run through a compiled datapath program, packet by packet, with user space in the same call: what
// the daemon does, without its event loop. The backend runs the program: the interpreter here, a kernel elsewhere.
//
// A miss is translated, its megaflow installed and the packet sent on. A megaflow whose mask or shape the program lacks is
// installed so that it works at once (exact match, or user space) and moves when the program is next built; building is
// put off for some packets, so that both ways are taken. Any change of the tables empties the cache.

import { toHex, type ObjectSpec } from "ebpf-assembler";
import { relevantMembers } from "../analysis/relevance.js";
import { OVS_PACKET_CMD, UPCALL, VALUE, vportIndex } from "../datapath/abi.js";
import { compileDatapath } from "../datapath/compile.js";
import {
  keyLayout,
  keyMask,
  maskId,
  missingMembers,
  putCompactKey,
  putKey,
  subtable,
  type Subtable,
} from "../datapath/key.js";
import { lookupMask } from "../datapath/mask.js";
import {
  numberShapes,
  plan,
  putArgs,
  shapeIdOf,
  withTable,
  type DatapathPlan,
  type Shape,
  type Storage,
} from "../datapath/plan.js";
import { TableMemory } from "../datapath/table-memory.js";
import type { Hook } from "../ir/types.js";
import { newFlow, type Member } from "../openflow/flow.js";
import type { Sink } from "../packet/execute.js";
import { extract, newLayers } from "../packet/extract.js";
import { refusal } from "../pipeline/carriers.js";
import { creditTranslation, learnFrom } from "../pipeline/credit.js";
import { shapeOf, type DpAction } from "../pipeline/dp-action.js";
import { putTunnel } from "../pipeline/tunnel/ports.js";
import { arrive } from "../pipeline/tunnel/receive.js";
import { encapsulate } from "../packet/tunnel.js";
import { Runner } from "../pipeline/runner.js";
import type { Switch } from "../pipeline/switch.js";
import { translate, type Translation } from "../pipeline/translate.js";
import { DirectFront } from "./direct-front.js";

/** What a program did with one packet. */
export interface BackendResult {
  /** By interface index, in order. */
  readonly outputs: readonly { readonly ifindex: number; readonly packet: Uint8Array }[];
  /** Records of the upcall ring. */
  readonly upcalls: readonly Uint8Array[];
}

/** A loaded datapath object. */
export interface Backend extends Disposable {
  put(map: string, key: Uint8Array, value: Uint8Array): void;
  remove(map: string, key: Uint8Array): void;
  /** Counters of an entry. */
  read(map: string, key: Uint8Array): { readonly packets: number; readonly bytes: number };
  run(ifindex: number, packet: Uint8Array, nowMs: number): BackendResult;
  /** Slots of the meters, if the program has them: shared with it. */
  readonly meters?: Uint8Array<ArrayBuffer>;
  /** The clock that programs read, where it is not that of the packets. */
  readonly clockMs?: () => number;
  /** The memory of an array map that can be mapped. */
  memory(map: string): ArrayBuffer;
}

/** Where packets of tunnels come from and to. */
export interface UplinkOptions {
  /** Ports that are none of the switch: packets of tunnels come by them, and others are the host's. */
  readonly uplinks: readonly number[];
  /** The host's addresses that tunnels end at. */
  readonly addresses: readonly Uint8Array[];
}

/** Loads an object in place of the one before. */
export type LoadBackend = (object: ObjectSpec, hook: Hook) => Backend;

export interface Handled {
  readonly outputs: readonly { readonly port: number; readonly packet: Uint8Array }[];
  readonly controller: readonly { readonly reason: string; readonly table: number; readonly packet: Uint8Array }[];
  /** hit: the program alone; slow: it had a megaflow that only user space carries out; miss: translated just now. */
  readonly path: "hit" | "slow" | "miss";
}

export interface EngineOptions {
  /** Packets that go by before a program that lacks something is built anew. Default 32. */
  readonly patience?: number;
  /** Megaflows per subtable; see `plan`. A table takes so many in all. */
  readonly maxEntries?: number;
  /** Where subtables lie: in kernel hash maps, which is the default, or in a megaflow table. */
  readonly storage?: Storage;
  /** What makes a program of a plan, {@link compileDatapath} by default; engines that run side by side can share results. */
  readonly compile?: (plan: DatapathPlan, hooks: readonly Hook[]) => ObjectSpec;
  readonly tunnels?: UplinkOptions;
  /** Whether a program of the tables themselves runs before that of the megaflows: mode auto. */
  readonly isAuto?: boolean;
  /** Interface index of an OpenFlow port and back; by default they are the same numbers. */
  readonly ifindexOf?: (port: number) => number;
  readonly portOf?: (ifindex: number) => number;
}

interface Entry {
  readonly translation: Translation;
  readonly table: Subtable;
  readonly key: Uint8Array;
  /** In the megaflow table; undefined for an entry of a map. */
  readonly slot: number | undefined;
  packets: number;
  bytes: number;
}

/** Subtables besides the exact one. */
const MAX_MASKS = 32;

/** Megaflows that a table is made for when nothing is said. */
const TABLE_ENTRIES = 4096;
/** Packets come one at a time and attack nobody: runs should be repeatable. */
const TABLE_SEED = 0x9e37_79b9_7f4a_7c15n;

const identity = (n: number): number => n;

export class DatapathEngine implements Disposable {
  readonly #runner: Runner;
  readonly #flow = newFlow();
  readonly #layers = newLayers();
  readonly #patience: number;
  readonly #maxEntries: number | undefined;
  readonly #storage: Storage;
  readonly #compile: NonNullable<EngineOptions["compile"]>;
  readonly #ifindexOf: (port: number) => number;
  readonly #portOf: (ifindex: number) => number;
  readonly #tunnels: UplinkOptions | undefined;
  readonly #isAuto: boolean;
  #front: DirectFront | undefined;
  #tablesVersion = 0;
  readonly #masks = new Map<string, Uint8Array>();
  readonly #shapes = new Map<string, readonly DpAction[]>();
  /** By map name and key. */
  readonly #entries = new Map<string, Entry>();
  #members: Set<Member>;
  #plan: DatapathPlan;
  #shapeByText: ReadonlyMap<string, Shape> = new Map();
  #subtables: ReadonlyMap<string, Subtable> = new Map();
  #backend: Backend;
  #table: TableMemory | undefined;
  #version: number;
  #wanting = 0;
  /** Programs built so far. */
  builds = 0;

  constructor(
    readonly sw: Switch,
    readonly hook: Hook,
    private readonly load: LoadBackend,
    options: EngineOptions = {},
  ) {
    this.#runner = new Runner(sw);
    this.#isAuto = options.isAuto ?? false;
    this.#patience = options.patience ?? 32;
    this.#maxEntries = options.maxEntries;
    this.#storage = options.storage ?? "hash";
    this.#compile = options.compile ?? compileDatapath;
    this.#ifindexOf = options.ifindexOf ?? identity;
    this.#portOf = options.portOf ?? identity;
    this.#tunnels = options.tunnels;
    this.#members = relevantMembers(sw);
    this.#plan = this.#nextPlan();
    this.#backend = this.#build();
    if (this.#backend.clockMs !== undefined) sw.meters.restart(this.#backend.clockMs());
    this.#version = sw.version;
  }

  get plan(): DatapathPlan {
    return this.#plan;
  }

  #nextPlan(): DatapathPlan {
    const key = keyLayout(this.#members);
    const subtables = [...this.#masks.values()].map((mask, n) => subtable(`mf_${n}`, mask));
    const shapes = numberShapes([...this.#shapes.values()]);
    const maxEntries = this.#maxEntries === undefined ? {} : { maxEntries: this.#maxEntries };
    const inMaps = plan({ key, subtables, shapes, ...maxEntries, ...this.#tunnelPlan() });
    if (this.#storage === "hash") return inMaps;
    return withTable(inMaps, { entries: this.#maxEntries ?? TABLE_ENTRIES, seed: TABLE_SEED });
  }

  #tunnelPlan(): Pick<DatapathPlan, "tunnels"> {
    if (this.#tunnels === undefined) return {};
    const { uplinks, addresses } = this.#tunnels;
    return { tunnels: { uplinks: uplinks.map(this.#ifindexOf), addresses, vports: this.sw.tunnels.vports } };
  }

  #build(): Backend {
    this.builds++;
    this.#wanting = 0;
    this.#shapeByText = new Map(this.#plan.shapes.map((s) => [s.text, s]));
    this.#subtables = new Map(this.#plan.subtables.map((table) => [table.id, table]));
    this.#tablesVersion = this.sw.tablesVersion;
    this.#front = this.#isAuto ? new DirectFront(this.sw, this.hook, this.#plan, this.#ifindexOf) : undefined;
    const object = this.#compile(this.#plan, [this.hook]);
    const backend = this.load(this.#front?.before(object) ?? object, this.hook);
    this.#front?.start(backend);
    if (backend.meters !== undefined) this.sw.meters.bind(backend.meters);
    const { table } = this.#plan;
    this.#table = table === undefined ? undefined : new TableMemory(table, backend.memory(table.map));
    return backend;
  }

  /** Reads what the program has counted and credits it. */
  settle(nowMs: number): void {
    this.#front?.settle(nowMs);
    for (const entry of this.#entries.values()) {
      const { packets, bytes } = this.#read(entry);
      creditTranslation(entry.translation, packets - entry.packets, bytes - entry.bytes, nowMs);
      entry.packets = packets;
      entry.bytes = bytes;
    }
  }

  #read({ slot, table, key }: Entry): { readonly packets: number; readonly bytes: number } {
    if (slot === undefined || this.#table === undefined) return this.#backend.read(table.map, key);
    return { packets: this.#table.packets(slot), bytes: this.#table.bytes(slot) };
  }

  #flush(nowMs: number): void {
    this.settle(nowMs);
    for (const { table, key, slot } of this.#entries.values()) {
      if (slot === undefined) this.#backend.remove(table.map, key);
      else {
        // No packet is under way between two calls of handle(): the slot can be used again at once.
        this.#table?.unpublish(slot);
        this.#table?.release(slot);
      }
    }
    this.#entries.clear();
  }

  /** Builds a program that has all that was wanted; the cache begins anew. */
  respecialise(nowMs: number): void {
    this.#flush(nowMs);
    const next = this.#nextPlan();
    this.#plan = next;
    const old = this.#backend;
    this.#backend = this.#build();
    old[Symbol.dispose]();
  }

  /** Takes one packet through the program, and through user space if the program asks for it. */
  handle(inPort: number, packet: Uint8Array, nowMs: number): Handled {
    if (this.sw.version !== this.#version) {
      if (this.#isAuto && this.sw.tablesVersion !== this.#tablesVersion) this.respecialise(nowMs);
      else this.#flush(nowMs);
      this.#version = this.sw.version;
    }
    if (this.#wanting > this.#patience) this.respecialise(nowMs);
    const ifindex = this.#ifindexOf(inPort);
    const { outputs, upcalls } = this.#backend.run(ifindex, packet, nowMs);
    const clockMs = this.#backend.clockMs?.() ?? nowMs;
    const sent: { port: number; packet: Uint8Array }[] = outputs.map((o) => ({
      port: this.#portOf(o.ifindex),
      packet: o.packet,
    }));
    const controller: { reason: string; table: number; packet: Uint8Array }[] = [];
    let path: Handled["path"] = "hit";
    for (const record of upcalls) {
      path = record[UPCALL.cmd] === OVS_PACKET_CMD.ACTION ? "slow" : "miss";
      this.#upcall(record, path === "miss", nowMs, {
        output: (port, bytes) => void sent.push({ port, packet: bytes.slice() }),
        controller: ({ reason, table }, bytes) => void controller.push({ reason, table, packet: bytes.slice() }),
        tunnel: ({ header, hop }, bytes) => {
          if (hop !== undefined) sent.push({ port: this.#portOf(hop.ifindex), packet: encapsulate(header, bytes) });
        },
        meter: (slot, size) => this.sw.meters.meter(slot, size, clockMs),
      });
    }
    if (this.#wanting > 0) this.#wanting++;
    return { outputs: sent, controller, path };
  }

  #upcall(record: Uint8Array, isMiss: boolean, nowMs: number, sink: Sink): void {
    const view = new DataView(record.buffer, record.byteOffset, record.length);
    const ifindex = view.getUint32(UPCALL.inPort, true);
    let packet = record.subarray(UPCALL.packet, view.getUint32(UPCALL.nlLen, true));
    let keyIndex = ifindex;
    const port = this.#portOf(ifindex);
    if (this.#tunnels?.uplinks.includes(port) === true) {
      const arrival = arrive(this.sw.tunnels, this.#tunnels.addresses, packet);
      if (arrival?.port === undefined) return;
      packet = arrival.inner;
      keyIndex = vportIndex(arrival.vport, this.hook);
      extract(packet, packet.length, arrival.port, this.#flow, this.#layers);
      putTunnel(this.#flow, arrival.key);
    } else extract(packet, packet.length, port, this.#flow, this.#layers);
    const translation = translate(this.sw, this.#flow);
    if (isMiss) {
      creditTranslation(translation, 1, packet.length, nowMs);
      this.#install(keyIndex, translation);
    }
    this.#runner.run(packet, translation.actions, sink, nowMs);
    learnFrom(this.sw, translation, nowMs);
  }

  /** Puts the megaflow of `this.#flow` in. */
  #install(ifindex: number, translation: Translation): void {
    const wanted = lookupMask(this.#flow, translation);
    const missing = missingMembers(this.#plan.key, wanted);
    for (const member of missing) {
      this.#members.add(member);
      // Masks are of the old layout; they come back with their next packets.
      this.#masks.clear();
      this.#wanting = Math.max(this.#wanting, this.#patience);
    }
    if (missing.length > 0) return;
    const { actions } = translation;
    const text = shapeOf(actions);
    if (actions.length > 0 && refusal(this.hook, actions) === undefined && !this.#shapes.has(text)) {
      this.#shapes.set(text, actions);
      this.#wanting ||= 1;
    }
    const mask = keyMask(this.#plan.key, wanted);
    const id = maskId(mask);
    if (!this.#masks.has(id) && this.#masks.size < MAX_MASKS && keyLayout(this.#members).size === this.#plan.key.size) {
      this.#masks.set(id, mask);
      this.#wanting ||= 1;
    }
    const fullKey = new Uint8Array(this.#plan.key.size);
    putKey(this.#plan.key, this.#flow, ifindex, fullKey);
    const own = this.#subtables.get(id);
    const isIn = own !== undefined && this.#put(own, fullKey, translation);
    // A table can be full: the exact-match subtable takes what it has no place for.
    if (!isIn) this.#put(this.#plan.exact, fullKey, translation);
  }

  /** @returns false when the table has no place for it */
  #put(table: Subtable, fullKey: Uint8Array, translation: Translation): boolean {
    const key = new Uint8Array(table.keySize);
    putCompactKey(table, fullKey, key);
    const name = `${table.map} ${toHex(key)}`;
    // A packet too odd for the program's parser misses every time.
    if (this.#entries.has(name)) return true;
    const value = this.#value(translation.actions);
    let slot: number | undefined;
    if (table.number === undefined || this.#table === undefined) this.#backend.put(table.map, key, value);
    else {
      slot = this.#table.insert(table.number, new Uint32Array(key.buffer), new Uint32Array(value.buffer));
      if (slot < 0) return false;
    }
    this.#entries.set(name, { translation, table, key, slot, packets: 0, bytes: 0 });
    return true;
  }

  #value(actions: readonly DpAction[]): Uint8Array {
    const value = new Uint8Array(this.#plan.valueSize);
    const view = new DataView(value.buffer);
    const carried = refusal(this.hook, actions) === undefined;
    const id = carried ? shapeIdOf(this.#shapeByText, actions) : 0;
    view.setUint32(VALUE.shape, id, true);
    const shape = this.#shapeByText.get(shapeOf(actions));
    if (shape !== undefined && id === shape.id) putArgs(shape, actions, this.#ifindexOf, view, VALUE.args);
    return value;
  }

  [Symbol.dispose](): void {
    if (this.#backend.meters !== undefined) this.sw.meters.unbind();
    this.#backend[Symbol.dispose]();
  }
}
