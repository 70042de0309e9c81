/** What the contract of KeyValues (test/contract/) cannot ask of every adapter: files, damage, full disks, bounds. */
import { Database } from "bun:sqlite";
import { afterAll, afterEach, beforeEach, expect, test } from "bun:test";
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { addAll, contents, fill, open, PLACE, received, type Sent, sent } from "../../../test/contract/key-values.ts";
import { refusal } from "../../../test/contract/log.ts";
import { STATES_RECEIVED_MAX, STATES_SENT_MAX } from "../../model/limits.ts";
import { systemClock } from "../../ops/clock.ts";
import type { StateSender } from "../../ports.ts";
import { SqliteKeyValues, type SqliteKeyValuesOptions } from "./key-values.ts";

const folder = mkdtempSync(join(tmpdir(), "varia-key-values-"));
const silent = { debug() {}, info() {}, warn() {}, error() {} };
const MiB = 1024 * 1024;
const OTHER = { ...PLACE, shard: 9 };
const started: SqliteKeyValues[] = [];
const faults: Error[] = [];
let directories = 0;
let directory = "";

beforeEach(() => {
  directory = join(folder, `${directories++}`);
  mkdirSync(directory);
});

afterEach(async () => {
  for (const each of started.splice(0)) await each.close();
  expect(faults).toEqual([]);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

function start(at = directory, options: Partial<SqliteKeyValuesOptions> = {}): SqliteKeyValues {
  const keyValues = new SqliteKeyValues({
    directory: at,
    verify: true,
    released: () => {},
    tableBytesMax: 8 * MiB,
    cacheBytesMax: MiB,
    sqliteCacheBytesMax: MiB,
    clock: systemClock,
    logger: silent,
    onFault: (error) => faults.push(error),
    ...options,
  });
  started.push(keyValues);
  return keyValues;
}

async function stop(keyValues: SqliteKeyValues): Promise<void> {
  started.splice(started.indexOf(keyValues), 1);
  await keyValues.close();
}

/** The shard with a few entries, flushed, and what another one is to send it. */
async function prepare(keyValues: SqliteKeyValues): Promise<{ old: unknown; fresh: unknown; state: Sent }> {
  const other = await open(keyValues, OTHER);
  fill(other, 40);
  const state = await sent(other);
  const kv = await open(keyValues);
  fill(kv, 5);
  await kv.flush();
  return { old: contents(kv), fresh: contents(other), state };
}

const main = (at = directory) => join(at, "default", "shard-3.sqlite");
const filesOf = (shard: number, at = directory) =>
  readdirSync(join(at, "default")).filter((name) => name.startsWith(`shard-${shard}.`));

// --- crashes ------------------------------------------------------------------------------------------------------

test("whichever step of a switch a crash meets, the new state is taken up", async () => {
  const keyValues = start();
  const { old, fresh, state } = await prepare(keyValues);
  const receiver = await received(keyValues, state);
  // what is committed but not in a checkpoint: the -wal is part of the old state
  const steps: Record<string, (at: string) => void> = {
    "before it": () => {},
    "the -wal is gone": (at) => rmSync(`${main(at)}-wal`, { force: true }),
    "what stands is gone": (at) => {
      for (const suffix of ["-wal", "-shm", ""]) rmSync(main(at) + suffix, { force: true });
    },
    "the new one has its name": (at) => {
      rmSync(`${main(at)}-wal`, { force: true });
      renameSync(join(at, "default", "shard-3.received.sqlite"), main(at));
    },
  };
  for (const [words, step] of Object.entries(steps)) {
    const copy = join(folder, `${directories++}`);
    cpSync(directory, copy, { recursive: true, filter: (name) => !name.endsWith("-shm") });
    step(copy);
    const again = start(copy);
    expect([words, contents(await open(again, PLACE, state.applied))]).toEqual([words, fresh]);
    await stop(again);
    expect(filesOf(3, copy)).toEqual(["shard-3.sqlite"]);
  }
  await receiver.drop();
  expect(old).not.toEqual(fresh);
});

test("a state that was cut off before it had its name is dropped, however much of it is there", async () => {
  const keyValues = start();
  const { old, state } = await prepare(keyValues);
  const receiver = await keyValues.receive(PLACE);
  await addAll(receiver, state.pieces);
  const copy = join(folder, `${directories++}`);
  cpSync(directory, copy, { recursive: true, filter: (name) => !name.endsWith("-shm") });
  expect(filesOf(3, copy)).toContain("shard-3.incoming.sqlite");
  const again = start(copy);
  expect(contents(await open(again, PLACE, state.applied))).toEqual(old);
  await stop(again);
  expect(filesOf(3, copy)).toEqual(["shard-3.sqlite"]);
});

test("a -wal beside a state that is not there belongs to nobody", async () => {
  const keyValues = start();
  await prepare(keyValues);
  const copy = join(folder, `${directories++}`);
  cpSync(directory, copy, { recursive: true, filter: (name) => !name.endsWith("-shm") });
  writeFileSync(`${main(copy)}-wal`, readFileSync(main(copy)));
  rmSync(main(copy));
  const again = start(copy);
  expect((await open(again)).rowCount).toBe(0);
  await stop(again);
});

test("a damaged state gives way to a received one; a damaged received one is no state", async () => {
  const keyValues = start();
  const { fresh, state } = await prepare(keyValues);
  await received(keyValues, state);
  await stop(keyValues);
  const copy = join(folder, `${directories++}`);
  cpSync(directory, copy, { recursive: true });
  garble(main(), 0);
  expect(contents(await open(start(), PLACE, state.applied))).toEqual(fresh);
  garble(join(copy, "default", "shard-3.received.sqlite"), 0);
  expect((await open(start(copy), PLACE, state.applied)).applied.offset).toBe(4);
});

test("a received state that cannot be read when it is switched to is damage, not an empty state", async () => {
  const keyValues = start();
  const { state } = await prepare(keyValues);
  const receiver = await received(keyValues, state);
  garble(join(directory, "default", "shard-3.received.sqlite"), 0);
  expect(await refusal(receiver.switchTo())).toBe("DATA_LOSS");
  expect(await keyValues.open(PLACE, state.applied)).toMatchObject({ damage: { file: main() } });
});

/** Overwrites some bytes of a file. */
function garble(path: string, at: number): void {
  const file = openSync(path, "r+");
  writeSync(file, new Uint8Array(64).fill(0xa5), 0, 64, at);
  closeSync(file);
}

// --- damage on the sender's side --------------------------------------------------------------------------------------

const DAMAGES: Record<string, (database: Database) => void> = {
  "a block with a flipped bit": (database) => {
    const { okey, records } = database.query("SELECT okey, records FROM block ORDER BY okey LIMIT 1").get() as {
      okey: Uint8Array;
      records: Uint8Array;
    };
    records[50]! ^= 1;
    database.query("UPDATE block SET records = ? WHERE okey = ?").run(records, okey);
  },
  "a block that is gone": (database) =>
    void database.run("DELETE FROM block WHERE okey = (SELECT okey FROM block ORDER BY okey LIMIT 1)"),
  "a notification that is gone": (database) => void database.run("DELETE FROM notification WHERE offset = 7"),
  "the last notification gone": (database) =>
    void database.run("DELETE FROM notification WHERE offset = (SELECT max(offset) FROM notification)"),
  "notifications with a flipped bit": (database) =>
    void database.run("UPDATE notification SET entries = x'00' WHERE offset = 7"),
  "a state with a flipped bit": (database) => void database.run("UPDATE meta SET version = version + 1"),
  "a mark with a flipped bit": (database) => void database.run("INSERT INTO trimmed VALUES(0, 3, 1)"),
};

for (const [words, damage] of Object.entries(DAMAGES)) {
  test(`a state is not sent as whole: ${words}`, async () => {
    const keyValues = start();
    const kv = await open(keyValues);
    fill(kv, 200);
    await kv.flush();
    const database = new Database(main());
    damage(database);
    database.close();
    const attempt = async () => sent(kv);
    expect(await refusal(attempt())).toBe("DATA_LOSS");
    expect(kv.damage).toMatchObject({ file: main() });
    // the place of the one that failed is free
    for (let n = 0; n < STATES_SENT_MAX + 1; n++) {
      const sender = await kv.send().catch(() => undefined);
      sender?.release();
    }
  });
}

// --- bounds -----------------------------------------------------------------------------------------------------------

test("more states than may be sent at once wait for their turn", async () => {
  const kv = await open(start());
  fill(kv, 3);
  const senders: StateSender[] = [];
  for (let n = 0; n < STATES_SENT_MAX; n++) senders.push(await kv.send());
  const waiting = [kv.send(), kv.send()];
  expect(await Promise.race([...waiting, Bun.sleep(30)])).toBeUndefined();
  senders[0]!.release();
  const next = await waiting[0]!;
  expect(await Promise.race([waiting[1]!, Bun.sleep(30)])).toBeUndefined();
  for (const sender of [...senders, next]) sender.release();
  (await waiting[1]!).release();
});

test("more states than may be received at once are refused, until one is done", async () => {
  const keyValues = start();
  const { state } = await prepare(keyValues);
  const receivers = [];
  for (let shard = 100; shard < 100 + STATES_RECEIVED_MAX; shard++) {
    receivers.push(await keyValues.receive({ ...PLACE, shard }));
  }
  expect(await refusal(keyValues.receive(PLACE))).toBe("RESOURCE_EXHAUSTED");
  await receivers[0]!.drop();
  const kv = await (await received(keyValues, state)).switchTo();
  expect(kv.applied).toMatchObject({ offset: state.applied.offset });
  for (const receiver of receivers) await receiver.drop();
});

test("closing does not wait for who reads slowly", async () => {
  const keyValues = start();
  const kv = await open(keyValues);
  fill(kv, 100);
  const sender = await kv.send();
  await sender.next();
  const snapshot = await kv.snapshot();
  fill(kv, 100);
  await stop(keyValues);
  expect(await refusal(sender.next())).toBe("ABORTED");
  expect(() => snapshot.cursor({})).toThrow(expect.objectContaining({ reason: "ABORTED" }));
  expect((await open(start())).applied.offset).toBe(199);
});

// --- files ------------------------------------------------------------------------------------------------------------

test("any namespace has a directory of its own within the data directory", async () => {
  const names = ["default", "..", ".", "a/b", "../../x", "%2E", "übel", "A"];
  const keyValues = start();
  for (const [at, namespace] of names.entries()) fill(await open(keyValues, { ...PLACE, namespace }), at + 1);
  await stop(keyValues);
  expect(readdirSync(directory).length).toBe(names.length);
  expect(readdirSync(join(directory, "..")).length).toBe(directories);
  const again = start();
  for (const [at, namespace] of names.entries()) {
    expect((await open(again, { ...PLACE, namespace })).applied.offset).toBe(at);
  }
});

test("what was set aside for damage goes with the state, other shards' files do not", async () => {
  let keyValues = start();
  await prepare(keyValues);
  fill(await open(keyValues, { ...PLACE, shard: 33 }), 2);
  await stop(keyValues);
  const database = new Database(main());
  DAMAGES["a block with a flipped bit"]!(database);
  database.close();
  keyValues = start(directory, { onDamage: ({ shard }) => (shard === 3 ? "salvage" : "refuse") });
  await open(keyValues);
  expect(filesOf(3)).toContain("shard-3.sqlite.damaged");
  await keyValues.remove(PLACE);
  expect(filesOf(3)).toEqual([]);
  expect(existsSync(join(directory, "default", "shard-33.sqlite"))).toBe(true);
  expect((await open(keyValues)).rowCount).toBe(0);
});

test("the memory of a state that was replaced or removed is given back", async () => {
  const keyValues = start();
  const { state } = await prepare(keyValues);
  for (let round = 0; round < 3; round++) {
    const kv = await (await received(keyValues, state)).switchTo();
    fill(kv, 200);
    await kv.flush();
    for (const cursor = kv.cursor({}); cursor.next(); ) kv.get(cursor.key.slice());
    fill(kv, 200);
    const { size } = statSync(join(directory, "default", `shard-${PLACE.shard}.sqlite`));
    expect(keyValues.fileBytesOf(PLACE)).toBeGreaterThan(size / 2);
    expect(keyValues.fileBytesOf(PLACE)).toBeLessThanOrEqual(keyValues.node.stats.fileBytes);
  }
  await keyValues.remove(PLACE);
  expect(keyValues.fileBytesOf(PLACE)).toBe(0);
  await keyValues.remove(OTHER);
  expect(keyValues.node.memory).toEqual({ active: 0, frozen: 0, cache: 0 });
  expect(keyValues.node.stats.fileBytes).toBe(0);
});

// --- a full disk ------------------------------------------------------------------------------------------------------

const canMount = process.getuid?.() === 0;
if (!canMount && process.env.CI) throw new Error("the full-disk test needs root");

test.if(canMount)(
  "a full disk refuses a state that comes, keeps the old one and has its space back; what was flushed can still be sent",
  async () => {
    const run = (...command: string[]) => expect(Bun.spawnSync(command).exitCode).toBe(0);
    run("mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", directory);
    const filler = join(directory, "filler");
    const freeBytes = () => {
      const { bavail, bsize } = statfsSync(directory);
      return bavail * bsize;
    };
    try {
      const elsewhere = join(folder, `${directories++}`);
      const other = await open(start(elsewhere), OTHER);
      for (let round = 0; round < 60; round++) {
        fill(other, 30);
        other.put(new TextEncoder().encode(`large ${round}`), new Uint8Array(100_000).fill(round));
        other.commit({ offset: other.applied.offset + 1, term: 50, versionId: 0 });
      }
      const state = await sent(other);
      const keyValues = start();
      const kv = await open(keyValues);
      fill(kv, 5);
      await kv.flush();
      const old = contents(kv);
      const oldState = await sent(kv);
      const before = freeBytes();
      for (const left of [0, 1, 3, 5]) {
        writeFileSync(filler, new Uint8Array(Math.max(0, before - left * MiB)));
        const free = freeBytes();
        expect(await refusal(received(keyValues, state))).toBe("RESOURCE_EXHAUSTED");
        expect(freeBytes()).toBeGreaterThanOrEqual(free);
        expect(filesOf(3).filter((name) => /incoming|received/.test(name))).toEqual([]);
        rmSync(filler);
      }
      expect(contents(kv)).toEqual(old);
      writeFileSync(filler, new Uint8Array(before - MiB / 2));
      kv.put(new TextEncoder().encode("large"), new Uint8Array(3 * MiB));
      kv.commit({ offset: kv.applied.offset + 1, term: 50, versionId: 0 });
      void kv.flush();
      while (!kv.full) await Bun.sleep(5);
      expect(await sent(kv)).toEqual(oldState);
      rmSync(filler);
      const now = await (await received(keyValues, state)).switchTo();
      expect(contents(now)).toEqual(contents(other));
      await keyValues.remove(PLACE);
      expect(freeBytes()).toBeGreaterThan(before);
      for (const each of started.splice(0)) await each.close();
    } finally {
      run("umount", "-l", directory);
    }
  },
);

test.if(canMount)(
  "a full disk does not hold up the end of one state, and what was not flushed stays in the log",
  async () => {
    const run = (...command: string[]) => expect(Bun.spawnSync(command).exitCode).toBe(0);
    run("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", directory);
    try {
      const kv = await open(start());
      fill(kv, 5);
      await kv.flush();
      const flushed = kv.applied.offset;
      const { bavail, bsize } = statfsSync(directory);
      writeFileSync(join(directory, "filler"), new Uint8Array(bavail * bsize - MiB / 2));
      kv.put(new TextEncoder().encode("large"), new Uint8Array(3 * MiB));
      kv.commit({ offset: flushed + 1, term: 50, versionId: 0 });
      // whether a flush is on its way and has found the disk full, or is yet to
      void kv.flush();
      await kv.close();
      rmSync(join(directory, "filler"));
      for (const each of started.splice(0)) await each.close();
      expect((await open(start())).applied.offset).toBe(flushed);
      for (const each of started.splice(0)) await each.close();
    } finally {
      run("umount", "-l", directory);
    }
  },
);
