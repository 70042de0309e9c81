/**
 * Bad input over the wire, against the executable: each kind is answered with its error while another client works on
 * without one, and memory stays bounded.
 *
 * Source: errors.md §2; testing.md (c).
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import net from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import {
  GetRequestSchema,
  ListRequestSchema,
  RangeScanRequestSchema,
  ReadRequestSchema,
  ShardAssignmentsRequestSchema,
} from "../../src/gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { encodeWrite, list, read, SERVICE, scan, shardIds, write, writeStream } from "../harness/client.ts";
import { type Connection, codeName, frame, type Outcome, type Reply } from "../harness/grpc.ts";
import { END_HEADERS, FrameType, http2Frame, RawConnection } from "../harness/raw-http2.ts";
import { checkAll, isLoadKey, Load } from "./load.ts";
import { batch, type Key, put, remove, removeRange } from "./model.ts";
import { Server, scratch, seed } from "./varia.ts";

setDefaultTimeout(60_000);

const MESSAGE_BYTES_MAX = 4 * 1024 * 1024;
/** Resident memory that the server may reach, whatever is thrown at it: an idle one has about 120 MB. */
const RESIDENT_BYTES_MAX = 700 * 1024 * 1024;
const SHARDS = 2;
const directory = scratch("bad-input");
const METHODS = ["Write", "Read", "List", "RangeScan", "GetShardAssignments"];

let server: Server;
let connection: Connection;
/** A client that behaves, the whole time. */
let neighbour: { load: Load; stop: AbortController; running: Promise<void>; failures: Outcome[] };

beforeAll(async () => {
  const flags = ["--memory", "64MiB", "--max-message-size", String(MESSAGE_BYTES_MAX)];
  server = await Server.start({ directory: directory.path, shards: SHARDS, flags });
  connection = await server.connect();
  const load = new Load({ seed: seed(), shards: [0, 1], ownersPerShard: 2, bigValueBytesMax: 20_000 });
  const stop = new AbortController();
  const failures: Outcome[] = [];
  const running = load.run([await server.connect()], stop.signal, (outcome) => failures.push(outcome));
  running.catch(() => {}); // awaited at the end
  neighbour = { load, stop, running, failures };
});

afterAll(async () => {
  await server?.kill();
  directory.remove();
});

function residentBytes(field: "VmRSS" | "VmHWM"): number {
  const status = readFileSync(`/proc/${server.pid}/status`, "utf8");
  return Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)![1]) * 1024;
}

const ended = ({ code, reason }: Outcome) => (reason === undefined ? codeName(code) : `${codeName(code)} ${reason}`);
const call = (method: string, request: Uint8Array, options = {}): Promise<Reply> =>
  connection.call(`${SERVICE}/${method}`, request, options);

const keyBytes = (key: Key) => Buffer.from(key, "latin1");
const listOf = (shard: bigint | undefined) =>
  toBinary(ListRequestSchema, create(ListRequestSchema, shard === undefined ? {} : { shard }));
const scanOf = (shard: bigint | undefined) =>
  toBinary(RangeScanRequestSchema, create(RangeScanRequestSchema, shard === undefined ? {} : { shard }));
const readOf = (shard: bigint | undefined, gets = [create(GetRequestSchema, { key: keyBytes("k") })]) =>
  toBinary(ReadRequestSchema, create(ReadRequestSchema, shard === undefined ? { gets } : { gets, shard }));

// --- messages and frames --------------------------------------------------------------------------------------

test("a message that is not protobuf is refused by every method", async () => {
  const malformed: Record<string, Uint8Array> = {
    "truncated varint": Uint8Array.of(0x08, 0xff),
    "length past the end": Uint8Array.of(0x12, 0x7f, 0x01),
    "field number 0": Uint8Array.of(0x00, 0x01),
    "wire type 7": Uint8Array.of(0x0f, 0x01),
    "varint of 11 bytes": Uint8Array.from([0x08, ...new Array(10).fill(0xff), 0x01]),
    "end of a group that was not begun": Uint8Array.of(0x0c),
  };
  for (const method of METHODS) {
    for (const [what, bytes] of Object.entries(malformed)) {
      expect(ended(await call(method, bytes)), `${method}: ${what}`).toBe("INVALID_ARGUMENT");
    }
  }
  const stream = writeStream(connection, 0, () => {});
  stream.send(Uint8Array.of(0x12, 0x7f, 0x01));
  expect(ended(await stream.ended)).toBe("INVALID_ARGUMENT");
});

