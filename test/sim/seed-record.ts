/** What long campaigns have run, in a file that is kept: they add up over many runs on one core. */

import { appendFileSync, existsSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join, relative, resolve } from "node:path";
import type { CampaignTotals } from "./campaign.ts";
import type { Lane } from "./lane.ts";

const REPOSITORY = join(import.meta.dir, "../..");
const FILE = join(import.meta.dir, "SEEDS.md");

const HEADING = `# Seeds that were run

Appended by \`bun run sim --record\`. The core is what the simulator runs of the server: all files of src/ that it imports; its
commit is the last one that changed any of them. Rows of one core add up where their seeds or their lanes differ: the commit beside it is the one of the simulator, whose menu decides what a seed means. A row with failures is followed by the
commits that mended them, and by more seeds.

- lane: where servers keep their data (\`--lane\`)
- seeds, steps, faults: seeds that came to their end, events of all of them, faults injected in them
- failed: seeds with a violation of any checker
- seeds a minute: over the whole run, on the machine named, beside whatever else ran there

| core | simulator | day | lane | first seed | seeds | steps | faults | failed | seeds a minute | machine |
| ---- | --------- | --- | ---- | ---------- | ----- | ----- | ------ | ------ | -------------- | ------- |
`;

/** Appends a row. */
export async function recordSeeds(
  lane: Lane,
  first: number,
  { seeds, steps, faults, failed, minutes }: CampaignTotals,
): Promise<void> {
  if (!existsSync(FILE)) writeFileSync(FILE, HEADING);
  const core = lastChange(...(await coreFiles()));
  const simulator = lastChange("test/sim/*.ts", "test/sqlite-lane", ":(exclude)*.test.ts");
  const day = new Date().toISOString().slice(0, 10);
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim() ?? "unknown"}`;
  const rate = Math.round(seeds / minutes);
  const cells = [core, simulator, day, lane, first, seeds, steps, faults, failed, rate, machine];
  appendFileSync(FILE, `| ${cells.join(" | ")} |\n`);
  Bun.spawnSync([process.execPath, "x", "--bun", "biome", "format", "--write", FILE], { cwd: REPOSITORY });
}

/** What the simulator runs of the server, from the repository: a change of any of it begins the count anew. */
export async function coreFiles(): Promise<string[]> {
  const entrypoints = [join(import.meta.dir, "seed-worker.ts")];
  const { metafile } = await Bun.build({ entrypoints, target: "bun", metafile: true });
  const files = Object.keys(metafile!.inputs).map((file) => relative(REPOSITORY, resolve(file)));
  return files.filter((file) => file.startsWith("src/")).sort();
}

/** The last commit that changed any of these. */
function lastChange(...paths: readonly string[]): string {
  const { stdout } = Bun.spawnSync(["git", "log", "-1", "--format=%h", "--", ...paths], { cwd: REPOSITORY });
  return stdout.toString().trim();
}
