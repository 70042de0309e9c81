import { expect, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { errorOf, ONE_SHARD, openFakeClient, TWO_SHARDS } from "../../test/harness/fake-client.ts";
import {
  type FakePorts,
  listAnswer,
  readAnswer,
  scanAnswer,
  settle,
  version,
} from "../../test/harness/fake-transport.ts";
import {
  ListRequestSchema,
  RangeScanResponseSchema,
  ReadRequestSchema,
  WriteRequestSchema,
} from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { utf8 } from "../lib/bytes.ts";
import { plainStatus } from "./call-status.ts";
import { InvalidArgumentError, ServerError } from "./errors.ts";
import { GrpcCode } from "./grpc-code.ts";
import type { GetOptions } from "./options.ts";

const UNAVAILABLE = plainStatus(GrpcCode.unavailable, "gone");

const found = (secondary: string, key: string) => ({
  version: version(1),
  key: utf8(key),
  secondaryIndexKey: utf8(secondary),
});

function scanOf(...records: [secondary: string, key: string][]): Uint8Array {
  const its = records.map(([secondary, key]) => found(secondary, key));
  return toBinary(RangeScanResponseSchema, create(RangeScanResponseSchema, { records: its }));
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const taken: T[] = [];
  for await (const item of items) taken.push(item);
  return taken;
}

test("index entries go out with the put", async () => {
  const { client, ports } = await openFakeClient();
  const secondaryIndexes = [
    { name: "by-name", key: "ada" },
    { name: "by-age", key: Uint8Array.of(0xff) },
  ];
  const put = client.put("a", "x", { secondaryIndexes });
  ports.clock.advance(5);
  const call = ports.transport.last("WriteStream");
  expect(fromBinary(WriteRequestSchema, call.sent[0]!).puts[0]!.secondaryIndexes).toMatchObject([
    { indexName: utf8("by-name"), secondaryKey: utf8("ada") },
    { indexName: utf8("by-age"), secondaryKey: Uint8Array.of(0xff) },
  ]);
  call.answerWrite();
  await put;
  const many = Array.from({ length: 1025 }, () => ({ name: "i", key: "k" }));
  expect(await errorOf(client.put("a", "x", { secondaryIndexes: many }))).toBeInstanceOf(InvalidArgumentError);
});

async function getBy(comparison: GetOptions["comparison"], zero: [string, string][], one: [string, string][]) {
  const { client, ports } = await openFakeClient(TWO_SHARDS);
  const get = client.get("m", { useIndex: "i", comparison: comparison! });
  await settle();
  ports.clock.advance(5);
  const calls = ports.transport.of("Read");
  expect(calls).toHaveLength(2);
  for (const [i, its] of [zero, one].entries()) {
    expect(fromBinary(ReadRequestSchema, calls[i]!.sent[0]!).gets[0]!.secondaryIndexName).toEqual(utf8("i"));
    calls[i]!.answer(readAnswer(its.length === 0 ? [{ status: 1 }] : its.map(([index, key]) => found(index, key))));
    calls[i]!.end();
  }
  const record = await get;
  return record === undefined ? undefined : [record.secondaryIndexKey, record.key];
}

test("a get by an index asks all shards and takes the best by the index's keys", async () => {
  expect(await getBy("equal", [], [["m", "r"]])).toEqual(["m", "r"]);
  expect(await getBy("equal", [], [])).toBeUndefined();
  expect(await getBy("floor", [["l", "z"]], [["k", "a"]])).toEqual(["l", "z"]);
  expect(await getBy("lower", [["k", "z"]], [["l", "a"]])).toEqual(["l", "a"]);
  expect(await getBy("ceiling", [["n", "z"]], [["o", "a"]])).toEqual(["n", "z"]);
  expect(await getBy("higher", [["o", "a"]], [["n", "z"]])).toEqual(["n", "z"]);
});

test("of records with one index key it takes the one that a single shard would", async () => {
  const pick = async (comparison: GetOptions["comparison"], key: string) =>
    (await getBy(comparison, [[key, "b"]], [[key, "a"]]))?.[1];
  expect(await pick("equal", "m")).toBe("a");
  expect(await pick("floor", "m")).toBe("a");
  expect(await pick("floor", "l")).toBe("b");
  expect(await pick("lower", "l")).toBe("b");
  expect(await pick("ceiling", "n")).toBe("a");
  expect(await pick("higher", "n")).toBe("a");
});

test("with a partition key one shard is asked", async () => {
  const { client, ports } = await openFakeClient(TWO_SHARDS);
  const get = client.get("m", { useIndex: "i", partitionKey: "p@100" });
  ports.clock.advance(5);
  expect(ports.transport.of("Read").map(({ request }) => request.address)).toEqual(["one:1"]);
  ports.transport.last("Read").answer(readAnswer([found("m", "r")]));
  ports.transport.last("Read").end();
  expect((await get)?.key).toBe("r");
});

test("scans of several shards are merged by the index where it is told, ties by the records' keys", async () => {
  const { client, ports } = await openFakeClient(TWO_SHARDS);
  const scan = all(client.rangeScan({ useIndex: "i", startInclusive: "a", endExclusive: "z" }));
  await settle();
  const [zero, one] = ports.transport.of("RangeScan");
  expect(fromBinary(ListRequestSchema, zero!.sent[0]!)).toMatchObject({
    startInclusive: utf8("a"),
    endExclusive: utf8("z"),
    secondaryIndexName: utf8("i"),
  });
  zero!.answer(scanOf(["a", "9"], ["c", "1"], ["c", "5"]));
  one!.answer(scanOf(["b", "8"], ["c", "3"], ["d", "0"]));
  zero!.end();
  one!.end();
  expect((await scan).map(({ key }) => key)).toEqual(["9", "8", "1", "3", "5", "0"]);
});

test("scans without the index's keys, and lists, are merged by the records' own", async () => {
  const { client, ports } = await openFakeClient(TWO_SHARDS);
  const scan = all(client.rangeScan({ useIndex: "i" }));
  const list = all(client.list({ useIndex: "i" }));
  await settle();
  for (const [method, answer] of [
    ["RangeScan", scanAnswer],
    ["List", listAnswer],
  ] as const) {
    const [zero, one] = ports.transport.of(method);
    zero!.answer(answer(["b", "d"]));
    one!.answer(answer(["c", "a"]));
    zero!.end();
    one!.end();
  }
  expect((await scan).map(({ key }) => key)).toEqual(["b", "c", "a", "d"]);
  expect(await list).toEqual(["b", "c", "a", "d"]);
});

/** A list by an index whose first call breaks after three keys, of which two were the same record. */
async function cutList(): Promise<{ ports: FakePorts; list: Promise<string[]> }> {
  const { client, ports } = await openFakeClient(ONE_SHARD);
  const list = all(client.list({ useIndex: "i", startInclusive: "x" }));
  await settle();
  ports.transport.last("List").answer(listAnswer(["b", "a", "b"]));
  ports.transport.last("List").end(UNAVAILABLE);
  ports.clock.advance(1000);
  expect(ports.transport.of("List")).toHaveLength(2);
  expect(ports.transport.last("List").start()).toBe("x");
  return { ports, list };
}

test("an index read that is cut is made again, and what came before is not given twice", async () => {
  const { ports, list } = await cutList();
  ports.transport.last("List").answer(listAnswer(["b", "a"]));
  ports.transport.last("List").answer(listAnswer(["b", "c"]));
  ports.transport.last("List").end();
  expect(await list).toEqual(["b", "a", "b", "c"]);
});

test("an index read that is cut fails when the index has changed", async () => {
  for (const keys of [
    ["b", "a", "c", "b"],
    ["b", "a"],
  ]) {
    const { ports, list } = await cutList();
    ports.transport.last("List").answer(listAnswer(keys));
    ports.transport.last("List").end();
    expect(await errorOf(list)).toBeInstanceOf(ServerError);
  }
});

test("an index read goes on with the children of a shard that was split only if nothing had come", async () => {
  const children = TWO_SHARDS.map((shard) => ({ ...shard, id: shard.id + 10 }));
  for (const before of [[], ["a"]]) {
    const { client, ports, assign } = await openFakeClient(ONE_SHARD);
    const list = all(client.list({ useIndex: "i" }));
    list.catch(() => {});
    await settle();
    ports.transport.last("List").answer(listAnswer(before));
    await settle();
    assign(children);
    ports.transport.last("List").end(UNAVAILABLE);
    ports.clock.advance(1000);
    await settle();
    const calls = ports.transport.of("List").slice(1);
    if (before.length > 0) {
      expect(calls).toEqual([]);
      expect(await errorOf(list)).toBeInstanceOf(ServerError);
    } else {
      for (const call of calls) {
        call.answer(listAnswer(["b"]));
        call.end();
      }
      expect(await list).toEqual(["b", "b"]);
    }
  }
});
