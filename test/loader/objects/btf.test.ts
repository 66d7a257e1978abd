import assert from "node:assert/strict";
import { BtfBuilder } from "ebpf-assembler";
import { linux, loadBtf, SyscallError } from "libbpf-ts";
import { checkNoLeaks } from "../fixtures.js";

describe("loadBtf()", () => {
  checkNoLeaks();
  const sys = linux();

  it("loads what BtfBuilder makes", () => {
    const btf = new BtfBuilder();
    btf.int("__u32", 4);
    using fd = loadBtf(sys, btf.bytes());
    assert.ok(fd.n >= 0);
  });

  it("says what the kernel does not like", () => {
    const btf = new BtfBuilder();
    btf.int("__u32", 4);
    const bytes = btf.bytes();
    bytes[4] = 200; // header length
    assert.throws(
      () => loadBtf(sys, bytes),
      (e: unknown) =>
        e instanceof SyscallError && /Cannot load the types of an object: bpf\(BTF_LOAD\): E/.test(e.message),
    );
  });
});
