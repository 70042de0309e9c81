/** What every adapter of the KeyValues port must do, and of KeyValue.send, whatever it keeps its states in. */
import { expect, test } from "bun:test";
import { type Bytes, concatBytes, utf8 } from "../../src/lib/bytes.ts";
import { EMPTY_HEAD, type EntryId, type Offset, type ShardId } from "../../src/model/ids.ts";
import type { KeySorting } from "../../src/model/keys.ts";
import { SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_PIN_MS_MAX } from "../../src/model/limits.ts";
import type { KeyValue, KeyValuePlace, KeyValues, StateReceiver, StateSender } from "../../src/ports.ts";
import { refusal } from "./log.ts";

/** A data server's states: opened again, what was durable is there. */
export interface KeyValuesSite {
  start(): Promise<KeyValues>;
  /** Ends the process as it stands, flushing nothing, and starts another one on the same disk. */
  crash(): Promise<KeyValues>;
  /** Flushes, closes, and starts again. */
  restart(): Promise<KeyValues>;
  /** What `released` was told last for a shard. */
  released(shard: ShardId): Offset | undefined;
  /** Lets time pass. */
  sleep(ms: number): Promise<void>;
  /** How many files of a shard there are. */
  fileCount(place: KeyValuePlace): number;
}

export const PLACE: KeyValuePlace = { namespace: "default", shard: 3, sorting: "hierarchical" };
const OTHER: KeyValuePlace = { namespace: "default", shard: 4, sorting: "hierarchical" };

export async function open(keyValues: KeyValues, place = PLACE, base: EntryId = EMPTY_HEAD): Promise<KeyValue> {
  const opened = await keyValues.open(place, base);
  if ("damage" in opened) throw new Error(JSON.stringify(opened.damage));
  return opened.keyValue;
}

/** One entry: puts some keys, and tells subscribers of it unless its offset is a multiple of 3. */
function apply(kv: KeyValue, puts: readonly [string, Bytes][], deletes: readonly string[] = []): void {
  const offset = kv.applied.offset + 1;
  for (const [key, row] of puts) kv.put(utf8(key), row);
  for (const key of deletes) kv.delete(utf8(key));
  const told = offset % 3 === 0 ? undefined : { timestamp: 1_000 + offset, entries: utf8(`told ${offset}`) };
  kv.commit({ offset, term: 1 + Math.floor(offset / 10), versionId: 2 * offset }, told);
}

/** A row as records have it: a version, a value, and extras. */
function rowOf(n: number, valueBytes = 40): Bytes {
  const version = utf8(`version ${n}`);
  const value = new Uint8Array(valueBytes).fill(n);
  const extras = n % 4 === 0 ? utf8(`extras ${n}`) : new Uint8Array(0);
  const field = (tag: number, bytes: Bytes) => {
    const head = [tag];
    let length = bytes.length;
    for (; length >= 0x80; length >>>= 7) head.push((length & 0x7f) | 0x80);
    return concatBytes(Uint8Array.from([...head, length]), bytes);
  };
  return concatBytes(field(0x12, version), field(0x1a, value), extras);
}

/** Entries that put, overwrite and delete keys on several levels, with internal ones among them. */
export function fill(kv: KeyValue, entries = 30): void {
  for (let n = 0; n < entries; n++) {
    const puts: [string, Bytes][] = [
      [`a/${n}`, rowOf(n)],
      [`a${n % 7}`, rowOf(n, n * 20)],
      [`__oxia/idx/i/${n}`, new Uint8Array(0)],
      [`b/c/${n}/d`, utf8(`no record's row ${n}`)],
    ];
    apply(kv, puts, n > 3 ? [`a/${n - 3}`] : []);
  }
}

/** All that can be read of a state. */
export function contents(kv: KeyValue): unknown {
  const rows: string[] = [];
  for (const cursor = kv.cursor({}); cursor.next(); ) {
    rows.push(`${Buffer.from(cursor.key).toString("latin1")}=${Buffer.from(cursor.row).toString("latin1")}`);
  }
  const told: string[] = [];
  for (let after = -1; ; ) {
    const some = kv.notifications(after);
    if (some.length === 0) break;
    for (const { offset, timestamp, entries } of some) told.push(`${offset}@${timestamp} ${Buffer.from(entries)}`);
    after = some.at(-1)!.offset;
  }
  const { applied, rowCount, stateHash, notificationsTrimmed } = kv;
  return { applied, rowCount, stateHash, notificationsTrimmed, rows, told };
}

