import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  BpfMap,
  install,
  Link,
  linux,
  loadObject,
  Program,
  Rtnl,
  statusOf,
  SyscallError,
  uninstall,
  VerifierError,
  type LoadedObject,
} from "libbpf-ts";
import type { MapSpec, ObjectSpec } from "ebpf-assembler";
import {
  checkNoLeaks,
  exit,
  loadMap,
  mapSpec,
  movImm,
  openFds,
  programSpec,
  returning,
  u32,
  u64,
} from "../loader/fixtures.js";
import { eventually } from "../runtime/lab.js";
import { hasNetdevsim, Netdevsim, NETDEVSIM_MAX_ENTRIES, type Knob } from "../support/netdevsim.js";
import { skip } from "../support/skip.js";

const [XDP_DROP, XDP_PASS] = [1, 2];
const NO_MAPS = new Map<string, never>();
const DEVICE = 61;

/** An XDP program that refers to a map as large as the device takes. */
const object = (verdict: number): ObjectSpec => ({
  license: "GPL",
  maps: [mapSpec("table", { maxEntries: NETDEVSIM_MAX_ENTRIES })],
  programs: [
    programSpec("xdp_main", [loadMap(1), movImm(0, verdict), exit()], {
      relocations: [{ insn: 0, kind: "map", map: "table", offset: 0 }],
    }),
  ],
});

const isErrno =
  (name: string) =>
  (error: unknown): boolean =>
    error instanceof SyscallError && error.errnoName === name;

