// Type information in the kernel: needed by programs with callbacks or spin locks, and what makes `bpftool map dump` name
// the fields and `bpftool prog dump` show the flow behind each instruction.

import { functionsOf, type ObjectSpec } from "ebpf-assembler";
import { Attr, fromCString } from "../sys/bpf.js";
import { syscallError } from "../sys/errors.js";
import { Fd } from "../sys/fd.js";
import type { Sys } from "../sys/sys.js";

const LOG_SIZE = 1 << 16;

/**
 * Loads BTF. The descriptor may be closed once maps and programs that refer to it exist.
 * @throws {@link SyscallError} with the last line of the kernel's log
 */
export const loadBtf = (sys: Sys, btf: Uint8Array): Fd => {
  const values = { btf, btf_size: btf.length };
  let result = new Attr(sys, "BTF_LOAD", values).run();
  if (result >= 0) return new Fd(sys, result, "BTF");
  const log = new Uint8Array(LOG_SIZE);
  const logged = { btf_log_buf: log, btf_log_size: log.length, btf_log_level: 1 };
  result = new Attr(sys, "BTF_LOAD", { ...values, ...logged }).run();
  if (result >= 0) return new Fd(sys, result, "BTF");
  const reason = fromCString(log).trimEnd().split("\n").at(-1);
  throw syscallError("load the types of an object", "bpf(BTF_LOAD)", -result, reason === "" ? undefined : reason);
};

/** Whether something of the object does not work, or not fully, without types. */
export const wantsTypes = (spec: ObjectSpec): boolean =>
  spec.maps.some((map) => (map.keyFields?.length ?? 0) + (map.valueFields?.length ?? 0) > 0) ||
  spec.programs.some((program) => functionsOf(program).length > 1);
