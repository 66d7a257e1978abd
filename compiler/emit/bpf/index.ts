// IR to BPF.

export { emitCode, emitProgram, type EmitOptions } from "./emit.js";
