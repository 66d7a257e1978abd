// IR to BPF.

export { costOf, VERIFIER_LIMITS, type VerifierCost } from "./cost.js";
export { emitCode, emitProgram, type EmitOptions } from "./emit.js";
