// Runs datapath programs in the interpreter.

import { Vm } from "ebpf-assembler";
import { MAPS, VALUE } from "../datapath/abi.js";
import { directProgramOf, FALLBACK_SLOT } from "../direct/abi.js";
import type { Hook } from "../ir/types.js";
import type { Backend, LoadBackend } from "./datapath-engine.js";

const u32 = (n: number): Uint8Array => new Uint8Array(Uint32Array.of(n).buffer);

/** A tag that is still in skb metadata goes back into the bytes. */
const withTag = (packet: Uint8Array, tag: { readonly tci: number; readonly proto: number } | undefined): Uint8Array => {
  if (tag === undefined) return packet;
  const out = new Uint8Array(packet.length + 4);
  out.set(packet.subarray(0, 12));
  new DataView(out.buffer).setUint32(12, ((tag.proto << 16) | tag.tci) >>> 0);
  out.set(packet.subarray(12), 16);
  return out;
};

/** A {@link LoadBackend} for the interpreter; interface indices up to `portSlots` of the plan. */
export const loadVm =
  (ifindexes: readonly number[]): LoadBackend =>
  (object, hook: Hook): Backend => {
    let nowNs = 0n;
    const vm = new Vm(object, { clock: () => nowNs });
    const first = object.programs.some(({ name }) => name === directProgramOf(hook))
      ? directProgramOf(hook)
      : `main_${hook}`;
    if (first !== `main_${hook}`) vm.setTailCall(MAPS.progs[hook], FALLBACK_SLOT, `main_${hook}`);
    const hasMeters = object.maps.some(({ name }) => name === MAPS.meters);
    if (hook === "xdp") for (const ifindex of ifindexes) vm.map(MAPS.ports).update(u32(ifindex), u32(ifindex));
    return {
      put: (map, key, value) => vm.map(map).update(key, value),
      remove: (map, key) => vm.map(map).delete(key),
      read: (map, key) => {
        const value = vm.map(map).lookup(key)!;
        const view = new DataView(value.buffer, value.byteOffset);
        return {
          packets: Number(view.getBigUint64(VALUE.packets, true)),
          bytes: Number(view.getBigUint64(VALUE.bytes, true)),
        };
      },
      memory: (map) => vm.map(map).memory.buffer,
      ...(hasMeters ? { meters: vm.map(MAPS.meters).memory } : {}),
      run: (ifindex, packet, nowMs) => {
        nowNs = BigInt(Math.floor(nowMs)) * 1_000_000n;
        const result = vm.run(first, { hook, packet, ingressIfindex: ifindex });
        const outputs = result.clones.map((c) => ({ ifindex: c.ifindex, packet: withTag(c.packet, c.vlan) }));
        if (result.redirect !== undefined) {
          outputs.push({ ifindex: result.redirect.ifindex, packet: withTag(result.packet, result.vlan) });
        }
        return { outputs, upcalls: vm.map(MAPS.upcalls).drain() };
      },
      [Symbol.dispose]: () => {},
    };
  };
