import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fc from "fast-check";
import {
  FIELD_BYTES,
  FIELD_NAMES,
  FIELD_PLACE,
  FIELD_WIDTH,
  FIELDS,
  fieldByCodeName,
  fieldByName,
  fieldSpec,
  get,
  matchField,
  meetsPrerequisites,
  newFlow,
  nxmHeader,
  oxmHeader,
  prerequisites,
  readField,
  set,
  unwildcardField,
  WIRE_BYTES,
  writeField,
  writeSubfield,
  type FieldName,
} from "#compiler";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** What a field must be surrounded by in an OXM match so that OVS accepts it, and a value that OVS accepts. */
const preamble = (field: FieldName): string => {
  const type = (t: string) => `OXM_OF_ETH_TYPE(${t})`;
  const proto = (t: string, p: string) => `${type(t)}, OXM_OF_IP_PROTO(${p})`;
  const nd = (t: string) => `${proto("86dd", "3a")}, OXM_OF_ICMPV6_TYPE(${t}), OXM_OF_ICMPV6_CODE(00)`;
  const table = {
    none: "",
    vlan_vid: "OXM_OF_VLAN_VID(1005)",
    arp: type("0806"),
    ipv4: type("0800"),
    ipv6: type("86dd"),
    ip_any: type("0800"),
    tcp: proto("0800", "06"),
    udp: proto("0800", "11"),
    sctp: proto("0800", "84"),
    icmpv4: proto("0800", "01"),
    icmpv6: proto("86dd", "3a"),
    nd: nd("87"),
    nd_solicit: nd("87"),
    nd_advert: nd("88"),
  };
  return table[FIELDS[field].needs];
};

/** The hex dumps in the answer of `parse-oxm -m`: after a line of text for each match come lines of offset and bytes. */
const dumpsOf = (output: string): string[] => {
  const dumps: string[] = [];
  for (const line of output.split("\n")) {
    if (/^[0-9a-f]{8} {2}/.test(line)) dumps[dumps.length - 1] += line.slice(10).replaceAll(/[^0-9a-f]/g, "");
    else if (line !== "") dumps.push("");
  }
  return dumps;
};

describe("field table", () => {
  it("FIELDS rows give the headers and lengths that OVS encodes, exact and masked", () => {
    const cases: { field: FieldName; text: string; header: string }[] = [];
    for (const field of FIELD_NAMES) {
      // OVS encodes in_port as OXM and the OpenFlow 1.0 VLAN forms as vlan_vid and vlan_pcp.
      const row = fieldSpec(field);
      const name = row.oxmName ?? row.nxmName;
      if (name === undefined || field === "in_port" || field === "vlan_tci" || field === "nw_tos") continue;
      const zeros = "00".repeat(WIRE_BYTES[field]);
      const one = `${zeros.slice(0, -2)}01`;
      const value = field === "eth_type" ? "88b5" : field === "vlan_vid" ? "1001" : one;
      const before = preamble(field);
      const lead = before === "" ? "" : `${before}, `;
      cases.push({ field, text: `${lead}${name}(${value})`, header: oxmHeader(field, false)!.toString(16) });
      if (row.mask === "any") {
        const text = `${lead}${name}_W(${one}/${one})`;
        cases.push({ field, text, header: oxmHeader(field, true)!.toString(16) });
      }
    }
    for (const version of ["OpenFlow13", "OpenFlow15"] as const) {
      // OVS puts registers together into wider ones in OpenFlow 1.5, which alone has the final codes of two fields.
      const some = cases.filter((c) => c.field.startsWith("reg") === (version === "OpenFlow13"));
      const input = some.map((c) => c.text).join("\n");
      const output = execFileSync("ovs-ofctl", ["-m", "parse-oxm", version], { input, encoding: "utf8" });
      const dumps = dumpsOf(output);
      assert.equal(dumps.length, some.length);
      for (const [i, { field, text, header }] of some.entries()) {
        assert.ok(dumps[i]!.includes(header.padStart(8, "0")), `${field}: ${text} → ${dumps[i]}, want ${header}`);
      }
    }
  });

  it("nxmHeader() prefers the Nicira code, oxmHeader() the OpenFlow one", () => {
    assert.equal(nxmHeader("ip_dst", true), 0x00001108);
    assert.equal(oxmHeader("ip_dst", true), 0x80001908);
    assert.equal(oxmHeader("reg3", false), 0x00010604);
    assert.equal(oxmHeader("dl_vlan", false), undefined);
  });

  it("fieldByName() knows names and aliases, fieldByCodeName() codes too, and letters count", () => {
    const rows: [string, FieldName | undefined][] = [
      ["nw_src", "ip_src"],
      ["tp_dst", "tcp_dst"],
      ["dl_type", "eth_type"],
      ["IP_SRC", undefined],
      ["toString", undefined],
    ];
    const codes: [string, FieldName][] = [
      ["NXM_OF_IP_SRC", "ip_src"],
      ["OXM_OF_IPV4_SRC", "ip_src"],
      ["NXM_OF_IN_PORT", "in_port"],
      ["OXM_OF_IN_PORT", "in_port_oxm"],
    ];
    for (const [name, field] of rows) assert.equal(fieldByName(name), field, name);
    for (const [name, field] of [...rows, ...codes]) assert.equal(fieldByCodeName(name), field, name);
    for (const [name] of codes) assert.equal(fieldByName(name), undefined, name);
  });
});

