// The interpreter's public face.

export { VmError, VmMapError } from "./errors.js";
export type { Clone as VmClone, Hook as VmHook, Redirect as VmRedirect } from "./helpers/helper.js";
export { UPDATE_FLAGS, VmMap } from "./maps/map.js";
export type { VlanTag as VmVlanTag } from "./skb.js";
export { Vm, type VmInput, type VmOptions, type VmResult } from "./vm.js";
