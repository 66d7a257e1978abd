// libbpf-ts and ebpf-assembler on their own: count packets by their length in a map, drop the short ones.
// Run as root: node example.mjs

import console from "node:console";
import {
  atomicAdd,
  call,
  exit,
  fp,
  jeq,
  jlt,
  Label,
  ldMap,
  load,
  mov,
  program,
  r0,
  r1,
  r2,
  r6,
  store,
  sub,
  add,
} from "ebpf-assembler";
import { linux, loadObject, readAll } from "libbpf-ts";

const [XDP_DROP, XDP_PASS] = [1, 2];
const drop = new Label("drop");
const uncounted = new Label("uncounted");

/** r6 = length of the packet; stack: -4 the key, that length. */
const code = [
  load(r2, "u32", r1, 0), // data
  load(r6, "u32", r1, 4), // data_end
  sub(r6, r2),
  store("u32", fp, -4, r6),
  ldMap(r1, "lengths"),
  mov(r2, fp),
  add(r2, -4),
  call("map_lookup_elem"),
  jeq(r0, 0, uncounted),
  mov(r1, 1),
  atomicAdd("u64", r0, 0, r1),
  uncounted,
  jlt(r6, 64, drop),
  mov(r0, XDP_PASS),
  exit(),
  drop,
  mov(r0, XDP_DROP),
  exit(),
];

const object = loadObject(linux(), {
  license: "GPL",
  maps: [{ name: "lengths", type: "array", keySize: 4, valueSize: 8, maxEntries: 2048, flags: 0 }],
  programs: [program({ name: "by_length", type: "xdp", code })],
});
const byLength = object.program("by_length");
for (const length of [60, 64, 1500, 1500]) {
  const { retval } = byLength.testRun({ data: new Uint8Array(length) });
  console.log(`${length} bytes: ${retval === XDP_PASS ? "pass" : "drop"}`);
}
for (const [key, value] of readAll(object.map("lengths"))) {
  const count = new DataView(value.buffer).getBigUint64(0, true);
  if (count > 0n) console.log(`seen ${count} x ${new DataView(key.buffer).getUint32(0, true)} bytes`);
}
console.log(`the verifier walked ${byLength.info.verifiedInsns} instructions`);
object[Symbol.dispose]();
