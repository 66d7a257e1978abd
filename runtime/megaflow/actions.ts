// Equality of datapath action lists: what a revalidator asks after every table change.

import { equalBytes } from "ebpf-assembler";
import type { DpAction } from "#compiler";

const NOTHING = new Uint8Array(0);

const isSame = (a: DpAction, b: DpAction): boolean => {
  switch (a.kind) {
    case "output":
      return b.kind === "output" && a.port === b.port;
    case "set":
      return (
        b.kind === "set" &&
        a.target === b.target &&
        a.family === b.family &&
        a.proto === b.proto &&
        equalBytes(a.bytes, b.bytes)
      );
    case "push_vlan":
      return b.kind === "push_vlan" && a.tpid === b.tpid && a.tci === b.tci;
    case "pop_vlan":
      return b.kind === "pop_vlan";
    case "meter":
      return b.kind === "meter" && a.slot === b.slot && a.remarks === b.remarks;
    case "controller":
      return (
        b.kind === "controller" &&
        a.reason === b.reason &&
        a.maxLen === b.maxLen &&
        a.controllerId === b.controllerId &&
        a.table === b.table &&
        a.cookie === b.cookie &&
        equalBytes(a.userdata ?? NOTHING, b.userdata ?? NOTHING)
      );
    case "trunc":
      return b.kind === "trunc" && a.maxLen === b.maxLen;
    case "clone":
      return b.kind === "clone" && equalActions(a.actions, b.actions);
    case "check_pkt_len":
      return (
        b.kind === "check_pkt_len" &&
        a.length === b.length &&
        equalActions(a.greater, b.greater) &&
        equalActions(a.lessEqual, b.lessEqual)
      );
  }
};

/** Whether two lists do the same to every packet. */
export const equalActions = (a: readonly DpAction[], b: readonly DpAction[]): boolean =>
  a.length === b.length && a.every((action, i) => isSame(action, b[i]!));
