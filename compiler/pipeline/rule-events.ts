// What happens to the rules of a switch, for those who want to hear of it.

import type { Rule } from "./table.js";

/** Why a rule left its table; OpenFlow's flow-removed reasons. */
export type RemovalReason = "idle_timeout" | "hard_timeout" | "delete" | "group_delete" | "meter_delete";

/** What happened to a rule of the user's. */
export type RuleEvent =
  /** `old`: the identical one that was there before. */
  | { readonly kind: "added"; readonly rule: Rule; readonly old?: Rule }
  | { readonly kind: "modified"; readonly rule: Rule; readonly old: Rule }
  | { readonly kind: "removed"; readonly rule: Rule; readonly reason: RemovalReason };

/** What changes in a switch. */
export type SwitchChange = RuleEvent | "transaction" | "ports" | "groups" | "meters" | "controllers" | "fragments";

/** Tells one listener of rules, of what happens in a transaction at its end; and before it one of all that changes. */
export class RuleEvents {
  #listener: ((event: RuleEvent) => void) | undefined;
  #follower: ((change: SwitchChange) => void) | undefined;
  #held: RuleEvent[] | undefined;

  listen(listener: ((event: RuleEvent) => void) | undefined): void {
    this.#listener = listener;
  }

  follow(follower: ((change: SwitchChange) => void) | undefined): void {
    this.#follower = follower;
  }

  tell(event: RuleEvent): void {
    if (event.rule.hidden) return;
    if (this.#held !== undefined) {
      this.#held.push(event);
      return;
    }
    this.#follower?.(event);
    this.#listener?.(event);
  }

  /** Something else than a rule has changed, or may have. */
  changed(what: Exclude<SwitchChange, RuleEvent>): void {
    this.#follower?.(what);
  }

  /** Nothing has happened for good until {@link release} or {@link forget}. */
  hold(): void {
    this.#held = [];
  }

  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    // What happens at once must not be seen one by one.
    if (held.length > 1) this.changed("transaction");
    for (const event of held) this.tell(event);
  }

  forget(): void {
    this.#held = undefined;
  }
}
