import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import fc from "fast-check";
import { RangeViolation } from "ebpf-assembler";
import { ControlError, JsonStream, unixctlCall, UnixctlServer, type Command } from "#runtime";

const run = promisify(execFile);

const COMMANDS: readonly Command[] = [
  { name: "echo", usage: "TEXT...", args: [0, 3], run: (args) => args.join("|") },
  {
    name: "fail",
    usage: "",
    args: [0, 0],
    run: () => {
      throw new RangeViolation("Cannot do that: want something else");
    },
  },
  { name: "need", usage: "A B", args: [2, 2], run: async () => Promise.resolve("two\n") },
];

describe("runtime/control/unixctl", () => {
  let dir: string;
  let server: UnixctlServer;

  before(async () => {
    dir = mkdtempSync(join(tmpdir(), "ofxdp-ctl-"));
    server = await UnixctlServer.listen(join(dir, "x.ctl"), COMMANDS);
  });
  after(() => {
    server[Symbol.dispose]();
    assert.ok(!existsSync(server.path));
    rmSync(dir, { recursive: true });
  });

  it("ovs-appctl gets results, errors and the list of commands", async () => {
    const appctl = (...args: string[]) => run("ovs-appctl", ["-t", server.path, ...args]);
    assert.equal((await appctl("echo", "a", 'b "c"', "\\d{")).stdout, 'a|b "c"|\\d{\n');
    assert.match((await appctl("list-commands")).stdout, /^The available commands are:\n {2}echo {20}TEXT\.\.\.\n/);
    await assert.rejects(appctl("fail"), (error: { code: number; stderr: string }) => {
      assert.equal(error.code, 2);
      assert.match(error.stderr, /^Cannot do that: want something else\novs-appctl: .*: server returned an error\n$/);
      return true;
    });
    await assert.rejects(appctl("nope"), /"nope" is not a valid command/);
  });

  it("unixctlCall() speaks the same protocol", async () => {
    assert.equal(await unixctlCall(server.path, "need", ["1", "2"]), "two\n");
    await assert.rejects(unixctlCall(server.path, "need", ["1"]), /requires at least 2 arguments/);
    await assert.rejects(unixctlCall(server.path, "need", ["1", "2", "3"]), /takes at most 2 arguments/);
    await assert.rejects(unixctlCall(server.path, "fail", []), (error: unknown) => {
      assert.ok(error instanceof ControlError);
      assert.equal(error.exitCode, 2);
      return true;
    });
    await assert.rejects(unixctlCall(join(dir, "none"), "echo", []), /Cannot talk to .*none: connect ENOENT/);
  });

  it("listen() answers several requests of one connection, in pieces", async () => {
    const socket = connect(server.path).setEncoding("utf8");
    let text = "";
    socket.on("data", (chunk: string) => (text += chunk));
    const both = '{"id":1,"method":"echo","params":["x"]}{"id":2,"method":"echo","params":["y"]}';
    socket.write(both.slice(0, 20));
    await new Promise((resolve) => setTimeout(resolve, 20));
    socket.write(both.slice(20));
    while (!text.includes('"id":2')) await new Promise((resolve) => socket.once("data", resolve));
    socket.destroy();
    assert.equal(text, '{"id":1,"result":"x\\n","error":null}{"id":2,"result":"y\\n","error":null}');
  });

  for (const [name, garbage] of [
    ["text outside of an object", "hello"],
    ["an object that is not JSON", "{hello}"],
    ["a request without method", '{"id":1}'],
  ] as const) {
    it(`listen() closes the connection on ${name}, and lives on`, async () => {
      const socket = connect(server.path);
      socket.write(garbage);
      await new Promise((resolve) => socket.once("close", resolve));
      assert.equal(await unixctlCall(server.path, "echo", ["alive"]), "alive\n");
    });
  }

  it("JsonStream finds the same objects however the text is cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.dictionary(fc.string(), fc.jsonValue()), { maxLength: 4 }),
        fc.array(fc.nat(30)),
        (values, cuts) => {
          const plain = values.map((value) => JSON.parse(JSON.stringify(value)) as unknown);
          const text = values.map((value) => JSON.stringify(value)).join(" ");
          const stream = new JsonStream();
          const got: unknown[] = [];
          let at = 0;
          for (const cut of cuts) {
            got.push(...stream.push(text.slice(at, at + cut)));
            at += cut;
          }
          got.push(...stream.push(text.slice(at)));
          assert.deepEqual(got, plain);
        },
      ),
    );
  });
});
