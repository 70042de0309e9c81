/** Ids that end and go on, and what the log keeps and forgets of them, in its files. */
import { expect, test } from "bun:test";
import { copyFileSync, existsSync, readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { life } from "../../test/contract/log.ts";
import {
  append,
  crashes,
  headOf,
  Place,
  RETENTION_MS,
  removePlacesAfterwards,
  terms,
  threeSegments,
  times,
  truncate,
} from "../../test/harness/log-place.ts";
import type { ShardId } from "../model/ids.ts";
import { promisesPath, segmentPath, watermarkPath } from "./log-files.ts";
import type { LogWriter } from "./log-writer.ts";
import { Promises } from "./promises.ts";

removePlacesAfterwards();

function replica(writer: LogWriter, shard: ShardId) {
  return writer.replicas().find((one) => one.shard === shard)!;
}

/** The cuts that are stored of a shard. */
function storedCuts(place: Place, shard: ShardId): number {
  const promises = new Promises(promisesPath(place.directory), { create: false });
  const { replicas } = promises.read();
  promises.close();
  return replicas.get(shard)!.cuts.length;
}

for (const end of ["", "the stamp is too old"]) {
  test(`whenever an adoption is interrupted, of an id that ${end === "" ? "lives" : "has ended"}, the old id stands or the new one, with all entries`, () => {
    const place = new Place();
    const writer = threeSegments(place);
    const { replicaId: old } = replica(writer, 1);
    const head = headOf(writer, 1);
    if (end !== "") writer.end(1, end);
    const adopter = life(2);
    const copies = crashes(place, () => expect(writer.adopt(1, adopter)).toMatchObject({ ...adopter, ended: "" }));
    const seen = copies.map((copy) => {
      let again = copy.open();
      const found = replica(again, 1);
      expect(found).toMatchObject({ head, promise: 2, damage: undefined });
      const isOld = found.replicaId === old;
      expect(found).toMatchObject(isOld ? { ended: end } : { ...adopter, ended: "" });
      expect(replica(again, 0)).toMatchObject({ damage: undefined, ended: "" });
      // what an interrupted one has begun does not keep the next one from being carried out
      const next = isOld ? life(3) : adopter;
      if (isOld) again.adopt(1, next);
      append(again, 1, 2, 30, 40);
      for (let round = 0; round < 2; round++) {
        expect(replica(again, 1)).toMatchObject({ ...next, damage: undefined, ended: "" });
        expect(terms(again, 1)).toEqual([...times(30, 1), ...times(11, 2)]);
        expect(terms(again, 0)).toEqual(times(30, 1));
        if (round === 1) copy.roll(again);
        else again.close();
        if (round === 0) again = copy.open();
      }
      again.close();
      return isOld ? "old" : "new";
    });
    // before and behind the roll and before the watermark; the watermark alone is enough
    expect(seen.join(" ")).toBe("old old old old new new new new");
    writer.close();
  });
}

test("entries that are not all there are adopted by nobody, whenever that is found", () => {
  const damages: readonly ((place: Place) => void)[] = [
    (place) => place.garble("shard = 1 AND offset = 14"),
    (place) => place.garble("shard = 1 AND offset = 24"),
    (place) => unlinkSync(segmentPath(place.directory, 2)),
    (place) => unlinkSync(watermarkPath(place.directory)),
    (place) => unlinkSync(promisesPath(place.directory)),
  ];
  for (const end of ["", "deleted"]) {
    for (const damage of damages) {
      const place = new Place();
      const first = threeSegments(place);
      if (end !== "") first.end(1, end);
      first.close();
      damage(place);
      for (let round = 0; round < 3; round++) {
        const writer = place.open();
        expect(replica(writer, 1).damage).toBeDefined();
        expect(() => writer.adopt(1, life())).toThrow(expect.objectContaining({ reason: "DATA_LOSS" }));
        writer.close();
      }
    }
  }
});

test("what an ended replica has lost of its tail is found, and is nobody else's matter", () => {
  const place = new Place();
  const writer = threeSegments(place);
  writer.end(1, "deleted");
  writer.close();
  place.delete("shard = 1 AND offset = 29");
  for (let round = 0; round < 2; round++) {
    const again = place.open();
    expect(replica(again, 0)).toMatchObject({ damage: undefined, ended: "" });
    expect(() => again.adopt(1, life())).toThrow(expect.objectContaining({ reason: "DATA_LOSS" }));
    again.close();
  }
});

test("damage that was found ends an id for good: bringing the file back does not", () => {
  const place = new Place();
  const writer = threeSegments(place);
  const { replicaId } = replica(writer, 1);
  writer.close();
  const path = segmentPath(place.directory, 2);
  copyFileSync(path, `${path}.kept`);
  place.garble("shard = 1 AND offset = 14");
  // never closed: what is known now was stored before it opened
  const found = place.open();
  expect(replica(found, 1).damage).toBeDefined();
  const crashed = place.copy();
  copyFileSync(`${path}.kept`, segmentPath(crashed.directory, 2));
  const again = crashed.open();
  expect(replica(again, 1)).toMatchObject({ replicaId, ended: expect.stringContaining("offset 14") });
  expect(() => again.promise(1, 5)).toThrow(expect.objectContaining({ reason: "DATA_LOSS" }));
  expect(replica(again, 0)).toMatchObject({ damage: undefined, ended: "" });
  again.close();
  found.close();
});

test("damage that a read finds ends the id whose state needs the entry, before it is told", () => {
  for (const [released, ends] of [
    [14, true], // those that follow can only be checked behind it
    [19, false],
  ] as const) {
    for (const read of ["read", "at"] as const) {
      const place = new Place();
      const writer = threeSegments(place);
      writer.release(1, released);
      writer.promise(1, 2); // stores what was released
      expect(place.garbleClosed("shard = 1 AND offset = 14")).toBe(1);
      expect(() => writer[read](1, 14)).toThrow(expect.objectContaining({ reason: "DATA_LOSS" }));
      // as a kill right behind the answer leaves it
      const again = place.copy().open();
      for (const log of [writer, again]) {
        const { ended, damage } = replica(log, 1);
        if (ends) expect({ ended, damage }).toMatchObject({ ended: expect.stringContaining("14"), damage: {} });
        else expect({ ended, damage }).toEqual({ ended: "", damage: undefined });
        expect(replica(log, 0)).toMatchObject({ ended: "", damage: undefined });
      }
      if (ends) expect(() => writer.promise(1, 9)).toThrow(expect.objectContaining({ reason: "DATA_LOSS" }));
      else expect(terms(writer, 1, 20)).toEqual(times(10, 1));
      again.close();
      writer.close();
    }
  }
});

test("promises that are older than the watermark end every id; the higher ones go on with what is made next", () => {
  const place = new Place();
  const writer = threeSegments(place);
  writer.close();
  const old = place.copy();
  const later = place.open();
  for (const shard of [0, 1]) later.promise(shard, 8);
  later.markLed(1, 8);
  later.close();
  copyFileSync(promisesPath(old.directory), promisesPath(place.directory));
  let again = place.open();
  for (const shard of [0, 1]) expect(replica(again, shard)).toMatchObject({ promise: 8, damage: expect.anything() });
  again.remove(1);
  again.create(1, life());
  expect(() => again.promise(1, 7)).toThrow(expect.objectContaining({ reason: "INVALID_TERM" }));
  append(again, 1, 8, 0, 4);
  for (let round = 0; round < 2; round++) {
    again.close();
    again = place.open();
    expect(replica(again, 1)).toMatchObject({ promise: 8, damage: undefined, head: { offset: 4 } });
  }
  again.close();
});

test("a log of an earlier format is refused, and left as it is", () => {
  const place = new Place();
  threeSegments(place).close();
  const path = watermarkPath(place.directory);
  const bytes = new TextEncoder().encode("VWM1 and what followed");
  writeFileSync(path, bytes);
  expect(() => place.open()).toThrow("earlier format");
  expect(new Uint8Array(readFileSync(path))).toEqual(bytes);
});

test("terms' ends are known of segments that are not read on opening, and go with those that are removed", () => {
  const place = new Place();
  let writer = place.open();
  for (const shard of [0, 1]) {
    writer.create(shard, life());
    writer.promise(shard, 9);
  }
  const ends = (shard: ShardId) => writer.shape(shard).termEnds.map(({ term, offset }) => `${term}/${offset}`);
  append(writer, 1, 1, 0, 3);
  append(writer, 1, 2, 4, 4);
  append(writer, 1, 3, 5, 9);
  place.roll(writer);
  append(writer, 1, 3, 10, 12);
  append(writer, 1, 5, 13, 15);
  append(writer, 0, 4, 0, 2);
  place.roll(writer);
  append(writer, 1, 5, 16, 19);
  append(writer, 1, 6, 20, 20);
  writer.release(1, 20);
  place.now += RETENTION_MS / 4;
  for (let round = 0; round < 3; round++) {
    expect(ends(1)).toEqual(["1/3", "2/4", "3/12", "5/19", "6/20"]);
    expect(ends(0)).toEqual(["4/2"]);
    if (round === 0) writer.upkeep(); // rolls
    writer.close();
    // nobody needs them: whatever is in there is not looked at
    if (round === 1) place.garble("shard = 1 AND offset < 10");
    writer = place.open();
  }
  place.now += RETENTION_MS;
  writer.release(0, 2);
  append(writer, 1, 6, 21, 21);
  writer.upkeep();
  expect(place.segments[0]).toBeGreaterThan(2);
  for (let round = 0; round < 2; round++) {
    const { base, termEnds } = writer.shape(1);
    expect(termEnds.every(({ offset }) => offset > base.offset)).toBe(true);
    expect(ends(1).at(-1)).toBe("6/21");
    expect(ends(1)).not.toContain("3/12");
    writer.close();
    writer = place.open();
  }
  writer.close();
});

test("a cut is forgotten once no segment is left that it cuts, and nothing comes back", () => {
  const place = new Place();
  let writer = threeSegments(place);
  let head = 30;
  for (let n = 0; n < 20; n++) {
    truncate(writer, 1, head - 3);
    append(writer, 1, 2, head - 2, head + 4);
    head += 4;
  }
  expect(storedCuts(place.copy(), 1)).toBe(20);
  const expected = terms(writer, 1);
  expect(expected.length).toBe(head + 1);
  for (const shard of [0, 1]) writer.release(shard, shard === 0 ? 29 : head - 10);
  place.now += RETENTION_MS;
  writer.upkeep();
  // the cuts of segments that stay go on
  const { base } = replica(writer, 1);
  expect(base.offset).toBeGreaterThan(29);
  expect(terms(writer, 1, base.offset + 1)).toEqual(expected.slice(base.offset + 1));
  place.roll(writer);
  const left = storedCuts(place.copy(), 1);
  expect(left).toBeGreaterThan(0);
  expect(left).toBeLessThan(8);
  for (let round = 0; round < 2; round++) {
    writer.close();
    writer = place.open();
    expect(terms(writer, 1, base.offset + 1)).toEqual(expected.slice(base.offset + 1));
  }
  writer.release(1, head);
  for (let n = 0; n < 3; n++) {
    place.now += RETENTION_MS;
    writer.upkeep();
  }
  append(writer, 1, 2, head + 1, head + 2);
  writer.promise(1, 3);
  expect(storedCuts(place.copy(), 1)).toBe(0);
  writer.close();
});

test("a segment whose files come back after it was removed brings no dead entry back", () => {
  const place = new Place();
  const gone: (() => void)[] = [];
  const kept = { removeSegment: (_: string, done: () => void) => void gone.push(done) };
  threeSegments(place).close();
  let writer = place.open(kept);
  truncate(writer, 1, 14);
  append(writer, 1, 2, 15, 35);
  place.roll(writer);
  for (const shard of [0, 1]) writer.release(shard, 29);
  place.now += RETENTION_MS;
  writer.upkeep();
  expect(gone.length).toBeGreaterThan(1);
  // recorded no more, and never removed: the cut that makes their rows dead is still known
  expect(existsSync(segmentPath(place.directory, 2))).toBe(true);
  writer.promise(1, 4);
  for (let round = 0; round < 3; round++) {
    writer.close();
    writer = place.open(kept);
    expect(writer.replicas().map(({ damage }) => damage)).toEqual([undefined, undefined]);
    const { base } = replica(writer, 1);
    expect(terms(writer, 1, base.offset + 1)).toEqual(times(35 - base.offset, 2));
  }
  for (const done of gone) done();
  writer.close();
});

test("what is kept of a removed shard is small, and stays so over its lives", () => {
  const place = new Place();
  let writer = threeSegments(place);
  for (let n = 0; n < 20; n++) {
    writer.end(1, "x".repeat(10_000));
    writer.remove(1);
    writer.create(1, life());
    append(writer, 1, 2, 0, 3);
    place.now += RETENTION_MS;
    writer.release(0, 29);
    writer.release(1, 3);
    writer.upkeep();
  }
  writer.end(1, "x".repeat(10_000));
  writer.remove(1);
  writer.close();
  expect(storedCuts(place.copy(), 1)).toBeLessThan(3);
  writer = place.open();
  writer.close();
  expect(Bun.file(watermarkPath(place.directory)).size).toBeLessThan(1_000);
});
