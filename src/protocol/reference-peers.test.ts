/** What a replica and a leader make of reference peers: rules of safety.md §11, which know no ids and no chain. */
import { expect, test } from "bun:test";
import { EMPTY_HEAD, type Head, NO_OFFSET, NO_TERM } from "../model/ids.ts";
import {
  confirmedRound,
  entrySent,
  mayAnswer,
  newLeadership,
  openStream,
  ownTermEntryDue,
  readArrives,
  sendRound,
  takeAck,
  takeOwnDurable,
  takeStatus,
} from "./commit.ts";
import { decide } from "./replica.ts";
import { afterStart, endReplica, NO_REPLICA, NOTHING, type Replica, type Requests } from "./replica-state.ts";

const ID = 71n;

/** Fenced in term 5 with entries up to 4:7, of which 3 are applied; a reference leader's stream is open. */
const STREAMING: Replica = {
  ...NOTHING,
  status: "fenced",
  id: ID,
  promise: 5,
  head: { term: 4, offset: 7, crc: 47 },
  applied: 3,
  streaming: true,
};

function at(offset: number, term = 4, crc = 40 + offset): Head {
  return { term, offset, crc };
}

/** An entry of a reference leader, with what is held before it and in its place. */
function appendOf(entry: Head, options: Partial<Requests["Append"]> = {}): Requests["Append"] {
  const { offset } = entry;
  const heldBefore = offset === 0 ? EMPTY_HEAD : at(offset - 1);
  const crc = { previous: undefined, previousEntryCrc: heldBefore.crc };
  return { term: 5, entry, ...crc, commitOffset: NO_OFFSET, heldBefore, held: undefined, ...options };
}

function taken(replica: Replica, request: Requests["Append"]) {
  const outcome = decide(replica, "Append", request);
  if (!outcome.accepted) throw new Error(`${outcome.reason}: ${outcome.message}`);
  return outcome;
}

// --- a reference leader's entries ---------------------------------------------------------------------------------

test("a reference leader's chain value proves what stands before an entry when it agrees", () => {
  const { next, answer } = taken(STREAMING, appendOf(at(8, 5)));
  expect(answer).toMatchObject({ write: true, cut: false });
  expect(next).toMatchObject({ status: "following", verified: 8 });
});

test("where it does not agree the leader is asked, once a term, to send its log from 0 on", () => {
  for (const previousEntryCrc of [0, 99, undefined]) {
    const first = decide(STREAMING, "Append", appendOf(at(8, 5), { previousEntryCrc }));
    expect(first).toMatchObject({ accepted: false, reason: "NODE_IS_NOT_MEMBER", alarm: false });
    expect(first.next).toEqual({ ...STREAMING, askedAgainTerm: 5 });
    const second = decide(first.next, "Append", appendOf(at(8, 5), { previousEntryCrc }));
    expect(second).toMatchObject({ accepted: false, reason: "RESOURCE_CONFLICT", alarm: false });
    expect(
      decide({ ...first.next, promise: 6 }, "Append", { ...appendOf(at(8, 5)), term: 6, previousEntryCrc }),
    ).toMatchObject({
      reason: "NODE_IS_NOT_MEMBER",
    });
  }
});

test("sent from 0 on, each entry proves the next one, whatever the leader says of its chain", () => {
  let replica: Replica = { ...STREAMING, askedAgainTerm: 5 };
  for (let offset = 0; offset <= 7; offset++) {
    const same = taken(replica, appendOf(at(offset), { held: at(offset), previousEntryCrc: 0 }));
    expect(same.answer).toMatchObject({ write: false, cut: false });
    replica = same.next;
    expect(replica.verified).toBe(offset);
  }
  expect(taken(replica, appendOf(at(8, 5), { previousEntryCrc: 0 })).answer.write).toBe(true);
});

test("a contradicted entry above what is applied is cut and replaced, with all that follows it", () => {
  const { next, answer } = taken(STREAMING, appendOf(at(5, 3, 99), { held: at(5), commitOffset: 7 }));
  expect(answer).toEqual({ write: true, cut: true, applyUpTo: 5 });
  expect(next).toMatchObject({ head: at(4), verified: 5, status: "following" });
});

test("an applied entry that is contradicted raises the alarm and is never cut", () => {
  const outcome = decide(STREAMING, "Append", appendOf(at(3, 3, 99), { held: at(3) }));
  expect(outcome).toMatchObject({ accepted: false, reason: "RESOURCE_CONFLICT", alarm: true, next: STREAMING });
});

test("nothing is cut once an entry of the term is held, or compared, or when the sender is one of ours", () => {
  const contradiction = appendOf(at(5, 3, 99), { held: at(5) });
  const refusals = [
    decide({ ...STREAMING, verified: 5 }, "Append", contradiction),
    decide({ ...STREAMING, head: at(7, 5) }, "Append", contradiction),
    decide(STREAMING, "Append", { ...contradiction, previous: at(4) }),
    decide(STREAMING, "Append", { ...contradiction, term: NO_TERM }),
  ];
  for (const refusal of refusals)
    expect(refusal).toMatchObject({ accepted: false, reason: "RESOURCE_CONFLICT", alarm: false });
});

