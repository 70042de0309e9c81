import { expect, test } from "bun:test";
import fc from "fast-check";
import { EMPTY_HEAD, type Head, NO_OFFSET, NO_TERM } from "../model/ids.ts";
import { takeStamp } from "./fencing.ts";
import { decide, nowServing } from "./replica.ts";
import {
  afterStart,
  endReplica,
  NO_REPLICA,
  NOTHING,
  type Replica,
  type ReplicaStatus,
  type RequestName,
  type Requests,
  STATUSES,
} from "./replica-state.ts";

const ID = 71n;
const OTHER = 99n;
const HEAD: Head = { term: 4, offset: 7, crc: 47 };

/** How a request differs from the one that fits: in term, or in the id that it names. */
const VARIANTS = ["fits", "lower term", "higher term", "other id"] as const;
type Variant = (typeof VARIANTS)[number];

/** Term 5 is promised; entry 4:7 is the head, up to 3 applied. */
function replicaIn(status: ReplicaStatus): Replica {
  if (status === "not-member") return NOTHING;
  const follows = status === "follower" || status === "following" || status === "fenced";
  return {
    ...NOTHING,
    status,
    id: ID,
    mintedTerm: 0,
    promise: 5,
    led: follows ? NO_TERM : 5,
    head: HEAD,
    applied: 3,
    introduced: true,
    members: follows ? [] : [member("a", ID), member("b", 2n), member("c", 3n)],
  };
}

function member(server: string, replicaId: bigint) {
  return { server, replicaId };
}

function requestOf<Name extends RequestName>(name: Name, variant: Variant = "fits"): Requests[Name] {
  const term = { fits: 5, "lower term": 4, "higher term": 6, "other id": 5 }[variant];
  const replicaId = variant === "other id" ? OTHER : ID;
  const previous = { term: 4, offset: 7, crc: 47 };
  const all: Requests = {
    NewTerm: { term, replicaId, countedTerm: NO_TERM, adopt: false, freshId: 1234n },
    BecomeLeader: {
      term,
      replicaId,
      expectedHead: HEAD,
      replicationFactor: 3,
      members: [member("a", ID), member("b", 2n), member("c", 3n)],
      followers: [{ server: "b", head: { term: 4, offset: 6 } }],
    },
    AddFollower: {
      term,
      byId: true,
      head: HEAD,
      server: "b",
      replicaId: variant === "other id" ? OTHER : 2n,
      observer: false,
      targetShard: 0,
    },
    Truncate: {
      term,
      replicaId,
      keep: { term: 3, offset: 5 },
      expectedHead: HEAD,
      held: { term: 3, offset: 5, crc: 5 },
    },
    OpenReplicate: { term, replicaId, ackedOffset: 7 },
    Append: {
      term,
      entry: { term: 5, offset: 8, crc: 8 },
      previous,
      previousEntryCrc: undefined,
      commitOffset: 5,
      heldBefore: previous,
      held: undefined,
    },
    SendSnapshot: { term, replicaId, last: { term: 4, offset: 20, crc: 20 } },
    DeleteShard: { term, replicaId },
    FreezeShard: { term, frozen: true },
    RemoveObserver: { term, server: "d", targetShard: 0 },
    GetStatus: {},
  };
  return all[name];
}

const REQUEST_NAMES = [
  "NewTerm",
  "BecomeLeader",
  "AddFollower",
  "Truncate",
  "OpenReplicate",
  "Append",
  "SendSnapshot",
  "DeleteShard",
  "FreezeShard",
  "RemoveObserver",
  "GetStatus",
] as const satisfies readonly RequestName[];

