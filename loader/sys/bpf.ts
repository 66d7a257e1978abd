// The bpf(2) commands as data: number, size of `union bpf_attr` used, and the offset of each field (uapi/linux/bpf.h).
// One function encodes them all, so that a command is called with names, and the memory its pointers refer to stays
// alive until the kernel is done.

import { RangeViolation } from "ebpf-assembler";
import { syscallError } from "./errors.js";
import type { Memory, Sys } from "./sys.js";

type Kind = "u32" | "u64" | "ptr" | "name";
type Field = readonly [at: number, kind: Kind];
interface Command {
  readonly cmd: number;
  readonly size: number;
  readonly fields: Readonly<Record<string, Field>>;
}

const BATCH_FIELDS = {
  in_batch: [0, "ptr"],
  out_batch: [8, "ptr"],
  keys: [16, "ptr"],
  values: [24, "ptr"],
  count: [32, "u32"],
  map_fd: [36, "u32"],
  elem_flags: [40, "u64"],
  flags: [48, "u64"],
} as const;
const BY_ID_FIELDS = { id: [0, "u32"], next_id: [4, "u32"], open_flags: [8, "u32"] } as const;
const PIN_FIELDS = { pathname: [0, "ptr"], bpf_fd: [8, "u32"], file_flags: [12, "u32"] } as const;

export const COMMANDS = {
  MAP_CREATE: {
    cmd: 0,
    size: 72,
    fields: {
      map_type: [0, "u32"],
      key_size: [4, "u32"],
      value_size: [8, "u32"],
      max_entries: [12, "u32"],
      map_flags: [16, "u32"],
      inner_map_fd: [20, "u32"],
      numa_node: [24, "u32"],
      map_name: [28, "name"],
      map_ifindex: [44, "u32"],
      btf_fd: [48, "u32"],
      btf_key_type_id: [52, "u32"],
      btf_value_type_id: [56, "u32"],
      map_extra: [64, "u64"],
    },
  },
  PROG_LOAD: {
    cmd: 5,
    size: 128,
    fields: {
      prog_type: [0, "u32"],
      insn_cnt: [4, "u32"],
      insns: [8, "ptr"],
      license: [16, "ptr"],
      log_level: [24, "u32"],
      log_size: [28, "u32"],
      log_buf: [32, "ptr"],
      prog_flags: [44, "u32"],
      prog_name: [48, "name"],
      prog_ifindex: [64, "u32"],
      expected_attach_type: [68, "u32"],
      prog_btf_fd: [72, "u32"],
      func_info_rec_size: [76, "u32"],
      func_info: [80, "ptr"],
      func_info_cnt: [88, "u32"],
      line_info_rec_size: [92, "u32"],
      line_info: [96, "ptr"],
      line_info_cnt: [104, "u32"],
      fd_array: [120, "ptr"],
    },
  },
  OBJ_PIN: { cmd: 6, size: 16, fields: PIN_FIELDS },
  OBJ_GET: { cmd: 7, size: 16, fields: PIN_FIELDS },
  PROG_TEST_RUN: {
    cmd: 10,
    size: 80,
    fields: {
      prog_fd: [0, "u32"],
      retval: [4, "u32"],
      data_size_in: [8, "u32"],
      data_size_out: [12, "u32"],
      data_in: [16, "ptr"],
      data_out: [24, "ptr"],
      repeat: [32, "u32"],
      duration: [36, "u32"],
      ctx_size_in: [40, "u32"],
      ctx_size_out: [44, "u32"],
      ctx_in: [48, "ptr"],
      ctx_out: [56, "ptr"],
      flags: [64, "u32"],
      cpu: [68, "u32"],
      batch_size: [72, "u32"],
    },
  },
  PROG_GET_NEXT_ID: { cmd: 11, size: 12, fields: BY_ID_FIELDS },
  MAP_GET_NEXT_ID: { cmd: 12, size: 12, fields: BY_ID_FIELDS },
  PROG_GET_FD_BY_ID: { cmd: 13, size: 12, fields: BY_ID_FIELDS },
  MAP_GET_FD_BY_ID: { cmd: 14, size: 12, fields: BY_ID_FIELDS },
  OBJ_GET_INFO_BY_FD: {
    cmd: 15,
    size: 16,
    fields: { bpf_fd: [0, "u32"], info_len: [4, "u32"], info: [8, "ptr"] },
  },
  PROG_QUERY: {
    cmd: 16,
    size: 64,
    fields: {
      target_ifindex: [0, "u32"],
      attach_type: [4, "u32"],
      query_flags: [8, "u32"],
      attach_flags: [12, "u32"],
      prog_ids: [16, "ptr"],
      count: [24, "u32"],
      prog_attach_flags: [32, "ptr"],
      link_ids: [40, "ptr"],
      link_attach_flags: [48, "ptr"],
      revision: [56, "u64"],
    },
  },
  BTF_LOAD: {
    cmd: 18,
    size: 28,
    fields: {
      btf: [0, "ptr"],
      btf_log_buf: [8, "ptr"],
      btf_size: [16, "u32"],
      btf_log_size: [20, "u32"],
      btf_log_level: [24, "u32"],
    },
  },
  MAP_FREEZE: { cmd: 22, size: 4, fields: { map_fd: [0, "u32"] } },
  MAP_LOOKUP_BATCH: { cmd: 24, size: 56, fields: BATCH_FIELDS },
  MAP_LOOKUP_AND_DELETE_BATCH: { cmd: 25, size: 56, fields: BATCH_FIELDS },
  MAP_UPDATE_BATCH: { cmd: 26, size: 56, fields: BATCH_FIELDS },
  MAP_DELETE_BATCH: { cmd: 27, size: 56, fields: BATCH_FIELDS },
  LINK_CREATE: {
    cmd: 28,
    size: 32,
    fields: {
      prog_fd: [0, "u32"],
      target_ifindex: [4, "u32"],
      attach_type: [8, "u32"],
      flags: [12, "u32"],
      relative_fd: [16, "u32"],
      expected_revision: [24, "u64"],
    },
  },
  LINK_UPDATE: {
    cmd: 29,
    size: 16,
    fields: { link_fd: [0, "u32"], new_prog_fd: [4, "u32"], flags: [8, "u32"], old_prog_fd: [12, "u32"] },
  },
  LINK_GET_FD_BY_ID: { cmd: 30, size: 12, fields: BY_ID_FIELDS },
  LINK_GET_NEXT_ID: { cmd: 31, size: 12, fields: BY_ID_FIELDS },
  LINK_DETACH: { cmd: 34, size: 4, fields: { link_fd: [0, "u32"] } },
} as const satisfies Record<string, Command>;

