import { afterEach, expect, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { index, put } from "../../test/harness/applied-state.ts";
import { bytesOf, keyOf, list, SERVICE } from "../../test/harness/client.ts";
import { Code, type Connection } from "../../test/harness/grpc.ts";
import { newSession, type ShardServer, startShards, write, written } from "../../test/harness/shard-server.ts";
import {
  KeyComparisonType,
  ListRequestSchema,
  ListResponseSchema,
  RangeScanRequestSchema,
  RangeScanResponseSchema,
  ReadRequestSchema,
  ReadResponseSchema,
  Status,
} from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";

let server: ShardServer | undefined;

afterEach(async () => {
  await server?.stop();
  server = undefined;
});

const LARGE = "\xff".repeat(64 * 1024);
const NAMES = ["", "/", "//", "a/b", "\x00", "\x01", "\x01\x01", "\xff", "\xff/\xff", "%2F", LARGE];

/** What a list and a range scan over an index give: primary keys, and `secondary→primary`. */
async function query(connection: Connection, name: string, from = "", to = "") {
  const init = {
    shard: 0n,
    startInclusive: bytesOf(from),
    endExclusive: bytesOf(to),
    secondaryIndexName: bytesOf(name),
  };
  const listed = await connection.call(`${SERVICE}/List`, toBinary(ListRequestSchema, create(ListRequestSchema, init)));
  const scanned = await connection.call(
    `${SERVICE}/RangeScan`,
    toBinary(RangeScanRequestSchema, create(RangeScanRequestSchema, init)),
  );
  expect([listed.code, scanned.code]).toEqual([Code.OK, Code.OK]);
  const records = scanned.messages.flatMap((message) => fromBinary(RangeScanResponseSchema, message).records);
  return {
    keys: listed.messages.flatMap((message) => fromBinary(ListResponseSchema, message).keys.map(keyOf)),
    records: records.map(({ key, secondaryIndexKey }) => `${keyOf(secondaryIndexKey!)}→${keyOf(key!)}`),
  };
}

async function get(
  connection: Connection,
  name: string,
  key: string,
  comparisonType: KeyComparisonType = KeyComparisonType.EQUAL,
) {
  const gets = [{ key: bytesOf(key), secondaryIndexName: bytesOf(name), comparisonType, includeValue: true }];
  const request = toBinary(ReadRequestSchema, create(ReadRequestSchema, { shard: 0n, gets }));
  const { messages } = await connection.call(`${SERVICE}/Read`, request);
  return fromBinary(ReadResponseSchema, messages[0]!).gets[0]!;
}

/** Whether two long strings are the same, said shortly. */
const same = (a: readonly string[], b: readonly string[]) =>
  a.length === b.length && a.every((each, at) => each === b[at]);

test.each(["hierarchical", "natural"] as const)(
  "in %s order, names and keys at their limits are stored, found and removed, also after a restart",
  async (keySorting) => {
    server = await startShards({ keySorting });
    let connection = await server.connect();
    const session = await newSession(connection);
    for (const name of NAMES) {
      await written(connection, {
        puts: [put(`in ${name}`, { value: bytesOf("v"), secondaryIndexes: NAMES.map((key) => index(name, key)) })],
      });
    }
    await written(connection, { puts: [put("other", { sessionId: session, secondaryIndexes: [index("z", "")] })] });
    server = await server.restart();
    connection = await server.connect();
    for (const name of NAMES) {
      const { keys, records } = await query(connection, name);
      expect(
        same(
          keys,
          NAMES.map(() => `in ${name}`),
        ),
      ).toBe(true);
      expect(same(records.toSorted(), NAMES.map((key) => `${key}→in ${name}`).toSorted())).toBe(true);
      for (const key of NAMES) {
        const found = await get(connection, name, key);
        expect(same([keyOf(found.secondaryIndexKey!), keyOf(found.key!)], [key, `in ${name}`])).toBe(true);
      }
      expect((await get(connection, name, "", KeyComparisonType.LOWER)).status).toBe(Status.KEY_NOT_FOUND);
    }
    await written(connection, { deleteRanges: [{ startInclusive: bytesOf(""), endExclusive: bytesOf("") }] });
    for (const name of NAMES) expect(await query(connection, name)).toEqual({ keys: [], records: [] });
    expect(await list(connection, 0)).toEqual([]);
  },
  60_000,
);

test("an index that nobody has written, and bounds that hold nothing, are empty", async () => {
  server = await startShards();
  const connection = await server.connect();
  await written(connection, { puts: [put("p", { secondaryIndexes: [index("i", "m")] })] });
  for (const [name, from, to] of [
    ["none", "", ""],
    ["i", "n", ""],
    ["i", "", "m"],
    ["i", "z", "a"],
    ["i", "m", "m"],
  ]) {
    expect(await query(connection, name!, from, to)).toEqual({ keys: [], records: [] });
  }
  expect(await query(connection, "i", "m", "m\x00")).toEqual({ keys: ["p"], records: ["m→p"] });
});

test("a write that would make far more index than it is itself is refused, and the shard serves on", async () => {
  server = await startShards();
  const connection = await server.connect();
  const puts = [put(LARGE, { secondaryIndexes: Array.from({ length: 2_000 }, (_, n) => index("i", String(n))) })];
  const before = server.shards[0]!.head;
  expect(await write(connection, { puts })).toMatchObject({ code: Code.INVALID_ARGUMENT });
  expect(server.shards[0]!.head).toBe(before);
  await written(connection, { puts: [put("a")] });
});

test("an index list and scan of many records come in several messages, complete and in order", async () => {
  server = await startShards();
  const connection = await server.connect();
  const long = "x".repeat(500);
  const keys = Array.from({ length: 3_000 }, (_, n) => `${String(n).padStart(5, "0")}${long}`);
  await written(connection, { puts: keys.map((key) => put(key, { secondaryIndexes: [index("i", `s${key}`)] })) });
  const { keys: listed, records } = await query(connection, "i");
  expect(same(listed, keys)).toBe(true);
  expect(
    same(
      records,
      keys.map((key) => `s${key}→${key}`),
    ),
  ).toBe(true);
});
