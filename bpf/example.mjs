// Builds an XDP program that counts packets by IP protocol and drops UDP to port 9, shows it, tries it out without a
// kernel, and writes an object file that `ip link set dev DEV xdp obj discard.o sec xdp` attaches.
//
//   node example.mjs [OUT.o]

import console from "node:console";
import { writeFileSync } from "node:fs";
import process from "node:process";
import {
  add,
  assembleText,
  atomicAdd,
  call,
  disassemble,
  exit,
  fp,
  fromHex,
  jeq,
  jgt,
  jne,
  Label,
  ldMap,
  load,
  mov,
  program,
  r0,
  r1,
  r2,
  r3,
  r6,
  r7,
  readElf,
  store,
  Vm,
  writeElf,
} from "ebpf-assembler";

const XDP_DROP = 1;
const XDP_PASS = 2;
// Loads are in host order, so what the network sends big-endian is compared swapped.
const ETH_P_IP = 0x0008;
const IPV4_NO_OPTIONS = 0x45;
const DISCARD_PORT = 0x0900;
const IPPROTO_UDP = 17;

const packets = /** @type {const} */ ({
  name: "packets",
  type: "array",
  keySize: 4,
  valueSize: 8,
  maxEntries: 256,
  flags: 0,
  valueFields: [{ name: "packets", size: 8 }],
});

/** The origin of an instruction comes back in verifier errors, in `bpftool prog dump` and in LLVM's listings. */
const from = (text, ...code) => code.map((item) => (item instanceof Label ? item : { ...item, from: { text } }));

const pass = new Label("pass");
const discard = program({
  name: "discard",
  type: "xdp",
  // r6 protocol, r7 packet
  code: [
    ...from(
      "IPv4 without options, up to the ports?",
      load(r7, "u32", r1, 0), // ctx->data
      load(r2, "u32", r1, 4), // ctx->data_end
      mov(r3, r7),
      add(r3, 14 + 20 + 4),
      jgt(r3, r2, pass),
      load(r3, "u16", r7, 12),
      jne(r3, ETH_P_IP, pass),
      load(r3, "u8", r7, 14),
      jne(r3, IPV4_NO_OPTIONS, pass),
    ),
    ...from(
      "count by protocol",
      load(r6, "u8", r7, 23),
      store("u32", fp, -4, r6),
      mov(r2, fp),
      add(r2, -4),
      ldMap(r1, "packets"),
      call("map_lookup_elem"),
      jeq(r0, 0, pass),
      mov(r1, 1),
      atomicAdd("u64", r0, 0, r1),
    ),
    ...from(
      "drop UDP to port 9",
      jne(r6, IPPROTO_UDP, pass),
      load(r3, "u16", r7, 36),
      jne(r3, DISCARD_PORT, pass),
      mov(r0, XDP_DROP),
      exit(),
    ),
    ...from("pass", pass, mov(r0, XDP_PASS), exit()),
  ],
});
const object = { license: "Dual BSD/GPL", maps: [packets], programs: [discard] };

console.log("The program, as the kernel would print it:\n");
console.log(disassemble(discard));

// The same text can be assembled again.
const again = assembleText(disassemble(discard));
console.log(
  `Assembled from that text: ${again.code.length / 8} slots, equal: ${again.code.every((b, i) => b === discard.code[i])}`,
);

// Ethernet, IPv4 192.0.2.1 > 192.0.2.2, UDP 4660 > 9
const packet = fromHex(`
  020000000002 020000000001 0800
  4500 0020 0000 0000 40 11 0000 c0000201 c0000202
  1234 0009 000c 0000 68656c6c`);
const vm = new Vm(object);
const { verdict, insns } = vm.run("discard", { hook: "xdp", packet });
const key = new Uint8Array([IPPROTO_UDP, 0, 0, 0]);
const counted = new DataView(vm.map("packets").lookup(key).slice().buffer).getBigUint64(0, true);
console.log(`In the interpreter: verdict ${verdict} after ${insns} instructions, ${counted} packet of protocol 17`);

const out = process.argv[2] ?? "discard.o";
const file = writeElf(object);
writeFileSync(out, file);
const { programs, maps } = readElf(file);
console.log(`Wrote ${out}: ${file.length} bytes, program ${programs[0].name}, map ${maps[0].name}`);
