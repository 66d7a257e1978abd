// The hand-written programs are built and loaded as they are run.

import assert from "node:assert/strict";
import { compileC, udpPacket } from "#bench";
import { linux, loadObject, xdpContext } from "libbpf-ts";

const XDP_PASS = 2;

describe("compileC()", () => {
  it("gives programs that the kernel takes; a packet without a flow passes", () => {
    using object = loadObject(linux(), compileC("l2"));
    const data = udpPacket({ vary: [{ at: 0, base: 0 }] }, 7);
    assert.equal(object.program("mac_hash_xdp").testRun({ data, ctx: xdpContext(data.length, 1) }).retval, XDP_PASS);
  });

  it("says what is wrong with a source", () => {
    assert.throws(() => compileC("l2", { defines: { SLOTS: 0.5 } }), {
      code: "ENOTSUPPORTED",
      message: /l2\.bpf\.c/,
    });
  });
});
