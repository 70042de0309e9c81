/** A follower: streams of entries, truncations and snapshots, from leaders that a test plays. */
import { expect, test } from "bun:test";
import {
  NAMESPACE,
  OPTIONS,
  refusal,
  ScriptedLeader,
  SHARD,
  simulated,
  type TestServer,
  type World,
} from "../../test/harness/replica-server.ts";
import { EMPTY_BYTES } from "../lib/bytes.ts";
import {
  FOLLOWER_APPENDING_BYTES_MAX,
  FOLLOWER_APPENDING_ENTRIES_MAX,
  FOLLOWER_KEPT_BYTES_MAX,
} from "../model/limits.ts";
import type { SnapshotChunk } from "../model/peer-messages.ts";
import type { Log } from "../ports.ts";

const place = { namespace: NAMESPACE, shard: SHARD };

test("a stream is answered at once; entries are acked when they are durable and applied when they are committed", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    const leader = new ScriptedLeader().add(1).add(1, "a").add(1, "b");
    const stream = server.stream(1, leader).open(id, -1, 5);
    await world.until(() => stream.acks.length === 1, "the first ack");
    expect(stream.lastAck).toEqual({ offset: -1, readRound: 5, promise: 1 });
    stream.entry(0).entry(1, 0).entry(2, 1);
    await world.until(() => stream.lastAck?.offset === 2, "all acked");
    expect(server.log.replicas()).toMatchObject([{ replicaId: id }]);
    await world.until(() => server.kv.applied.offset === 1, "what is committed is applied");
    expect(await server.status()).toMatchObject({
      status: "FOLLOWER",
      headOffset: 2,
      headTerm: 1,
      headCrc: leader.head(2).crc,
      appliedOffset: 1,
      commitOffset: 1,
      verifiedOffset: 2,
    });
    stream.push({ commitOffset: 2, readRound: 9 });
    await world.until(() => server.kv.applied.offset === 2, "the last one is committed by an Append without an entry");
    expect(stream.lastAck).toEqual({ offset: 2, readRound: 9, promise: 1 });
    stream.close();
    expect(await stream.ended).toBe("ended");
    await server.restart();
    expect(await server.status()).toMatchObject({ status: "FENCED", headOffset: 2, verifiedOffset: -1 });
  }));

test("an entry counts only if the one before is the same, by term and chain; one that is held only if it is the same", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    const old = new ScriptedLeader().add(1).add(1, "a").add(1, "old");
    const first = server.stream(1, old).open(id).entry(0).entry(1).entry(2, 1);
    await world.until(() => first.lastAck?.offset === 2 && server.kv.applied.offset === 1, "the old log");
    await server.newTerm(2, id);
    expect(await first.ended).toBe("RESOURCE_UNAVAILABLE");

    const leader = old.fork(1).add(2).add(2, "b");
    const unread = server.stream(2, leader).open(id).entry(3);
    expect(await unread.ended).toBe("RESOURCE_CONFLICT");
    const held = server.stream(2, leader).open(id).entry(2);
    expect(await held.ended).toBe("RESOURCE_CONFLICT");
    expect(await server.status()).toMatchObject({ headOffset: 2, headTerm: 1, verifiedOffset: -1 });

    const again = server.stream(2, old).open(id).entry(1).entry(2);
    await world.until(() => again.lastAck?.offset === 2, "held entries that are the same are acked unwritten");
    expect(await server.status()).toMatchObject({ headOffset: 2, verifiedOffset: 2 });
  }));

test("a commit offset above what this term's leader has verified applies nothing more, also if the log holds it", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    const leader = new ScriptedLeader().add(1).add(1, "a");
    const first = server.stream(1, leader).open(id).entry(0).entry(1);
    await world.until(() => first.lastAck?.offset === 1, "both are held");
    await server.newTerm(2, id);
    const second = server.stream(2, leader).open(id).push({ commitOffset: 1, readRound: 2 });
    await world.until(() => second.acks.length > 0 && second.lastAck?.readRound === 2, "the round is echoed");
    await world.sleep(100);
    expect(second.lastAck?.offset).toBe(-1);
    expect(server.kv.applied.offset).toBe(-1);
    second.entry(1, 1);
    await world.until(() => server.kv.applied.offset === 1, "verified and committed");
  }));