test("a reference server's snapshot is refused and nothing is destroyed; one without an id from ours is taken", () => {
  const idle = { ...STREAMING, streaming: false };
  const foreign = decide(idle, "SendSnapshot", { term: 5, replicaId: undefined, last: undefined });
  expect(foreign).toMatchObject({ accepted: false, reason: "FAILED_PRECONDITION", next: idle });
  expect(decide(idle, "SendSnapshot", { term: 5, replicaId: undefined, last: at(20) }).accepted).toBe(true);
});

// --- a reference coordinator --------------------------------------------------------------------------------------

test("a damaged replica refuses a reference coordinator's first NewTerm of each term and answers a repeat as empty", () => {
  const damaged = endReplica({ ...STREAMING, streaming: false }, "a flipped bit");
  const ask = (replica: Replica, term: number) =>
    decide(replica, "NewTerm", { term, replicaId: undefined, countedTerm: NO_TERM, adopt: false, freshId: 9n });
  const first = ask(damaged, 6);
  expect(first).toMatchObject({ accepted: false, reason: "RESOURCE_UNAVAILABLE" });
  expect(ask(first.next, 7)).toMatchObject({ accepted: false, reason: "RESOURCE_UNAVAILABLE" });
  expect(ask(first.next, 6)).toMatchObject({
    accepted: true,
    answer: { erase: true },
    next: { id: 9n, head: EMPTY_HEAD },
  });
});

test("NewTerm without our fields is no introduction: it has checked no stamp", () => {
  const started = afterStart({ ...STREAMING, streaming: false });
  const request = { term: 6, countedTerm: NO_TERM, adopt: false, freshId: 9n };
  const fenced = decide(started, "NewTerm", { ...request, replicaId: undefined }).next;
  expect(fenced).toMatchObject({ status: "fenced", promise: 6, introduced: false });
  const open = { term: 6, ackedOffset: NO_OFFSET };
  expect(decide(fenced, "OpenReplicate", { ...open, replicaId: ID })).toMatchObject({ reason: "NOT_INITIALIZED" });
  expect(decide(fenced, "OpenReplicate", { ...open, replicaId: undefined }).accepted).toBe(true);
  expect(decide(started, "NewTerm", { ...request, replicaId: ID }).next.introduced).toBe(true);
});

// --- reference followers ------------------------------------------------------------------------------------------

test("a reference server is added as a member in the slot that stays empty, and only there", () => {
  const members = [
    { server: "a", replicaId: ID },
    { server: "b", replicaId: NO_REPLICA },
    { server: "c", replicaId: 3n },
  ];
  const leader: Replica = { ...STREAMING, streaming: false, status: "leader", led: 5, members };
  const add = (server: string) =>
    decide(leader, "AddFollower", {
      ...{ term: 5, byId: true, server, replicaId: NO_REPLICA, observer: false, targetShard: 0 },
      head: EMPTY_HEAD,
    });
  expect(add("b")).toMatchObject({ accepted: true, answer: { cursor: "added" } });
  expect(add("c")).toMatchObject({ accepted: false, reason: "NODE_IS_NOT_MEMBER" });
  expect(add("d")).toMatchObject({ accepted: false, reason: "NODE_IS_NOT_MEMBER" });
});

test("reference followers attach, and confirm reads, by a GetStatus of the term that was asked after the round began", () => {
  const leader = newLeadership({ term: 7, self: 1n, members: [1n, 2n, 3n], headOffset: 4 });
  expect(takeStatus(leader, 2n, { term: 6, round: 0 })).toBe("ignored");
  expect(takeStatus(leader, 9n, { term: 7, round: 0 })).toBe("ignored");
  expect(ownTermEntryDue(leader)).toBe(false);
  expect(takeStatus(leader, 2n, { term: 7, round: 0 })).toBe("counted");
  expect(ownTermEntryDue(leader)).toBe(true);
  entrySent(leader, 5);
  takeOwnDurable(leader, 5);
  takeAck(leader, openStream(leader, 2n), { offset: 5, readRound: undefined, promise: undefined });

  const early = sendRound(leader);
  const read = readArrives(leader);
  takeStatus(leader, 2n, { term: 7, round: early });
  expect(mayAnswer(leader, read, 5)).toBe(false);
  const round = sendRound(leader);
  takeStatus(leader, 2n, { term: 8, round });
  expect(confirmedRound(leader)).toBe(early);
  takeStatus(leader, 2n, { term: 7, round });
  expect(mayAnswer(leader, read, 5)).toBe(true);
  takeStatus(leader, 2n, { term: 7, round: early });
  expect(confirmedRound(leader)).toBe(round);
  expect(() => takeStatus(leader, 2n, { term: 7, round: round + 1 })).toThrow("round to come");
});
