import assert from "node:assert/strict";
import { CodecError, fromHex, toHex } from "ebpf-assembler";

describe("fromHex()", () => {
  it("is the inverse of toHex() and ignores white space", () => {
    assert.equal(toHex(fromHex("00 ff\n1A")), "00ff1a");
  });

  it("names the place of a character that is no digit", () => {
    assert.throws(
      () => fromHex("00zz"),
      (e: unknown) => e instanceof CodecError && /at byte 1.*"z"/.test(e.message),
    );
  });
});
