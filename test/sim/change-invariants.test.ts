/** The checkers of changes of ensembles, of results and deletions find what they are there to find, and nothing else. */
import { expect, test } from "bun:test";
import { utf8 } from "../../src/lib/bytes.ts";
import { EMPTY_HEAD } from "../../src/model/ids.ts";
import type { BecomeLeaderRequest } from "../../src/model/peer-messages.ts";
import { ChangeInvariants, type ShardDocument } from "./change-invariants.ts";
import { ShardInvariants } from "./shard-invariants.ts";

const SHARD = 7;
const SERVERS = ["a", "b", "c", "d"] as const;
type Server = (typeof SERVERS)[number];
const IDS: Readonly<Record<Server, bigint>> = { a: 1n, b: 2n, c: 3n, d: 4n };
const slots = (...servers: readonly Server[]) => servers.map((server) => ({ server, replicaId: IDS[server] }));
const leaderAt = (server: Server) => ({ server, publicAddress: `${server}:1` });
const FIRST: ShardDocument = {
  term: 1,
  leader: leaderAt("a"),
  members: slots("a", "b", "c"),
  formerMembers: [],
  observers: slots("d"),
  pendingDeletes: [],
};
const JOINT: ShardDocument = {
  ...FIRST,
  term: 2,
  leader: undefined,
  members: slots("a", "b", "d"),
  formerMembers: slots("a", "b", "c"),
  observers: [],
};
const TURNED: ShardDocument = { ...JOINT, term: 3, members: JOINT.formerMembers, formerMembers: JOINT.members };
const DONE: ShardDocument = { ...JOINT, leader: leaderAt("a"), formerMembers: [], pendingDeletes: slots("c") };

/** Three members and a copy that was filled up, led by the first in term 1, which all but `late` hold an entry of. */
class Story {
  readonly found: string[] = [];
  readonly shard = new ShardInvariants(SHARD, () => {});
  readonly changes = new ChangeInvariants(
    () => this.shard,
    ({ checker }) => this.found.push(checker),
  );

  constructor(late: readonly Server[] = []) {
    for (const server of SERVERS) {
      const replica = { shard: SHARD, replicaId: IDS[server], mintedTerm: 1, promise: 1, led: -1 };
      const head = { base: EMPTY_HEAD, released: -1, head: EMPTY_HEAD, damage: undefined, ended: "" };
      this.shard.created(server, { ...replica, ...head });
    }
    this.lead(1);
    for (const server of SERVERS) if (!late.includes(server)) this.append(server, 0, 1);
    this.changes.stored(SHARD, FIRST);
    this.changes.frozen(SHARD, 1, 0);
  }

  lead(term: number): void {
    this.shard.becomeLeaderAsked("a", { term } as unknown as BecomeLeaderRequest);
    this.shard.led("a", term);
  }

  append(server: Server, offset: number, term: number): void {
    const made = this.shard.appending(server, { term, offset, timestamp: 1, value: utf8("x") })!;
    this.shard.appended(server, made, term);
  }

  store(...documents: readonly ShardDocument[]): this {
    for (const document of documents) this.changes.stored(SHARD, document);
    return this;
  }

  delete(server: Server, replicaId = IDS[server]): void {
    this.changes.deleted(server, { namespace: "", shard: SHARD, term: 2, replicaId }, IDS[server]);
  }
}

test("a change, turned round, begun again and led to its end, with its removed copy deleted", () => {
  const story = new Story();
  story.store(JOINT, TURNED, { ...JOINT, term: 4 });
  story.lead(4);
  story.store({ ...DONE, term: 4 });
  for (const server of ["a", "b", "d"] as const) story.append(server, 1, 4);
  story.delete("c");
  story.shard.ended("c", "deleted");
  story.store({ ...DONE, term: 4, pendingDeletes: [] });
  story.changes.assigned({
    namespaces: new Map([["default", [{ shard: SHARD, leader: "a:1", minHashInclusive: 0, maxHashInclusive: 1 }]]]),
    allowedAuthorities: [],
  });
  expect(story.found).toEqual([]);
});

test("an empty slot may be filled", () => {
  const story = new Story();
  const empty = { ...FIRST, members: [...slots("a", "b"), { server: "c", replicaId: 0n }] };
  story.changes.forget(SHARD);
  expect(story.store(empty, FIRST).found).toEqual([]);
});

test("EnsembleChange: the old ensemble is not stored with the new one, is dropped, or another one comes in between", () => {
  expect(new Story().store({ ...JOINT, formerMembers: [] }).found).toEqual(["EnsembleChange"]);
  expect(new Story().store(JOINT, { ...FIRST, term: 3, leader: undefined }).found).toEqual(["EnsembleChange"]);
  expect(new Story().store({ ...JOINT, term: 1 }).found).toContain("EnsembleChange");
  const filledTwice = { ...FIRST, members: [...slots("a", "b"), { server: "c", replicaId: 9n }] };
  expect(new Story().store(filledTwice).found).toEqual(["EnsembleChange"]);
});

test("SettledFirst: a new member does not hold the frozen head, or nobody was frozen", () => {
  expect(new Story(["d"]).store(JOINT).found).toEqual(["SettledFirst"]);
  const hasty = new Story();
  hasty.store({ ...FIRST, term: 2, leader: undefined }, { ...JOINT, term: 3 });
  expect(hasty.found).toEqual(["SettledFirst"]);
});

test("ResultIsStoredLast: a leader is stored, or told of, that has not led", () => {
  expect(new Story().store({ ...FIRST, term: 2 }).found).toEqual(["ResultIsStoredLast"]);
  const told = new Story();
  told.changes.assigned({
    namespaces: new Map([["default", [{ shard: SHARD, leader: "b:1", minHashInclusive: 0, maxHashInclusive: 1 }]]]),
    allowedAuthorities: [],
  });
  expect(told.found).toEqual(["ResultIsStoredLast"]);
});

test("RemovedCopyIsNeeded: a copy is deleted or struck off too early, or is a member", () => {
  const early = new Story();
  early.store(JOINT);
  early.lead(2);
  early.store(DONE).delete("c");
  expect(early.found).toEqual(["RemovedCopyIsNeeded"]);
  const member = new Story();
  for (const server of ["a", "b", "c"] as const) member.append(server, 1, 2);
  member.delete("b");
  expect(member.found).toEqual(["RemovedCopyIsNeeded"]);
  const struck = new Story();
  struck.store(JOINT);
  struck.lead(2);
  struck.store(DONE, { ...DONE, pendingDeletes: [] });
  expect(struck.found).toEqual(["RemovedCopyIsNeeded"]);
});
