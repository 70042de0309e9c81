/** Each checker of a simulated cluster finds what it is there to find, and nothing where all is well. */
import { expect, test } from "bun:test";
import { utf8 } from "../../src/lib/bytes.ts";
import { EMPTY_HEAD, type Head, type LogEntry } from "../../src/model/ids.ts";
import type { BecomeLeaderRequest } from "../../src/model/peer-messages.ts";
import type { ReplicaLog } from "../../src/ports.ts";
import { entryCrc } from "../../src/wire/entry-crc.ts";
import { ShardInvariants } from "./shard-invariants.ts";

const SERVERS = ["a", "b", "c"] as const;
const IDS = { a: 1n, b: 2n, c: 3n } as const;
const MEMBERS = SERVERS.map((server) => ({ server, replicaId: IDS[server] }));
type Server = (typeof SERVERS)[number];

/** Three replicas of one shard, in term 1, and what the checkers have found. */
class Story {
  readonly found: string[] = [];
  readonly shard = new ShardInvariants(7, ({ checker }) => this.found.push(checker));

  constructor() {
    this.shard.stored = { term: 1, leader: undefined, members: MEMBERS, formerMembers: [] };
    for (const server of SERVERS) this.shard.created(server, log(IDS[server]));
    for (const server of SERVERS) this.shard.promised(server, 1, EMPTY_HEAD);
  }

  lead(server: Server, term: number, members = MEMBERS): void {
    this.shard.becomeLeaderAsked(server, { term, members } as unknown as BecomeLeaderRequest);
    this.shard.led(server, term);
    for (const follower of SERVERS) if (follower !== server) this.shard.acked(follower, term, -1);
  }

  append(server: Server, entry: LogEntry): void {
    this.shard.appended(server, this.shard.appending(server, entry)!, entry.term);
  }

  apply(server: Server, { offset, term }: LogEntry, hash = 0n, versionId = offset): void {
    this.shard.applied(server, { offset, term, versionId }, hash, 0);
  }
}

function log(replicaId: bigint, head: Head = EMPTY_HEAD, promise = 1): ReplicaLog {
  const place = { base: EMPTY_HEAD, released: -1, head };
  return { shard: 7, replicaId, mintedTerm: 1, promise, led: -1, ...place, damage: undefined, ended: "" };
}

function entry(offset: number, term = 1, value = "x"): LogEntry {
  return { term, offset, timestamp: 1, value: utf8(value) };
}

function headOf(...entries: readonly LogEntry[]): Head {
  let head = EMPTY_HEAD;
  for (const one of entries) head = { term: one.term, offset: one.offset, crc: entryCrc(head.crc, one) };
  return head;
}

test("a story in which all is well", () => {
  const story = new Story();
  story.lead("a", 1);
  for (const offset of [0, 1]) {
    for (const server of ["a", "b"] as const) story.append(server, entry(offset));
    story.shard.acked("b", 1, offset);
    story.apply("a", entry(offset));
  }
  story.apply("b", entry(0));
  story.shard.stored = { ...story.shard.stored, term: 2 };
  for (const server of ["b", "c"] as const) {
    story.shard.newTermAsked(server, 2);
    story.shard.promised(server, 2, server === "b" ? headOf(entry(0), entry(1)) : EMPTY_HEAD);
  }
  story.shard.fenced("b", 2, IDS.b, { ...headOf(entry(0), entry(1)) });
  story.lead("b", 2);
  story.append("b", entry(2, 2));
  story.shard.installed("c", headOf(entry(0), entry(1), entry(2, 2)));
  story.apply("b", entry(1));
  story.apply("b", entry(2, 2));
  story.shard.clientAcked(2);
  story.shard.opened("b", 2, log(IDS.b, headOf(entry(0), entry(1), entry(2, 2)), 2));
  expect(story.found).toEqual([]);
});

