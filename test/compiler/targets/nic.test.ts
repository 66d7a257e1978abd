import assert from "node:assert/strict";
import { CompileError, Vm, type MapSpec } from "ebpf-assembler";
import { linux, loadObject } from "libbpf-ts";
import {
  applyFlowMod,
  check,
  compileOffload,
  extract,
  FIRST_SHAPE,
  forecastPlan,
  IrBuilder,
  newFlow,
  NFP,
  NIC_OUTPUT,
  parseFlowMods,
  putCompactKey,
  putKey,
  refusalsOfObject,
  refusalsOfProgram,
  SHAPE_DROP,
  Switch,
  VALUE,
  type DatapathPlan,
  type NicProfile,
} from "#compiler";

const switchOf = (flows: string): Switch => {
  const sw = new Switch({ failMode: "secure" });
  for (const number of [1, 2]) sw.setPort({ number });
  for (const mod of parseFlowMods(flows, { file: "a.flows" })) applyFlowMod(sw, mod, 0);
  return sw;
};

const FLOWS = `priority=20,ip,nw_dst=10.0.0.0/24 actions=drop
priority=10,ip,nw_dst=10.0.1.0/24 actions=mod_dl_dst:02:00:00:00:00:02,dec_ttl,IN_PORT
priority=5,arp actions=LOCAL
`;

/** UDP to 10.0.1.5, TTL 64, in a frame of 64 bytes. */
const packet = (): Uint8Array => {
  const out = new Uint8Array(64);
  out.set([
    2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 1, 5,
  ]);
  return out;
};

/** Puts the packet's megaflow into the exact-match table, runs the program and tells the verdict and the packet. */
const runWith = (
  plan: DatapathPlan,
  sw: Switch,
  fill: (value: DataView) => void,
): { verdict: number; packet: Uint8Array } => {
  const vm = new Vm(compileOffload(sw, plan, NFP));
  const flow = newFlow();
  extract(packet(), packet().length, 1, flow);
  const fullKey = new Uint8Array(plan.key.size);
  putKey(plan.key, flow, 0, fullKey);
  const key = new Uint8Array(plan.exact.keySize);
  putCompactKey(plan.exact, fullKey, key);
  const value = new Uint8Array(plan.valueSize);
  fill(new DataView(value.buffer));
  vm.map(plan.exact.map).update(key, value);
  const { verdict, packet: after } = vm.run("main_offload", { hook: "xdp", packet: packet(), ingressIfindex: 7 });
  return { verdict, packet: after };
};

const refusalOf = (flows: string, profile: NicProfile = NFP): string[] => {
  const sw = switchOf(flows);
  try {
    compileOffload(sw, forecastPlan(sw), profile);
    return [];
  } catch (error) {
    assert.ok(error instanceof CompileError);
    return error.diagnostics.map(({ file, line, message }) => `${file}:${line}: ${message}`);
  }
};

describe("compileOffload()", () => {
  it("makes hash maps without flags and a program without host helpers, which the host's verifier takes, too", () => {
    const sw = switchOf(FLOWS);
    const object = compileOffload(sw, forecastPlan(sw), NFP);
    assert.ok(object.maps.length > 1);
    for (const { type, flags, maxEntries } of object.maps) {
      assert.deepEqual({ type, flags }, { type: "hash", flags: 0 });
      assert.ok(maxEntries <= NFP.maxEntries);
    }
    loadObject(linux(), object)[Symbol.dispose]();
  });

  it("passes what misses to the host", () => {
    const sw = switchOf(FLOWS);
    const vm = new Vm(compileOffload(sw, forecastPlan(sw), NFP));
    assert.equal(vm.run("main_offload", { hook: "xdp", packet: packet(), ingressIfindex: 7 }).verdict, 2);
  });

  it("drops, sends back rewritten packets and passes up by the megaflow", () => {
    const sw = switchOf(FLOWS);
    const plan = forecastPlan(sw);
    const drop = runWith(plan, sw, (value) => value.setUint32(VALUE.shape, SHAPE_DROP, true));
    assert.equal(drop.verdict, 1);
    const rewriting = plan.shapes.find(({ text }) => text.includes("nw_ttl"));
    assert.ok(rewriting);
    assert.ok(rewriting.id >= FIRST_SHAPE);
    for (const [output, verdict] of [
      [NIC_OUTPUT.hairpin, 3],
      [NIC_OUTPUT.host, 2],
    ] as const) {
      const run = runWith(plan, sw, (value) => {
        value.setUint32(VALUE.shape, rewriting.id, true);
        rewriting.example.forEach((action, i) => {
          const at = VALUE.args + rewriting.offsets[i]!;
          if (action.kind === "output") value.setUint32(at, output, true);
          else if (action.kind === "set") action.bytes.forEach((byte, j) => value.setUint8(at + j, byte));
        });
      });
      assert.equal(run.verdict, verdict);
      assert.deepEqual([...run.packet.subarray(0, 6)], [2, 0, 0, 0, 0, 2]);
      assert.equal(run.packet[22], 63);
    }
  });

  for (const { flows, profile, want } of [
    {
      flows: "ip actions=drop\nudp actions=output:2",
      want: /^a\.flows:2: nfp does not carry action output:2: .*what fits: drop, output:IN_PORT, output:LOCAL$/,
    },
    { flows: "actions=NORMAL", want: /^a\.flows:1: nfp does not carry action NORMAL: / },
    {
      flows: "actions=write_actions(controller)",
      want: /^a\.flows:1: nfp does not carry action (controller|CONTROLLER)/,
    },
    { flows: "in_port=1 actions=IN_PORT", want: /^a\.flows:1: nfp does not carry field in_port: one program serves/ },
    {
      flows: "icmp6,icmp_type=135 actions=set_field:fe80::1->nd_target,IN_PORT",
      want: /^a\.flows:1: nfp does not carry what only user space does: set of nd_target: .*; what fits: one output/,
    },
    {
      flows: "ip,nw_dst=10.0.0.0/24 actions=IN_PORT",
      profile: { ...NFP, maxKeyBytes: 8 },
      want: /^a\.flows:1: nfp does not carry a key of 1?\d+ bytes: keys have at most 8 bytes/,
    },
    {
      flows: "actions=IN_PORT",
      profile: { ...NFP, maxInstructions: 20 },
      want: /nfp does not carry program main_offload: \d+ instructions, it takes 20; what fits: fewer masks/,
    },
  ] as readonly { flows: string; profile?: NicProfile; want: RegExp }[])
    it(`refuses, naming flow, limit and what fits: ${flows.replaceAll("\n", " | ")}`, () => {
      const messages = refusalOf(flows, profile);
      assert.ok(
        messages.some((message) => want.test(message)),
        messages.join("\n"),
      );
    });
});

