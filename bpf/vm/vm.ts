// Runs the programs of an object spec as the kernel would: same instructions, maps, helpers and contexts, on one CPU,
// with an injected clock and an injected source of random numbers, so that every run can be repeated.
//
// What the verifier would have refused and the program then does (an access outside of its object, a stale packet
// pointer, a stack byte never written, a helper argument of the wrong kind, an unreleased ring buffer record, an endless
// loop) is a VmError that names the instruction. A scalar register that was never set is the one thing not noticed
// until it is used as an address.

import { NotSupportedError, RangeViolation } from "../base/index.js";
import type { ObjectSpec, ProgramSpec, Relocation } from "../object/spec.js";
import { errorAt } from "./blame.js";
import { decode, DecodeFault } from "./decode.js";
import { Fault } from "./errors.js";
import { checkContext, type Clone, type Hook, type Host, type Redirect } from "./helpers/helper.js";
import { VM_HELPERS } from "./helpers/index.js";
import type { Image } from "./image.js";
import { Machine } from "./machine.js";
import { ArrayMap } from "./maps/array.js";
import { createMap } from "./maps/index.js";
import type { VmMap } from "./maps/map.js";
import { RingbufMap } from "./maps/ringbuf.js";
import { highWord, ORIGIN, SEGMENTS } from "./memory.js";
import { Packet } from "./packet.js";
import { SkbContext, type VlanTag } from "./skb.js";
import { XdpContext } from "./xdp.js";

/** What surrounds the programs. Every field has a default that makes runs repeatable. */
export interface VmOptions {
  /** Nanoseconds for ktime_get_ns and its like; constant 0 by default. */
  readonly clock?: () => bigint;
  /** 32-bit random numbers; a fixed sequence by default. */
  readonly random?: () => number;
  /** The MTU of a device, undefined when there is none with this ifindex; by default every device exists with 1500. */
  readonly mtuOf?: (ifindex: number) => number | undefined;
  /** Instructions that one run may execute; 1,000,000 by default. */
  readonly budget?: number;
}

/** One packet at a hook. */
export interface VmInput {
  readonly hook: Hook;
  /** From the Ethernet header on; not kept. */
  readonly packet: Uint8Array;
  readonly ingressIfindex?: number;
  readonly rxQueue?: number;
  /** xdp: the device of a devmap program. */
  readonly egressIfindex?: number;
  /** tc: the tag in skb metadata, not in the bytes. */
  readonly vlan?: VlanTag;
  /** tc: PACKET_* (uapi/linux/if_packet.h); by default from the destination address, PACKET_OTHERHOST for a unicast one. */
  readonly pktType?: number;
  readonly mark?: number;
  readonly priority?: number;
  readonly hash?: number;
  /** tc: payload bytes of a segment, 0 for a packet that is not GSO. */
  readonly gsoSize?: number;
  readonly gsoSegs?: number;
  /** tc: bytes that direct packet access reaches without skb_pull_data; all by default. */
  readonly linear?: number;
  /** tc: the L4 checksum field holds the sum of the pseudo header only (CHECKSUM_PARTIAL). */
  readonly hasPartialChecksum?: boolean;
}

/** What a program did with a packet. */
export interface VmResult {
  /** The low 32 bits of r0: XDP_* or TC_ACT_* (0xffffffff is TC_ACT_UNSPEC). */
  readonly verdict: number;
  /** All of r0. */
  readonly r0: bigint;
  readonly packet: Uint8Array;
  /** xdp: the bytes before the packet that adjust_meta made room for. */
  readonly meta: Uint8Array;
  /** Only when the verdict is XDP_REDIRECT or TC_ACT_REDIRECT and a helper said where to. */
  readonly redirect?: Redirect;
  readonly clones: readonly Clone[];
  /** tc: the tag in skb metadata afterwards. */
  readonly vlan?: VlanTag;
  readonly mark: number;
  readonly priority: number;
  readonly queueMapping: number;
  /** Instructions executed. */
  readonly insns: number;
}

