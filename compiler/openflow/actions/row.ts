// What a row of the action table says about one kind of action: how it is read from text and written to it, what it asks
// of the match, what becomes of it in a version of OpenFlow, where an action set carries it out. Rows are grouped by family in
// the files beside this one; table.ts puts them together.

import type { Action, ActionKind, ActionOf } from "../action.js";
import type { FlowWords } from "../flow.js";
import type { ParseContext } from "../parse/context.js";
import type { Piece } from "../parse/source.js";
import type { PortNames } from "../ports.js";

/** An action and where it was written. */
export interface LocatedAction {
  readonly action: Action;
  readonly at: number;
  /** The actions inside it. */
  readonly nested?: readonly LocatedAction[];
}

/** What actions stand inside of, when not in a flow or a bucket itself. */
export type Outer = "write_actions" | "clone" | "ct";

export interface ParseArgs {
  readonly context: ParseContext;
  /** Reads actions inside this one. */
  readonly list: (text: Piece, outer: Outer) => readonly LocatedAction[];
}

/** @throws CompileError at the part of `value` that is wrong */
export type Parse = (args: ParseArgs, value: Piece, name: Piece) => Action | LocatedAction;

export interface ActionFormat {
  readonly ports?: PortNames;
}

export interface PrintArgs extends ActionFormat {
  readonly list: (actions: readonly Action[]) => string;
}

/** The state of a walk over the actions of a flow, in order. */
export interface Checked {
  readonly context: ParseContext;
  /** The value part of the match, changed as the actions before would change it. */
  readonly flow: FlowWords;
  /** The mask part of the match. */
  readonly mask: FlowWords;
  /** Table of the flow. */
  readonly table: number;
  /** Whether versions may be narrowed: not within an action set, whose order is not known. */
  readonly narrows: boolean;
  /** Checks actions inside this one, as if the packet came back unchanged from them. */
  readonly nested: (actions: readonly LocatedAction[], narrows: boolean) => void;
}

/** @throws CompileError if the action does not fit here */
export type Check<A extends Action> = (state: Checked, action: A, located: LocatedAction) => void;

/** The state of a walk that puts actions into the words of one version of OpenFlow. */
export interface Carrying {
  /** 0 for OpenFlow 1.0. */
  readonly minor: number;
  /** Value part of the match, with the tags as the actions before leave them. */
  readonly flow: FlowWords;
  readonly nested: (actions: readonly Action[]) => Action[] | undefined;
}

/** What arrives at the other end; undefined if that end refuses it. */
export type Carry<A extends Action> = (action: A, state: Carrying) => Action[] | undefined;

export interface ActionRow<A extends Action> {
  /** By the names it has in text, in lower case. None: it has no name of its own. */
  readonly parse: Readonly<Record<string, Parse>>;
  readonly print: (action: A, args: PrintArgs) => string;
  /** Absent: it may stand anywhere. */
  readonly check?: Check<A>;
  /** Absent: it arrives as it is, in every version. */
  readonly carry?: Carry<A>;
  /**
   * In an action set: `once` = only the last one written counts, and kinds go in a fixed order; `set` = all of them, in order;
   * `final` = only one of all of these is carried out, last. Absent = not allowed there.
   */
  readonly inSet?: "once" | "set" | "final";
}

/** Rows of some kinds of action. */
export type Rows<K extends ActionKind> = { readonly [Each in K]: ActionRow<ActionOf<Each>> };

/** Carries an action that does not exist before OpenFlow 1.`minor`. */
export const since =
  (minor: number): Carry<Action> =>
  (action, state) =>
    state.minor < minor ? undefined : [action];
