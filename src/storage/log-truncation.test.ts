import { expect, test } from "bun:test";
import { truncateSync, unlinkSync } from "node:fs";
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
import { EMPTY_HEAD, NO_OFFSET } from "../model/ids.ts";
import { promisesPath, segmentPath, watermarkPath } from "./log-files.ts";

removePlacesAfterwards();

for (const to of [NO_OFFSET, 9, 14, 28]) {
  test(`whenever a truncation to ${to} is interrupted, the log is as before it or as behind it, and undamaged`, () => {
    const place = new Place();
    const writer = threeSegments(place);
    const kept = writer.at(1, to)!;
    const full = headOf(writer, 1);
    const seen: number[] = [];
    const copies = crashes(place, () => expect(truncate(writer, 1, to)).toEqual(kept));
    // roll, watermark, promises: one copy before and behind each, and one before and behind all
    expect(copies.length).toBe(8);
    for (const copy of copies) {
      let again = copy.open();
      const head = headOf(again, 1);
      seen.push(head.offset);
      expect([full, kept]).toContainEqual(head);
      expect(terms(again, 1)).toEqual(times(head.offset + 1, 1));
      expect(terms(again, 0)).toEqual(times(30, 1));
      if (head.offset > to) expect(truncate(again, 1, to)).toEqual(kept);
      append(again, 1, 2, to + 1, 40);
      for (let round = 0; round < 3; round++) {
        expect(again.replicas().map(({ damage }) => damage)).toEqual([undefined, undefined]);
        expect(again.replicas().map(({ promise }) => promise)).toEqual([2, 2]);
        expect(terms(again, 1)).toEqual([...times(to + 1, 1), ...times(40 - to, 2)]);
        expect(terms(again, 0)).toEqual(times(30, 1));
        // never closed the second time: as a killed process leaves it
        if (round === 1) copy.roll(again);
        else again.close();
        if (round < 2) again = (round === 1 ? copy.copy() : copy).open();
      }
    }
    // before the roll, behind it, before the watermark; behind it, around the promises, at the end: the watermark alone
    // is enough, what it has begun is finished
    expect(seen).toEqual([29, 29, 29, 29, to, to, to, to]);
    writer.close();
  });
}

test("a truncation that was answered holds, whatever is lost behind it", () => {
  const place = new Place();
  const writer = threeSegments(place);
  truncate(writer, 0, 14);
  append(writer, 0, 2, 15, 17);
  const again = place.copy().open();
  expect(terms(again, 0)).toEqual([...times(15, 1), ...times(3, 2)]);
  again.close();
  writer.close();
});

test("dead rows may be damaged: nobody misses them", () => {
  for (const to of [4, 9, 14, 24]) {
    const place = new Place();
    let writer = threeSegments(place);
    truncate(writer, 1, to);
    append(writer, 1, 2, to + 1, 35);
    writer.close();
    expect(place.garble(`shard = 1 AND term = 1 AND offset > ${to}`)).toBe(29 - to);
    for (let round = 0; round < 2; round++) {
      writer = place.open();
      expect(writer.replicas().map(({ damage }) => damage)).toEqual([undefined, undefined]);
      expect(terms(writer, 1)).toEqual([...times(to + 1, 1), ...times(35 - to, 2)]);
      expect(terms(writer, 0)).toEqual(times(30, 1));
      writer.close();
    }
  }
});

test("live rows may not be damaged: before a cut and behind it", () => {
  for (const where of ["offset = 12 AND term = 1", "offset = 20 AND term = 2"]) {
    const place = new Place();
    let writer = threeSegments(place);
    truncate(writer, 1, 14);
    append(writer, 1, 2, 15, 25);
    place.roll(writer);
    writer.close();
    expect(place.garble(`shard = 1 AND ${where}`)).toBe(1);
    writer = place.open();
    const [healthy, damaged] = writer.replicas();
    expect(healthy?.damage).toBeUndefined();
    expect(damaged?.damage).toBeDefined();
    writer.close();
  }
});

test("what is cut in a segment is removed with it, and the base is what was kept", () => {
  const place = new Place();
  let writer = threeSegments(place);
  truncate(writer, 1, 14);
  const kept = headOf(writer, 1);
  append(writer, 1, 2, 15, 24);
  place.roll(writer);
  append(writer, 1, 2, 25, 30);
  for (const shard of [0, 1]) writer.release(shard, 24);
  place.now += RETENTION_MS;
  writer.upkeep();
  // shard 0 needs its entries from 25 on, in segment 3
  expect(place.segments[0]).toBe(3);
  for (let round = 0; round < 2; round++) {
    expect(writer.replicas()[1]).toMatchObject({ base: kept, head: { offset: 30 }, damage: undefined });
    expect(terms(writer, 1, 15)).toEqual(times(16, 2));
    expect(() => writer.read(1, 14)).toThrow("trimmed");
    writer.close();
    writer = place.open();
  }
  writer.release(0, 29);
  writer.upkeep();
  expect(writer.replicas()[1]?.base.offset).toBe(24);
  writer.close();
});

