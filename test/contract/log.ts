/** What every adapter of the Log port must do, whatever it keeps its entries in. */
import { expect, test } from "bun:test";
import type { LogEntry, Term } from "../../src/model/ids.ts";
import { NO_OFFSET, NO_TERM } from "../../src/model/ids.ts";
import { LOG_READ_BYTES_MAX, LOG_READ_ENTRIES_MAX } from "../../src/model/limits.ts";
import type { Log, ReplicaLife } from "../../src/ports.ts";

/** A place where a log lives: opened again, it holds what was durable. */
export interface LogPlace {
  open(): Promise<Log>;
}

let minted = 0n;

/** A replica's life with an id that no other has. */
export function life(mintedTerm: Term = NO_TERM): ReplicaLife {
  return { replicaId: ++minted, mintedTerm };
}

export function entry(term: number, offset: number, value = `value ${offset}`): LogEntry {
  return { term, offset, timestamp: 1_000 + offset, value: new TextEncoder().encode(value) };
}

export function texts(entries: readonly LogEntry[]): string[] {
  return entries.map(
    ({ term, offset, timestamp, value }) => `${term}/${offset}@${timestamp} ${new TextDecoder().decode(value)}`,
  );
}

export async function append(log: Log, shard: number, term: number, from: number, toInclusive: number): Promise<void> {
  const appended: Promise<void>[] = [];
  for (let offset = from; offset <= toInclusive; offset++) appended.push(log.append(shard, entry(term, offset)));
  await Promise.all(appended);
}

export async function readAll(log: Log, shard: number, from: number): Promise<LogEntry[]> {
  const all: LogEntry[] = [];
  for (;;) {
    const some = await log.read(shard, from + all.length);
    if (some.length === 0) return all;
    all.push(...some);
  }
}

/** The promise's rejection, as `REASON`. */
export async function refusal(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "resolved",
    (error: { reason?: string; message: string }) => error.reason ?? error.message,
  );
}

