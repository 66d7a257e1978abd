// A switch in the running kernel for replaying packets: a network namespace of its own, a veth pair per port, the datapath
// attached to the switch's ends. Packets go in at the far ends and are caught there again, so that everything between is
// what it is in production: real hooks, real redirects, tags in skb metadata.
//
// Packets are handled one at a time. Behind each one goes a marker frame into the same port; no table ever sees it,
// since its upcall, which always comes, tells that the packet before it is through.

import { existsSync, writeFileSync } from "node:fs";
import { NotSupportedError, Scope } from "ebpf-assembler";
import {
  linux,
  loadObject,
  Link,
  attachTc,
  Netns,
  PacketReceiver,
  PacketSender,
  RingBuffer,
  Rtnl,
  setProgramSlot,
  type BpfMap,
  type LoadedObject,
  type Sys,
} from "libbpf-ts";
import { monotonicMs } from "../clock.js";
import {
  directProgramOf,
  FALLBACK_SLOT,
  MAPS,
  UPCALL,
  VALUE,
  type Backend,
  type BackendResult,
  type Hook,
  type LoadBackend,
} from "#compiler";

/** IEEE 802 local experimental Ethertype 1, and a body that no traffic has. */
const MARKER = new Uint8Array(60);
MARKER.set([0x02, 0, 0, 0, 0, 0x99, 0x02, 0, 0, 0, 0, 0x98, 0x88, 0xb5]);
new TextEncoder().encodeInto("ofxdp replay marker", MARKER.subarray(14));

/** The most that a veth takes: captures of hosts that merge segments (GRO) have packets far above any wire's. */
const MTU = 65535;

/** Longest wait for the marker of a packet; it takes microseconds unless the machine is busy. */
const PATIENCE_MS = 2000;

interface LabPort {
  readonly port: number;
  /** The switch's end. */
  readonly ifindex: number;
  /** The far end. */
  readonly far: number;
  readonly receiver: PacketReceiver;
}

const isMarker = (record: Uint8Array): boolean => {
  const packet = record.subarray(UPCALL.packet, UPCALL.packet + MARKER.length);
  return packet.length === MARKER.length && packet.every((byte, i) => byte === MARKER[i]);
};

const u32 = (n: number): Uint8Array => new Uint8Array(Uint32Array.of(n).buffer);

/** Maps that stay when a program is replaced. */
const FIXED: readonly string[] = [MAPS.progs.xdp, MAPS.progs.tc, MAPS.ports, MAPS.upcalls, MAPS.control, MAPS.lost];

/** Namespace, ports and whatever is attached to them. Disposing removes all of it. */
export class KernelLab implements Disposable {
  readonly #scope = new Scope();
  readonly #sys: Sys;
  readonly #sender: PacketSender;
  readonly #ports = new Map<number, LabPort>();
  readonly #portByIfindex = new Map<number, number>();
  #fixed = new Map<string, BpfMap>();
  #ring: RingBuffer | undefined;
  readonly #netns: Netns;

