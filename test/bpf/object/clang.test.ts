import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { kernelTypes, NotSupportedError, readElf, writeElf, type ObjectSpec } from "ebpf-assembler";
import { everything, inNamespaces, run, scratch, u32 } from "./fixtures.js";

const HEAD = `#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "Dual MIT/GPL";
`;

const SOURCE = `${HEAD}
struct key { __u32 a; __u16 b; __u8 c[2]; };
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 64);
  __type(key, struct key);
  __type(value, __u64);
  __uint(map_flags, BPF_F_NO_PREALLOC);
} table SEC(".maps");
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 2);
  __uint(key_size, 4);
  __uint(value_size, 8);
} counts SEC(".maps");
const volatile __u32 limit = 77;
const volatile __u32 other = 5;
__u64 total = 3;
__u32 seen;
static __attribute__((noinline)) __u32 twice(__u32 x) { return x * 2 + limit; }
__attribute__((noinline)) int global_add(__u32 a, __u32 b) { seen += a; return a + twice(b); }
static long each(__u32 i, void *ctx) { *(__u32 *)ctx += i; return 0; }
SEC("xdp") int first(struct xdp_md *ctx) {
  struct key k = { .a = 1 };
  __u64 *v = bpf_map_lookup_elem(&table, &k);
  if (v) (*v)++;
  total += 2;
  return global_add(total, other);
}
SEC("xdp") int looped(struct xdp_md *ctx) {
  __u32 sum = 0;
  bpf_loop(5, each, &sum, 0);
  return sum;
}
SEC("tc") int third(struct __sk_buff *skb) {
  __u32 zero = 0;
  __u64 *n = bpf_map_lookup_elem(&counts, &zero);
  if (n) (*n)++;
  return twice(1) + seen;
}
`;