const BROKEN: Readonly<Record<string, (story: Story) => void>> = {
  NoLogDivergence: (story) => {
    story.append("a", entry(0, 1, "x"));
    story.append("b", entry(0, 1, "y"));
  },
  NoLossOfConfirmedWrite: (story) => {
    story.append("a", entry(0, 1));
    story.apply("a", entry(0, 1));
    story.shard.promised("b", 2, EMPTY_HEAD);
    story.append("b", entry(0, 2));
    story.apply("b", entry(0, 2));
  },
  DurableOnMajority: (story) => {
    story.lead("a", 1);
    story.append("a", entry(0));
    story.apply("a", entry(0));
  },
  LeaderCompleteness: (story) => {
    story.append("a", entry(0));
    story.apply("a", entry(0));
    story.shard.stored = { ...story.shard.stored, term: 2 };
    for (const server of ["b", "c"] as const) story.shard.promised(server, 2, EMPTY_HEAD);
    story.lead("b", 2);
  },
  BothMajorities: (story) => {
    story.shard.stored = { ...story.shard.stored, term: 2 };
    story.shard.promised("b", 2, EMPTY_HEAD);
    story.lead("b", 2);
  },
  LegalLeader: (story) => {
    story.lead("a", 1);
    story.lead("b", 1);
  },
  LegalEnsemble: (story) => story.lead("a", 1, MEMBERS.slice(0, 2)),
  TermIsStoredFirst: (story) => story.shard.newTermAsked("a", 2),
  Monotonic: (story) => {
    story.append("a", entry(0));
    story.shard.opened("a", 2, log(IDS.a));
  },
  FenceIsABarrier: (story) => {
    const made = story.shard.appending("a", entry(0))!;
    story.shard.promised("a", 2, EMPTY_HEAD);
    story.shard.appended("a", made, 1);
  },
  AckIsVerified: (story) => {
    story.shard.appending("b", entry(0));
    story.shard.acked("b", 1, 0);
  },
  AppliedIsDurable: (story) => {
    story.shard.appending("a", entry(0));
    story.apply("a", entry(0));
  },
  StateIsOne: (story) => {
    for (const server of ["a", "b"] as const) story.append(server, entry(0));
    story.apply("a", entry(0), 1n);
    story.apply("b", entry(0), 2n);
  },
  OwnTermEntryIsDue: (story) => {
    story.shard.becomeLeaderAsked("a", { term: 1, members: MEMBERS } as unknown as BecomeLeaderRequest);
    story.shard.led("a", 1);
    story.shard.appending("a", entry(0));
  },
  EndedIdCounts: (story) => {
    story.shard.diskFault("b", true);
    story.shard.opened("b", 2, log(IDS.b));
    story.shard.fenced("b", 1, IDS.b, EMPTY_HEAD);
  },
  NoFalseDamage: (story) => story.shard.ended("a", "its checksum is wrong"),
  AckIsCommitted: (story) => story.shard.clientAcked(0),
};

for (const [checker, tell] of Object.entries(BROKEN)) {
  test(`found: ${checker}`, () => {
    const story = new Story();
    tell(story);
    expect(story.found[0]).toBe(checker);
  });
}

test("an entry of an earlier term is not committed by counting copies: one of the leader's term must lie behind it", () => {
  const story = new Story();
  for (const server of SERVERS) story.append(server, entry(0));
  story.shard.stored = { ...story.shard.stored, term: 2 };
  for (const server of SERVERS) story.shard.promised(server, 2, headOf(entry(0)));
  story.lead("a", 2);
  story.apply("a", entry(0));
  expect(story.found).toEqual(["DurableOnMajority"]);
});

