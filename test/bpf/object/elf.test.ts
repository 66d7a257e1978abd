import assert from "node:assert/strict";
import {
  CodecError,
  disassemble,
  equalBytes,
  NotSupportedError,
  program,
  readElf,
  writeElf,
  type ObjectSpec,
} from "ebpf-assembler";
import * as bpf from "ebpf-assembler";
import fc from "fast-check";
import { everything, inNamespaces, mapSpec, run, scratch, u32 } from "./fixtures.js";

const { r0, r1 } = bpf;

/** The instructions of a dump: `12: (b7) r1 = 5`, numbers and comments away. */
const instructions = (dump: string): string[] =>
  dump.split("\n").flatMap((line) => /^\s*\d+: (\([0-9a-f]{2}\) .*?)\s*(?:;.*)?$/.exec(line)?.[1] ?? []);

describe("writeElf()", () => {
  const file = scratch();

  it("is undone by readElf()", () => {
    const object = everything();
    assert.deepEqual(readElf(writeElf(object)), object);
  });

  it("writes what bpftool loads, with maps, contents, subprograms, callback and source lines", () => {
    const path = file("all.o", writeElf(everything()));
    const seen = JSON.parse(
      inNamespaces(
        `bpftool prog loadall "$1" "$BPFFS/p"
        show() { bpftool -j prog show pinned "$BPFFS/p/$1"; }
        printf '{"programs":[%s,%s,%s,%s],' "$(show count)" "$(show pass)" "$(show frags)" "$(show accept)"
        printf '"dump":%s,' "$(bpftool -j prog dump xlated pinned "$BPFFS/p/count" linum)"
        printf '"maps":['; sep=; for id in $(bpftool prog show pinned "$BPFFS/p/count" | sed -n 's/.*map_ids \\([0-9,]*\\).*/\\1/p' | tr , ' '); do
          printf '%s%s' "$sep" "$(bpftool -j map show id $id)"; sep=,; done
        printf ']}'`,
        path,
      ),
    ) as {
      programs: { name: string; type: string }[];
      dump: { proto?: string; src?: string; file?: string; line_num?: number }[];
      maps: { name: string; type: string; flags: number; bytes_key: number; bytes_value: number; frozen?: number }[];
    };
    assert.deepEqual(
      seen.programs.map((p) => [p.name, p.type]),
      [
        ["count", "xdp"],
        ["pass", "xdp"],
        ["frags", "xdp"],
        ["accept", "sched_cls"],
      ],
    );
    assert.deepEqual(
      seen.maps.map((m) => [m.name, m.type, m.flags, m.bytes_key, m.bytes_value]),
      [
        ["flows", "hash", 0, 4, 16],
        [".rodata.config", "array", 0x480, 4, 8],
        [".data.state", "array", 0x400, 4, 16],
      ],
    );
    const lines = seen.dump.filter((row) => row.src !== undefined).map((row) => [row.src, row.file, row.line_num]);
    assert.deepEqual(lines[0], ["table=0,priority=1 actions=goto_table:1", "flows.txt", 3]);
    assert.deepEqual(lines.at(-1), ["callback", "flows.txt", 9]);
    assert.deepEqual(
      seen.dump.flatMap((row) => row.proto ?? []),
      ["int count(void * ctx)", "int count_1()", "int count_2()"],
    );
  });

  it("writes what ip and tc attach", () => {
    const path = file("attach.o", writeElf(everything()));
    const out = inNamespaces(
      `ip link add v0 type veth peer name v1
      ip link set dev v0 xdp obj "$1" sec xdp
      ip link show dev v0
      tc qdisc add dev v1 clsact
      tc filter add dev v1 ingress bpf da obj "$1" sec tc
      tc filter show dev v1 ingress`,
      path,
    );
    assert.match(out, /prog\/xdp id \d+ name count/);
    assert.match(out, /:\[tc\] direct-action .*name accept/);
  });

  it("writes what LLVM reads: sections, relocations, instructions", () => {
    const path = file("llvm.o", writeElf(everything()));
    const dump = run("llvm-objdump-14", "-d", "-r", "--no-show-raw-insn", path);
    for (const part of [
      /section xdp:[^]*<count>:[^]*<pass>:/,
      /section \.text:[^]*<count_1>:[^]*<count_2>:/,
      /r1 = 0 ll\s+\S+ +R_BPF_64_64\tflows/,
      /call -1\s+\S+ +R_BPF_64_32\t\.text/,
      /r1 = 4 ll\s+\S+ +R_BPF_64_64\tconfig/,
    ])
      assert.match(dump, part);
    assert.equal(run("llvm-readelf-14", "--string-dump=license", path).includes("Dual BSD/GPL"), true);
    assert.match(run("llvm-readelf-14", "-h", path), /Type: +REL[^]*Machine: +EM_BPF/);
  });

  it("refuses what a file cannot hold, by name", () => {
    const object = (more: Partial<ObjectSpec>): ObjectSpec => ({ license: "GPL", maps: [], programs: [], ...more });
    const entries: [Uint8Array, Uint8Array][] = [[u32(1), new Uint8Array(16)]];
    const uses = program({ name: "p", type: "xdp", code: [bpf.ldMap(r1, "gone"), bpf.mov(r0, 0), bpf.exit()] });
    const rows: readonly (readonly [ObjectSpec, RegExp])[] = [
      [object({ maps: [mapSpec("hashed", { entries })] }), /"hashed" has contents/],
      [object({ maps: [mapSpec("inner", { type: "hash_of_maps" })] }), /"inner" is a hash_of_maps/],
      [object({ maps: [mapSpec("a.b")] }), /"a\.b" needs a name/],
      [object({ maps: [mapSpec("m"), mapSpec("m")] }), /two programs or maps are named "m"/],
      [object({ programs: [uses] }), /"p" refers to map "gone"/],
      [object({ programs: [{ ...uses, relocations: [], flags: 4 }] }), /flags 4, which no section means/],
    ];
    for (const [spec, message] of rows)
      assert.throws(
        () => writeElf(spec),
        (e: unknown) => e instanceof CodecError && message.test(e.message),
      );
  });

  it("is undone by readElf() for any maps and programs", () => {
    const name = fc.stringMatching(/^[a-z_][a-z0-9_]{0,14}$/);
    const fields = fc
      .uniqueArray(fc.tuple(name, fc.constantFrom(1, 2, 4, 6, 8, 16)), {
        minLength: 2,
        maxLength: 6,
        selector: ([n]) => n,
      })
      .map((list) => list.map(([n, size]) => ({ name: n, size })));
    const map = fc.record({
      name,
      valueFields: fields,
      maxEntries: fc.integer({ min: 1, max: 1 << 20 }),
      flags: fc.nat(3),
    });
    const text = fc.string({ maxLength: 30 }).map((s) => s.replace(/\0/g, "").trim());
    const prog = fc.record({
      name,
      value: fc.integer(),
      lines: fc.array(
        text.filter((t) => t !== ""),
        { maxLength: 4 },
      ),
    });
    const object = fc
      .record({ maps: fc.array(map, { maxLength: 4 }), programs: fc.array(prog, { maxLength: 4 }) })
      .filter(
        ({ maps, programs }) =>
          new Set([...maps, ...programs].map((x) => x.name)).size === maps.length + programs.length,
      )
      .map(({ maps, programs }): ObjectSpec => ({
        license: "GPL",
        maps: maps.map((m) => mapSpec(m.name, { ...m, valueSize: m.valueFields.reduce((n, f) => n + f.size, 0) })),
        programs: programs.map((p) =>
          program({
            name: p.name,
            type: "xdp",
            code: [
              ...p.lines.map((line, i) => ({ ...bpf.mov(r0, i), from: { text: line } })),
              bpf.mov(r0, p.value),
              ...maps.map((m) => bpf.ldMap(r1, m.name)),
              bpf.exit(),
            ],
          }),
        ),
      }));
    fc.assert(
      fc.property(object, (spec) => assert.deepEqual(readElf(writeElf(spec)), spec)),
      { numRuns: 200 },
    );
  });
});