test("a frame that is cut off is refused", async () => {
  const whole = frame(encodeWrite(batch(put("cut", "off")), 0));
  for (const length of [0, 1, 4, 5, whole.length - 1]) {
    const outcome = await call("Write", new Uint8Array(), { rawBody: whole.subarray(0, length) });
    expect(
      ["INTERNAL", "INVALID_ARGUMENT", "UNIMPLEMENTED"],
      `${length} of ${whole.length} bytes: ${outcome.message}`,
    ).toContain(ended(outcome));
  }
  expect((await read(connection, 0, ["cut"]))[0]).toBeUndefined();
});

test("a unary call with two messages is refused, and carries out neither", async () => {
  const two = Buffer.concat([
    frame(encodeWrite(batch(put("two", "1")), 0)),
    frame(encodeWrite(batch(put("two", "2")), 0)),
  ]);
  expect(["INTERNAL", "INVALID_ARGUMENT", "UNIMPLEMENTED"]).toContain(
    ended(await call("Write", new Uint8Array(), { rawBody: two })),
  );
});

test("the compressed flag without an encoding, and an encoding that is not spoken, are refused", async () => {
  const request = encodeWrite(batch(put("compressed", "1")), 0);
  expect(ended(await call("Write", request, { rawBody: frame(request, 1) }))).toBe("INTERNAL");
  expect(ended(await call("Write", request, { rawBody: frame(request, 255) }))).toBe("INTERNAL");
  const headers = { "grpc-encoding": "snappy" };
  expect(ended(await call("Write", request, { rawBody: frame(request, 1), headers }))).toBe("UNIMPLEMENTED");
  expect((await read(connection, 0, ["compressed"]))[0]).toBeUndefined();
});

test("a message of exactly the limit is taken, one byte more is refused", async () => {
  const overhead = encodeWrite(batch(put("limit", new Uint8Array(3_000_000))), 0).length - 3_000_000;
  const sized = (bytes: number) => encodeWrite(batch(put("limit", new Uint8Array(bytes - overhead))), 0);
  expect(sized(MESSAGE_BYTES_MAX).length).toBe(MESSAGE_BYTES_MAX);
  expect(ended(await call("Write", sized(MESSAGE_BYTES_MAX)))).toBe("OK");
  expect(ended(await call("Write", sized(MESSAGE_BYTES_MAX + 1)))).toBe("RESOURCE_EXHAUSTED");
  const stream = writeStream(connection, 0, () => {});
  stream.send(sized(MESSAGE_BYTES_MAX + 1));
  expect(ended(await stream.ended)).toBe("RESOURCE_EXHAUSTED");
  // Only the length is sent: refused before any of the message is there.
  const announced = Uint8Array.of(0, 0xff, 0xff, 0xff, 0xff);
  expect(ended(await call("Write", new Uint8Array(), { rawBody: announced }))).toBe("RESOURCE_EXHAUSTED");
});

// --- what a request says --------------------------------------------------------------------------------------

test("shards that are absent or not here are refused by every method", async () => {
  const requests = (shard: bigint | undefined): Record<string, Uint8Array> => ({
    Write: encodeWrite(batch(put("k", "v")), shard),
    Read: readOf(shard),
    List: listOf(shard),
    RangeScan: scanOf(shard),
  });
  for (const [method, request] of Object.entries(requests(undefined))) {
    const outcome = await call(method, request);
    expect(ended(outcome), method).toBe("INVALID_ARGUMENT");
    expect(outcome.message).toContain("shard id is required");
  }
  for (const shard of [-1n, 2n, 99n, 2n ** 31n, 2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n)]) {
    for (const [method, request] of Object.entries(requests(shard))) {
      expect(ended(await call(method, request)), `${method}, shard ${shard}`).toBe("ABORTED NODE_IS_NOT_LEADER");
    }
  }
});

