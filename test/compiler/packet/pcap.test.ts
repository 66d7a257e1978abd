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

describe("readPcap(), pcapng", () => {
  const section = "0a0d0d0a 1c000000 4d3c2b1a 0100 0000 ffffffffffffffff 1c000000";
  const ethernet = "01000000 14000000 0100 0000 00000000 14000000";
  const packet = "06000000 24000000 00000000 00000000 40420f00 02000000 40000000 abcd0000 24000000";
  const abcd = Uint8Array.of(0xab, 0xcd);

  it("reads enhanced packets in the interface's resolution and byte order, and passes over other blocks", () => {
    const unknown = "ad0b0000 0c000000 0c000000";
    const nanoseconds = "01000000 20000000 0100 0000 00000000 0900 0100 09000000 0000 0000 20000000";
    const second = "06000000 24000000 01000000 00000000 40420f00 02000000 40000000 abcd0000 24000000";
    const bigSection = "0a0d0d0a 0000001c 1a2b3c4d 0001 0000 ffffffffffffffff 0000001c";
    const bigEthernet = "00000001 00000014 0001 0000 00000000 00000014";
    const bigPacket = "00000006 00000024 00000000 00000000 000f4240 00000002 00000040 abcd0000 00000024";
    const file = [section, ethernet, packet, unknown, nanoseconds, second, bigSection, bigEthernet, bigPacket].join("");
    assert.deepEqual(plain(readPcap(fromHex(file))), [
      { timeNs: 1_000_000_000n, packet: abcd, wireBytes: 64 },
      { timeNs: 1_000_000n, packet: abcd, wireBytes: 64 },
      { timeNs: 1_000_000_000n, packet: abcd, wireBytes: 64 },
    ]);
  });

  it("reads simple packets, cut off at the interface's limit", () => {
    const limited = "01000000 14000000 0100 0000 02000000 14000000";
    const simple = "03000000 14000000 40000000 abcd0000 14000000";
    assert.deepEqual(plain(readPcap(fromHex(section + limited + simple))), [
      { timeNs: 0n, packet: abcd, wireBytes: 64 },
    ]);
  });

  const rows: readonly { readonly name: string; readonly file: string; readonly want: RegExp }[] = [
    { name: "another byte-order magic", file: section.replace("4d3c2b1a", "00000000"), want: /at byte 8: want a byte/ },
    {
      name: "a block size out of step",
      file: `${section} 06000000 0e000000 0000`.concat("00".repeat(8)),
      want: /at byte 32/,
    },
    {
      name: "a block cut off",
      file: section + packet.slice(0, -9),
      want: /at byte 28: want a block of 36 bytes, got 32/,
    },
    { name: "a packet of no interface", file: section + packet, want: /at byte 36: want an interface .* number 0/ },
    {
      name: "another link type",
      file: section + ethernet.replace("0100 ", "7100 ") + packet,
      want: /link type 1 .* 113/,
    },
    {
      name: "a packet over its block",
      file: section + ethernet + packet.replace("02000000", "08000000"),
      want: /of 8 bytes, got 4/,
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

  it("either reads or throws CodecError, whatever is changed", () => {
    const file = fromHex(section + ethernet + packet + packet);
    fc.assert(
      fc.property(
        fc.nat({ max: file.length - 1 }),
        fc.nat({ max: 255 }),
        fc.nat({ max: file.length }),
        (at, value, size) => {
          const changed = file.slice(0, size);
          if (at < size) changed[at] = value;
          try {
            readPcap(changed);
          } catch (e) {
            assert.ok(e instanceof CodecError, String(e));
          }
        },
      ),
      { numRuns: 3000 },
    );
  });
});
