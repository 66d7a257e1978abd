// Which action shapes the running program has code for, and which another should have.

import {
  FIRST_SHAPE,
  putArgs,
  shape,
  SHAPE_DROP,
  SHAPE_SLOW,
  shapeOf,
  VALUE,
  type DatapathPlan,
  type DpAction,
  type Hook,
  type Shape,
} from "#compiler";
import { ActionFacts } from "./actions.js";
import { SEED_SHAPES } from "./first-plan.js";
import { Heat } from "./heat.js";
import type { Ukey } from "./ukey.js";

/** One megaflow in so many tells how hot its shape is. */
const WARMED_EVERY = 7;

/** What the cache has to know of the ports. */
export interface PortLookup {
  /** What sends to an OpenFlow port, as putArgs() takes it; 0 when it is none of ours: packets for it are dropped. */
  outputOf(port: number): number;
  /** Which program handles packets that come in by this interface. */
  hookOf(ifindex: number): Hook;
}

/** A shape that no program has code for yet, and the megaflows that user space carries out until one has. */
interface WantedShape {
  readonly actions: readonly DpAction[];
  readonly ukeys: Set<Ukey>;
}

export class Shapes {
  /** Of the running program, by text. */
  running: ReadonlyMap<string, Shape>;
  private readonly facts = new ActionFacts();
  private readonly heat = new Heat<string>();
  private nWarmed = 0;
  private readonly wanted = new Map<string, WantedShape>();
  /** Shapes that the kernel would not load. */
  private readonly refused = new Set<string>();
  private readonly outputOf: (port: number) => number;

  /** @param onWanted - told when a new program would serve better */
  constructor(
    plan: DatapathPlan,
    private readonly ports: PortLookup,
    private readonly max: number,
    private readonly onWanted: () => void,
  ) {
    this.running = shapesByText(plan);
    this.outputOf = (port) => ports.outputOf(port);
  }

  get isWanting(): boolean {
    return this.wanted.size > 0;
  }

  /** Writes shape and arguments of a megaflow's actions. */
  readonly fill = (ukey: Ukey, value: DataView): void => {
    const { actions } = ukey.translation;
    const number = this.numberOf(ukey);
    value.setUint32(VALUE.shape, number, true);
    if (number >= FIRST_SHAPE)
      putArgs(this.running.get(this.facts.shapeOf(actions))!, actions, this.outputOf, value, VALUE.args);
  };

  private numberOf(ukey: Ukey): number {
    const { actions } = ukey.translation;
    if (actions.length === 0) return SHAPE_DROP;
    if (this.slowReason(ukey) !== undefined) return SHAPE_SLOW;
    const text = this.facts.shapeOf(actions);
    const known = this.running.get(text);
    if (known !== undefined) return known.id;
    if (this.refused.has(text)) return SHAPE_SLOW;
    let wanted = this.wanted.get(text);
    if (wanted === undefined) {
      if (this.running.size + this.wanted.size >= this.max) return SHAPE_SLOW;
      this.wanted.set(text, (wanted = { actions, ukeys: new Set() }));
      this.onWanted();
    }
    wanted.ukeys.add(ukey);
    return SHAPE_SLOW;
  }

  /** Why user space must carry out a megaflow's actions for good; undefined when its hook's program can. */
  slowReason(ukey: Ukey): string | undefined {
    return this.facts.refusal(this.ports.hookOf(ukey.ifindex), ukey.translation.actions);
  }

  /** Where packets of a megaflow are handled now: by the hook's program or by user space. */
  isFast(ukey: Ukey): boolean {
    const { actions } = ukey.translation;
    return (
      actions.length === 0 || (this.slowReason(ukey) === undefined && this.running.has(this.facts.shapeOf(actions)))
    );
  }

  textOf(ukey: Ukey): string {
    return this.facts.shapeOf(ukey.translation.actions);
  }

  /** Packets went through a list of actions. Only some are asked for their shape, which takes longer than to count them. */
  warm(actions: readonly DpAction[], packets: number): void {
    if (++this.nWarmed % WARMED_EVERY === 0 && actions.length > 0) this.heat.add(this.facts.shapeOf(actions), packets);
  }

  /** A round of reading counters is over. */
  cool(): void {
    this.heat.cool();
  }

  /** A megaflow waits for no shape any more. */
  forget(ukey: Ukey): void {
    for (const { ukeys } of this.wanted.values()) ukeys.delete(ukey);
  }

  forgetAll(): void {
    this.wanted.clear();
  }

  get wantedTexts(): string[] {
    return [...this.wanted.keys()];
  }

  /**
   * Shapes of the next program, in the order in which it asks for them: those of `old`, without unused ones when there are too
   * many, and the wanted ones.
   */
  next(old: DatapathPlan, ukeys: () => Iterable<Ukey>): Shape[] {
    let shapes = [...old.shapes];
    if (shapes.length + this.wanted.size >= this.max) {
      const used = new Set(SEED_SHAPES.map(shapeOf));
      for (const ukey of ukeys()) used.add(this.textOf(ukey));
      shapes = shapes.filter(({ text }) => used.has(text));
    }
    const numbers = new Set(old.shapes.map(({ id }) => id));
    let number = FIRST_SHAPE;
    for (const { actions } of this.wanted.values()) {
      while (numbers.has(number)) number++;
      numbers.add(number);
      shapes.push(shape(number, actions));
    }
    return this.heat.sort(shapes, ({ text }) => text);
  }

  /** `plan` runs from now on. @returns texts of shapes that it has no more */
  adopt(plan: DatapathPlan): ReadonlySet<string> {
    const before = this.running;
    this.running = shapesByText(plan);
    return new Set([...before.keys()].filter((text) => !this.running.has(text)));
  }

  /** Takes shapes off the list of wishes. @returns megaflows that waited for them */
  satisfy(texts: Iterable<string>): Ukey[] {
    const all = [...texts];
    const waiting = all.flatMap((text) => [...(this.wanted.get(text)?.ukeys ?? [])]);
    for (const text of all) this.wanted.delete(text);
    return waiting;
  }

  /** The kernel takes no program with these: they are not asked for again, and their packets stay with user space. */
  refuse(texts: Iterable<string>): void {
    for (const text of texts) {
      this.refused.add(text);
      this.wanted.delete(text);
    }
  }
}

const shapesByText = (plan: DatapathPlan): Map<string, Shape> => new Map(plan.shapes.map((s) => [s.text, s]));
