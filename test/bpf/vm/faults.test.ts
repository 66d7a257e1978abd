import assert from "node:assert/strict";
import { assemble, exit, type MapSpec, r0, Vm, VmError, fp, load, MAP_FLAGS } from "ebpf-assembler";
import { mapSpec, objectSpec, programSpec } from "./fixtures.js";
import { PACKET } from "./cases.js";

const HASH = mapSpec("m");
const ARRAY = mapSpec("one", { type: "array", valueSize: 16, maxEntries: 1 });
const RING = mapSpec("ring", { type: "ringbuf", keySize: 0, valueSize: 0, maxEntries: 4096 });
const PROGS = mapSpec("progs", { type: "prog_array", valueSize: 4 });

interface FaultCase {
  readonly name: string;
  readonly code: string;
  /** Slot and reason of the error. */
  readonly insn: number;
  readonly reason: RegExp;
  readonly maps?: readonly MapSpec[];
  readonly hook?: "xdp" | "tc";
  readonly linear?: number;
}

const DATA = "r2 = *(u32 *)(r1 +0)\n";
const ADJUST = "r6 = r1\n r7 = *(u32 *)(r1 +0)\n r2 = -8\n call bpf_xdp_adjust_head\n";
const RESERVE = "r1 = map[ring]\n r2 = 8\n r3 = 0\n call bpf_ringbuf_reserve\n";
const EXIT = "\n r0 = 0\n exit";

