/**
 * Many seeds, and what became of them: a line of progress while they run, each failing seed with the command that
 * replays it and the faults that it needs, and a count of all that happened.
 */
import { type Lane, runInLane } from "./lane.ts";
import type { MixName } from "./mixes.ts";
import { describeFault, drawPlan } from "./plan.ts";
import { type Failure, faultStepsOf, type SeedResult } from "./run-seed.ts";
import { shrink } from "./shrink.ts";
import { DOES_NOT_END, runWorkers } from "./workers.ts";

export interface CampaignOptions {
  readonly first: number;
  /** May be infinite: until `stop`. */
  readonly count: number;
  readonly steps: number;
  readonly linesMax: number;
  /** Each seed is run twice, and must be the same run. */
  readonly twice: boolean;
  readonly workers: number;
  /** Default: "model". */
  readonly lane?: Lane;
  readonly mutant?: string;
  readonly mix?: MixName;
  /** Faults that are left out, or all that are not. */
  readonly without?: readonly number[];
  readonly only?: readonly number[];
}

export interface CampaignTotals {
  readonly seeds: number;
  readonly steps: number;
  readonly faults: number;
  /** Seeds that have failed. */
  readonly failed: number;
  readonly minutes: number;
}

interface Failed {
  readonly seed: number;
  readonly failure: Failure;
  readonly lines: readonly string[];
}

/** Failing seeds after which a campaign gives up. */
const FAILURES_MAX = 10;
const PROGRESS_MS = 1_000;
const SHRINK_RUNS_MAX = 60;

export class Campaign {
  readonly #options: CampaignOptions;
  readonly #totals = new Map<string, number>();
  readonly #failed: Failed[] = [];
  #next: number;
  #isStopping = false;
  #done = 0;
  #steps = 0;
  #simulatedMs = 0;
  #startedMs = 0;
  #shownMs = 0;

  constructor(options: CampaignOptions) {
    this.#options = options;
    this.#next = options.first;
  }

