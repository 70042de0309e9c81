/** What long campaigns have run, in a file that is kept: they add up over many runs on one core. */
import { appendFileSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { CampaignTotals } from "./campaign.ts";
import type { Lane } from "./lane.ts";

const REPOSITORY = join(import.meta.dir, "../..");
const FILE = join(import.meta.dir, "SEEDS.md");

/** What the simulator runs of the server: a change of any of it begins the count anew. */
const CORE = ["protocol", "replication", "coordination", "storage", "database", "wire", "model", "client", "lib"];

const HEADING = `# Seeds that were run

Appended by \`bun run sim --record\`. The core is what the simulator runs of the server (${CORE.map((room) => `src/${room}`).join(", ")});
its commit is the last one that changed any of it but a test. Rows of one core add up. A row with failures is followed by the
commits that mended them, and by more seeds.

| core | day | lane | first seed | seeds | steps | faults | failed | seeds a minute |
| ---- | --- | ---- | ---------- | ----- | ----- | ------ | ------ | -------------- |
`;

/** Appends a row. */
export function recordSeeds(
  lane: Lane,
  first: number,
  { seeds, steps, faults, failed, minutes }: CampaignTotals,
): void {
  if (!existsSync(FILE)) writeFileSync(FILE, HEADING);
  const git = ["git", "log", "-1", "--format=%h", "--", ...CORE.map((room) => `src/${room}`), ":(exclude)*.test.ts"];
  const core = Bun.spawnSync(git, { cwd: REPOSITORY }).stdout.toString().trim();
  const day = new Date().toISOString().slice(0, 10);
  const cells = [core, day, lane, first, seeds, steps, faults, failed, Math.round(seeds / minutes)];
  appendFileSync(FILE, `| ${cells.join(" | ")} |\n`);
}
