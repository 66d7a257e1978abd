// Which hook can carry a list of datapath actions, and why nothing higher can. One table decides; trace, dump-flows and
// the compiler show its words.

import { IP_PROTO } from "../packet/headers.js";
import { TNL_F } from "../packet/tunnel.js";
import type { DpAction, SetTarget } from "./dp-action.js";

/** Hooks of a host, highest first; `slow` is user space. */
export type Carrier = "xdp" | "tc" | "slow";

/** What the rules look at. */
interface Profile {
  readonly outputs: number;
  /** Something is changed after a first output and before another. */
  readonly editsBetween: boolean;
  readonly controller: boolean;
  /** Something that only user space can rewrite. */
  readonly slowTarget: SetTarget | undefined;
  readonly sctpPort: boolean;
  readonly remarks: boolean;
  /** A meter comes after the last of several outputs, or the only one. */
  readonly metersBehind: boolean;
  /** Labels are popped. */
  readonly popsLabel: boolean;
  /** Labels are changed behind a change of tags, or headers behind a change of labels. */
  readonly mixesLabels: boolean;
  /** Why no program carries out what goes into a tunnel. */
  readonly tunnel: string | undefined;
  /** A packet gets a tag, then goes into a tunnel. */
  readonly tagsTunnelled: boolean;
  /** An action that no program has code for. */
  readonly beyond: DpAction["kind"] | undefined;
}

/** Rewrites that the datapath programs have no code for: all of neighbour discovery, whose options they do not walk. */
const SLOW_TARGETS: readonly SetTarget[] = [
  "nd_target",
  "nd_reserved",
  "nd_sll",
  "nd_tll",
  "nd_options_type",
  "vlan_tci",
  ...(["nsh_flags", "nsh_ttl", "nsh_spi", "nsh_si", "nsh_c1", "nsh_c2", "nsh_c3", "nsh_c4"] as const),
];

/** SCTP has a CRC32c over the whole packet, which BPF has no helper for. */
const setsSctpPort = (action: DpAction): boolean =>
  action.kind === "set" && action.target.startsWith("tp_") && action.proto === IP_PROTO.SCTP;

interface Limit {
  /** Hooks that cannot do it. */
  readonly hooks: readonly Carrier[];
  readonly applies: (profile: Profile) => boolean;
  readonly why: (profile: Profile) => string;
}

/** Actions that only user space carries out, and what they do. */
const BEYOND: Partial<Record<DpAction["kind"], string>> = {
  trunc: "cuts packets",
  clone: "works on copies of packets",
  check_pkt_len: "looks at the length of packets",
  add_mpls: "pushes labels",
  push_eth: "replaces the Ethernet header",
  pop_eth: "takes the Ethernet header off",
  push_nsh: "pushes network service headers",
  pop_nsh: "pops network service headers",
  recirc: "parses packets again",
};

/** In the order in which they are given as reasons. */
export const LIMITS: readonly Limit[] = [
  {
    hooks: ["xdp", "tc"],
    applies: ({ controller }) => controller,
    why: () => "copy to the controller: user space sends it",
  },
  {
    hooks: ["xdp", "tc"],
    applies: ({ slowTarget }) => slowTarget !== undefined,
    why: ({ slowTarget }) => `set of ${slowTarget}: only user space rewrites it`,
  },
  {
    hooks: ["xdp", "tc"],
    applies: ({ sctpPort }) => sctpPort,
    why: () => "set of an SCTP port: only user space computes CRC32c",
  },
  {
    hooks: ["xdp", "tc"],
    applies: ({ remarks }) => remarks,
    why: () => "meter with a dscp_remark band: only user space remarks",
  },
  {
    hooks: ["xdp", "tc"],
    applies: ({ metersBehind }) => metersBehind,
    why: () => "meter behind the last output: the packet is gone by then",
  },
  {
    hooks: ["xdp", "tc"],
    applies: ({ beyond }) => beyond !== undefined,
    why: ({ beyond }) => `${beyond}: only user space ${BEYOND[beyond!]}`,
  },
  {
    hooks: ["xdp", "tc"],
    applies: ({ mixesLabels }) => mixesLabels,
    why: () => "labels behind tags, or headers behind labels: only user space finds them again",
  },
  {
    hooks: ["xdp", "tc"],
    applies: ({ tunnel }) => tunnel !== undefined,
    why: ({ tunnel }) => `tnl_push: ${tunnel!}`,
  },
  {
    hooks: ["tc"],
    applies: ({ tagsTunnelled }) => tagsTunnelled,
    why: () => "push_vlan before a tunnel: TC keeps the tag outside of the packet",
  },
  {
    hooks: ["tc"],
    applies: ({ popsLabel }) => popsLabel,
    why: () => "pop_mpls: TC cannot take bytes off MPLS packets",
  },
  {
    hooks: ["xdp"],
    applies: ({ outputs, editsBetween }) => outputs > 1 && editsBetween,
    why: ({ outputs }) => `${outputs} outputs with different edits: XDP cannot clone`,
  },
  {
    hooks: ["xdp"],
    applies: ({ outputs }) => outputs > 1,
    why: ({ outputs }) => `${outputs} outputs: XDP cannot clone`,
  },
];

