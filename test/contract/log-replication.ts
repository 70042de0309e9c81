/**
 * What every adapter of the Log port must do for a replica that follows: entries of older terms, cutting back, beginning
 * anew behind a snapshot, the end of an id.
 */
import { expect, test } from "bun:test";
import { EMPTY_HEAD, type Head, NO_OFFSET } from "../../src/model/ids.ts";
import type { Log } from "../../src/ports.ts";
import { append, entry, type LogPlace, life, readAll, refusal } from "./log.ts";

/** Ids of the entries from an offset on, as `term/offset`. */
async function ids(log: Log, shard: number, from = 0): Promise<string[]> {
  return (await readAll(log, shard, from)).map(({ term, offset }) => `${term}/${offset}`);
}

function idsOf(...stretches: readonly (readonly [term: number, from: number, toInclusive: number])[]): string[] {
  return stretches.flatMap(([term, from, to]) =>
    Array.from({ length: to - from + 1 }, (_, n) => `${term}/${from + n}`),
  );
}

/** Shard 0 with entries 0 to 9 of term 1, promised to term 2, and what `at` says of them; shard 1 likewise, to be left alone. */
async function ten(log: Log): Promise<Head[]> {
  for (const shard of [0, 1]) {
    await log.create(shard, life());
    await log.promise(shard, 1);
    await append(log, shard, 1, 0, 9);
    await log.promise(shard, 2);
  }
  const heads: Head[] = [];
  for (let offset = 0; offset < 10; offset++) heads.push((await log.at(0, offset))!);
  return heads;
}

function headOf(log: Log, shard: number): Head | undefined {
  return log.replicas().find((replica) => replica.shard === shard)?.head;
}

