// Offload settings of an interface, by SIOCETHTOOL: what decides whether packets reach XDP with finished checksums, in
// MTU-sized pieces and with their VLAN tags inside.

import { RangeViolation } from "ebpf-assembler";
import { check, ERRNO, NoInterfaceError, syscallError } from "../sys/errors.js";
import { Fd } from "../sys/fd.js";
import { fromCString } from "../sys/bpf.js";
import type { Sys } from "../sys/sys.js";

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const SIOCETHTOOL = 0x8946;
const NAME_SIZE = 16;
const GDRVINFO = 0x3;

/** Each setting: the command that reads it, the one that writes it, and its bit for those that share a word of flags. */
const SETTINGS = {
  rxChecksum: { get: 0x14, set: 0x15, bit: 0 },
  txChecksum: { get: 0x16, set: 0x17, bit: 0 },
  scatterGather: { get: 0x18, set: 0x19, bit: 0 },
  tso: { get: 0x1e, set: 0x1f, bit: 0 },
  gso: { get: 0x23, set: 0x24, bit: 0 },
  gro: { get: 0x2b, set: 0x2c, bit: 0 },
  txVlan: { get: 0x25, set: 0x26, bit: 7 },
  rxVlan: { get: 0x25, set: 0x26, bit: 8 },
  lro: { get: 0x25, set: 0x26, bit: 15 },
} as const;

export type OffloadName = keyof typeof SETTINGS;
/** Offload settings by name; `true` is on. */
export type OffloadSettings = { readonly [K in OffloadName]: boolean };

/** Reads and changes the settings of the interfaces of the namespace it was opened in. Disposing closes the socket. */
export class Ethtool implements Disposable {
  private readonly memory = new ArrayBuffer(256);
  private readonly view = new DataView(this.memory);
  private readonly base: number;

  private constructor(
    readonly sys: Sys,
    private readonly fd: Fd,
  ) {
    this.base = sys.address(this.memory);
  }

  /** @throws {@link SyscallError} */
  static open(sys: Sys): Ethtool {
    const number = check(sys.call("socket", AF_INET, SOCK_DGRAM_CLOEXEC, 0), "open an ethtool socket", "socket()");
    return new Ethtool(sys, new Fd(sys, number, "ethtool socket"));
  }

  /** `struct ifreq` at 0 with a pointer to the command's structure, which starts at 40 with the command number. */
  private run(name: string, command: number, value: number): number {
    const bytes = new TextEncoder().encode(name);
    if (bytes.length === 0 || bytes.length >= NAME_SIZE) throw new NoInterfaceError(name);
    new Uint8Array(this.memory).fill(0);
    new Uint8Array(this.memory).set(bytes);
    this.view.setBigUint64(NAME_SIZE, BigInt(this.base + DATA_AT), true);
    this.view.setUint32(DATA_AT, command, true);
    this.view.setUint32(DATA_AT + 4, value, true);
    const result = this.sys.call("ioctl", this.fd.n, SIOCETHTOOL, this.base);
    if (result === -ERRNO.ENODEV) throw new NoInterfaceError(name);
    return result;
  }

  private read(name: string, setting: OffloadName): boolean {
    const { get, bit } = SETTINGS[setting];
    const result = this.run(name, get, 0);
    if (result === -ERRNO.EOPNOTSUPP) return false;
    check(result, `read ${setting} of ${name}`, "ioctl(SIOCETHTOOL)");
    return ((this.view.getUint32(DATA_AT + 4, true) >>> bit) & 1) !== 0;
  }

  /** All settings; one that the driver does not know is off. @throws {@link NoInterfaceError}, {@link SyscallError} */
  settings(name: string): OffloadSettings {
    const settings: Partial<Record<OffloadName, boolean>> = {};
    for (const setting of Object.keys(SETTINGS) as OffloadName[]) settings[setting] = this.read(name, setting);
    return settings as OffloadSettings;
  }

  /**
   * Changes the given settings, and checks that each took effect.
   * @returns what they were before, to be put back later: only those that changed
   * @throws {@link NoInterfaceError}, {@link SyscallError}; {@link RangeViolation} for a setting the driver keeps as it is
   */
  change(name: string, wanted: Partial<OffloadSettings>): Partial<OffloadSettings> {
    const before: Partial<Record<OffloadName, boolean>> = {};
    for (const [key, on] of Object.entries(wanted)) {
      const setting = key as OffloadName;
      const was = this.read(name, setting);
      if (was === on) continue;
      const { get, set, bit } = SETTINGS[setting];
      this.run(name, get, 0);
      const word = this.view.getUint32(DATA_AT + 4, true);
      const result = this.run(name, set, on ? word | (1 << bit) : word & ~(1 << bit));
      const action = `turn ${setting} of ${name} ${on ? "on" : "off"}`;
      if (result < 0) throw syscallError(action, "ioctl(SIOCETHTOOL)", -result);
      if (this.read(name, setting) !== on) throw new RangeViolation(`Cannot ${action}: the driver keeps it as it is`);
      before[setting] = was;
    }
    return before;
  }

  /** Name of the driver, e.g. `veth`, `virtio_net`; "" when it tells none. @throws {@link NoInterfaceError} */
  driver(name: string): string {
    if (this.run(name, GDRVINFO, 0) < 0) return "";
    return fromCString(new Uint8Array(this.memory, DATA_AT + 4, 32));
  }

  [Symbol.dispose](): void {
    this.fd[Symbol.dispose]();
  }
}

/** Where the command's structure starts, behind `struct ifreq`. */
const DATA_AT = 40;
