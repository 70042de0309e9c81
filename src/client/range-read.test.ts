import { expect, test } from "bun:test";
import fc from "fast-check";
import { errorOf, ONE_SHARD, openFakeClient, TWO_SHARDS } from "../../test/harness/fake-client.ts";
import { listAnswer, refusal, scanAnswer, settle } from "../../test/harness/fake-transport.ts";
import { CLIENT_RANGE_PAGES_MAX } from "../model/limits.ts";
import { plainStatus } from "./call-status.ts";
import { ClientClosedError, RequestTimeoutError, ServerError } from "./errors.ts";
import { GrpcCode } from "./grpc-code.ts";
import { compareAcrossShards } from "./keys.ts";

const CUT = refusal(GrpcCode.aborted, "ABORTED");

/** Everything that a range read gives, as it comes. */
function collect<T>(range: AsyncIterable<T>): { items: T[]; done: Promise<void> } {
  const items: T[] = [];
  const done = (async () => {
    for await (const item of range) items.push(item);
  })();
  return { items, done };
}

test("shards are read side by side and merged by the order of official clients", async () => {
  const { client, ports } = await openFakeClient(TWO_SHARDS);
  const { items, done } = collect(client.list({ startInclusive: "a", endExclusive: "z" }));
  await settle();
  const [zero, one] = ports.transport.of("List");
  expect(zero!.start()).toBe("a");
  zero!.answer(listAnswer(["a", "c", "e"]));
  await settle();
  expect(items).toEqual([]);
  one!.answer(listAnswer(["b", "d"]));
  one!.answer(listAnswer(["f"]));
  zero!.end();
  one!.end();
  await done;
  expect(items).toEqual(["a", "b", "c", "d", "e", "f"]);
});

test("any cut of sorted shards into pages merges into one sorted whole", async () => {
  const keys = fc.uniqueArray(fc.string({ unit: fc.constantFrom("a", "b", "/", "é"), maxLength: 5 }), {
    maxLength: 30,
  });
  await fc.assert(
    fc.asyncProperty(keys, fc.integer({ min: 1, max: 5 }), fc.infiniteStream(fc.nat()), async (all, shards, chance) => {
      const draw = (below: number) => chance.next().value! % below;
      const width = Math.floor(0xffff_ffff / shards);
      const table = Array.from({ length: shards }, (_, i) => {
        return { id: i, leader: `s${i}:1`, min: i * width, max: i === shards - 1 ? 0xffff_ffff : (i + 1) * width - 1 };
      });
      const { client, ports } = await openFakeClient(table);
      const order = (a: string, b: string) => compareAcrossShards(Buffer.from(a), Buffer.from(b));
      const parts = table.map((): string[] => []);
      for (const key of all) parts[draw(shards)]!.push(key);
      const { items, done } = collect(client.list());
      await settle();
      for (const [i, call] of ports.transport.of("List").entries()) {
        const rest = parts[i]!.sort(order);
        while (rest.length > 0) {
          call.answer(listAnswer(rest.splice(0, 1 + draw(4)).map((key) => Buffer.from(key).toString("latin1"))));
        }
        call.end();
      }
      await done;
      expect(items).toEqual([...all].sort(order));
    }),
    { numRuns: 100 },
  );
});

test("a shard that is far ahead is stopped, and goes on when it is read", async () => {
  const { client, ports } = await openFakeClient();
  const pages = client.list().pages();
  const first = pages.next();
  await settle();
  const call = ports.transport.last("List");
  call.answer(listAnswer(["a"]));
  expect((await first).value).toEqual(["a"]);
  // the next page is asked for ahead; these wait
  for (let i = 0; i <= CLIENT_RANGE_PAGES_MAX; i++) call.answer(listAnswer([`b${i}`]));
  expect(call.paused).toBe(true);
  await pages.next();
  await pages.next();
  expect(call.paused).toBe(false);
  await pages.return();
  expect(call.cancelled).toBe(true);
});

test("a read that is cut goes on from its last key, which is not given twice", async () => {
  const { client, ports } = await openFakeClient();
  const { items, done } = collect(client.rangeScan());
  await settle();
  ports.transport.last("RangeScan").answer(scanAnswer(["a", "b//"]));
  ports.transport.last("RangeScan").end(CUT);
  ports.clock.advance(20);
  const second = ports.transport.last("RangeScan");
  expect(second.start()).toBe("b//");
  second.answer(scanAnswer(["b//", "c"]));
  second.end(CUT);
  ports.clock.advance(20);
  // the last key was deleted in between
  ports.transport.last("RangeScan").answer(scanAnswer(["d"]));
  ports.transport.last("RangeScan").end();
  await done;
  expect(items.map(({ key }) => key)).toEqual(["a", "b//", "c", "d"]);
  expect(new TextDecoder().decode(items[0]!.value)).toBe("value of a");
});