/** Next status or reason, by variant: fits | lower term | higher term | other id. One word: all four. */
const EXPECTED: Record<ReplicaStatus, Record<RequestName, string>> = {
  "not-member": {
    NewTerm: "not-member",
    BecomeLeader: "INVALID_STATUS",
    AddFollower: "NODE_IS_NOT_LEADER",
    Truncate: "NODE_IS_NOT_MEMBER",
    OpenReplicate: "NODE_IS_NOT_MEMBER",
    Append: "NODE_IS_NOT_MEMBER",
    SendSnapshot: "NODE_IS_NOT_MEMBER",
    DeleteShard: "not-member",
    FreezeShard: "NODE_IS_NOT_LEADER",
    RemoveObserver: "NODE_IS_NOT_LEADER",
    GetStatus: "NODE_IS_NOT_MEMBER",
  },
  fenced: {
    NewTerm: "fenced | INVALID_TERM | fenced | fenced",
    BecomeLeader: "becoming-leader | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_MEMBER",
    AddFollower: "NODE_IS_NOT_LEADER | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_LEADER",
    Truncate: "follower | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_MEMBER",
    OpenReplicate: "following | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_MEMBER",
    Append: "following | INVALID_TERM | INVALID_TERM | following",
    SendSnapshot: "follower | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_MEMBER",
    DeleteShard: "not-member | INVALID_TERM | not-member | NODE_IS_NOT_MEMBER",
    FreezeShard: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    RemoveObserver: "NODE_IS_NOT_LEADER | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_LEADER",
    GetStatus: "fenced",
  },
  follower: {
    NewTerm: "fenced | INVALID_TERM | fenced | fenced",
    BecomeLeader: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    AddFollower: "NODE_IS_NOT_LEADER | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_LEADER",
    Truncate: "follower | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_MEMBER",
    OpenReplicate: "following | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_MEMBER",
    Append: "following | INVALID_TERM | INVALID_TERM | following",
    SendSnapshot: "follower | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_MEMBER",
    DeleteShard: "not-member | INVALID_TERM | not-member | NODE_IS_NOT_MEMBER",
    FreezeShard: "NODE_IS_NOT_LEADER | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_LEADER",
    RemoveObserver: "NODE_IS_NOT_LEADER | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_LEADER",
    GetStatus: "follower",
  },
  following: {
    NewTerm: "fenced | INVALID_TERM | fenced | fenced",
    BecomeLeader: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    AddFollower: "NODE_IS_NOT_LEADER | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_LEADER",
    Truncate: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_MEMBER",
    OpenReplicate: "following | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_MEMBER",
    Append: "following | INVALID_TERM | INVALID_TERM | following",
    SendSnapshot: "following | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_MEMBER",
    DeleteShard: "not-member | INVALID_TERM | not-member | NODE_IS_NOT_MEMBER",
    FreezeShard: "NODE_IS_NOT_LEADER | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_LEADER",
    RemoveObserver: "NODE_IS_NOT_LEADER | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_LEADER",
    GetStatus: "following",
  },
  "becoming-leader": {
    NewTerm: "INVALID_STATUS | INVALID_TERM | fenced | INVALID_STATUS",
    BecomeLeader: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    AddFollower: "NODE_IS_NOT_LEADER | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_LEADER",
    Truncate: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    OpenReplicate: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    Append: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    SendSnapshot: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    DeleteShard: "not-member | INVALID_TERM | not-member | NODE_IS_NOT_MEMBER",
    FreezeShard: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    RemoveObserver: "NODE_IS_NOT_LEADER | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_LEADER",
    GetStatus: "becoming-leader",
  },
  leader: {
    NewTerm: "INVALID_STATUS | INVALID_TERM | fenced | INVALID_STATUS",
    BecomeLeader: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    AddFollower: "leader | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_MEMBER",
    Truncate: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    OpenReplicate: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    Append: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    SendSnapshot: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    DeleteShard: "not-member | INVALID_TERM | not-member | NODE_IS_NOT_MEMBER",
    FreezeShard: "frozen | INVALID_TERM | INVALID_TERM | frozen",
    RemoveObserver: "leader | INVALID_TERM | INVALID_TERM | leader",
    GetStatus: "leader",
  },
  frozen: {
    NewTerm: "INVALID_STATUS | INVALID_TERM | fenced | INVALID_STATUS",
    BecomeLeader: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    AddFollower: "frozen | INVALID_TERM | INVALID_TERM | NODE_IS_NOT_MEMBER",
    Truncate: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    OpenReplicate: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    Append: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    SendSnapshot: "INVALID_STATUS | INVALID_TERM | INVALID_TERM | INVALID_STATUS",
    DeleteShard: "not-member | INVALID_TERM | not-member | NODE_IS_NOT_MEMBER",
    FreezeShard: "frozen | INVALID_TERM | INVALID_TERM | frozen",
    RemoveObserver: "frozen | INVALID_TERM | INVALID_TERM | frozen",
    GetStatus: "frozen",
  },
};

