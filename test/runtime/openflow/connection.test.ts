import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import fc from "fast-check";
import { CodecError, RangeViolation } from "ebpf-assembler";
import {
  ALL_VERSIONS,
  Connection,
  decodeHello,
  encodeHello,
  encodeHelloFailed,
  Framer,
  Listener,
  openStream,
  parseTarget,
  Rconn,
  silentLog,
  StreamError,
  type Closed,
  type ConnectionEvents,
  type TlsFiles,
} from "#runtime";

const run = promisify(execFile);
const clock = (): number => performance.now();

/** A message of OpenFlow 1.3. */
const message = (type: number, xid: number, body: Uint8Array = new Uint8Array(0)): Buffer => {
  const bytes = Buffer.alloc(8 + body.length);
  bytes.writeUInt8(4, 0);
  bytes.writeUInt8(type, 1);
  bytes.writeUInt16BE(bytes.length, 2);
  bytes.writeUInt32BE(xid, 4);
  bytes.set(body, 8);
  return bytes;
};

const until = async (what: string, wanted: () => boolean): Promise<void> => {
  for (let i = 0; i < 500 && !wanted(); i++) await sleep(10);
  assert.ok(wanted(), what);
};

/** Keeps what happened. */
class Recorder implements ConnectionEvents {
  readonly opened: number[] = [];
  readonly messages: Buffer[] = [];
  readonly closed: Closed[] = [];
  connection: Connection | undefined;
  readonly onOpen = (connection: Connection): void => {
    this.connection = connection;
    this.opened.push(connection.version);
  };
  readonly onMessage = (_: Connection, bytes: Buffer): void => void this.messages.push(Buffer.from(bytes));
  readonly onClosed = (_: Connection, closed: Closed): void => void this.closed.push(closed);
}

describe("parseTarget()", () => {
  for (const [text, want] of [
    ["tcp:10.0.0.1", { isPassive: false, transport: "tcp", host: "10.0.0.1", port: 6653 }],
    ["tcp:[::1]:6633", { isPassive: false, transport: "tcp", host: "::1", port: 6633 }],
    ["ssl:controller.example:1", { isPassive: false, transport: "ssl", host: "controller.example", port: 1 }],
    ["unix:/tmp/a:b", { isPassive: false, transport: "unix", path: "/tmp/a:b" }],
    ["ptcp:", { isPassive: true, transport: "tcp", host: undefined, port: 6653 }],
    ["ptcp:6653:127.0.0.1", { isPassive: true, transport: "tcp", host: "127.0.0.1", port: 6653 }],
    ["pssl:0:[::]", { isPassive: true, transport: "ssl", host: "::", port: 0 }],
    ["punix:br0.mgmt", { isPassive: true, transport: "unix", path: "br0.mgmt" }],
  ] as const)
    it(`reads ${text}`, () => assert.deepEqual(parseTarget(text), { text, ...want }));
  for (const text of ["", "br0", "udp:1.2.3.4", "tcp:", "tcp:::1", "tcp:a:b", "tcp:a:65536", "ptcp:x", "unix:"])
    it(`refuses ${JSON.stringify(text)}`, () => assert.throws(() => parseTarget(text), RangeViolation));
});

describe("Framer", () => {
  it("gives the same messages however the stream is cut", () => {
    const bodies = fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 20 });
    fc.assert(
      fc.property(bodies, fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }), (all, cuts) => {
        const messages = all.map((body, i) => message(10, i, body));
        const bytes = Buffer.concat(messages);
        const framer = new Framer();
        const got: Buffer[] = [];
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const end = at + cuts[i % cuts.length]!;
          framer.push(bytes.subarray(at, end), (one) => got.push(Buffer.from(one)));
          at = end;
        }
        assert.deepEqual(got, messages);
        assert.equal(framer.pendingBytes, 0);
      }),
    );
  });
  it("refuses a length below that of a header", () =>
    assert.throws(() => new Framer().push(Buffer.from([4, 0, 0, 7, 0, 0, 0, 0]), () => undefined), CodecError));
});

