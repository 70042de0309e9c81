/**
 * A reference server's answers, row by row as semantics.md §8.1, §8.2 and §8.6 have them: a reference peer that were
 * kinder than the real one would prove nothing.
 */
import { describe, expect, test } from "bun:test";
import type { LogEntry, Offset, Term } from "../../../src/model/ids.ts";
import type { Ack, Append, BecomeLeaderRequest, NewTermRequest } from "../../../src/model/peer-messages.ts";
import { Refusal, Unreachable } from "../../../src/model/refusal.ts";
import type { AppendReceiver, Followers } from "../../../src/ports.ts";
import { SimDisk } from "../disk.ts";
import { SimNode } from "../node.ts";
import { SimRandom } from "../random.ts";
import { Scheduler } from "../scheduler.ts";
import { Trace } from "../trace.ts";
import { ReferenceDataServer } from "./data-server.ts";
import { NAMESPACE, OPTIONS } from "./registers.ts";

/** A control entry that notes the checksum. */
const RECORD_CHECKSUM = new Uint8Array([0x12, 2, 0x12, 0]);
const SHARD = { namespace: NAMESPACE, shard: 0 };

class Fixture {
  readonly scheduler = new Scheduler({ trace: new Trace({ seed: 1 }) });
  readonly node = new SimNode(this.scheduler, "s1");
  readonly disk = new SimDisk(this.node, new SimRandom(1));
  /** What Truncate calls of this server ask of its followers. */
  readonly truncations: { readonly server: string; readonly keep: Offset }[] = [];
  server = this.#open();

  /** Ends the process and starts another. */
  restart(): void {
    this.node.end("power");
    this.server = this.#open();
  }

  /** The answer, or the reason of the refusal. */
  answer<T>(ask: (server: ReferenceDataServer) => Promise<T>): T | string {
    try {
      return this.scheduler.complete("call", () => ask(this.server), 60_000);
    } catch (error) {
      if (error instanceof Refusal) return error.reason;
      throw error;
    }
  }

  newTerm(term: Term) {
    const request: NewTermRequest = {
      ...{ ...SHARD, term, options: OPTIONS, replicaId: undefined, countedTerm: undefined },
      ...{ confirmedStamp: undefined, adopt: undefined },
    };
    const answer = this.answer((server) => server.newTerm(request));
    return typeof answer === "string" ? answer : answer.head;
  }

  becomeLeader(term: Term, request: Partial<BecomeLeaderRequest> = {}) {
    const ours = { replicaId: undefined, expectedHead: undefined, members: undefined, formerMembers: undefined };
    const all = { ...SHARD, term, replicationFactor: 1, followers: [], features: [], ...ours, ...request };
    return this.answer((server) => server.becomeLeader(all));
  }

  truncate(term: Term, keep: Offset) {
    const request = { ...SHARD, term, keep: { term: 0, offset: keep }, expectedHead: undefined, replicaId: undefined };
    const answer = this.answer((server) => server.truncate(request));
    return typeof answer === "string" ? answer : answer.head;
  }

  status() {
    const answer = this.answer((server) => server.getStatus({ shard: 0 }));
    return typeof answer === "string" ? answer : `${answer.status} ${answer.headOffset}/${answer.commitOffset}`;
  }

  /** Opens a stream, sends this, and answers the acks and how it ended. */
  replicate(term: Term, ...appends: readonly Append[]): { acks: Ack[]; ended: string } {
    const acks: Ack[] = [];
    const left = [...appends];
    const stream: AppendReceiver = {
      next: async () => {
        await this.scheduler.sleep(100);
        return left.shift();
      },
      send: (ack) => void acks.push(ack),
    };
    const ended = this.answer((server) => server.replicate({ ...SHARD, term }, stream));
    return { acks, ended: ended ?? "" };
  }

  #open(): ReferenceDataServer {
    const life = this.node.start();
    const followers: Followers = {
      truncate: async (server, { keep, term }) => {
        this.truncations.push({ server, keep: keep.offset });
        return { head: { term, offset: keep.offset }, entryTerm: undefined, headCrc: undefined };
      },
      replicate: () => ({
        send: () => true,
        drained: async () => {},
        next: async () => {
          await this.scheduler.sleep(1_000_000);
          throw new Unreachable("nobody there");
        },
        cancel: () => {},
      }),
      sendSnapshot: () => {
        throw new Unreachable("nobody there");
      },
      newTerm: () => Promise.reject(new Unreachable("nobody there")),
      getStatus: () => Promise.reject(new Unreachable("nobody there")),
    };
    const ports = { clock: life.clock, followers, disk: this.disk.mount(life) };
    return this.scheduler.complete("open", async () => {
      const server = await ReferenceDataServer.open(ports);
      await server.handshake({ instanceId: "cluster", stamp: undefined, confirmedStamp: undefined });
      return server;
    });
  }
}

function entry(offset: Offset, term: Term): LogEntry {
  return { term, offset, timestamp: 1, value: RECORD_CHECKSUM };
}

