// The MAC table behind the NORMAL action: which port each source address was last seen on, per VLAN. Behaves as OVS
// lib/mac-learning.h: multicast sources are not learned, entries age out, a full table evicts the oldest entry of the
// port that holds most. Left out: the lock that gratuitous ARP puts on an entry, which matters to bonds only.
//
// Addresses are numbers of 48 bits, so that looking one up allocates nothing.

/** One learned address. */
export interface MacEntry {
  /** 48 bits. */
  readonly mac: number;
  /** 0 = untagged. */
  readonly vlan: number;
  port: number;
  expiresMs: number;
}

/** A source address that a packet showed, to be learned. */
export interface MacSighting {
  readonly mac: number;
  readonly vlan: number;
  readonly port: number;
}

/** Seconds after which an unseen address is forgotten (MAC_ENTRY_DEFAULT_IDLE_TIME). */
export const MAC_AGING_S = 300;

/** Size of the table (MAC_DEFAULT_MAX). */
export const MAC_TABLE_SIZE = 8192;

export const isMulticast = (mac: number): boolean => Math.floor(mac / 2 ** 40) % 2 === 1;

export class MacTable {
  /** Rises when an address appears, moves or goes: whenever a translation may come out otherwise. */
  version = 0;
  readonly #agingMs: number;
  readonly #size: number;
  readonly #vlans = new Map<number, Map<number, MacEntry>>();
  /** All entries, least recently seen first. */
  readonly #lru = new Set<MacEntry>();
  /** The same, per port. */
  readonly #ports = new Map<number, Set<MacEntry>>();

  constructor(options: { readonly agingS?: number; readonly size?: number } = {}) {
    this.#agingMs = (options.agingS ?? MAC_AGING_S) * 1000;
    this.#size = options.size ?? MAC_TABLE_SIZE;
  }

  get size(): number {
    return this.#lru.size;
  }

  /** The port of `mac`; nothing for multicast. Entries past their age count until {@link expire} takes them out. */
  lookup(mac: number, vlan: number): number | undefined {
    return this.#vlans.get(vlan)?.get(mac)?.port;
  }

  /** Notes a sighting. Returns whether it changed where packets go. */
  learn({ mac, vlan, port }: MacSighting, nowMs: number): boolean {
    if (isMulticast(mac)) return false;
    let macs = this.#vlans.get(vlan);
    if (macs === undefined) this.#vlans.set(vlan, (macs = new Map<number, MacEntry>()));
    let entry = macs.get(mac);
    const moved = entry?.port !== port;
    if (entry === undefined) {
      if (this.#lru.size >= this.#size) this.#evict();
      entry = { mac, vlan, port, expiresMs: 0 };
      macs.set(mac, entry);
    } else {
      this.#lru.delete(entry);
      this.#ports.get(entry.port)!.delete(entry);
      entry.port = port;
    }
    entry.expiresMs = nowMs + this.#agingMs;
    this.#lru.add(entry);
    let ofPort = this.#ports.get(port);
    if (ofPort === undefined) this.#ports.set(port, (ofPort = new Set<MacEntry>()));
    ofPort.add(entry);
    if (moved) this.version++;
    return moved;
  }

  /** Puts an entry in as it was, least recently seen first. */
  restore({ expiresMs, ...sighting }: MacEntry): void {
    this.learn(sighting, expiresMs - this.#agingMs);
  }

  /** Forgets the addresses not seen for the aging time. Returns how many. */
  expire(nowMs: number): number {
    let n = 0;
    for (const entry of this.#lru) {
      if (entry.expiresMs > nowMs) break;
      this.#forget(entry);
      n++;
    }
    return n;
  }

  /** Forgets all addresses, or those of one port. */
  flush(port?: number): void {
    for (const entry of port === undefined ? this.#lru : (this.#ports.get(port) ?? [])) this.#forget(entry);
  }

  /** All entries, least recently seen first. */
  entries(): Iterable<Readonly<MacEntry>> {
    return this.#lru;
  }

  #evict(): void {
    let largest: Set<MacEntry> | undefined;
    for (const entries of this.#ports.values()) {
      if (largest === undefined || entries.size > largest.size) largest = entries;
    }
    for (const entry of largest ?? []) {
      this.#forget(entry);
      return;
    }
  }

  #forget(entry: MacEntry): void {
    this.#lru.delete(entry);
    this.#ports.get(entry.port)!.delete(entry);
    const macs = this.#vlans.get(entry.vlan)!;
    macs.delete(entry.mac);
    if (macs.size === 0) this.#vlans.delete(entry.vlan);
    this.version++;
  }
}