describe("offload to a network device", () => {
  checkNoLeaks();
  const sys = linux();
  let device: Netdevsim;
  before(function () {
    if (!hasNetdevsim()) skip(this, "needs netdevsim: npm run test:vm");
  });
  beforeEach(() => {
    device = new Netdevsim(DEVICE);
  });
  afterEach(() => device[Symbol.dispose]());

  /** The kernel takes programs off some time after their last use. */
  const isBare = () => device.programs().length === 0;
  const index = () => device.interface.index;
  const load = (verdict: number): LoadedObject => loadObject(sys, object(verdict), { ifindex: index() });
  const loadProgram = (verdict: number): Program =>
    Program.load(sys, returning("bound", verdict), NO_MAPS, { ifindex: index() });
  const createMap = (more: Partial<MapSpec> = {}): BpfMap =>
    BpfMap.create(sys, mapSpec("table", { maxEntries: NETDEVSIM_MAX_ENTRIES, ...more }), { ifindex: index() });
  const xdp = () => {
    using rtnl = Rtnl.open(sys);
    return rtnl.get(index()).xdp;
  };

  it("loadObject() binds programs and maps to the device, and dispose takes them off", async () => {
    {
      using loaded = load(XDP_PASS);
      const { id, ifindex } = loaded.program("xdp_main").info;
      assert.equal(ifindex, index());
      assert.deepEqual(device.programs(), [{ id, state: "xlated", isLoaded: false }]);
      assert.equal(loaded.map("table").info.ifindex, index());
    }
    assert.ok(await eventually(isBare), "the program is gone");
  });

  it("Program.load() tells where a program is refused by the verifier, as on the host", async () => {
    const spec = programSpec("bad", [exit()]);
    assert.throws(
      () => Program.load(sys, spec, NO_MAPS, { ifindex: index() }),
      (e) => e instanceof VerifierError && e.insn === 0 && e.log.some((line) => /^R0 !read_ok/.test(line)),
    );
    assert.ok(await eventually(isBare));
  });

  it("Link.xdp() puts a program into the hardware, dispose takes it out", () => {
    using program = loadProgram(XDP_PASS);
    const { id } = program.info;
    {
      using link = Link.xdp(sys, program, index(), "offload");
      assert.equal(link.info.programId, id);
      assert.deepEqual(xdp(), { offload: id });
      assert.equal(device.offloadedId, id);
      assert.deepEqual(device.programs(), [{ id, state: "xlated", isLoaded: true }]);
      assert.match(execFileSync("ip", ["link", "show", device.interface.name], { encoding: "utf8" }), /xdpoffload/);
    }
    assert.deepEqual(xdp(), {});
    assert.equal(device.offloadedId, 0);
  });

  it("Link.update() replaces by another bound program, and refuses one of the host", () => {
    using first = loadProgram(XDP_PASS);
    using second = loadProgram(XDP_DROP);
    using host = Program.load(sys, returning("host", XDP_PASS), NO_MAPS);
    using link = Link.xdp(sys, first, index(), "offload");
    link.update(second);
    assert.deepEqual(xdp(), { offload: second.info.id });
    assert.deepEqual(
      device.programs().map((p) => p.isLoaded),
      [false, true],
    );
    assert.throws(() => link.update(host), isErrno("EINVAL"));
    assert.deepEqual(xdp(), { offload: second.info.id });
  });

  it("the driver's hook carries a host program beside the one in the hardware", () => {
    using bound = loadProgram(XDP_PASS);
    using host = Program.load(sys, returning("host", XDP_PASS), NO_MAPS);
    using _offloaded = Link.xdp(sys, bound, index(), "offload");
    using _native = Link.xdp(sys, host, index(), "native");
    assert.deepEqual(xdp(), { offload: bound.info.id, native: host.info.id });
  });

  it("a bound program attaches to no other device and to no other mode, and does not run on the host", () => {
    using other = new Netdevsim(DEVICE + 1);
    using bound = loadProgram(XDP_PASS);
    assert.throws(() => Link.xdp(sys, bound, other.interface.index, "offload"), isErrno("EINVAL"));
    assert.throws(() => Link.xdp(sys, bound, index(), "generic"), isErrno("EINVAL"));
    assert.throws(() => bound.testRun({ data: new Uint8Array(64) }), isErrno("ENOTSUPP"));
    assert.deepEqual([xdp(), device.offloadedId], [{}, 0]);
  });

  for (const type of ["hash", "array"] as const)
    it(`BpfMap of type ${type} on the device: update, look up, delete`, () => {
      using map = createMap({ type });
      map.update(u32(0), u64(7n));
      map.update(u32(1), u64(8n));
      map.update(u32(1), u64(9n));
      const read = (key: number) => (map.lookup(u32(key)) ? map.value.slice() : undefined);
      assert.deepEqual([read(0), read(1)], [u64(7n), u64(9n)]);
      if (type === "hash") {
        assert.throws(() => map.update(u32(2), u64(1n)), isErrno("E2BIG"));
        assert.equal(map.delete(u32(0)), true);
        assert.equal(map.delete(u32(0)), false);
        assert.deepEqual([read(0), read(1)], [undefined, u64(9n)]);
        map.update(u32(2), u64(1n));
        assert.deepEqual(read(2), u64(1n));
      } else assert.throws(() => map.delete(u32(0)), isErrno("EINVAL"));
    });

  it("BpfMap.create() tells the errno of a map that the device cannot hold, and leaves nothing", () => {
    const before = openFds();
    assert.throws(() => createMap({ maxEntries: NETDEVSIM_MAX_ENTRIES + 1 }), isErrno("ENOMEM"));
    assert.throws(() => createMap({ type: "lru_hash" }), isErrno("EINVAL"));
    assert.throws(() => createMap({ type: "percpu_array" }), isErrno("EINVAL"));
    assert.throws(() => createMap({ flags: 1 }), isErrno("EINVAL"));
    assert.deepEqual(openFds(), before);
  });

  describe("refused by the device", () => {
    for (const [knob, what, attempt] of [
      ["bpf_bind_accept", "a program", () => load(XDP_PASS)],
      ["bpf_bind_verifier_accept", "an instruction", () => load(XDP_PASS)],
      ["bpf_map_accept", "a map", () => load(XDP_PASS)],
    ] as const satisfies readonly (readonly [Knob, string, () => unknown])[])
      it(`${what}: loadObject() throws, and leaves nothing there`, async () => {
        device.set(knob, false);
        const before = openFds();
        assert.throws(attempt, /EOPNOTSUPP/);
        assert.deepEqual(openFds(), before);
        assert.ok(await eventually(isBare));
        device.set(knob, true);
        load(XDP_PASS)[Symbol.dispose]();
      });

    it("the attachment: Link.xdp() throws, and the program stays loaded", () => {
      using program = loadProgram(XDP_PASS);
      device.set("bpf_xdpoffload_accept", false);
      assert.throws(() => Link.xdp(sys, program, index(), "offload"), /EOPNOTSUPP/);
      assert.deepEqual([xdp(), device.programs().map((p) => p.isLoaded)], [{}, [false]]);
    });

    it("a replacement: Link.update() throws, and the old program stays in the hardware", () => {
      using first = loadProgram(XDP_PASS);
      using second = loadProgram(XDP_DROP);
      using link = Link.xdp(sys, first, index(), "offload");
      device.set("bpf_xdpoffload_accept", false);
      assert.throws(() => link.update(second), /EOPNOTSUPP/);
      assert.deepEqual([xdp(), device.offloadedId], [{ offload: first.info.id }, first.info.id]);
    });
  });

  it("a program and a map whose device goes away stay as shells, which can be closed", () => {
    using map = createMap();
    using program = loadProgram(XDP_PASS);
    using link = Link.xdp(sys, program, index(), "offload");
    device[Symbol.dispose]();
    assert.throws(() => map.update(u32(0), u64(1n)), isErrno("ENODEV"));
    assert.throws(() => map.lookup(u32(0)), isErrno("ENODEV"));
    assert.equal(link.info.ifindex, 0);
  });

  describe("install() and uninstall()", () => {
    let root: string;
    beforeEach(() => {
      root = mkdtempSync(join(tmpdir(), "offload-"));
    });
    afterEach(() => rmSync(root, { recursive: true }));

    const status = () => {
      using rtnl = Rtnl.open(sys);
      return statusOf(sys, rtnl, device.interface.name, root).programs.map((p) => [p.hook, p.programId, p.isOurs]);
    };
    const put = (verdict: number) =>
      install(sys, object(verdict), device.interface.name, { hook: "offload", bpffs: root });

    it("load on the hardware, replace there, and leave the device as it was", async () => {
      const before = openFds();
      const first = put(XDP_PASS);
      assert.deepEqual([first.hook, first.hasReplaced], ["offload", false]);
      assert.deepEqual(status(), [["offload", first.programId, true]]);
      const second = put(XDP_DROP);
      assert.deepEqual([second.hook, second.hasReplaced], ["offload", true]);
      assert.equal(device.offloadedId, second.programId);
      uninstall(sys, device.interface.name, root);
      assert.deepEqual([status(), device.offloadedId, openFds()], [[], 0, before]);
      assert.ok(await eventually(isBare));
    });

    it("a refused replacement leaves the old program in the hardware", () => {
      const { programId } = put(XDP_PASS);
      device.set("bpf_bind_accept", false);
      assert.throws(() => put(XDP_DROP), /EOPNOTSUPP/);
      assert.deepEqual([status(), device.offloadedId], [[["offload", programId, true]], programId]);
      uninstall(sys, device.interface.name, root);
    });
  });
});
