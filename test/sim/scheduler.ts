/**
 * Simulated time. It stands still while code runs and jumps to the next event when all code waits:
 *
 *     take the next event -> run it -> drain microtasks until none is left -> the next event …
 *
 * All of it is one synchronous call of `run`: nothing of the real event loop takes part, so nothing of it can decide
 * an order. `drainMicrotasks` of bun:jsc runs every promise reaction and process.nextTick, those that they queue in
 * turn, also when it is called from within a reaction; it returns when the queue is empty (scheduler.test.ts holds Bun
 * to that). So after it, all code of the simulation waits for an event of ours; what waits for anything else (a real
 * timer, a Worker, a socket) waits for ever, and shows up as stuck.
 */
import { drainMicrotasks } from "bun:jsc";
import { assert } from "../../src/lib/assert.ts";
import { EventHeap, type Owner, type SimEvent } from "./event-heap.ts";
import type { Trace } from "./trace.ts";

/** Flows wait for something that can never happen, or the run does not get anywhere. */
export class SimulationStuck extends Error {
  override readonly name = "SimulationStuck";
}

export interface SchedulerOptions {
  readonly trace: Trace;
  /** Events without time moving on after which the run is called stuck; default 100,000. */
  readonly eventsPerInstantMax?: number;
}

export interface RunOptions {
  /** Runs events up to and at this time; the clock then stands there. */
  readonly untilMs?: number;
  /** Asked between events: true ends the run. */
  readonly until?: () => boolean;
}

interface Flow {
  readonly name: string;
  readonly owner: Owner | undefined;
}

export class Scheduler {
  readonly trace: Trace;
  readonly #eventsPerInstantMax: number;
  readonly #events = new EventHeap();
  readonly #flows = new Set<Flow>();
  #nowMs = 0;
  #sequence = 0;
  #eventsAtInstant = 0;
  #running = false;
  #failure: { readonly error: unknown } | undefined;
  #steps = 0;
  /** Called behind each event, once all code waits: for those that watch a run. */
  onStep: ((owner: Owner | undefined) => void) | undefined;

  constructor({ trace, eventsPerInstantMax = 100_000 }: SchedulerOptions) {
    this.trace = trace;
    this.#eventsPerInstantMax = eventsPerInstantMax;
  }

  /** True time, in milliseconds from 0; no node sees it. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Events that were run. */
  get steps(): number {
    return this.#steps;
  }

  /** Events that are set and not cancelled. */
  get eventsWaiting(): number {
    return this.#events.size;
  }

  /** Sets an event `delayMs` from now, rounded up to a microsecond. The returned function cancels it. */
  after(delayMs: number, label: string, run: () => void, owner?: Owner): () => void {
    assert(delayMs >= 0, "an event in the past", delayMs);
    const dueMs = delayMs === 0 ? this.#nowMs : laterBy(this.#nowMs, delayMs);
    const sequence = this.#sequence++;
    const event: SimEvent = { dueMs, sequence, label, owner, run, inHeap: false, cancelled: false };
    this.#events.push(event);
    return () => this.#events.cancel(event);
  }

  /** Sets an event that its owner has held, for now: in front of what is due at this moment, which was sent later. */
  again(held: SimEvent): void {
    if (!held.cancelled) this.#events.push(held);
  }

  /** A promise that resolves `delayMs` from now: for the code of tests and of the world, not for nodes, which have clocks. */
  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.after(delayMs, "sleep", resolve));
  }

  /** Starts a flow. Its failure ends the run with its error, unless its owner is gone by then. */
  spawn(name: string, flow: () => Promise<unknown>, owner?: Owner): void {
    const started: Flow = { name, owner };
    this.#flows.add(started);
    flow().then(
      () => this.#flows.delete(started),
      (error) => {
        this.#flows.delete(started);
        if (owner?.alive !== false) this.fail(error);
      },
    );
  }

  /** Ends the run with this error; the first one counts. */
  fail(error: unknown): void {
    this.#failure ??= { error };
  }

  /** Names of flows that have begun and not ended, without those whose owner is gone. */
  waiting(): readonly string[] {
    return [...this.#flows].filter(({ owner }) => owner?.alive !== false).map(({ name }) => name);
  }

  /**
   * Runs until no event is left, or as `options` say. Throws what a flow or an event threw. Answers whether it ended
   * for want of events (`idle`), at `untilMs` (`time`), or because `until` said so.
   */
  run({ untilMs = Number.POSITIVE_INFINITY, until }: RunOptions = {}): "idle" | "time" | "until" {
    assert(!this.#running, "run was called from within the run");
    this.#running = true;
    try {
      this.#drain();
      for (;;) {
        if (until?.() === true) return "until";
        const next = this.#events.peek();
        if (next === undefined || next.dueMs > untilMs) {
          if (untilMs !== Number.POSITIVE_INFINITY) this.#nowMs = Math.max(this.#nowMs, untilMs);
          return next === undefined ? "idle" : "time";
        }
        this.#events.pop();
        this.#step(next);
      }
    } finally {
      this.#running = false;
    }
  }

  /** Starts a flow, runs until it has ended, and answers its value. Throws its error, or SimulationStuck after `withinMs`. */
  complete<T>(name: string, flow: () => Promise<T>, withinMs = 600_000): T {
    const outcomes: ({ readonly value: T } | { readonly error: unknown })[] = [];
    this.spawn(name, () =>
      flow().then(
        (value) => outcomes.push({ value }),
        (error) => outcomes.push({ error }),
      ),
    );
    const ended = this.run({ untilMs: this.#nowMs + withinMs, until: () => outcomes.length > 0 });
    const [outcome] = outcomes;
    if (outcome === undefined) {
      const why = ended === "idle" ? "no event is left" : `${withinMs} ms have passed`;
      throw new SimulationStuck(`${why}, and these wait: ${this.waiting().join(", ")}; ${this.trace.replayLine()}`);
    }
    if ("error" in outcome) throw outcome.error;
    return outcome.value;
  }

  /** Runs until no event is left. Throws SimulationStuck when a flow still waits then. */
  finish(): void {
    this.run();
    const waiting = this.waiting();
    if (waiting.length === 0) return;
    throw new SimulationStuck(`no event is left, and these wait: ${waiting.join(", ")}; ${this.trace.replayLine()}`);
  }

  #step(event: SimEvent): void {
    if (event.dueMs > this.#nowMs) {
      this.#nowMs = event.dueMs;
      this.#eventsAtInstant = 0;
    } else if (++this.#eventsAtInstant > this.#eventsPerInstantMax) {
      throw new SimulationStuck(
        `time does not move on at ${this.#nowMs} ms, at "${event.label}"; ${this.trace.replayLine()}`,
      );
    }
    const { owner } = event;
    if (owner !== undefined && (!owner.alive || owner.hold(event))) return;
    this.trace.event(this.#nowMs, owner?.name ?? "", event.label);
    this.#steps++;
    event.run();
    this.#drain();
    this.onStep?.(owner);
  }

  #drain(): void {
    drainMicrotasks();
    if (this.#failure === undefined) return;
    const { error } = this.#failure;
    this.#failure = undefined;
    throw error;
  }
}

/** Rounded up to a microsecond, and at least one later: whoever waits for a clock to reach a time gets there. */
function laterBy(nowMs: number, delayMs: number): number {
  const dueMs = Math.ceil((nowMs + delayMs) * 1_000) / 1_000;
  return dueMs > nowMs ? dueMs : nowMs + 0.001;
}