test("a WriteStream needs its headers, once each, and a whole number for a shard", async () => {
  const open = (headers: Record<string, string | string[]>) => {
    const stream = connection.open(`${SERVICE}/WriteStream`, () => {}, { headers });
    stream.send(encodeWrite(batch(put("k", "v"))));
    return stream.ended;
  };
  expect(ended(await open({ "shard-id": "0" }))).toBe("UNKNOWN");
  expect(ended(await open({ namespace: "default" }))).toBe("UNKNOWN");
  const notANumber = await open({ namespace: "default", "shard-id": "zero" });
  expect(ended(notANumber)).toBe("UNKNOWN");
  expect(notANumber.message).toContain("expected integer");
  for (const shard of ["-1", "2", "9223372036854775807", "99999999999999999999999"]) {
    expect(ended(await open({ namespace: "default", "shard-id": shard })), shard).toMatch(/ABORTED|UNKNOWN/);
  }
});

test("an unknown namespace, method and content type get their errors", async () => {
  const request = create(ShardAssignmentsRequestSchema, { namespace: "nowhere" });
  const bytes = toBinary(ShardAssignmentsRequestSchema, request);
  expect(ended(await call("GetShardAssignments", bytes))).toBe("NOT_FOUND NAMESPACE_NOT_FOUND");
  expect(ended(await call("NoSuchMethod", bytes))).toBe("UNIMPLEMENTED");
  expect(ended(await connection.call("/no.such.Service/Method", bytes))).toBe("UNIMPLEMENTED");
  const text = await call("Write", bytes, { headers: { "content-type": "text/plain" } });
  expect(text.httpStatus).toBe(415);
  expect(await shardIds(connection)).toEqual([0, 1]);
});

test("a comparison that does not exist is refused", async () => {
  const get = create(GetRequestSchema, { key: keyBytes("k"), comparisonType: 99 as never });
  expect(ended(await call("Read", readOf(0n, [get])))).toBe("INVALID_ARGUMENT");
});

test("expected versions out of range match nothing, and are no error", async () => {
  await write(connection, 0, batch(put("versions", "1")));
  for (const expected of [-2n, 2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n)]) {
    const version = expected as unknown as number; // beyond what the model can count, on purpose
    const outcome = await write(connection, 0, batch(put("versions", "2", version), remove("versions", version)));
    expect(outcome.answer?.puts[0]?.status, String(expected)).toBe("UNEXPECTED_VERSION_ID");
    expect(outcome.answer?.deletes[0], String(expected)).toBe("UNEXPECTED_VERSION_ID");
  }
});

test("a range whose start is not before its end is empty", async () => {
  await write(connection, 0, batch(put("range", "1")));
  expect(await list(connection, 0, "s", "a")).toEqual([]);
  expect([...(await scan(connection, 0, "range", "range")).keys()]).toEqual([]);
  expect((await write(connection, 0, batch(removeRange("s", "a")))).answer?.deleteRanges).toEqual(["OK"]);
  expect((await read(connection, 0, ["range"]))[0]).toBeDefined();
});

// --- keys -----------------------------------------------------------------------------------------------------

const ODD_KEYS: Record<string, Key> = {
  empty: "",
  "a NUL": "\0",
  "0xff": "\xff",
  "0xff before a slash": "a\xffb/",
  "a slash before 0xff": "a/b\xff",
  "not UTF-8": "\xc3\x28\xfe\x80",
  "half of a surrogate pair": "\xed\xa0\x80",
  "one MiB": "m".repeat(1024 * 1024),
  "32,768 slashes": "/".repeat(32_768),
  "65,536 slashes": "/".repeat(65_536),
  "65,536 slashes and a name": `${"/".repeat(65_536)}x`,
};