describe("disassemble() beside bpftool", () => {
  const file = scratch();

  it("spells instructions as `bpftool prog dump xlated` does", () => {
    // Nothing here is rewritten by the verifier, and all of it is known to a bpftool of Linux 6.1.
    const { fp, r2, r3, r6, r7 } = bpf;
    const [end, out] = [new bpf.Label("end"), new bpf.Label("out")];
    const code: bpf.Code = [
      bpf.mov(r6, r1),
      bpf.mov(r7, 9),
      bpf.mov(r2, 3),
      bpf.mov32(r3, -7),
      bpf.storeImm("u16", fp, -2, -3),
      bpf.storeImm("u64", fp, -16, 77),
      bpf.store("u8", fp, -3, r3),
      bpf.lsh(r3, 7),
      bpf.arsh32(r3, 3),
      bpf.xor32(r3, r2),
      bpf.neg(r3),
      bpf.neg32(r3),
      bpf.be16(r3),
      bpf.be64(r3),
      bpf.le32(r3),
      bpf.div(r3, 5),
      bpf.mod32(r3, 3),
      bpf.mov(r1, 1),
      bpf.atomicAdd("u64", fp, -16, r1),
      bpf.atomicOr("u64", fp, -16, r1),
      bpf.fetchXor("u64", fp, -16, r1),
      bpf.xchg("u64", fp, -16, r1),
      bpf.mov(r0, 0),
      bpf.cmpxchg("u64", fp, -16, r1),
      bpf.ldImm64(r2, 0x123456789abcdefn),
      bpf.call("ktime_get_ns"),
      bpf.jset(r0, 4, end),
      bpf.jlt(r0, r7, end),
      bpf.jeq32(r0, r7, end),
      bpf.jsgt32(r0, -2, end),
      bpf.mov(r0, 1),
      bpf.ja(out),
      end,
      bpf.mov(r0, 2),
      out,
      bpf.exit(),
    ];
    const spec = program({ name: "spell", type: "xdp", code });
    const path = file("spell.o", writeElf({ license: "GPL", maps: [], programs: [spec] }));
    const dump = inNamespaces(`bpftool prog load "$1" "$BPFFS/p"; bpftool prog dump xlated pinned "$BPFFS/p"`, path);
    const kernel = instructions(dump).map((line) => line.replace(/^(\(18\) .*)$/, "$1 ll"));
    const own = instructions(disassemble(spec));
    assert.deepEqual(
      kernel.map((line) => line.replace(/call bpf_ktime_get_ns#\d+/, "call bpf_ktime_get_ns#5")),
      own,
    );
  });

  it("spells the newer instructions as the verifier of Linux 6.18 does", () => {
    const { fp, r2, r3 } = bpf;
    const far = new bpf.Label("far");
    const spec = program({
      name: "newer",
      type: "xdp",
      code: [
        bpf.mov(r2, 0),
        bpf.storeImm("u64", fp, -8, -5),
        bpf.load(r3, "s8", fp, -8),
        bpf.load(r3, "s32", fp, -8),
        bpf.movsx(r3, "s16", r3),
        bpf.movsx32(r3, "s8", r3),
        bpf.sdiv(r3, 3),
        bpf.smod32(r3, 3),
        bpf.bswap16(r3),
        bpf.bswap64(r3),
        bpf.loadAcquire(r3, "u32", fp, -8),
        bpf.storeRelease("u64", fp, -8, r3),
        bpf.gotol(far),
        far,
        bpf.mov(r0, 2),
        bpf.exit(),
      ],
    });
    const path = file("newer.o", writeElf({ license: "GPL", maps: [], programs: [spec] }));
    const log = inNamespaces(`bpftool --debug prog load "$1" "$BPFFS/p" 2>&1`, path);
    assert.deepEqual(instructions(log), instructions(disassemble(spec)));
  });
});

describe("readElf()", () => {
  it("answers any bytes with an object or a named error", () => {
    const sound = writeElf(everything());
    const change = fc.tuple(fc.nat(sound.length - 1), fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.nat(255)));
    // Small changes reach deep; a counterexample is a list of changes and where the file was cut.
    const changes = fc.array(change, { maxLength: 8 });
    const cut = fc.oneof({ weight: 4, arbitrary: fc.constant(sound.length) }, fc.nat(sound.length));
    const mutate = (list: readonly (readonly [number, number])[], length: number): Uint8Array => {
      const mutant = sound.slice();
      for (const [at, value] of list) mutant[at] = value;
      return mutant.subarray(0, length);
    };
    let accepted = 0;
    let refused = 0;
    fc.assert(
      fc.property(changes, cut, (list, length) => {
        try {
          const object = readElf(mutate(list, length));
          for (const { code } of object.programs) disassemble({ code });
          accepted++;
        } catch (e) {
          if (!(e instanceof CodecError) && !(e instanceof NotSupportedError)) throw e;
          if (e instanceof CodecError) assert.ok(e.at >= 0, e.message);
          refused++;
        }
      }),
      { numRuns: 1500 },
    );
    assert.ok(accepted > 50 && refused > 50, `${accepted} accepted, ${refused} refused`);
  });

  it("refuses every truncation of a file", () => {
    const sound = writeElf(everything());
    // The section headers are at the end, so no prefix is a whole file.
    for (let length = 0; length < sound.length; length += 7)
      assert.throws(() => readElf(sound.subarray(0, length)), CodecError);
  });

  it("says what is wrong and where", () => {
    assert.throws(
      () => readElf(new TextEncoder().encode("#!/bin/sh\n")),
      /Cannot read an ELF object at byte 0: want a little-endian ELF64/,
    );
    const wrongMachine = writeElf(everything());
    wrongMachine[18] = 62;
    assert.throws(() => readElf(wrongMachine), /at byte 16: want a relocatable BPF file, got type 1 of machine 62/);
  });

  it("reads a Buffer and keeps nothing of it", () => {
    const buffer = Buffer.from(writeElf(everything()));
    const object = readElf(buffer);
    buffer.fill(0xff);
    assert.deepEqual(object, everything());
  });

  it("reads a file that starts anywhere in its buffer", () => {
    const sound = writeElf(everything());
    const shifted = new Uint8Array(sound.length + 3).subarray(3);
    shifted.set(sound);
    assert.ok(equalBytes(readElf(shifted).programs[0]!.code, everything().programs[0]!.code));
  });
});
