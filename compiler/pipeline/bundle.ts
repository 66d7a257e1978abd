// Bundles: changes of which all happen or none. Packets within a bundle see the tables as the lines before them left them, and
// are sent only when every line has been accepted.

import { FLOW_WORDS, newFlow, type FlowWords } from "../openflow/flow.js";
import type { BundleMod, PacketOut } from "../openflow/parse/bundle.js";
import { extract } from "../packet/extract.js";
import type { Switch } from "./switch.js";
import { atPlace, applyTableMod } from "./table-mod.js";
import { translate, type Translation } from "./translate.js";

/** A packet of a bundle, to be carried out. */
export interface BundlePacket {
  readonly packet: Uint8Array;
  readonly translation: Translation;
}

/** Metadata words lie before the headers. */
const withMetadata = (flow: FlowWords, { value, mask }: PacketOut["metadata"]): void => {
  for (let word = 0; word < FLOW_WORDS; word++) flow[word] = (flow[word]! & ~mask[word]!) | value[word]!;
};

/** What becomes of a packet that a controller sends, as the tables are now. */
export const translateOut = (
  sw: Switch,
  { packet, inPort, metadata, actions }: Pick<PacketOut, "packet" | "inPort" | "metadata" | "actions">,
): BundlePacket => {
  const flow = newFlow();
  extract(packet, packet.length, inPort, flow);
  withMetadata(flow, metadata);
  return { packet, translation: translate(sw, flow, { actions }) };
};

/**
 * Commits a bundle.
 *
 * @returns the packets to send now
 * @throws CompileError with file and line of the first line that the switch refuses; nothing has changed then
 */
export const applyBundle = (sw: Switch, bundle: readonly BundleMod[], nowMs: number): BundlePacket[] =>
  sw.transaction(() => {
    const packets: BundlePacket[] = [];
    for (const each of bundle) {
      if (each.kind === "packet_out") packets.push(translateOut(sw, each.mod));
      else atPlace(each, () => applyTableMod(sw, each, nowMs));
    }
    return packets;
  });