test("keys are bytes: odd ones are put, read, listed and deleted like any other", async () => {
  const keys = Object.entries(ODD_KEYS);
  const { answer } = await write(connection, 1, batch(...keys.map(([what, key]) => put(key, what))));
  expect(answer?.puts.map(({ status }) => status)).toEqual(keys.map(() => "OK"));
  const found = await read(connection, 1, Object.values(ODD_KEYS));
  expect(found.map((record) => record && Buffer.from(record.value).toString())).toEqual(Object.keys(ODD_KEYS));
  const listed = new Set(await list(connection, 1));
  for (const [what, key] of keys) expect(listed.has(key), what).toBe(true);
  const deleted = await write(connection, 1, batch(...keys.map(([, key]) => remove(key))));
  expect(deleted.answer?.deletes).toEqual(keys.map(() => "OK"));
});

test("keys of the server's own are not written by clients, and nothing beside them either", async () => {
  for (const request of [
    batch(put("beside", "1"), put("__oxia/term", "99")),
    batch(put("beside", "1"), put("__oxia/", "")),
    batch(put("beside", "1"), remove("__oxia/commit-offset")),
    batch(put("beside", "1"), removeRange("__oxia/", "__oxia/z")),
  ]) {
    expect(ended(await write(connection, 0, request))).toBe("INVALID_ARGUMENT");
  }
  expect((await read(connection, 0, ["beside"]))[0]).toBeUndefined();
});

test("a request of 100,000 operations is carried out whole", async () => {
  const keys = Array.from({ length: 100_000 }, (_, n) => `many/${n}`);
  const { answer } = await write(connection, 0, batch(...keys.map((key) => put(key, ""))));
  expect(answer?.puts.length).toBe(keys.length);
  expect(answer?.puts.every(({ status }) => status === "OK")).toBe(true);
  expect((await list(connection, 0, "many/", "many/~")).length).toBe(keys.length);
  const found = await read(connection, 0, keys);
  expect(found.every((record) => record !== undefined)).toBe(true);
  await write(connection, 0, batch(removeRange("many/", "many/~")));
  expect(await list(connection, 0, "many/", "many/~")).toEqual([]);
});

// --- connections ----------------------------------------------------------------------------------------------

/** Resolves when the server has answered `count` times in a row, on a connection of its own. */
async function others(count = 20): Promise<void> {
  const fresh = await server.connect();
  for (let n = 0; n < count; n++) {
    const { answer } = await write(fresh, n % SHARDS, batch(put("others", String(n))));
    expect(answer?.puts[0]?.status).toBe("OK");
  }
  await fresh.close();
}

test("a flood of streams that are reset at once hurts nobody else", async () => {
  const attackers = await Promise.all(Array.from({ length: 4 }, () => RawConnection.open(connection.authority)));
  for (const attacker of attackers) attacker.greet();
  const request = frame(readOf(0n));
  for (let round = 0; round < 50; round++) {
    for (const attacker of attackers) {
      for (let n = 0; n < 100; n++) attacker.reset(attacker.call(`${SERVICE}/Read`, n % 2 === 0 ? request : undefined));
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  await others();
  for (const attacker of attackers) attacker.close();
});

test("connections that say nothing, or half of something, hurt nobody else", async () => {
  const silent = await Promise.all(Array.from({ length: 60 }, () => RawConnection.open(connection.authority)));
  silent.forEach((attacker, n) => {
    if (n % 4 === 1) attacker.send(Buffer.from("PRI * HT"));
    if (n % 4 === 2) {
      attacker.greet();
      const headers = attacker.headersOf(`${SERVICE}/Write`);
      attacker.send(http2Frame(FrameType.HEADERS, 0, 1, headers)); // the header block is never ended
    }
    if (n % 4 === 3) {
      attacker.greet();
      const stream = attacker.call(`${SERVICE}/Write`);
      attacker.send(http2Frame(FrameType.DATA, 0, stream, frame(new Uint8Array(100)).subarray(0, 50)));
    }
  });
  await others();
  for (const attacker of silent) attacker.close();
});

test("bytes that are no HTTP/2 end their own connection only", async () => {
  const words: Uint8Array[] = [
    Buffer.concat([
      Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]),
      Buffer.alloc(512, 7),
    ]), // TLS
    Buffer.alloc(64, "\0garbage"),
    Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Buffer.alloc(64, 0xff)]),
  ];
  for (const bytes of words) {
    const attacker = await RawConnection.open(connection.authority);
    attacker.send(bytes);
    await attacker.closed;
    attacker.close();
  }
  await others();
});

