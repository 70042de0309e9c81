import { afterAll, expect, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/ops/clock.ts";
import type { Clock, KeyValues } from "../../src/ports.ts";
import { SqliteKeyValues } from "../../src/storage/key-value/key-values.ts";
import { drawDiskRates, SimDisk } from "../sim/disk.ts";
import { DiskKeyValues } from "../sim/disk-key-values.ts";
import { SimNode } from "../sim/node.ts";
import { SimRandom } from "../sim/random.ts";
import { Scheduler } from "../sim/scheduler.ts";
import { Trace } from "../sim/trace.ts";
import { SimThreads } from "../sqlite-lane/sim-thread.ts";
import { contents, fill, type KeyValuesSite, keyValuesContract, open, PLACE, received, sent } from "./key-values.ts";

const folder = mkdtempSync(join(tmpdir(), "varia-states-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** The system's clock, which a test may put forward. */
class LeapingClock implements Clock {
  #leapMs = 0;
  readonly #timers = new Set<{ readonly dueMs: number; readonly fire: () => void }>();

  now(): number {
    return systemClock.now() + this.#leapMs;
  }

  monotonicMs(): number {
    return systemClock.monotonicMs() + this.#leapMs;
  }

  after(ms: number, callback: () => void): () => void {
    const timer = {
      dueMs: this.monotonicMs() + ms,
      fire: () => {
        cancel();
        callback();
      },
    };
    const cancelReal = systemClock.after(ms, timer.fire);
    const cancel = () => {
      cancelReal();
      this.#timers.delete(timer);
    };
    this.#timers.add(timer);
    return cancel;
  }

  soon(callback: () => void): void {
    systemClock.soon(callback);
  }

  leap(ms: number): void {
    this.#leapMs += ms;
    const now = this.monotonicMs();
    for (const timer of [...this.#timers]) if (timer.dueMs <= now) timer.fire();
  }
}

let nth = 0;

class SqliteSite implements KeyValuesSite {
  #directory = join(folder, `${nth++}`);
  readonly #clock = new LeapingClock();
  readonly #released = new Map<number, number>();
  #keyValues: SqliteKeyValues | undefined;

  async start(): Promise<SqliteKeyValues> {
    await this.#keyValues?.close();
    mkdirSync(this.#directory, { recursive: true });
    const MiB = 1024 * 1024;
    this.#keyValues = new SqliteKeyValues({
      directory: this.#directory,
      verify: true,
      released: (shard, offset) => this.#released.set(shard, offset),
      tableBytesMax: 8 * MiB,
      cacheBytesMax: MiB,
      sqliteCacheBytesMax: MiB,
      clock: this.#clock,
      logger: silent,
      onFault: (error) => {
        throw error;
      },
    });
    return this.#keyValues;
  }

  async crash(): Promise<KeyValues> {
    const copy = join(folder, `${nth++}`);
    const skipped = (name: string) => name.endsWith("-shm");
    if (this.#keyValues !== undefined)
      cpSync(this.#directory, copy, { recursive: true, filter: (name) => !skipped(name) });
    const old = this.#keyValues;
    await old?.close();
    this.#keyValues = undefined;
    this.#directory = copy;
    return this.start();
  }

  restart(): Promise<KeyValues> {
    return this.start();
  }

  released(shard: number): number | undefined {
    return this.#released.get(shard);
  }

  async sleep(ms: number): Promise<void> {
    this.#clock.leap(ms);
  }

  fileCount({ namespace, shard }: { readonly namespace: string; readonly shard: number }): number {
    const names = readdirSync(join(this.#directory, namespace));
    return names.filter((name) => name.startsWith(`shard-${shard}.`) && !/-(wal|shm)$/.test(name)).length;
  }
}

class SimSite implements KeyValuesSite {
  readonly scheduler: Scheduler;
  readonly #node: SimNode;
  readonly #disk: SimDisk;
  readonly #random: SimRandom;
  readonly #released = new Map<number, number>();
  #keyValues: DiskKeyValues | undefined;

  constructor(scheduler: Scheduler, seed: number) {
    this.scheduler = scheduler;
    this.#random = new SimRandom(seed);
    this.#node = new SimNode(scheduler, "n1");
    this.#disk = new SimDisk(this.#node, this.#random.split("disk"), drawDiskRates(this.#random.split("rates")));
  }

  async start(): Promise<DiskKeyValues> {
    this.#node.end("killed");
    const life = this.#node.start();
    this.#keyValues = new DiskKeyValues({
      life,
      disk: this.#disk.mount(life),
      released: (shard, offset) => this.#released.set(shard, offset),
      pieceBytesMax: this.#random.pick([100, 1_024, 100_000]),
    });
    return this.#keyValues;
  }

  async crash(): Promise<KeyValues> {
    this.#node.end("power");
    return this.start();
  }

  async restart(): Promise<KeyValues> {
    await this.#keyValues?.close();
    return this.start();
  }

  released(shard: number): number | undefined {
    return this.#released.get(shard);
  }

  sleep(ms: number): Promise<void> {
    return this.scheduler.sleep(ms);
  }

  fileCount({ shard }: { readonly shard: number }): number {
    const own = `kv/shard-${shard}`;
    return this.#disk.names().filter((name) => name === own || name.startsWith(`${own}.`)).length;
  }
}

/** SQLite's files, whose threads run in simulated time. */
class SteppedSqliteSite implements KeyValuesSite {
  readonly #scheduler: Scheduler;
  readonly #node: SimNode;
  readonly #random: SimRandom;
  readonly #released = new Map<number, number>();
  #directory = join(folder, `${nth++}`);
  #keyValues: SqliteKeyValues | undefined;
  #threads: SimThreads | undefined;

  constructor(scheduler: Scheduler, seed: number) {
    this.#scheduler = scheduler;
    this.#node = new SimNode(scheduler, "n1");
    this.#random = new SimRandom(seed);
  }

  async start(): Promise<SqliteKeyValues> {
    await this.#keyValues?.close();
    this.#node.end("killed");
    mkdirSync(this.#directory, { recursive: true });
    const life = this.#node.start();
    this.#threads = new SimThreads({ life, workMs: () => this.#random.between(0, 5), hopMs: 0.1 });
    const KiB = 1024;
    this.#keyValues = new SqliteKeyValues({
      directory: this.#directory,
      verify: true,
      released: (shard, offset) => this.#released.set(shard, offset),
      tableBytesMax: 8 * KiB * KiB,
      cacheBytesMax: this.#random.pick([0, KiB * KiB]),
      sqliteCacheBytesMax: 256 * KiB,
      clock: life.clock,
      logger: silent,
      onFault: (error) => this.#scheduler.fail(error),
      startThread: this.#threads.start,
    });
    return this.#keyValues;
  }

  /** The process is killed: handles that it leaves open lead to files that nobody looks at. */
  async crash(): Promise<KeyValues> {
    const copy = join(folder, `${nth++}`);
    this.#node.end("killed");
    if (this.#keyValues !== undefined)
      cpSync(this.#directory, copy, { recursive: true, filter: (name) => !name.endsWith("-shm") });
    this.#threads?.drop();
    this.#keyValues = undefined;
    this.#directory = copy;
    return this.start();
  }

  restart(): Promise<KeyValues> {
    return this.start();
  }

  released(shard: number): number | undefined {
    return this.#released.get(shard);
  }

  sleep(ms: number): Promise<void> {
    return this.#scheduler.sleep(ms);
  }

  fileCount({ namespace, shard }: { readonly namespace: string; readonly shard: number }): number {
    const names = readdirSync(join(this.#directory, namespace));
    return names.filter((name) => name.startsWith(`shard-${shard}.`) && !/-(wal|shm)$/.test(name)).length;
  }
}

keyValuesContract("SQLite", () => new SqliteSite());

for (const seed of [1, 2, 3, 4]) {
  const scheduler = () => new Scheduler({ trace: new Trace({ seed }) });
  let current = scheduler();
  const run = async (words: string, body: () => Promise<void>) => {
    current = scheduler();
    current.complete(words, body);
  };
  keyValuesContract(`simulated, seed ${seed}`, () => new SimSite(current, seed), run);
  if (seed <= 2)
    keyValuesContract(`SQLite in simulated time, seed ${seed}`, () => new SteppedSqliteSite(current, seed), run);
}

test("what one adapter sends the other one receives, and has the same state", async () => {
  const sqlite = await new SqliteSite().start();
  const scheduler = new Scheduler({ trace: new Trace({ seed: 1 }) });
  const site = new SimSite(scheduler, 1);
  const simulated = scheduler.complete("starts", () => site.start());
  const ours = await open(sqlite);
  fill(ours, 50);
  const first = await sent(ours);
  const theirs = scheduler.complete("receives", async () => {
    await open(simulated);
    return (await received(simulated, first)).switchTo();
  });
  expect(contents(theirs)).toEqual(contents(ours));
  fill(theirs, 50);
  const second = scheduler.complete("sends", () => sent(theirs));
  const back = await (await received(sqlite, second, { ...PLACE, shard: 9 })).switchTo();
  expect(contents(back)).toEqual(contents(theirs));
  await sqlite.close();
});
