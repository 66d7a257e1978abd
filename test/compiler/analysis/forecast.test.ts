import assert from "node:assert/strict";
import { forecast, keyLayout, parseFlows, relevantMembers, shapeOf, Switch } from "#compiler";

const switchOf = (...flows: readonly string[]): Switch => {
  const sw = new Switch();
  for (const number of [1, 2, 3]) sw.setPort({ number });
  for (const flow of parseFlows(flows.join("\n"), { file: "test.flows" })) sw.add(flow, 0);
  return sw;
};

describe("relevantMembers()", () => {
  const rows: readonly { name: string; flows: readonly string[]; want: readonly string[] }[] = [
    { name: "nothing but port and type for a table that drops", flows: ["actions=drop"], want: ["dl_type", "in_port"] },
    {
      name: "the MAC address that is matched",
      flows: ["dl_dst=02:00:00:00:00:01,actions=2"],
      want: ["dl_dst", "dl_type", "in_port"],
    },
    {
      name: "what gives a port its meaning",
      flows: ["tcp,tp_dst=80,actions=2"],
      want: ["dl_type", "in_port", "nw_proto", "tp_dst"],
    },
    {
      name: "the TTL that an action of a later table counts down",
      flows: ["actions=goto_table:1", "table=1,ip,actions=dec_ttl,2"],
      want: ["dl_type", "in_port", "nw_proto", "nw_ttl"],
    },
    {
      name: "what NORMAL learns by",
      flows: ["actions=NORMAL"],
      want: ["dl_dst", "dl_src", "dl_type", "in_port", "vlan0_tci"],
    },
    {
      name: "no register",
      flows: ["reg0=1,actions=2", "actions=load:1->NXM_NX_REG0[],2"],
      want: ["dl_type", "in_port"],
    },
  ];
  for (const { name, flows, want } of rows) {
    it(`finds ${name}`, () => {
      assert.deepEqual([...relevantMembers(switchOf(...flows))].sort(), want);
    });
  }
});

describe("forecast()", () => {
  it("finds the shape and the mask of a routed flow and says which flow they are for", () => {
    const sw = switchOf(
      "table=0,ip,nw_dst=10.0.2.0/24 actions=dec_ttl,mod_dl_src:02:00:00:00:00:fe,goto_table:1",
      "table=1,actions=output:2",
    );
    const { shapes, masks } = forecast(sw, keyLayout(relevantMembers(sw)));
    const routed = shapes.find(({ actions }) => shapeOf(actions) === "set:eth_src,set:nw_ttl:ipv4,output");
    assert.ok(routed !== undefined, shapes.map(({ actions }) => shapeOf(actions)).join(" "));
    assert.equal(routed.from.line, 2);
    assert.equal(routed.from.file, "test.flows");
    assert.ok(masks.length >= 2);
  });

  it("finds what lies behind a first table that lets only some packets by", () => {
    const sw = switchOf(
      "table=0,in_port=3,dl_vlan=7 actions=pop_vlan,goto_table:1",
      "table=1,ip,nw_dst=10.0.2.0/24 actions=mod_dl_src:02:00:00:00:00:fe,dec_ttl,output:1",
    );
    const { shapes } = forecast(sw, keyLayout(relevantMembers(sw)));
    assert.deepEqual(
      shapes.map(({ actions }) => shapeOf(actions)),
      ["set:eth_src,set:nw_ttl:ipv4,pop_vlan,output"],
    );
  });

  it("keeps to its limits", () => {
    const sw = switchOf(
      "ip,nw_dst=10.0.2.0/24 actions=output:1",
      "arp,actions=mod_dl_src:02:00:00:00:00:fe,2",
      "tcp6,tp_dst=80,actions=3",
    );
    const layout = keyLayout(relevantMembers(sw));
    const all = forecast(sw, layout);
    assert.ok(all.masks.length > 1 && all.shapes.length > 1);
    const few = forecast(sw, layout, { masks: 1, shapes: 1, packets: 20, candidates: 1000 });
    assert.deepEqual([few.masks.length, few.shapes.length], [1, 1]);
  });
});
