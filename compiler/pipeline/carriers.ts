// Which hook can carry a list of datapath actions, and why nothing higher can. One table decides; trace, dump-flows and
// the compiler show its words.

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
}

/** Rewrites that must first find an option: the datapath programs do not walk ND options. */
const SLOW_TARGETS: readonly SetTarget[] = ["nd_sll", "nd_tll", "nd_options_type"];

interface Limit {
  /** Hooks that cannot do it. */
  readonly hooks: readonly Carrier[];
  readonly applies: (profile: Profile) => boolean;
  readonly why: (profile: Profile) => string;
}

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
    why: ({ slowTarget }) => `set of ${slowTarget}: user space walks the options`,
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

const profileOf = (actions: readonly DpAction[]): Profile => {
  let outputs = 0;
  let edited = false;
  let editsBetween = false;
  let controller = false;
  let slowTarget: SetTarget | undefined;
  for (const action of actions) {
    switch (action.kind) {
      case "output":
        if (edited && outputs > 0) editsBetween = true;
        edited = false;
        outputs++;
        break;
      case "controller":
        controller = true;
        break;
      default:
        edited = true;
        if (action.kind === "set" && SLOW_TARGETS.includes(action.target)) slowTarget = action.target;
    }
  }
  return { outputs, editsBetween, controller, slowTarget };
};

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
  for (const hook of ["tc", "xdp"] as const) {
    const limit = LIMITS.find(({ hooks, applies }) => hooks.includes(hook) && applies(profile));
    if (limit === undefined) continue;
    const why = limit.why(profile);
    return hook === "tc" ? { hook: "slow", why, slow: why } : { hook: "tc", why };
  }
  return { hook: "xdp" };
};
