/**
 * Builds the published client library into dist/client/:
 *
 *     index.js      one ES module for Bun and Node, and beside it the hash that only Node loads
 *     index.d.ts    its types, which rest on those in types/
 *     README.md
 *
 * It holds all that it needs: nothing is installed along with it.
 */
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { $ } from "bun";

process.chdir(`${import.meta.dir}/..`);
const OUT = "dist/client";
rmSync(OUT, { recursive: true, force: true });
mkdirSync(OUT, { recursive: true });

const built = await Bun.build({
  entrypoints: ["src/client/index.ts"],
  outdir: OUT,
  target: "node",
  format: "esm",
  splitting: true,
  minify: { syntax: true, whitespace: false, identifiers: false },
  naming: { entry: "[name].js", chunk: "chunk-[hash].js" },
});
if (!built.success) throw new AggregateError(built.logs, "the client does not build");

const types = join(OUT, "types");
writeFileSync(
  join(OUT, "tsconfig.json"),
  JSON.stringify({
    extends: "../../tsconfig.json",
    compilerOptions: {
      noEmit: false,
      declaration: true,
      emitDeclarationOnly: true,
      stripInternal: true,
      rootDir: "../../src",
      outDir: "types",
    },
    include: ["../../src/client/index.ts"],
  }),
);
await $`${process.execPath} x --bun tsc -p ${join(OUT, "tsconfig.json")}`;
rmSync(join(OUT, "tsconfig.json"));
for (const name of readdirSync(types, { recursive: true, encoding: "utf8" })) {
  if (!name.endsWith(".d.ts")) continue;
  const path = join(types, name);
  // other compilers do not take imports that end in .ts
  writeFileSync(path, readFileSync(path, "utf8").replace(/(from "\.[^"]*)\.ts"/g, '$1.js"'));
}
writeFileSync(join(OUT, "index.d.ts"), 'export * from "./types/client/index.js";\n');
cpSync("src/client/README.md", join(OUT, "README.md"));

for (const { path, size } of built.outputs)
  console.log(`${path.slice(process.cwd().length + 1)}  ${Math.round(size / 1024)} KiB`);
