import assert from "node:assert/strict";
import { readPcap, writePcap } from "#compiler";
import { CodecError, fromHex } from "ebpf-assembler";
import fc from "fast-check";

const record = fc.record({
  timeNs: fc.bigInt({ min: 0n, max: (1n << 32n) * 1_000_000_000n - 1n }),
  packet: fc.uint8Array({ maxLength: 200 }),
  wireBytes: fc.nat({ max: 65535 }),
});

const plain = (records: ReturnType<typeof readPcap>): unknown =>
  records.map((r) => ({ ...r, packet: Uint8Array.from(r.packet) }));

describe("readPcap()", () => {
  it("is the inverse of writePcap() in nanoseconds", () => {
    fc.assert(
      fc.property(fc.array(record, { maxLength: 5 }), (records) => {
        assert.deepEqual(plain(readPcap(writePcap(records))), plain(records));
      }),
    );
  });

  it("is the inverse of writePcap() in microseconds, but for the digits that do not fit", () => {
    fc.assert(
      fc.property(fc.array(record, { maxLength: 5 }), (records) => {
        const rounded = records.map((r) => ({ ...r, timeNs: (r.timeNs / 1000n) * 1000n }));
        assert.deepEqual(plain(readPcap(writePcap(records, "us"))), plain(rounded));
      }),
    );
  });

  it("reads big-endian files", () => {
    const file = fromHex(
      "a1b2c3d4 0002 0004 00000000 00000000 0000ffff 00000001 00000002 00000003 00000002 00000040 abcd",
    );
    assert.deepEqual(plain(readPcap(file)), [
      { timeNs: 2_000_003_000n, packet: Uint8Array.of(0xab, 0xcd), wireBytes: 64 },
    ]);
  });

  const head = "d4c3b2a1 0200 0400 00000000 00000000 ffff0000";
  const rows: readonly { readonly name: string; readonly file: string; readonly want: RegExp }[] = [
    { name: "an empty file", file: "", want: /at byte 0: want a file header of 24 bytes, got 0/ },
    {
      name: "another magic number",
      file: `deadbeef${"00".repeat(20)}`,
      want: /want a pcap magic number, got 0xefbeadde/,
    },
    { name: "pcapng", file: `0a0d0d0a${"00".repeat(20)}`, want: /pcapng/ },
    {
      name: "another version",
      file: `d4c3b2a1 0300 ${"00".repeat(18)}`,
      want: /at byte 4: want format version 2, got 3/,
    },
    { name: "another link type", file: `${head} 71000000`, want: /at byte 20: want link type 1 \(Ethernet\), got 113/ },
    {
      name: "a record header cut off",
      file: `${head} 01000000 0000`,
      want: /at byte 24: want a record header of 16 bytes, got 2/,
    },
    {
      name: "a packet cut off",
      file: `${head} 01000000 00000000 00000000 04000000 04000000 aabb`,
      want: /at byte 32: want a packet of 4 bytes, got 2/,
    },
  ];
  for (const { name, file, want } of rows) {
    it(`refuses ${name} with its offset`, () => {
      assert.throws(
        () => readPcap(fromHex(file)),
        (e: unknown) => e instanceof CodecError && want.test(e.message),
      );
    });
  }

  it("either reads or throws CodecError, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (tail) => {
        const file = Uint8Array.from([...fromHex(`${head} 01000000`), ...tail]);
        try {
          readPcap(file);
        } catch (e) {
          assert.ok(e instanceof CodecError);
        }
      }),
    );
  });
});