describe("hellos", () => {
  it("offer a set of versions, by the header alone where that says it all", () => {
    assert.equal(encodeHello(ALL_VERSIONS, 1).toString("hex"), "0600000800000001");
    assert.equal(encodeHello(1 << 4, 2).toString("hex"), "04000010000000020001000800000010");
    for (const set of [ALL_VERSIONS, 1 << 1, 1 << 4, (1 << 1) | (1 << 4)])
      assert.equal(decodeHello(encodeHello(set, 0)), set);
  });
  it("of a version that does not exist yet offer the older ones", () =>
    assert.equal(decodeHello(Buffer.from("0900000800000001", "hex")) & ALL_VERSIONS, ALL_VERSIONS));
  it("with an element beyond their end are refused", () =>
    assert.throws(() => decodeHello(Buffer.from("0400001000000002000100ff00000010", "hex")), CodecError));
  it("without a version in common are answered in words", () =>
    assert.equal(
      encodeHelloFailed(1 << 1, 1 << 4, 7)
        .toString("latin1")
        .slice(12),
      "We support version 0x01, you support version 0x04, no common versions.",
    ));
});

describe("openflow connections", () => {
  const path = mkdtempSync(join(tmpdir(), "ofxdp-openflow-"));
  const target = `unix:${join(path, "s")}`;
  let recorder: Recorder;
  let listener: Listener;
  const listen = async (text: string, versions?: number, tls?: TlsFiles): Promise<void> => {
    recorder = new Recorder();
    listener = await Listener.open(parseTarget(text), tls, (stream, peer) => {
      new Connection(peer, stream, recorder, clock, versions);
    });
  };
  const raw = async (): Promise<Socket> => {
    const socket = connect(join(path, "s"));
    await once(socket, "connect");
    // One that does not read never sees the end.
    return socket.resume();
  };
  afterEach(() => listener[Symbol.dispose]());
  after(() => rmSync(path, { recursive: true }));

  it("ovs-ofctl finds the switch alive, over UNIX and TCP sockets", async () => {
    await listen(`p${target}`);
    await run("ovs-ofctl", ["probe", target]);
    listener[Symbol.dispose]();
    await listen("ptcp:0:127.0.0.1");
    await run("ovs-ofctl", ["-O", "OpenFlow13", "probe", `tcp:127.0.0.1:${listener.port}`]);
    assert.deepEqual(recorder.opened, [4]);
  });

  it("agree with ovs-ofctl on each version", async () => {
    await listen(`p${target}`);
    for (let version = 0; version < 6; version++)
      await run("ovs-ofctl", ["-O", `OpenFlow1${version}`, "probe", target]);
    assert.deepEqual(recorder.opened, [1, 2, 3, 4, 5, 6]);
  });

  it("tell ovs-ofctl why there is no version in common", async () => {
    await listen(`p${target}`, 1 << 1);
    await assert.rejects(run("ovs-ofctl", ["-O", "OpenFlow13", "probe", target]), /version negotiation failed/);
    assert.deepEqual(recorder.closed, [{ reason: "no version of OpenFlow in common with the peer", wasOpen: false }]);
  });

  it("end when the first message is no hello, or a length makes no sense", async () => {
    await listen(`p${target}`);
    (await raw()).write(message(5, 1));
    await until("closed", () => recorder.closed.length === 1);
    (await raw()).write(Buffer.from([4, 0, 0, 3, 0, 0, 0, 0]));
    await until("closed", () => recorder.closed.length === 2);
    assert.match(recorder.closed[0]!.reason, /want message type 0, got 5/);
    assert.match(recorder.closed[1]!.reason, /want a length of at least 8, got 3/);
  });

  it("handle messages in order, a few at a time, and take no more in than they handle", async () => {
    await listen(`p${target}`);
    const socket = await raw();
    const body = new Uint8Array(1000);
    socket.write(
      Buffer.concat([encodeHello(ALL_VERSIONS, 0), ...Array.from({ length: 5000 }, (_, i) => message(14, i, body))]),
    );
    await until("all", () => recorder.messages.length === 5000);
    assert.deepEqual(
      recorder.messages.map((one) => one.readUInt32BE(4)),
      Array.from({ length: 5000 }, (_, i) => i),
    );
    socket.destroy();
    await until("closed", () => recorder.closed.length === 1);
    assert.equal(recorder.closed[0]!.wasOpen, true);
  });

  it("are congested while the peer does not read, and say nothing after their end", async () => {
    await listen(`p${target}`);
    const socket = await raw();
    socket.pause().write(encodeHello(ALL_VERSIONS, 0));
    await until("open", () => recorder.connection !== undefined);
    const connection = recorder.connection!;
    while (!connection.isCongested) connection.send(Buffer.alloc(60_000, message(10, 0)));
    socket.destroy();
    await until("closed", () => recorder.closed.length === 1);
    const { sent } = connection.stats;
    connection.send(message(10, 0));
    assert.equal(connection.stats.sent, sent);
  });

  it("by SSL want a certificate of the authority on both sides", async () => {
    const pem = (name: string): string => join(path, `${name}.pem`);
    const openssl = (...args: string[]): void => void execFileSync("openssl", args, { stdio: "ignore" });
    const ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    for (const ca of ["ca", "other"])
      openssl("req", "-x509", ...ec, "-keyout", pem(`${ca}-key`), "-out", pem(ca), "-subj", `/CN=${ca}`);
    const files = (name: string, ca: string): TlsFiles => {
      openssl(
        "req",
        ...ec.slice(0, 5),
        "-keyout",
        pem(`${name}-key`),
        "-out",
        pem(`${name}-req`),
        "-subj",
        `/CN=${name}`,
      );
      openssl(
        ...["x509", "-req", "-in", pem(`${name}-req`), "-CA", pem(ca), "-CAkey", pem(`${ca}-key`)],
        ...["-CAcreateserial", "-days", "2", "-out", pem(name)],
      );
      return { privateKey: pem(`${name}-key`), certificate: pem(name), caCert: pem(ca) };
    };
    await listen("pssl:0:127.0.0.1", undefined, files("switch", "ca"));
    const peer = `ssl:127.0.0.1:${listener.port}`;
    const [good, bad] = [files("good", "ca"), files("bad", "other")];
    const ofctl = ({ privateKey, certificate, caCert }: TlsFiles): Promise<unknown> =>
      run("ovs-ofctl", ["-t", "3", "-p", privateKey, "-c", certificate, "-C", caCert, "probe", peer]);
    await ofctl(good);
    assert.equal(recorder.opened.length, 1);
    await assert.rejects(ofctl(bad));
    assert.equal(recorder.opened.length, 1);
    const { signal } = new AbortController();
    (await openStream(parseTarget(peer), good, signal)).destroy();
    await assert.rejects(openStream(parseTarget(peer), bad, signal), StreamError);
    assert.throws(() => void Listener.open(parseTarget("pssl:0"), undefined, () => undefined), /want --private-key/);
  });
});

