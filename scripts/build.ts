/**
 * Builds the one executable:
 *
 *     bun scripts/build.ts              dist/varia for this machine
 *     bun scripts/build.ts --all        dist/varia-linux-x64 and dist/varia-linux-arm64 too
 *
 * Workers are further entry points, named relative to src/ (storage/start-worker.ts looks for them there). The
 * executable must not read a `.env` or `bunfig.toml` of the directory that it is started in.
 */

import { existsSync, mkdirSync } from "node:fs";
import { $ } from "bun";

const ENTRY_POINTS = [
  "src/main.ts",
  "src/storage/log-worker.ts",
  "src/storage/key-value/flush-worker.ts",
  "src/storage/key-value/transfer-worker.ts",
  "src/storage/key-value/verify-worker.ts",
];
const TARGETS = ["linux-x64", "linux-arm64"] as const;

process.chdir(`${import.meta.dir}/..`);
mkdirSync("dist", { recursive: true });

async function build(outfile: string, target: string): Promise<void> {
  const flags = [
    "--compile",
    "--minify-syntax",
    "--minify-whitespace",
    "--no-compile-autoload-dotenv",
    "--no-compile-autoload-bunfig",
  ];
  await $`${process.execPath} build ${flags} --root src --target=bun-${target} ${ENTRY_POINTS} --outfile ${outfile}`.quiet();
  console.log(`${outfile}  ${target}  ${Math.round(Bun.file(outfile).size / 1024 / 1024)} MiB`);
}

for (const entry of ENTRY_POINTS) if (!existsSync(entry)) throw new Error(`entry point ${entry} is missing`);
await build("dist/varia", `linux-${process.arch === "arm64" ? "arm64" : "x64"}`);
if (process.argv.includes("--all")) for (const target of TARGETS) await build(`dist/varia-${target}`, target);