describe("field access", () => {
  const field = fc.constantFrom(...FIELD_NAMES.filter((f) => f !== "in_port"));
  const words = fc.uint8Array({ minLength: 16, maxLength: 16 });

  it("readField() gives what writeField() stored, and nothing else changes", () => {
    fc.assert(
      fc.property(field, words, (name, bytes) => {
        const value = bytes.slice(0, FIELD_BYTES[name]);
        const spare = value.length * 8 - FIELD_WIDTH[name];
        value[0] = value[0]! & (0xff >> spare);
        if (name === "nw_tos") value[0] &= 0xfc;
        if (name === "arp_op") value[0] = 0;
        const flow = newFlow();
        writeField(flow, name, value);
        assert.equal(hex(readField(flow, name)), hex(value));
        const mask = newFlow();
        unwildcardField(mask, name);
        set(mask, "vlan0_tpid", 0xffff);
        if (FIELDS[name].in === "vlan0_tci") set(mask, "vlan0_tci", 0xffff);
        assert.ok(flow.every((word, i) => (word & ~mask[i]!) === 0));
      }),
    );
  });

  it("writeField() sets the present bit with a VLAN ID or priority, but not with vlan_vid", () => {
    for (const [name, value, tci] of [
      ["dl_vlan", [0, 5], 0x1005],
      ["vlan_pcp", [5], 0xb000],
      ["dl_vlan_pcp", [5], 0xb000],
      ["vlan_vid", [0, 5], 0x0005],
      ["vlan_vid", [0x10, 5], 0x1005],
    ] as const) {
      const flow = newFlow();
      writeField(flow, name, Uint8Array.from(value));
      assert.equal(get(flow, "vlan0_tci"), tci, name);
      assert.equal(get(flow, "vlan0_tpid"), 0x8100, name);
    }
  });

  it("writeField() of in_port widens reserved ports to 32 bits", () => {
    const flow = newFlow();
    writeField(flow, "in_port", Uint8Array.of(0xff, 0xfe));
    assert.equal(get(flow, "in_port"), 0xfffffffe);
    assert.equal(hex(readField(flow, "in_port")), "fffe");
  });

  it("writeSubfield() writes the named bits only", () => {
    const flow = newFlow();
    set(flow, "reg0", 0xffffffff);
    writeSubfield(flow, { field: "reg0", lsb: 4, bits: 12 }, Uint8Array.of(0x01, 0x23));
    assert.equal(get(flow, "reg0"), 0xffff123f);
  });

  it("matchField() takes half of a VLAN match back without losing the other half", () => {
    const match = { value: newFlow(), mask: newFlow() };
    matchField(match, "vlan_pcp", Uint8Array.of(3));
    matchField(match, "dl_vlan", Uint8Array.of(0, 7));
    assert.equal(get(match.value, "vlan0_tci"), 0x7007);
    assert.equal(get(match.mask, "vlan0_tci"), 0xffff);
    matchField(match, "vlan_pcp", Uint8Array.of(0), Uint8Array.of(0));
    assert.equal(get(match.mask, "vlan0_tci"), 0x1fff);
    matchField(match, "dl_vlan", Uint8Array.of(0, 0), Uint8Array.of(0, 0));
    assert.equal(get(match.mask, "vlan0_tci"), 0);
  });

  it("meetsPrerequisites() follows the alternatives and reports what it looked at", () => {
    const flow = newFlow();
    set(flow, "dl_type", 0x86dd);
    set(flow, "nw_proto", 6);
    const seen: string[] = [];
    assert.ok(meetsPrerequisites(flow, "tcp_dst", (c) => seen.push(c.member)));
    assert.deepEqual([...new Set(seen)], ["dl_type", "nw_proto", "nw_frag"]);
    set(flow, "nw_frag", 3);
    assert.ok(!meetsPrerequisites(flow, "tcp_dst"));
    assert.ok(meetsPrerequisites(flow, "ipv6_src"));
    assert.ok(!meetsPrerequisites(flow, "ip_src"));
    assert.deepEqual(prerequisites("eth_src"), [[]]);
  });

  it("FIELD_PLACE puts the least significant bit of a field where its row says", () => {
    for (const name of FIELD_NAMES) {
      const { at, bits } = FIELD_PLACE[name];
      assert.equal(bits, FIELDS[name].bits, name);
      assert.ok(at >= 0, name);
    }
    const flow = newFlow();
    set(flow, "nw_tos", 0x2d);
    assert.equal(hex(readField(flow, "ip_dscp")), "0b");
    assert.equal(hex(readField(flow, "nw_tos")), "2c");
    assert.equal(hex(readField(flow, "nw_ecn")), "01");
  });
});
