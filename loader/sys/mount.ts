// mount(2) and umount2(2) with names for their flags.

import { cString } from "./bpf.js";
import type { Sys } from "./sys.js";

/** uapi/linux/mount.h. */
export const MOUNT = { BIND: 0x1000, REC: 0x4000, SHARED: 1 << 20 } as const;
const MNT_DETACH = 2;

/** Result of mount(2), or minus errno. */
export const mount = (sys: Sys, source: string, target: string, type: string, flags: number, data = ""): number => {
  const strings = [source, target, type, data].map(cString) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  const [s, t, y, d] = strings.map((text) => sys.address(text)) as [number, number, number, number];
  const result = sys.call("mount", s, t, y, flags, d);
  void strings.length; // reachable until here
  return result;
};

/** Unmounts now for new users, later for those that are inside. Result of umount2(2), or minus errno. */
export const unmount = (sys: Sys, target: string): number => {
  const text = cString(target);
  const result = sys.call("umount2", sys.address(text), MNT_DETACH);
  void text.length;
  return result;
};