test("a hint names where to go on", async () => {
  const { client, ports } = await openFakeClient();
  const { done } = collect(client.list());
  await settle();
  ports.transport.last("List").end(refusal(GrpcCode.aborted, "NODE_IS_NOT_LEADER", { shard: "0", leader: "other:1" }));
  ports.clock.advance(0);
  expect(ports.transport.last("List").request.address).toBe("other:1");
  ports.transport.last("List").end();
  await done;
});

test("a shard that is split under a read is read on through its children", async () => {
  const { client, ports, assign } = await openFakeClient();
  const { items, done } = collect(client.list());
  await settle();
  ports.transport.last("List").answer(listAnswer(["a", "b"]));
  assign([
    { id: 7, leader: "left:1", min: 0, max: 99 },
    { id: 8, leader: "right:1", min: 100, max: 0xffff_ffff },
  ]);
  ports.transport.last("List").end(CUT);
  ports.clock.advance(20);
  await settle();
  const [left, right] = ports.transport.of("List").slice(-2);
  expect([left!.start(), right!.start()]).toEqual(["b", "b"]);
  left!.answer(listAnswer(["b", "d"]));
  right!.answer(listAnswer(["c", "e"]));
  left!.end();
  right!.end();
  await done;
  expect(items).toEqual(["a", "b", "c", "d", "e"]);
});

test("nothing coming for the request timeout ends a read, a slow reader does not", async () => {
  const { client, ports } = await openFakeClient(ONE_SHARD, { requestTimeoutMs: 100 });
  const pages = client.list().pages();
  const first = pages.next();
  await settle();
  ports.transport.last("List").answer(listAnswer(["a"]));
  ports.transport.last("List").answer(listAnswer(["b"]));
  await first;
  ports.clock.advance(1000);
  expect((await pages.next()).value).toEqual(["b"]);
  const next = errorOf(pages.next());
  await settle();
  ports.clock.advance(100);
  expect(await next).toBeInstanceOf(RequestTimeoutError);
  expect(ports.transport.last("List").cancelled).toBe(true);
});

test("an error that is not retried ends a read on all shards", async () => {
  const { client, ports } = await openFakeClient(TWO_SHARDS);
  const { done } = collect(client.list());
  const failed = errorOf(done);
  await settle();
  const [zero, one] = ports.transport.of("List");
  one!.answer(listAnswer(["a"]));
  zero!.end(plainStatus(GrpcCode.dataLoss, "damaged"));
  expect(await failed).toBeInstanceOf(ServerError);
  expect(one!.cancelled).toBe(true);
});

test("with a partition key only its shard is read", async () => {
  const { client, ports } = await openFakeClient(TWO_SHARDS);
  const { done } = collect(client.list({ partitionKey: "p@100" }));
  await settle();
  expect(ports.transport.of("List").map(({ request }) => request.address)).toEqual(["one:1"]);
  ports.transport.last("List").end();
  await done;
});

test("keys that are not UTF-8 are whole as bytes", async () => {
  const { client, ports } = await openFakeClient();
  const { items, done } = collect(client.listBytes());
  await settle();
  ports.transport.last("List").answer(listAnswer(["a", "\xff/\xe9"]));
  ports.transport.last("List").end();
  await done;
  expect(items).toEqual([Uint8Array.of(0x61), Uint8Array.of(0xff, 0x2f, 0xe9)]);
});

test("closing ends the reads under way", async () => {
  const { client, ports } = await openFakeClient(TWO_SHARDS);
  const failed = errorOf(collect(client.list()).done);
  await settle();
  await client.close();
  expect(await failed).toBeInstanceOf(ClientClosedError);
  expect(ports.transport.of("List").every(({ cancelled }) => cancelled)).toBe(true);
});

test("a closed client reads nothing", async () => {
  const { client } = await openFakeClient();
  const range = client.list();
  await client.close();
  expect(await errorOf(collect(range).done)).toBeInstanceOf(ClientClosedError);
});
