// Opening AF_PACKET sockets (packet(7)), for those who send and those who receive.

import { check } from "../sys/errors.js";
import { Fd } from "../sys/fd.js";
import type { Sys } from "../sys/sys.js";

export const AF_PACKET = 17;
const SOCK_RAW_CLOEXEC_NONBLOCK = 3 | 0o2000000 | 0o4000;
export const SOL_SOCKET = 1;
export const SOL_PACKET = 263;

/** A socket option with an integer value. */
export type PacketSocketOption = readonly [level: number, name: number, value: number];

/**
 * A raw packet socket that does not block. It has protocol 0: until it is bound, nothing is received.
 * @param finish - goes on with the socket; if it throws, the socket is closed
 * @throws {@link SyscallError}
 */
export const openPacketSocket = <T>(
  sys: Sys,
  action: string,
  options: readonly PacketSocketOption[],
  finish: (fd: Fd) => T,
): T => {
  const number = check(sys.call("socket", AF_PACKET, SOCK_RAW_CLOEXEC_NONBLOCK, 0), action, "socket()");
  const fd = new Fd(sys, number, "packet socket");
  try {
    const word = new Int32Array(1);
    for (const [level, name, value] of options) {
      word[0] = value;
      check(sys.call("setsockopt", fd.n, level, name, sys.address(word), 4), action, "setsockopt()");
    }
    return finish(fd);
  } catch (error) {
    fd[Symbol.dispose]();
    throw error;
  }
};