test("applied entries that the leader does not have stop the replica, with an alarm, and are never cut", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    const leader = new ScriptedLeader().add(1).add(1, "a");
    const first = server.stream(1, leader).open(id).entry(0).entry(1, 1);
    await world.until(() => server.kv.applied.offset === 1, "applied");
    await server.newTerm(2, id);
    const other = server.stream(2, leader.fork(0).add(2, "b")).open(id).entry(1);
    expect(await other.ended).toBe("RESOURCE_UNAVAILABLE");
    expect(server.errors.some((message) => message.startsWith("ALARM"))).toBe(true);
    expect(await refusal(server.newTerm(3, id))).toBe("RESOURCE_UNAVAILABLE");
    expect(() => server.now.replicas.leader(SHARD)).toThrow("another one here");
    expect(first.lastAck?.offset).toBe(1);
  }));

test("behind NewTerm's answer nothing of the old stream is acked, and the head is what it said", () =>
  simulated(async (world) => {
    for (let seed = 0; seed < 30; seed++) {
      const server = await world.server(`server ${seed}`);
      const id = await server.mint(1);
      const leader = new ScriptedLeader().add(1);
      for (let n = 1; n < 20; n++) leader.add(1, `k${n}`);
      const stream = server.stream(1, leader).open(id);
      for (let n = 0; n < 20; n++) stream.entry(n);
      await world.until(() => (stream.lastAck?.offset ?? -1) >= (seed % 4) * 3 - 1, "some are acked");
      const { head } = await server.newTerm(seed % 2 === 0 ? 2 : 1, id);
      const acks = stream.acks.length;
      expect(head).toEqual(leader.head(head.offset));
      expect(stream.lastAck?.offset ?? -1).toBeLessThanOrEqual(head.offset);
      expect(await stream.ended).toBe("RESOURCE_UNAVAILABLE");
      await world.sleep(200);
      expect(stream.acks.length).toBe(acks);
      expect(await server.status()).toMatchObject({ headOffset: head.offset, status: "FENCED", verifiedOffset: -1 });
    }
  }));

test("a stream after one that broke begins behind all that was on its way; one at a time", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    const leader = new ScriptedLeader().add(1).add(1, "a").add(1, "b").add(1, "c");
    const first = server.stream(1, leader).open(id).entry(0).entry(1);
    await world.until(() => first.acks.length > 0, "it is open");
    const second = server.stream(1, leader).open(id);
    expect(await second.ended).toBe("RESOURCE_CONFLICT");
    first.entry(2).break();
    expect(await first.ended).toContain("the stream broke");
    const third = server.stream(1, leader).open(id, first.lastAck?.offset).entry(3, 3);
    await world.until(() => third.lastAck?.offset === 3, "it goes on");
    await world.until(
      () => server.kv.applied.offset === 3,
      "what came on the first one is applied, read back from the log",
    );
  }));

test("a head below what this id has acked is an older copy of the disk: the id ends, durably", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    expect(await server.stream(1).open(id, 4).ended).toBe("NODE_IS_NOT_MEMBER");
    expect(server.log.replicas()[0]?.ended).toContain("older copy");
    await server.restart();
    expect(await server.stream(1).open(id).ended).toBe("NODE_IS_NOT_MEMBER");
    expect((await server.newTerm(2, id)).ended).toContain("older copy");
  }));

test("after a start no stream and no leadership begins before the coordinator was heard; another id is no member", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    await server.restart({ greeted: false });
    expect(await server.stream(1).open(id).ended).toBe("NOT_INITIALIZED");
    expect(await refusal(server.becomeLeader(1, id))).toBe("NOT_INITIALIZED");
    await server.now.handshake({ instanceId: "cluster", stamp: 1, confirmedStamp: 0 });
    expect(await server.stream(1).open(id + 1n).ended).toBe("NODE_IS_NOT_MEMBER");
    expect(await server.stream(2).open(id).ended).toBe("INVALID_TERM");
    const stream = server.stream(1).open(id);
    await world.until(() => stream.acks.length === 1, "it is open");
  }));

