// What actions do to the VLAN tags of a flow, as far as it can be known before any packet has come: whether there is a
// tag decides what may be set, and how an action is put on the wire.

import { fromBytes } from "./big-endian.js";
import { get, set, type FlowWords } from "./flow.js";
import { VLAN_PRESENT } from "./numbers.js";
import type { Action } from "./types.js";

/** Whether the outer tag is known to be there. */
export const hasTag = (flow: FlowWords): boolean => (get(flow, "vlan0_tci") & VLAN_PRESENT) !== 0;

/** Whether there are as many tags as OVS keeps track of. */
export const hasTwoTags = (flow: FlowWords): boolean => (get(flow, "vlan1_tci") & VLAN_PRESENT) !== 0;

/** Changes the tags of `flow` as `action` will; other actions change nothing. */
export const applyToTags = (flow: FlowWords, action: Action): void => {
  switch (action.kind) {
    case "set_vlan_vid":
    case "set_vlan_pcp":
      set(flow, "vlan0_tci", get(flow, "vlan0_tci") | VLAN_PRESENT);
      break;
    case "strip_vlan":
      if (!hasTag(flow)) break;
      set(flow, "vlan0_tci", hasTwoTags(flow) ? get(flow, "vlan1_tci") : 0);
      set(flow, "vlan1_tci", 0);
      break;
    case "push_vlan":
      set(flow, "vlan1_tci", get(flow, "vlan0_tci"));
      set(flow, "vlan0_tci", VLAN_PRESENT);
      break;
    case "set_field":
      if (action.field === "vlan_tci") set(flow, "vlan0_tci", Number(fromBytes(action.value)));
      break;
    case "reg_load":
      if (action.dst.field === "vlan_tci") {
        set(flow, "vlan0_tci", Number(fromBytes(action.value) << BigInt(action.dst.lsb)));
      }
      break;
    default:
      break;
  }
};