function append(term: Term, carried: LogEntry | undefined, commitOffset: Offset = -1): Append {
  return {
    ...{ term, entry: carried, commitOffset, previousEntryCrc: 0, cumulativeAcksSupported: false },
    ...{ previousTerm: undefined, previousCrc: undefined, readRound: undefined },
    ...{ ackedOffset: undefined, replicaId: undefined },
  };
}

/** A follower in `term` with entries up to `head` of that term. */
function followerOf(term: Term, head: Offset): Fixture {
  const fixture = new Fixture();
  fixture.newTerm(term);
  fixture.replicate(term, ...Array.from({ length: head + 1 }, (_, offset) => append(term, entry(offset, term))));
  return fixture;
}

test("a server belongs to the first cluster that greets it, for ever", () => {
  const fixture = new Fixture();
  const greet = (instanceId: string) =>
    fixture.answer((server) => server.handshake({ instanceId, stamp: 4, confirmedStamp: 0 }));
  expect(greet("cluster")).toEqual({ status: "ALREADY_BOUND", features: ["DB_CHECKSUM"], stamp: undefined });
  fixture.restart();
  expect(greet("another")).toMatchObject({ status: "MISMATCH" });
});

describe("before anything has touched the shard", () => {
  test("it is unknown, also after a start with stored data", () => {
    const fixture = new Fixture();
    expect(fixture.status()).toBe("NODE_IS_NOT_MEMBER");
    expect(fixture.becomeLeader(0)).toBe("INVALID_STATUS");
    const known = followerOf(3, 2);
    known.restart();
    expect(known.status()).toBe("NODE_IS_NOT_MEMBER");
    expect(known.newTerm(3)).toEqual({ term: 3, offset: 2, crc: undefined });
  });

  test("a stream to nothing is refused, a stream to a stored term is taken", () => {
    expect(new Fixture().replicate(-1, append(-1, entry(0, 0))).ended).toBe("NODE_IS_NOT_MEMBER");
    const known = followerOf(3, 2);
    known.restart();
    expect(known.replicate(3, append(3, entry(3, 3))).acks.map(({ offset }) => offset)).toEqual([3]);
  });
});

describe("NewTerm", () => {
  test("a lower term is refused, the same one is fine while fenced, and not while it leads", () => {
    const fixture = new Fixture();
    fixture.newTerm(5);
    expect(fixture.newTerm(4)).toBe("INVALID_TERM");
    expect(fixture.newTerm(5)).toEqual({ term: -1, offset: -1, crc: undefined });
    expect(fixture.becomeLeader(5)).toBeUndefined();
    expect(fixture.newTerm(5)).toBe("INVALID_STATUS");
    expect(fixture.newTerm(6)).toEqual({ term: -1, offset: -1, crc: undefined });
  });

  test("a follower takes the same term again, is fenced by it, and may be truncated once more", () => {
    const fixture = followerOf(5, 3);
    expect(fixture.status()).toBe("FOLLOWER 3/-1");
    expect(fixture.truncate(5, 2)).toBe("INVALID_STATUS");
    expect(fixture.newTerm(5)).toEqual({ term: 5, offset: 3, crc: undefined });
    expect(fixture.truncate(5, 2)).toEqual({ term: 5, offset: 2 });
  });

  test("no field of ours is answered", () => {
    const fixture = new Fixture();
    const ours = { replicaId: 7n, countedTerm: 3, confirmedStamp: 9, adopt: false };
    const answer = fixture.answer((server) => server.newTerm({ ...SHARD, term: 1, options: OPTIONS, ...ours }));
    expect(answer).toMatchObject({ replicaId: undefined, ended: undefined, mintedTerm: undefined });
  });
});

describe("Truncate", () => {
  test("answers the request's term, whatever the entry's", () => {
    const fixture = followerOf(3, 4);
    fixture.newTerm(6);
    expect(fixture.truncate(6, 1)).toEqual({ term: 6, offset: 1 });
    expect(fixture.newTerm(6)).toEqual({ term: 3, offset: 1, crc: undefined });
  });

  test("an id above the head is refused, and yet it follows: a second one needs another NewTerm", () => {
    const fixture = followerOf(3, 4);
    fixture.newTerm(6);
    expect(fixture.truncate(6, 9)).toBe("RESOURCE_UNAVAILABLE");
    expect(fixture.truncate(6, 1)).toBe("INVALID_STATUS");
  });

  test("committed entries are cut", () => {
    const fixture = followerOf(3, 4);
    fixture.replicate(3, append(3, undefined, 4));
    expect(fixture.status()).toBe("FOLLOWER 4/4");
    fixture.newTerm(6);
    expect(fixture.truncate(6, 0)).toEqual({ term: 6, offset: 0 });
  });

  test("of its own term makes a leader a follower", () => {
    const fixture = new Fixture();
    fixture.newTerm(5);
    fixture.becomeLeader(5);
    expect(fixture.truncate(4, -1)).toBe("INVALID_TERM");
    expect(fixture.status()).toBe("LEADER -1/-1");
    expect(fixture.truncate(5, -1)).toEqual({ term: 5, offset: -1 });
    expect(fixture.status()).toBe("FOLLOWER -1/-1");
  });
});

