import { expect, test } from "bun:test";
import { EMPTY_HEAD, type Head, NO_OFFSET, NO_TERM } from "../model/ids.ts";
import type { Slot } from "./election.ts";
import {
  deletable,
  deletedDocument,
  FREEZE_LAPSE_MS,
  FREEZE_RENEW_MS,
  FREEZE_TOTAL_MS_MAX,
  type Freeze,
  freezeLapsed,
  jointDocument,
  nextStep,
  nextTerm,
  type Observed,
  type ObservedReplica,
  resultDocument,
  type StoredShard,
  type Swap,
  turnedRound,
} from "./ensemble-change.ts";
import { NO_REPLICA } from "./replica-state.ts";

const T = 7;
const head = (offset: number, term = T): Head => ({ term, offset, crc: offset * 10 + term });
const slot = (server: string, replicaId: bigint): Slot => ({ server, replicaId, countedTerm: T });
const member = (server: string, replicaId: bigint) => ({ server, replicaId });

const STEADY: StoredShard = {
  term: T,
  leader: member("a", 1n),
  members: [slot("a", 1n), slot("b", 2n), slot("c", 3n)],
  formerMembers: [],
  everLed: true,
  adoptedTerm: undefined,
  pendingDeletes: [],
};
const SWAP: Swap = { removed: member("c", 3n), added: member("d", 4n) };

const leader = (at: number, status: ObservedReplica["status"] = "leader"): ObservedReplica => ({
  replicaId: 1n,
  status,
  promise: T,
  head: head(at),
  commitOffset: at,
  verifiedOffset: NO_OFFSET,
});
const follower = (replicaId: bigint, verified: number, at = head(verified)): ObservedReplica => ({
  replicaId,
  status: "following",
  promise: T,
  head: at,
  commitOffset: verified,
  verifiedOffset: verified,
});

function observed(replicas: Record<string, ObservedReplica>, more: Partial<Observed> = {}): Observed {
  return { replicas: new Map(Object.entries(replicas)), observing: true, freeze: undefined, ...more };
}

const freeze = (first: number, last: number, headOffset = 9): Freeze => ({
  firstAskedMs: first,
  lastAskedMs: last,
  headOffset,
});

function due(of: Observed, nowMs = 0, stored = STEADY, swap = SWAP) {
  return nextStep(stored, swap, of, nowMs);
}

test("a swap, step by step, to the joint CAS", () => {
  expect(due(observed({}), 0, STEADY, { ...SWAP, added: member("d", NO_REPLICA) }).due).toBe("prepare");
  expect(due(observed({}, { observing: false })).due).toBe("observe");
  const lagging = { a: leader(9), b: follower(2n, 9), d: follower(4n, 5) };
  expect(due(observed(lagging))).toEqual({ due: "catch-up", why: "d is at 5 of 9" });
  const caughtUp = { ...lagging, d: follower(4n, 9) };
  expect(due(observed(caughtUp)).due).toBe("freeze");
  const late = { ...caughtUp, a: leader(10, "frozen") };
  expect(due(observed(late, { freeze: freeze(0, 0, 10) }))).toMatchObject({ due: "settle" });
  const settled = { a: leader(10, "frozen"), b: follower(2n, 10), d: follower(4n, 10) };
  const step = due(observed(settled, { freeze: freeze(0, 0, 10) }));
  expect(step).toEqual({ due: "store-joint", next: jointDocument(STEADY, SWAP) });
});

test("the new replica counts as caught up by what it reports itself: verified in the steady term, under its own id", () => {
  const others = { a: leader(9), b: follower(2n, 9) };
  expect(due(observed(others)).due).toBe("catch-up");
  expect(due(observed({ ...others, d: follower(4n, 9, head(9, 6)) })).due).toBe("catch-up");
  expect(due(observed({ ...others, d: follower(44n, 9) })).due).toBe("catch-up");
  expect(due(observed({ ...others, d: { ...follower(4n, 9), promise: 6 } })).due).toBe("catch-up");
  expect(due(observed({ b: follower(2n, 9), d: follower(4n, 9) })).due).toBe("catch-up");
});

