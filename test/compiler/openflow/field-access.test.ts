import assert from "node:assert/strict";
import fc from "fast-check";
import {
  FIELD_BYTES,
  FIELD_LIMIT,
  FIELD_NAMES,
  FIELD_PLACE,
  FIELD_WIDTH,
  FIELDS,
  FLOW,
  FLOW_WORDS,
  fieldByCodeName,
  fieldByName,
  get,
  getBytes,
  isTunMetadata,
  matchField,
  meetsPrerequisites,
  newFlow,
  prerequisites,
  readField,
  readSubfield,
  set,
  setBytes,
  subfieldPlace,
  unwildcardField,
  writeField,
  writeSubfield,
  type FieldName,
} from "#compiler";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

describe("field table", () => {
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
  const field = fc.constantFrom(...FIELD_NAMES.filter((f) => f !== "in_port" && !isTunMetadata(f)));
  const words = fc.uint8Array({ minLength: 16, maxLength: 16 });

  it("readField() gives what writeField() stored, and nothing else changes", () => {
    fc.assert(
      fc.property(field, words, (name, bytes) => {
        const value = bytes.slice(0, FIELD_BYTES[name]);
        let limit = FIELD_LIMIT[name];
        for (let i = value.length - 1; i >= 0; i--, limit >>= 8n) value[i]! &= Number(limit & 0xffn);
        if (name === "nw_tos") value[0]! &= 0xfc;
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

  it("subfieldPlace() is where readSubfield() and writeSubfield() have the bits of a plain field", () => {
    const fromTo = fc.tuple(fc.nat(), fc.nat());
    const flows = fc.uint32Array({ minLength: FLOW_WORDS, maxLength: FLOW_WORDS });
    fc.assert(
      fc.property(field, fromTo, flows, words, (name, [first, second], flow, value) => {
        const width = FIELD_WIDTH[name];
        const lsb = Math.min(first % width, second % width);
        const subfield = { field: name, lsb, bits: Math.max(first % width, second % width) - lsb + 1 };
        const place = subfieldPlace(subfield);
        if (place === undefined) return;
        assert.equal(hex(getBytes(flow, place.at, place.bits)), hex(readSubfield(flow, subfield)));
        const [direct, whole] = [flow.slice(), flow.slice()];
        setBytes(direct, place.at, place.bits, value);
        writeSubfield(whole, subfield, value);
        assert.deepEqual(direct, whole);
      }),
      { numRuns: 2000 },
    );
    assert.equal(subfieldPlace({ field: "in_port", lsb: 0, bits: 16 }), undefined);
    assert.deepEqual(subfieldPlace({ field: "reg0", lsb: 8, bits: 8 }), { at: FLOW.reg0.at + 16, bits: 8 });
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
    const wc = newFlow();
    assert.ok(meetsPrerequisites(flow, "tcp_dst", wc));
    const seen = newFlow();
    for (const [member, bits] of [
      ["dl_type", 0xffff],
      ["nw_proto", 0xff],
      ["nw_frag", 2],
    ] as const)
      set(seen, member, bits);
    assert.deepEqual(wc, seen);
    set(flow, "nw_frag", 3);
    assert.ok(!meetsPrerequisites(flow, "tcp_dst"));
    assert.ok(meetsPrerequisites(flow, "ipv6_src"));
    assert.ok(!meetsPrerequisites(flow, "ip_src"));
    assert.deepEqual(prerequisites("reg0"), [[]]);
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
