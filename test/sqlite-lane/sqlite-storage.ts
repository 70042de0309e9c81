/**
 * A data server's storage in a real directory: the adapters of src/storage, whose threads run in simulated time, on files
 * that the shim watches. Directories in memory are used where there are any.
 *
 *     process killed     its files stay as the page cache has them
 *     power lost         what durable-files.ts says is left
 *     I/O error          the n-th call that changes a file fails, and all after it; whoever is told of it ends the
 *                        process. The power may be lost a while later, or at that very call
 *     disk full          files may not grow past what is left; removing some makes room again
 *
 * Each life has a directory of its own: handles that an ended process has left open lead nowhere.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { KeyValue, KeyValues } from "../../src/ports.ts";
import { FileDocuments } from "../../src/storage/documents.ts";
import { removeSqlite, syncDirectory } from "../../src/storage/files.ts";
import { SqliteKeyValues } from "../../src/storage/key-value/key-values.ts";
import { type InProcessLog, openLogInProcess } from "../harness/in-process-log.ts";
import type { DiskRates } from "../sim/disk.ts";
import type { Ending, Life, SimNode } from "../sim/node.ts";
import type { Knobs } from "../sim/plan.ts";
import type { SimRandom } from "../sim/random.ts";
import type { Adapters, DiskDamage, ServerStorage, StorageOptions } from "../sim/server-storage.ts";
import { traceLogger } from "../sim/trace-logger.ts";
import { Violation } from "../sim/violation.ts";
import { damaged } from "./damage.ts";
import type { DiskShim } from "./disk-shim.ts";
import { type Contents, DurableFiles, type Note } from "./durable-files.ts";
import { SimThreads } from "./sim-thread.ts";

export interface SqliteStorageOptions extends StorageOptions {
  readonly shim: DiskShim;
  /** Its number among the shim's disks. */
  readonly disk: number;
  /** Its lives have their directories in it. */
  readonly folder: string;
  /** Has the shim's notes go to the disks that they are of. */
  readonly takeNotes: () => void;
}

/** What an ended process has left behind. */
interface Running {
  readonly life: Life;
  readonly threads: SimThreads;
  log: InProcessLog | undefined;
}

/** A message between two threads is on its way for so long. */
const HOP_MS = 0.02;
/** An I/O error is told within this time. */
const TOLD_MS_MAX = 2_000;
/** How often, and when, the power is lost behind an I/O error. */
const POWER_LOST_LATER_CHANCE = 0.5;
const POWER_LOST_LATER_MS_MAX = 3_000;
const KIB = 1024;
const TABLE_BYTES_MAX = 1024 * KIB;
const SQLITE_CACHE_BYTES_MAX = 256 * KIB;
/** What a segment is rolled at, by the entries that the plan wants in one; others are rolled by age alone. */
const SEGMENT_BYTES: Readonly<Record<number, number>> = { 4: 24 * KIB, 16: 64 * KIB };
/** Of the plan's ballast: what it holds back on a simulated disk takes so many times more in real files. */
const BALLAST_FACTOR = 32;

const LOG = "log";
const DATA = "data";
const DOCUMENTS = "data/documents";

export class SqliteStorage implements ServerStorage {
  rates: DiskRates;
  readonly #options: SqliteStorageOptions;
  readonly #node: SimNode;
  readonly #random: SimRandom;
  readonly #knobs: Knobs;
  readonly #shim: DiskShim;
  #directory: string;
  #directories = 0;
  #files = new DurableFiles();
  #running: Running | undefined;
  #capacityBytes: number | undefined;
  #failIn: number | undefined;
  /** What follows from the first failure. */
  #failsBy: "error" | "power" = "error";
  #isCalm = false;

