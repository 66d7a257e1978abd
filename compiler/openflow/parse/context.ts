// What all parts of a line share while it is parsed: the line itself, the names of ports, and the set of OpenFlow
// versions that can still carry what was read.

import { CARRIED_BY, describeProtocols } from "../versions.js";
import type { PortNames } from "../ports.js";
import { diagnosticAt, fail, type Line } from "./source.js";
import type { Diagnostic } from "ebpf-assembler";

interface Narrowing {
  readonly protocols: number;
  readonly at: number;
  readonly what: string;
}

export class ParseContext {
  /** {@link PROTOCOL} bits of the versions that can carry everything read so far. */
  protocols: number = CARRIED_BY.any;

  /** Parts that OVS accepts but does without. */
  readonly warnings: Diagnostic[] = [];

  #narrowings: Narrowing[] = [];

  /** Where the actions began: what was read before them. */
  #beforeActions: { readonly protocols: number; readonly narrowings: number } = {
    protocols: CARRIED_BY.any,
    narrowings: 0,
  };

  constructor(
    readonly line: Line,
    readonly ports?: PortNames,
  ) {}

  /** @throws CompileError always */
  fail(at: number, message: string): never {
    return fail(this.line, at, message);
  }

  warn(at: number, message: string): void {
    this.warnings.push(diagnosticAt(this.line, at, message));
  }

  /** Notes that `what`, at offset `at`, needs one of `protocols`. */
  narrow(protocols: number, at: number, what: string): void {
    if (protocols === CARRIED_BY.any) return;
    this.protocols &= protocols;
    this.#narrowings.push({ protocols, at, what });
  }

  /** Marks that the actions begin here. */
  beginActions(): void {
    this.#beforeActions = { protocols: this.protocols, narrowings: this.#narrowings.length };
  }

  /** Takes back what the actions read so far have narrowed. */
  forgetActions(): void {
    this.protocols = this.#beforeActions.protocols;
    this.#narrowings = this.#narrowings.slice(0, this.#beforeActions.narrowings);
  }

  /** @throws CompileError if no single version is left, with the two parts that exclude each other */
  requireVersion(): void {
    if (this.protocols !== 0) return;
    let left: number = CARRIED_BY.any;
    for (const [i, last] of this.#narrowings.entries()) {
      if ((left & last.protocols) === 0) {
        const other = this.#narrowings.slice(0, i).find((n) => (n.protocols & last.protocols) === 0);
        const needs = `${last.what} needs ${describeProtocols(last.protocols)}`;
        const but =
          other === undefined
            ? "other parts of the flow do not"
            : `${other.what} needs ${describeProtocols(other.protocols)}`;
        this.fail(last.at, `Cannot express the flow in one version of OpenFlow: ${needs}, ${but}`);
      }
      left &= last.protocols;
    }
  }
}