export async function pieces(sender: StateSender): Promise<Bytes[]> {
  const all: Bytes[] = [];
  for (;;) {
    const piece = await sender.next();
    if (piece === undefined) break;
    expect(piece.length).toBeLessThanOrEqual(SNAPSHOT_CHUNK_BYTES_MAX);
    all.push(piece);
  }
  sender.release();
  return all;
}

export interface Sent {
  readonly pieces: readonly Bytes[];
  readonly applied: EntryId;
  readonly rowCount: number;
  readonly stateHash: bigint;
}

export async function sent(kv: KeyValue): Promise<Sent> {
  const sender = await kv.send();
  const { applied, rowCount, stateHash } = sender;
  return { applied, rowCount, stateHash, pieces: await pieces(sender) };
}

export async function addAll(receiver: StateReceiver, all: readonly Bytes[]): Promise<void> {
  for (const piece of all) await receiver.add(piece);
}

/** Receives a state whole; it is not switched to. */
export async function received(keyValues: KeyValues, state: Sent, place = PLACE): Promise<StateReceiver> {
  const receiver = await keyValues.receive(place);
  await addAll(receiver, state.pieces);
  await receiver.complete(state.applied, state.rowCount, state.stateHash);
  return receiver;
}

/** A state of another shard, as it is sent. */
async function otherState(keyValues: KeyValues, entries = 30): Promise<{ sent: Sent; contents: unknown }> {
  const kv = await open(keyValues, OTHER);
  fill(kv, entries);
  return { sent: await sent(kv), contents: contents(kv) };
}

/** Opens the shard with a few entries, flushed. */
async function oldState(keyValues: KeyValues): Promise<KeyValue> {
  const kv = await open(keyValues);
  fill(kv, 5);
  await kv.flush();
  return kv;
}

