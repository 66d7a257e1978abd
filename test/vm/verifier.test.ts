// What the compiler made on the host (support/vm/corpus.ts) must be taken by this kernel's verifier, with room to spare.

import assert from "node:assert/strict";
import console from "node:console";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { readElf } from "ebpf-assembler";
import { linux, loadObject } from "libbpf-ts";
import { checkNoLeaks } from "../loader/fixtures.js";
import { skip } from "../support/skip.js";

/** Half of what the verifier walks before it gives up (kernel/bpf/verifier.c, BPF_COMPLEXITY_LIMIT_INSNS). */
const MAX_VERIFIED = 500_000;

const CORPUS = process.env["OBJECT_CORPUS"] ?? "";

describe("the verifier", function () {
  checkNoLeaks();
  const sys = linux();
  let mostVerified: readonly [insns: number, where: string] = [0, ""];

  if (CORPUS === "")
    it("takes what the compiler makes", function () {
      skip(this, "needs objects of the host: npm run test:vm");
    });
  else
    for (const file of readdirSync(CORPUS).sort())
      it(`takes ${file}`, () => {
        using loaded = loadObject(sys, readElf(readFileSync(join(CORPUS, file))));
        for (const [name, program] of loaded.programs) {
          const { verifiedInsns } = program.info;
          if (verifiedInsns > mostVerified[0]) mostVerified = [verifiedInsns, `${file}, ${name}`];
          assert.ok(verifiedInsns < MAX_VERIFIED, `${name}: the verifier walked ${verifiedInsns} instructions`);
        }
      });

  after(() => {
    if (mostVerified[0] > 0)
      console.log(`    most work: ${mostVerified[0]} instructions walked for ${mostVerified[1]}`);
  });
});