const FAULTS: readonly FaultCase[] = [
  {
    name: "read beyond the packet",
    code: `${DATA} r0 = *(u32 *)(r2 +61)${EXIT}`,
    insn: 1,
    reason: /read of 4 bytes at packet offset 61: data_end is at 64/,
  },
  { name: "read before the packet", code: `${DATA} r0 = *(u8 *)(r2 -1)${EXIT}`, insn: 1, reason: /packet offset -1/ },
  {
    name: "write beyond the packet",
    code: `${DATA} *(u64 *)(r2 +57) = 0${EXIT}`,
    insn: 1,
    reason: /write of 8 bytes at packet offset 57/,
  },
  {
    name: "read beyond the linear part of an skb",
    code: `r2 = *(u32 *)(r1 +76)\n r0 = *(u8 *)(r2 +20)${EXIT}`,
    insn: 1,
    reason: /packet offset 20: data_end is at 20/,
    hook: "tc",
    linear: 20,
  },
  {
    name: "packet pointer from before adjust_head",
    code: `${ADJUST} r0 = *(u8 *)(r7 +0)${EXIT}`,
    insn: 4,
    reason: /stale packet pointer/,
  },
  {
    name: "stack byte that was never written",
    code: `*(u32 *)(r10 -8) = 1\n r0 = *(u64 *)(r10 -8)${EXIT}`,
    insn: 1,
    reason: /read of 8 bytes at stack offset -8: byte -4 was never written/,
  },
  {
    name: "read below the stack",
    code: `r0 = *(u64 *)(r10 -520)${EXIT}`,
    insn: 0,
    reason: /stack offset -520: outside -512\.\.0/,
  },
  { name: "write above the stack", code: `*(u8 *)(r10 +0) = 1${EXIT}`, insn: 0, reason: /stack offset 0/ },
  {
    name: "stack of a subprogram that has returned",
    code: `call sub\n *(u64 *)(r0 +0) = 1${EXIT}\n sub: r0 = r10\n r0 += -8\n exit`,
    insn: 1,
    reason: /stack frame that has returned/,
  },
  {
    name: "scalar as an address",
    code: `r2 = 4096\n r0 = *(u8 *)(r2 +4)${EXIT}`,
    insn: 1,
    reason: /read of 1 bytes at 0x0000000000001000\+4: not a pointer to memory/,
  },
  {
    name: "null from a lookup that missed",
    code: `*(u32 *)(r10 -4) = 1\n r2 = r10\n r2 += -4\n r1 = map[m]\n call bpf_map_lookup_elem\n r0 = *(u64 *)(r0 +0)${EXIT}`,
    insn: 6,
    reason: /0x0000000000000000\+0: not a pointer/,
    maps: [HASH],
  },
  {
    name: "register that a call clobbered",
    code: `r1 = 5\n call bpf_get_prandom_u32\n r0 = *(u8 *)(r1 +0)${EXIT}`,
    insn: 2,
    reason: /not a pointer/,
  },
  { name: "register that was never set", code: `r0 = *(u8 *)(r7 +0)${EXIT}`, insn: 0, reason: /not a pointer/ },
  {
    name: "read beyond a map value",
    code: `r1 = map[one][0]+8\n r0 = *(u64 *)(r1 +1)${EXIT}`,
    insn: 2,
    reason: /read of 8 bytes at offset 9 of a value of map "one": the value has 16 bytes/,
    maps: [ARRAY],
  },
  {
    name: "read before a map value",
    code: `r1 = map[one][0]+8\n r0 = *(u8 *)(r1 -9)${EXIT}`,
    insn: 2,
    reason: /offset -1 of a value of map "one"/,
    maps: [ARRAY],
  },
  {
    name: "write to a map that is read only for programs",
    code: `r1 = map[one][0]+0\n *(u8 *)(r1 +0) = 1${EXIT}`,
    insn: 2,
    reason: /the map's flags forbid it/,
    maps: [{ ...ARRAY, flags: MAP_FLAGS.RDONLY_PROG }],
  },
  {
    name: "the map itself as memory",
    code: `r1 = map[one]\n r0 = *(u8 *)(r1 +0)${EXIT}`,
    insn: 2,
    reason: /not a pointer to memory/,
    maps: [ARRAY],
  },
  {
    name: "field of xdp_md with a wrong size",
    code: `r0 = *(u64 *)(r1 +0)${EXIT}`,
    insn: 0,
    reason: /read of 8 bytes at offset 0 of struct xdp_md/,
  },
  { name: "write to xdp_md", code: `*(u32 *)(r1 +16) = 1${EXIT}`, insn: 0, reason: /struct xdp_md: it is read only/ },
  {
    name: "egress_ifindex outside of a devmap program",
    code: `r0 = *(u32 *)(r1 +20)${EXIT}`,
    insn: 0,
    reason: /devmap programs only/,
  },
  {
    name: "write to a read-only field of __sk_buff",
    code: `*(u32 *)(r1 +16) = 1${EXIT}`,
    insn: 0,
    reason: /write of 4 bytes at offset 16 of struct __sk_buff/,
    hook: "tc",
  },
  {
    name: "socket field of __sk_buff",
    code: `r0 = *(u32 *)(r1 +92)${EXIT}`,
    insn: 0,
    reason: /read of 4 bytes at offset 92 of struct __sk_buff/,
    hook: "tc",
  },
  {
    name: "helper without the context",
    code: `r1 = r10\n call bpf_xdp_get_buff_len${EXIT}`,
    insn: 1,
    reason: /argument 1 of the helper is not the context/,
  },
  {
    name: "helper without a map",
    code: `r1 = 0\n r2 = r10\n call bpf_map_lookup_elem${EXIT}`,
    insn: 2,
    reason: /argument 1 of the helper is not a map/,
  },
  {
    name: "helper with an unwritten key",
    code: `r1 = map[m]\n r2 = r10\n r2 += -4\n call bpf_map_lookup_elem${EXIT}`,
    insn: 4,
    reason: /byte -4 was never written/,
    maps: [HASH],
  },
  {
    name: "helper with a map of the wrong type",
    code: `r1 = map[m]\n r2 = 8\n r3 = 0\n call bpf_ringbuf_reserve${EXIT}`,
    insn: 4,
    reason: /argument 1 of the helper is a hash, want a ringbuf/,
    maps: [HASH],
  },
  {
    name: "lookup in a prog_array",
    code: `r1 = map[progs]\n r2 = r10\n call bpf_map_lookup_elem${EXIT}`,
    insn: 3,
    reason: /map_lookup_elem on a prog_array/,
    maps: [PROGS],
  },
  {
    name: "helper of another hook",
    code: `call bpf_skb_vlan_pop${EXIT}`,
    insn: 0,
    reason: /helper skb_vlan_pop does not exist at hook xdp/,
  },
  {
    name: "record that was not submitted",
    code: `${RESERVE}${EXIT}`,
    insn: 6,
    reason: /exit with 1 records of ring buffer "ring" neither submitted nor discarded/,
    maps: [RING],
  },
  {
    name: "record used after its submission",
    code: `${RESERVE} r6 = r0\n r1 = r0\n r2 = 0\n call bpf_ringbuf_submit\n *(u64 *)(r6 +0) = 1${EXIT}`,
    insn: 9,
    reason: /it is no longer reserved/,
    maps: [RING],
  },
  {
    name: "record overrun",
    code: `${RESERVE} *(u32 *)(r0 +5) = 1${EXIT}`,
    insn: 5,
    reason: /offset 5 of a record of ring buffer "ring": the record has 8 bytes/,
    maps: [RING],
  },
  {
    name: "submission of something else",
    code: `r1 = r10\n r2 = 0\n call bpf_ringbuf_submit${EXIT}`,
    insn: 2,
    reason: /not a ring buffer record/,
  },
  {
    name: "atomic operation on the packet",
    code: `${DATA} r0 = 1\n lock *(u32 *)(r2 +0) += r0${EXIT}`,
    insn: 2,
    reason: /atomic operation outside stack and maps/,
  },
  { name: "endless loop", code: `again: r0 = 1\n goto again`, insn: 0, reason: /the instruction budget is used up/ },
  {
    name: "endless recursion",
    code: `call sub\n exit\n sub: call sub\n exit`,
    insn: 2,
    reason: /call chain is deeper than 8 frames/,
  },
  { name: "no exit", code: `r0 = 1\n r1 = 2`, insn: 2, reason: /execution runs off the end/ },
];

