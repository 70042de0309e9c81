/**
 * The rules of the house, checked from the source text: imports point to lower floors, rooms on one floor do not know
 * each other, the pure floors touch nothing outside the process, and the generated code matches proto/.
 */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const root = join(import.meta.dir, "..");

/** Floors from the ground up; rooms of one floor stand in one row. */
const FLOORS: readonly (readonly string[])[] = [
  ["src/lib", "src/gen"],
  ["src/model"],
  ["src/wire"],
  ["src/ports.ts"],
  ["src/protocol", "src/database"],
  ["src/replication", "src/coordination", "src/client", "src/storage", "src/ops"],
  ["src/rpc", "web"],
  ["src/cli"],
  ["src/main.ts"],
];
const PURE = ["src/lib", "src/model", "src/wire", "src/ports.ts", "src/protocol", "src/database"];

interface Import {
  readonly from: string;
  readonly to: string;
}

function sources(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name))
    .filter((name) => /\.tsx?$/.test(name) && !name.includes(".test.") && !name.startsWith("src/gen/"));
}

const files = [...sources("src"), ...sources("web")];

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), "utf8");
  const specifiers = [...text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*"([^"]+)"/g)].map((match) => match[1]!);
  return specifiers.map((specifier) => ({
    from: file,
    to: specifier.startsWith(".") ? normalize(join(dirname(file), specifier)) : specifier,
  }));
}

const imports = files.flatMap(importsOf);

function room(file: string): { floor: number; name: string } | undefined {
  for (const [floor, rooms] of FLOORS.entries()) {
    const name = rooms.find((candidate) => file === candidate || file.startsWith(`${candidate}/`));
    if (name !== undefined) return { floor, name };
  }
  return undefined;
}

test("every source file stands on a floor", () => {
  expect(files.filter((file) => room(file) === undefined)).toEqual([]);
});

test("an import points to a lower floor, or stays in its room", () => {
  const wrong = imports.filter(({ from, to }) => {
    const above = room(from);
    const below = room(to);
    if (above === undefined || below === undefined || above.name === below.name) return false;
    return below.floor >= above.floor;
  });
  expect(wrong).toEqual([]);
});

test("no file is in a circle of imports, of types neither", () => {
  const next = new Map(files.map((file) => [file, importsOf(file).map(({ to }) => to)]));
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(" -> "));
    if (path.includes(file) || done.has(file)) return;
    for (const to of next.get(file) ?? []) visit(to, [...path, file]);
    done.add(file);
  };
  for (const file of files) visit(file, []);
  expect(circles).toEqual([]);
});

test("the pure floors import nothing of the platform and use no clock, chance, timer or await", () => {
  const pure = files.filter((file) => PURE.some((name) => file === name || file.startsWith(`${name}/`)));
  const impure = pure.flatMap((file) => {
    const code = readFileSync(join(root, file), "utf8").replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
    const platform = importsOf(file).filter(({ to }) => /^(node:|bun)/.test(to));
    const calls = code.match(
      /\b(Date\.now|Math\.random|setTimeout|setImmediate|queueMicrotask|process\.|Bun\.|await )/g,
    );
    return [...platform.map(({ to }) => `${file}: ${to}`), ...(calls ?? []).map((call) => `${file}: ${call}`)];
  });
  expect(impure).toEqual([]);
});

test("protocol never sees wire shapes: only rpc, storage, database and clients convert them", () => {
  const users = imports.filter(({ to }) => to.startsWith("src/gen/")).map(({ from }) => room(from)?.name);
  expect(users.filter((name) => name === "src/protocol" || name === "src/model" || name === "src/lib")).toEqual([]);
});

test("there is no barrel and no hand-written file past 500 lines", () => {
  expect(files.filter((file) => /(^|\/)index\.ts$/.test(file) && file !== "src/client/index.ts")).toEqual([]);
  const long = files.filter((file) => readFileSync(join(root, file), "utf8").split("\n").length > 500);
  expect(long).toEqual([]);
});

test("the generated code matches proto/", () => {
  const { exitCode, stderr } = Bun.spawnSync([process.execPath, "scripts/gen.ts", "--check"], { cwd: root });
  expect({ exitCode, stderr: exitCode === 0 ? "" : stderr.toString() }).toEqual({ exitCode: 0, stderr: "" });
}, 120_000);

test("nothing tracked holds an absolute path of one machine", () => {
  const { stdout } = Bun.spawnSync(["git", "grep", "-nIE", "/(home|Users)/[a-z]", "--", ":!LICENSE"], { cwd: root });
  expect(stdout.toString()).toBe("");
});