describe("readElf() of what clang builds", () => {
  const file = scratch();
  const compile = (name: string, source: string, ...flags: string[]): string => {
    const object = file(`${name}.o`);
    run(
      "clang-14",
      "-O2",
      "-g",
      "--target=bpf",
      "-idirafter",
      `/usr/include/${process.arch === "x64" ? "x86_64" : "aarch64"}-linux-gnu`,
      ...flags,
      "-c",
      file(`${name}.c`, source),
      "-o",
      object,
    );
    return object;
  };
  const read = (path: string): ObjectSpec => readElf(readFileSync(path));

  it("finds maps, global variables and the license", () => {
    const { license, maps } = read(compile("maps", SOURCE));
    assert.equal(license, "Dual MIT/GPL");
    assert.deepEqual(maps, [
      {
        name: "table",
        type: "hash",
        keySize: 8,
        valueSize: 8,
        maxEntries: 64,
        flags: 1,
        keyFields: [
          { name: "a", size: 4 },
          { name: "b", size: 2 },
          { name: "c", size: 2 },
        ],
      },
      { name: "counts", type: "percpu_array", keySize: 4, valueSize: 8, maxEntries: 2, flags: 0 },
      {
        name: ".rodata",
        type: "array",
        keySize: 4,
        valueSize: 8,
        maxEntries: 1,
        flags: 128,
        entries: [[u32(0), u32(77, 5)]],
      },
      {
        name: ".data",
        type: "array",
        keySize: 4,
        valueSize: 8,
        maxEntries: 1,
        flags: 1024,
        entries: [[u32(0), u32(3, 0)]],
      },
      { name: ".bss", type: "array", keySize: 4, valueSize: 4, maxEntries: 1, flags: 1024 },
    ]);
  });

  it("links each program with the functions it calls, and knows its source lines", () => {
    const { programs } = read(compile("link", SOURCE));
    assert.deepEqual(
      programs.map((p) => [p.name, p.type, [...new Set(p.relocations.map((r) => r.map))].sort()]),
      [
        ["first", "xdp", [".bss", ".data", ".rodata", "table"]],
        ["looped", "xdp", []],
        ["third", "sched_cls", [".bss", ".rodata", "counts"]],
      ],
    );
    const texts = programs[0]!.lines.map((line) => line.origin.text);
    assert.ok(texts.includes("total += 2;") && texts.some((text) => text.includes("twice(__u32 x)")), texts.join("\n"));
  });

  // total 3 + 2; twice(5) = 87; 5 + 87. Sum of 0..4. twice(1) = 79, and seen = 5 from the first program.
  const RUNS = [
    ["first", 92],
    ["looped", 10],
    ["third", 79],
  ] as const;

  for (const flags of [[], ["-mcpu=v3"]])
    it(`keeps what programs do when written again (clang ${flags.join(" ") || "default"})`, () => {
      const path = file("again.o", writeElf(read(compile("again-c", SOURCE, ...flags))));
      const packet = file("packet", new Uint8Array(64));
      const out = inNamespaces(
        `bpftool prog loadall "$1" "$BPFFS/p"
        for p in first looped third; do bpftool -j prog run pinned "$BPFFS/p/$p" data_in "$2"; echo; done`,
        path,
        packet,
      );
      const results = out
        .trim()
        .split(/\n+/)
        .map((line) => (JSON.parse(line) as { retval: number }).retval);
      // The programs were loaded together, so `third` sees what `first` left in .bss.
      assert.deepEqual(
        results,
        RUNS.map(([name, value]) => (name === "third" ? value + 5 : value)),
      );
    });

  it("names what an object spec cannot say", () => {
    const rows: readonly (readonly [string, string, RegExp])[] = [
      ["kprobe", `SEC("kprobe/do_exit") int f(void *ctx) { return 0; }`, /section "kprobe\/do_exit" is not supported/],
      [
        "extern",
        `extern int other(void) __ksym; SEC("xdp") int f(void *ctx) { return other(); }`,
        /"other" from outside/,
      ],
      [
        "inner",
        `struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, int); };
        struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 1); __type(key, int);
          __array(values, struct inner); } outer SEC(".maps");
        SEC("xdp") int f(void *ctx) { int k = 0; return bpf_map_lookup_elem(&outer, &k) ? 1 : 2; }`,
        /Map "outer" with inner maps/,
      ],
      [
        "core",
        `struct s { int x; } __attribute__((preserve_access_index));
        SEC("xdp") int f(struct xdp_md *ctx) { struct s *p = (void *)(long)ctx; return p->x; }`,
        /CO-RE/,
      ],
    ];
    for (const [name, source, message] of rows) {
      const path = compile(name, HEAD + source);
      assert.throws(
        () => read(path),
        (e: unknown) => e instanceof NotSupportedError && message.test(e.message),
        name,
      );
    }
  });

  it("finds the same programs with and without debug information, which only maps need", () => {
    const source = `${HEAD}SEC("xdp") int f(struct xdp_md *ctx) { return ctx->data_end - ctx->data > 64; }`;
    const [with_, without] = [read(compile("g", source)), read(compile("g0", source, "-g0"))];
    assert.deepEqual(without.programs[0]!.code, with_.programs[0]!.code);
    assert.deepEqual(without.programs[0]!.lines, []);
  });
});

describe("kernelTypes()", () => {
  it("describes maps and programs as bpf(2) takes it", () => {
    const object = readElf(writeElf(everything()));
    const { btf, maps, programs } = kernelTypes(object);
    const view = (bytes: Uint8Array): number[] => [...new Uint32Array(bytes.slice().buffer)];
    const count = programs.get("count")!;
    const functions = view(count.funcInfo);
    assert.deepEqual([functions[0], functions[2], functions[4]], [0, 22, 27]);
    assert.equal(new Set([functions[1], functions[3], functions[5]]).size, 3);
    // Slot, file, text, line << 10 for each line; the second function starts inside the second line.
    const lines = view(count.lineInfo);
    assert.deepEqual(
      [0, 4, 8, 12].map((i) => [lines[i], lines[i + 3]! >> 10]),
      [
        [0, 3],
        [10, 7],
        [22, 7],
        [27, 9],
      ],
    );
    assert.equal(programs.get("pass")!.lineInfo.length, 0);
    assert.deepEqual(maps.get("events"), { key: 0, value: 0 });
    assert.ok(maps.get("prefixes")!.key > 0 && maps.get("prefixes")!.value > 0);
    assert.deepEqual([...btf.subarray(0, 3)], [0x9f, 0xeb, 1]);
  });
});
