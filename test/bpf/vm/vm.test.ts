import assert from "node:assert/strict";
import { toHex, Vm, VmError, type ObjectSpec } from "ebpf-assembler";
import { linux, loadObject } from "libbpf-ts";
import { PACKET } from "./cases.js";
import { fromU64, mapSpec, objectSpec, programSpec, RESULT, runText, u32 } from "./fixtures.js";

const KEY = u32(0);
const XDP_PASS = 2;
const counted = (vm: Vm): bigint => fromU64(vm.map("result").lookup(KEY)!);
const COUNT = "r1 = map[result][0]+0\n r2 = 1\n lock *(u64 *)(r1 +0) += r2\n";
const jumpTo = (index: number): string => `r1 = r6\n r2 = map[progs]\n r3 = ${index}\n call bpf_tail_call\n`;
const PROGS = mapSpec("progs", { type: "prog_array", valueSize: 4 });

describe("Vm.run()", () => {
  it("gives verdict, packet, r0 and the number of instructions", () => {
    const result = runText("r2 = *(u32 *)(r1 +0)\n *(u16 *)(r2 +0) = -1\n r0 = 0x500000003 ll\n exit");
    assert.equal(result.verdict, 3);
    assert.equal(result.r0, 0x500000003n);
    assert.equal(toHex(result.packet.subarray(0, 4)), "ffff0203");
    assert.equal(result.packet.length, 64);
    assert.equal(result.insns, 4);
    assert.deepEqual(result.clones, []);
    assert.equal(result.redirect, undefined);
  });

  it("leaves the caller's packet alone and starts every run anew", () => {
    const packet = PACKET.slice();
    const vm = new Vm(
      objectSpec([programSpec("main", "r2 = *(u32 *)(r1 +0)\n r0 = *(u8 *)(r2 +0)\n *(u8 *)(r2 +0) = 9\n exit")]),
    );
    for (let i = 0; i < 3; i++) assert.equal(vm.run("main", { hook: "xdp", packet }).verdict, 0);
    assert.deepEqual(packet, PACKET);
  });

  it("shows the bytes in front that xdp_adjust_meta made room for", () => {
    const text =
      "r6 = r1\n r2 = -4\n call bpf_xdp_adjust_meta\n r2 = *(u32 *)(r6 +8)\n *(u32 *)(r2 +0) = 7\n r0 = 2\n exit";
    const { meta, packet } = runText(text);
    assert.equal(toHex(meta), "07000000");
    assert.deepEqual(packet, PACKET);
  });

  it("gives a redirect only with the verdict for it", () => {
    const redirect = "r1 = 7\n r2 = 0\n call bpf_redirect\n";
    assert.deepEqual(runText(`${redirect} exit`).redirect, { ifindex: 7, flags: 0, peer: false });
    assert.equal(runText(`${redirect} r0 = ${XDP_PASS}\n exit`).redirect, undefined);
  });

  it("resolves redirect_map through the devmap, and broadcasts without the ingress device", () => {
    const entries = [5, 6, 7].map((ifindex, i) => [u32(i), u32(ifindex)] as const);
    const object = (flags: number): ObjectSpec =>
      objectSpec(
        [programSpec("main", `r1 = map[devs]\n r2 = 1\n r3 = ${flags}\n call bpf_redirect_map\n exit`)],
        [mapSpec("devs", { type: "devmap", valueSize: 4, entries })],
      );
    const run = (flags: number) =>
      new Vm(object(flags)).run("main", { hook: "xdp", packet: PACKET, ingressIfindex: 6 }).redirect;
    assert.deepEqual(run(0), { ifindex: 6, flags: 0, peer: false });
    assert.deepEqual(run(8 | 16), { ifindex: 0, flags: 24, peer: false, targets: [5, 7] });
  });

  it("keeps clones as they were when they were sent, with their tag", () => {
    const text =
      "r6 = r1\n r2 = 3\n r3 = 0\n call bpf_clone_redirect\n r1 = r6\n r2 = 129\n r3 = 5\n call bpf_skb_vlan_push\n" +
      " r1 = r6\n r2 = 4\n r3 = 1\n call bpf_clone_redirect\n r1 = *(u32 *)(r6 +76)\n *(u8 *)(r1 +0) = 255\n r1 = r6\n r2 = 99\n r3 = 0\n call bpf_clone_redirect\n exit";
    const vm = new Vm(objectSpec([programSpec("main", text, "sched_cls")]), {
      mtuOf: (ifindex) => (ifindex < 90 ? 1500 : undefined),
    });
    const { clones, vlan, packet, r0 } = vm.run("main", { hook: "tc", packet: PACKET });
    assert.deepEqual(clones, [
      { ifindex: 3, flags: 0, packet: PACKET },
      { ifindex: 4, flags: 1, packet: PACKET, vlan: { tci: 5, proto: 0x8100 } },
    ]);
    assert.deepEqual(vlan, { tci: 5, proto: 0x8100 });
    assert.equal(packet[0], 255);
    assert.equal(BigInt.asIntN(64, r0), -22n);
  });

  it("takes a tag, mark, priority, hash and GSO size in and gives mark, priority and queue out", () => {
    const store = (i: number, offset: number): string =>
      `r0 = *(u32 *)(r1 +${offset})\n r2 = map[fields][0]+${4 * i}\n *(u32 *)(r2 +0) = r0\n`;
    const code =
      [20, 24, 28, 8, 32, 68, 176, 36, 40].map((offset, i) => store(i, offset)).join(" ") +
      " *(u32 *)(r1 +8) = 9\n *(u32 *)(r1 +12) = 3\n r0 = 0\n exit";
    const fields = mapSpec("fields", { type: "array", valueSize: 36, maxEntries: 1 });
    const vm = new Vm(objectSpec([programSpec("main", code, "sched_cls")], [fields]));
    const result = vm.run("main", {
      hook: "tc",
      packet: PACKET,
      ingressIfindex: 12,
      vlan: { tci: 0x2005, proto: 0x88a8 },
      mark: 1,
      priority: 2,
      hash: 3,
      gsoSize: 4,
    });
    assert.deepEqual(
      [...new Uint32Array(vm.map("fields").lookup(KEY)!.buffer)],
      [1, 0x2005, 0xa888, 1, 2, 3, 4, 12, 12],
    );
    assert.deepEqual([result.mark, result.priority, result.queueMapping], [9, 2, 3]);
  });

  it("makes paged bytes readable by skb_pull_data", () => {
    const code = "r6 = r1\n r2 = 40\n call bpf_skb_pull_data\n r2 = *(u32 *)(r6 +76)\n r0 = *(u8 *)(r2 +39)\n exit";
    const vm = new Vm(objectSpec([programSpec("main", code, "sched_cls")]));
    assert.equal(vm.run("main", { hook: "tc", packet: PACKET, linear: 20 }).verdict, 39);
  });

  it("updates a partial checksum by the pseudo header only", () => {
    const code = (flags: number): string =>
      `r2 = 16\n r3 = 1\n r4 = 3\n r5 = ${flags}\n call bpf_l4_csum_replace\n exit`;
    const run = (flags: number): string =>
      toHex(
        new Vm(objectSpec([programSpec("main", code(flags), "sched_cls")]))
          .run("main", { hook: "tc", packet: PACKET, hasPartialChecksum: true })
          .packet.subarray(16, 18),
      );
    // The field is a plain sum then: it grows by as much as the data does (words are little endian here).
    assert.equal(run(0x14), "1211");
    assert.equal(run(0x04), "1011");
  });

  it("injects clock and random numbers, and repeats without them", () => {
    const code = `call bpf_ktime_get_ns\n r6 = r0\n call bpf_get_prandom_u32\n r6 += r0\n call bpf_ktime_get_coarse_ns\n r6 += r0\n call bpf_jiffies64\n r0 += r6\n exit`;
    const object = objectSpec([programSpec("main", code)]);
    const input = { hook: "xdp", packet: PACKET } as const;
    const injected = new Vm(object, { clock: () => 0x100000000n, random: () => 0xffffffff });
    assert.equal(injected.run("main", input).r0, 0x200000000n + 0xffffffffn + 0x100000000n / 4_000_000n);
    const draw = () => {
      const vm = new Vm(object);
      return [vm.run("main", input).r0, vm.run("main", input).r0];
    };
    const [first, second] = draw();
    assert.notEqual(first, second);
    assert.deepEqual(draw(), [first, second]);
  });

  it("collects what trace_printk prints", () => {
    // "%d %x %llu\n" in three words on the stack.
    const format = new Uint8Array(16);
    format.set(new TextEncoder().encode("%d %04x %llu"));
    const [a, b] = [fromU64(format), fromU64(format.subarray(8))];
    const code = `r1 = 0x${a.toString(16)} ll\n *(u64 *)(r10 -16) = r1\n r1 = 0x${b.toString(16)} ll\n *(u64 *)(r10 -8) = r1\n r1 = r10\n r1 += -16\n r2 = 16\n r3 = -5\n r4 = 171\n r5 = -1\n call bpf_trace_printk\n exit`;
    const vm = new Vm(objectSpec([programSpec("main", code)]));
    const { verdict } = vm.run("main", { hook: "xdp", packet: PACKET });
    assert.deepEqual(vm.trace, ["-5 00ab 18446744073709551615"]);
    assert.equal(verdict, vm.trace[0]!.length);
  });

  it("calls back from bpf_loop with the index and the context, until the callback says so", () => {
    const code =
      "*(u64 *)(r10 -8) = 0\n r1 = 10\n r2 = subprog[sub]\n r3 = r10\n r3 += -8\n r4 = 0\n r6 = 77\n call bpf_loop\n r0 <<= 32\n r1 = *(u64 *)(r10 -8)\n r0 += r1\n r6 -= 77\n r0 += r6\n exit\n" +
      " sub: r6 = 5\n r3 = *(u64 *)(r2 +0)\n r3 += r1\n *(u64 *)(r2 +0) = r3\n r0 = 0\n if r1 != 6 goto out\n r0 = 1\n out: exit";
    assert.equal(runText(code).r0, (7n << 32n) + 21n);
    assert.equal(BigInt.asIntN(64, runText(code.replace("r1 = 10\n", "r1 = 8388609\n")).r0) >> 32n, -7n);
  });

  it("counts may_goto per frame up to the kernel's limit", () => {
    const vm = new Vm(
      objectSpec([programSpec("main", "r0 = 0\n again: may_goto out\n r0 += 1\n goto again\n out: exit")]),
      { budget: 1e9 },
    );
    assert.equal(vm.run("main", { hook: "xdp", packet: PACKET }).verdict, 8 * 1024 * 1024);
  });

  it("names programs and maps it has when asked for another", () => {
    const vm = new Vm(objectSpec([programSpec("main", "r0 = 0\n exit")], [RESULT]));
    assert.throws(
      () => vm.run("other", { hook: "xdp", packet: PACKET }),
      /Cannot find program "other": the object has main/,
    );
    assert.throws(() => vm.map("other"), /Cannot find map "other": the object has result/);
  });
});

