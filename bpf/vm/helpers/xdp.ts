// Helpers of XDP programs (net/core/filter.c).

import { ERRNO } from "../errors.js";
import { type Helper, readable, s32, u32, writable, XDP } from "./helper.js";

/** Largest offset and length of xdp_load_bytes and xdp_store_bytes. */
const MAX_SPAN = 0xffff;

const problemOf = (offset: number, size: number, length: number): number => {
  if (offset > MAX_SPAN || size > MAX_SPAN) return -ERRNO.EFAULT;
  return offset + size > length ? -ERRNO.EINVAL : 0;
};

export const XDP_HELPERS: { readonly [id: number]: Helper } = {
  44: {
    name: "xdp_adjust_head",
    hooks: XDP,
    takesContext: true,
    invalidates: true,
    run: ({ machine, xdp }) => machine.result(xdp.adjustHead(s32(machine, 2))),
  },
  54: {
    name: "xdp_adjust_meta",
    hooks: XDP,
    takesContext: true,
    invalidates: true,
    run: ({ machine, xdp }) => machine.result(xdp.adjustMeta(s32(machine, 2))),
  },
  65: {
    name: "xdp_adjust_tail",
    hooks: XDP,
    takesContext: true,
    invalidates: true,
    run: ({ machine, xdp }) => machine.result(xdp.adjustTail(s32(machine, 2))),
  },
  188: {
    name: "xdp_get_buff_len",
    hooks: XDP,
    takesContext: true,
    run: ({ machine, packet }) => machine.result(packet.length),
  },
  189: {
    name: "xdp_load_bytes",
    hooks: XDP,
    takesContext: true,
    run({ machine, packet }) {
      const offset = u32(machine, 2);
      const to = writable(machine, 3, u32(machine, 4));
      const problem = problemOf(offset, to.length, packet.length);
      if (problem === 0) to.set(packet.data().subarray(offset, offset + to.length));
      machine.result(problem);
    },
  },
  190: {
    name: "xdp_store_bytes",
    hooks: XDP,
    takesContext: true,
    run({ machine, packet }) {
      const offset = u32(machine, 2);
      const from = readable(machine, 3, u32(machine, 4));
      const problem = problemOf(offset, from.length, packet.length);
      if (problem === 0) packet.data().set(from, offset);
      machine.result(problem);
    },
  },
};