test("what a log has refused may be made anew, unless another has it", () => {
  const alone = new Story();
  alone.shard.dropped("a", alone.shard.appending("a", entry(0, 1, "x"))!);
  alone.append("a", entry(0, 1, "y"));
  expect(alone.found).toEqual([]);
  const pushed = new Story();
  const made = pushed.shard.appending("a", entry(0, 1, "x"))!;
  pushed.append("b", entry(0, 1, "x"));
  pushed.shard.dropped("a", made);
  pushed.append("a", entry(0, 1, "y"));
  expect(pushed.found[0]).toBe("NoLogDivergence");
  const late = new Story();
  late.shard.dropped("a", late.shard.appending("a", entry(0, 1, "x"))!);
  late.append("a", entry(0, 1, "y"));
  late.append("b", entry(0, 1, "x"));
  expect(late.found[0]).toBe("NoLogDivergence");
});

test("what a damaged disk has lost is no violation, and what it had acked before still counts", () => {
  const story = new Story();
  story.lead("a", 1);
  for (const server of ["a", "b"] as const) story.append(server, entry(0));
  story.shard.diskFault("b", true);
  story.shard.opened("b", 2, log(IDS.b, EMPTY_HEAD, -1));
  story.apply("a", entry(0));
  expect(story.found).toEqual([]);
});

test("an id that begins on a disk without its last stamp may end at the next word of that stamp", () => {
  const story = new Story();
  story.shard.ended("b", "deleted");
  story.found.length = 0;
  story.shard.created("b", log(4n), true);
  story.shard.ended("b", "it is an older copy");
  story.shard.diskFault("c", true);
  story.shard.opened("c", 2, log(5n), true);
  story.shard.ended("c", "it is an older copy");
  expect(story.found).toEqual([]);
  story.shard.created("b", log(6n));
  story.shard.ended("b", "it is an older copy");
  expect(story.found).toEqual(["NoFalseDamage"]);
});

test("an id that lives on after its disk was damaged has all that it had; one that ends, for whatever reason, need not", () => {
  const damaged = new Story();
  damaged.append("b", entry(0));
  damaged.shard.diskFault("b", false);
  damaged.shard.opened("b", 2, log(IDS.b, headOf(entry(0)), 0));
  damaged.shard.opened("b", 3, log(IDS.b));
  expect(damaged.found).toEqual(["Monotonic", "Monotonic"]);
  const ended = new Story();
  ended.shard.diskFault("b", false);
  ended.shard.opened("b", 2, { ...log(IDS.b), ended: "its checksum is wrong" });
  ended.shard.deleteAsked("c");
  ended.shard.ended("c", "deleted");
  expect(ended.found).toEqual([]);
});

test("a late leader of an earlier term needs only what was committed before its term; a late commit is known to later leaders", () => {
  const story = new Story();
  for (const server of SERVERS) story.append(server, entry(0));
  story.lead("a", 1);
  story.apply("a", entry(0));
  story.shard.stored = { ...story.shard.stored, term: 3 };
  for (const server of ["b", "c"] as const) story.shard.promised(server, 3, headOf(entry(0)));
  story.lead("b", 3);
  for (const server of ["b", "c"] as const) story.append(server, entry(1, 3));
  story.apply("b", entry(1, 3));
  story.shard.promised("a", 2, headOf(entry(0)));
  story.lead("a", 2);
  expect(story.found).toEqual([]);
  story.append("a", entry(1, 2));
  story.apply("a", entry(1, 2));
  expect(story.found).toContain("NoLossOfConfirmedWrite");
});

test("an answer to a request of an election that is over is nobody's vote", () => {
  const story = new Story();
  story.shard.diskFault("b", true);
  story.shard.opened("b", 2, log(IDS.b));
  story.shard.stored = { ...story.shard.stored, leader: "a" };
  story.shard.fenced("b", 1, IDS.b, EMPTY_HEAD);
  story.shard.stored = { ...story.shard.stored, term: 2, leader: undefined };
  story.shard.fenced("b", 1, IDS.b, EMPTY_HEAD);
  expect(story.found).toEqual([]);
  story.shard.fenced("b", 2, IDS.b, EMPTY_HEAD);
  expect(story.found).toEqual(["EndedIdCounts"]);
});
