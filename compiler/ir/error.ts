// The one error that programs in the intermediate representation raise: an ill-formed program is a defect of whatever
// built it, so the message names the program, the block and the instruction.

import { OffloadError } from "ebpf-assembler";

/** A place in a program: `instruction` counts from 0 within the block; the terminator is the one after the last. */
export interface IrPlace {
  readonly program: string;
  readonly block?: string;
  readonly instruction?: number;
  /** Text of the instruction, as the printer writes it. */
  readonly text?: string;
}

/** An ill-formed program, or one that does not fit its hook or the machine. */
export class IrError extends OffloadError {
  readonly code = "EIR";

  constructor(
    readonly place: IrPlace,
    readonly problem: string,
  ) {
    const block = place.block === undefined ? "" : `, block ${place.block}`;
    const inst = place.instruction === undefined ? "" : `, instruction ${place.instruction}`;
    const text = place.text === undefined ? "" : ` "${place.text}"`;
    super(`Cannot compile program ${place.program}${block}${inst}${text}: ${problem}`);
  }
}
