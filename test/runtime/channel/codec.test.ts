import assert from "node:assert/strict";
import fc from "fast-check";
import { CodecError, fromHex, toHex } from "ebpf-assembler";
import {
  attrs,
  bytes,
  decode,
  encode,
  fixed,
  flag,
  struct,
  u16,
  u16be,
  u32,
  u32be,
  u64,
  u64be,
  u8,
  type Codec,
  type ValueOf,
} from "#runtime";

const PRIMITIVES: readonly { name: string; codec: Codec<never>; value: unknown; hex: string }[] = [
  { name: "u8", codec: u8 as Codec<never>, value: 0xab, hex: "ab" },
  { name: "u16", codec: u16 as Codec<never>, value: 0x1234, hex: "3412" },
  { name: "u16be", codec: u16be as Codec<never>, value: 0x1234, hex: "1234" },
  { name: "u32", codec: u32 as Codec<never>, value: 0xfedcba98, hex: "98badcfe" },
  { name: "u32be", codec: u32be as Codec<never>, value: 0xfedcba98, hex: "fedcba98" },
  { name: "u64", codec: u64 as Codec<never>, value: 0x0123456789abcdefn, hex: "efcdab8967452301" },
  { name: "u64be", codec: u64be as Codec<never>, value: 0x0123456789abcdefn, hex: "0123456789abcdef" },
  { name: "bytes", codec: bytes as Codec<never>, value: fromHex("00ff10"), hex: "00ff10" },
  { name: "fixed(6)", codec: fixed(6) as Codec<never>, value: fromHex("020000000001"), hex: "020000000001" },
  { name: "flag", codec: flag as Codec<never>, value: true, hex: "" },
];

const inner = attrs({ port: [3, u32], mac: [4, fixed(6), "optional"] });
const outer = attrs({ key: [2, inner], note: [9, u8, "optional"], data: [1, bytes] });
type Outer = ValueOf<typeof outer>;

const samples: readonly { name: string; value: Outer; hex: string }[] = [
  {
    name: "required attributes only",
    value: { key: { port: 7 }, data: fromHex("aabb") },
    hex: "0c000280 08000300 07000000 06000100 aabb",
  },
  {
    name: "all attributes, padded between",
    value: { key: { port: 7, mac: fromHex("020000000001") }, note: 5, data: fromHex("aa") },
    hex: "16000280 08000300 07000000 0a000400 02000000 00010000 05000900 05000000 05000100 aa",
  },
];

const arbitrary = fc.record(
  {
    key: fc.record(
      { port: fc.nat(0xffffffff), mac: fc.uint8Array({ minLength: 6, maxLength: 6 }) },
      { requiredKeys: ["port"], noNullPrototype: true },
    ),
    note: fc.nat(255),
    data: fc.uint8Array({ maxLength: 40 }),
  },
  { requiredKeys: ["key", "data"], noNullPrototype: true },
);

const failure = (run: () => unknown): CodecError => {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof CodecError, String(error));
    return error;
  }
  assert.fail("want a CodecError, got a value");
};