test("a full disk ends the stream with what the log says; the follower goes on when there is space", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    const leader = new ScriptedLeader().add(1).add(1, "a", 5_000).add(1, "b", 5_000);
    const stream = server.stream(1, leader).open(id).entry(0);
    await world.until(() => stream.lastAck?.offset === 0, "the first one");
    server.disk.limit(server.disk.usedBytes + 4_000);
    stream.entry(1).entry(2);
    expect(await stream.ended).toBe("RESOURCE_EXHAUSTED");
    expect(await server.status()).toMatchObject({ headOffset: 0, verifiedOffset: 0, ended: "" });
    const tooSoon = server.stream(1, leader).open(id, 0).push({ commitOffset: 2, readRound: 3 });
    await world.until(() => tooSoon.lastAck?.readRound === 3, "it answers rounds");
    expect(tooSoon.lastAck?.offset).toBe(0);
    server.disk.limit();
    tooSoon.entry(1).entry(2, 2);
    await world.until(() => tooSoon.lastAck?.offset === 2 && server.kv.applied.offset === 2, "it has caught up");
  }));

/** A server whose log takes an entry when the test says so. */
async function withSlowLog(world: World) {
  const server = await world.server();
  await server.mint(1);
  server.node.end("power");
  const waiting: (() => void)[] = [];
  const spy = (log: Log): Log =>
    new Proxy(log, {
      get(target, name) {
        const value = Reflect.get(target, name) as unknown;
        if (typeof value !== "function") return value;
        if (name !== "append") return value.bind(target);
        return async (...entry: Parameters<Log["append"]>) => {
          await new Promise<void>((resolve) => waiting.push(resolve));
          return target.append(...entry);
        };
      },
    });
  await server.start({ spy });
  const { replicaId } = await server.newTerm(1, 0n);
  return { server, id: replicaId!, waiting };
}

for (const [what, entries, bytes, expected] of [
  ["entries", FOLLOWER_APPENDING_ENTRIES_MAX + 10, 1, FOLLOWER_APPENDING_ENTRIES_MAX],
  ["bytes", 10, Math.ceil(FOLLOWER_APPENDING_BYTES_MAX / 4), 5],
] as const) {
  test(`a leader is read no further while too many ${what} are on their way to the log`, () =>
    simulated(async (world) => {
      const { server, id, waiting } = await withSlowLog(world);
      const leader = new ScriptedLeader().add(1);
      for (let n = 1; n < entries; n++) leader.add(1, "k", bytes);
      const stream = server.stream(1, leader).open(id);
      for (let n = 0; n < entries; n++) stream.entry(n);
      await world.sleep(100);
      expect(waiting.length).toBe(expected);
      for (let n = 0; n < entries; n++) {
        await world.until(() => waiting.length > 0, "the next one is read");
        waiting.shift()!();
      }
      await world.until(() => stream.lastAck?.offset === entries - 1, "all acked");
    }));
}

test("nothing is acked before the log has synced it, nor applied", () =>
  simulated(async (world) => {
    const { server, id, waiting } = await withSlowLog(world);
    const stream = server.stream(1, new ScriptedLeader().add(1).add(1, "a")).open(id).entry(0).entry(1, 1);
    await world.sleep(1_000);
    expect(stream.lastAck).toMatchObject({ offset: -1 });
    expect(server.kv.applied.offset).toBe(-1);
    for (const release of waiting) release();
    await world.until(() => stream.lastAck?.offset === 1 && server.kv.applied.offset === 1, "acked and applied");
  }));

test("entries past what may be kept are applied from the log, and the leader waits while they are", () =>
  simulated(async (world) => {
    const server = await world.server();
    const id = await server.mint(1);
    const leader = new ScriptedLeader().add(1);
    const entries = 12;
    for (let n = 1; n < entries; n++) leader.add(1, `k${n}`, Math.ceil(FOLLOWER_KEPT_BYTES_MAX / 4));
    const stream = server.stream(1, leader).open(id);
    for (let n = 0; n < entries; n++) stream.entry(n);
    await world.until(() => stream.lastAck?.offset === entries - 1, "all acked, none committed");
    stream.push({ commitOffset: entries - 1, readRound: 2 });
    await world.until(() => server.kv.applied.offset === entries - 1, "all applied");
    expect(server.kv.rowCount).toBe(entries - 1);
  }));

