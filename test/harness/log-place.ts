/**
 * The log's writer on a directory of its own, for tests that look at its files: as they are, garbled, or as a crash at
 * any step would leave them.
 */
import { Database } from "bun:sqlite";
import { afterAll, expect } from "bun:test";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Head, LogEntry, ShardId } from "../../src/model/ids.ts";
import { segmentNumbers, segmentPath } from "../../src/storage/log-files.ts";
import { LogWriter, type LogWriterOptions } from "../../src/storage/log-writer.ts";
import { Promises } from "../../src/storage/promises.ts";
import { Watermark } from "../../src/storage/watermark.ts";
import { life } from "../contract/log.ts";

const folders: string[] = [];

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "varia-log-place-"));
  folders.push(folder);
  return folder;
}

/** To be called by each file with tests of places: what they have left is removed behind them. */
export function removePlacesAfterwards(): void {
  afterAll(() => {
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
  });
}

export const RETENTION_MS = 4_000;

/** A log directory with a clock of its own; opened as often as a test likes, also as it was at some step. */
export class Place {
  readonly directory: string;
  now = 1_000_000;

  constructor(directory = newFolder()) {
    this.directory = directory;
  }

  open(options: Partial<LogWriterOptions> = {}): LogWriter {
    return new LogWriter({
      directory: this.directory,
      retentionMs: RETENTION_MS,
      syncData: true,
      acceptLoss: new Map(),
      now: () => this.now,
      monotonicMs: () => this.now,
      ...options,
    });
  }

  get segments(): readonly number[] {
    return segmentNumbers(this.directory);
  }

  /** The directory as it is now, and as a crash would leave it. */
  copy(): Place {
    const directory = newFolder();
    cpSync(this.directory, directory, { recursive: true });
    return new Place(directory);
  }

  roll(writer: LogWriter): void {
    this.now += RETENTION_MS / 4;
    writer.upkeep();
  }

  /** Changes stored rows of every segment behind the log's back; answers how many. */
  garble(where: string): number {
    return this.#change(this.segments, `UPDATE entry SET value = x'00' WHERE ${where}`);
  }

  /** `garble` of what is closed: a running writer holds the open one. */
  garbleClosed(where: string): number {
    return this.#change(this.segments.slice(0, -1), `UPDATE entry SET value = x'00' WHERE ${where}`);
  }

  /** Takes stored rows away behind the log's back; answers how many. */
  delete(where: string): number {
    return this.#change(this.segments, `DELETE FROM entry WHERE ${where}`);
  }

  #change(segments: readonly number[], sql: string): number {
    let changes = 0;
    for (const number of segments) {
      const database = new Database(segmentPath(this.directory, number));
      changes += database.run(sql).changes;
      database.close();
    }
    return changes;
  }
}

export function append(writer: LogWriter, shard: ShardId, term: number, from: number, toInclusive: number): void {
  const acceptedUnder = writer.replicas().find((replica) => replica.shard === shard)!.promise;
  const entries = range(from, toInclusive).map((offset): LogEntry => {
    return { term, offset, timestamp: offset, value: new TextEncoder().encode(`${term}:${offset}`) };
  });
  for (const { refused } of writer.append(entries.map((entry) => ({ shard, entry, acceptedUnder })))) {
    expect(refused).toBeUndefined();
  }
}

/** Terms of the entries from 0 or `from` on. */
export function terms(writer: LogWriter, shard: ShardId, from = 0): number[] {
  const found: number[] = [];
  for (;;) {
    const some = writer.read(shard, from + found.length);
    if (some.length === 0) return found;
    found.push(...some.map(({ term }) => term));
  }
}

export function range(from: number, toInclusive: number): number[] {
  return Array.from({ length: toInclusive - from + 1 }, (_, n) => from + n);
}

export function times(count: number, term: number): number[] {
  return new Array(count).fill(term);
}

export function headOf(writer: LogWriter, shard: ShardId): Head {
  return writer.replicas().find((replica) => replica.shard === shard)!.head;
}

export function truncate(writer: LogWriter, shard: ShardId, to: number): Head {
  const { head, promise } = writer.replicas().find((replica) => replica.shard === shard)!;
  return writer.truncate(shard, { acceptedUnder: promise, expectedHead: head, to });
}

/** Shards 0 and 1 with entries 0 to 29 of term 1, ten a segment (two closed, one open), promised to term 2. */
export function threeSegments(place: Place): LogWriter {
  const writer = place.open();
  for (const shard of [0, 1]) {
    writer.create(shard, life());
    writer.promise(shard, 1);
  }
  for (let first = 0; first < 30; first += 10) {
    for (const shard of [0, 1]) append(writer, shard, 1, first, first + 9);
    if (first < 20) place.roll(writer);
  }
  for (const shard of [0, 1]) writer.promise(shard, 2);
  return writer;
}

/** Runs `step`; answers copies of the directory before it, before and after each sync in it, and after it. */
export function crashes(place: Place, step: () => void): Place[] {
  const copies = [place.copy()];
  const restore = [
    intercept(Promises.prototype, "save", () => copies.push(place.copy())),
    intercept(Watermark.prototype, "sync", () => copies.push(place.copy())),
  ];
  try {
    step();
  } finally {
    for (const undo of restore) undo();
  }
  return [...copies, place.copy()];
}

function intercept<Name extends string>(
  target: { [name in Name]: (...parameters: never[]) => void },
  name: Name,
  around: () => void,
): () => void {
  const original = target[name] as (...parameters: unknown[]) => void;
  target[name] = function (this: unknown, ...parameters: unknown[]) {
    around();
    original.apply(this, parameters);
    around();
  };
  return () => {
    target[name] = original;
  };
}
