// Actions that move bits between fields, constants and the stack.

import type { Action, ActionOf } from "../action.js";
import { fromBytes, toBytes } from "../big-endian.js";
import { FIELD_WIDTH, fieldByCodeName, fieldCode } from "../field-access.js";
import type { FieldName } from "../fields.js";
import { isTunMetadata } from "../fields/tun-metadata.js";
import { VLAN_PRESENT } from "../numbers.js";
import { parseUnsigned } from "../parse/numbers.js";
import { cut } from "../parse/source.js";
import { parseSubfield, requireField, requireWritable } from "../parse/subfield.js";
import { parseFieldValue } from "../parse/values.js";
import { splitLoad, subfieldText } from "../print/subfield.js";
import { fieldValueText, hex } from "../print/values.js";
import { hasTag } from "../tags.js";
import { exactProtocols } from "../versions.js";
import { needsField, wholeSubfield, writableSubfield } from "./common.js";
import { ecn } from "./headers.js";
import type { Carrying, Checked, Parse, Rows } from "./row.js";
import { loadAsSetField, loading } from "./values.js";
import { pushingVlan, stripVlan, vlanPcp, vlanVid } from "./vlan.js";

const setField: Parse = ({ context }, value) => {
  const [wanted, name] = cut(value, "->");
  if (name === undefined) return context.fail(value.at, `Cannot read "${value.text}": want VALUE[/MASK]->FIELD`);
  if (name.text === "") return context.fail(name.at, "Cannot find the field to set: want its name after ->");
  const field = requireField(context, name);
  requireWritable(context, field, name);
  context.narrow(exactProtocols(field), value.at, `set_field of ${name.text}`);
  const { value: bytes, mask } = parseFieldValue(context.line, wanted, field, context.ports);
  return mask === undefined
    ? { kind: "set_field", field, value: bytes }
    : { kind: "set_field", field, value: bytes, mask };
};

const load: Parse = ({ context }, value) => {
  const [number, target] = cut(value, "->");
  if (target === undefined) {
    return context.fail(value.at, `Cannot read "${value.text}": want VALUE->FIELD[FIRST..LAST]`);
  }
  if (target.text === "") return context.fail(target.at, "Cannot find the field to load: want its name after ->");
  const dst = writableSubfield(context, target);
  const bits = parseUnsigned(number.text);
  if (bits === undefined) return context.fail(number.at, `Cannot read "${number.text}": want a number`);
  if (bits >> BigInt(dst.bits) !== 0n) {
    context.fail(number.at, `Cannot load ${number.text}: it does not fit into ${dst.bits} bits`);
  }
  return { kind: "reg_load", value: toBytes(bits, (dst.bits + 7) >>> 3), dst };
};

/** `SRC->DST`, of equal width. */
const move: Parse = ({ context }, value) => {
  const from = parseSubfield(context, value);
  if (!from.rest.text.startsWith("->")) {
    return context.fail(from.rest.at, `Cannot read "${value.text}": want SOURCE[FIRST..LAST]->FIELD[FIRST..LAST]`);
  }
  const dst = writableSubfield(context, { text: from.rest.text.slice(2), at: from.rest.at + 2 });
  if (from.subfield.bits !== dst.bits) {
    context.fail(value.at, `Cannot move ${from.subfield.bits} bits into ${dst.bits}: want equal widths`);
  }
  return { kind: "reg_move", src: from.subfield, dst };
};

const deleteField: Parse = ({ context }, value) => ({
  kind: "delete_field",
  field: requireField(context, value, fieldByCodeName),
});

const setsField = (state: Checked, at: number, field: FieldName): void => {
  if (field === "vlan_vid" && !hasTag(state.flow)) {
    const want = "a VLAN tag (vlan_tci=0x1000/0x1000, or a VLAN ID), or push one before";
    state.context.fail(at, `Cannot set ${field}: the flow must match ${want}`);
  }
  needsField(state, at, field, "set");
};

/** The bits that a set_field sets as loads: one for each run of ones in its mask. */
const asLoads = ({ field, value, mask }: ActionOf<"set_field">): Action[] => {
  const width = FIELD_WIDTH[field];
  const bits = fromBytes(value);
  const ones = mask === undefined ? (1n << BigInt(width)) - 1n : fromBytes(mask);
  const loads: Action[] = [];
  for (let from = 0; from < width; from++) {
    if (((ones >> BigInt(from)) & 1n) === 0n) continue;
    let to = from;
    while (to < width && ((ones >> BigInt(to)) & 1n) === 1n) to++;
    const run = (bits >> BigInt(from)) & ((1n << BigInt(to - from)) - 1n);
    loads.push(...splitLoad(loading(field, from, to - from, run)));
    from = to;
  }
  return loads;
};