describe("Replicate", () => {
  test("acks each entry, and a held one again without reading it", () => {
    const fixture = followerOf(3, 1);
    const other: LogEntry = { ...entry(1, 3), timestamp: 99 };
    const { acks } = fixture.replicate(3, append(3, other, 1), append(3, entry(2, 3)));
    expect(acks.map(({ offset }) => offset)).toEqual([1, 2]);
    expect(fixture.status()).toBe("FOLLOWER 2/-1");
  });

  test("a message without an entry tells a commit offset, earns no ack, and leaves a fenced replica fenced", () => {
    const fixture = followerOf(3, 1);
    fixture.newTerm(4);
    expect(fixture.replicate(4, append(4, undefined, 0)).acks).toEqual([]);
    expect(fixture.status()).toBe("FENCED 1/0");
  });

  test("a gap and another term end the stream", () => {
    const fixture = followerOf(3, 1);
    expect(fixture.replicate(3, append(3, entry(5, 3))).ended).toBe("UNKNOWN");
    expect(fixture.replicate(3, append(2, entry(2, 2))).ended).toBe("INVALID_TERM");
    expect(fixture.replicate(3, append(-1, entry(2, 3))).ended).toBe("");
  });
});

describe("BecomeLeader", () => {
  test("needs a fenced replica, its very term, no follower of a later term, and no more than RF - 1", () => {
    const fixture = followerOf(3, 1);
    expect(fixture.becomeLeader(3)).toBe("INVALID_STATUS");
    fixture.newTerm(4);
    expect(fixture.becomeLeader(5)).toBe("INVALID_TERM");
    const followers = [{ server: "s2", head: { term: 3, offset: 0 } }];
    expect(fixture.becomeLeader(4, { followers })).toBe("UNKNOWN");
    const later = [{ server: "s2", head: { term: 4, offset: 0 } }];
    expect(fixture.becomeLeader(4, { followers: later, replicationFactor: 3 })).toBe("INVALID_TERM");
  });

  test("a term may be led again after a restart: nothing is marked", () => {
    const fixture = new Fixture();
    fixture.newTerm(4);
    fixture.becomeLeader(4);
    fixture.restart();
    fixture.newTerm(4);
    expect(fixture.becomeLeader(4)).toBeUndefined();
  });

  const cases: readonly [string, Term, Offset, readonly Offset[]][] = [
    ["an empty follower is attached", -1, -1, []],
    ["one of the head's term is attached at its head", 4, 3, []],
    ["one of an earlier term is attached up to where that ends here", 3, 1, []],
    ["one that goes on in an earlier term is cut to where that ends here", 3, 5, [2]],
    ["one of a term that is not here is cut to the entry of the term before", 2, 5, [-1]],
  ];
  test.each(cases)("%s", (_, term, offset, cuts) => {
    // entries 0 … 2 of term 3, 3 and 4 of term 4
    const fixture = followerOf(3, 2);
    fixture.newTerm(4);
    fixture.replicate(4, append(4, entry(3, 4)), append(4, entry(4, 4)));
    fixture.newTerm(5);
    const followers = [{ server: "s2", head: { term, offset } }];
    fixture.becomeLeader(5, { followers, replicationFactor: 3 });
    expect(fixture.truncations.map(({ keep }) => keep)).toEqual([...cuts]);
  });
});

test("a fenced replica that could lead tells no head, whatever it holds", () => {
  const fixture = followerOf(3, 2);
  fixture.restart();
  fixture.newTerm(4);
  expect(fixture.status()).toBe("FENCED -1/-1");
});

test("the files of a snapshot are not read, and nothing is destroyed", () => {
  const fixture = followerOf(3, 2);
  const chunk = {
    ...{ name: "000001.sst", content: new Uint8Array(1), chunkIndex: 0, chunkCount: 1 },
    ...{ last: undefined, replicaId: undefined, rowCount: undefined, stateHash: undefined },
  };
  const send = (term: Term) =>
    fixture.answer((server) => server.sendSnapshot({ ...SHARD, term }, { next: async () => ({ ...chunk, term }) }));
  expect(send(2)).toBe("INVALID_TERM");
  expect(send(3)).toBe("FAILED_PRECONDITION");
  expect(fixture.status()).toBe("FOLLOWER 2/-1");
});

test("DeleteShard of a lower term is refused, else all is gone", () => {
  const fixture = followerOf(3, 2);
  const remove = (term: Term) =>
    fixture.answer((server) => server.deleteShard({ ...SHARD, term, replicaId: undefined }));
  expect(remove(2)).toBe("INVALID_TERM");
  expect(remove(3)).toBeUndefined();
  expect(fixture.status()).toBe("NODE_IS_NOT_MEMBER");
  fixture.restart();
  expect(fixture.newTerm(1)).toEqual({ term: -1, offset: -1, crc: undefined });
});