/** Runs the contract on logs that `place` makes, one a test. */
export function logReplicationContract(name: string, place: () => LogPlace): void {
  const contract = (words: string, run: (at: LogPlace) => Promise<void>) =>
    test(`${name}: ${words}`, () => run(place()));

  contract("entries of older terms are appended under the promised one, and terms never fall", async (at) => {
    let log = await at.open();
    await log.create(0, life());
    await log.promise(0, 7);
    await Promise.all([0, 1].map((offset) => log.append(0, entry(3, offset), 7)));
    await log.append(0, entry(5, 2), 7);
    expect(await refusal(log.append(0, entry(4, 3), 7))).toBe("INVALID_TERM");
    expect(await refusal(log.append(0, entry(8, 3), 7))).toBe("INVALID_TERM");
    expect(await refusal(log.append(0, entry(5, 3)))).toBe("RESOURCE_UNAVAILABLE");
    expect(await refusal(log.append(0, entry(5, 3), 6))).toBe("RESOURCE_UNAVAILABLE");
    expect(await refusal(log.append(0, entry(5, 3), 8))).toBe("RESOURCE_UNAVAILABLE");
    await log.append(0, entry(7, 3));
    expect(await log.promise(0, 8)).toMatchObject({ term: 7, offset: 3 });
    expect(await refusal(log.append(0, entry(5, 4), 7))).toBe("RESOURCE_UNAVAILABLE");
    await log.close();
    log = await at.open();
    expect(await ids(log, 0)).toEqual(["3/0", "3/1", "5/2", "7/3"]);
    await log.close();
  });

  contract("what is appended in one go by two leaders is decided one by one", async (at) => {
    const log = await at.open();
    await log.create(0, life());
    await log.promise(0, 3);
    const outcomes = await Promise.all([
      refusal(log.append(0, entry(1, 0), 3)),
      refusal(log.append(0, entry(2, 1))),
      refusal(log.append(0, entry(2, 1), 3)),
      refusal(log.append(0, entry(1, 2), 3)),
      refusal(log.append(0, entry(3, 2), 3)),
    ]);
    expect(outcomes).toEqual(["resolved", "RESOURCE_UNAVAILABLE", "resolved", "INVALID_TERM", "resolved"]);
    expect(await ids(log, 0)).toEqual(["1/0", "2/1", "3/2"]);
    await log.close();
  });

  contract("the chain is known at every entry that is held, and nowhere else", async (at) => {
    let log = await at.open();
    const heads = await ten(log);
    expect(heads.map(({ term, offset }) => `${term}/${offset}`)).toEqual(idsOf([1, 0, 9]));
    expect(new Set(heads.map(({ crc }) => crc)).size).toBe(10);
    expect(await log.at(0, NO_OFFSET)).toEqual(EMPTY_HEAD);
    expect(await log.at(0, 10)).toBeUndefined();
    expect(await log.at(0, -2)).toBeUndefined();
    expect(await log.promise(0, 2)).toEqual(heads[9]!);
    expect(await refusal(log.at(7, 0))).toBe("NODE_IS_NOT_MEMBER");
    await log.close();
    log = await at.open();
    for (const head of heads) expect(await log.at(0, head.offset)).toEqual(head);
    await log.close();
  });

  contract("a log is cut back to any entry, and goes on from there", async (at) => {
    for (const to of [NO_OFFSET, 0, 4, 8]) {
      let log = await at.open();
      const fresh = log.replicas().length === 0;
      const heads = fresh ? await ten(log) : [];
      if (!fresh) {
        const head = await log.promise(0, 2);
        await log.truncate(0, { acceptedUnder: 2, expectedHead: head, to: NO_OFFSET });
        await Promise.all(Array.from({ length: 10 }, (_, n) => log.append(0, entry(1, n), 2)));
        for (let offset = 0; offset < 10; offset++) heads.push((await log.at(0, offset))!);
      }
      const kept = await log.truncate(0, { acceptedUnder: 2, expectedHead: heads[9]!, to });
      expect(kept).toEqual(heads[to] ?? EMPTY_HEAD);
      expect(await log.promise(0, 2)).toEqual(kept);
      expect(await log.at(0, to + 1)).toBeUndefined();
      expect(await ids(log, 0)).toEqual(idsOf([1, 0, to]));
      await log.close();
      log = await at.open();
      expect(headOf(log, 0)).toEqual(kept);
      await append(log, 0, 2, to + 1, 14);
      for (let round = 0; round < 2; round++) {
        for (const from of [0, Math.max(to, 0), to + 1, 14]) {
          expect(await ids(log, 0, from)).toEqual(idsOf([1, 0, to], [2, to + 1, 14]).slice(from));
        }
        expect(await ids(log, 1)).toEqual(idsOf([1, 0, 9]));
        await log.close();
        log = await at.open();
      }
      await log.close();
    }
  });

  contract("a cut is refused unless all that it rests on holds", async (at) => {
    const log = await at.open();
    const heads = await ten(log);
    const expectedHead = heads[9]!;
    const cut = (change: object) => refusal(log.truncate(0, { acceptedUnder: 2, expectedHead, to: 4, ...change }));
    expect(await cut({ acceptedUnder: 1 })).toBe("INVALID_TERM");
    expect(await cut({ acceptedUnder: 3 })).toBe("INVALID_TERM");
    expect(await cut({ expectedHead: heads[8] })).toBe("RESOURCE_CONFLICT");
    expect(await cut({ expectedHead: { term: 2, offset: 9 } })).toBe("RESOURCE_CONFLICT");
    expect(await cut({ to: 10 })).toBe("INVALID_ARGUMENT");
    expect(await cut({ to: -2 })).toBe("FAILED_PRECONDITION");
    log.release(0, 6);
    expect(await cut({ to: 5 })).toBe("FAILED_PRECONDITION");
    expect(await refusal(log.truncate(7, { acceptedUnder: 2, expectedHead, to: 4 }))).toBe("NODE_IS_NOT_MEMBER");
    expect(await ids(log, 0)).toEqual(idsOf([1, 0, 9]));
    expect(await cut({ to: 9 })).toBe("resolved");
    expect(await log.promise(0, 2)).toEqual(expectedHead);
    expect(await cut({ to: 6 })).toBe("resolved");
    expect(await log.promise(0, 2)).toEqual(heads[6]!);
    await log.close();
  });

  contract("appends that wait are settled before a cut, which then sees their head", async (at) => {
    const log = await at.open();
    const heads = await ten(log);
    const appended = refusal(log.append(0, entry(2, 10)));
    const cut = refusal(log.truncate(0, { acceptedUnder: 2, expectedHead: heads[9]!, to: 4 }));
    const behind = refusal(log.append(0, entry(2, 11)));
    expect(await Promise.all([appended, cut, behind])).toEqual(["resolved", "RESOURCE_CONFLICT", "resolved"]);
    const head = (await log.at(0, 11))!;
    const again = log.truncate(0, { acceptedUnder: 2, expectedHead: head, to: 4 });
    const late = refusal(log.append(0, entry(2, 12)));
    const next = log.append(0, entry(2, 5));
    expect(await again).toEqual(heads[4]!);
    expect(await late).toBe("RESOURCE_EXHAUSTED");
    await next;
    expect(await ids(log, 0)).toEqual(idsOf([1, 0, 4], [2, 5, 5]));
    await log.close();
  });

  contract("cuts one after the other, deeper and less deep, bring nothing back", async (at) => {
    let log = await at.open();
    await ten(log);
    let head = await log.promise(0, 3);
    const expected = idsOf([1, 0, 9]);
    for (const [round, to] of [7, 3, 3, 6, 5, NO_OFFSET, 2].entries()) {
      const term = 3 + round;
      if (to > head.offset) await append(log, 0, term - 1, head.offset + 1, to);
      for (let offset = head.offset + 1; offset <= to; offset++) expected.push(`${term - 1}/${offset}`);
      head = await log.promise(0, term);
      await log.truncate(0, { acceptedUnder: term, expectedHead: head, to });
      expected.length = to + 1;
      await append(log, 0, term, to + 1, to + 4);
      expected.push(...idsOf([term, to + 1, to + 4]));
      expect(await ids(log, 0)).toEqual(expected);
      await log.close();
      log = await at.open();
      expect(log.replicas().map(({ damage }) => damage)).toEqual([undefined, undefined]);
      expect(await ids(log, 0)).toEqual(expected);
      head = headOf(log, 0)!;
    }
    await log.close();
  });

  contract("a log begins anew behind a snapshot, ahead of it or within it", async (at) => {
    for (const base of [
      { term: 2, offset: 99, crc: 4_711 },
      { term: 1, offset: 4, crc: 4_712 },
    ]) {
      let log = await at.open();
      if (log.replicas().length === 0) await ten(log);
      else {
        await log.end(0, "a test begins");
        await log.remove(0);
        await log.create(0, life());
        await log.promise(0, 2);
        await Promise.all(Array.from({ length: 10 }, (_, n) => log.append(0, entry(1, n), 2)));
      }
      expect(await refusal(log.install(0, 1, base))).toBe("INVALID_TERM");
      expect(await refusal(log.install(0, 2, { ...base, term: 3 }))).toBe("INVALID_TERM");
      await log.install(0, 2, base);
      expect(await log.promise(0, 2)).toEqual(base);
      expect(await log.at(0, base.offset)).toEqual(base);
      await log.close();
      log = await at.open();
      expect(log.replicas().find(({ shard }) => shard === 0)).toMatchObject({ base, head: base, damage: undefined });
      await append(log, 0, 2, base.offset + 1, base.offset + 12);
      for (let round = 0; round < 2; round++) {
        expect(await refusal(log.read(0, base.offset))).toBe("FAILED_PRECONDITION");
        expect(await log.at(0, base.offset - 1)).toBeUndefined();
        expect(await ids(log, 0, base.offset + 1)).toEqual(idsOf([2, base.offset + 1, base.offset + 12]));
        expect(await ids(log, 1)).toEqual(idsOf([1, 0, 9]));
        await log.close();
        log = await at.open();
      }
      expect(await refusal(log.install(0, 2, { ...base, offset: base.offset - 1 }))).toBe("FAILED_PRECONDITION");
      await log.close();
    }
  });

  contract("an id ends for good, and says why; its promise stays", async (at) => {
    let log = await at.open();
    await ten(log);
    const waiting = refusal(log.append(0, entry(2, 10)));
    const before = log.replicas()[0]!;
    expect(before.ended).toBe("");
    expect(await log.end(0, "deleted in term 2")).toMatchObject({ ended: "deleted in term 2", promise: 2 });
    expect(await waiting).toBe("resolved");
    await log.end(0, "a second reason");
    for (let round = 0; round < 2; round++) {
      const { replicaId, promise, ended, damage } = log.replicas().find(({ shard }) => shard === 0)!;
      expect({ replicaId, promise, ended, damage }).toEqual({
        replicaId: before.replicaId,
        promise: 2,
        ended: "deleted in term 2",
        damage: undefined,
      });
      expect(await refusal(log.promise(0, 3))).toBe("NODE_IS_NOT_MEMBER");
      expect(await refusal(log.append(0, entry(2, 11)))).toBe("NODE_IS_NOT_MEMBER");
      expect(await refusal(log.read(0, 0))).toBe("NODE_IS_NOT_MEMBER");
      expect(await refusal(log.create(0, life()))).toBe("RESOURCE_CONFLICT");
      await log.close();
      log = await at.open();
    }
    expect(await ids(log, 1)).toEqual(idsOf([1, 0, 9]));
    await log.close();
  });

  contract("a stamp only rises, and one below the confirmed one ends every id in the same step", async (at) => {
    let log = await at.open();
    expect(log.stamp()).toBe(0);
    await ten(log);
    expect(await log.takeStamp({ stamp: 7, confirmedStamp: 0 })).toEqual({ before: 0, rolledBack: false });
    expect(await log.takeStamp({ stamp: 5, confirmedStamp: 7 })).toEqual({ before: 7, rolledBack: false });
    await log.close();
    log = await at.open();
    expect(log.stamp()).toBe(7);
    expect(log.replicas().map(({ ended }) => ended)).toEqual(["", ""]);
    expect(await log.takeStamp({ stamp: 0, confirmedStamp: 7 })).toEqual({ before: 7, rolledBack: false });
    expect(await log.takeStamp({ stamp: 9, confirmedStamp: 8 })).toEqual({ before: 7, rolledBack: true });
    expect(log.stamp()).toBe(9);
    for (let round = 0; round < 2; round++) {
      expect(log.stamp()).toBe(9);
      for (const { ended, promise } of log.replicas()) {
        expect(ended).toContain("older copy");
        expect(promise).toBe(2);
      }
      expect(await refusal(log.promise(0, 3))).toBe("NODE_IS_NOT_MEMBER");
      await log.close();
      log = await at.open();
    }
    await log.remove(0);
    await log.create(0, life());
    expect(await log.takeStamp({ stamp: 10, confirmedStamp: 9 })).toEqual({ before: 9, rolledBack: false });
    expect((await log.promise(0, 3)).offset).toBe(NO_OFFSET);
    await log.close();
  });

  contract("a removed replica is gone, and the next one has an id of its own and none of its entries", async (at) => {
    let log = await at.open();
    await ten(log);
    expect(await refusal(log.remove(0))).toBe("RESOURCE_CONFLICT");
    expect(await refusal(log.remove(7))).toBe("resolved");
    let last = log.replicas()[0]!;
    for (let round = 0; round < 3; round++) {
      await log.end(0, "deleted");
      await log.remove(0);
      await log.remove(0);
      expect(log.replicas().map(({ shard }) => shard)).toEqual([1]);
      expect(await refusal(log.promise(0, 3))).toBe("NODE_IS_NOT_MEMBER");
      expect(await refusal(log.append(0, entry(2, 0)))).toBe("NODE_IS_NOT_MEMBER");
      await log.close();
      log = await at.open();
      expect(log.replicas().map(({ shard }) => shard)).toEqual([1]);
      const next = await log.create(0, life());
      expect(next).toMatchObject({ promise: 2, led: -1, head: EMPTY_HEAD, base: EMPTY_HEAD, ended: "" });
      expect(next.replicaId).not.toBe(last.replicaId);
      last = next;
      expect(await log.read(0, 0)).toEqual([]);
      await append(log, 0, 2, 0, 5 + round);
      await log.close();
      log = await at.open();
      expect(log.replicas().find(({ shard }) => shard === 0)).toMatchObject({ replicaId: next.replicaId });
      expect(await ids(log, 0)).toEqual(idsOf([2, 0, 5 + round]));
      expect(await ids(log, 1)).toEqual(idsOf([1, 0, 9]));
    }
    await log.close();
  });
}