function cell(status: ReplicaStatus, name: RequestName): string {
  const words = VARIANTS.map((variant) => {
    const outcome = decide({ ...replicaIn(status), streaming: name === "Append" }, name, requestOf(name, variant));
    if (!outcome.accepted) expect(outcome.message).not.toBe("");
    return outcome.accepted ? outcome.next.status : outcome.reason;
  });
  return new Set(words).size === 1 ? words[0]! : words.join(" | ");
}

for (const status of STATUSES) {
  test(`what a ${status} replica answers to each request`, () => {
    const answered = Object.fromEntries(REQUEST_NAMES.map((name) => [name, cell(status, name)]));
    expect(answered).toEqual(EXPECTED[status]);
  });
}

function accepted<Name extends RequestName>(replica: Replica, name: Name, request: Partial<Requests[Name]> = {}) {
  const outcome = decide(replica, name, { ...requestOf(name), ...request });
  if (!outcome.accepted) throw new Error(`${outcome.reason}: ${outcome.message}`);
  return outcome;
}

function refused<Name extends RequestName>(replica: Replica, name: Name, request: Partial<Requests[Name]> = {}) {
  const outcome = decide(replica, name, { ...requestOf(name), ...request });
  if (outcome.accepted) throw new Error("accepted");
  return outcome;
}

// --- NewTerm, ids -----------------------------------------------------------------------------------------------

test("NewTerm mints an id only for an empty slot where no live id stands", () => {
  const minted = accepted(NOTHING, "NewTerm", { replicaId: NO_REPLICA }).next;
  expect(minted).toMatchObject({ status: "fenced", id: 1234n, mintedTerm: 5, promise: 5, head: EMPTY_HEAD });
  expect(accepted(replicaIn("fenced"), "NewTerm", { replicaId: NO_REPLICA }).next.id).toBe(ID);
});

test("NewTerm for an id that does not live here fences what does, and says so", () => {
  expect(accepted(replicaIn("fenced"), "NewTerm", { replicaId: undefined }).answer.ended).toBe("");
  const { next, answer } = accepted(replicaIn("following"), "NewTerm", { replicaId: OTHER, term: 6 });
  expect(next).toMatchObject({ status: "fenced", id: ID, promise: 6 });
  expect(answer.ended).toContain("99 does not live here");
  const none = accepted(NOTHING, "NewTerm", { replicaId: OTHER });
  expect(none.next).toMatchObject({ id: NO_REPLICA, status: "not-member", promise: NO_TERM });
  expect(none.answer.ended).not.toBe("");
});

test("an ended replica is erased before another is minted, and its promise stays", () => {
  const ended = endReplica(replicaIn("following"), "the disk was damaged");
  expect(refused(ended, "NewTerm", { replicaId: NO_REPLICA, term: 4 }).reason).toBe("INVALID_TERM");
  const { next, answer } = accepted(ended, "NewTerm", { replicaId: NO_REPLICA });
  expect(answer).toEqual({ erase: true, ended: "" });
  expect(next).toMatchObject({ id: 1234n, led: NO_TERM, head: EMPTY_HEAD, ended: "the disk was damaged" });
  expect(accepted(ended, "NewTerm").answer.ended).toBe("the disk was damaged");
});