// --- truncation -------------------------------------------------------------------------------------------------

async function withTail(world: World) {
  const server = await world.server();
  const id = await server.mint(1);
  const leader = new ScriptedLeader().add(1).add(1, "a").add(1, "tail").add(1, "tail");
  const stream = server.stream(1, leader).open(id).entry(0).entry(1, 1).entry(2).entry(3);
  await world.until(() => stream.lastAck?.offset === 3 && server.kv.applied.offset === 1, "its log");
  await server.newTerm(2, id);
  const truncate = (to: number, more = {}) =>
    server.now.truncate({
      ...place,
      term: 2,
      keep: { term: 1, offset: to },
      expectedHead: leader.head(3),
      replicaId: id,
      ...more,
    });
  return { server, id, leader, truncate };
}

test("Truncate cuts what it names, answers the entry that is the head now, and the log goes on from there", () =>
  simulated(async (world) => {
    const { server, id, leader, truncate } = await withTail(world);
    expect(await refusal(truncate(2, { expectedHead: leader.head(2) }))).toBe("RESOURCE_CONFLICT");
    expect(await refusal(truncate(2, { replicaId: 5n }))).toBe("NODE_IS_NOT_MEMBER");
    expect(await refusal(truncate(2, { term: 1 }))).toBe("INVALID_TERM");
    expect(await truncate(2)).toEqual({
      head: { term: 2, offset: 2 },
      entryTerm: 1,
      headCrc: leader.head(2).crc,
    });
    expect(await truncate(1, { expectedHead: leader.head(2) })).toMatchObject({ head: { offset: 1 } });
    const next = leader.fork(1).add(2).add(2, "b");
    const stream = server.stream(2, next).open(id).entry(2, 2).entry(3, 3);
    await world.until(() => server.kv.applied.offset === 3, "the new entries");
    expect(stream.lastAck?.offset).toBe(3);
    stream.close();
    await stream.ended;
    expect(await refusal(truncate(2, { expectedHead: next.head(3) }))).toBe("INVALID_STATUS");
    await server.restart();
    expect(await server.status()).toMatchObject({ headOffset: 3, headTerm: 2, headCrc: next.head(3).crc });
  }));

test("Truncate below what is applied is an alarm", () =>
  simulated(async (world) => {
    const { server, id, truncate } = await withTail(world);
    expect(await refusal(truncate(0))).toBe("FAILED_PRECONDITION");
    expect(server.errors.some((message) => message.startsWith("ALARM"))).toBe(true);
    expect(await refusal(server.newTerm(3, id))).toBe("RESOURCE_UNAVAILABLE");
    await server.restart();
    expect(await server.status()).toMatchObject({ headOffset: 3 });
  }));

// --- snapshots --------------------------------------------------------------------------------------------------

const CHUNK: SnapshotChunk = {
  term: 2,
  name: "state",
  content: EMPTY_BYTES,
  chunkIndex: 0,
  chunkCount: 1,
  last: undefined,
  replicaId: undefined,
  rowCount: undefined,
  stateHash: undefined,
};

/** The state of a leader after `keys` writes, in chunks as it would send them. */
async function snapshotOf(from: TestServer, replicaId: bigint, leader: ScriptedLeader): Promise<SnapshotChunk[]> {
  const sender = await from.kv.send();
  const chunks: SnapshotChunk[] = [{ ...CHUNK, last: leader.head(sender.applied.offset), replicaId }];
  for (let piece = await sender.next(); piece !== undefined; piece = await sender.next()) {
    chunks.push({ ...CHUNK, content: piece });
  }
  chunks.push({ ...CHUNK, rowCount: sender.rowCount, stateHash: sender.stateHash });
  sender.release();
  return chunks;
}

