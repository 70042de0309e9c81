import { Database } from "bun:sqlite";
import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { life } from "../../test/contract/log.ts";
import type { EntryId, LogEntry, ShardId } from "../model/ids.ts";
import { segmentNumbers, segmentPath, watermarkPath } from "./log-files.ts";
import { LogWriter, type LogWriterOptions } from "./log-writer.ts";

const folder = mkdtempSync(join(tmpdir(), "varia-log-writer-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const RETENTION_MS = 4_000;

/** A log directory with a clock of its own; opened as often as a test likes. */
class Place {
  readonly directory = mkdtempSync(join(folder, "log-"));
  now = 1_000_000;

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

  segment(number: number): string {
    return segmentPath(this.directory, number);
  }

  get segments(): readonly number[] {
    return segmentNumbers(this.directory);
  }

  /** Time passes, and the writer rolls its segment. */
  roll(writer: LogWriter): void {
    this.now += RETENTION_MS / 4;
    writer.upkeep();
  }

  /** Changes stored rows behind the log's back, as a bad disk would. */
  garble(number: number, sql: string): void {
    const database = new Database(this.segment(number));
    database.run(sql);
    database.close();
  }
}

function entry(term: number, offset: number): LogEntry {
  return { term, offset, timestamp: offset, value: new TextEncoder().encode(`${term}:${offset}`) };
}

function append(writer: LogWriter, shard: ShardId, term: number, from: number, toInclusive: number): void {
  const entries = Array.from({ length: toInclusive - from + 1 }, (_, n) => entry(term, from + n));
  for (const { refused } of writer.append(entries.map((each) => ({ shard, entry: each, acceptedUnder: term })))) {
    expect(refused).toBeUndefined();
  }
}

function offsets(writer: LogWriter, shard: ShardId, from: number): number[] {
  const found: number[] = [];
  for (;;) {
    const some = writer.read(shard, from + found.length);
    if (some.length === 0) return found;
    found.push(...some.map(({ offset }) => offset));
  }
}

function range(from: number, toInclusive: number): number[] {
  return Array.from({ length: toInclusive - from + 1 }, (_, n) => from + n);
}

/** Shards 0 and 1 with entries 0 to 29, ten a segment: two segments closed, one open. */
function threeSegments(place: Place): LogWriter {
  const writer = place.open();
  for (const shard of [0, 1]) {
    writer.create(shard, life());
    writer.promise(shard, 1);
  }
  for (let first = 0; first < 30; first += 10) {
    for (const shard of [0, 1]) append(writer, shard, 1, first, first + 9);
    if (first < 20) place.roll(writer);
  }
  return writer;
}

const acceptedFor = (shard: ShardId, applied: EntryId) => ({
  acceptLoss: new Map([[shard, { applied, ...life() }]]),
});

test("reads go over the bounds of segments, open and closed, before and after a restart", () => {
  const place = new Place();
  let writer = threeSegments(place);
  expect(place.segments).toEqual([1, 2, 3]);
  for (let round = 0; round < 2; round++) {
    for (const from of [0, 9, 10, 11, 19, 20, 29]) expect(offsets(writer, 1, from)).toEqual(range(from, 29));
    writer.close();
    writer = place.open();
  }
  writer.close();
});

test("a segment is rolled when it is large, and not while it is empty", () => {
  const place = new Place();
  const writer = place.open({ segmentBytesMax: 20_000 });
  writer.create(0, life());
  writer.promise(0, 1);
  append(writer, 0, 1, 0, 999);
  writer.upkeep();
  expect(place.segments).toEqual([1, 2]);
  writer.upkeep();
  expect(place.segments).toEqual([1, 2]);
  writer.close();
});

test("a segment is removed when it is old enough and every state is past it, and its entries are refused then", () => {
  const place = new Place();
  let writer = threeSegments(place);
  place.now += RETENTION_MS * 10;
  writer.upkeep();
  expect(place.segments).toContain(1);
  writer.release(0, 29);
  writer.release(1, 8);
  writer.upkeep();
  expect(place.segments).toContain(1);
  writer.release(1, 9);
  writer.upkeep();
  expect(place.segments).not.toContain(1);
  for (let round = 0; round < 2; round++) {
    expect(() => writer.read(0, 9)).toThrow("trimmed");
    expect(offsets(writer, 0, 10)).toEqual(range(10, 29));
    expect(writer.replicas()[0]?.base.offset).toBe(9);
    writer.close();
    writer = place.open();
  }
  writer.close();
});

test("a young segment stays, however far the states are", () => {
  const place = new Place();
  const writer = threeSegments(place);
  for (const shard of [0, 1]) writer.release(shard, 29);
  writer.upkeep();
  expect(place.segments).toContain(1);
  writer.close();
});

test("a damaged entry in a closed segment ends its replica; the other one reads on", () => {
  const place = new Place();
  threeSegments(place).close();
  place.garble(2, "UPDATE entry SET value = x'00' WHERE shard = 1 AND offset = 14");
  const writer = place.open();
  const [healthy, damaged] = writer.replicas();
  expect(healthy?.damage).toBeUndefined();
  expect(damaged?.damage).toMatchObject({ file: place.segment(2), where: expect.stringContaining("offset 14") });
  expect(offsets(writer, 0, 0)).toEqual(range(0, 29));
  expect(() => writer.read(1, 0)).toThrow("damaged");
  expect(() => writer.promise(1, 2)).toThrow("damaged");
  expect(writer.append([{ shard: 1, entry: entry(1, 30), acceptedUnder: 1 }])[0]?.refused).toBe("NODE_IS_NOT_MEMBER");
  writer.close();
});

test("an open segment that is no database any more ends every replica: the node runs on, and makes new ones", () => {
  const place = new Place();
  const writer = place.open();
  for (const shard of [0, 1]) writer.create(shard, life());
  for (const shard of [0, 1]) writer.promise(shard, 1);
  append(writer, 0, 1, 0, 9);
  writer.close();
  writeFileSync(place.segment(1), "this is no database".repeat(1_000));
  const again = place.open();
  expect(again.replicas()).toMatchObject([
    { shard: 0, damage: { file: place.segment(1) } },
    { shard: 1, damage: { file: place.segment(1) } },
  ]);
  again.remove(1);
  expect(again.create(1, life()).damage).toBeUndefined();
  again.promise(1, 2);
  append(again, 1, 2, 0, 4);
  again.close();
  const later = place.open();
  expect(later.replicas()).toMatchObject([
    { shard: 0, ended: expect.stringContaining(place.segment(1)) },
    { shard: 1, damage: undefined, head: { term: 2, offset: 4 } },
  ]);
  expect(offsets(later, 1, 0)).toEqual(range(0, 4));
  later.close();
});

test("with an accepted loss the log keeps what the state has lost of its checkpoints, and that replica is another one", () => {
  const place = new Place();
  const writer = threeSegments(place);
  for (const shard of [0, 1]) writer.release(shard, 29);
  place.roll(writer); // stores what was released
  const [, before] = writer.replicas();
  writer.close();
  const reopened = place.open();
  expect(reopened.replicas()).toMatchObject([{ released: 29 }, { released: 29 }]);
  reopened.close();
  const again = place.open(acceptedFor(1, { term: 1, offset: 4 }));
  expect(again.replicas()).toMatchObject([{ released: 29 }, { released: 4, head: { offset: 29 }, damage: undefined }]);
  expect(again.replicas()[1]?.replicaId).not.toBe(before!.replicaId);
  place.now += RETENTION_MS * 10;
  again.upkeep();
  expect(offsets(again, 1, 5)).toEqual(range(5, 29));
  again.close();
});

test("a damaged entry that no state needs is without effect", () => {
  const place = new Place();
  const writer = threeSegments(place);
  for (const shard of [0, 1]) writer.release(shard, 19);
  place.roll(writer); // stores what was released
  writer.close();
  place.garble(1, "UPDATE entry SET value = x'00' WHERE shard = 1 AND offset = 4");
  const again = place.open();
  expect(again.replicas().map(({ damage }) => damage)).toEqual([undefined, undefined]);
  expect(offsets(again, 1, 20)).toEqual(range(20, 29));
  expect(() => again.read(1, 4)).toThrow("checksum");
  again.close();
});

test("a missing entry is found, at either end of a segment and in its middle", () => {
  for (const [segment, offset] of [
    [1, 0],
    [1, 5],
    [1, 9],
    [2, 10],
    [3, 29],
  ] as const) {
    const place = new Place();
    threeSegments(place).close();
    place.garble(segment, `DELETE FROM entry WHERE shard = 1 AND offset = ${offset}`);
    const writer = place.open();
    expect(writer.replicas()[1]?.damage).toBeDefined();
    writer.close();
  }
});

test("an accepted loss keeps what comes before it under a new id, and what is written next reads on from there", () => {
  for (const damagedAt of [4, 9, 10, 14, 24]) {
    const place = new Place();
    const first = threeSegments(place);
    const { replicaId } = first.replicas()[1]!;
    first.close();
    const segment = Math.floor(damagedAt / 10) + 1;
    place.garble(segment, `UPDATE entry SET value = x'00' WHERE shard = 1 AND offset = ${damagedAt}`);
    let writer = place.open(acceptedFor(1, { term: 1, offset: 2 }));
    const before = writer.replicas()[1]!;
    expect(before).toMatchObject({ damage: undefined, head: { offset: damagedAt - 1 } });
    expect(before.replicaId).not.toBe(replicaId);
    // rows behind the cut are still in their segments, but no longer of this log
    expect(offsets(writer, 1, 0)).toEqual(range(0, damagedAt - 1));
    writer.promise(1, 2);
    append(writer, 1, 2, damagedAt, damagedAt + 20);
    for (let round = 0; round < 3; round++) {
      for (const from of [0, 3, damagedAt - 1, damagedAt, damagedAt + 5]) {
        expect(offsets(writer, 1, from)).toEqual(range(from, damagedAt + 20));
      }
      expect(new TextDecoder().decode(writer.read(1, damagedAt)[0]?.value)).toBe(`2:${damagedAt}`);
      // segment 3 holds 0's last entries: a damaged open segment ends every replica of the node
      if (segment < 3) expect(offsets(writer, 0, 0)).toEqual(range(0, 29));
      writer.close();
      writer = place.open();
      expect(writer.replicas()[1]).toMatchObject({ replicaId: before.replicaId, damage: undefined });
    }
    writer.close();
  }
});

test("what an accepted loss has cut off does not come back with the next one, above it or below", () => {
  for (const [first, second] of [
    [4, 14],
    [14, 4],
    [9, 10],
    [14, 14],
  ] as const) {
    const place = new Place();
    threeSegments(place).close();
    const garbled = (segment: number, offset: number, term: number) =>
      place.garble(segment, `UPDATE entry SET value = x'00' WHERE shard = 1 AND offset = ${offset} AND term = ${term}`);
    garbled(Math.floor(first / 10) + 1, first, 1);
    let writer = place.open(acceptedFor(1, { term: 1, offset: 2 }));
    writer.promise(1, 2);
    append(writer, 1, 2, first, 29);
    place.roll(writer);
    writer.close();
    for (const number of place.segments) garbled(number, second, second < first ? 1 : 2);
    writer = place.open(acceptedFor(1, { term: 1, offset: 2 }));
    expect(writer.replicas()[1]).toMatchObject({ damage: undefined, head: { offset: second - 1 } });
    writer.promise(1, 3);
    append(writer, 1, 3, second, 40);
    writer.close();
    writer = place.open();
    const terms: number[] = [];
    for (let offset = 0; offset <= 40; offset++) terms.push(writer.read(1, offset)[0]!.term);
    const expected = range(0, 40).map((offset) => (offset >= second ? 3 : offset >= first ? 2 : 1));
    expect(terms).toEqual(expected);
    writer.close();
  }
});

test("a state that is ahead of what can be read begins the log anew behind it", () => {
  const place = new Place();
  threeSegments(place).close();
  place.garble(2, "DELETE FROM entry WHERE shard = 1");
  let writer = place.open(acceptedFor(1, { term: 1, offset: 17 }));
  expect(writer.replicas()[1]).toMatchObject({ base: { offset: 17 }, head: { offset: 17 }, damage: undefined });
  writer.promise(1, 3);
  append(writer, 1, 3, 18, 40);
  writer.close();
  writer = place.open();
  expect(offsets(writer, 1, 18)).toEqual(range(18, 40));
  expect(() => writer.read(1, 17)).toThrow("trimmed");
  writer.close();
});

test("segments that an accepted loss has cut are removed like others, and nothing is taken for damage afterwards", () => {
  for (const [damagedAt, applied, base] of [
    [14, 2, 13],
    [14, 17, 17],
    [4, 25, 25],
  ] as const) {
    const place = new Place();
    threeSegments(place).close();
    place.garble(
      Math.floor(damagedAt / 10) + 1,
      `UPDATE entry SET value = x'00' WHERE shard = 1 AND offset = ${damagedAt}`,
    );
    let writer = place.open(acceptedFor(1, { term: 1, offset: applied }));
    const { head } = writer.replicas()[1]!;
    writer.promise(1, 2);
    append(writer, 1, 2, head.offset + 1, 60);
    place.roll(writer);
    for (const shard of [0, 1]) writer.release(shard, 29);
    place.now += RETENTION_MS;
    writer.upkeep();
    expect(place.segments).not.toContain(2);
    expect(writer.replicas()[1]!.base.offset).toBe(base);
    for (let round = 0; round < 2; round++) {
      expect(offsets(writer, 1, base + 1)).toEqual(range(base + 1, 60));
      writer.close();
      writer = place.open();
      expect(writer.replicas()[1]).toMatchObject({ damage: undefined, base: { offset: base }, head: { offset: 60 } });
    }
    writer.close();
  }
});

test("a loss that is accepted without a loss changes nothing", () => {
  const place = new Place();
  const first = threeSegments(place);
  const { replicaId } = first.replicas()[1]!;
  first.close();
  const writer = place.open(acceptedFor(1, { term: 1, offset: 29 }));
  expect(writer.replicas()[1]).toMatchObject({ replicaId, head: { offset: 29 } });
  writer.close();
});

test("a missing watermark, segment or promises database ends the replicas of the node", () => {
  for (const [name, remove] of [
    ["watermark", (place: Place) => unlinkSync(watermarkPath(place.directory))],
    ["segment 2", (place: Place) => unlinkSync(place.segment(2))],
    ["segment 3", (place: Place) => unlinkSync(place.segment(3))],
    ["promises", (place: Place) => unlinkSync(join(place.directory, "promises.sqlite"))],
  ] as const) {
    const place = new Place();
    threeSegments(place).close();
    remove(place);
    const writer = place.open();
    for (const replica of writer.replicas()) expect(replica.damage, name).toBeDefined();
    expect(writer.replicas().length, name).toBe(2);
    writer.close();
  }
});

test("a closed log is opened without reading what no state needs, and a crash after it loses nothing", () => {
  const place = new Place();
  const writer = threeSegments(place);
  // never closed: as a killed process leaves it
  const again = place.open({ directory: copyOf(place) });
  expect(again.replicas().map(({ head }) => head.offset)).toEqual([29, 29]);
  again.close();
  writer.close();
  expect(existsSync(place.segment(3))).toBe(true);
});

function copyOf(place: Place): string {
  const copy = join(folder, "copy");
  Bun.spawnSync(["cp", "-r", place.directory, copy]);
  return copy;
}