test("a promise below the term in which the id was counted ends it: an older copy of the disk", () => {
  const { next, answer } = accepted(replicaIn("fenced"), "NewTerm", { term: 9, countedTerm: 6 });
  expect(next).toMatchObject({ status: "not-member", id: NO_REPLICA, promise: 5 });
  expect(answer.ended).toContain("below term 6");
  expect(accepted(replicaIn("fenced"), "NewTerm", { term: 9, countedTerm: 5 }).next.id).toBe(ID);
});

test("a reference coordinator's first NewTerm of a term to a damaged replica is refused, its repeat finds it empty", () => {
  const ended = endReplica(replicaIn("fenced"), "the disk was damaged");
  const first = refused(ended, "NewTerm", { replicaId: undefined, term: 6 });
  expect(first.reason).toBe("RESOURCE_UNAVAILABLE");
  expect(refused(first.next, "NewTerm", { replicaId: undefined, term: 7 }).accepted).toBe(false);
  const again = accepted(first.next, "NewTerm", { replicaId: undefined, term: 6 });
  expect(again).toMatchObject({ next: { id: 1234n, head: EMPTY_HEAD }, answer: { erase: true } });
});

test("adopt gives existing data a new id", () => {
  const { next } = accepted(replicaIn("fenced"), "NewTerm", { replicaId: OTHER, term: 8, adopt: true });
  expect(next).toMatchObject({ id: 1234n, mintedTerm: 8, promise: 8, head: HEAD });
});

test("a stamp below the confirmed one shows an older disk; the higher of held and sent is kept", () => {
  expect(takeStamp(5, { stamp: 9, confirmedStamp: 5 })).toEqual({ held: 9, rolledBack: false });
  expect(takeStamp(5, { stamp: 3, confirmedStamp: 6 })).toEqual({ held: 5, rolledBack: true });
});

test("after a start a replica is fenced, and neither follows nor leads before it is introduced", () => {
  const started = afterStart({ ...replicaIn("following"), streaming: true, verified: 7 });
  expect(started).toMatchObject({ status: "fenced", verified: NO_OFFSET, streaming: false, introduced: false });
  expect(refused(started, "OpenReplicate").reason).toBe("NOT_INITIALIZED");
  expect(refused(started, "BecomeLeader").reason).toBe("NOT_INITIALIZED");
  expect(accepted({ ...started, introduced: true }, "OpenReplicate").next.streaming).toBe(true);
  expect(afterStart(NOTHING).status).toBe("not-member");
  expect(afterStart(endReplica(replicaIn("following"), "damage"))).toMatchObject({ status: "not-member", promise: 5 });
});

test("an older copy of the disk that lacks the lead mark does not lead the term again", () => {
  const copied = replicaIn("fenced");
  expect(accepted(copied, "BecomeLeader").next.led).toBe(5);
  const restored = afterStart(copied);
  expect(refused(restored, "BecomeLeader").reason).toBe("NOT_INITIALIZED");
  expect(takeStamp(3, { stamp: 8, confirmedStamp: 4 }).rolledBack).toBe(true);
});

test("DeleteShard ends the id, keeps the promise, and finds nothing the second time", () => {
  const { next } = accepted(replicaIn("leader"), "DeleteShard", { term: 6 });
  expect(next).toMatchObject({ id: NO_REPLICA, promise: 6, ended: "deleted in term 6", members: [] });
  expect(accepted(next, "DeleteShard", { term: 6 }).next.id).toBe(NO_REPLICA);
  expect(accepted(next, "GetStatus").answer.status).toBe("NOT_MEMBER");
});

// --- leading ----------------------------------------------------------------------------------------------------

test("no replica leads a term twice, also after a start", () => {
  const led = accepted(replicaIn("fenced"), "BecomeLeader");
  expect(led).toMatchObject({ next: { led: 5, status: "becoming-leader" }, answer: { acksNeeded: 1 } });
  expect(nowServing(led.next).status).toBe("leader");
  expect(refused({ ...afterStart(led.next), introduced: true }, "BecomeLeader").reason).toBe("INVALID_STATUS");
});