/** Runs the contract on logs that `place` makes, one a test. */
export function logContract(name: string, place: () => LogPlace): void {
  const contract = (words: string, run: (at: LogPlace) => Promise<void>) =>
    test(`${name}: ${words}`, () => run(place()));

  contract("a replica is made once, from nothing, and has an id of its own", async (at) => {
    const log = await at.open();
    expect(log.replicas()).toEqual([]);
    const first = await log.create(3, life());
    expect(first).toMatchObject({ shard: 3, promise: NO_TERM, led: NO_TERM, damage: undefined });
    expect(first.head).toEqual({ term: NO_TERM, offset: NO_OFFSET, crc: 0 });
    expect(first.base).toEqual(first.head);
    const second = await log.create(4, life());
    expect(second.replicaId).not.toBe(first.replicaId);
    expect(first.replicaId > 0n && first.replicaId < 1n << 63n).toBe(true);
    expect(await refusal(log.create(3, life()))).toBe("RESOURCE_CONFLICT");
    expect(log.replicas().map(({ shard }) => shard)).toEqual([3, 4]);
    await log.close();
  });

  contract("a promise only rises, survives, and answers the head", async (at) => {
    let log = await at.open();
    const { replicaId } = await log.create(0, life());
    expect(await log.promise(0, 5)).toMatchObject({ offset: NO_OFFSET });
    await append(log, 0, 5, 0, 2);
    expect(await refusal(log.promise(0, 4))).toBe("INVALID_TERM");
    expect(await log.promise(0, 5)).toMatchObject({ term: 5, offset: 2 });
    const head = await log.promise(0, 9);
    await log.close();
    log = await at.open();
    expect(log.replicas()).toMatchObject([{ shard: 0, replicaId, promise: 9, led: NO_TERM, head }]);
    expect(await refusal(log.promise(0, 8))).toBe("INVALID_TERM");
    expect(await refusal(log.promise(7, 8))).toBe("NODE_IS_NOT_MEMBER");
    await log.close();
  });

  contract("a term is led once, and only when it is the one promised", async (at) => {
    let log = await at.open();
    await log.create(0, life());
    await log.promise(0, 2);
    expect(await refusal(log.markLed(0, 3))).toBe("INVALID_TERM");
    expect(await refusal(log.markLed(0, 1))).toBe("INVALID_TERM");
    await log.markLed(0, 2);
    expect(await refusal(log.markLed(0, 2))).toBe("INVALID_STATUS");
    await log.close();
    log = await at.open();
    expect(log.replicas()[0]?.led).toBe(2);
    expect(await refusal(log.markLed(0, 2))).toBe("INVALID_STATUS");
    await log.close();
  });

  contract("entries come back as they went in, from any offset, also after it was opened again", async (at) => {
    let log = await at.open();
    await log.create(0, life());
    await log.promise(0, 1);
    await append(log, 0, 1, 0, 9);
    const expected = Array.from({ length: 10 }, (_, offset) => `1/${offset}@${1000 + offset} value ${offset}`);
    for (let round = 0; round < 2; round++) {
      for (const from of [0, 1, 5, 9]) expect(texts(await readAll(log, 0, from))).toEqual(expected.slice(from));
      expect(await log.read(0, 10)).toEqual([]);
      expect(await log.read(0, 1000)).toEqual([]);
      await log.close();
      log = await at.open();
    }
    await log.close();
  });

  contract("an empty value is a value", async (at) => {
    const log = await at.open();
    await log.create(0, life());
    await log.promise(0, 0);
    await log.append(0, entry(0, 0, ""));
    expect(texts(await log.read(0, 0))).toEqual(["0/0@1000 "]);
    await log.close();
  });

  contract("shards share it and do not see each other", async (at) => {
    const log = await at.open();
    const shards = [0, 1, 2, 1_000_000];
    for (const shard of shards) {
      await log.create(shard, life());
      await log.promise(shard, shard + 1);
    }
    const appended: Promise<void>[] = [];
    for (let offset = 0; offset < 200; offset++) {
      for (const shard of shards) appended.push(log.append(shard, entry(shard + 1, offset, `${shard}:${offset}`)));
    }
    await Promise.all(appended);
    for (const shard of shards) {
      const entries = await readAll(log, shard, 0);
      expect(entries.map(({ value }) => new TextDecoder().decode(value))).toEqual(
        Array.from({ length: 200 }, (_, offset) => `${shard}:${offset}`),
      );
    }
    await log.close();
  });

  contract("promises of one shard resolve in offset order", async (at) => {
    const log = await at.open();
    await log.create(0, life());
    await log.promise(0, 0);
    const order: number[] = [];
    await Promise.all(Array.from({ length: 300 }, (_, n) => log.append(0, entry(0, n)).then(() => order.push(n))));
    expect(order).toEqual(Array.from({ length: 300 }, (_, n) => n));
    await log.close();
  });

  contract("an append that skips an offset, or repeats one, is refused and leaves nothing", async (at) => {
    const log = await at.open();
    await log.create(0, life());
    await log.promise(0, 0);
    await append(log, 0, 0, 0, 4);
    expect(await refusal(log.append(0, entry(0, 6)))).not.toBe("resolved");
    expect(await refusal(log.append(0, entry(0, 4)))).not.toBe("resolved");
    expect(await log.promise(0, 0)).toMatchObject({ offset: 4 });
    await log.append(0, entry(0, 5));
    await log.close();
  });

  contract("a promise drops what another term accepted and has not committed", async (at) => {
    const log = await at.open();
    await log.create(0, life());
    await log.promise(0, 1);
    await append(log, 0, 1, 0, 4);
    const promised = log.promise(0, 2);
    const late = refusal(log.append(0, entry(1, 5)));
    const head = await promised;
    const outcome = await late;
    // either it was committed before the barrier, and is in the answer, or it was dropped
    expect(outcome === "resolved" ? head.offset : `${head.offset} ${outcome}`).toBe(
      outcome === "resolved" ? 5 : "4 RESOURCE_UNAVAILABLE",
    );
    expect(await refusal(log.append(0, entry(1, head.offset + 1)))).toBe("RESOURCE_UNAVAILABLE");
    await log.append(0, entry(2, head.offset + 1));
    expect((await log.promise(0, 2)).term).toBe(2);
    await log.close();
  });

  contract("one read is bounded, and gives at least one entry, however large", async (at) => {
    const log = await at.open();
    await log.create(0, life());
    await log.promise(0, 0);
    const large = "x".repeat(LOG_READ_BYTES_MAX + 1);
    await log.append(0, entry(0, 0, large));
    await log.append(0, entry(0, 1, large));
    await append(log, 0, 0, 2, LOG_READ_ENTRIES_MAX + 2);
    expect((await log.read(0, 0)).map(({ offset }) => offset)).toEqual([0]);
    expect((await log.read(0, 1)).map(({ offset }) => offset)).toEqual([1]);
    expect((await log.read(0, 2)).length).toBeLessThanOrEqual(LOG_READ_ENTRIES_MAX);
    expect(await readAll(log, 0, 0)).toHaveLength(LOG_READ_ENTRIES_MAX + 3);
    await log.close();
  });

  contract("closing commits what waits", async (at) => {
    let log = await at.open();
    await log.create(0, life());
    await log.promise(0, 0);
    const appended = append(log, 0, 0, 0, 9);
    await log.close();
    await appended;
    log = await at.open();
    expect(log.replicas()[0]?.head.offset).toBe(9);
    await log.close();
  });
}
