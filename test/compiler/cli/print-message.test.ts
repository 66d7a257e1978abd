import assert from "node:assert/strict";
import { Command } from "commander";
import { addCompilerCommands, type Io } from "#compiler";

const run = (input: string, ...args: string[]): { out: string; err: string; code: number } => {
  let out = "";
  let err = "";
  let code = 0;
  const io: Io = {
    readText: () => input,
    out: (text) => (out += text),
    err: (text) => (err += text),
    exit: (status) => (code = status),
  };
  const program = new Command().exitOverride();
  addCompilerCommands(program, io);
  program.parse(["print-message", ...args], { from: "user" });
  return { out, err, code };
};

describe("ofxdp print-message", () => {
  it("prints a message from the command line or standard input", () => {
    const want = { out: "OFPT_BARRIER_REQUEST (OF1.3) (xid=0x7):\n", err: "", code: 0 };
    assert.deepEqual(run("", "0414000800000007"), want);
    assert.deepEqual(run("04 14 00 08\n00 00 00 07\n", "-"), want);
    assert.deepEqual(JSON.parse(run("", "0414000800000007", "--json").out), { text: want.out.trimEnd() });
  });

  it("shows the payload of echoes without being asked to, the bytes of packets when --verbosity is 3", () => {
    const echo = "01020009000000014a";
    assert.match(run("", echo).out, /1 bytes of payload\n00000000 {2}4a/);
    assert.doesNotMatch(run("", echo, "--verbosity", "1").out, /00000000/);
    const packetIn = `010a0020000000010000011400 0e00010000${"02".repeat(12)}1234`;
    assert.doesNotMatch(run("", packetIn).out, /00000000/);
    assert.match(run("", packetIn, "--verbosity", "3").out, /00000000 {2}02 02/);
  });

  it("prints what is wrong with a message that a switch would refuse", () => {
    const { out, code } = run("", "040100080000000a");
    assert.match(out, /^\*\*\*decode error: OFPBRC_BAD_LEN\*\*\*\n00000000 {2}04 01 00 08/);
    assert.equal(code, 0);
  });

  it("ends with 1 for text that is no hexadecimal, with 4 for a message that it does not know", () => {
    assert.equal(run("", "04x").code, 1);
    const { err, code } = run("", "051e000800000007");
    assert.match(err, /Reading messages of type 30 of version 0x05 is not supported/);
    assert.equal(code, 4);
  });
});
