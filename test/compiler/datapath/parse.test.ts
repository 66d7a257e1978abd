// The emitted parser against its reference: a packet's key, built by extract() and putKey(), is the only entry of the
// exact-match subtable; the program must hit it, in the interpreter and in the kernel.

import assert from "node:assert/strict";
import { toHex, Vm } from "ebpf-assembler";
import { linux, loadObject, skbContext, xdpContext } from "libbpf-ts";
import {
  compileDatapath,
  extract,
  keyLayout,
  MAX_EXT_HEADERS,
  newFlow,
  newLayers,
  PACKET_MEMBERS,
  plan,
  putCompactKey,
  putKey,
  SHAPE_DROP,
  VALUE,
  type DatapathPlan,
  type Hook,
  type Layers,
  type Member,
} from "#compiler";

import { randomPackets } from "../../support/random-packets.js";
import { Random } from "../../support/random.js";

const LOOPBACK = 1;
const HOOKS: readonly Hook[] = ["xdp", "tc"];

/** Runs a packet and says how often the megaflow was hit. */
type Run = (packet: Uint8Array, key: Uint8Array) => number;

const dropValue = (datapath: DatapathPlan): Uint8Array => {
  const value = new Uint8Array(datapath.valueSize);
  value[VALUE.shape] = SHAPE_DROP;
  return value;
};

const inVm = (datapath: DatapathPlan, hook: Hook): Run => {
  const vm = new Vm(compileDatapath(datapath, [hook]));
  const map = vm.map(datapath.exact.map);
  const value = dropValue(datapath);
  return (packet, key) => {
    map.update(key, value);
    vm.run(`main_${hook}`, { hook, packet, ingressIfindex: LOOPBACK });
    const after = map.lookup(key)!;
    map.delete(key);
    assert.equal(new DataView(after.buffer).getUint32(VALUE.bytes, true), after[VALUE.packets]! * packet.length);
    vm.map("upcalls").drain();
    return after[VALUE.packets]!;
  };
};

const inKernel = (datapath: DatapathPlan, hook: Hook): Run & Disposable => {
  const object = loadObject(linux(), compileDatapath(datapath, [hook]));
  const map = object.map(datapath.exact.map);
  const program = object.program(`main_${hook}`);
  const value = dropValue(datapath);
  const run: Run = (packet, key) => {
    map.update(key, value);
    const ctx = hook === "xdp" ? xdpContext(packet.length, LOOPBACK) : skbContext({});
    program.testRun({ data: packet, ctx });
    map.lookup(key);
    const hits = map.value[VALUE.packets]!;
    map.delete(key);
    return hits;
  };
  return Object.assign(run, { [Symbol.dispose]: () => object[Symbol.dispose]() });
};

/** Whether the kernel's test run at TC takes the packet: it wants whole IP headers of what it knows as IP. */
const isTestable = (packet: Uint8Array): boolean => {
  const type = (packet[12]! << 8) | packet[13]!;
  return packet.length >= 14 + (type === 0x0800 ? 20 : type === 0x86dd ? 40 : 1);
};

/** Packets that the program hands to user space, whatever the cache holds. */
const isPunted = (layers: Layers): boolean => layers.nExtHeaders >= MAX_EXT_HEADERS;

/** A random set of members; in_port and dl_type always. */
const someMembers = (r: Random): Set<Member> =>
  new Set<Member>(["in_port", "dl_type", ...[...PACKET_MEMBERS].filter(() => r.oneIn(3))]);

describe("emitParser()", () => {
  const check = (datapath: DatapathPlan, hook: Hook, run: Run, packets: readonly Uint8Array[]): number => {
    const flow = newFlow();
    const layers = newLayers();
    const full = new Uint8Array(datapath.key.size);
    const key = new Uint8Array(datapath.exact.keySize);
    let misses = 0;
    for (const packet of packets) {
      if (!isTestable(packet)) continue;
      extract(packet, packet.length, 1, flow, layers);
      putKey(datapath.key, flow, LOOPBACK, full);
      putCompactKey(datapath.exact, full, key);
      if (run(packet, key) === 1) continue;
      assert.ok(isPunted(layers) || layers.proto === 58, `${hook} misses ${toHex(packet)} with key ${toHex(key)}`);
      misses++;
    }
    return misses;
  };

  for (const hook of HOOKS) {
    it(`gives the key of extract() for every member, at ${hook}, in the interpreter and the kernel`, function () {
      this.timeout(60_000);
      const datapath = plan({ key: keyLayout(PACKET_MEMBERS), maxEntries: 16 });
      const packets = randomPackets(1, 3000);
      using kernel = inKernel(datapath, hook);
      const vmMisses = check(datapath, hook, inVm(datapath, hook), packets);
      const kernelMisses = check(datapath, hook, kernel, packets);
      assert.equal(kernelMisses, vmMisses);
      assert.ok(vmMisses < packets.length / 20, `${vmMisses} of ${packets.length} packets are too odd for the program`);
    });

    it(`gives the key of extract() for random sets of members, at ${hook}`, function () {
      this.timeout(120_000);
      for (let seed = 1; seed <= 12; seed++) {
        const r = new Random(seed);
        const datapath = plan({ key: keyLayout(someMembers(r)), maxEntries: 16 });
        using kernel = inKernel(datapath, hook);
        check(datapath, hook, kernel, randomPackets(100 + seed, 150));
        check(datapath, hook, inVm(datapath, hook), randomPackets(200 + seed, 50));
      }
    });
  }
});
