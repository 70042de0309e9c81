/**
 * Loads src/ with one planted bug: a piece of one source file replaced as the file is read. To be preloaded, with the
 * mutant's name in VARIA_SIM_MUTANT. So the code of src/ holds no switch, and no build of it can have the bug.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { plugin } from "bun";
import { MUTANTS, mutated } from "./mutants.ts";
import { MUTANT_VARIABLE } from "./mutate-name.ts";

const root = join(import.meta.dir, "..", "..");
const name = process.env[MUTANT_VARIABLE];
const mutant = MUTANTS.find((one) => one.name === name);
if (mutant === undefined) throw new Error(`no such mutant: ${name}`);

const target = join(root, mutant.file);
plugin({
  name: "mutant",
  setup(build) {
    build.onLoad({ filter: /\/src\/.*\.ts$/ }, ({ path }) => {
      const contents = readFileSync(path, "utf8");
      return { contents: path === target ? mutated(mutant, contents) : contents, loader: "ts" };
    });
  },
});
