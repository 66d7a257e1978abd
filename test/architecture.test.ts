// The rules between folders that the type checker does not see, checked over every source file.

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { builtinModules } from "node:module";
import ts from "typescript";

const FOLDERS = ["bpf", "compiler", "loader", "runtime", "test", "bench"] as const;
type Folder = (typeof FOLDERS)[number];

/** How a folder is imported from another one. */
const NAMES: Readonly<Partial<Record<Folder, string>>> = {
  bpf: "ebpf-assembler",
  loader: "libbpf-ts",
  compiler: "#compiler",
  runtime: "#runtime",
};

/** What a folder may import of the others. */
const MAY_IMPORT: Readonly<Record<Folder, readonly Folder[]>> = {
  bpf: [],
  compiler: ["bpf"],
  loader: ["bpf"],
  runtime: ["bpf", "compiler", "loader"],
  test: ["bpf", "compiler", "loader", "runtime"],
  bench: ["bpf", "compiler", "loader", "runtime"],
};

/** The command-line parts: all that may read the command line or end the process. */
const isCommandLine = (path: string): boolean =>
  /^(bpf|compiler|loader|runtime)\/(.+\/)?(cli\.ts|(cli|bin)\/.+)$/.test(path);
const isPure = (path: string): boolean => /^(bpf|compiler)\//.test(path) && !isCommandLine(path);
const isProduct = (path: string): boolean => !/^(test|bench)\//.test(path);

interface Source {
  /** From the root, with slashes: `bpf/isa/build.ts`. */
  readonly path: string;
  readonly folder: Folder;
  readonly text: string;
  readonly imports: readonly string[];
}

const filesBelow = (dir: string, wanted: RegExp): string[] =>
  readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) return /^(dist|node_modules)$/.test(entry.name) ? [] : filesBelow(path, wanted);
    return wanted.test(entry.name) ? [path.split(sep).join("/")] : [];
  });

const SOURCES: readonly Source[] = FOLDERS.flatMap((folder) =>
  filesBelow(folder, /\.ts$/).map((path) => {
    const text = readFileSync(path, "utf8");
    return { path, folder, text, imports: ts.preProcessFile(text).importedFiles.map(({ fileName }) => fileName) };
  }),
);

/** `npm run x` of `@scope/name/sub` is `@scope/name`. */
const packageOf = (specifier: string): string => /^(@[^/]+\/)?[^/]+/.exec(specifier)![0];
const isBuiltin = (specifier: string): boolean => builtinModules.includes(specifier.replace(/^node:/, ""));
const isOurs = (specifier: string): boolean =>
  Object.values(NAMES).some((name) => specifier === name || specifier.startsWith(`${name}/`));

/** One line for each import that `isWrong`. */
const wrongImports = (isWrong: (specifier: string, source: Source) => boolean): string[] =>
  SOURCES.flatMap((source) =>
    source.imports.filter((specifier) => isWrong(specifier, source)).map((specifier) => `${source.path}: ${specifier}`),
  );

/** The name that `node` uses: `a.b`, `f` for a call `f()`, `new C`, `module.name` for an import; else nothing. */
const nameUsed = (node: ts.Node, file: ts.SourceFile): string => {
  if (ts.isPropertyAccessExpression(node)) return `${node.expression.getText(file)}.${node.name.text}`;
  if (ts.isCallExpression(node) && ts.isIdentifier(node.expression)) return node.expression.text;
  if (ts.isNewExpression(node)) return `new ${node.expression.getText(file)}`;
  if (!ts.isImportSpecifier(node)) return "";
  const { moduleSpecifier } = node.parent.parent.parent;
  const from = ts.isStringLiteral(moduleSpecifier) ? moduleSpecifier.text.replace(/^node:/, "") : "";
  return `${from}.${(node.propertyName ?? node.name).text}`;
};

/** One line for each place where code, not a comment or a string, uses one of the names. */
const uses = ({ path, text }: Source, wanted: ReadonlySet<string>): string[] => {
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    const name = nameUsed(node, file);
    if (wanted.has(name)) {
      const { line } = file.getLineAndCharacterOfPosition(node.getStart(file));
      found.push(`${path}:${line + 1}: ${name}`);
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
};

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}
const manifest = (path: string): Manifest => JSON.parse(readFileSync(path, "utf8")) as Manifest;
const ROOT = manifest("package.json");
/** The manifest that says what a product folder may use of npm. */
const MANIFESTS: Readonly<Record<"bpf" | "loader" | "root", Manifest>> = {
  bpf: manifest("bpf/package.json"),
  loader: manifest("loader/package.json"),
  root: ROOT,
};
const manifestOf = (folder: Folder): keyof typeof MANIFESTS =>
  folder === "bpf" || folder === "loader" ? folder : "root";

