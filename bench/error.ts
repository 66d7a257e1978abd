// What a bench throws when it would measure something else than it says.

import { OffloadError } from "ebpf-assembler";

export class BenchError extends OffloadError {
  readonly code = "EBENCH";
}