describe("refusalsOfProgram()", () => {
  const refused = (build: (b: IrBuilder) => void): string[] => {
    const b = new IrBuilder("p", "xdp");
    build(b);
    return refusalsOfProgram(check(b.finish()), NFP).map(({ limit }) => limit);
  };

  for (const { name, build, want } of [
    {
      name: "nothing of a look-up with a counter",
      build: (b) => {
        const none = b.block("none");
        const key = b.slot("key", 8);
        b.store("u64", key, 0, 1);
        const value = b.call("map_lookup_elem", [{ map: "m" }, { at: key, off: 0 }], "map_value");
        b.unless("eq", value, 0, none);
        b.atomicAdd("u64", value, 0, b.ctx("packet_len"));
        b.place(none);
        b.ret(2);
      },
      want: [],
    },
    {
      name: "redirects, by helper and by verdict",
      build: (b) => b.ret(b.call("redirect_map", [{ map: "m" }, 0, 0])),
      want: ["it has no helper redirect_map", "the verdict of a helper is none of its own"],
    },
    { name: "a verdict that it has not", build: (b) => b.ret(4), want: ["4 is none of its verdicts"] },
    {
      name: "context fields beyond the packet",
      build: (b) => b.ret(b.alu("and", b.ctx("ingress_ifindex"), 3)),
      want: ["programs cannot read ingress_ifindex"],
    },
    {
      name: "map values at fixed addresses",
      build: (b) => {
        b.load("u32", b.mapValue("m", 0), 0);
        b.ret(2);
      },
      want: ["values of its maps have no fixed address"],
    },
    {
      name: "tail calls",
      build: (b) => {
        const empty = b.block("empty");
        b.tailCall("m", 0, empty);
        b.place(empty);
        b.ret(2);
      },
      want: ["it has no tail calls"],
    },
    {
      name: "wide products, quotients by what is not constant",
      build: (b) => {
        const len = b.ctx("packet_len");
        const wide = b.alu("mul", b.alu("lsh", len, 32), 3);
        b.alu("mul", len, 3);
        b.alu("div", len, b.alu("or", len, 1));
        b.ret(b.alu("and", wide, 3));
      },
      want: ["it multiplies and divides 32 bits", "it divides by constants only"],
    },
  ] as readonly { name: string; build: (b: IrBuilder) => void; want: string[] }[])
    it(`names ${name}`, () => assert.deepEqual(refused(build), want));
});

describe("refusalsOfObject()", () => {
  const map: MapSpec = { name: "m", type: "hash", keySize: 8, valueSize: 16, maxEntries: 8, flags: 0 };
  for (const { change, want } of [
    { change: {}, want: [] },
    { change: { type: "lru_hash" }, want: ["it has no maps of type lru_hash"] },
    { change: { flags: 1 }, want: ["it takes no map flags, want 0, not 1"] },
    { change: { maxEntries: 40_000 }, want: ["40000 entries, it takes 32768"] },
    { change: { keySize: 128 }, want: ["128 bytes of key, it takes 64", "144 bytes per entry, it takes 128"] },
    { change: { valueSize: 72 }, want: ["72 bytes of value, it takes 64"] },
  ] as readonly { change: Partial<MapSpec>; want: string[] }[])
    it(`of a map with ${JSON.stringify(change)}: ${want.join("; ") || "nothing"}`, () => {
      const object = { license: "GPL", maps: [{ ...map, ...change }], programs: [] };
      assert.deepEqual(
        refusalsOfObject(object, NFP).map(({ limit }) => limit),
        want,
      );
    });
});
