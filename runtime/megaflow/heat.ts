// How many packets each of several things has carried lately: what is hot comes first in the next program.

/** Packets of the last rounds, each counting half as much as the one after it. */
export class Heat<T> {
  private readonly packets = new Map<T, number>();

  add(what: T, packets: number): void {
    this.packets.set(what, this.of(what) + packets);
  }

  of(what: T): number {
    return this.packets.get(what) ?? 0;
  }

  /** A round is over. */
  cool(): void {
    for (const [what, packets] of this.packets) {
      if (packets < 1) this.packets.delete(what);
      else this.packets.set(what, packets / 2);
    }
  }

  /** The hottest first, those that are alike as they were. */
  sort<U>(all: readonly U[], of: (one: U) => T): U[] {
    return [...all].sort((a, b) => this.of(of(b)) - this.of(of(a)));
  }

  /** How many more looks a packet takes on average when things are looked at in this order instead of the best one. */
  excessLooks(order: readonly T[]): number {
    const looks = (some: readonly T[]): number => some.reduce((sum, one, i) => sum + this.of(one) * (i + 1), 0);
    const packets = order.reduce((sum, one) => sum + this.of(one), 0);
    return packets === 0 ? 0 : (looks(order) - looks(this.sort(order, (one) => one))) / packets;
  }
}