  /** Answers how many seeds have failed. */
  async run(): Promise<number> {
    const { workers, mutant, first, count } = this.#options;
    this.#startedMs = performance.now();
    await runWorkers({
      count: workers,
      ...(mutant === undefined ? {} : { mutant }),
      next: () => (this.#isStopping || this.#next >= first + count ? undefined : this.#request(this.#next++)),
      done: (result, again) => this.#take(result, again),
    });
    this.#showProgress();
    process.stdout.write("\n");
    for (const failed of this.#failed) this.#report(failed);
    this.#summarize();
    return this.#failed.length;
  }

  /** Begins no more seeds; `run` resolves when those that were begun have come to their end. */
  stop(): void {
    this.#isStopping = true;
  }

  /** What has been run until now. */
  get totals(): CampaignTotals {
    const minutes = (performance.now() - this.#startedMs) / 60_000;
    return { seeds: this.#done, steps: this.#steps, faults: this.#faults, failed: this.#failed.length, minutes };
  }

  get #faults(): number {
    return [...this.#totals].reduce((sum, [name, n]) => sum + (name.startsWith("fault: ") ? n : 0), 0);
  }

  #request(seed: number) {
    const { steps, linesMax, twice, mix, lane } = this.#options;
    return { options: { seed, steps, linesMax, mix }, lane, without: this.#without(seed), twice };
  }

  #without(seed: number): readonly number[] {
    const { without = [], only, steps, mix } = this.#options;
    if (only === undefined) return without;
    const { faults } = drawPlan({ seed, faultSteps: faultStepsOf(steps), mix });
    return faults.map((_, nth) => nth).filter((nth) => !only.includes(nth));
  }

  #take(result: SeedResult, again: string): boolean {
    this.#done++;
    this.#steps += result.steps;
    this.#simulatedMs += result.simulatedMs;
    for (const [kind, times] of Object.entries(result.faults)) this.#add(`fault: ${kind}`, times);
    for (const [name, times] of Object.entries(result.tally)) this.#add(name, times);
    const { seed, violation, lines } = result;
    if (violation !== undefined) this.#fail({ seed, failure: violation, lines });
    else if (again !== result.trace) {
      const message = `two runs differ: ${result.trace} and ${again}`;
      this.#fail({ seed, failure: { checker: "Determinism", message }, lines });
    }
    if (performance.now() - this.#shownMs > PROGRESS_MS) this.#showProgress();
    return this.#failed.length < FAILURES_MAX;
  }

  /** Told at once, for who watches a long campaign; what it needs is found out at the end. */
  #fail(failed: Failed): void {
    this.#failed.push(failed);
    const { seed, failure } = failed;
    const end = process.stdout.isTTY ? "\x1b[K" : "";
    console.log(`${process.stdout.isTTY ? "\r" : ""}seed ${seed} failed: ${failure.message.split("\n")[0]}${end}`);
  }

  #add(name: string, times: number): void {
    this.#totals.set(name, (this.#totals.get(name) ?? 0) + times);
  }

  #showProgress(): void {
    this.#shownMs = performance.now();
    const seconds = (this.#shownMs - this.#startedMs) / 1_000;
    const rate = (this.#done / seconds).toFixed(1);
    const steps = Math.round(this.#steps / seconds);
    const { count } = this.#options;
    const of = Number.isFinite(count) ? ` of ${count}` : "";
    const line = `${this.#done}${of} seeds, ${rate}/s, ${this.#steps} steps, ${steps}/s, ${this.#faults} faults, ${this.#failed.length} failed`;
    process.stdout.write(process.stdout.isTTY ? `\r${line}\x1b[K` : `${line}\n`);
  }

  #report({ seed, failure, lines }: Failed): void {
    console.log(`\nseed ${seed}: ${failure.message}`);
    for (const line of lines) console.log(`  ${line}`);
    const needed = this.#shrunk(seed, failure);
    const { steps, mutant, mix, lane = "model" } = this.#options;
    const planted = mutant === undefined ? "" : ` --mutant "${mutant}"`;
    const mixed = mix === undefined ? "" : ` --mix ${mix}`;
    const which = needed === undefined ? "" : ` --only "${needed.join(",")}"`;
    const where = lane === "model" ? "" : ` --lane ${lane}`;
    console.log(`replay: bun run sim --seed ${seed} --steps ${steps}${which}${where}${mixed}${planted}`);
    if (needed === undefined) return;
    const { faults } = drawPlan({ seed, faultSteps: faultStepsOf(steps), mix });
    for (const nth of needed) console.log(`  ${describeFault(faults[nth]!, nth)}`);
  }

  /** The faults without which it would not fail; undefined where that cannot be told. */
  #shrunk(seed: number, failure: Failure): readonly number[] | undefined {
    const { steps, mutant, mix, lane = "model" } = this.#options;
    if (mutant !== undefined || ["Determinism", DOES_NOT_END].includes(failure.checker)) return undefined;
    const { faults } = drawPlan({ seed, faultSteps: faultStepsOf(steps), mix });
    const left = new Set(this.#without(seed));
    const all = faults.map((_, nth) => nth).filter((nth) => !left.has(nth));
    const fails = (kept: readonly number[]) => {
      const without = new Set(faults.map((_, nth) => nth).filter((nth) => !kept.includes(nth)));
      return runInLane(lane, { seed, steps, without, mix }).violation?.checker === failure.checker;
    };
    return shrink(all, fails, SHRINK_RUNS_MAX);
  }

  #summarize(): void {
    const minutes = (performance.now() - this.#startedMs) / 60_000;
    const simulatedH = (this.#simulatedMs / 3_600_000).toFixed(1);
    console.log(
      `\n${this.#done} seeds in ${minutes.toFixed(2)} min, ${Math.round(this.#done / minutes)} a minute; ${simulatedH} h simulated`,
    );
    const byName = [...this.#totals].sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [name, times] of byName) console.log(`  ${name}: ${times}`);
    const seeds = this.#failed.map(({ seed }) => seed).join(", ");
    console.log(this.#failed.length === 0 ? "no violation" : `${this.#failed.length} seeds failed: ${seeds}`);
  }
}