test("whenever an installation is interrupted, the log is as before it or as behind it", () => {
  for (const base of [
    { term: 2, offset: 99, crc: 4_711 },
    { term: 1, offset: 14, crc: 4_712 },
  ]) {
    const place = new Place();
    const writer = threeSegments(place);
    const full = headOf(writer, 1);
    for (const copy of crashes(place, () => writer.install(1, 2, base))) {
      let again = copy.open();
      const head = headOf(again, 1);
      expect([full, base]).toContainEqual(head);
      if (head.crc === full.crc) {
        expect(terms(again, 1)).toEqual(times(30, 1));
        again.install(1, 2, base);
      }
      append(again, 1, 2, base.offset + 1, base.offset + 9);
      again.close();
      again = copy.open();
      expect(again.replicas().map(({ damage }) => damage)).toEqual([undefined, undefined]);
      expect(terms(again, 1, base.offset + 1)).toEqual(times(9, 2));
      expect(() => again.read(1, base.offset)).toThrow("trimmed");
      expect(terms(again, 0)).toEqual(times(30, 1));
      again.close();
    }
    writer.close();
  }
});

test("whenever an end, a removal and a new life are interrupted, no entry of one life is found in the next", () => {
  const place = new Place();
  const writer = threeSegments(place);
  const { replicaId } = writer.replicas()[1]!;
  const copies = crashes(place, () => {
    writer.end(1, "deleted");
    writer.remove(1);
    writer.create(1, life());
    append(writer, 1, 2, 0, 3);
  });
  for (const copy of copies) {
    let again = copy.open();
    const found = again.replicas().find(({ shard }) => shard === 1);
    expect(found?.damage).toBeUndefined();
    if (found?.replicaId === replicaId) {
      expect(found.head.offset).toBe(29);
      expect(["", "deleted"]).toContain(found.ended);
      again.end(1, "deleted");
      again.remove(1);
    }
    if (found === undefined || found.replicaId === replicaId) expect(again.create(1, life()).head).toEqual(EMPTY_HEAD);
    else expect([NO_OFFSET, 3]).toContain(found.head.offset);
    const { head, promise } = again.replicas().find(({ shard }) => shard === 1)!;
    expect(promise).toBe(2);
    append(again, 1, 2, head.offset + 1, 7);
    for (let round = 0; round < 2; round++) {
      again.close();
      again = copy.open();
      expect(again.replicas().map(({ damage }) => damage)).toEqual([undefined, undefined]);
      expect(terms(again, 1)).toEqual(times(8, 2));
      expect(terms(again, 0)).toEqual(times(30, 1));
    }
    again.close();
  }
  writer.close();
});

test("on a node with damage the replicas end, and those that are made in their place stay whole", () => {
  const damages: readonly ((place: Place) => void)[] = [
    (place) => place.garble("shard = 1 AND offset = 24"), // in the open segment: every replica of the node
    (place) => truncateSync(segmentPath(place.directory, 3), 5_000),
    (place) => unlinkSync(watermarkPath(place.directory)),
    (place) => unlinkSync(promisesPath(place.directory)),
    (place) => place.garble("shard = 0 AND offset = 4"),
    (place) => {
      unlinkSync(watermarkPath(place.directory));
      unlinkSync(promisesPath(place.directory));
    },
  ];
  for (const damage of damages) {
    const place = new Place();
    threeSegments(place).close();
    damage(place);
    let writer = place.open();
    const damaged = writer.replicas().filter((replica) => replica.damage !== undefined);
    expect(damaged.length > 0 || writer.replicas().length === 0).toBe(true);
    if (damaged.length === 0) for (const shard of [0, 1]) writer.create(shard, life());
    writer.create(2, life());
    writer.promise(2, 5);
    append(writer, 2, 5, 0, 9);
    for (const { shard } of damaged) {
      writer.remove(shard);
      writer.create(shard, life());
      writer.promise(shard, 9);
      append(writer, shard, 9, 0, 4);
    }
    for (let round = 0; round < 2; round++) {
      writer.close();
      writer = place.open();
      expect(writer.replicas().map((replica) => replica.damage)).toEqual([undefined, undefined, undefined]);
      expect(terms(writer, 2)).toEqual(times(10, 5));
      for (const { shard } of damaged) expect(terms(writer, shard)).toEqual(times(5, 9));
    }
    writer.close();
  }
});

test("an ended replica holds its segments, a removed one does not", () => {
  const place = new Place();
  const writer = threeSegments(place);
  writer.release(0, 29);
  writer.end(1, "deleted");
  place.now += RETENTION_MS;
  writer.upkeep();
  expect(place.segments[0]).toBe(1);
  writer.remove(1);
  writer.upkeep();
  place.now += RETENTION_MS;
  writer.upkeep();
  expect(place.segments[0]).toBeGreaterThan(3);
  writer.close();
  const again = place.open();
  expect(again.replicas()).toMatchObject([{ shard: 0, damage: undefined, head: { offset: 29 } }]);
  again.close();
});

test("whenever a stamp that ends the ids is interrupted, either both are stored or none", () => {
  const place = new Place();
  const writer = threeSegments(place);
  writer.takeStamp({ stamp: 3, confirmedStamp: 0 });
  const outcomes = crashes(place, () => writer.takeStamp({ stamp: 9, confirmedStamp: 4 })).map((copy) => {
    const again = copy.open();
    const ended = again.replicas().map((replica) => (replica.ended === "" ? "lives" : "ended"));
    expect(again.replicas().map(({ damage }) => damage)).toEqual([undefined, undefined]);
    again.close();
    return `${again.stamp} ${ended.join(" ")}`;
  });
  expect(outcomes).toEqual([...new Array(2).fill("3 lives lives"), ...new Array(4).fill("9 ended ended")]);
  writer.close();
});