  /**
   * @param ports - OpenFlow port numbers
   * @param uplinks - those of them by which packets of tunnels come: other packets pass them by
   * @throws {@link SyscallError}; nothing stays behind
   */
  constructor(
    ports: readonly number[],
    sys: Sys = linux(),
    private readonly uplinks: readonly number[] = [],
  ) {
    using scope = new Scope();
    this.#sys = sys;
    this.#netns = scope.use(Netns.create(sys));
    this.#sender = this.#netns.run(() => {
      // No router solicitations or listener reports among the packets.
      for (const which of ["all", "default"]) {
        const setting = `/proc/sys/net/ipv6/conf/${which}/disable_ipv6`;
        if (existsSync(setting)) writeFileSync(setting, "1");
      }
      const rtnl = scope.use(Rtnl.open(sys));
      for (const port of ports) {
        const [name, far] = [`p${port}`, `h${port}`];
        rtnl.createVeth({ name, mtu: MTU }, { name: far, mtu: MTU });
        for (const end of [name, far]) rtnl.change(rtnl.get(end).index, { up: true });
        const ifindex = rtnl.get(name).index;
        const farIndex = rtnl.get(far).index;
        const receiver = scope.use(PacketReceiver.open(sys, farIndex));
        this.#ports.set(port, { port, ifindex, far: farIndex, receiver });
        this.#portByIfindex.set(ifindex, port);
      }
      return scope.use(PacketSender.open(sys));
    });
    const owned = scope.move();
    this.#scope.use(owned);
  }

  ifindexOf = (port: number): number => this.#ports.get(port)?.ifindex ?? 0;

  portOf = (ifindex: number): number => this.#portByIfindex.get(ifindex) ?? 0;

  /** A {@link LoadBackend} on this lab; the first load attaches. */
  readonly load: LoadBackend = (spec, hook): Backend => {
    const first = this.#fixed.size === 0;
    const object = loadObject(this.#sys, spec, { maps: this.#fixed });
    if (first) this.#attach(object, hook);
    const main = object.program(`main_${hook}`);
    const slots = object.map(MAPS.progs[hook]);
    setProgramSlot(slots, FALLBACK_SLOT, main);
    setProgramSlot(slots, 0, object.programs.get(directProgramOf(hook)) ?? main);
    return this.#backend(object, first);
  };

  #attach(object: LoadedObject, hook: Hook): void {
    // The first object owns the maps that stay, and the stubs: it lives as long as the lab.
    this.#scope.use(object);
    this.#fixed = new Map(FIXED.map((name) => [name, object.map(name)]));
    this.#ring = this.#scope.use(RingBuffer.open(object.map(MAPS.upcalls)));
    const stub = object.program(`stub_${hook}`);
    this.#netns.run(() => {
      for (const { ifindex } of this.#ports.values()) {
        if (hook === "xdp") object.map(MAPS.ports).update(u32(ifindex), u32(ifindex));
        this.#scope.use(
          hook === "xdp"
            ? Link.xdp(this.#sys, stub, ifindex, "generic")
            : attachTc(this.#sys, stub, ifindex, "ingress"),
        );
      }
    });
  }

  #backend(object: LoadedObject, isFirst: boolean): Backend {
    const meters = object.maps.get(MAPS.meters);
    return {
      put: (map, key, value) => object.map(map).update(key, value),
      remove: (map, key) => void object.map(map).delete(key),
      read: (name, key) => {
        const map = object.map(name);
        if (!map.lookup(key)) return { packets: 0, bytes: 0 };
        const view = new DataView(map.value.buffer, map.value.byteOffset);
        return {
          packets: Number(view.getBigUint64(VALUE.packets, true)),
          bytes: Number(view.getBigUint64(VALUE.bytes, true)),
        };
      },
      memory: (map) => object.map(map).memory,
      run: (ifindex, packet) => this.#run(ifindex, packet),
      clockMs: monotonicMs,
      ...(meters === undefined ? {} : { meters: new Uint8Array(meters.memory) }),
      [Symbol.dispose]: () => {
        if (!isFirst) object[Symbol.dispose]();
      },
    };
  }

  #run(ifindex: number, packet: Uint8Array): BackendResult {
    const from = this.#ports.get(this.portOf(ifindex));
    if (from === undefined) throw new NotSupportedError(`Replaying from interface ${ifindex}, which is no port`);
    this.#sender.queue(from.far, packet);
    this.#sender.queue(this.#markerPort(from).far, MARKER);
    if (this.#sender.flush() !== 2) {
      const why = [...this.#sender.drops.keys()].at(-1) ?? "";
      throw new NotSupportedError(
        `Replaying a packet of ${packet.length} bytes in this kernel`,
        `it is refused: ${why}`,
      );
    }
    const upcalls = this.#collectUpcalls();
    const outputs: { ifindex: number; packet: Uint8Array }[] = [];
    for (const port of this.#ports.values()) {
      for (let got = port.receiver.receive(); got !== undefined; got = port.receiver.receive()) {
        outputs.push({ ifindex: port.ifindex, packet: got.data });
      }
    }
    return { outputs, upcalls };
  }

  /** Packets of one processor stay in order, whatever port they come by. */
  #markerPort(from: LabPort): LabPort {
    if (!this.uplinks.includes(from.port)) return from;
    return [...this.#ports.values()].find(({ port }) => !this.uplinks.includes(port)) ?? from;
  }

  /** Records up to the marker's. */
  #collectUpcalls(): Uint8Array[] {
    const records: Uint8Array[] = [];
    const deadline = performance.now() + PATIENCE_MS;
    for (let done = false; !done;) {
      this.#ring?.drain(({ bytes }, at, size) => {
        const record = bytes.slice(at, at + size);
        if (isMarker(record)) done = true;
        else records.push(record);
      });
      if (!done && performance.now() > deadline) {
        throw new NotSupportedError("Replaying in this kernel", `a marker frame did not come up in ${PATIENCE_MS} ms`);
      }
    }
    return records;
  }

  [Symbol.dispose](): void {
    this.#scope[Symbol.dispose]();
  }
}