describe("tail calls", () => {
  const chain = objectSpec([programSpec("main", `r6 = r1\n ${COUNT} ${jumpTo(0)} r0 = 3\n exit`)], [RESULT, PROGS]);
  const sys = linux();

  it("end after 33, in the interpreter and in the kernel", () => {
    const vm = new Vm(chain);
    vm.setTailCall("progs", 0, "main");
    assert.equal(vm.run("main", { hook: "xdp", packet: PACKET }).verdict, 3);
    using loaded = loadObject(sys, chain);
    loaded.map("progs").update(KEY, u32(loaded.program("main").fdNumber));
    assert.equal(loaded.program("main").testRun({ data: PACKET }).retval, 3);
    const value = new Uint8Array(8);
    loaded.map("result").lookup(KEY, value);
    // The program array holds the program that holds the program array.
    loaded.map("progs").delete(KEY);
    assert.equal(counted(vm), 34n);
    assert.equal(fromU64(value), 34n);
  });

  it("go on behind the call when the place is empty or beyond the array", () => {
    for (const index of [1, 4, 100]) {
      const vm = new Vm(objectSpec([programSpec("main", `r6 = r1\n ${jumpTo(index)} r0 = 3\n exit`)], [PROGS]));
      assert.equal(vm.run("main", { hook: "xdp", packet: PACKET }).verdict, 3);
    }
  });

  it("pass the context on, keep nothing else, and return for the program that was called last", () => {
    const vm = new Vm(
      objectSpec(
        [
          programSpec("main", `r6 = r1\n *(u64 *)(r10 -8) = 1\n ${jumpTo(2)} r0 = 3\n exit`),
          programSpec("next", "r0 = *(u32 *)(r1 +12)\n exit"),
          programSpec("bad", "r0 = *(u64 *)(r10 -8)\n exit"),
        ],
        [PROGS],
      ),
    );
    vm.setTailCall("progs", 2, "next");
    assert.equal(vm.run("main", { hook: "xdp", packet: PACKET, ingressIfindex: 17 }).verdict, 17);
    vm.setTailCall("progs", 2, "bad");
    assert.throws(
      () => vm.run("main", { hook: "xdp", packet: PACKET }),
      (error) => error instanceof VmError && error.program === "bad" && /never written/.test(error.reason),
    );
    vm.setTailCall("progs", 2, undefined);
    assert.equal(vm.run("main", { hook: "xdp", packet: PACKET }).verdict, 3);
  });

  it("from a subprogram return to its caller", () => {
    const vm = new Vm(
      objectSpec(
        [
          programSpec("main", `r6 = r1\n call sub\n r0 += 100\n exit\n sub: r6 = r1\n ${jumpTo(0)} r0 = 3\n exit`),
          programSpec("next", "r0 = 5\n exit"),
        ],
        [PROGS],
      ),
    );
    assert.equal(vm.run("main", { hook: "xdp", packet: PACKET }).verdict, 103);
    vm.setTailCall("progs", 0, "next");
    assert.equal(vm.run("main", { hook: "xdp", packet: PACKET }).verdict, 105);
  });
});
