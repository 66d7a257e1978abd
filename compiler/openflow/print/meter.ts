// Meters in text, in the words of OVS's ofputil_format_meter_config(), on one line: where OVS begins a line for each band,
// here is a space.

import { METER, METER_FLAGS } from "../parse/meters.js";
import type { Meter, MeterBand } from "../types.js";

const RESERVED: ReadonlyMap<number, string> = new Map([
  [METER.SLOWPATH, "slowpath"],
  [METER.CONTROLLER, "controller"],
  [METER.ALL, "all"],
]);

const bandText = ({ type, rate, burstSize, precLevel }: MeterBand, hasBurst: boolean): string =>
  [
    `type=${type}`,
    `rate=${rate}`,
    ...(hasBurst ? [`burst_size=${burstSize}`] : []),
    ...(type === "dscp_remark" ? [`prec_level=${precLevel}`] : []),
  ].join(" ");

/** `meter=1 pktps burst stats bands=type=drop rate=10 burst_size=20`, what `ovs-ofctl add-meter` takes. */
export const formatMeter = ({ id, flags, bands }: Meter): string =>
  [
    `meter=${RESERVED.get(id) ?? id}`,
    ...METER_FLAGS.filter((flag) => flags.includes(flag)),
    `bands=${bands.map((band) => bandText(band, flags.includes("burst"))).join(" ")}`,
  ].join(" ");
