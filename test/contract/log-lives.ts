/**
 * What every adapter of the Log port must do for the lives of a replica: whose id it is, in which term it was minted,
 * how entries that stand get another; and what it tells of itself meanwhile.
 */
import { expect, test } from "bun:test";
import { EMPTY_HEAD, type Head, NO_TERM } from "../../src/model/ids.ts";
import type { Log, ReplicaLog } from "../../src/ports.ts";
import { append, entry, type LogPlace, life, readAll, refusal } from "./log.ts";

/** Shards 0 and 1 with entries 0 to 9 of term 1, led in it, promised to term 2. */
async function ten(log: Log): Promise<void> {
  for (const shard of [0, 1]) {
    await log.create(shard, life());
    await log.promise(shard, 1);
    await log.markLed(shard, 1);
    await append(log, shard, 1, 0, 9);
    await log.promise(shard, 2);
  }
}

function replica(log: Log, shard: number): ReplicaLog {
  return log.replicas().find((one) => one.shard === shard)!;
}

async function terms(log: Log, shard: number, from = 0): Promise<number[]> {
  return (await readAll(log, shard, from)).map(({ term }) => term);
}

function times(count: number, term: number): number[] {
  return new Array(count).fill(term);
}

/** Runs the contract on logs that `place` makes, one a test. */
export function logLivesContract(name: string, place: () => LogPlace): void {
  const contract = (words: string, run: (at: LogPlace) => Promise<void>) =>
    test(`${name}: ${words}`, () => run(place()));

  contract("a replica has the id and the term that it was minted with, for as long as it lives", async (at) => {
    let log = await at.open();
    const [first, second] = [life(), life(7)];
    expect(await log.create(0, first)).toMatchObject(first);
    expect(await log.create(5, second)).toMatchObject(second);
    for (let round = 0; round < 2; round++) {
      expect(log.replicas()).toMatchObject([first, second]);
      await log.promise(5, 9 + round);
      await log.close();
      log = await at.open();
    }
    await log.close();
  });

  contract("entries that stand are adopted under a new id, whether the old one lives or has ended", async (at) => {
    for (const end of ["", "deleted in term 2"]) {
      let log = await at.open();
      if (log.replicas().length === 0) await ten(log);
      const before = replica(log, 0);
      const { head } = before;
      if (end !== "") await log.end(0, end);
      const adopter = life(2);
      const adopted = await log.adopt(0, adopter);
      expect(adopted).toEqual({ ...before, ...adopter, ended: "", damage: undefined });
      for (let round = 0; round < 3; round++) {
        expect(replica(log, 0)).toEqual(adopted);
        expect(await terms(log, 0)).toEqual(times(10, 1));
        expect(await log.at(0, 9)).toEqual(head);
        await log.close();
        log = await at.open();
      }
      expect(await refusal(log.promise(0, 1))).toBe("INVALID_TERM");
      expect(await log.promise(0, 2)).toEqual(head);
      expect(replica(log, 1)).toMatchObject({ ended: "", damage: undefined, mintedTerm: NO_TERM });
      await log.close();
    }
    const log = await at.open();
    await append(log, 0, 2, 10, 14);
    expect(await terms(log, 0)).toEqual([...times(10, 1), ...times(5, 2)]);
    await log.close();
  });

  contract("what waits is settled before an adoption, and goes with the entries", async (at) => {
    const log = await at.open();
    await ten(log);
    const waiting = refusal(log.append(0, entry(2, 10)));
    const adopted = log.adopt(0, life(2));
    const behind = log.append(0, entry(2, 11));
    expect(await waiting).toBe("resolved");
    expect((await adopted).head.offset).toBe(10);
    await behind;
    expect(await terms(log, 0)).toEqual([...times(10, 1), 2, 2]);
    await log.close();
  });

  contract("nothing is adopted where nothing stands", async (at) => {
    const log = await at.open();
    expect(await refusal(log.adopt(0, life()))).toBe("NODE_IS_NOT_MEMBER");
    await ten(log);
    await log.end(0, "deleted");
    await log.remove(0);
    expect(await refusal(log.adopt(0, life()))).toBe("NODE_IS_NOT_MEMBER");
    expect(log.replicas().map(({ shard }) => shard)).toEqual([1]);
    await log.close();
  });

  contract("an adopted log is cut, adopted again, and begun anew like any other", async (at) => {
    let log = await at.open();
    await ten(log);
    const kept = (await log.at(0, 4))!;
    await log.adopt(0, life(2));
    const expectedHead = await log.promise(0, 2);
    await log.truncate(0, { acceptedUnder: 2, expectedHead, to: 4 });
    await append(log, 0, 2, 5, 7);
    const second = life(2);
    await log.adopt(0, second);
    await append(log, 0, 2, 8, 8);
    for (let round = 0; round < 2; round++) {
      expect(replica(log, 0)).toMatchObject({ ...second, base: EMPTY_HEAD, damage: undefined });
      expect(await log.at(0, 4)).toEqual(kept);
      expect(await terms(log, 0)).toEqual([...times(5, 1), ...times(4, 2)]);
      await log.close();
      log = await at.open();
    }
    await log.install(0, 2, { term: 2, offset: 50, crc: 7 });
    await log.end(0, "deleted");
    const third = life(3);
    const base = { term: 2, offset: 50, crc: 7 };
    expect(await log.adopt(0, third)).toMatchObject({ ...third, base, head: base, promise: 2, ended: "" });
    await append(log, 0, 2, 51, 52);
    await log.close();
    log = await at.open();
    expect(replica(log, 0)).toMatchObject({ ...third, base, damage: undefined });
    expect(await terms(log, 0, 51)).toEqual([2, 2]);
    await log.close();
  });

  contract("who has led a term is not cut in it, and begins nothing anew", async (at) => {
    let log = await at.open();
    await ten(log);
    await log.markLed(0, 2);
    for (let round = 0; round < 2; round++) {
      const expectedHead = await log.promise(0, 2);
      const cut = { acceptedUnder: 2, expectedHead, to: 4 };
      expect(await refusal(log.truncate(0, cut))).toBe("INVALID_STATUS");
      expect(await refusal(log.truncate(0, { ...cut, acceptedUnder: 1 }))).toBe("INVALID_TERM");
      expect(await refusal(log.install(0, 2, { term: 2, offset: 20, crc: 1 }))).toBe("INVALID_STATUS");
      expect(await terms(log, 0)).toEqual(times(10, 1));
      await log.close();
      log = await at.open();
    }
    const expectedHead = await log.promise(0, 3);
    expect(await log.truncate(0, { acceptedUnder: 3, expectedHead, to: 4 })).toMatchObject({ offset: 4 });
    await log.close();
  });

  contract("what it tells of its replicas is as of the last answer", async (at) => {
    const log = await at.open();
    await ten(log);
    const heads: Head[] = [];
    for (let offset = 0; offset < 10; offset++) heads.push((await log.at(0, offset))!);
    expect(replica(log, 0)).toMatchObject({ promise: 2, led: 1, head: heads[9], base: EMPTY_HEAD });
    await log.promise(0, 4);
    expect(replica(log, 0)).toMatchObject({ promise: 4, led: 1 });
    await log.truncate(0, { acceptedUnder: 4, expectedHead: heads[9]!, to: 6 });
    expect(replica(log, 0)).toMatchObject({ head: heads[6], promise: 4 });
    await log.markLed(0, 4);
    expect(replica(log, 0)).toMatchObject({ head: heads[6], led: 4 });
    await append(log, 0, 4, 7, 8);
    const head = await log.promise(0, 5);
    expect(replica(log, 0)).toMatchObject({ head: { term: 4, offset: 8 }, promise: 5 });
    expect(head.offset).toBe(8);
    const base = { term: 5, offset: 30, crc: 3 };
    await log.install(0, 5, base);
    expect(replica(log, 0)).toMatchObject({ base, head: base, promise: 5, led: 4 });
    expect(await refusal(log.promise(0, 1))).toBe("INVALID_TERM");
    expect(replica(log, 0)).toMatchObject({ promise: 5 });
    expect(replica(log, 1)).toMatchObject({ promise: 2, head: { offset: 9 } });
    await log.close();
  });

  contract(
    "installed behind nothing, it begins anew at 0: entries that its leader has nothing to compare with are gone",
    async (at) => {
      let log = await at.open();
      await log.create(0, life());
      await log.promise(0, 1);
      await append(log, 0, 1, 0, 3);
      await log.promise(0, 4);
      await log.install(0, 4, EMPTY_HEAD);
      for (const isReopened of [false, true]) {
        if (isReopened) {
          await log.close();
          log = await at.open();
        }
        expect(replica(log, 0)).toMatchObject({
          base: EMPTY_HEAD,
          head: EMPTY_HEAD,
          promise: 4,
          damage: undefined,
          ended: "",
        });
        expect(await log.at(0, 0)).toBeUndefined();
      }
      await append(log, 0, 4, 0, 2);
      expect((await log.read(0, 0)).map(({ term }) => term)).toEqual([4, 4, 4]);
      await log.close();
    },
  );

  contract("its shape tells where terms end, behind the base and durable", async (at) => {
    let log = await at.open();
    await log.create(0, life());
    await log.promise(0, 9);
    expect(await refusal(log.shape(7))).toBe("NODE_IS_NOT_MEMBER");
    const shape = async () => {
      const { base, termEnds } = await log.shape(0);
      return `${base.offset}: ${termEnds.map(({ term, offset }) => `${term}/${offset}`).join(" ")}`;
    };
    const reopened = async () => {
      const before = await shape();
      await log.close();
      log = await at.open();
      expect(await shape()).toBe(before);
      return before;
    };
    expect(await reopened()).toBe("-1: ");
    // in one go, so that terms end within a group, and in several, so that segments do where they are small
    const stretches = [1, 1, 1, 2, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5, 5];
    await Promise.all(stretches.map((term, offset) => log.append(0, entry(term, offset), 9)));
    expect(await reopened()).toBe("-1: 1/2 2/3 4/12 5/14");
    for (const [nth, term] of [5, 5, 5, 6, 7, 7].entries()) await log.append(0, entry(term, 15 + nth), 9);
    expect(await reopened()).toBe("-1: 1/2 2/3 4/12 5/17 6/18 7/20");
    expect(await refusal(log.append(0, entry(6, 21), 9))).toBe("INVALID_TERM");
    expect(await shape()).toBe("-1: 1/2 2/3 4/12 5/17 6/18 7/20");
    let head = await log.promise(0, 9);
    for (const [to, expected] of [
      [19, "-1: 1/2 2/3 4/12 5/17 6/18 7/19"],
      [18, "-1: 1/2 2/3 4/12 5/17 6/18"],
      [8, "-1: 1/2 2/3 4/8"],
      [3, "-1: 1/2 2/3"],
    ] as const) {
      head = await log.truncate(0, { acceptedUnder: 9, expectedHead: head, to });
      expect(await reopened()).toBe(expected);
    }
    await log.append(0, entry(8, 4), 9);
    expect(await shape()).toBe("-1: 1/2 2/3 8/4");
    await log.adopt(0, life(9));
    expect(await reopened()).toBe("-1: 1/2 2/3 8/4");
    await log.install(0, 9, { term: 8, offset: 30, crc: 5 });
    expect(await reopened()).toBe("30: ");
    await log.append(0, entry(8, 31), 9);
    expect(await shape()).toBe("30: 8/31");
    await log.append(0, entry(9, 32), 9);
    expect(await reopened()).toBe("30: 8/31 9/32");
    await log.end(0, "deleted");
    expect(await refusal(log.shape(0))).toBe("NODE_IS_NOT_MEMBER");
    await log.remove(0);
    await log.create(0, life());
    expect(await reopened()).toBe("-1: ");
    await log.close();
  });

  contract("what is released of a log that no longer is changes nothing", async (at) => {
    const log = await at.open();
    await ten(log);
    await log.end(0, "deleted");
    await log.remove(0);
    log.release(0, 9);
    await log.create(0, life());
    log.release(0, 9);
    await append(log, 0, 2, 0, 3);
    log.release(0, 9);
    const expectedHead = await log.promise(0, 3);
    expect(await log.truncate(0, { acceptedUnder: 3, expectedHead, to: 1 })).toMatchObject({ offset: 1 });
    log.release(0, 1);
    expect(await refusal(log.install(0, 3, { term: 2, offset: 0, crc: 1 }))).toBe("FAILED_PRECONDITION");
    await log.close();
  });
}
