// Carrying out changes of meters; with a meter go the rules that use it, as in OVS.

import { METER, type MeterCommand, type MeterMod } from "../openflow/parse/meters.js";
import type { Switch } from "./switch.js";

type Apply = (sw: Switch, mod: MeterMod, nowMs: number) => void;

const APPLY: Readonly<Record<MeterCommand, Apply>> = {
  add: (sw, { meter }, nowMs) => void sw.addMeter(meter, nowMs),
  modify: (sw, { meter }, nowMs) => void sw.modifyMeter(meter, nowMs),
  delete: (sw, { meter: { id } }) => {
    const ids = id === METER.ALL ? [...sw.meters].map(({ meter }) => meter.id) : [id];
    for (const each of ids) sw.deleteMeter(each);
  },
};

/** Carries out one change of meters. @throws MeterModError for what the switch refuses; nothing has changed then */
export const applyMeterMod = (sw: Switch, mod: MeterMod, nowMs: number): void => APPLY[mod.command](sw, mod, nowMs);
