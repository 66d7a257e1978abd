// Helpers of XDP programs (net/core/filter.c).

import { ERRNO } from "../errors.js";
import { type HelperTable, readable, s32, u32, writable, XDP } from "./helper.js";

/** Largest offset and length of xdp_load_bytes and xdp_store_bytes. */
const MAX_SPAN = 0xffff;

const problemOf = (offset: number, size: number, length: number): number => {
  if (offset > MAX_SPAN || size > MAX_SPAN) return -ERRNO.EFAULT;
  return offset + size > length ? -ERRNO.EINVAL : 0;
};

export const XDP_HELPERS: HelperTable = {
  xdp_adjust_head: {
    hooks: XDP,
    takesContext: true,
    invalidates: true,
    run: ({ machine, xdp }) => machine.result(xdp.adjustHead(s32(machine, 2))),
  },
  xdp_adjust_meta: {
    hooks: XDP,
    takesContext: true,
    invalidates: true,
    run: ({ machine, xdp }) => machine.result(xdp.adjustMeta(s32(machine, 2))),
  },
  xdp_adjust_tail: {
    hooks: XDP,
    takesContext: true,
    invalidates: true,
    run: ({ machine, xdp }) => machine.result(xdp.adjustTail(s32(machine, 2))),
  },
  xdp_get_buff_len: { hooks: XDP, takesContext: true, run: ({ machine, packet }) => machine.result(packet.length) },
  xdp_load_bytes: {
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
  xdp_store_bytes: {
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
