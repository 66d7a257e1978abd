// The reference translator on tables written by hand; what a packet does in OVS is the other test's matter.

import assert from "node:assert/strict";
import {
  carrierOf,
  FIELD_BYTES,
  learnFrom,
  matchField,
  newFlow,
  PORT,
  set,
  setBytes,
  Switch,
  translate,
  FLOW,
  get,
  type Action,
  type FieldName,
  type Flow,
  type FlowWords,
  type Member,
} from "#compiler";

const bytesOf = (value: bigint, size: number): Uint8Array =>
  Uint8Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * (size - 1 - i))) & 0xffn));

const flow = (
  fields: Partial<Record<FieldName, bigint>>,
  actions: readonly Action[],
  rest: Partial<Flow> = {},
): Flow => {
  const match = { value: newFlow(), mask: newFlow() };
  for (const [field, value] of Object.entries(fields) as [FieldName, bigint][]) {
    matchField(match, field, bytesOf(value, FIELD_BYTES[field]));
  }
  return {
    table: 0,
    priority: 100,
    cookie: 0n,
    idleTimeout: 0,
    hardTimeout: 0,
    importance: 0,
    flags: [],
    match,
    actions,
    ...rest,
  };
};

const packet = (members: Partial<Record<Member, bigint>>): FlowWords => {
  const words = newFlow();
  for (const [member, value] of Object.entries(members) as [Member, bigint][]) {
    const { at, bits } = FLOW[member];
    setBytes(words, at, bits, bytesOf(value, (bits + 7) >>> 3));
  }
  return words;
};

const switchOf = (flows: readonly Flow[], ports = [1, 2, 3], failMode: "standalone" | "secure" = "secure"): Switch => {
  const sw = new Switch({ failMode });
  for (const number of ports) sw.setPort({ number });
  for (const one of flows) sw.add(one, 0);
  return sw;
};

const out = (port: number): Action => ({ kind: "output", port, maxLen: 0 });
const udp = {
  in_port: 1n,
  dl_src: 0x020000000001n,
  dl_dst: 0x020000000002n,
  dl_type: 0x0800n,
  nw_proto: 17n,
  nw_ttl: 64n,
};