/** A source with entries 0 to 5 applied, and a follower with 0 to 1 and a tail, both in term 2. */
async function sourceAndFollower(world: World) {
  const source = await world.server("source");
  const sourceId = await source.mint(1);
  const leader = new ScriptedLeader().add(1);
  for (let n = 1; n <= 5; n++) leader.add(1, `k${n}`);
  const stream = source.stream(1, leader).open(sourceId);
  for (let n = 0; n <= 5; n++) stream.entry(n, n);
  await world.until(() => source.kv.applied.offset === 5, "the source");
  const server = await world.server("follower");
  const id = await server.mint(1);
  const other = leader.fork(1).add(1, "tail");
  const before = server.stream(1, other).open(id).entry(0).entry(1, 1).entry(2);
  await world.until(() => before.lastAck?.offset === 2 && server.kv.applied.offset === 1, "the follower");
  await server.newTerm(2, id);
  const chunks = await snapshotOf(source, id, leader);
  return { source, server, id, leader, chunks };
}

/** Chunks one by one, each when `step` allows. */
function receiver(chunks: readonly SnapshotChunk[], step: () => Promise<void> = async () => {}) {
  let at = 0;
  return {
    async next() {
      await step();
      return chunks[at++];
    },
  };
}

test("a snapshot takes the place of state and log, and the stream goes on behind it", () =>
  simulated(async (world) => {
    const { source, server, id, leader, chunks } = await sourceAndFollower(world);
    expect(await server.now.sendSnapshot({ ...place, term: 2 }, receiver(chunks))).toEqual({ ackOffset: 5 });
    expect(server.kv.stateHash).toBe(source.kv.stateHash);
    expect(await server.status()).toMatchObject({
      status: "FOLLOWER",
      headOffset: 5,
      commitOffset: 5,
      verifiedOffset: 5,
    });
    leader.add(2).add(2, "new");
    const stream = server.stream(2, leader).open(id, 5).entry(6).entry(7, 7);
    await world.until(() => stream.lastAck?.offset === 7 && server.kv.applied.offset === 7, "it goes on");
    await server.restart();
    expect(await server.status()).toMatchObject({ headOffset: 7 });
    expect(server.kv.applied.offset).toBeGreaterThanOrEqual(5);
    expect(await refusal(server.now.sendSnapshot({ ...place, term: 2 }, receiver(chunks)))).toBe("FAILED_PRECONDITION");
  }));

test("a snapshot that is interrupted, or does not come to what it says, leaves what stood; the next one may come", () =>
  simulated(async (world) => {
    const { server, id, leader, chunks } = await sourceAndFollower(world);
    const hash = server.kv.stateHash;
    const send = (sent: readonly SnapshotChunk[]) =>
      refusal(server.now.sendSnapshot({ ...place, term: 2 }, receiver(sent)));
    expect(await send(chunks.slice(0, -1))).toBe("INVALID_ARGUMENT");
    expect(await send([...chunks.slice(0, -1), { ...chunks.at(-1)!, stateHash: 1n }])).toBe("INVALID_ARGUMENT");
    expect(await send([{ ...chunks[0]!, replicaId: 3n }])).toBe("NODE_IS_NOT_MEMBER");
    expect(await send([{ ...chunks[0]!, last: undefined, replicaId: undefined }])).toBe("FAILED_PRECONDITION");
    let given = 0;
    const slow = refusal(
      server.now.sendSnapshot(
        { ...place, term: 2 },
        receiver(chunks, async () => {
          given++;
          if (given === 2) await world.sleep(10_000);
        }),
      ),
    );
    await world.sleep(10);
    expect(await server.newTerm(3, id)).toMatchObject({ head: { term: 1, offset: 2 } });
    expect(await slow).toBe("RESOURCE_UNAVAILABLE");
    expect(server.kv.stateHash).toBe(hash);
    expect(await server.status()).toMatchObject({ headOffset: 2, appliedOffset: 1 });
    const inTerm3 = chunks.map((chunk) => ({ ...chunk, term: 3 }));
    expect(await server.now.sendSnapshot({ ...place, term: 3 }, receiver(inTerm3))).toEqual({ ackOffset: 5 });
    expect(server.kv.applied.offset).toBe(leader.head(5).offset);
  }));