const BUDGET = 1_000_000;
const REDIRECT_VERDICT: Readonly<Record<Hook, number>> = { xdp: 4, tc: 7 };

/** Marsaglia's xorshift32. */
const xorshift = (): (() => number) => {
  let state = 0x9e3779b9;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
};

/** An object loaded into the interpreter: its maps live as long as it does. */
export class Vm {
  /** Lines that programs printed by trace_printk, oldest first; the caller may empty it. */
  readonly trace: string[] = [];
  private readonly machine: Machine;
  private readonly maps: VmMap[] = [];
  private readonly mapByName = new Map<string, VmMap>();
  private readonly images: Image[];
  private readonly imageByName = new Map<string, Image>();
  private readonly xdp = new XdpContext(new Packet());
  private readonly skb = new SkbContext(new Packet());
  private readonly options: Required<VmOptions>;
  private host: Host | undefined;

  /**
   * @throws {@link VmError} for an instruction that does not decode
   * @throws {@link NotSupportedError} for a map type the interpreter does not have
   * @throws {@link RangeViolation} for maps the kernel would not create and references to maps that are not there
   */
  constructor(object: ObjectSpec, options: VmOptions = {}) {
    this.options = {
      clock: options.clock ?? (() => 0n),
      random: options.random ?? xorshift(),
      mtuOf: options.mtuOf ?? (() => 1500),
      budget: options.budget ?? BUDGET,
    };
    this.machine = new Machine((id) => this.callHelper(id));
    const around = {
      nPrograms: object.programs.length,
      hasDevice: (ifindex: number): boolean => this.options.mtuOf(ifindex) !== undefined,
    };
    for (const spec of object.maps) {
      const map = createMap(spec, this.machine.memory, around);
      this.maps.push(map);
      this.mapByName.set(spec.name, map);
    }
    this.images = object.programs.map((spec) => this.load(spec));
    for (const image of this.images) this.imageByName.set(image.spec.name, image);
  }

  /** @throws {@link RangeViolation} when the object has no such map */
  map(name: string): VmMap {
    const map = this.mapByName.get(name);
    if (map === undefined)
      throw new RangeViolation(
        `Cannot find map ${JSON.stringify(name)}: the object has ${[...this.mapByName.keys()].join(", ") || "none"}`,
      );
    return map;
  }

  /**
   * Puts a program of the object into a prog_array (its values are the programs' indexes in the object spec);
   * undefined empties the place.
   */
  setTailCall(map: string, index: number, program: string | undefined): void {
    const key = new Uint8Array(Uint32Array.of(index).buffer);
    if (program === undefined) this.map(map).delete(key);
    else this.map(map).update(key, new Uint8Array(Uint32Array.of(this.images.indexOf(this.image(program))).buffer));
  }

  /**
   * Runs a program on one packet.
   * @throws {@link VmError} for what a verified program never does
   */
  run(program: string, input: VmInput): VmResult {
    const image = this.image(program);
    const { machine, xdp, skb, options } = this;
    const isTc = input.hook === "tc";
    if (isTc) this.beginSkb(input);
    else this.beginXdp(input);
    const context = isTc ? skb : xdp;
    const { packet } = context;
    machine.memory.install(SEGMENTS.packet, packet);
    const host: Host = {
      machine,
      maps: this.maps,
      images: this.images,
      hook: input.hook,
      packet,
      xdp,
      skb,
      ...options,
      trace: this.trace,
      clones: [],
      redirect: undefined,
      nTailCalls: 0,
    };
    this.host = host;
    try {
      machine.run(image, context, options.budget);
      this.checkReleased();
    } finally {
      this.host = undefined;
      for (const map of this.maps) map.endRun();
    }
    const { R } = machine;
    const verdict = R[0]! >>> 0;
    return {
      verdict,
      r0: (BigInt(R[1]! >>> 0) << 32n) | BigInt(verdict),
      packet: packet.copy(),
      meta: packet.bytes.slice(packet.metaStart, packet.start),
      ...(verdict === REDIRECT_VERDICT[input.hook] && host.redirect !== undefined ? { redirect: host.redirect } : {}),
      clones: host.clones,
      ...(isTc && skb.vlan !== undefined ? { vlan: skb.vlan } : {}),
      mark: skb.mark,
      priority: skb.priority,
      queueMapping: skb.queueMapping,
      insns: options.budget - machine.left,
    };
  }