describe("Rconn", () => {
  it("connects when the controller comes, and again when it went, with longer and longer pauses", async () => {
    const path = mkdtempSync(join(tmpdir(), "ofxdp-rconn-"));
    const target = parseTarget(`unix:${join(path, "c")}`);
    const recorder = new Recorder();
    const rconn = new Rconn({ target, clock, log: silentLog, maxBackoffMs: 50 }, recorder);
    try {
      await until("refused", () => rconn.lastError !== undefined);
      assert.match(rconn.lastError!, /^Cannot connect to unix:.*ENOENT/);
      const peers: Socket[] = [];
      const open = (): Promise<Listener> =>
        Listener.open(parseTarget(`p${target.text}`), undefined, (stream) => {
          stream.write(encodeHello(1 << 4, 0));
          peers.push(stream.on("error", () => undefined).resume() as Socket);
        });
      using _first = await open();
      await until("open", () => recorder.opened.length === 1);
      assert.equal(rconn.state, "ACTIVE");
      peers[0]!.destroy();
      await until("open again", () => recorder.opened.length === 2);
      assert.deepEqual(recorder.opened, [4, 4]);
      assert.equal(recorder.closed.length, 1);
    } finally {
      rconn[Symbol.dispose]();
      rmSync(path, { recursive: true });
    }
  });

  it("asks a silent controller whether it is there, and leaves one that does not answer", async () => {
    const path = mkdtempSync(join(tmpdir(), "ofxdp-rconn-"));
    const target = parseTarget(`unix:${join(path, "c")}`);
    const recorder = new Recorder();
    let heard = Buffer.alloc(0);
    using _listener = await Listener.open(parseTarget(`p${target.text}`), undefined, (stream) => {
      stream.write(encodeHello(1 << 4, 0));
      stream.on("data", (bytes: Buffer) => void (heard = Buffer.concat([heard, bytes]))).on("error", () => undefined);
    });
    using _rconn = new Rconn({ target, clock, log: silentLog, probeMs: 50, maxBackoffMs: 10_000 }, recorder);
    await until("closed", () => recorder.closed.length === 1);
    assert.match(recorder.closed[0]!.reason, /^no response to inactivity probe after/);
    assert.equal(heard.subarray(8).toString("hex"), "0402000800000000", "one echo request after the hello");
    rmSync(path, { recursive: true });
  });
});