test("a power cut at any step of an installation leaves the old state and log, or the new ones, and both fit", () =>
  simulated(async (world) => {
    const { source, server, id, chunks } = await sourceAndFollower(world);
    const seen = new Set<number>();
    const old = server.kv.stateHash;
    for (let operations = 1; operations < 200; operations++) {
      server.disk.failAfter(operations);
      void refusal(server.now.sendSnapshot({ ...place, term: 2 }, receiver(chunks))).catch(() => {});
      await world.sleep(1_000);
      server.disk.failAfter();
      if (server.node.life !== undefined) server.node.end("power");
      await server.start();
      await server.now.handshake({ instanceId: "cluster", stamp: 0, confirmedStamp: 0 });
      const { headOffset, ended } = await server.status();
      expect(ended).toBe("");
      seen.add(headOffset);
      expect(headOffset === 5 ? server.kv.stateHash : old).toBe(headOffset === 5 ? source.kv.stateHash : old);
      if (headOffset === 5) break;
      await server.newTerm(2, id);
    }
    expect([...seen].sort()).toEqual([2, 5]);
  }));

// --- reference leaders ------------------------------------------------------------------------------------------

test("a reference leader that cannot prove its log is asked once a term to send it from 0, and what differs is cut", () =>
  simulated(async (world) => {
    const server = await world.server();
    await server.newTerm(1, undefined);
    const old = new ScriptedLeader().add(1).add(1, "a").add(1, "tail");
    const first = server.stream(1, old).referenceEntry(0).referenceEntry(1, 1).referenceEntry(2);
    await world.until(() => first.lastAck?.offset === 2 && server.kv.applied.offset === 1, "its log");
    expect(first.acks.at(-1)).toEqual({ offset: 2, readRound: undefined, promise: undefined });
    await server.newTerm(2, undefined);
    const leader = old.fork(1).add(2, "b").add(2, "c");
    expect(await server.stream(2, leader).referenceEntry(3, 1, 0).ended).toBe("NODE_IS_NOT_MEMBER");
    expect(await server.stream(2, leader).referenceEntry(3, 1, 0).ended).toBe("RESOURCE_CONFLICT");
    const stream = server.stream(2, leader);
    for (let n = 0; n <= 3; n++) stream.referenceEntry(n, 3, 0);
    await world.until(() => stream.lastAck?.offset === 3 && server.kv.applied.offset === 3, "the leader's log");
    expect(await server.status()).toMatchObject({ headTerm: 2, headCrc: leader.head(3).crc });
  }));

test("a reference leader that sends from 0 what this log has trimmed is compared by the chain over what it sent", () =>
  simulated(async (world) => {
    const { server, leader, chunks } = await sourceAndFollower(world);
    expect(await server.now.sendSnapshot({ ...place, term: 2 }, receiver(chunks))).toEqual({ ackOffset: 5 });
    await server.newTerm(3, undefined);
    leader.add(3, "x");
    const stream = server.stream(3, leader);
    for (let n = 0; n <= 6; n++) stream.referenceEntry(n, 6, 0);
    await world.until(() => stream.lastAck?.offset === 6 && server.kv.applied.offset === 6, "it has caught up");
    await server.newTerm(4, undefined);
    const other = new ScriptedLeader();
    for (let n = 0; n <= 7; n++) other.add(4, `other ${n}`);
    const foreign = server.stream(4, other);
    for (let n = 0; n <= 7; n++) foreign.referenceEntry(n, 7, 0);
    expect(await foreign.ended).not.toBe("ended");
    expect(await refusal(server.newTerm(5, undefined, { options: OPTIONS }))).not.toBe("NODE_IS_NOT_MEMBER");
    expect(server.log.replicas()[0]).toMatchObject({ ended: "", head: { offset: 6 } });
  }));

test("a leader that takes no cumulative acks gets one for each entry", () =>
  simulated(async (world) => {
    const server = await world.server();
    await server.newTerm(1, undefined);
    const leader = new ScriptedLeader().add(1).add(1, "a").add(1, "b");
    const stream = server.stream(1, leader);
    for (let n = 0; n <= 2; n++) stream.push({ entry: leader.entries[n], cumulativeAcksSupported: false });
    await world.until(() => stream.lastAck?.offset === 2, "all acked");
    expect(stream.acks.map(({ offset }) => offset)).toEqual([0, 1, 2]);
    stream.push({ entry: leader.entries[1], cumulativeAcksSupported: false });
    await world.until(() => stream.acks.length === 4, "what is held is acked again");
    expect(stream.lastAck?.offset).toBe(2);
  }));
