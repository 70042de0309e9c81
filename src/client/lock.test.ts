/** What a lock does when its server is lost; test/client/lock.test.ts has what it does with one. */
import { expect, test } from "bun:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ONE_SHARD, openFakeClient } from "../../test/harness/fake-client.ts";
import { notificationBatch, refusal, sessionAnswer, settle, version } from "../../test/harness/fake-transport.ts";
import { RangeScanResponseSchema, WriteRequestSchema } from "../gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { utf8 } from "../lib/bytes.ts";
import { CLIENT_LOCK_RECHECK_MS } from "../model/limits.ts";
import { LockLostError } from "./errors.ts";
import { GrpcCode } from "./grpc-code.ts";
import { type AcquireOptions, Lock } from "./lock.ts";

const ticketKey = (n: number) => `l/ticket-${String(n).padStart(20, "0")}`;

interface FakeTicket {
  readonly number: number;
  /** Undefined: somebody else's. */
  readonly value?: Uint8Array;
}

/** A client that asks for the lock `l`, and the server's side of it. */
async function asking(options: AcquireOptions = {}) {
  const { client, ports } = await openFakeClient(ONE_SHARD, { batchLingerMs: 0 });
  const { transport, clock } = ports;
  let chance = 0;
  Object.assign(ports, { random: () => ++chance / 1000 });
  const acquiring = new Lock(client, "l", { identity: "me" }).acquire(options);
  await settle();
  const feed = transport.last("GetNotifications");
  let offset = 0;
  feed.answer(notificationBatch(offset));
  await settle();
  let requests = 0;
  const fake = {
    acquiring,
    clock,
    transport,
    async session(id: number) {
      transport.last("CreateSession").answer(sessionAnswer(id));
      transport.last("CreateSession").end();
      await settle();
    },
    /** Answers the put of the ticket; returns what was put. */
    async drawn(sessionId: number): Promise<Uint8Array> {
      const call = transport.last("WriteStream");
      const { value } = fromBinary(WriteRequestSchema, call.sent[requests++]!).puts[0]!;
      call.answerWriteWith({ puts: [{ version: { ...version(1), sessionId: BigInt(sessionId) } }] });
      await settle();
      return value;
    },
    /** Answers the look at the line. */
    async line(...tickets: FakeTicket[]) {
      const records = tickets.map(({ number, value }) => ({
        key: utf8(ticketKey(number)),
        value: value ?? utf8("somebody"),
        version: version(number),
      }));
      const call = transport.last("RangeScan");
      call.answer(toBinary(RangeScanResponseSchema, create(RangeScanResponseSchema, { records })));
      call.end();
      await settle();
    },
    async deleted(number: number) {
      feed.answer(notificationBatch(++offset, { [ticketKey(number)]: { type: 2 } }));
      await settle();
    },
    looks: () => transport.of("RangeScan").length,
  };
  await fake.session(7);
  return { ...fake, value: await fake.drawn(7) };
}

test("who waits looks again when the one before it has gone, and for no other", async () => {
  const { acquiring, line, deleted, looks, value } = await asking();
  await line({ number: 1 }, { number: 2 }, { number: 3, value });
  await deleted(1);
  expect(looks()).toBe(1);
  await deleted(2);
  expect(looks()).toBe(2);
  await line({ number: 3, value });
  expect((await acquiring).token).toBe(3);
});

test("what goes while the line is looked at is not missed", async () => {
  const { acquiring, line, deleted, looks, value } = await asking();
  await deleted(1);
  await line({ number: 1 }, { number: 2, value });
  expect(looks()).toBe(2);
  await line({ number: 2, value });
  await acquiring;
});

test("without any notification it looks now and then", async () => {
  const { acquiring, line, clock, looks, value } = await asking();
  await line({ number: 1 }, { number: 2, value });
  clock.advance(CLIENT_LOCK_RECHECK_MS - 1);
  await settle();
  expect(looks()).toBe(1);
  clock.advance(1);
  await settle();
  await line({ number: 2, value });
  await acquiring;
});

test("of two tickets that one put drew the lower counts", async () => {
  const { acquiring, line, value } = await asking();
  await line({ number: 1, value }, { number: 2, value });
  expect((await acquiring).token).toBe(1);
});

test("a lock whose session the server has ended is lost", async () => {
  const { acquiring, line, clock, transport, value } = await asking();
  await line({ number: 1, value });
  const held = await acquiring;
  clock.advance(2000);
  expect(held.signal.aborted).toBe(false);
  transport.last("KeepAlive").end(refusal(GrpcCode.notFound, "SESSION_NOT_FOUND"));
  expect(held.signal.aborted).toBe(true);
  expect(held.signal.reason).toBeInstanceOf(LockLostError);
});

test("a lock whose session is not confirmed is lost when it may have ended, not later", async () => {
  const { acquiring, line, clock, looks, value } = await asking();
  await line({ number: 1, value });
  const held = await acquiring;
  clock.advance(14_999);
  expect(held.signal.aborted).toBe(false);
  clock.advance(1);
  expect(held.signal.aborted).toBe(true);
  // there may be nobody to give it back to
  const before = looks();
  await held.release();
  expect(looks()).toBe(before);
});

test("who waits and loses its session draws another ticket", async () => {
  const { acquiring, line, deleted, clock, transport, session, drawn, value } = await asking();
  await line({ number: 1 }, { number: 2, value });
  clock.advance(2000);
  transport.last("KeepAlive").end(refusal(GrpcCode.notFound, "SESSION_NOT_FOUND"));
  await settle();
  // the old ticket may still be there, and even the first
  await line({ number: 2, value });
  await session(8);
  const again = await drawn(8);
  await line({ number: 2, value }, { number: 3, value: again });
  expect(transport.of("CreateSession")).toHaveLength(2);
  await deleted(2);
  await line({ number: 3, value: again });
  expect((await acquiring).token).toBe(3);
});