test("BecomeLeader is refused on another head, outside the ensemble, or with a better follower", () => {
  const fenced = replicaIn("fenced");
  expect(refused(fenced, "BecomeLeader", { expectedHead: { term: 4, offset: 6 } }).reason).toBe("INVALID_STATUS");
  expect(refused(fenced, "BecomeLeader", { members: [member("a", 1n)] }).reason).toBe("NODE_IS_NOT_MEMBER");
  const better = [{ server: "b", head: { term: 4, offset: 8 } }];
  expect(refused(fenced, "BecomeLeader", { followers: better }).reason).toBe("INVALID_TERM");
  const many = ["b", "c", "d"].map((server) => ({ server, head: EMPTY_HEAD }));
  expect(refused(fenced, "BecomeLeader", { followers: many }).reason).toBe("UNKNOWN");
});

test("nor where another replica has led the term: its stream is open, or its entries are here", () => {
  expect(refused({ ...replicaIn("fenced"), streaming: true }, "BecomeLeader").reason).toBe("INVALID_STATUS");
  const head = { term: 5, offset: 8, crc: 1 };
  expect(refused({ ...replicaIn("fenced"), head }, "BecomeLeader", { expectedHead: head }).reason).toBe(
    "INVALID_STATUS",
  );
});

test("AddFollower keeps a cursor, replaces that of another id, and takes longer tails but no later term", () => {
  const added = accepted(replicaIn("leader"), "AddFollower");
  expect(added.answer.cursor).toBe("added");
  expect(accepted(added.next, "AddFollower").answer.cursor).toBe("kept");
  const renamed = { ...added.next, members: [member("a", ID), member("b", 22n), member("c", 3n)] };
  const replaced = accepted(renamed, "AddFollower", { replicaId: 22n });
  expect(replaced.answer.cursor).toBe("replaced");
  expect(replaced.next.cursors.map(({ replicaId }) => replicaId)).toEqual([22n]);
  expect(accepted(replicaIn("leader"), "AddFollower", { head: { term: 5, offset: 90 } }).accepted).toBe(true);
  expect(refused(replicaIn("leader"), "AddFollower", { head: { term: 6, offset: 0 } }).reason).toBe("INVALID_TERM");
});

test("an empty slot is no follower, an unlisted id may only observe", () => {
  const slots = { ...replicaIn("leader"), members: [member("a", ID), member("b", NO_REPLICA)] };
  expect(refused(slots, "AddFollower", { replicaId: NO_REPLICA, observer: true }).reason).toBe("NODE_IS_NOT_MEMBER");
  const observed = accepted(replicaIn("leader"), "AddFollower", { server: "d", replicaId: 44n, observer: true });
  const also = accepted(observed.next, "AddFollower", { server: "e", replicaId: 55n, observer: true }).next;
  const removed = accepted(also, "RemoveObserver");
  expect(removed).toMatchObject({ answer: { removed: true }, next: { cursors: [{ server: "e" }] } });
  expect(accepted(removed.next, "RemoveObserver").answer.removed).toBe(false);
});

test("a reference coordinator's followers are limited by number", () => {
  const request = { byId: false, replicaId: NO_REPLICA };
  const b = accepted(replicaIn("leader"), "AddFollower", { ...request, server: "b" }).next;
  const c = accepted(b, "AddFollower", { ...request, server: "c" }).next;
  expect(refused(c, "AddFollower", { ...request, server: "d" }).reason).toBe("UNKNOWN");
});

test("a freeze is lifted by FreezeShard and by NewTerm", () => {
  expect(accepted(replicaIn("frozen"), "FreezeShard", { frozen: false }).next.status).toBe("leader");
  expect(accepted(replicaIn("leader"), "FreezeShard").answer.headOffset).toBe(7);
  expect(accepted(replicaIn("frozen"), "NewTerm", { term: 6 }).next).toMatchObject({ status: "fenced", members: [] });
});

