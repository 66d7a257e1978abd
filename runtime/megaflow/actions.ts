// What the cache asks of datapath action lists, again and again of the same: whether two are equal, which shape one has, and
// why a hook does not carry it.

import { isDeepStrictEqual } from "node:util";
import { equalBytes } from "ebpf-assembler";
import { nestedDpActions, refusal, shapeOf, type DpAction, type Frozen, type Hook } from "#compiler";

const NOTHING = new Uint8Array(0);

/** What is left to do stands in the same rules, and the packet goes on with the same state. */
const isSameFrozen = (a: Frozen, b: Frozen): boolean =>
  a.id === b.id &&
  isDeepStrictEqual(a.steps, b.steps) &&
  isDeepStrictEqual(a.actionSet, b.actionSet) &&
  isDeepStrictEqual(a.stack, b.stack) &&
  isDeepStrictEqual(a.metadata, b.metadata);

const isSame = (a: DpAction, b: DpAction): boolean => {
  switch (a.kind) {
    case "output":
      return b.kind === "output" && a.port === b.port;
    case "tnl_push":
      return (
        b.kind === "tnl_push" &&
        a.port === b.port &&
        a.hop?.ifindex === b.hop?.ifindex &&
        a.hop?.mtu === b.hop?.mtu &&
        (a.hop?.dstMac === undefined) === (b.hop?.dstMac === undefined) &&
        equalBytes(a.header, b.header)
      );
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
        a.continuation === b.continuation &&
        (a.frozen === undefined
          ? b.frozen === undefined
          : b.frozen !== undefined && isSameFrozen(a.frozen, b.frozen)) &&
        a.metadata.every((word, i) => word === b.metadata[i]) &&
        equalBytes(a.userdata ?? NOTHING, b.userdata ?? NOTHING)
      );
    case "push_mpls":
    case "add_mpls":
      return b.kind === a.kind && a.ethertype === b.ethertype && a.lse === b.lse;
    case "pop_mpls":
      return b.kind === "pop_mpls" && a.ethertype === b.ethertype;
    case "push_eth":
      return b.kind === "push_eth" && equalBytes(a.src, b.src) && equalBytes(a.dst, b.dst);
    case "pop_eth":
    case "pop_nsh":
      return b.kind === a.kind;
    case "push_nsh":
      return b.kind === "push_nsh" && equalBytes(a.header, b.header);
    case "recirc":
      return b.kind === "recirc" && isSameFrozen(a.frozen, b.frozen);
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

/** Remembers the last answers: new flows that come in a row mostly share a list. */
export class ActionFacts {
  private shaped: readonly DpAction[] | undefined;
  private shape = "";
  private judged: readonly DpAction[] | undefined;
  private hook: Hook | undefined;
  private why: string | undefined;

  /** As shapeOf(). */
  shapeOf(actions: readonly DpAction[]): string {
    if (actions !== this.shaped) {
      this.shape = shapeOf(actions);
      this.shaped = actions;
    }
    return this.shape;
  }

  /** As refusal(). */
  refusal(hook: Hook, actions: readonly DpAction[]): string | undefined {
    if (actions !== this.judged || hook !== this.hook) {
      this.why = refusal(hook, actions);
      this.judged = actions;
      this.hook = hook;
    }
    return this.why;
  }
}

/** Whether a list sends packets out of an OpenFlow port. */
export const sendsTo = (actions: readonly DpAction[], port: number): boolean =>
  actions.some(
    (action) =>
      ((action.kind === "output" || action.kind === "tnl_push") && action.port === port) ||
      nestedDpActions(action).some((list) => sendsTo(list, port)),
  );
