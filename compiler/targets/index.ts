// The hooks that programs are compiled for.

import type { Hook } from "../ir/types.js";
import { TC } from "./tc.js";
import type { Target } from "./target.js";
import { XDP } from "./xdp.js";

export { NETDEVSIM, NFP, NICS, type NicProfile } from "./nic.js";
export { TC } from "./tc.js";
export {
  hasHelper,
  isIntrinsic,
  type Abilities,
  type CtxAccess,
  type Intrinsic,
  type Target,
  type Verdicts,
} from "./target.js";
export { XDP } from "./xdp.js";

export const TARGETS: Readonly<Record<Hook, Target>> = { xdp: XDP, tc: TC };
