// Actions in text, to the character as OVS's ofpacts_format() prints them.

import { codeName, FIELD_WIDTH, sliceBits } from "../field-access.js";
import { fromBytes } from "../big-endian.js";
import { MAX_PORTS, portToText, type PortNames } from "../ports.js";
import { PORT, type Action, type ActionKind, type Subfield } from "../types.js";
import { fieldValueText, hex, ipv4Text, macText } from "./values.js";

export interface ActionFormat {
  readonly ports?: PortNames;
}

/** `NXM_NX_REG0[0..15]` */
export const subfieldText = ({ field, lsb, bits }: Subfield): string => {
  const range = bits === FIELD_WIDTH[field] ? "" : bits === 1 ? `${lsb}` : `${lsb}..${lsb + bits - 1}`;
  return `${codeName(field)}[${range}]`;
};

/** Most bits of one `load` on the wire; OVS writes wider ones as several. */
const LOAD_BITS = 64;

type Load = Extract<Action, { kind: "reg_load" }>;

/** A load of more than 64 bits as the loads of its parts, lowest first. */
export const splitLoad = (load: Load): Load[] => {
  const parts: Load[] = [];
  const { field, lsb, bits } = load.dst;
  for (let from = 0; from < bits; from += LOAD_BITS) {
    const n = Math.min(LOAD_BITS, bits - from);
    parts.push({ kind: "reg_load", value: sliceBits(load.value, from, n), dst: { field, lsb: lsb + from, bits: n } });
  }
  return parts;
};

const loadText = (load: Load): string => `load:${hex(fromBytes(load.value))}->${subfieldText(load.dst)}`;

type Print<K extends ActionKind> = (action: Extract<Action, { kind: K }>, format: ActionFormat) => string;

const PRINT: { readonly [K in ActionKind]: Print<K> } = {
  output: (a, { ports }) => {
    const prefix = a.port < MAX_PORTS ? "output:" : "";
    return `${prefix}${portToText(a.port, ports)}${a.port === PORT.CONTROLLER ? `:${a.maxLen}` : ""}`;
  },
  controller: (a) => {
    const options = [
      ...(a.reason === "action" ? [] : [`reason=${a.reason}`]),
      ...(a.maxLen === 0xffff ? [] : [`max_len=${a.maxLen}`]),
      ...(a.id === 0 ? [] : [`id=${a.id}`]),
    ];
    return options.length === 0 ? `CONTROLLER:${a.maxLen}` : `controller(${options.join(",")})`;
  },
  group: (a) => `group:${a.group}`,
  set_field: (a, { ports }) => `set_field:${fieldValueText(a.field, a.value, a.mask, ports)}->${a.field}`,
  reg_load: (a) => splitLoad(a).map(loadText).join(","),
  reg_move: (a) => `move:${subfieldText(a.src)}->${subfieldText(a.dst)}`,
  set_vlan_vid: (a) => `${a.pushIfNeeded ? "mod" : "set"}_vlan_vid:${a.vid}`,
  set_vlan_pcp: (a) => `${a.pushIfNeeded ? "mod" : "set"}_vlan_pcp:${a.pcp}`,
  strip_vlan: (a) => a.spelling,
  push_vlan: (a) => `push_vlan:${hex(a.ethertype)}`,
  set_eth_src: (a) => `mod_dl_src:${macText(a.mac)}`,
  set_eth_dst: (a) => `mod_dl_dst:${macText(a.mac)}`,
  set_ipv4_src: (a) => `mod_nw_src:${ipv4Text(a.addr)}`,
  set_ipv4_dst: (a) => `mod_nw_dst:${ipv4Text(a.addr)}`,
  set_ip_dscp: (a) => `mod_nw_tos:${a.tos}`,
  set_ip_ecn: (a) => `mod_nw_ecn:${a.ecn}`,
  set_ip_ttl: (a) => `mod_nw_ttl:${a.ttl}`,
  set_l4_src_port: (a) => `mod_tp_src:${a.port}`,
  set_l4_dst_port: (a) => `mod_tp_dst:${a.port}`,
  dec_ttl: (a) => (a.ids.length === 0 ? "dec_ttl" : `dec_ttl(${a.ids.join(",")})`),
  resubmit: (a, { ports }) => {
    const inPort = a.inPort === undefined ? "" : portToText(a.inPort, ports);
    return a.table === undefined ? `resubmit:${inPort}` : `resubmit(${inPort},${a.table})`;
  },
  write_metadata: (a) => {
    const mask = a.mask === 0xffffffffffffffffn ? "" : `/${hex(a.mask)}`;
    return `write_metadata:${hex(a.value)}${mask}`;
  },
  clear_actions: () => "clear_actions",
  write_actions: (a, format) => `write_actions(${formatActions(a.actions, format)})`,
  goto_table: (a) => `goto_table:${a.table}`,
};

/** One action. */
export const formatAction = (action: Action, format: ActionFormat = {}): string =>
  (PRINT[action.kind] as Print<ActionKind>)(action, format);

/** A list of actions: what stands behind `actions=`. */
export const formatActions = (actions: readonly Action[], format: ActionFormat = {}): string =>
  actions.length === 0 ? "drop" : actions.map((action) => formatAction(action, format)).join(",");
