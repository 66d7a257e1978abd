// BPF_PROG_TEST_RUN repeats one packet. So that a run meets many flows, a driver program stands before the program under
// test: it draws a flow, writes it into the packet, puts back what the last run rewrote, and tail-calls slot 0 of a program
// array. Ours, its rivals and the floor (a program that only returns) run behind the same driver, so that its cost
// cancels in differences from the floor.

import {
  add,
  bswap32,
  call,
  exit,
  jgt,
  Label,
  ldImm64,
  ldMap,
  ldMapValue,
  load,
  mov,
  mov32,
  mul,
  program,
  r0,
  r1,
  r2,
  r3,
  r6,
  r7,
  rsh,
  store,
  storeImm,
  type Code,
  type ObjectSpec,
} from "ebpf-assembler";
import { TARGETS, type Hook } from "#compiler";
import type { Vary } from "./packet.js";

/** Knuth's MMIX generator: the high half of its state is good enough to draw flows from. */
const MULTIPLIER = 6364136223846793005n;
const INCREMENT = 1442695040888963407n;

const PROGS = "progs";
const STATE = "state";

export interface DriverSpec {
  readonly vary: Vary;
  readonly flows: number;
  /** Byte offsets of 32-bit words that the programs under test rewrite. */
  readonly restore: readonly number[];
  /** A packet as it should be before each run. */
  readonly packet: Uint8Array;
}

const LITTLE_ENDIAN = true;

/** r6 context, r7 packet; everything else is scratch. */
const driverCode = (hook: Hook, { vary, flows, restore, packet }: DriverSpec): Code => {
  const short = new Label("short");
  const { data, data_end: dataEnd } = TARGETS[hook].ctx;
  if (data === undefined || dataEnd === undefined || data === "packet span" || dataEnd === "packet span") return [];
  const template = new DataView(packet.buffer, packet.byteOffset, packet.length);
  return [
    mov(r6, r1),
    load(r7, data.load, r6, data.off),
    load(r2, dataEnd.load, r6, dataEnd.off),
    mov(r3, r7),
    add(r3, packet.length),
    jgt(r3, r2, short),
    ldMapValue(r1, STATE),
    load(r2, "u64", r1, 0),
    ldImm64(r3, MULTIPLIER),
    mul(r2, r3),
    ldImm64(r3, INCREMENT),
    add(r2, r3),
    store("u64", r1, 0, r2),
    rsh(r2, 32),
    mul(r2, flows),
    rsh(r2, 32),
    mov32(r3, vary.base),
    add(r2, r3),
    bswap32(r2),
    store("u32", r7, vary.at, r2),
    ...restore.map((at) => storeImm("u32", r7, at, template.getInt32(at, LITTLE_ENDIAN))),
    mov(r1, r6),
    ldMap(r2, PROGS),
    mov(r3, 0),
    call("tail_call"),
    short,
    mov(r0, TARGETS[hook].verdicts.aborted),
    exit(),
  ];
};

/** Programs `driver` and `floor` for a hook, with the array whose slot 0 the driver calls and the generator's state. */
export const driverObject = (hook: Hook, spec: DriverSpec): ObjectSpec => ({
  license: "GPL",
  maps: [
    { name: PROGS, type: "prog_array", keySize: 4, valueSize: 4, maxEntries: 1, flags: 0 },
    { name: STATE, type: "array", keySize: 4, valueSize: 8, maxEntries: 1, flags: 0 },
  ],
  programs: [
    program({ name: "driver", type: TARGETS[hook].progType, code: driverCode(hook, spec) }),
    program({ name: "floor", type: TARGETS[hook].progType, code: [mov(r0, TARGETS[hook].verdicts.redirect), exit()] }),
  ],
});

export const DRIVER_MAPS = { progs: PROGS, state: STATE } as const;
