import { expect, test } from "bun:test";
import { errorOf, ONE_SHARD, openFakeClient } from "../../test/harness/fake-client.ts";
import { notificationBatch, readAnswer, settle, version } from "../../test/harness/fake-transport.ts";
import { utf8 } from "../lib/bytes.ts";
import type { CacheOptions } from "./cache.ts";
import { plainStatus } from "./call-status.ts";
import { InvalidArgumentError } from "./errors.ts";
import { GrpcCode } from "./grpc-code.ts";

/** A cache of JSON, and a server's side that tells changes and answers reads. */
async function openCache(options: CacheOptions<string> = {}) {
  const { client, ports } = await openFakeClient(ONE_SHARD);
  const opening = client.cache<string>(options);
  await settle();
  const feed = ports.transport.last("GetNotifications");
  feed.answer(notificationBatch(0));
  const cache = await opening;
  let offset = 0;
  const { transport, clock } = ports;
  return {
    cache,
    client,
    feed,
    reads: () => transport.of("Read").length,
    async tell(key: string, type: number, versionId?: number) {
      const fields = versionId === undefined ? { type } : { type, versionId };
      feed.answer(notificationBatch(++offset, { [key]: fields }));
      await settle();
    },
    send: () => clock.advance(5),
    /** Answers the newest read, or the n-th. */
    async found(value: string | undefined, id = 1, n = -1) {
      clock.advance(5);
      const call = transport.of("Read").at(n)!;
      const record = { version: version(id), value: utf8(JSON.stringify(value)) };
      call.answer(readAnswer([value === undefined ? { status: 1 } : record]));
      call.end();
      await settle();
    },
    /** Answers the put under way. */
    async stored(id: number) {
      clock.advance(5);
      transport.last("WriteStream").answerWriteWith({ puts: [{ version: version(id) }] });
      await settle();
    },
    deleted() {
      clock.advance(5);
      transport.last("WriteStream").answerWrite();
    },
  };
}

const CREATED = 0;
const MODIFIED = 1;
const DELETED = 2;
const RANGE = 3;

test("a record is read once, until it changes; also that there is none", async () => {
  const { cache, reads, found, tell } = await openCache();
  const first = cache.get("a");
  const shared = cache.get("a");
  await found("one", 1);
  expect([await first, await shared, await cache.get("a"), reads()]).toEqual(["one", "one", "one", 1]);
  await tell("b", MODIFIED, 9);
  await tell("a", MODIFIED, 1);
  expect([await cache.get("a"), reads()]).toEqual(["one", 1]);
  await tell("a", MODIFIED, 2);
  const changed = cache.get("a");
  await found("two", 2);
  expect(await changed).toBe("two");
  await tell("a", DELETED);
  const gone = cache.get("a");
  await found(undefined);
  expect([await gone, await cache.get("a"), reads()]).toEqual([undefined, undefined, 3]);
  await tell("a", CREATED, 3);
  const back = cache.get("a");
  await found("three", 3);
  expect(await back).toBe("three");
});

test("what changed while it was read is not kept, and whoever asks after that reads anew", async () => {
  const { cache, reads, send, found, tell } = await openCache();
  const before = cache.get("a");
  send();
  await tell("a", MODIFIED, 2);
  const after = cache.get("a");
  await found("two", 2);
  await found("one", 1, 0);
  expect([await before, await after, await cache.get("a"), reads()]).toEqual(["one", "two", "two", 2]);
});

test("a put is kept whether its notification comes before or after its answer", async () => {
  const { cache, reads, stored, tell } = await openCache();
  const early = cache.put("a", "one");
  await tell("a", CREATED, 1);
  await stored(1);
  expect((await early).version.versionId).toBe(1);
  expect([await cache.get("a"), reads()]).toEqual(["one", 0]);
  const late = cache.put("a", "two");
  await stored(2);
  await late;
  await tell("a", MODIFIED, 2);
  expect([await cache.get("a"), reads()]).toEqual(["two", 0]);
});

test("a put that another one followed is not kept", async () => {
  const { cache, found, stored, tell } = await openCache();
  const put = cache.put("a", "mine");
  await tell("a", CREATED, 1);
  await tell("a", MODIFIED, 2);
  await stored(1);
  await put;
  const get = cache.get("a");
  await found("theirs", 2);
  expect(await get).toBe("theirs");
});

test("one's own delete is seen at once", async () => {
  const { cache, found, deleted } = await openCache();
  const get = cache.get("a");
  await found("one", 1);
  await get;
  const removing = cache.delete("a");
  deleted();
  expect(await removing).toBe(true);
  const after = cache.get("a");
  await found(undefined);
  expect(await after).toBeUndefined();
});

test("deleted ranges, and changes that were missed, empty it", async () => {
  const { cache, found, tell } = await openCache();
  const get = cache.get("a");
  await found("one", 1);
  await get;
  expect(cache.size).toBe(1);
  await tell("x", RANGE);
  expect(cache.size).toBe(0);
});

test("no more records are kept than allowed: the least recently used go", async () => {
  const { cache, found, reads } = await openCache({ entriesMax: 2 });
  for (const key of ["a", "b"]) {
    const get = cache.get(key);
    await found(key);
    await get;
  }
  await cache.get("a");
  const get = cache.get("c");
  await found("c");
  await get;
  expect([cache.size, reads()]).toEqual([2, 3]);
  expect([await cache.get("a"), await cache.get("c"), reads()]).toEqual(["a", "c", 3]);
});

test("without notifications nothing is kept", async () => {
  const { cache, feed, found } = await openCache();
  expect(cache.live).toBe(true);
  feed.end(plainStatus(GrpcCode.permissionDenied, "no more"));
  await settle();
  expect(cache.live).toBe(false);
  const get = cache.get("a");
  await found("one");
  expect([await get, cache.size]).toEqual(["one", 0]);
});

test("closing ends the subscription; a bound that is none is refused", async () => {
  const { cache, client, feed } = await openCache();
  await cache.close();
  expect([cache.live, feed.cancelled]).toEqual([false, true]);
  expect(await errorOf(client.cache({ entriesMax: 0 }))).toBeInstanceOf(InvalidArgumentError);
});
