/**
 * A machine whose process is started again whenever it has ended, as a supervisor does: soon, or after it has been kept
 * down for a while.
 */
import type { Ending, Life, SimNode } from "./node.ts";
import type { SimRandom } from "./random.ts";

export interface MachineOptions {
  readonly node: SimNode;
  readonly random: SimRandom;
  /** The process, from its start. What it throws ends the run. */
  readonly main: (life: Life) => Promise<void>;
}

/** How long a supervisor waits before it starts a process again. */
const RESTART_MS_MAX = 500;

export class Machine {
  readonly node: SimNode;
  readonly #random: SimRandom;
  readonly #main: (life: Life) => Promise<void>;
  #downUntilMs = 0;

  constructor({ node, random, main }: MachineOptions) {
    this.node = node;
    this.#random = random;
    this.#main = main;
    node.watchers.push({ ended: () => this.#restartLater() });
  }

  get isUp(): boolean {
    return this.node.life !== undefined;
  }

  start(): void {
    if (this.isUp) return;
    const life = this.node.start();
    life.spawn("process", () => this.#main(life));
  }

  /** Ends the process and keeps it down for so long. */
  end(how: Ending, downMs: number): void {
    this.keepDown(downMs);
    this.node.end(how);
  }

  /** From now on, also if it has ended already. */
  keepDown(downMs: number): void {
    this.#downUntilMs = Math.max(this.#downUntilMs, this.node.scheduler.nowMs + downMs);
  }

  /** Ends the process for good. */
  retire(): void {
    this.end("killed", Number.POSITIVE_INFINITY);
  }

  /** Nothing keeps it down any more. */
  allowUp(): void {
    this.#downUntilMs = 0;
    this.start();
  }

  #restartLater(): void {
    const { scheduler } = this.node;
    if (this.#downUntilMs === Number.POSITIVE_INFINITY) return;
    const delayMs = Math.max(this.#downUntilMs - scheduler.nowMs, this.#random.between(1, RESTART_MS_MAX));
    scheduler.after(delayMs, "restart", () => {
      if (this.isUp) return;
      if (scheduler.nowMs < this.#downUntilMs) this.#restartLater();
      else this.start();
    });
  }
}