test("every new member must hold the frozen head by term, offset and chain, the leader's word included", () => {
  const held = { freeze: freeze(0, 0) };
  const d = follower(4n, 9);
  const b = follower(2n, 9);
  expect(due(observed({ a: leader(9), b, d }, held)).due).toBe("settle");
  expect(due(observed({ a: leader(10, "frozen"), b, d }, held)).due).toBe("settle");
  expect(due(observed({ a: leader(9, "frozen"), d }, held)).due).toBe("settle");
  const on = { a: leader(10, "frozen"), b: follower(2n, 10), d: follower(4n, 10) };
  expect(due(observed(on, held)).due).toBe("settle");
  expect(due(observed({ a: leader(9, "frozen"), b: { ...b, head: { ...b.head, crc: 1 } }, d }, held)).due).toBe(
    "settle",
  );
  expect(due(observed({ a: leader(9, "frozen"), b, d }, held)).due).toBe("store-joint");
});

test("a member whose replica is gone for good is not waited for, as long as most of the new ensemble is there", () => {
  const slot = (server: string, replicaId: bigint) => ({ ...member(server, replicaId), countedTerm: 7 });
  const five = { ...STEADY, members: [...STEADY.members, slot("d", 4n), slot("e", 5n)] };
  const swap = { removed: member("c", 3n), added: member("c", 33n) };
  const held = { freeze: freeze(0, 0) };
  const here = { a: leader(9, "frozen"), b: follower(2n, 9), c: follower(33n, 9), d: follower(4n, 9) };
  expect(due(observed(here, held), 0, five, swap).due).toBe("settle");
  const gone = { ...follower(NO_REPLICA, -1), status: "not-member" } as const;
  expect(due(observed({ ...here, e: gone }, held), 0, five, swap).due).toBe("store-joint");
  const fewer = { ...here, b: gone, d: gone, e: gone };
  expect(due(observed(fewer, held), 0, five, swap)).toEqual({
    due: "settle",
    why: "most of the new ensemble is gone",
  });
});

test("the removed leader itself may be frozen out; the members that stay must hold its head", () => {
  const swap = { removed: member("a", 1n), added: member("d", 4n) };
  const all = { a: leader(9, "frozen"), b: follower(2n, 9), c: follower(3n, 8), d: follower(4n, 9) };
  expect(due(observed(all, { freeze: freeze(0, 0) }), 0, STEADY, swap).due).toBe("settle");
  const step = due(observed({ ...all, c: follower(3n, 9) }, { freeze: freeze(0, 0) }), 0, STEADY, swap);
  expect(step.due === "store-joint" && step.next.members.map(({ server }) => server)).toEqual(["d", "b", "c"]);
});

test("a freeze is renewed in time, given up after a while, and begun again once it has lapsed", () => {
  const late = { a: leader(9, "frozen"), b: follower(2n, 9), d: follower(4n, 8) };
  const at = (now: number, of: Freeze) => due(observed(late, { freeze: of }), now).due;
  expect(at(FREEZE_RENEW_MS - 1, freeze(0, 0))).toBe("settle");
  expect(at(FREEZE_RENEW_MS, freeze(0, 0))).toBe("freeze");
  expect(at(FREEZE_LAPSE_MS, freeze(0, 0))).toBe("catch-up");
  expect(at(FREEZE_TOTAL_MS_MAX, freeze(0, FREEZE_TOTAL_MS_MAX - 1))).toBe("thaw");
  expect(freezeLapsed(5, 5 + FREEZE_LAPSE_MS - 1)).toBe(false);
  expect(freezeLapsed(5, 5 + FREEZE_LAPSE_MS)).toBe(true);
});

