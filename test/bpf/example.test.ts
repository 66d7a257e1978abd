import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { inNamespaces, run, scratch } from "./object/fixtures.js";

const inPackage = (name: string): string => fileURLToPath(new URL(`../../../bpf/${name}`, import.meta.url));

describe("bpf/example.mjs", () => {
  const file = scratch();

  it("shows its program, tries it out and writes what ip attaches", () => {
    const path = file("discard.o");
    const out = run(process.execPath, inPackage("example.mjs"), path);
    assert.match(out, /^; drop UDP to port 9\n +\d+: \(55\) if r6 != 0x11 goto pc\+4$/m);
    assert.match(out, /Assembled from that text: \d+ slots, equal: true/);
    assert.match(out, /verdict 1 after \d+ instructions, 1 packet of protocol 17/);
    const shown = inNamespaces(
      `ip link add v0 type veth peer name v1
      ip link set dev v0 xdp obj "$1" sec xdp
      ip link show dev v0`,
      path,
    );
    assert.match(shown, /prog\/xdp id \d+ name discard/);
  });
});

describe("bpf/README.md", () => {
  const blocks = [...readFileSync(inPackage("README.md"), "utf8").matchAll(/^```js\n(.*?)^```$/gms)].map((m) => m[1]!);

  it("has examples", () => assert.ok(blocks.length >= 3));

  blocks.forEach((block, i) =>
    it(`has an example ${i + 1} that runs`, () => {
      run(process.execPath, "--input-type=module", "--eval", block);
    }),
  );
});
