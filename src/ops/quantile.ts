/** Quantiles of what was counted in buckets, as far as buckets tell them. */
import type { Histogram } from "../lib/histogram.ts";

/**
 * The upper bound of the bucket that holds the `quantile` of all that was counted, in (0, 1]; what is above all bounds
 * counts as the highest. `counts`: one for each bound, not cumulative, and one for what is above. 0: nothing was counted.
 */
export function quantileOf(quantile: number, bounds: readonly number[], counts: ArrayLike<number>): number {
  let total = 0;
  for (let nth = 0; nth < counts.length; nth++) total += counts[nth]!;
  if (total === 0) return 0;
  let below = 0;
  for (const [nth, bound] of bounds.entries()) {
    below += counts[nth]!;
    if (below >= quantile * total) return bound;
  }
  return bounds.at(-1) ?? 0;
}

/** All of these in one; they have the same bounds, or there are none. */
export function summed(histograms: readonly Pick<Histogram, "bounds" | "counts">[]) {
  const bounds = histograms[0]?.bounds ?? [];
  const counts = new Float64Array(bounds.length + 1);
  for (const histogram of histograms) {
    for (const [nth, count] of histogram.counts.entries()) counts[nth]! += count;
  }
  return { bounds, counts };
}

/** What was counted since the last call, and since the beginning in the first one; counts that fall have begun anew. */
export class CountsSince {
  #before: readonly number[] = [];

  of(counts: ArrayLike<number>): number[] {
    const now = Array.from(counts);
    const grown = now.map((count, nth) => Math.max(0, count - (this.#before[nth] ?? 0)));
    this.#before = now;
    return grown;
  }
}
