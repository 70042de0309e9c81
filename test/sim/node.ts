/**
 * One machine of the simulation and the lives of the process on it. All ports of a process belong to its life: when
 * that ends, timers do not fire, calls are not answered and disks do not finish, so code of a dead process that still
 * awaits something never runs again, just as if its memory were gone.
 *
 *     off --start--> up --end("killed")--> off        the process is gone; what it wrote is in the page cache
 *                    up --end("power")---> off        the machine is gone: what was not synced may be lost, and
 *                                                     peers are not told
 *                    up --pause--> stopped --resume--> up     SIGSTOP: events for it queue up; its clocks go on
 */
import { assert } from "../../src/lib/assert.ts";
import type { Owner, SimEvent } from "./event-heap.ts";
import type { Scheduler } from "./scheduler.ts";
import { NodeTime, SimClock } from "./sim-clock.ts";

export type Ending = "killed" | "power";

/** Who is told of a node's changes: its disks and the network. */
export interface NodeWatcher {
  started?(life: Life): void;
  ended?(life: Life, how: Ending): void;
  /** Paused, or gone on. */
  changed?(): void;
}

export class SimNode {
  readonly name: string;
  readonly scheduler: Scheduler;
  readonly time: NodeTime;
  readonly watchers: NodeWatcher[] = [];
  #life: Life | undefined;
  #lives = 0;
  #paused = false;
  #powered = true;

  constructor(scheduler: Scheduler, name: string) {
    this.scheduler = scheduler;
    this.name = name;
    this.time = new NodeTime(scheduler);
  }

  /** The process that runs now. */
  get life(): Life | undefined {
    return this.#life;
  }

  get paused(): boolean {
    return this.#paused;
  }

  /** Whether the machine answers at all, if only to say that nobody listens. */
  get powered(): boolean {
    return this.#powered;
  }

  /** Starts the process, on a machine that is up with it. */
  start(): Life {
    assert(this.#life === undefined, "the process runs already");
    this.#powered = true;
    this.#life = new Life(this, ++this.#lives);
    this.#trace("started", this.#lives);
    for (const watcher of this.watchers) watcher.started?.(this.#life);
    return this.#life;
  }

  /** Ends the process, or the machine with it. Does nothing when none runs. */
  end(how: Ending): void {
    const life = this.#life;
    if (life === undefined) return;
    this.#life = undefined;
    this.#paused = false;
    this.time.unfreeze();
    if (how === "power") this.#powered = false;
    this.#trace(how);
    life.end();
    for (const watcher of this.watchers) watcher.ended?.(life, how);
  }

  /** Stops the process where it stands. With `freezeClocks` the whole machine is suspended: its clocks stand still too. */
  pause({ freezeClocks = false } = {}): void {
    if (this.#life === undefined || this.#paused) return;
    this.#paused = true;
    if (freezeClocks) this.time.freeze();
    this.#trace("paused");
    for (const watcher of this.watchers) watcher.changed?.();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.time.unfreeze();
    this.#trace("resumed");
    this.#life?.release();
    for (const watcher of this.watchers) watcher.changed?.();
  }

  #trace(what: string, detail?: number): void {
    this.scheduler.trace.event(this.scheduler.nowMs, this.name, what, detail);
  }
}

/** One process from its start to its end. */
export class Life implements Owner {
  readonly name: string;
  readonly node: SimNode;
  /** 1 for the first one on its node. */
  readonly number: number;
  readonly clock: SimClock;
  #alive = true;
  #held: SimEvent[] = [];

  constructor(node: SimNode, number: number) {
    this.node = node;
    this.number = number;
    this.name = `${node.name}#${number}`;
    this.clock = new SimClock(node.time, this);
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** Starts a flow of this process. Its failure ends the run, unless the process has ended by then. */
  spawn(name: string, flow: () => Promise<unknown>): void {
    this.node.scheduler.spawn(`${this.name} ${name}`, flow, this);
  }

  /** Sets an event of this process: dropped when it ends, kept back while it is paused. */
  after(delayMs: number, label: string, run: () => void): () => void {
    return this.node.scheduler.after(delayMs, label, run, this);
  }

  hold(event: SimEvent): boolean {
    if (!this.node.paused) return false;
    this.#held.push(event);
    return true;
  }

  /** For SimNode: sets what was held, in order. */
  release(): void {
    const held = this.#held;
    this.#held = [];
    for (const event of held) this.node.scheduler.again(event);
  }

  /** For SimNode. */
  end(): void {
    this.#alive = false;
    this.#held = [];
    this.node.time.forget(this);
  }
}