describe("runtime/channel/codec", () => {
  for (const { name, codec, value, hex } of PRIMITIVES) {
    it(`${name} lies as documented and reads back`, () => {
      assert.equal(toHex(encode(codec, value as never, "x")), hex);
      assert.deepEqual(decode(codec, fromHex(hex), "x"), value);
    });
  }

  it("integers refuse values out of range, with the path", () => {
    assert.match(failure(() => encode(u16, 65536, "a.b")).message, /Cannot encode a\.b: .* 0 to 65535, got 65536/);
    assert.match(failure(() => encode(u32, 1.5, "a")).message, /got 1\.5/);
    assert.match(failure(() => encode(u64, -1n, "a")).message, /got -1/);
    assert.match(failure(() => encode(fixed(6), new Uint8Array(5), "a")).message, /want 6 bytes, got 5/);
  });

  for (const { name, value, hex } of samples) {
    it(`attrs() encodes and decodes ${name}`, () => {
      assert.equal(toHex(encode(outer, value, "m")), hex.replaceAll(" ", ""));
      assert.deepEqual(decode(outer, fromHex(hex), "m"), value);
    });
  }

  it("attrs() skips unknown attributes", () => {
    const unknown = "05006300 01000000";
    assert.deepEqual(decode(outer, fromHex(unknown + samples[0]!.hex), "m"), samples[0]!.value);
  });

  const bad: readonly { name: string; hex: string; at: number; want: RegExp }[] = [
    { name: "a missing attribute", hex: "0c000280 08000300 07000000", at: 0, want: /m\.data.*want this attribute/ },
    { name: "a missing nested attribute", hex: "04000280 05000100 aa", at: 4, want: /m\.key\.port/ },
    { name: "a second one", hex: "05000100 aa000000 05000100 bb", at: 8, want: /m\.data.*second/ },
    { name: "a cut header", hex: "05000100 aa000000 0400", at: 8, want: /header, got 2 bytes/ },
    { name: "a length below the header", hex: "03000100", at: 0, want: /from 4 to 4, got 3/ },
    { name: "a length beyond the end", hex: "0c000100 aa", at: 0, want: /from 4 to 5, got 12/ },
    {
      name: "a payload of the wrong size",
      hex: "0b000280 07000300 070000 00",
      at: 8,
      want: /m\.key\.port.*want 4 bytes, got 3/,
    },
  ];
  for (const { name, hex, at, want } of bad) {
    it(`attrs() refuses ${name} and says where`, () => {
      const error = failure(() => decode(outer, fromHex(hex), "m"));
      assert.match(error.message, want);
      assert.equal(error.at, at);
    });
  }

  it("attrs() refuses to encode a payload that the length field cannot hold", () => {
    const value = { key: { port: 1 }, data: new Uint8Array(0xfffc) };
    assert.match(failure(() => encode(outer, value, "m")).message, /m\.data: want at most 65531 bytes, got 65532/);
  });

  it("struct() puts its fields side by side", () => {
    const codec = struct({ a: u8, b: u16be, c: u32 });
    assert.equal(toHex(encode(codec, { a: 1, b: 2, c: 3 }, "s")), "01000203000000");
    assert.deepEqual(decode(codec, fromHex("01000203000000"), "s"), { a: 1, b: 2, c: 3 });
  });

  it("attrs() reads back what it wrote, for any value", () => {
    fc.assert(
      fc.property(arbitrary, (value) =>
        assert.deepEqual(decode(outer, encode(outer, value as Outer, "m"), "m"), value),
      ),
    );
  });

  it("attrs() throws CodecError for random bytes, or reads a value that survives a round trip", () => {
    // Mostly well-formed headers, or nearly every run would end at the first one.
    const attribute = fc
      .tuple(fc.constantFrom(1, 2, 3, 9, 77), fc.uint8Array({ maxLength: 12 }), fc.integer({ min: -1, max: 2 }))
      .map(([type, payload, extra]) => {
        const out = new Uint8Array(4 + ((payload.length + 3) & ~3));
        const view = new DataView(out.buffer);
        view.setUint16(0, 4 + payload.length + (extra > 0 ? 0 : extra), true);
        view.setUint16(2, type, true);
        out.set(payload, 4);
        return [...out];
      });
    const input = fc.oneof(
      fc.uint8Array({ maxLength: 32 }),
      fc.array(attribute, { maxLength: 4 }).map((a) => Uint8Array.from(a.flat())),
    );
    fc.assert(
      fc.property(input, (from) => {
        let value: Outer;
        try {
          value = decode(outer, from, "m");
        } catch (error) {
          assert.ok(error instanceof CodecError);
          return;
        }
        assert.deepEqual(decode(outer, encode(outer, value, "m"), "m"), value);
      }),
      { numRuns: 2000 },
    );
  });
});