  constructor(options: SqliteStorageOptions) {
    const { node, plan, random, shim } = options;
    this.#options = options;
    this.#node = node;
    this.#random = random;
    this.#knobs = plan.knobs;
    this.#shim = shim;
    this.rates = plan.disk;
    this.#directory = this.#newDirectory();
    node.watchers.push({ ended: (_, how) => this.#ended(how) });
  }

  /** For the shim. */
  note(note: Note): void {
    this.#files.take(note);
  }

  // --- faults -------------------------------------------------------------------------------------------------------

  get usedBytes(): number {
    return filesIn(this.#directory).reduce((sum, name) => sum + statSync(join(this.#directory, name)).size, 0);
  }

  limit(capacityBytes?: number): void {
    this.#capacityBytes = capacityBytes;
    if (this.#running !== undefined) this.#setSpace();
  }

  losePowerAt(operations: number): void {
    this.failAfter(operations);
    this.#failsBy = "power";
  }

  failAfter(operations?: number): void {
    this.#failIn = operations;
    this.#failsBy = "error";
    this.#isCalm = operations === undefined;
    const life = this.#running?.life;
    if (life === undefined) return;
    this.#shim.fail(this.#options.disk, operations ?? 0);
    if (operations !== undefined || !this.#shim.hasFailed(this.#options.disk)) return;
    this.#node.scheduler.after(TOLD_MS_MAX, "I/O error told", () => {
      if (this.#running?.life !== life || this.#node.paused) return;
      this.#options.fail(new Violation("Storage", `${life.name} was told of an I/O error, and has not ended`));
    });
  }

  backUp(): () => void {
    this.#options.takeNotes();
    const contents = this.#files.synced();
    return () => this.#replace(contents);
  }

  damage(damage: DiskDamage, random: SimRandom): boolean {
    const contents = this.#files.afterPowerCut(this.#random, this.rates);
    this.#replace(contents);
    const after = damaged(contents, { damage, random, scratch: join(this.#options.folder, "scratch") });
    if (after === undefined) return false;
    this.#trace(after.what);
    this.#replace(after.contents);
    return true;
  }

  // --- one process --------------------------------------------------------------------------------------------------

  async open(life: Life, random: SimRandom): Promise<Adapters> {
    const { disk } = this.#options;
    const directory = this.#directory;
    for (const name of [LOG, DATA]) mkdirSync(join(directory, name), { recursive: true });
    this.#shim.disk(disk, directory);
    this.#setSpace();
    this.#shim.fail(disk, this.#failIn ?? 0);
    const threads = new SimThreads({ life, workMs: () => this.#syncMs(), hopMs: HOP_MS });
    const running: Running = { life, threads, log: undefined };
    this.#running = running;
    const onFault = (error: Error) => this.#told(life, error);
    const opened = await openLogInProcess({
      directory: join(directory, LOG),
      retentionMs: this.#knobs.logRetentionMs,
      syncData: true,
      ballastBytes: this.#knobs.ballastBytes * BALLAST_FACTOR,
      ...segmentBytes(this.#knobs),
      clock: life.clock,
      commitSoon: (run) => void life.after(this.#syncMs(), "log commit", run),
      hop: (run) => void life.after(HOP_MS, "log message", run),
      removeSegment: (path, gone, failed) =>
        void life.after(this.#syncMs(), "segment removed", () => remove(path, gone, failed)),
      onFault,
    });
    running.log = opened;
    const { log } = opened;
    const keyValues = new SqliteKeyValues({
      directory: join(directory, DATA),
      verify: true,
      released: (shard, upTo) => log.release(shard, upTo),
      tableBytesMax: TABLE_BYTES_MAX,
      cacheBytesMax: random.pick([0, TABLE_BYTES_MAX]),
      sqliteCacheBytesMax: SQLITE_CACHE_BYTES_MAX,
      clock: life.clock,
      logger: traceLogger(this.#node),
      onFault,
      startThread: threads.start,
    });
    const documents = new FileDocuments({
      path: join(directory, DOCUMENTS),
      clock: life.clock,
      onDamage: (what) => this.#options.fail(new Violation("Storage", `${life.name}: documents: ${what}`)),
      onFault,
    });
    return { log, keyValues: flushedOften(keyValues, this.#knobs.flushCommits), documents };
  }

  /** Removes everything. */
  remove(): void {
    this.#shim.disk(this.#options.disk, undefined);
    this.#drop();
  }

  /** An error of the device ends the process; one that nobody has planned is a bug. */
  #told(life: Life, error: Error): void {
    const { disk, fail } = this.#options;
    const hasFailed = this.#shim.hasFailed(disk);
    const isFull = this.#capacityBytes !== undefined && this.#shim.fills(disk) > 0;
    if (!hasFailed && !isFull) {
      fail(error);
      return;
    }
    const how = hasFailed && this.#failsBy === "power" ? "power" : "killed";
    life.after(0, "told of an error of the disk", () => this.#node.end(how));
    if (hasFailed && how === "killed") this.#losePowerLater();
  }

  /** What a failed sync has dropped is there for the next process, until the power is lost. */
  #losePowerLater(): void {
    if (!this.#random.chance(POWER_LOST_LATER_CHANCE)) return;
    this.#node.scheduler.after(this.#random.between(0, POWER_LOST_LATER_MS_MAX), "power lost", () => {
      if (!this.#isCalm) this.#node.end("power");
    });
  }

  #ended(how: Ending): void {
    const running = this.#running;
    if (running === undefined) return;
    const { disk, takeNotes } = this.#options;
    running.log?.cut();
    takeNotes();
    if (this.#shim.hasFailed(disk)) this.#failIn = undefined;
    this.#shim.disk(disk, undefined);
    const cached = read(this.#directory);
    this.#compare(cached);
    this.#trace([...cached].map(([name, { length }]) => `${name}: ${length}`).join(", "));
    const old = this.#directory;
    if (how === "power") this.#replace(this.#files.afterPowerCut(this.#random, this.rates));
    else this.#directory = this.#newDirectory(cached);
    this.#drop();
    rmSync(old, { recursive: true, force: true });
  }

  #drop(): void {
    this.#running?.log?.cut();
    this.#running?.log?.drop();
    this.#running?.threads.drop();
    this.#running = undefined;
  }

  /** What the shim has seen is all that there is. */
  #compare(cached: Contents): void {
    if (this.#files.isUnsure) return;
    const noted = this.#files.cached();
    for (const name of new Set([...cached.keys(), ...noted.keys()])) {
      const [there, seen] = [cached.get(name), noted.get(name)];
      if (there !== undefined && seen !== undefined && Buffer.compare(there, seen) === 0) continue;
      const sizes = `${there?.length} bytes and ${seen?.length}`;
      this.#options.fail(new Violation("Shim", `${this.#node.name}: ${name} was not followed: ${sizes}`));
    }
  }

  /** Other files, all of them durable. */
  #replace(contents: Contents): void {
    const old = this.#directory;
    this.#directory = this.#newDirectory(contents);
    this.#files = new DurableFiles(contents);
    rmSync(old, { recursive: true, force: true });
  }

  #newDirectory(contents: Contents = new Map()): string {
    const { folder } = this.#options;
    const directory = join(folder, `${this.#node.name}-${++this.#directories}`);
    mkdirSync(directory, { recursive: true });
    write(directory, contents);
    return directory;
  }

  #setSpace(): void {
    const capacity = this.#capacityBytes;
    this.#shim.space(this.#options.disk, capacity === undefined ? undefined : capacity - this.usedBytes);
  }

  #syncMs(): number {
    return this.#random.duration(this.rates.sync);
  }

  #trace(what: string): void {
    const { scheduler, name } = this.#node;
    scheduler.trace.event(scheduler.nowMs, name, what);
  }
}

function segmentBytes({ segmentEntriesMax }: Knobs): { readonly segmentBytesMax?: number } {
  const segmentBytesMax = SEGMENT_BYTES[segmentEntriesMax];
  return segmentBytesMax === undefined ? {} : { segmentBytesMax };
}

function remove(path: string, gone: () => void, failed: (error: unknown) => void): void {
  try {
    removeSqlite(path);
    syncDirectory(dirname(path));
  } catch (error) {
    failed(error);
    return;
  }
  gone();
}

/** Flushes each state every so many commits, far more often than memory asks for it. */
function flushedOften(keyValues: KeyValues, commits: number): KeyValues {
  const counted = (kv: KeyValue): KeyValue => {
    let left = commits;
    const commit = kv.commit.bind(kv);
    kv.commit = (state, notifications) => {
      commit(state, notifications);
      if (--left > 0) return;
      left = commits;
      void kv.flush();
    };
    return kv;
  };
  return {
    async open(place, base) {
      const opened = await keyValues.open(place, base);
      return "damage" in opened ? opened : { keyValue: counted(opened.keyValue) };
    },
    async receive(place) {
      const receiver = await keyValues.receive(place);
      const switchTo = receiver.switchTo.bind(receiver);
      receiver.switchTo = async () => counted(await switchTo());
      return receiver;
    },
    remove: (place) => keyValues.remove(place),
  };
}

/** Names below a directory, in an order of their own, without files that hold nothing. */
function filesIn(directory: string): string[] {
  const names = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith("-shm"))
    .map(({ parentPath, name }) => join(parentPath, name).slice(directory.length + 1));
  return names.sort();
}

function read(directory: string): Contents {
  return new Map(filesIn(directory).map((name) => [name, readFileSync(join(directory, name))]));
}

function write(directory: string, contents: Contents): void {
  for (const [name, content] of contents) {
    const path = join(directory, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
  }
}