/** Runs the contract on sites that `site` makes, one a test; `run` runs a test to its end. */
export function keyValuesContract(
  name: string,
  site: () => KeyValuesSite,
  run: (words: string, test: () => Promise<void>) => Promise<void> = (_, body) => body(),
): void {
  const contract = (words: string, body: (at: KeyValuesSite) => Promise<void>) =>
    test(`${name}: ${words}`, () => run(words, () => body(site())));

  contract(
    "a state that is opened for the first time is empty; opened again, it holds what was flushed",
    async (at) => {
      let keyValues = await at.start();
      const kv = await open(keyValues);
      expect([kv.applied.offset, kv.rowCount, kv.stateHash]).toEqual([-1, 0, 0n]);
      fill(kv);
      const before = contents(kv);
      await kv.flush();
      expect(at.released(PLACE.shard)).toBe(29);
      apply(kv, [["not flushed", rowOf(1)]]);
      keyValues = await at.crash();
      const again = await open(keyValues);
      if (again.applied.offset === 29) expect(contents(again)).toEqual(before);
      else expect(again.applied.offset).toBe(30);
      await at.restart();
    },
  );

  for (const sorting of ["hierarchical", "natural"] as KeySorting[]) {
    contract(`a state that was sent is the same where it was received, ${sorting}`, async (at) => {
      const keyValues = await at.start();
      const from = { ...OTHER, sorting };
      const to = { ...PLACE, sorting };
      const kv = await open(keyValues, from);
      fill(kv, 60);
      await kv.flush();
      await kv.trimNotifications(1_015);
      apply(kv, [
        ["large", rowOf(1, 100_000)],
        ["large too", rowOf(2, 3_000)],
      ]);
      fill(kv, 20);
      const before = contents(kv);
      const old = await open(keyValues, to);
      fill(old, 5);
      const state = await sent(kv);
      expect(state).toMatchObject({ applied: kv.applied, rowCount: kv.rowCount, stateHash: kv.stateHash });
      const receiver = await received(keyValues, state, to);
      let now = await receiver.switchTo();
      expect(contents(now)).toEqual(before);
      expect(at.released(to.shard)).toBe(kv.applied.offset);
      for (const each of [kv, now]) apply(each, [["both", rowOf(3)]], ["large"]);
      await kv.trimNotifications(1_050);
      await now.trimNotifications(1_050);
      expect(contents(now)).toEqual(contents(kv));
      const last = contents(now);
      await now.flush();
      now = await open(await at.crash(), to, state.applied);
      expect(contents(now)).toEqual(last);
      await at.restart();
    });
  }

  contract("an empty state is sent and received like any other", async (at) => {
    const keyValues = await at.start();
    const state = await sent(await open(keyValues, OTHER));
    await oldState(keyValues);
    const now = await (await received(keyValues, state)).switchTo();
    expect([now.applied.offset, now.rowCount, now.stateHash]).toEqual([-1, 0, 0n]);
    fill(now, 5);
    expect(now.applied.offset).toBe(4);
    await at.restart();
  });

  contract("what is sent is of one moment, whatever is applied and flushed meanwhile", async (at) => {
    const keyValues = await at.start();
    const kv = await open(keyValues, OTHER);
    fill(kv, 60);
    const before = contents(kv);
    const sender = await kv.send();
    const { applied, rowCount, stateHash } = sender;
    const all: Bytes[] = [];
    for (let n = 0; ; n++) {
      const piece = await sender.next();
      if (piece === undefined) break;
      all.push(piece);
      if (n > 5) continue;
      fill(kv, 20);
      void kv.flush();
      await kv.trimNotifications(1_020);
    }
    sender.release();
    const now = await (await received(keyValues, { pieces: all, applied, rowCount, stateHash })).switchTo();
    expect(contents(now)).toEqual(before);
    await at.restart();
  });

  contract(
    "pieces that are not whole, or not the next one, are refused: the old state stands, and the next transfer starts afresh",
    async (at) => {
      const keyValues = await at.start();
      const { sent: state, contents: theirs } = await otherState(keyValues);
      const kv = await oldState(keyValues);
      const before = contents(kv);
      const flipped = (piece: Bytes, byte: number) => piece.map((value, index) => (index === byte ? value ^ 4 : value));
      const [first, ...rest] = state.pieces as [Bytes, ...Bytes[]];
      const last = state.pieces.at(-1)!;
      const bad: Bytes[][] = [
        ...[0, 4, 8, 12, 40, first.length - 1].map((byte) => [flipped(first, byte)]),
        [new Uint8Array(0)],
        [first.subarray(0, 11)],
        [first.subarray(0, -1)],
        [first, first],
        [first, utf8("no piece of any state")],
        [...state.pieces.slice(0, -1), flipped(last, last.length - 1)],
        [...state.pieces, last],
        ...(rest.length > 1 ? [[first, rest[1]!], [rest[0]!]] : []),
      ];
      for (const all of bad) {
        const receiver = await keyValues.receive(PLACE);
        await addAll(receiver, all.slice(0, -1));
        expect(await refusal(receiver.add(all.at(-1)!))).toBe("INVALID_ARGUMENT");
        expect(await refusal(receiver.add(first))).toBe("ABORTED");
        expect(await refusal(receiver.switchTo())).toBe("ABORTED");
      }
      expect(contents(kv)).toEqual(before);
      const now = await (await received(keyValues, state)).switchTo();
      expect(contents(now)).toEqual(theirs);
      await at.restart();
    },
  );

  contract("a state that does not come to what its sender says is refused", async (at) => {
    const keyValues = await at.start();
    const { sent: state } = await otherState(keyValues);
    const kv = await oldState(keyValues);
    const before = contents(kv);
    const { applied, rowCount, stateHash } = state;
    const claims: [readonly Bytes[], EntryId, number, bigint][] = [
      [state.pieces.slice(0, -1), applied, rowCount, stateHash],
      [[], applied, rowCount, stateHash],
      [state.pieces, { ...applied, offset: applied.offset + 1 }, rowCount, stateHash],
      [state.pieces, { ...applied, term: applied.term + 1 }, rowCount, stateHash],
      [state.pieces, applied, rowCount - 1, stateHash],
      [state.pieces, applied, rowCount, stateHash ^ 1n],
    ];
    for (const [all, ...claim] of claims) {
      const receiver = await keyValues.receive(PLACE);
      await addAll(receiver, all);
      expect(await refusal(receiver.complete(...claim))).toBe("INVALID_ARGUMENT");
      expect(await refusal(receiver.switchTo())).toBe("ABORTED");
    }
    const natural = await keyValues.receive({ ...PLACE, sorting: "natural" });
    expect(await refusal(addAll(natural, state.pieces))).toBe("INVALID_ARGUMENT");
    expect(contents(kv)).toEqual(before);
    expect(contents(await open(await at.crash(), PLACE, applied))).toEqual(before);
    await at.restart();
  });

  contract("of two transfers to one shard the earlier is dropped, at any step", async (at) => {
    const keyValues = await at.start();
    const { sent: state, contents: theirs } = await otherState(keyValues);
    await oldState(keyValues);
    const begun = await keyValues.receive(PLACE);
    const whole = await received(keyValues, state);
    expect(await refusal(begun.add(state.pieces[0]!))).toBe("ABORTED");
    const last = await keyValues.receive(PLACE);
    expect(await refusal(whole.switchTo())).toBe("ABORTED");
    await whole.drop();
    await addAll(last, state.pieces);
    await last.complete(state.applied, state.rowCount, state.stateHash);
    expect(contents(await last.switchTo())).toEqual(theirs);
    await last.drop();
    await at.restart();
  });

  contract("a dropped transfer leaves nothing, complete or not", async (at) => {
    let keyValues = await at.start();
    const { sent: state } = await otherState(keyValues);
    const kv = await oldState(keyValues);
    const before = contents(kv);
    const files = at.fileCount(PLACE);
    for (const steps of ["none", "some", "all"]) {
      const receiver = await keyValues.receive(PLACE);
      if (steps !== "none") await receiver.add(state.pieces[0]!);
      if (steps === "all") {
        await addAll(receiver, state.pieces.slice(1));
        await receiver.complete(state.applied, state.rowCount, state.stateHash);
      }
      await receiver.drop();
      await receiver.drop();
      expect(await refusal(receiver.add(state.pieces[0]!))).toBe("ABORTED");
      expect(at.fileCount(PLACE)).toBe(files);
    }
    keyValues = await at.crash();
    expect(contents(await open(keyValues, PLACE, state.applied))).toEqual(before);
    await at.restart();
  });

  contract(
    "a crash leaves the old state until the log begins with the new one, and the new one from then on",
    async (at) => {
      for (const steps of ["begun", "half", "all", "complete"] as const) {
        for (const installed of [false, true]) {
          if (installed && steps !== "complete") continue;
          let keyValues = await at.start();
          const { sent: state, contents: theirs } = await otherState(keyValues);
          const kv = await oldState(keyValues);
          const before = contents(kv);
          const receiver = await keyValues.receive(PLACE);
          const count = { begun: 0, half: Math.ceil(state.pieces.length / 2), all: Number.POSITIVE_INFINITY };
          await addAll(receiver, state.pieces.slice(0, steps === "complete" ? count.all : count[steps]));
          if (steps === "complete") await receiver.complete(state.applied, state.rowCount, state.stateHash);
          keyValues = await at.crash();
          const again = await open(keyValues, PLACE, installed ? state.applied : EMPTY_HEAD);
          expect(contents(again)).toEqual(installed ? theirs : before);
          // what was not taken up is gone for good
          keyValues = await at.crash();
          expect(contents(await open(keyValues, PLACE, state.applied))).toEqual(installed ? theirs : before);
          await keyValues.remove(PLACE);
          await keyValues.remove(OTHER);
          await at.restart();
        }
      }
    },
  );

  contract(
    "what was received is taken up only where the log begins with this very entry, and what stands is behind it",
    async (at) => {
      let keyValues = await at.start();
      const { sent: state } = await otherState(keyValues);
      const { offset, term } = state.applied;
      for (const base of [
        { offset, term: term + 1 },
        { offset: offset - 1, term },
        { offset: offset + 1, term },
      ]) {
        const kv = await oldState(keyValues);
        const before = contents(kv);
        await received(keyValues, state);
        keyValues = await at.crash();
        expect(contents(await open(keyValues, PLACE, base))).toEqual(before);
        await keyValues.remove(PLACE);
      }
      const kv = await open(keyValues);
      fill(kv, 40);
      await kv.flush();
      const before = contents(kv);
      await received(keyValues, state);
      keyValues = await at.crash();
      expect(contents(await open(keyValues, PLACE, state.applied))).toEqual(before);
      await at.restart();
    },
  );

  contract("what is complete outlives an orderly end, what is not does not", async (at) => {
    let keyValues = await at.start();
    const { sent: state, contents: theirs } = await otherState(keyValues);
    await oldState(keyValues);
    await received(keyValues, state);
    keyValues = await at.restart();
    expect(contents(await open(keyValues, PLACE, state.applied))).toEqual(theirs);
    const begun = await keyValues.receive(PLACE);
    await begun.add(state.pieces[0]!);
    const files = at.fileCount(PLACE);
    await at.restart();
    expect(at.fileCount(PLACE)).toBeLessThan(files);
  });

  contract(
    "whoever reads the old state when another takes its place is told, and nothing of it is written any more",
    async (at) => {
      let keyValues = await at.start();
      const { sent: state, contents: theirs } = await otherState(keyValues);
      const kv = await oldState(keyValues);
      const snapshot = await kv.snapshot();
      const cursor = snapshot.cursor({});
      expect(cursor.next()).toBe(true);
      const sender = await kv.send();
      await sender.next();
      const receiver = await received(keyValues, state);
      fill(kv, 10);
      const flush = kv.flush();
      fill(kv, 10);
      const now = await receiver.switchTo();
      await flush;
      expect(() => cursor.next()).toThrow(expect.objectContaining({ reason: "ABORTED" }));
      expect(() => snapshot.get(utf8("a1"))).toThrow(expect.objectContaining({ reason: "ABORTED" }));
      expect(await refusal(sender.next())).toBe("ABORTED");
      for (const use of [
        () => kv.get(utf8("a1")),
        () => kv.put(utf8("a1"), rowOf(1)),
        () => kv.cursor({}),
        () => kv.notifications(-1),
        () => kv.commit({ offset: 1_000, term: 1, versionId: 1 }),
      ]) {
        expect(use).toThrow(expect.objectContaining({ reason: "ABORTED" }));
      }
      expect(await refusal(kv.snapshot())).toBe("ABORTED");
      expect(await refusal(kv.send())).toBe("ABORTED");
      await kv.flush();
      await kv.trimNotifications(10_000);
      await kv.close();
      snapshot.release();
      sender.release();
      expect(contents(now)).toEqual(theirs);
      expect(at.released(PLACE.shard)).toBe(state.applied.offset);
      keyValues = await at.crash();
      expect(contents(await open(keyValues, PLACE, state.applied))).toEqual(theirs);
      await at.restart();
    },
  );

  contract(
    "a state is removed with all that belongs to it, open or not, while it is written and received",
    async (at) => {
      let keyValues = await at.start();
      const { sent: state } = await otherState(keyValues);
      await keyValues.remove(PLACE);
      const kv = await oldState(keyValues);
      await received(keyValues, state);
      const receiver = await keyValues.receive(PLACE);
      await receiver.add(state.pieces[0]!);
      fill(kv, 10);
      const flush = kv.flush();
      await keyValues.remove(PLACE);
      await flush;
      expect(at.fileCount(PLACE)).toBe(0);
      expect(await refusal(receiver.add(state.pieces[0]!))).toBe("ABORTED");
      expect(() => kv.get(utf8("a1"))).toThrow(expect.objectContaining({ reason: "ABORTED" }));
      await keyValues.remove(PLACE);
      keyValues = await at.crash();
      expect((await open(keyValues, PLACE, state.applied)).applied.offset).toBe(-1);
      keyValues = await at.crash();
      await keyValues.remove(PLACE);
      expect(at.fileCount(PLACE)).toBe(0);
      expect((await open(keyValues)).rowCount).toBe(0);
      expect((await open(keyValues, OTHER)).applied).toMatchObject({ offset: expect.any(Number) });
      await at.restart();
    },
  );

  contract("a receiver that does not ask for pieces is cut off", async (at) => {
    const keyValues = await at.start();
    const kv = await open(keyValues, OTHER);
    fill(kv);
    const idle = await kv.send();
    await idle.next();
    await at.sleep(SNAPSHOT_PIN_MS_MAX + 1);
    expect(await refusal(idle.next())).toBe("ABORTED");
    idle.release();
    const released = await kv.send();
    released.release();
    released.release();
    const all = await sent(kv);
    expect(all.applied).toMatchObject({ offset: 29 });
    await at.restart();
  });
}
