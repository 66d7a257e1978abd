import assert from "node:assert/strict";
import { CodecError, toHex } from "ebpf-assembler";
import { formatMac, packAddress, packMac, packPrefix } from "libbpf-ts";

describe("packAddress()", () => {
  for (const [text, want] of [
    ["10.0.0.1", "0a000001"],
    ["::", "0".repeat(32)],
    ["::1", `${"0".repeat(31)}1`],
    ["fd00::1:2", "fd00000000000000" + "0000000000010002"],
    ["1:2:3:4:5:6:7:8", "00010002000300040005000600070008"],
    ["::ffff:10.0.0.1", "00000000000000000000ffff0a000001"],
  ] as const)
    it(`encodes ${text}`, () => assert.equal(toHex(packAddress(text).bytes), want));

  for (const text of ["", "10.0.0", "1::2::3", "fe80::1%eth0", "10.0.0.256"])
    it(`refuses ${JSON.stringify(text)}`, () => assert.throws(() => packAddress(text), CodecError));
});

describe("packPrefix()", () => {
  it("reads the length, and takes a host for an absent one", () => {
    assert.equal(packPrefix("10.0.0.0/8").length, 8);
    assert.equal(packPrefix("10.0.0.1").length, 32);
    assert.equal(packPrefix("fd00::/64").length, 64);
  });
  for (const text of ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/x"])
    it(`refuses ${text}`, () => assert.throws(() => packPrefix(text), CodecError));
});

describe("packMac()", () => {
  it("is the inverse of formatMac()", () => assert.equal(formatMac(packMac("02:00:00:00:aB:01")), "02:00:00:00:ab:01"));
  it("refuses anything else", () => assert.throws(() => packMac("02:00"), CodecError));
});
