/**
 * Counts in fixed buckets, as Prometheus histograms want them: recording is one search over a few bounds and two
 * additions, so that it may stand on a hot path.
 */
export class Histogram {
  /** Upper bounds, inclusive, ascending; one more bucket takes what is above. */
  readonly bounds: readonly number[];
  /** Per bucket, not cumulative. */
  readonly counts: Float64Array;
  sum = 0;
  count = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  record(value: number): void {
    let low = 0;
    let high = this.bounds.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (value <= this.bounds[middle]!) high = middle;
      else low = middle + 1;
    }
    this.counts[low]!++;
    this.sum += value;
    this.count++;
  }
}
