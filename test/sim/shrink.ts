/**
 * Makes a failing run's fault list short: leaves out halves, then quarters, down to single faults, as long as the same
 * checker still finds something. What is left is not the shortest list there is, but none of it can be spared.
 *
 * Source: Zeller and Hildebrandt 2002, "Simplifying and isolating failure-inducing input" (ddmin, complements only).
 */

/** `fails` runs with these alone. Answers those that are needed, in order: fewer could be spared where `runsMax` runs did not do. */
export function shrink(all: readonly number[], fails: (kept: readonly number[]) => boolean, runsMax = 200): number[] {
  let kept = [...all];
  let runs = 0;
  for (let size = Math.ceil(kept.length / 2); size >= 1; ) {
    let removed = false;
    for (let at = 0; at < kept.length && runs < runsMax; ) {
      const without = [...kept.slice(0, at), ...kept.slice(at + size)];
      runs++;
      if (without.length < kept.length && fails(without)) {
        kept = without;
        removed = true;
      } else at += size;
    }
    if (size === 1 && !removed) break;
    if (runs >= runsMax) break;
    size = size === 1 ? 1 : Math.ceil(size / 2);
  }
  return kept;
}
