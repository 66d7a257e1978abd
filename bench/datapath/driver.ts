// BPF_PROG_TEST_RUN repeats one packet. So that a run meets many flows, a driver program stands before the program under
// test: it draws a flow, writes it into the packet, puts back what the last run rewrote (at XDP also a VLAN tag that was
// pushed or popped), and tail-calls slot 0 of a program array. Ours, its rivals and the floor (a program that only
// returns) run behind the same driver, so that its cost cancels in differences from the floor.

import {
  add,
  add32,
  bswap32,
  call,
  div32,
  exit,
  jeq,
  jgt,
  Label,
  ldImm64,
  ldMap,
  ldMapValue,
  load,
  mod32,
  mov,
  mov32,
  mul,
  mul32,
  program,
  r0,
  r1,
  r2,
  r3,
  r4,
  r6,
  r7,
  r8,
  rsh,
  store,
  storeImm,
  sub,
  type Code,
  type ObjectSpec,
} from "ebpf-assembler";
import { TARGETS, type Hook } from "#compiler";
import { WHOLE_NUMBER, type Vary } from "./packet.js";

/** Knuth's MMIX generator: the high half of its state is good enough to draw flows from. */
const MULTIPLIER = 6364136223846793005n;
const INCREMENT = 1442695040888963407n;

const PROGS = "progs";
const STATE = "state";

export interface DriverSpec {
  readonly vary: readonly Vary[];
  readonly flows: number;
  /** Byte offsets of 32-bit words that the programs under test rewrite. */
  readonly restore: readonly number[];
  /** A packet as it should be before each run. */
  readonly packet: Uint8Array;
}

const LITTLE_ENDIAN = true;

/** Writes a word of flow number r8 into the packet at r7; r3 and r4 are scratch. */
const writeWord = ({ at, base, parts = WHOLE_NUMBER }: Vary): Code => [
  mov32(r3, base | 0),
  ...parts.flatMap(({ div = 1, mod, step = 1 }) => [
    mov32(r4, r8),
    ...(div === 1 ? [] : [div32(r4, div)]),
    ...(mod === undefined ? [] : [mod32(r4, mod)]),
    ...(step === 1 ? [] : [mul32(r4, step | 0)]),
    add32(r3, r4),
  ]),
  bswap32(r3),
  store("u32", r7, at, r3),
];

/** r6 context, r7 packet, r8 number of the flow; everything else is scratch. */
const driverCode = (hook: Hook, { vary, flows, restore, packet }: DriverSpec): Code => {
  const short = new Label("short");
  const right = new Label("right length");
  const { data, data_end: dataEnd } = TARGETS[hook].ctx;
  if (data === undefined || dataEnd === undefined || data === "packet span" || dataEnd === "packet span") return [];
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  const loadPacket: Code = [load(r7, data.load, r6, data.off), load(r2, dataEnd.load, r6, dataEnd.off)];
  const restoreLength: Code = [
    mov(r3, r2),
    sub(r3, r7),
    jeq(r3, packet.length, right),
    mov(r1, r6),
    mov(r2, r3),
    sub(r2, packet.length),
    call("xdp_adjust_head"),
    ...loadPacket,
    right,
  ];
  return [
    mov(r6, r1),
    ...loadPacket,
    ...(hook === "xdp" ? restoreLength : []),
    mov(r3, r7),
    add(r3, packet.length),
    jgt(r3, r2, short),
    ldMapValue(r1, STATE),
    load(r8, "u64", r1, 0),
    ldImm64(r3, MULTIPLIER),
    mul(r8, r3),
    ldImm64(r3, INCREMENT),
    add(r8, r3),
    store("u64", r1, 0, r8),
    rsh(r8, 32),
    mul(r8, flows),
    rsh(r8, 32),
    // What was rewritten first: the words of the flow may lie in it.
    ...restore.map((at) => storeImm("u32", r7, at, view.getInt32(at, LITTLE_ENDIAN))),
    ...vary.flatMap(writeWord),
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