export type CommandName = keyof typeof COMMANDS;
export type FieldName<C extends CommandName> = keyof (typeof COMMANDS)[C]["fields"] & string;
/** Numbers for integers, memory (or an address) for pointers, at most 15 ASCII characters for names. */
export type AttrValues<C extends CommandName> = { readonly [F in FieldName<C>]?: number | bigint | string | Memory };

/** Hot map commands share one layout: map_fd u32 at 0, key pointer at 8, value pointer at 16, flags u64 at 24. */
export const ELEM = {
  LOOKUP: 1,
  UPDATE: 2,
  DELETE: 3,
  GET_NEXT_KEY: 4,
  LOOKUP_AND_DELETE: 21,
  size: 32,
  at: { map_fd: 0, key: 8, value: 16, flags: 24 },
} as const;

/** Kernel object names: at most 15 characters of [A-Za-z0-9_.] (BPF_OBJ_NAME_LEN). */
const putName = (view: DataView, at: number, name: string): void => {
  if (!/^[A-Za-z0-9_.]{0,15}$/.test(name))
    throw new RangeViolation(`Bad kernel object name ${JSON.stringify(name)}: want at most 15 of [A-Za-z0-9_.]`);
  for (let i = 0; i < name.length; i++) view.setUint8(at + i, name.charCodeAt(i));
};

/** One encoded command. Holds the memory that it points to. */
export class Attr<C extends CommandName> {
  readonly view: DataView;
  private readonly held: Memory[] = [];

  constructor(
    readonly sys: Sys,
    readonly name: C,
    values: AttrValues<C>,
  ) {
    this.view = new DataView(new ArrayBuffer(COMMANDS[name].size));
    for (const field of Object.keys(values) as FieldName<C>[]) {
      const value = values[field];
      if (value !== undefined) this.set(field, value);
    }
  }

  set(field: FieldName<C>, value: number | bigint | string | Memory): void {
    const [at, kind] = (COMMANDS[this.name] as Command).fields[field] as Field;
    if (typeof value === "string") putName(this.view, at, value);
    else if (typeof value === "bigint") this.view.setBigUint64(at, value, true);
    else if (typeof value === "object") {
      this.held.push(value);
      this.view.setBigUint64(at, BigInt(this.sys.address(value)), true);
    } else if (kind === "u32") this.view.setUint32(at, value, true);
    else this.view.setBigUint64(at, BigInt(value), true);
  }

  /** A u32 that the kernel wrote back. */
  u32(field: FieldName<C>): number {
    return this.view.getUint32(((COMMANDS[this.name] as Command).fields[field] as Field)[0], true);
  }

  /** Runs the command: its result, or minus errno. */
  run(): number {
    const { cmd, size } = COMMANDS[this.name];
    const result = this.sys.bpf(cmd, this.sys.address(this.view), size);
    void this.held.length; // reachable until here
    return result;
  }
}

/** Runs one bpf command and returns its result, or minus errno. */
export const tryBpf = <C extends CommandName>(sys: Sys, name: C, values: AttrValues<C>): number =>
  new Attr(sys, name, values).run();

/**
 * Runs one bpf command.
 * @param action - completes "Cannot …" in the error
 * @throws {@link SyscallError}
 */
export const bpf = <C extends CommandName>(sys: Sys, name: C, values: AttrValues<C>, action: string): number => {
  const result = tryBpf(sys, name, values);
  if (result < 0) throw syscallError(action, `bpf(${name})`, -result);
  return result;
};

/** A NUL-terminated string. */
export const cString = (text: string): Uint8Array => new TextEncoder().encode(`${text}\0`);

/** The text up to the first NUL of a fixed-size field. */
export const fromCString = (bytes: Uint8Array): string => {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
};
