// The tunnel options that controllers have given fields to (OVS: tun_table). A change is made whole or not at all.

import { OpenFlowError, TUN_METADATA_TOTAL_BYTES, type WireTlvMapping, type WireTlvMod } from "#compiler";

export class TlvMap {
  private byIndex: ReadonlyMap<number, WireTlvMapping> = new Map();

  /** In the order of their fields. */
  get mappings(): readonly WireTlvMapping[] {
    return [...this.byIndex.values()].sort((a, b) => a.index - b.index);
  }

  /** @throws {@link OpenFlowError} */
  change({ command, mappings }: WireTlvMod): void {
    if (command === "clear") {
      this.byIndex = new Map();
      return;
    }
    const next = new Map(this.byIndex);
    for (const mapping of mappings) {
      if (command === "delete") next.delete(mapping.index);
      else add(next, mapping);
    }
    this.byIndex = next;
  }
}

const add = (to: Map<number, WireTlvMapping>, mapping: WireTlvMapping): void => {
  const { index, optionClass, optionType, optionBytes } = mapping;
  const refuse = (error: "NXTTMFC_ALREADY_MAPPED" | "NXTTMFC_DUP_ENTRY" | "NXTTMFC_TABLE_FULL", why: string): never => {
    throw new OpenFlowError(error, `Cannot map tun_metadata${index}: ${why}`);
  };
  if (to.has(index)) refuse("NXTTMFC_ALREADY_MAPPED", "it is mapped already");
  let bytes = optionBytes;
  for (const other of to.values()) {
    if (other.optionClass === optionClass && other.optionType === optionType)
      refuse("NXTTMFC_DUP_ENTRY", `the option is tun_metadata${other.index} already`);
    bytes += other.optionBytes;
  }
  if (bytes > TUN_METADATA_TOTAL_BYTES) refuse("NXTTMFC_TABLE_FULL", `want at most ${TUN_METADATA_TOTAL_BYTES} bytes`);
  to.set(index, mapping);
};