test("the joint document holds both ensembles, a new term and no leader", () => {
  const joint = jointDocument(STEADY, SWAP);
  expect(joint).toMatchObject({ term: T + 1, leader: undefined, formerMembers: STEADY.members });
  expect(joint.members).toEqual([slot("a", 1n), slot("b", 2n), { ...slot("d", 4n), countedTerm: NO_TERM }]);
  expect(() => jointDocument(joint, SWAP)).toThrow("one change in doubt");
});

test("after any crash: what is stored says what is due", () => {
  const nothing = observed({}, { observing: false });
  expect(due(nothing).due).toBe("observe");
  const joint = jointDocument(STEADY, SWAP);
  expect(due(nothing, 0, joint).due).toBe("elect");
  expect(due(nothing, 0, nextTerm(joint))).toEqual({ due: "elect" });
  const done = resultDocument(joint, member("b", 2n));
  expect(due(nothing, 0, done)).toMatchObject({ due: "forget" });
  expect(due(nothing, 0, STEADY, { ...SWAP, removed: member("c", 33n) })).toMatchObject({ due: "forget" });
  expect(due(nothing, 0, STEADY, { ...SWAP, removed: member("f", 3n) })).toMatchObject({ due: "forget" });
  expect(due(nothing, 0, STEADY, { removed: SWAP.removed, added: member("b", 22n) })).toMatchObject({ due: "forget" });
});

test("turning round exchanges the roles under the joint rule, again and again", () => {
  const joint = jointDocument(STEADY, SWAP);
  const round = turnedRound(joint);
  expect(round).toMatchObject({ term: T + 2, members: joint.formerMembers, formerMembers: joint.members });
  expect(turnedRound(round)).toMatchObject({ members: joint.members, formerMembers: joint.formerMembers });
  expect(resultDocument(round, member("a", 1n)).pendingDeletes).toEqual([member("d", 4n)]);
  expect(() => turnedRound(STEADY)).toThrow("no change");
});

test("the result ends the change; the removed copy waits, but not one whose server has a new id", () => {
  const done = resultDocument(jointDocument(STEADY, SWAP), member("d", 4n));
  expect(done).toMatchObject({ leader: member("d", 4n), formerMembers: [], pendingDeletes: [member("c", 3n)] });
  expect(deletedDocument(done, member("c", 3n)).pendingDeletes).toEqual([]);
  const reentry = jointDocument(STEADY, { removed: member("c", 3n), added: member("c", 33n) });
  expect(resultDocument(reentry, member("a", 1n)).pendingDeletes).toEqual([]);
  const waiting = { ...STEADY, pendingDeletes: [member("d", 40n)] };
  expect(resultDocument(jointDocument(waiting, SWAP), member("a", 1n)).pendingDeletes).toEqual([member("c", 3n)]);
  expect(() => resultDocument(jointDocument(STEADY, SWAP), member("c", 3n))).toThrow("the leader is a member");
});

test("the removed copy is deleted only once every member has acked the new leader's own-term entry", () => {
  const done = { ...resultDocument(jointDocument({ ...STEADY, term: T - 1 }, SWAP), member("a", 1n)), term: T };
  const all = { a: leader(9), b: follower(2n, 9), d: follower(4n, 9) };
  expect(deletable(done, observed(all))).toEqual([member("c", 3n)]);
  expect(deletable(done, observed({ ...all, d: follower(4n, 8) }))).toEqual([]);
  expect(deletable(done, observed({ ...all, d: follower(44n, 9) }))).toEqual([]);
  expect(deletable(done, observed({ ...all, a: leader(9, "becoming-leader") }))).toEqual([]);
  expect(deletable(done, observed({ a: all.a, b: all.b }))).toEqual([]);
  expect(deletable(jointDocument(done, { removed: member("b", 2n), added: member("e", 5n) }), observed(all))).toEqual(
    [],
  );
  expect(deletable(done, observed({ ...all, b: { ...follower(2n, NO_OFFSET), head: EMPTY_HEAD } }))).toEqual([]);
});
