import assert from "node:assert/strict";
import { parseTunnelConfig, TunnelPorts, type TunnelConfig } from "#compiler";
import { RangeViolation } from "ebpf-assembler";

const DEFAULTS: Omit<TunnelConfig, "type" | "remote" | "dstPort"> = {
  local: undefined,
  inKey: undefined,
  outKey: undefined,
  tos: 0,
  ttl: 64,
  dontFragment: true,
  csum: false,
  seq: false,
  gbp: false,
};
const V4 = Uint8Array.of(1, 1, 1, 1);

describe("parseTunnelConfig()", () => {
  const good: readonly (readonly [text: string, want: Partial<TunnelConfig>])[] = [
    ["type=vxlan,remote_ip=1.1.1.1", { type: "vxlan", remote: V4, dstPort: 4789 }],
    [
      "type=geneve,options:remote_ip=flow,options:key=flow",
      { type: "geneve", remote: "flow", dstPort: 6081, inKey: "flow", outKey: "flow" },
    ],
    [
      "type=gre,remote_ip=1.1.1.1,in_key=0x10,out_key=flow,seq=true",
      { type: "gre", remote: V4, dstPort: 0, inKey: 16n, outKey: "flow", seq: true },
    ],
    [
      "type=vxlan,remote_ip=1.1.1.1,key=7,in_key=8",
      { type: "vxlan", remote: V4, dstPort: 4789, inKey: 8n, outKey: 7n },
    ],
    [
      "type=vxlan,remote_ip=1.1.1.1,local_ip=1.1.1.1,dst_port=9,exts=gbp,tos=inherit,ttl=inherit,df_default=false,csum=true",
      {
        type: "vxlan",
        remote: V4,
        local: V4,
        dstPort: 9,
        gbp: true,
        tos: "inherit",
        ttl: "inherit",
        dontFragment: false,
        csum: true,
      },
    ],
    ["type=vxlan,remote_ip=1.1.1.1,ttl=0,tos=0x20", { type: "vxlan", remote: V4, dstPort: 4789, tos: 32 }],
  ];
  for (const [text, want] of good)
    it(`takes ${text}`, () => assert.deepEqual(parseTunnelConfig(text), { ...DEFAULTS, ...want }));

  const bad: readonly (readonly [text: string, message: RegExp])[] = [
    ["type=stt,remote_ip=1.1.1.1", /Bad tunnel type "stt": want vxlan, geneve, gre/],
    ["type=vxlan", /want remote_ip/],
    ["type=vxlan,remote_ip=1.1.1", /remote_ip "1.1.1": want an address or flow/],
    ["type=vxlan,remote_ip=1.1.1.1,local_ip=flow", /local_ip=flow wants remote_ip=flow/],
    ["type=vxlan,remote_ip=1.1.1.1,local_ip=::1", /one family/],
    ["type=vxlan,remote_ip=1.1.1.1,key=0x1000000", /want flow or a number from 0 to 16777215/],
    ["type=gre,remote_ip=1.1.1.1,dst_port=5", /Bad tunnel option dst_port/],
    ["type=vxlan,remote_ip=1.1.1.1,tos=3", /no ECN bits/],
    ["type=vxlan,remote_ip=1.1.1.1,exts=gpe", /want gbp/],
    ["type=vxlan,remote_ip=1.1.1.1,csum=yes", /want true or false/],
    ["type=vxlan,remote_ip=1.1.1.1,key=1,key=2", /key is given twice/],
    ["type=vxlan,remote_ip", /want NAME=VALUE/],
  ];
  for (const [text, message] of bad)
    it(`refuses ${text}`, () =>
      assert.throws(
        () => parseTunnelConfig(text),
        (error) => error instanceof RangeViolation && message.test(error.message),
      ));
});

describe("TunnelPorts", () => {
  it("conflict() names the port that takes the same packets; a port that goes gives its place back", () => {
    const ports = new TunnelPorts();
    const config = parseTunnelConfig("type=vxlan,remote_ip=1.1.1.1,key=5");
    ports.set(3, config);
    assert.equal(ports.conflict(parseTunnelConfig("type=vxlan,remote_ip=1.1.1.1,in_key=5,tos=4")), 3);
    assert.equal(ports.conflict(parseTunnelConfig("type=vxlan,remote_ip=1.1.1.1,key=6")), undefined);
    ports.delete(3);
    assert.equal(ports.conflict(config), undefined);
    assert.equal(ports.size, 0);
  });

  it("vports keep their numbers when others go", () => {
    const ports = new TunnelPorts();
    ports.set(1, parseTunnelConfig("type=vxlan,remote_ip=flow"));
    ports.set(2, parseTunnelConfig("type=gre,remote_ip=flow"));
    ports.delete(1);
    ports.set(3, parseTunnelConfig("type=geneve,remote_ip=flow"));
    assert.deepEqual(ports.vports, [
      { number: 1, type: "gre", dstPort: 0 },
      { number: 2, type: "geneve", dstPort: 6081 },
    ]);
  });
});