describe("VmError names the instruction of", () => {
  for (const { name, code, insn, reason, maps = [], hook = "xdp", linear } of FAULTS) {
    it(name, () => {
      const vm = new Vm(objectSpec([programSpec("main", code, hook === "tc" ? "sched_cls" : "xdp")], maps));
      const run = () => vm.run("main", { hook, packet: PACKET, ...(linear === undefined ? {} : { linear }) });
      assert.throws(run, (error) => {
        assert.ok(error instanceof VmError, String(error));
        assert.equal(error.program, "main");
        assert.match(error.reason, reason);
        assert.equal(error.insn, insn);
        return true;
      });
    });
  }

  it("gives the instruction's text, its origin and the registers", () => {
    const from = { text: "table=1,priority=9,tcp actions=drop" };
    const code = assemble([{ ...load(r0, "u32", fp, -600), from }, exit()]);
    const vm = new Vm(objectSpec([{ name: "main", type: "xdp", flags: 0, ...code }]));
    assert.throws(
      () => vm.run("main", { hook: "xdp", packet: PACKET }),
      (error: VmError) => {
        assert.equal(
          error.message,
          'Cannot run program "main" at insn 0 (r0 = *(u32 *)(r10 -600)): read of 4 bytes at stack offset -600: ' +
            "outside -512..0 (from table=1,priority=9,tcp actions=drop)",
        );
        assert.equal(error.registers.length, 11);
        return true;
      },
    );
  });
});

describe("new Vm() refuses", () => {
  const slots = (...texts: readonly string[]): Uint8Array =>
    Uint8Array.from(texts.join(" ").split(" "), (hex) => parseInt(hex, 16));
  const EXIT_SLOT = "95 00 00 00 00 00 00 00";
  const BAD: readonly (readonly [name: string, code: Uint8Array, reason: RegExp])[] = [
    ["an unknown opcode", slots("ff 00 00 00 00 00 00 00", EXIT_SLOT), /unknown opcode 0xff/],
    ["an unknown helper", slots("85 00 00 00 0f 27 00 00", EXIT_SLOT), /unknown helper 9999/],
    ["a kernel function call", slots("85 20 00 00 01 00 00 00", EXIT_SLOT), /kernel functions/],
    ["reserved fields", slots("07 20 00 00 01 00 00 00", EXIT_SLOT), /reserved fields are not zero/],
    ["register 11", slots("b7 0b 00 00 01 00 00 00", EXIT_SLOT), /no register r11/],
    ["a write to r10", slots("b7 0a 00 00 01 00 00 00", EXIT_SLOT), /frame pointer is read only/],
    ["a constant division by 0", slots("37 00 00 00 00 00 00 00", EXIT_SLOT), /division by zero/],
    ["a constant shift by 64", slots("67 00 00 00 40 00 00 00", EXIT_SLOT), /invalid shift 64/],
    ["a jump out of the program", slots("05 00 01 00 00 00 00 00", EXIT_SLOT), /jump to slot 2 of a program of 2/],
    ["a jump before the program", slots("05 00 fe ff 00 00 00 00", EXIT_SLOT), /jump before the start/],
    [
      "a jump into ld_imm64",
      slots("05 00 01 00 00 00 00 00", "18 00 00 00 01 00 00 00", "00 00 00 00 00 00 00 00", EXIT_SLOT),
      /middle of the ld_imm64 at 1/,
    ],
    ["half a ld_imm64", slots("18 00 00 00 01 00 00 00"), /cut off/],
    ["an unknown atomic operation", slots("db 1a f8 ff 33 00 00 00", EXIT_SLOT), /unknown atomic operation 0x33/],
    [
      "a map reference without relocation",
      slots("18 10 00 00 05 00 00 00", "00 00 00 00 00 00 00 00", EXIT_SLOT),
      /no relocation/,
    ],
    ["no code", new Uint8Array(0), /0 bytes/],
  ];
  for (const [name, code, reason] of BAD) {
    it(name, () =>
      assert.throws(
        () => new Vm(objectSpec([{ name: "main", type: "xdp", flags: 0, relocations: [], lines: [], code }])),
        (error) => error instanceof VmError && reason.test(error.message),
      ),
    );
  }

  it("the address of a value of a map with several entries", () => {
    const one = programSpec("main", "r1 = map[m][0]+0\n r0 = 0\n exit");
    assert.throws(() => new Vm(objectSpec([one], [mapSpec("m", { type: "array" })])), /array of one entry/);
    assert.throws(() => new Vm(objectSpec([one], [mapSpec("other")])), /Cannot find map "m": the object has other/);
  });

  it("maps that the kernel would not create", () => {
    const make = (more: Partial<MapSpec>) => () => new Vm(objectSpec([], [mapSpec("m", more)]));
    assert.throws(make({ type: "ringbuf", keySize: 0, valueSize: 0, maxEntries: 5000 }), /power of two/);
    assert.throws(make({ type: "array", keySize: 8 }), /the key has 4 bytes, not 8/);
    assert.throws(make({ type: "lpm_trie", keySize: 8 }), /NO_PREALLOC/);
    assert.throws(make({ maxEntries: 0 }), /no entries/);
    assert.throws(make({ type: "xskmap" }), /map type xskmap in the interpreter is not supported/);
  });
});
