// Actions on VLAN tags. OpenFlow 1.0 adds a tag where there is none, 1.1 leaves the packet alone, later versions set fields.

import type { Action, ActionOf } from "../action.js";
import { VLAN_PRESENT } from "../numbers.js";
import { numberIn } from "../parse/numbers.js";
import { ETH_TYPE } from "../../packet/headers.js";
import { hex } from "../print/values.js";
import { hasTag, hasTwoTags } from "../tags.js";
import { CARRIED_BY } from "../versions.js";
import { needsMatch } from "./common.js";
import type { Carrying, Checked, LocatedAction, Parse, Rows } from "./row.js";
import { settingField } from "./values.js";

const vid =
  (pushIfNeeded: boolean): Parse =>
  ({ context }, value) => ({
    kind: "set_vlan_vid",
    vid: numberIn(context.line, value, "VLAN ID", 0xfff),
    pushIfNeeded,
  });

const pcp =
  (pushIfNeeded: boolean): Parse =>
  ({ context }, value) => ({
    kind: "set_vlan_pcp",
    pcp: numberIn(context.line, value, "VLAN priority", 7),
    pushIfNeeded,
  });

const push: Parse = ({ context }, value) => {
  context.narrow(CARRIED_BY.openflow11Up, value.at, "push_vlan");
  const ethertype = numberIn(context.line, value, "Ethernet type", 0xffff);
  if (ethertype !== ETH_TYPE.VLAN && ethertype !== ETH_TYPE.QINQ) {
    context.fail(value.at, `Cannot push a tag of type ${value.text}: want 0x8100 or 0x88a8`);
  }
  return { kind: "push_vlan", ethertype };
};

const setsTag = (s: Checked, a: ActionOf<"set_vlan_vid" | "set_vlan_pcp">, { at }: LocatedAction): void => {
  if (!a.pushIfNeeded) needsMatch(s, at, hasTag(s.flow), a.kind, "a VLAN tag");
};

export const vlanVid = (minor: number, value: number): Action => ({
  kind: "set_vlan_vid",
  vid: value,
  pushIfNeeded: minor === 0,
});

export const vlanPcp = (minor: number, value: number): Action => ({
  kind: "set_vlan_pcp",
  pcp: value,
  pushIfNeeded: minor === 0,
});

export const stripVlan = (minor: number): Action => ({
  kind: "strip_vlan",
  spelling: minor === 0 ? "strip_vlan" : "pop_vlan",
});

export const pushingVlan: Action = { kind: "push_vlan", ethertype: ETH_TYPE.VLAN };

/** A tag is pushed first where the action adds one and the flow does not say that there is one. */
const needsPush = (pushIfNeeded: boolean, { minor, flow }: Carrying): Action[] =>
  minor > 0 && pushIfNeeded && !hasTag(flow) ? [pushingVlan] : [];

export const VLAN: Rows<"set_vlan_vid" | "set_vlan_pcp" | "strip_vlan" | "push_vlan"> = {
  set_vlan_vid: {
    parse: { mod_vlan_vid: vid(true), set_vlan_vid: vid(false) },
    print: (a) => `${a.pushIfNeeded ? "mod" : "set"}_vlan_vid:${a.vid}`,
    check: setsTag,
    carry: (a, s) => [
      ...needsPush(a.pushIfNeeded, s),
      s.minor < 2 ? vlanVid(s.minor, a.vid) : settingField("vlan_vid", a.vid | VLAN_PRESENT),
    ],
    inSet: "set",
  },
  set_vlan_pcp: {
    parse: { mod_vlan_pcp: pcp(true), set_vlan_pcp: pcp(false) },
    print: (a) => `${a.pushIfNeeded ? "mod" : "set"}_vlan_pcp:${a.pcp}`,
    check: setsTag,
    carry: (a, s) => [
      ...needsPush(a.pushIfNeeded, s),
      s.minor < 2 ? vlanPcp(s.minor, a.pcp) : settingField("vlan_pcp", a.pcp),
    ],
    inSet: "set",
  },
  strip_vlan: {
    parse: {
      strip_vlan: () => ({ kind: "strip_vlan", spelling: "strip_vlan" }),
      pop_vlan: () => ({ kind: "strip_vlan", spelling: "pop_vlan" }),
    },
    print: (a) => a.spelling,
    check: (s, a, { at }) => needsMatch(s, at, hasTag(s.flow), a.kind, "a VLAN tag"),
    carry: (_a, { minor }) => [stripVlan(minor)],
    inSet: "once",
  },
  push_vlan: {
    parse: { push_vlan: push },
    print: (a) => `push_vlan:${hex(a.ethertype)}`,
    check: (s, _a, { at }) => {
      if (hasTwoTags(s.flow)) s.context.fail(at, "Cannot push a third VLAN tag: want at most two");
    },
    // In OpenFlow 1.0 the set_vlan_vid that follows adds the tag.
    carry: (a, { minor }) => (minor === 0 ? [] : [a]),
    inSet: "once",
  },
};
