import assert from "node:assert/strict";
import { header, HEADERS, headerTable, readHeaderField, writeHeaderField } from "#compiler";
import { RangeViolation } from "ebpf-assembler";
import fc from "fast-check";

describe("header()", () => {
  it("computes the sizes that the RFCs state", () => {
    const sizes = Object.fromEntries(Object.values(HEADERS).map((h) => [h.name, h.minBytes]));
    assert.deepEqual(sizes, {
      ethernet: 14,
      vlan: 4,
      llcSnap: 8,
      arp: 28,
      ipv4: 20,
      ipv6: 40,
      ipv6Ext: 8,
      ah: 8,
      ipv6Frag: 8,
      tcp: 20,
      udp: 8,
      vxlan: 8,
      geneve: 8,
      gre: 4,
      sctp: 12,
      icmp: 8,
      igmp: 8,
      icmpv6: 8,
      nd: 24,
      ndOption: 8,
    });
  });

  it("places whole-byte and packed fields", () => {
    const { ttl, ihl, fragOffset } = HEADERS.ipv4.fields;
    assert.deepEqual(ttl, { at: 64, bits: 8, byteOffset: 8, byteSize: 1, aligned: true, shift: 0 });
    assert.deepEqual(ihl, { at: 4, bits: 4, byteOffset: 0, byteSize: 1, aligned: false, shift: 0 });
    assert.deepEqual(fragOffset, { at: 51, bits: 13, byteOffset: 6, byteSize: 2, aligned: false, shift: 0 });
    assert.equal(HEADERS.ipv6.fields.trafficClass.shift, 4);
  });

  it("refuses a layout that is not whole bytes, and a name used twice", () => {
    assert.throws(() => header("odd", "", [["a", 7]]), RangeViolation);
    assert.throws(
      () =>
        header("twice", "", [
          ["a", 8],
          ["a", 8],
        ]),
      RangeViolation,
    );
  });

  it("knows only the fields of the list", () => {
    // @ts-expect-error a misspelt field does not compile
    assert.equal(HEADERS.ipv4.fields.tll, undefined);
  });
});

describe("readHeaderField() and writeHeaderField()", () => {
  it("are inverse and leave all other bits alone, for every field of at most 32 bits", () => {
    const fields = Object.values(HEADERS).flatMap((h) =>
      Object.values(h.fields)
        .filter((f) => f.bits <= 32)
        .map((f) => ({ f, size: h.minBytes })),
    );
    fc.assert(
      fc.property(
        fc.constantFrom(...fields),
        fc.nat({ max: 0xffffffff }),
        fc.nat({ max: 255 }),
        ({ f, size }, v, fill) => {
          const bytes = new Uint8Array(size + 3).fill(fill);
          const value = v % 2 ** f.bits;
          const before = readHeaderField(bytes, 3, f);
          writeHeaderField(bytes, 3, f, value);
          assert.equal(readHeaderField(bytes, 3, f), value);
          writeHeaderField(bytes, 3, f, before);
          assert.ok(bytes.every((b) => b === fill));
        },
      ),
    );
  });
});

describe("headerTable()", () => {
  it("has a row per field", () => {
    assert.equal(
      headerTable(HEADERS.udp),
      "### udp (RFC 768)\n\n| byte | bits | field |\n| --- | --- | --- |\n" +
        "| 0 | 16 | src |\n| 2 | 16 | dst |\n| 4 | 16 | length |\n| 6 | 16 | checksum |",
    );
  });
});