describe("architecture", function () {
  this.timeout(120_000);

  it("reads the sources of every folder", () => {
    for (const folder of FOLDERS)
      assert.ok(SOURCES.some((s) => s.folder === folder && s.imports.length > 0) || folder === "bench");
  });

  describe("imports", () => {
    it("stay within their folder when relative", () => {
      const leaves = (specifier: string, { path, folder }: Source): boolean =>
        specifier.startsWith(".") && !relative(folder, resolve(dirname(path), specifier)).match(/^[^.]/);
      assert.deepEqual(wrongImports(leaves), []);
    });

    it("name a file that exists when relative", () => {
      const isMissing = (specifier: string, { path }: Source): boolean =>
        specifier.startsWith(".") && !existsSync(join(dirname(path), specifier.replace(/\.js$/, ".ts")));
      assert.deepEqual(wrongImports(isMissing), []);
    });

    for (const folder of FOLDERS) {
      const allowed = MAY_IMPORT[folder].map((other) => NAMES[other]!);
      it(`of ${folder} name no folder but ${allowed.join(", ") || "its own"}, by its index`, () => {
        const isWrong = (specifier: string, source: Source): boolean =>
          source.folder === folder && isOurs(specifier) && !allowed.includes(specifier);
        assert.deepEqual(wrongImports(isWrong), []);
      });
    }

    it("of bpf name nothing outside of it", () => {
      const isOutside = (specifier: string, { folder }: Source): boolean =>
        folder === "bpf" && !specifier.startsWith(".");
      assert.deepEqual(wrongImports(isOutside), []);
    });

    it("of compiler name nothing of Node outside its command line", () => {
      const isWrong = (specifier: string, { path }: Source): boolean => isPure(path) && isBuiltin(specifier);
      assert.deepEqual(wrongImports(isWrong), []);
    });

    it("name koffi only in loader/sys", () => {
      const isWrong = (specifier: string, { path }: Source): boolean =>
        packageOf(specifier) === "koffi" && !path.startsWith("loader/sys/");
      assert.deepEqual(wrongImports(isWrong), []);
    });

    it("name modules of Node with the prefix node:", () => {
      const isWrong = (specifier: string): boolean => isBuiltin(specifier) && !specifier.startsWith("node:");
      assert.deepEqual(wrongImports(isWrong), []);
    });

    it("name npm packages that the manifest of their package depends on", () => {
      const isWrong = (specifier: string, { path, folder }: Source): boolean => {
        if (specifier.startsWith(".") || specifier.startsWith("#") || isBuiltin(specifier)) return false;
        const { dependencies = {} } = MANIFESTS[manifestOf(folder)];
        const { devDependencies = {} } = ROOT;
        return !(packageOf(specifier) in (isProduct(path) ? dependencies : { ...dependencies, ...devDependencies }));
      };
      assert.deepEqual(wrongImports(isWrong), []);
    });
  });

  it("depends on no npm package that is not imported", () => {
    const used = (of: keyof typeof MANIFESTS): Set<string> =>
      new Set(
        SOURCES.filter(({ path, folder }) => isProduct(path) && manifestOf(folder) === of).flatMap(({ imports }) =>
          imports.map(packageOf),
        ),
      );
    const unused = Object.entries(MANIFESTS).flatMap(([of, { dependencies = {} }]) =>
      Object.keys(dependencies)
        .filter((name) => !used(of as keyof typeof MANIFESTS).has(name))
        .map((name) => `${of}: ${name}`),
    );
    assert.deepEqual(unused, []);
  });

  it("reads the command line and ends the process only in cli and bin", () => {
    const wanted = new Set(["process.argv", "process.exit", "process.exitCode"]);
    const found = SOURCES.filter(({ path }) => isProduct(path) && !isCommandLine(path)).flatMap((s) => uses(s, wanted));
    assert.deepEqual(found, []);
  });

  it("has no clock, chance or environment in bpf and compiler", () => {
    const wanted = new Set(
      "Date.now new Date performance.now Math.random process.env process.hrtime setTimeout setInterval fetch".split(
        " ",
      ),
    );
    const found = SOURCES.filter(({ path }) => isPure(path)).flatMap((s) => uses(s, wanted));
    assert.deepEqual(found, []);
  });

  it("throws no bare Error", () => {
    const found = SOURCES.filter(({ path }) => isProduct(path)).flatMap((s) =>
      uses(s, new Set(["Error", "new Error"])),
    );
    assert.deepEqual(found, []);
  });

  it("says at the head of each file why it exists", () => {
    const silent = SOURCES.filter(
      ({ path, text }) => isProduct(path) && !path.endsWith("/index.ts") && !/^(#!.*\n)?(\/\/ |\/\*\*)/.test(text),
    );
    assert.deepEqual(
      silent.map(({ path }) => path),
      [],
    );
  });

  it("leaves nothing undone or unchecked", () => {
    // In two parts, so that this file does not hold what it looks for.
    const words = [
      ["\\bTO", "DO\\b"],
      ["\\bFIX", "ME\\b"],
      ["eslint", "-disable"],
      ["prettier", "-ignore"],
      ["@ts", "-(ignore|nocheck)"],
      ["\\b(describe|it)", "\\.only\\("],
    ];
    const wanted = new RegExp(words.map((parts) => parts.join("")).join("|"));
    const others = filesBelow("examples", /\.(mjs|js|sh)$/).concat(filesBelow(".ci", /./), "eslint.config.js");
    const found = [...SOURCES, ...others.map((path) => ({ path, text: readFileSync(path, "utf8") }))].flatMap(
      ({ path, text }) =>
        text.split("\n").flatMap((line, i) => (wanted.test(line) ? [`${path}:${i + 1}: ${line.trim()}`] : [])),
    );
    assert.deepEqual(found, []);
  });

  it("lists every example in its README", () => {
    const readme = readFileSync("examples/README.md", "utf8");
    const unlisted = filesBelow("examples", /./)
      .map((path) => relative("examples", path))
      .filter((path) => path !== "README.md" && !readme.includes(path));
    assert.deepEqual(unlisted, []);
  });

  it("has no top-level folder but those of the design", () => {
    const known = new Set([...FOLDERS, "docs", "examples", "node_modules"]);
    const found = readdirSync(".", { withFileTypes: true })
      .filter((e) => e.isDirectory() && !e.name.startsWith(".") && !known.has(e.name))
      .map(({ name }) => name);
    assert.deepEqual(found, []);
  });
});
