import { expect, test } from "bun:test";
import { fromBinary } from "@bufbuild/protobuf";
import { errorOf, openFakeClient, TWO_SHARDS } from "../../test/harness/fake-client.ts";
import { sequenceAnswer, settle, version } from "../../test/harness/fake-transport.ts";
import { GetSequenceUpdatesRequestSchema, WriteRequestSchema } from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { utf8 } from "../lib/bytes.ts";
import { plainStatus } from "./call-status.ts";
import { ClientClosedError, InvalidArgumentError, ServerError } from "./errors.ts";
import { GrpcCode } from "./grpc-code.ts";
import type { PutOptions } from "./options.ts";

const METHOD = "GetSequenceUpdates";

test("a put with deltas has the key that the server made", async () => {
  const { client, ports } = await openFakeClient(TWO_SHARDS);
  const put = client.put("seq", "x", { partitionKey: "p@100", sequenceKeysDeltas: [1, 2n ** 63n] });
  ports.clock.advance(5);
  const call = ports.transport.last("WriteStream");
  expect(call.request.address).toBe("one:1");
  expect(fromBinary(WriteRequestSchema, call.sent[0]!).puts[0]).toMatchObject({
    key: utf8("seq"),
    sequenceKeyDelta: [1n, 2n ** 63n],
  });
  call.answerWriteWith({ puts: [{ version: version(1), key: utf8("seq-1") }] });
  expect((await put).key).toBe("seq-1");
});

test("what no server could apply is refused before it is sent", async () => {
  const { client, ports } = await openFakeClient();
  const wrong: PutOptions[] = [
    { sequenceKeysDeltas: [1] },
    { sequenceKeysDeltas: [0], partitionKey: "p" },
    { sequenceKeysDeltas: [0n, 1], partitionKey: "p" },
    { sequenceKeysDeltas: [-1], partitionKey: "p" },
    { sequenceKeysDeltas: [1.5], partitionKey: "p" },
    { sequenceKeysDeltas: [2n ** 64n], partitionKey: "p" },
    { sequenceKeysDeltas: [1], partitionKey: "p", mustNotExist: true },
    { sequenceKeysDeltas: [1], partitionKey: "p", expectedVersionId: 1 },
    { sequenceKeysDeltas: Array.from({ length: 65 }, () => 1), partitionKey: "p" },
  ];
  for (const options of wrong)
    expect(await errorOf(client.put("a", "x", options))).toBeInstanceOf(InvalidArgumentError);
  ports.clock.advance(5);
  expect(ports.transport.of("WriteStream")).toEqual([]);
});

test("updates come from the partition's shard; a slow reader gets the latest", async () => {
  const { client, ports } = await openFakeClient(TWO_SHARDS);
  const updates = client.sequenceUpdates("seq", { partitionKey: "p@100" });
  const call = ports.transport.last(METHOD);
  expect(call.request.address).toBe("one:1");
  expect(fromBinary(GetSequenceUpdatesRequestSchema, call.sent[0]!)).toMatchObject({ shard: 1n, key: utf8("seq") });
  const first = updates.next();
  call.answer(sequenceAnswer("seq-1"));
  expect((await first).value).toBe("seq-1");
  for (const key of ["", "seq-2", "seq-3"]) call.answer(sequenceAnswer(key));
  expect((await updates.next()).value).toBe("seq-3");
});

test("a stream that ends is opened again, and what it repeats is not told again", async () => {
  const { client, ports } = await openFakeClient();
  const updates = client.sequenceUpdates("seq", { partitionKey: "p" });
  ports.transport.last(METHOD).answer(sequenceAnswer("seq-1"));
  expect((await updates.next()).value).toBe("seq-1");
  ports.transport.last(METHOD).end();
  ports.clock.advance(1000);
  expect(ports.transport.of(METHOD)).toHaveLength(2);
  ports.transport.last(METHOD).answer(sequenceAnswer("seq-1"));
  ports.transport.last(METHOD).answer(sequenceAnswer("seq-2"));
  expect((await updates.next()).value).toBe("seq-2");
});

test("a sequence whose shard is split is followed to the child that has it", async () => {
  const { client, ports, assign } = await openFakeClient();
  client.sequenceUpdates("seq", { partitionKey: "p@100" });
  assign(TWO_SHARDS.map((shard) => ({ ...shard, id: shard.id + 10 })));
  const call = ports.transport.last(METHOD);
  expect(call.request.address).toBe("one:1");
  expect(fromBinary(GetSequenceUpdatesRequestSchema, call.sent[0]!).shard).toBe(11n);
});

test("the signal, leaving, a refusal and closing the client end it", async () => {
  const { client, ports } = await openFakeClient();
  const controller = new AbortController();
  const aborted = client.sequenceUpdates("seq", { partitionKey: "p", signal: controller.signal });
  const waiting = aborted.next();
  controller.abort();
  expect((await waiting).done).toBe(true);
  const late = client.sequenceUpdates("seq", { partitionKey: "p", signal: controller.signal });
  expect((await late.next()).done).toBe(true);
  expect(ports.transport.of(METHOD)).toHaveLength(1);

  const left = client.sequenceUpdates("seq", { partitionKey: "p" });
  await left.return();
  expect(ports.transport.last(METHOD).cancelled).toBe(true);

  const refused = client.sequenceUpdates("seq", { partitionKey: "p" });
  ports.transport.last(METHOD).end(plainStatus(GrpcCode.permissionDenied, "no"));
  expect(await errorOf(refused.next())).toBeInstanceOf(ServerError);
  expect((await refused.next()).done).toBe(true);

  const closed = client.sequenceUpdates("seq", { partitionKey: "p" });
  const last = closed.next();
  await client.close();
  await settle();
  expect((await last).done).toBe(true);
  expect(() => client.sequenceUpdates("seq", { partitionKey: "p" })).toThrow(ClientClosedError);
});