test("floods of SETTINGS, PING and empty DATA frames hurt nobody else", async () => {
  const nothing = new Uint8Array();
  const frames = [
    http2Frame(FrameType.SETTINGS, 0, 0, nothing),
    http2Frame(FrameType.PING, 0, 0, new Uint8Array(8)),
    http2Frame(FrameType.DATA, 0, 1, nothing),
    http2Frame(FrameType.WINDOW_UPDATE, 0, 0, Uint8Array.of(0, 0, 0, 1)),
  ];
  for (const bytes of frames) {
    const attacker = await RawConnection.open(connection.authority);
    attacker.greet();
    attacker.call(`${SERVICE}/Write`);
    const burst = Buffer.concat(Array.from({ length: 5_000 }, () => bytes));
    for (let n = 0; n < 4; n++) {
      attacker.send(burst);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await others(5);
    attacker.close();
  }
});

test("readers that never read hold up nobody, and what waits for them is bounded", async () => {
  const value = new Uint8Array(200_000);
  for (let n = 0; n < 150; n++) await write(connection, 1, batch(put(`big/${n}`, value))); // 30 MB
  const before = residentBytes("VmRSS");
  const readers = await Promise.all(Array.from({ length: 10 }, () => RawConnection.open(connection.authority)));
  const scanAll = frame(scanOf(1n));
  for (const reader of readers) {
    reader.greet();
    for (let n = 0; n < 10; n++) reader.call(`${SERVICE}/RangeScan`, scanAll);
  }
  await Promise.all(readers.map((reader) => until(() => reader.received > 60_000)));
  await others();
  const grown = residentBytes("VmRSS") - before;
  console.log(`100 readers that do not read 30 MB each: ${Math.round(grown / 1e6)} MB more`);
  expect(grown).toBeLessThan(400 * 1024 * 1024);
  expect((await scan(connection, 1, "big/", "big/~")).size).toBe(150);
  for (const reader of readers) reader.close();
});

test("a peer that vanishes without a word in the middle of a call is forgotten", async () => {
  for (let n = 0; n < 50; n++) {
    const attacker = await RawConnection.open(connection.authority);
    attacker.greet();
    attacker.call(`${SERVICE}/WriteStream`, undefined, { namespace: "default", "shard-id": "0" });
    attacker.send(http2Frame(FrameType.HEADERS, END_HEADERS, 3, attacker.headersOf(`${SERVICE}/Read`)));
    attacker.socket.resetAndDestroy();
  }
  await others();
});

test("HTTP/1.1 on the public port gets an HTTP answer", async () => {
  const response = await new Promise<string>((resolve, reject) => {
    const [host, port] = connection.authority.split(":") as [string, string];
    const socket = net.connect({ host, port: Number(port) }, () => socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n"));
    socket.once("data", (chunk) => {
      resolve(chunk.toString("latin1"));
      socket.destroy();
    });
    socket.once("error", reject);
  });
  expect(response).toMatch(/^HTTP\/1\.1 [45]\d\d /);
});

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error("waited for 20 s");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

// --- and all the while ----------------------------------------------------------------------------------------

test("the client that behaved had no error, all that it wrote is there, and memory stayed bounded", async () => {
  neighbour.stop.abort();
  await neighbour.running;
  expect(neighbour.failures.map(({ code, message }) => `${codeName(code)} ${message}`)).toEqual([]);
  const { load } = neighbour;
  console.log(
    `${load.acknowledged} requests of the client that behaved, at most ${Math.round(residentBytes("VmHWM") / 1e6)} MB`,
  );
  expect(load.acknowledged).toBeGreaterThan(1_000);
  await checkAll(connection, load.histories, isLoadKey);
  expect(residentBytes("VmHWM")).toBeLessThan(RESIDENT_BYTES_MAX);
  expect(server.running).toBe(true);
});
