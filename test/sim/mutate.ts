/**
 * Loads the sources with one planted bug: pieces of them are replaced as they are read. To be preloaded, with the
 * mutant's name in VARIA_SIM_MUTANT. So the code of src/ holds no switch, and no build of it can have the bug.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { plugin } from "bun";
import { type Edit, findMutant, mutated } from "./mutants.ts";
import { MUTANT_VARIABLE } from "./mutate-name.ts";

const root = join(import.meta.dir, "..", "..");
const mutant = findMutant(process.env[MUTANT_VARIABLE] ?? "");

const edits = new Map<string, readonly Edit[]>();
for (const edit of mutant.edits) {
  const target = join(root, edit.file);
  edits.set(target, [...(edits.get(target) ?? []), edit]);
}
const paths = [...edits.keys()].map((path) => path.replaceAll(/[.\\+*?^$()[\]{}|]/g, "\\$&"));
plugin({
  name: "mutant",
  setup(build) {
    build.onLoad({ filter: new RegExp(`^(${paths.join("|")})$`) }, ({ path }) => {
      const contents = (edits.get(path) ?? []).reduce(mutated, readFileSync(path, "utf8"));
      return { contents, loader: "ts" };
    });
  },
});
