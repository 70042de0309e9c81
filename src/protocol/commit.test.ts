import { expect, test } from "bun:test";
import fc from "fast-check";
import { NO_OFFSET } from "../model/ids.ts";
import {
  closeStream,
  commitToTell,
  confirmAlone,
  confirmedRound,
  entrySent,
  followerEnded,
  type Leadership,
  mayAnswer,
  mayServe,
  newLeadership,
  openStream,
  ownTermEntryDue,
  readArrives,
  sendRound,
  takeAck,
  takeOwnDurable,
} from "./commit.ts";
import { NO_REPLICA } from "./replica-state.ts";

const answer = (offset: number, readRound?: number, promise?: number) => ({ offset, readRound, promise });

/** A leader of term 7 with head 4, whose followers 2 and 3 have not answered yet. */
function leaderOf(...members: bigint[]): Leadership {
  return newLeadership({ term: 7, self: 1n, members, headOffset: 4 });
}

/** It has appended its own-term entry at 5, which is durable here. */
function appended(): Leadership {
  const leader = leaderOf(1n, 2n, 3n);
  takeAck(leader, openStream(leader, 2n), answer(NO_OFFSET));
  entrySent(leader, 5);
  takeOwnDurable(leader, 5);
  return leader;
}

test("the own-term entry waits until floor(RF/2) followers have answered on a stream (1,237 of 3,000 runs)", () => {
  const leader = leaderOf(1n, 2n, 3n, 4n, 5n);
  expect(() => entrySent(leader, 5)).toThrow("not due");
  takeAck(leader, openStream(leader, 2n), answer(NO_OFFSET));
  openStream(leader, 3n);
  expect(ownTermEntryDue(leader)).toBe(false);
  takeAck(leader, openStream(leader, 3n), answer(4));
  expect(ownTermEntryDue(leader)).toBe(true);
  entrySent(leader, 5);
  expect(ownTermEntryDue(leader)).toBe(false);
  expect(ownTermEntryDue(leaderOf(1n))).toBe(true);
});

test("nothing of earlier terms commits, or is told, before the own-term entry is on a majority (seeds 11951, 5081)", () => {
  const leader = appended();
  const stream = openStream(leader, 2n);
  takeAck(leader, stream, answer(4));
  expect(commitToTell(leader)).toBe(NO_OFFSET);
  expect(mayServe(leader, 4)).toBe(false);
  takeAck(leader, stream, answer(5));
  expect(commitToTell(leader)).toBe(5);
  expect(mayServe(leader, 4)).toBe(false);
  expect(mayServe(leader, 5)).toBe(true);
});

test("an ack counts only on the open stream, from a listed id, at the leader's term", () => {
  const leader = appended();
  const before = openStream(leader, 2n);
  const stream = openStream(leader, 2n);
  expect(takeAck(leader, before, answer(5))).toBe("ignored");
  expect(takeAck(leader, openStream(leader, 9n), answer(5))).toBe("ignored");
  expect(takeAck(leader, { follower: 2n, term: 7 }, answer(5))).toBe("ignored");
  expect(takeAck(leader, stream, answer(5, undefined, 8))).toBe("ignored");
  expect(commitToTell(leader)).toBe(NO_OFFSET);
  expect(takeAck(leader, stream, answer(5, undefined, 7))).toBe("counted");
  expect(commitToTell(leader)).toBe(5);
  closeStream(leader, before);
  expect(takeAck(leader, stream, answer(5))).toBe("counted");
  closeStream(leader, stream);
  expect(takeAck(leader, stream, answer(5))).toBe("ignored");
});

test("an ack or an echo above what was sent is refused", () => {
  const leader = appended();
  const stream = openStream(leader, 2n);
  expect(takeAck(leader, stream, answer(6))).toBe("refused");
  expect(takeAck(leader, stream, answer(5, 1))).toBe("refused");
  expect(commitToTell(leader)).toBe(NO_OFFSET);
});

test("an ack before the own fsync is kept, and commit never passes the own durable head", () => {
  const leader = appended();
  const stream = openStream(leader, 2n);
  entrySent(leader, 6);
  entrySent(leader, 7);
  takeAck(leader, stream, answer(7));
  expect(commitToTell(leader)).toBe(5);
  expect(takeOwnDurable(leader, 6)).toBe(6);
});