  private image(program: string): Image {
    const image = this.imageByName.get(program);
    if (image === undefined)
      throw new RangeViolation(
        `Cannot find program ${JSON.stringify(program)}: the object has ${[...this.imageByName.keys()].join(", ") || "none"}`,
      );
    return image;
  }

  private beginXdp(input: VmInput): void {
    const { xdp } = this;
    xdp.begin(input.packet);
    xdp.ingressIfindex = input.ingressIfindex ?? 0;
    xdp.rxQueue = input.rxQueue ?? 0;
    xdp.egressIfindex = input.egressIfindex;
  }

  private beginSkb(input: VmInput): void {
    const { skb } = this;
    skb.begin(input.packet, input.linear ?? input.packet.length);
    skb.ingressIfindex = skb.ifindex = input.ingressIfindex ?? 0;
    skb.vlan = input.vlan;
    skb.pktType = input.pktType ?? skb.pktType;
    skb.mark = input.mark ?? 0;
    skb.priority = input.priority ?? 0;
    skb.hash = input.hash ?? 0;
    skb.gsoSize = input.gsoSize ?? 0;
    skb.gsoSegs = input.gsoSegs ?? 0;
    skb.hasPartialChecksum = input.hasPartialChecksum ?? false;
  }

  private load(spec: ProgramSpec): Image {
    const bySlot = new Map(spec.relocations.map((relocation) => [relocation.insn, relocation]));
    try {
      return decode(
        spec,
        (slot) => {
          const relocation = bySlot.get(slot);
          return relocation === undefined ? undefined : this.addressOf(relocation);
        },
        (id) => VM_HELPERS.has(id),
      );
    } catch (error) {
      if (!(error instanceof DecodeFault)) throw error;
      throw errorAt(spec, error.slot, error.message, [], error);
    }
  }

  /** The address that a relocated ld_imm64 loads: of a map, or of a byte of the value of a one-entry array. */
  private addressOf({ kind, map: name, offset }: Relocation): readonly [lo: number, hi: number] {
    const map = this.map(name);
    if (kind === "map") return [ORIGIN, highWord(SEGMENTS.mapObject, this.maps.indexOf(map))];
    if (!(map instanceof ArrayMap) || map.spec.type !== "array" || map.spec.maxEntries !== 1)
      throw new NotSupportedError(
        `the address of a value of map ${JSON.stringify(name)}`,
        "it must be an array of one entry",
      );
    if (offset >= map.spec.valueSize)
      throw new RangeViolation(
        `Cannot take the address of byte ${offset} of map ${JSON.stringify(name)}: its value has ${map.spec.valueSize}`,
      );
    return [ORIGIN + offset, map.address(0)];
  }

  private callHelper(id: number): void {
    const { host, machine } = this;
    const helper = VM_HELPERS.get(id);
    if (helper === undefined || host === undefined) throw new Fault(`unknown helper ${id}`);
    if (!helper.hooks.includes(host.hook)) throw new Fault(`helper ${helper.name} does not exist at hook ${host.hook}`);
    if (helper.takesContext === true) checkContext(machine);
    helper.run(host);
    if (helper.invalidates === true) host.packet.invalidate();
  }

  /** Every reservation must have ended; what is left over is discarded when the run is cleaned up. */
  private checkReleased(): void {
    const { image, pc } = this.machine;
    for (const map of this.maps) {
      if (!(map instanceof RingbufMap) || map.nBusy === 0 || image === undefined) continue;
      const ring = JSON.stringify(map.spec.name);
      throw errorAt(
        image.spec,
        pc,
        `exit with ${map.nBusy} records of ring buffer ${ring} neither submitted nor discarded`,
      );
    }
  }
}
