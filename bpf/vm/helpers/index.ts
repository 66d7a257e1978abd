// All helpers of the interpreter.

import { HELPERS, type HelperName } from "../../isa/helpers.js";
import { COMMON_HELPERS } from "./common.js";
import { FORWARD_HELPERS } from "./forward.js";
import type { Helper, HelperTable } from "./helper.js";
import { MAP_HELPERS } from "./maps.js";
import { SKB_HELPERS } from "./skb.js";
import { XDP_HELPERS } from "./xdp.js";

const TABLE: HelperTable = {
  ...COMMON_HELPERS,
  ...MAP_HELPERS,
  ...SKB_HELPERS,
  ...XDP_HELPERS,
  ...FORWARD_HELPERS,
};

/** A helper with its name. */
export interface NamedHelper extends Helper {
  readonly name: HelperName;
}

/** Helpers by the number that a call instruction names. */
export const VM_HELPERS: ReadonlyMap<number, NamedHelper> = new Map(
  Object.entries(TABLE).map(([key, helper]) => {
    const name = key as HelperName;
    return [HELPERS[name], { name, ...helper }];
  }),
);