test("an id that has ended gives nothing any more; empty slots raise the number of acks needed", () => {
  const leader = leaderOf(1n, 2n, 3n, NO_REPLICA, NO_REPLICA);
  for (const id of [2n, 3n]) takeAck(leader, openStream(leader, id), answer(4));
  entrySent(leader, 5);
  takeOwnDurable(leader, 5);
  takeAck(leader, openStream(leader, 2n), answer(5));
  followerEnded(leader, 2n);
  takeAck(leader, openStream(leader, 3n), answer(5));
  expect(commitToTell(leader)).toBe(NO_OFFSET);
  expect(takeAck(leader, openStream(leader, NO_REPLICA), answer(5))).toBe("ignored");
});

test("a read waits for a round that was sent after it arrived; all that wait share it", () => {
  const leader = appended();
  const stream = openStream(leader, 2n);
  takeAck(leader, stream, answer(5));
  expect(sendRound(leader)).toBe(1);
  const first = readArrives(leader);
  const second = readArrives(leader);
  takeAck(leader, stream, answer(5, 1));
  expect(mayAnswer(leader, first, 5)).toBe(false);
  expect(sendRound(leader)).toBe(2);
  takeAck(leader, stream, answer(5, 1));
  expect(mayAnswer(leader, first, 5)).toBe(false);
  takeAck(leader, stream, answer(5, 2, 8));
  expect(confirmedRound(leader)).toBe(1);
  takeAck(leader, stream, answer(5, 2, 7));
  expect([first, second].map((read) => mayAnswer(leader, read, 5))).toEqual([true, true]);
  expect(mayAnswer(leader, first, 4)).toBe(false);
});

test("with replication factor 1 the log writer confirms a round", () => {
  const leader = leaderOf(1n);
  entrySent(leader, 5);
  expect(takeOwnDurable(leader, 5)).toBe(5);
  const read = readArrives(leader);
  expect(mayAnswer(leader, read, 5)).toBe(false);
  confirmAlone(leader, sendRound(leader));
  expect(mayAnswer(leader, read, 5)).toBe(true);
});

test("committed is on a majority of the listed ids, at or above the own-term entry, and never falls", () => {
  const someStep = fc.oneof(
    fc.record({
      what: fc.constant("ack" as const),
      id: fc.integer({ min: 2, max: 6 }),
      at: fc.integer({ min: 0, max: 9 }),
    }),
    fc.record({ what: fc.constant("sync" as const), id: fc.constant(0), at: fc.integer({ min: 0, max: 9 }) }),
    fc.record({ what: fc.constant("send" as const), id: fc.constant(0), at: fc.constant(0) }),
  );
  fc.assert(
    fc.property(fc.array(someStep, { maxLength: 30 }), (steps) => {
      const leader = leaderOf(1n, 2n, 3n, 4n, 5n);
      const streams = new Map([2n, 3n, 4n, 5n, 6n].map((id) => [id, openStream(leader, id)]));
      const durable = new Map<bigint, number>();
      let own = 4;
      for (const { what, id, at } of steps) {
        const before = commitToTell(leader);
        if (what === "send" && (leader.ownTermEntry || ownTermEntryDue(leader)))
          entrySent(leader, leader.quorum.sent + 1);
        if (what === "sync" && at <= leader.quorum.sent) {
          own = Math.max(own, at);
          takeOwnDurable(leader, at);
        }
        if (what === "ack" && takeAck(leader, streams.get(BigInt(id))!, answer(at)) === "counted")
          durable.set(BigInt(id), Math.max(durable.get(BigInt(id)) ?? NO_OFFSET, at));
        const committed = commitToTell(leader);
        expect(committed).toBeGreaterThanOrEqual(before);
        if (committed === NO_OFFSET) continue;
        expect(committed).toBeGreaterThanOrEqual(5);
        expect(committed).toBeLessThanOrEqual(own);
        expect([...durable.values()].filter((offset) => offset >= committed).length).toBeGreaterThanOrEqual(2);
        expect(durable.has(6n)).toBe(false);
      }
    }),
    { numRuns: 500 },
  );
});
