/**
 * Stories that safety.md tells, and those that random runs rarely meet: each is played on a simulated cluster, whose
 * checkers watch. With all rules on each comes to a good end, whatever the seed; the planted bugs that name one
 * (test/sim/mutants-*.ts) do not survive it.
 */

import { disks } from "./stories-of-disks.ts";
import { ensembles } from "./stories-of-ensembles.ts";
import { leading } from "./stories-of-leading.ts";
import { serving } from "./stories-of-serving.ts";
import { strangers } from "./stories-of-strangers.ts";

export type Story = (seed: number) => void;

export const STORIES: Readonly<Record<string, Story>> = {
  ...disks,
  ...ensembles,
  ...leading,
  ...serving,
  ...strangers,
};
