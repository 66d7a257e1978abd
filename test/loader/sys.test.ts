import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { CodecError } from "ebpf-assembler";
import { ancestorNamespaces, describeErrno, parseCpuCount, PrivilegeError, syscallError } from "libbpf-ts";

describe("parseCpuCount()", () => {
  for (const [list, want] of [
    ["0\n", 1],
    ["0-3\n", 4],
    ["0,2-5\n", 6],
  ] as const)
    it(`counts ${want} in ${list.trim()}`, () => assert.equal(parseCpuCount(list), want));
  it("refuses what is no list", () => assert.throws(() => parseCpuCount("\n"), CodecError));
});

describe("syscallError()", () => {
  it("says action, call, name and meaning", () => {
    const error = syscallError('create map "m"', "bpf(MAP_CREATE)", 22, "too small");
    assert.equal(error.message, 'Cannot create map "m": bpf(MAP_CREATE): EINVAL (invalid argument): too small');
    assert.deepEqual(error.toJSON(), {
      code: "ESYSCALL",
      message: error.message,
      action: 'create map "m"',
      call: "bpf(MAP_CREATE)",
      errno: 22,
      detail: "too small",
      errnoName: "EINVAL",
    });
    assert.equal(error.exitCode, 3);
  });
  it("makes EPERM a missing privilege", () => {
    const error = syscallError("load", "bpf()", 1);
    assert.ok(error instanceof PrivilegeError);
    assert.equal(error.exitCode, 4);
  });
  it("knows the errno that the kernel should have kept to itself", () => {
    assert.equal(describeErrno(524)[0], "ENOTSUPP");
    assert.equal(describeErrno(95)[0], "EOPNOTSUPP");
    assert.deepEqual(describeErrno(9999), ["errno 9999", "unknown error"]);
  });
});

describe("ancestorNamespaces()", () => {
  it("shows the same for all in a plain process, another one behind unshare", () => {
    assert.ok(ancestorNamespaces("net").length > 0);
    const script = `
      import { ancestorNamespaces } from "libbpf-ts";
      console.log(ancestorNamespaces("net").at(0));
    `;
    const args = ["--net", process.execPath, "--input-type=module", "-e", script];
    const parent = execFileSync("unshare", args, { encoding: "utf8" }).trim();
    assert.equal(parent, execFileSync("readlink", ["/proc/self/ns/net"], { encoding: "utf8" }).trim());
  });
});