/** The action of OpenFlow 1.0 and 1.1 for setting a field, where it has one. It has no room for a mask. */
const LEGACY: Partial<Record<FieldName, (value: Uint8Array, state: Carrying) => Action[]>> = {
  vlan_tci: (value, { minor, flow }) => {
    const tci = Number(fromBytes(value));
    if ((tci & VLAN_PRESENT) === 0) return [stripVlan(minor)];
    const push = minor === 0 || hasTag(flow) ? [] : [pushingVlan];
    return [...push, vlanVid(minor, tci & 0xfff), vlanPcp(minor, tci >>> 13)];
  },
  vlan_vid: (value, { minor }) => [vlanVid(minor, Number(fromBytes(value)) & 0xfff)],
  vlan_pcp: (value, { minor }) => [vlanPcp(minor, value[0]!)],
  eth_src: (mac) => [{ kind: "set_eth_src", mac }],
  eth_dst: (mac) => [{ kind: "set_eth_dst", mac }],
  ip_src: (addr) => [{ kind: "set_ipv4_src", addr }],
  ip_dst: (addr) => [{ kind: "set_ipv4_dst", addr }],
  nw_tos: (value) => [{ kind: "set_ip_dscp", tos: value[0]! }],
  ip_dscp: (value) => [{ kind: "set_ip_dscp", tos: value[0]! << 2 }],
  nw_ecn: (value, { minor }) => [ecn(minor, value[0]!)],
  tcp_src: (value) => [{ kind: "set_l4_src_port", port: Number(fromBytes(value)) }],
  tcp_dst: (value) => [{ kind: "set_l4_dst_port", port: Number(fromBytes(value)) }],
  udp_src: (value) => [{ kind: "set_l4_src_port", port: Number(fromBytes(value)) }],
  udp_dst: (value) => [{ kind: "set_l4_dst_port", port: Number(fromBytes(value)) }],
};

/** Whether a switch takes a set_field as it is: in_port it does not, nor a VLAN ID without the bit that says it is one. */
const isTaken = ({ field, value, mask }: ActionOf<"set_field">): boolean => {
  const all = (bits: Uint8Array): number => Number(fromBytes(bits));
  if (field === "vlan_vid") return (all(value) & (mask === undefined ? 0xffff : all(mask)) & VLAN_PRESENT) !== 0;
  if (field === "nw_tos") return (all(value) & 3) === 0;
  return field !== "in_port_oxm";
};

/** Whether the first form of load, with four bytes for a field, can name it; the second looks like set_field. */
const fitsLoad = (field: FieldName): boolean =>
  fieldCode(field, 0)?.experimenter === undefined && !isTunMetadata(field);

const carrySetField = (action: ActionOf<"set_field">, state: Carrying): Action[] | undefined => {
  const isWhole = action.mask === undefined;
  if (state.minor >= 5 || (state.minor >= 2 && isWhole)) return isTaken(action) ? [action] : undefined;
  if (!fitsLoad(action.field)) return [action];
  if (state.minor >= 2) return asLoads(action);
  return LEGACY[action.field]?.(action.value, state) ?? asLoads(action);
};

export const FIELD_ACTIONS: Rows<"set_field" | "reg_load" | "reg_move" | "stack_push" | "stack_pop" | "delete_field"> =
  {
    set_field: {
      parse: { set_field: setField },
      print: (a, { ports }) => `set_field:${fieldValueText(a.field, a.value, a.mask, ports)}->${a.field}`,
      check: (s, a, { at }) => setsField(s, at, a.field),
      carry: carrySetField,
      inSet: "set",
    },
    reg_load: {
      parse: { load },
      print: (a) =>
        splitLoad(a)
          .map((part) => `load:${hex(fromBytes(part.value))}->${subfieldText(part.dst)}`)
          .join(","),
      check: (s, a, { at }) => setsField(s, at, a.dst.field),
      carry: (a, state) =>
        state.minor >= 5
          ? carrySetField(loadAsSetField(a), state)
          : fitsLoad(a.dst.field)
            ? splitLoad(a)
            : [{ ...loadAsSetField(a), loaded: true }],
      inSet: "set",
    },
    reg_move: {
      parse: { move },
      print: (a) => `move:${subfieldText(a.src)}->${subfieldText(a.dst)}`,
      check: (s, a, { at }) => {
        needsField(s, at, a.src.field, "move from");
        needsField(s, at, a.dst.field, "move to");
      },
      inSet: "set",
    },
    stack_push: {
      parse: { push: ({ context }, value) => ({ kind: "stack_push", src: wholeSubfield(context, value).subfield }) },
      print: (a) => `push:${subfieldText(a.src)}`,
      check: (s, a, { at }) => needsField(s, at, a.src.field, "push"),
    },
    stack_pop: {
      parse: { pop: ({ context }, value) => ({ kind: "stack_pop", dst: writableSubfield(context, value) }) },
      print: (a) => `pop:${subfieldText(a.dst)}`,
      check: (s, a, { at }) => needsField(s, at, a.dst.field, "pop into"),
    },
    delete_field: {
      parse: { delete_field: deleteField },
      print: (a) => `delete_field:${a.field}`,
      check: (s, a, { at }) => {
        if (!a.field.startsWith("tun_metadata")) {
          s.context.fail(at, `Cannot delete ${a.field}: want one of tun_metadata0 to tun_metadata63`);
        }
      },
    },
  };
