// Actions on MPLS labels.

import type { Action } from "../action.js";
import { get, set } from "../flow.js";
import { numberIn } from "../parse/numbers.js";
import { isMplsType } from "../../packet/headers.js";
import { hexPadded } from "../print/values.js";
import { needsMatch } from "./common.js";
import { PACKET_TYPE } from "../action.js";
import type { Checked, LocatedAction, Parse, Rows } from "./row.js";
import { settingField } from "./values.js";

const onMpls = (s: Checked, a: Action, { at }: LocatedAction): void =>
  needsMatch(s, at, isMplsType(get(s.flow, "dl_type")), a.kind, "mpls");

const ethertype =
  (kind: "push_mpls" | "pop_mpls"): Parse =>
  ({ context }, value) => ({ kind, ethertype: numberIn(context.line, value, "Ethernet type", 0xffff) });

export const MPLS: Rows<"set_mpls_label" | "set_mpls_tc" | "set_mpls_ttl" | "dec_mpls_ttl" | "push_mpls" | "pop_mpls"> =
  {
    set_mpls_label: {
      parse: {
        set_mpls_label: ({ context }, value) => ({
          kind: "set_mpls_label",
          label: numberIn(context.line, value, "MPLS label", 0xfffff),
        }),
      },
      print: (a) => `set_mpls_label(${a.label})`,
      check: onMpls,
      carry: (a, { minor }) => (minor < 2 ? [a] : [settingField("mpls_label", a.label)]),
      inSet: "set",
    },
    set_mpls_tc: {
      parse: {
        set_mpls_tc: ({ context }, value) => ({
          kind: "set_mpls_tc",
          tc: numberIn(context.line, value, "MPLS traffic class", 7),
        }),
      },
      print: (a) => `set_mpls_tc(${a.tc})`,
      check: onMpls,
      carry: (a, { minor }) => (minor < 2 ? [a] : [settingField("mpls_tc", a.tc)]),
      inSet: "set",
    },
    set_mpls_ttl: {
      parse: {
        set_mpls_ttl: ({ context }, value) => ({
          kind: "set_mpls_ttl",
          ttl: numberIn(context.line, value, "MPLS TTL", 255),
        }),
      },
      print: (a) => `set_mpls_ttl(${a.ttl})`,
      check: onMpls,
      inSet: "set",
    },
    dec_mpls_ttl: {
      parse: { dec_mpls_ttl: () => ({ kind: "dec_mpls_ttl" }) },
      print: () => "dec_mpls_ttl",
      check: onMpls,
      inSet: "once",
    },
    push_mpls: {
      parse: { push_mpls: ethertype("push_mpls") },
      print: (a) => `push_mpls:${hexPadded(a.ethertype, 4)}`,
      check: (s, a, { at }) => {
        needsMatch(s, at, get(s.flow, "packet_type") === PACKET_TYPE.ETHERNET, a.kind, "an Ethernet packet");
        set(s.flow, "dl_type", a.ethertype);
        // What is inside is out of reach now.
        set(s.flow, "nw_proto", 0);
      },
      carry: (a) => (isMplsType(a.ethertype) ? [a] : undefined),
      inSet: "once",
    },
    pop_mpls: {
      parse: { pop_mpls: ethertype("pop_mpls") },
      print: (a) => `pop_mpls:${hexPadded(a.ethertype, 4)}`,
      check: (s, a, { at }) => {
        const ok = get(s.flow, "packet_type") === PACKET_TYPE.ETHERNET && isMplsType(get(s.flow, "dl_type"));
        needsMatch(s, at, ok, a.kind, "mpls");
        set(s.flow, "dl_type", a.ethertype);
      },
      inSet: "once",
    },
  };
