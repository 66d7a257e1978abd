// Builds the hand-written C programs at bench time: clang -O2 into a scratch directory, read back as an object spec.

import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { NotSupportedError, readElf, type ObjectSpec } from "ebpf-assembler";

/** `bench/c`, seen from `bench/dist`. */
const SOURCES = fileURLToPath(new URL("../c/", import.meta.url));

/** Where Debian keeps `asm/types.h`, which `--target=bpf` does not look at. */
const MULTIARCH: Readonly<Partial<Record<NodeJS.Architecture, string>>> = {
  x64: "/usr/include/x86_64-linux-gnu",
  arm64: "/usr/include/aarch64-linux-gnu",
};

const COMPILERS = ["clang", "clang-14", "clang-15", "clang-16", "clang-19"] as const;

const findCompiler = (): string => {
  const found = COMPILERS.find((name) => spawnSync(name, ["--version"], { stdio: "ignore" }).status === 0);
  if (found === undefined)
    throw new NotSupportedError("Comparing with C without a compiler", "install clang (apt-get install clang-14)");
  if (!existsSync("/usr/include/bpf/bpf_helpers.h"))
    throw new NotSupportedError("Comparing with C without libbpf's headers", "install libbpf-dev");
  return found;
};

/** Names the compiler for the report, for example `Debian clang version 14.0.6`. */
export const compilerVersion = (): string =>
  spawnSync(findCompiler(), ["--version"], { encoding: "utf8" }).stdout.split("\n")[0] ?? "";

/** What a source is compiled with. */
export interface CompileOptions {
  /** Macros, name to value. */
  readonly defines?: Readonly<Record<string, number>>;
  /** Generated files that it includes, name to text. */
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * Compiles `bench/c/NAME.bpf.c`.
 * @throws {@link NotSupportedError} when compiler or headers are missing, or the compiler refuses the source
 */
export const compileC = (name: string, { defines = {}, headers = {} }: CompileOptions = {}): ObjectSpec => {
  const compiler = findCompiler();
  const directory = mkdtempSync(join(tmpdir(), `ofxdp-bench-${process.pid}-`));
  try {
    const out = join(directory, `${name}.o`);
    const include = MULTIARCH[process.arch];
    const args = ["-O2", "-g", "--target=bpf", "-mcpu=v3", "-Wall", "-Werror"];
    if (include !== undefined) args.push("-idirafter", include);
    for (const [file, text] of Object.entries(headers)) writeFileSync(join(directory, file), text);
    args.push("-I", directory);
    for (const [macro, value] of Object.entries(defines)) args.push(`-D${macro}=${value}`);
    args.push("-c", join(SOURCES, `${name}.bpf.c`), "-o", out);
    const { status, stderr } = spawnSync(compiler, args, { encoding: "utf8" });
    if (status !== 0) throw new NotSupportedError(`bench/c/${name}.bpf.c with ${compiler}`, stderr.trim());
    return readElf(readFileSync(out));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
};

/** Path of `bench/c/NAME.c`. */
export const hostSource = (name: string): string => join(SOURCES, `${name}.c`);

/**
 * Compiles `bench/c/NAME.c` for this machine.
 * @param out - path of the program
 * @throws {@link NotSupportedError} when compiler or C library are missing
 */
export const compileHost = (name: string, out: string): void => {
  const compiler = findCompiler();
  const { status, stderr } = spawnSync(compiler, ["-O2", "-Wall", "-Werror", hostSource(name), "-o", out], {
    encoding: "utf8",
  });
  if (status !== 0) throw new NotSupportedError(`bench/c/${name}.c with ${compiler}`, stderr.trim());
};
