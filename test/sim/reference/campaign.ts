/** Many seeds of mixed clusters, in this process: a line of progress, and for each that fails what replays it. */
import { MixedCluster } from "./mixed-cluster.ts";
import { MIXES } from "./mixes.ts";

const FAILURES_MAX = 10;
const PROGRESS_MS = 1_000;

/** Runs each seed of each mix. Answers how many have failed. */
export function runMixed({ first, count, linesMax }: { first: number; count: number; linesMax: number }): number {
  const startedMs = performance.now();
  let shownMs = startedMs;
  let [done, judged, events, failures] = [0, 0, 0, 0];
  const show = () => {
    const seconds = (performance.now() - startedMs) / 1_000;
    const rate = (done / seconds).toFixed(1);
    console.log(
      `${done} of ${count * MIXES.length} runs, ${rate}/s, ${judged} judged, ${events} events, ${failures} failed`,
    );
    shownMs = performance.now();
  };
  for (let seed = first; seed < first + count && failures < FAILURES_MAX; seed++) {
    for (const mix of MIXES) {
      const cluster = new MixedCluster(seed, mix);
      try {
        cluster.run();
        if (cluster.isJudged) judged++;
      } catch (error) {
        failures++;
        console.log(`\n${mix.name}, seed ${seed}: ${error instanceof Error ? error.message : String(error)}`);
        for (const line of cluster.scheduler.trace.lines().slice(linesMax === 0 ? Number.POSITIVE_INFINITY : -linesMax))
          console.log(`  ${line}`);
        console.log(`replay: bun run sim --mixed --seed ${seed}`);
      }
      done++;
      events += cluster.scheduler.trace.events;
    }
    if (performance.now() - shownMs > PROGRESS_MS) show();
  }
  show();
  return failures;
}
