// The plan of a program before any packet has come.

import { FIRST_SHAPE } from "../datapath/abi.js";
import { keyLayout, subtable } from "../datapath/key.js";
import { plan, shape, type DatapathPlan } from "../datapath/plan.js";
import type { Switch } from "../pipeline/switch.js";
import { forecast } from "./forecast.js";
import { relevantMembers } from "./relevance.js";

/** The plan for a switch that has seen no packet yet. */
export const forecastPlan = (sw: Switch): DatapathPlan => {
  const key = keyLayout(relevantMembers(sw));
  const { masks, shapes } = forecast(sw, key);
  return plan({
    key,
    subtables: masks.map(({ mask, from }, i) => subtable(`mf_${i}`, mask, from)),
    shapes: shapes.map(({ actions, from }, i) => shape(FIRST_SHAPE + i, actions, from)),
  });
};