describe("translate()", () => {
  it("handles fragments by the mode of the switch, and knows of others that they are none", () => {
    const tcp = { eth_type: 0x800n, nw_proto: 6n } as const;
    const to = (port: number): Action => ({ kind: "output", port, maxLen: 0 });
    const sw = switchOf([
      flow({ ...tcp, tcp_dst: 80n }, [to(2)]),
      flow({ eth_type: 0x800n }, [to(3)], { priority: 1 }),
    ]);
    const of = (frag: bigint): FlowWords =>
      packet({ in_port: 1n, dl_type: 0x800n, nw_proto: 6n, nw_frag: frag, tp_dst: frag === 3n ? 0n : 80n });
    const [whole, first, later] = [of(0n), of(1n), of(3n)];
    for (const [mode, ...ports] of [
      ["normal", [2], [3], [3]],
      ["nx-match", [2], [2], [3]],
      ["drop", [2], [], []],
    ] as const) {
      sw.setFragMode(mode);
      const sent = [whole, first, later].map((each) =>
        translate(sw, each).actions.map((action) => (action.kind === "output" ? action.port : action.kind)),
      );
      assert.deepEqual(sent, ports, mode);
      assert.equal(get(translate(sw, whole).mask, "nw_frag"), 3, mode);
    }
    assert.ok(translate(sw, packet({ in_port: 1n, dl_type: 0x800n })).looksAtFrag);
    const heard: unknown[] = [];
    sw.follow((change) => heard.push(change));
    sw.setFragMode("normal");
    assert.deepEqual(heard, ["fragments"]);
  });

  it("drops on a miss, having looked at port, type and fragment only", () => {
    const { actions, mask, rules } = translate(switchOf([]), packet(udp));
    assert.deepEqual(actions, []);
    assert.deepEqual(rules, []);
    const expected = newFlow();
    set(expected, "in_port", 0xffffffff);
    set(expected, "dl_type", 0xffff);
    set(expected, "nw_frag", 3);
    assert.deepEqual(mask, expected);
  });

  it("decrements the TTL before the output and sends nothing back to where it came from", () => {
    const sw = switchOf([flow({}, [{ kind: "dec_ttl", ids: [0] }, out(1), out(2)])]);
    const { actions } = translate(sw, packet(udp));
    assert.deepEqual(actions, [
      { kind: "set", target: "nw_ttl", bytes: Uint8Array.of(63), family: "ipv4", proto: 0 },
      { kind: "output", port: 2 },
    ]);
  });

  it("sends an expired packet to the controller", () => {
    const sw = switchOf([flow({}, [{ kind: "dec_ttl", ids: [0] }, out(2)], { cookie: 7n })]);
    const { actions } = translate(sw, packet({ ...udp, nw_ttl: 1n }));
    const sent = { kind: "controller", reason: "invalid_ttl", maxLen: 65535, controllerId: 0, table: 0, cookie: 7n };
    assert.deepEqual(
      actions.map((action) => ({ ...action, metadata: undefined })),
      [{ ...sent, metadata: undefined }],
    );
    assert.match(carrierOf(actions).slow ?? "", /controller/);
  });

  it("NORMAL floods, learns from what it saw when asked, and then sends to the learned port", () => {
    const sw = switchOf([], [1, 2, 3], "standalone");
    const first = translate(sw, packet(udp));
    assert.deepEqual(first.actions, [
      { kind: "output", port: 2 },
      { kind: "output", port: 3 },
    ]);
    const version = sw.version;
    assert.equal(translate(sw, packet(udp)).learns.length, 1);
    assert.equal(sw.version, version, "translating has no side effect");
    assert.ok(learnFrom(sw, first, 0));
    assert.ok(sw.version > version);
    const back = packet({ ...udp, in_port: 3n, dl_src: udp.dl_dst, dl_dst: udp.dl_src });
    assert.deepEqual(translate(sw, back).actions, [{ kind: "output", port: 1 }]);
  });

  it("gives up beyond 64 backward resubmits", () => {
    const sw = switchOf([flow({}, [{ kind: "resubmit", table: 0 }, out(2)])]);
    const { actions, error } = translate(sw, packet(udp));
    assert.deepEqual(actions, []);
    assert.equal(error, "recursion_too_deep");
  });

  it("carries the action set out at the end, in its order", () => {
    const sw = switchOf([
      flow({}, [{ kind: "write_actions", actions: [out(PORT.IN_PORT), { kind: "push_vlan", ethertype: 0x8100 }] }]),
    ]);
    assert.deepEqual(translate(sw, packet(udp)).actions, [
      { kind: "push_vlan", tpid: 0x8100, tci: 0 },
      { kind: "output", port: 1 },
    ]);
  });

  it("marks all of a tag that comes back behind a group that popped it", () => {
    const sw = switchOf([]);
    const bucket = { id: 0, weight: 1, actions: [{ kind: "strip_vlan", spelling: "strip_vlan" }, out(2)] } as const;
    sw.addGroup({ id: 1, type: "all", buckets: [bucket] }, 0);
    sw.add(flow({}, [{ kind: "group", group: 1 }, out(3)]), 0);
    const tagged = packet({ ...udp, vlan0_tpid: 0x8100n, vlan0_tci: 0xb005n });
    const { actions, mask } = translate(sw, tagged);
    assert.deepEqual(
      actions.map(({ kind }) => kind),
      ["pop_vlan", "output", "push_vlan", "output"],
    );
    assert.deepEqual([get(mask, "vlan0_tci"), get(mask, "vlan0_tpid")], [0xffff, 0xffff]);
  });
});