// --- following --------------------------------------------------------------------------------------------------

test("Truncate needs the head that it expects, no stream, and an entry above what is applied", () => {
  const fenced = replicaIn("fenced");
  expect(accepted(fenced, "Truncate").next).toMatchObject({ status: "follower", head: { term: 3, offset: 5, crc: 5 } });
  expect(refused(fenced, "Truncate", { expectedHead: { ...HEAD, crc: 48 } }).reason).toBe("RESOURCE_CONFLICT");
  expect(refused({ ...fenced, streaming: true }, "Truncate").reason).toBe("RESOURCE_CONFLICT");
  expect(refused(fenced, "Truncate", { keep: { term: 9, offset: 9 } }).reason).toBe("INVALID_ARGUMENT");
  const below = refused(fenced, "Truncate", { keep: { term: 1, offset: 2 } });
  expect(below).toMatchObject({ reason: "FAILED_PRECONDITION", alarm: true });
});

test("an entry of the term in the log refuses Truncate also after a start", () => {
  const head = { term: 5, offset: 8, crc: 8 };
  const started = afterStart({ ...replicaIn("following"), head });
  expect(refused(started, "Truncate", { expectedHead: head }).reason).toBe("INVALID_STATUS");
});

test("a head below what this leader has seen acked ends the id", () => {
  const outcome = refused(replicaIn("fenced"), "OpenReplicate", { ackedOffset: 8 });
  expect(outcome).toMatchObject({ reason: "NODE_IS_NOT_MEMBER", next: { id: NO_REPLICA, status: "not-member" } });
  expect(outcome.next.ended).toContain("older copy");
});

test("what has been acked to this leader is verified, also by a process that has forgotten it; the rest of the log is not", () => {
  const forgetful = { ...replicaIn("fenced"), verified: NO_OFFSET };
  const { next } = accepted(forgetful, "OpenReplicate", { ackedOffset: 6 });
  expect(next).toMatchObject({ status: "following", verified: 6, streaming: true });
  expect(accepted(next, "Append", { entry: undefined, commitOffset: 7 }).answer.applyUpTo).toBe(6);
  const unacked = accepted(forgetful, "OpenReplicate", { ackedOffset: NO_OFFSET }).next;
  expect(unacked).toMatchObject({ status: "fenced", verified: NO_OFFSET });
});

test("an entry without gap and with the same entry before is written, verified, and nothing above it is applied", () => {
  const streaming = { ...replicaIn("fenced"), streaming: true };
  const { next, answer } = accepted(streaming, "Append");
  expect(next).toMatchObject({ status: "following", verified: 8 });
  expect(answer).toEqual({ write: true, cut: false, applyUpTo: 5 });
  expect(accepted(next, "Append", { entry: undefined, commitOffset: 20 }).answer).toEqual({
    write: false,
    cut: false,
    applyUpTo: 8,
  });
});

test("an entry that is held counts if it is the same one, another one is refused; applied ones raise the alarm", () => {
  const streaming = { ...replicaIn("fenced"), streaming: true };
  const at = (offset: number, crc = offset) => ({ term: 3, offset, crc });
  const same = { entry: at(5), held: at(5), previous: at(4), heldBefore: at(4) };
  const { next, answer } = accepted(streaming, "Append", { ...same, commitOffset: 7 });
  expect(answer).toEqual({ write: false, cut: false, applyUpTo: 5 });
  expect(next.verified).toBe(5);
  expect(refused(streaming, "Append", { ...same, held: at(5, 55) })).toMatchObject({ alarm: false });
  expect(refused(streaming, "Append", { ...same, heldBefore: at(4, 44) })).toMatchObject({ alarm: false });
  const low = { entry: at(3), held: at(3, 33), previous: at(2), heldBefore: at(2) };
  expect(refused(streaming, "Append", low)).toMatchObject({ reason: "RESOURCE_CONFLICT", alarm: true });
});

