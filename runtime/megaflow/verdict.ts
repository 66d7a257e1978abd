// What megaflows keep of translations.

import type { Translation } from "#compiler";
import { equalActions } from "./actions.js";

/** What a megaflow keeps of its translation: the mask is its class's, the final flow nobody asks for. */
export type Verdict = Omit<Translation, "mask" | "looksAtFrag" | "final">;

const verdictOf = (translation: Translation): Verdict => {
  const { actions, rules, groups, learns, learned, finTimeouts, error, version } = translation;
  return { actions, rules, groups, learns, learned, finTimeouts, error, version };
};

/** Whether nothing in it belongs to one packet alone. */
const isCommon = ({ groups, learns, learned, finTimeouts }: Verdict): boolean =>
  groups.length + learns.length + learned.length + finTimeouts.length === 0;

/** Whether two that are common mean the same. */
const isSameVerdict = (a: Verdict, b: Verdict): boolean =>
  a.version === b.version &&
  a.error === b.error &&
  a.rules.length === b.rules.length &&
  a.rules.every((rule, i) => rule === b.rules[i]) &&
  equalActions(a.actions, b.actions);

/** Makes the verdicts of megaflows. New flows that come in a row mostly have the same: they share one, which nobody changes. */
export class Verdicts {
  private last: Verdict | undefined;

  of(translation: Translation): Verdict {
    const { last } = this;
    if (!isCommon(translation)) return verdictOf(translation);
    if (last !== undefined && isSameVerdict(last, translation)) return last;
    return (this.last = verdictOf(translation));
  }
}