const isLabelAction = (action: DpAction): boolean =>
  action.kind === "push_mpls" || action.kind === "pop_mpls" || (action.kind === "set" && action.target === "mpls_lse");

/** Whether a list changes labels where a program would not find them, or headers where labels have moved them. */
const mixesLabels = (actions: readonly DpAction[]): boolean => {
  const first = actions.findIndex(isLabelAction);
  if (first < 0) return false;
  const last = actions.findLastIndex(isLabelAction);
  const isTag = ({ kind }: DpAction): boolean => kind === "push_vlan" || kind === "pop_vlan";
  const isDeep = (action: DpAction): boolean =>
    action.kind === "set" &&
    !isLabelAction(action) &&
    !action.target.startsWith("eth_") &&
    action.target !== "skb_priority";
  return actions.slice(0, last).some(isTag) || actions.slice(first).some(isDeep);
};

const isTunnel = ({ kind }: DpAction): boolean => kind === "tnl_push";

/** Why no program puts packets into the tunnels of a list. */
const tunnelProblem = (actions: readonly DpAction[]): string | undefined => {
  const at = actions.findIndex(isTunnel);
  const push = actions[at];
  if (push?.kind !== "tnl_push") return undefined;
  if (push.hop?.dstMac === undefined) return "the next hop is not known: the host finds it";
  if (push.tunnel.seq === true) return "user space numbers packets";
  if ((push.tunnel.flags & TNL_F.CSUM) !== 0) return "user space sums what is inside";
  const behind = actions.slice(at + 1);
  if (behind.some(isTunnel)) return "packets for several tunnels are copied by user space";
  if (behind.some(({ kind }) => kind !== "output")) return "a packet that is in a tunnel is not changed any more";
  return undefined;
};

const profileOf = (actions: readonly DpAction[]): Profile => {
  let outputs = 0;
  let edited = false;
  let editsBetween = false;
  let controller = false;
  let remarks = false;
  let metersBehind = false;
  let slowTarget: SetTarget | undefined;
  let beyond: DpAction["kind"] | undefined;
  for (const action of actions) {
    switch (action.kind) {
      case "output":
        if (edited && outputs > 0) editsBetween = true;
        edited = false;
        metersBehind = false;
        outputs++;
        break;
      case "tnl_push":
        outputs++;
        metersBehind = false;
        break;
      case "controller":
        controller = true;
        break;
      case "meter":
        remarks ||= action.remarks;
        metersBehind = outputs > 0;
        break;
      default:
        edited = true;
        if (BEYOND[action.kind] !== undefined) beyond ??= action.kind;
        if (action.kind === "set" && SLOW_TARGETS.includes(action.target)) slowTarget = action.target;
    }
  }
  const sctpPort = actions.some(setsSctpPort);
  const popsLabel = actions.some(({ kind }) => kind === "pop_mpls");
  return {
    ...{ outputs, editsBetween, controller, slowTarget, sctpPort, remarks, metersBehind, beyond, popsLabel },
    mixesLabels: mixesLabels(actions),
    tunnel: tunnelProblem(actions),
    tagsTunnelled: actions.findIndex(({ kind }) => kind === "push_vlan") >= 0 && actions.some(isTunnel),
  };
};

const refusalOf = (hook: Carrier, profile: Profile): string | undefined =>
  LIMITS.find(({ hooks, applies }) => hooks.includes(hook) && applies(profile))?.why(profile);

/** Why a hook cannot carry `actions`, or undefined when it can. */
export const refusal = (hook: Carrier, actions: readonly DpAction[]): string | undefined =>
  refusalOf(hook, profileOf(actions));

export interface Carriage {
  readonly hook: Carrier;
  /** Why the hook above cannot, when there is one above. */
  readonly why?: string;
  /** {@link why}, when only user space can. */
  readonly slow?: string;
}

/** The highest hook that can carry `actions`. */
export const carrierOf = (actions: readonly DpAction[]): Carriage => {
  const profile = profileOf(actions);
  const notXdp = refusalOf("xdp", profile);
  if (notXdp === undefined) return { hook: "xdp" };
  const why = refusalOf("tc", profile);
  return why === undefined ? { hook: "tc", why: notXdp } : { hook: "slow", why, slow: why };
};
