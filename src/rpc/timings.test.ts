/** What is timed where calls come in and go out. */
import { expect, test } from "bun:test";
import { EMPTY_BYTES } from "../lib/bytes.ts";
import type { SnapshotChunk } from "../model/peer-messages.ts";
import { Unreachable } from "../model/refusal.ts";
import type { Followers, SnapshotStream } from "../ports.ts";
import type { ClientApi } from "./client-api.ts";
import { clientMethods } from "./client-methods.ts";
import type { ServedMethod } from "./method.ts";
import { countedSnapshots, EntryTimer, Timings, timedReads } from "./timings.ts";

const CALL = { shard: 1, namespace: "n", term: 2 };

test("reads are timed once each, when their last answer is sent; the others are left as they are", async () => {
  const timings = new Timings();
  const methods = clientMethods({} as ClientApi);
  const timed = timedReads(methods, timings);
  const changed = timed.filter((served, nth) => served.method !== methods[nth]!.method).map(({ json }) => json.name);
  expect(changed).toEqual(["Read", "List", "RangeScan"]);
  const answers: (Promise<void> | undefined)[] = [undefined, Promise.resolve()];
  const read = (name: string) => methods.find(({ json }) => json.name === name)!;
  const own = { ...read("Read"), method: { kind: "server-stream", handle: () => answers.shift() } } as ServedMethod;
  const [{ method }] = timedReads([own], timings) as [ServedMethod];
  if (method.kind !== "server-stream") throw new Error("it is one still");
  for (const count of [1, 2]) {
    await method.handle(EMPTY_BYTES, {} as never, {} as never);
    expect([timings.get.count, timings.list.count]).toEqual([count, 0]);
  }
});

test("of the entries that come, one at a time is timed until it is acknowledged", () => {
  const timings = new Timings();
  const timer = new EntryTimer(timings);
  timer.acked(3);
  for (const offset of [4, 5, 6]) timer.came(offset);
  timer.came(undefined);
  timer.acked(3);
  expect(timings.followerWrite.count).toBe(0);
  timer.acked(5);
  timer.acked(6);
  expect(timings.followerWrite.count).toBe(1);
  timer.came(7);
  timer.acked(9);
  expect(timings.followerWrite.count).toBe(2);
});

test("a state that is sent is counted once: as taken, or as failed", async () => {
  const timings = new Timings();
  let refusal: Error | undefined;
  const stream = (): SnapshotStream => ({
    send: () => true,
    drained: async () => {},
    finish: async () => {
      if (refusal !== undefined) throw refusal;
      return { ackOffset: 7 };
    },
    ended: Promise.resolve(),
    cancel: () => {},
  });
  const followers = countedSnapshots({ sendSnapshot: stream } as unknown as Followers, timings);
  const counts = () => [timings.snapshotsStarted, timings.snapshot.count, timings.snapshotsFailed];
  const chunk = { content: new Uint8Array(10) } as SnapshotChunk;
  const taken = followers.sendSnapshot("s2", CALL);
  taken.send(chunk);
  expect(counts()).toEqual([1, 0, 0]);
  expect(await taken.finish()).toEqual({ ackOffset: 7 });
  taken.cancel();
  expect(counts()).toEqual([1, 1, 0]);
  const cancelled = followers.sendSnapshot("s2", CALL);
  cancelled.send(chunk);
  cancelled.cancel();
  cancelled.cancel();
  expect(counts()).toEqual([2, 1, 1]);
  refusal = new Unreachable("gone");
  const refused = followers.sendSnapshot("s2", CALL);
  expect(refused.finish()).rejects.toThrow("gone");
  await refused.finish().catch(() => {});
  refused.cancel();
  expect(counts()).toEqual([3, 1, 2]);
  expect(timings.snapshotBytes).toBe(20);
});
