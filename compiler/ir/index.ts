// The intermediate representation: what programs are made of, how they are built, printed and checked.

export { IrBuilder } from "./builder.js";
export { check, SIZE_BYTES } from "./check.js";
export { evalAlu, evalCond, evalSwap, type Constant } from "./constant.js";
export { estimate, type IrCost } from "./estimate.js";
export { IrError, type IrPlace } from "./error.js";
export { printEnd, printInst, printProgram } from "./print.js";
export * from "./types.js";