test("one stream at a time, no snapshot beside it, no Append without one", () => {
  const streaming = { ...replicaIn("following"), streaming: true };
  expect(refused(streaming, "OpenReplicate").reason).toBe("RESOURCE_CONFLICT");
  expect(refused(streaming, "SendSnapshot").reason).toBe("RESOURCE_CONFLICT");
  expect(refused(replicaIn("following"), "Append").reason).toBe("RESOURCE_CONFLICT");
});

test("the bounds themselves: keep what is applied or the head, install what is applied, lead beside equal heads", () => {
  const fenced = replicaIn("fenced");
  const at = (offset: number) => ({ keep: { term: 3, offset }, held: { term: 3, offset, crc: offset } });
  expect(accepted(fenced, "Truncate", at(3)).next.head.offset).toBe(3);
  expect(accepted(fenced, "Truncate", { keep: HEAD, held: HEAD }).next.head).toEqual(HEAD);
  expect(accepted(fenced, "SendSnapshot", { last: { term: 3, offset: 3, crc: 3 } }).next.head.offset).toBe(3);
  const followers = ["b", "c"].map((server) => ({ server, head: HEAD }));
  expect(accepted(fenced, "BecomeLeader", { followers }).next.status).toBe("becoming-leader");
});

test("a gap is refused in the reference's words; an Append without entry leaves a fenced replica fenced", () => {
  const streaming = { ...replicaIn("fenced"), streaming: true };
  const gap = refused(streaming, "Append", { entry: { term: 5, offset: 10, crc: 0 }, heldBefore: undefined });
  expect(gap.message).toBe("entry 10 can not immediately follow 7: oxia: invalid next offset in wal");
  const told = accepted(streaming, "Append", { entry: undefined, commitOffset: 7 });
  expect(told).toMatchObject({ next: { status: "fenced" }, answer: { applyUpTo: 3 } });
});

test("a snapshot below what is applied or acked is refused and changes nothing", () => {
  const last = { term: 4, offset: 6, crc: 6 };
  expect(accepted(replicaIn("fenced"), "SendSnapshot", { last }).next).toMatchObject({ head: last, applied: 6 });
  expect(refused(replicaIn("fenced"), "SendSnapshot", { last: { ...last, offset: 2 } }).reason).toBe(
    "FAILED_PRECONDITION",
  );
  const acked = { ...replicaIn("following"), verified: 7 };
  expect(refused(acked, "SendSnapshot", { last }).next).toEqual(acked);
  const started = afterStart({ ...replicaIn("fenced"), head: { term: 5, offset: 8, crc: 8 } });
  expect(refused(started, "SendSnapshot", { last }).reason).toBe("FAILED_PRECONDITION");
});

// --- properties -------------------------------------------------------------------------------------------------

const someRequest = fc.oneof(
  ...REQUEST_NAMES.map((name) => fc.record({ name: fc.constant(name), variant: fc.constantFrom(...VARIANTS) })),
);

test("whatever comes: the promise and the lead mark of an id never fall, a refusal changes nothing but the end of an id", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...STATUSES),
      fc.boolean(),
      fc.array(someRequest, { maxLength: 12 }),
      (status, open, all) => {
        let replica: Replica = { ...replicaIn(status), streaming: open };
        for (const { name, variant } of all) {
          const { accepted: taken, next } = decide(replica, name, requestOf(name, variant));
          expect(next.promise).toBeGreaterThanOrEqual(replica.promise);
          if (next.id === replica.id) expect(next.led).toBeGreaterThanOrEqual(replica.led);
          if (!taken && next.id === replica.id) expect(next).toEqual(replica);
          expect(next.id === NO_REPLICA).toBe(next.status === "not-member");
          expect(next.applied).toBeLessThanOrEqual(next.head.offset);
          if (next.status === "becoming-leader") expect(next.led).toBe(next.promise);
          replica = next;
        }
      },
    ),
    { numRuns: 500 },
  );
});
