// A small emulated machine with another kernel than the one at hand: QEMU without KVM, Debian's Linux 6.1 (made by
// .ci/vm-image), and the files of this machine. What a command in it writes is lost with it, but for its output and its
// exit status. A run has a time limit, and ends with this process.
//
// Two directories of this machine are given to it over 9p: all files, read-only, and one made for the run, which holds
// what process 1 shall do (init.sh), the command, and afterwards its exit status. The first serial port is the kernel's
// console; the second carries the output of the command.

import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { OffloadError } from "ebpf-assembler";

const MEMORY_MIB = 3072;
const N_PROCESSORS = 2;
/** Status of .ci/vm-image when the packages cannot be had. */
const NO_PACKAGES = 4;
/** Signals that end this process, which ends the machine before that. */
const ENDING = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** The machine could not be made or did not run the command to its end. */
export class MachineError extends OffloadError {
  readonly code = "EMACHINE";
}

/** There is no machine and none can be made here; the message is a reason to skip. */
export class NoMachineError extends OffloadError {
  readonly code = "ENOMACHINE";
}

/**
 * Finds the machine, or makes it, which takes a minute.
 * @returns its directory: `vmlinuz`, `initramfs`, `modules/`, `release`
 * @throws {@link NoMachineError}, {@link MachineError}
 */
export const makeMachine = async (): Promise<string> => {
  try {
    await promisify(execFile)("qemu-system-x86_64", ["--version"]);
  } catch (error) {
    throw new NoMachineError("needs the Debian package qemu-system-x86", error);
  }
  const child = spawn("sh", [".ci/vm-image"], { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  const [status] = (await once(child, "close")) as [number | null];
  if (status === NO_PACKAGES)
    throw new NoMachineError("needs Debian's packages of Linux 6.1, which cannot be downloaded");
  if (status !== 0)
    throw new MachineError(`Cannot make the emulated machine: .ci/vm-image ended with ${String(status)}`);
  return output.trim();
};

const qemuArgs = (machine: string, exchange: string): string[] => [
  ...["-accel", "tcg,thread=multi,tb-size=512", "-machine", "pc", "-cpu", "max"],
  ...["-smp", String(N_PROCESSORS), "-m", String(MEMORY_MIB)],
  ...["-nodefaults", "-display", "none", "-no-reboot"],
  ...["-kernel", join(machine, "vmlinuz"), "-initrd", join(machine, "initramfs")],
  ...["-append", `console=ttyS0 quiet panic=-1 mitigations=off ofxdp.modules=${join(machine, "modules")}`],
  // Without `remap`, files of two file systems with one inode number would be taken for one file.
  ...["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"],
  ...["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"],
  ...["-fsdev", `local,id=exchange,path=${exchange},security_model=none`],
  ...["-device", "virtio-9p-pci,fsdev=exchange,mount_tag=exchange"],
  ...["-serial", `file:${join(exchange, "console")}`, "-serial", "stdio"],
];

/** Ends `child`, and lets its end be told in the ordinary way, when this process is told to end. Disposing takes it back. */
const endWithUs = (child: ChildProcess): Disposable => {
  const end = (): void => void child.kill("SIGKILL");
  for (const signal of ENDING) process.on(signal, end);
  return {
    [Symbol.dispose]() {
      for (const signal of ENDING) process.off(signal, end);
    },
  };
};

/**
 * Runs a shell script in the machine as root, with this machine's files; its output, both kinds, goes to `onOutput`.
 * @param machine - of {@link makeMachine}
 * @returns the exit status
 * @throws {@link MachineError} when the machine did not come to the end of the script in time
 */
export const runInMachine = async (
  machine: string,
  script: string,
  onOutput: (bytes: Uint8Array) => void,
  timeoutMs: number,
): Promise<number> => {
  const exchange = mkdtempSync(join(tmpdir(), "ofxdp-vm-"));
  try {
    copyFileSync("test/support/vm/init.sh", join(exchange, "init"));
    writeFileSync(join(exchange, "command"), script);
    // setpriv: a machine whose starter was killed goes, too.
    const words = ["--pdeathsig", "KILL", "qemu-system-x86_64", ...qemuArgs(machine, exchange)];
    const child = spawn("setpriv", words, { stdio: ["ignore", "pipe", "inherit"] });
    child.stdout.on("data", onOutput);
    using _ending = endWithUs(child);
    let isLate = false;
    const timer = setTimeout(() => (isLate = child.kill("SIGKILL")), timeoutMs);
    await once(child, "close");
    clearTimeout(timer);
    const status = join(exchange, "status");
    if (!isLate && existsSync(status)) return Number(readFileSync(status, "utf8"));
    const console = join(exchange, "console");
    const said = existsSync(console) ? readFileSync(console, "utf8").trim().split("\n").slice(-30).join("\n") : "";
    const why = isLate ? `it was not at its end after ${timeoutMs / 1000} s` : "it went down";
    throw new MachineError(`The emulated machine did not finish: ${why}. The end of its console:\n${said}`);
  } finally {
    rmSync(exchange, { recursive: true, force: true });
  }
};
