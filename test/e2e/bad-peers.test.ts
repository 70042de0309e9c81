/**
 * Bad peers on the internal ports of real data servers: another cluster's, ones of a term that is over, ones that lie about
 * offsets, skip entries, break snapshots off or send too much. Each is refused in words, nothing that was acknowledged is
 * lost, every replica lives on, and a client that writes the whole time hears of none of it.
 *
 * Source: errors.md §3; safety.md §1, §5, §6.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Http2Transport } from "../../src/client/http2-transport.ts";
import { connect, type VariaClient } from "../../src/client/index.ts";
import { EMPTY_BYTES } from "../../src/lib/bytes.ts";
import type { Append, SnapshotChunk } from "../../src/model/peer-messages.ts";
import { systemClock } from "../../src/ops/clock.ts";
import { GrpcDataServers } from "../../src/rpc/data-servers.ts";
import { GrpcFollowers } from "../../src/rpc/followers.ts";
import { ADMIN_TOKEN, Cluster } from "./cluster.ts";
import { scratch } from "./varia.ts";

setDefaultTimeout(60_000);
const directory = scratch("bad-peers");
const MESSAGE_BYTES_MAX = 1024 * 1024;
const LIMITS = { timeoutMs: 5_000 };
const WELL_MS_MAX = 60_000;

let cluster: Cluster;
let client: VariaClient;
let transport: Http2Transport;
const written = new Map<string, string>();
const failures: unknown[] = [];
let stopped = false;
let writing: Promise<void>;

beforeAll(async () => {
  const flags = ["--max-message-size", String(MESSAGE_BYTES_MAX)];
  cluster = await Cluster.start({ directory: directory.path, shards: 1, flags });
  await untilWell();
  client = await connect({ serviceAddress: cluster.addresses[0]! });
  transport = new Http2Transport();
  writing = write();
}, 120_000);

afterAll(async () => {
  stopped = true;
  await writing;
  await client?.close();
  transport?.close();
  await cluster?.remove();
  directory.remove();
});

/** One record after the other; what was acknowledged is kept. */
async function write(): Promise<void> {
  for (let nth = 0; !stopped; nth++) {
    const [key, value] = [`key-${nth % 100}`, String(nth)];
    try {
      await client.put(key, value);
      written.set(key, value);
    } catch (error) {
      failures.push(error);
    }
    await Bun.sleep(2);
  }
}

async function untilWell(): Promise<void> {
  const deadline = performance.now() + WELL_MS_MAX;
  for (;;) {
    const problems = await cluster.problems();
    if (problems.length === 0) return;
    if (performance.now() > deadline) throw new Error(`the cluster is not well: ${problems.join("; ")}`);
    await Bun.sleep(50);
  }
}

interface Shard {
  readonly instanceId: string;
  readonly term: number;
  readonly leader: string;
  readonly replicas: readonly { readonly server: string; readonly id: bigint; readonly head: number }[];
}

/** The one that there is, as the coordinator tells. */
async function shard(): Promise<Shard> {
  const at = `http://${cluster.coordinator.host}:6651/varia.admin.v1.VariaAdmin/GetClusterStatus`;
  const headers = { "content-type": "application/json", authorization: `Bearer ${ADMIN_TOKEN}` };
  const response = await fetch(at, { method: "POST", headers, body: "{}" });
  const { instanceId, shards } = (await response.json()) as {
    instanceId: string;
    shards: { term?: string; leader: string; replicas: { server: string; replicaId: string; headOffset?: string }[] }[];
  };
  const [{ term = "0", leader, replicas }] = shards as [(typeof shards)[number]];
  return {
    ...{ instanceId, term: Number(term), leader },
    replicas: replicas.map(({ server, replicaId, headOffset = "0" }) => {
      return { server, id: BigInt(replicaId), head: Number(headOffset) };
    }),
  };
}

function peers(instanceId: string) {
  const ports = { transport, clock: systemClock, instanceId: () => instanceId };
  return { servers: new GrpcDataServers(ports), followers: new GrpcFollowers(ports) };
}

/** All three replicas live under the ids that they had, and all that was acknowledged is there. */
async function nothingIsLost(before: Shard): Promise<void> {
  await untilWell();
  const after = await shard();
  expect(after.replicas.map(({ id }) => id).sort()).toEqual(before.replicas.map(({ id }) => id).sort());
  for (const member of cluster.members) expect([member.name, member.running]).toEqual([member.name, true]);
  for (const [key, value] of new Map(written)) {
    const read = await client.get(key);
    expect([key, Number(new TextDecoder().decode(read!.value)) >= Number(value)]).toEqual([key, true]);
  }
  expect(failures).toEqual([]);
}

const reasonOf = async (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => "it was taken",
    (error) => error.reason ?? error.name,
  );

const appendOf = (fields: Partial<Append> & Pick<Append, "term">): Append => ({
  ...{ entry: undefined, commitOffset: -1, previousEntryCrc: 0, cumulativeAcksSupported: true },
  ...{ previousTerm: fields.term, previousCrc: 0, readRound: 0, ackedOffset: undefined, replicaId: undefined },
  ...fields,
});

const entryOf = (term: number, offset: number, bytes = 10) => ({
  ...{ term, offset, timestamp: Date.now(), value: new Uint8Array(bytes).fill(0xff) },
});

test("another cluster's coordinators and leaders are refused, whatever they ask", async () => {
  const before = await shard();
  const { servers, followers } = peers("00000000-0000-4000-8000-000000000000");
  const { leader, term, replicas } = before;
  const at = { namespace: "default", shard: 0, term: term + 1 };
  const handshake = { instanceId: "00000000-0000-4000-8000-000000000000", stamp: 9, confirmedStamp: 9 };
  expect(await servers.handshake(leader, handshake, LIMITS)).toMatchObject({ status: "MISMATCH" });
  expect(await reasonOf(servers.getStatus(leader, { shard: 0 }, LIMITS))).toBe("PERMISSION_DENIED");
  expect(await reasonOf(servers.freezeShard(leader, { ...at, frozen: true }, LIMITS))).toBe("PERMISSION_DENIED");
  expect(await reasonOf(servers.deleteShard(leader, { ...at, replicaId: replicas[0]!.id }, LIMITS))).toBe(
    "PERMISSION_DENIED",
  );
  expect(
    await reasonOf(
      followers.truncate(
        leader,
        { ...at, keep: { term, offset: 0 }, expectedHead: undefined, replicaId: undefined },
        LIMITS,
      ),
    ),
  ).toBe("PERMISSION_DENIED");
  expect(await reasonOf(followers.replicate(leader, at).next())).toBe("PERMISSION_DENIED");
  await nothingIsLost(before);
});

test("a coordinator of a term that is over changes nothing", async () => {
  // a term behind which there is one
  const first = await shard();
  await (await cluster.leader()).kill();
  for (const server of cluster.servers) if (!server.running) await server.start();
  await untilWell();
  failures.length = 0; // the election itself may have cost an operation
  const before = await shard();
  expect(before.term).toBeGreaterThan(first.term);
  const { servers } = peers(before.instanceId);
  const over = { namespace: "default", shard: 0, term: before.term - 1 };
  const options = { notificationsEnabled: true, keySorting: "hierarchical", readConsistency: "linearizable" } as const;
  for (const { server, id } of before.replicas) {
    const newTerm = { ...over, options, replicaId: id, countedTerm: -1, confirmedStamp: 0, adopt: false };
    expect(await reasonOf(servers.newTerm(server, newTerm, LIMITS))).toBe("INVALID_TERM");
    const lead = {
      ...{ ...over, replicationFactor: 3, followers: [], features: [], replicaId: id },
      ...{ expectedHead: { term: over.term, offset: 0 }, members: [], formerMembers: [] },
    };
    expect(await reasonOf(servers.becomeLeader(server, lead as never, LIMITS))).not.toBe("it was taken");
    expect(await reasonOf(servers.freezeShard(server, { ...over, frozen: true }, LIMITS))).not.toBe("it was taken");
    expect(await reasonOf(servers.deleteShard(server, { ...over, replicaId: id }, LIMITS))).not.toBe("it was taken");
    // of the term that stands, with an id that nobody has: what it means is gone already
    await servers.deleteShard(server, { ...over, term: before.term, replicaId: id + 1n }, LIMITS).catch(() => {});
  }
  await nothingIsLost(before);
});

test("a leader that skips entries, lies about what is committed, or is of no term, is not followed", async () => {
  const before = await shard();
  const { followers } = peers(before.instanceId);
  for (const { server, id, head } of before.replicas) {
    for (const { term, append } of [
      // a hole
      {
        term: before.term,
        append: { entry: entryOf(before.term, head + 1_000), previousTerm: before.term, previousCrc: 7 },
      },
      // what is there already, with another content
      { term: before.term, append: { entry: entryOf(before.term, 1), previousTerm: 0, previousCrc: 7 } },
      // committed far beyond all that there is
      { term: before.term, append: { commitOffset: 1_000_000_000 } },
      // a term that is over
      { term: before.term - 1, append: { entry: entryOf(before.term - 1, head + 1) } },
      // one that nobody has promised
      { term: before.term + 5, append: { entry: entryOf(before.term + 5, head + 1) } },
    ]) {
      const stream = followers.replicate(server, { namespace: "default", shard: 0, term });
      stream.send(appendOf({ term, ackedOffset: 1_000_000, replicaId: id, ...append }));
      expect([server, append, await reasonOf(stream.next())]).not.toEqual([server, append, "it was taken"]);
      stream.cancel();
    }
    // of another shard, of none
    const nowhere = followers.replicate(server, { namespace: "default", shard: 999, term: before.term });
    nowhere.send(appendOf({ term: before.term, ackedOffset: -1, replicaId: id }));
    expect(await reasonOf(nowhere.next())).toBe("NODE_IS_NOT_MEMBER");
    nowhere.cancel();
  }
  await nothingIsLost(before);
});

test("a snapshot that is broken off, is garbage, or is of a term that is over, leaves what stands", async () => {
  const before = await shard();
  const { followers } = peers(before.instanceId);
  const chunkOf = (term: number, fields: Partial<SnapshotChunk>): SnapshotChunk => ({
    ...{ term, name: "state-1", content: EMPTY_BYTES, chunkIndex: 0, chunkCount: 1 },
    ...{ last: undefined, replicaId: undefined, rowCount: undefined, stateHash: undefined },
    ...fields,
  });
  for (const { server, id } of before.replicas) {
    const garbage = new Uint8Array(4_096).fill(0xa5);
    const begins = { last: { term: before.term, offset: 1_000_000, crc: 1 }, replicaId: id };
    for (const { term, chunks } of [
      { term: before.term, chunks: [{ ...begins, content: garbage }] },
      { term: before.term, chunks: [{ ...begins }, { content: garbage }, { rowCount: 1, stateHash: 2n }] },
      { term: before.term, chunks: [{ ...begins }, { rowCount: 5, stateHash: 2n }] },
      {
        term: before.term,
        chunks: [
          { ...begins, replicaId: id + 1n },
          { rowCount: 0, stateHash: 0n },
        ],
      },
      { term: before.term - 1, chunks: [{ ...begins }, { rowCount: 0, stateHash: 0n }] },
    ]) {
      const stream = followers.sendSnapshot(server, { namespace: "default", shard: 0, term });
      for (const chunk of chunks) stream.send(chunkOf(term, chunk));
      expect([server, await reasonOf(stream.finish())]).not.toEqual([server, "it was taken"]);
      stream.cancel();
    }
    const cut = followers.sendSnapshot(server, { namespace: "default", shard: 0, term: before.term });
    cut.send(chunkOf(before.term, { ...begins, content: garbage }));
    cut.cancel();
  }
  await nothingIsLost(before);
});

test("a message past the bound is refused, and the connections of the others go on", async () => {
  const before = await shard();
  const { followers } = peers(before.instanceId);
  for (const { server, id, head } of before.replicas) {
    const { term } = before;
    const stream = followers.replicate(server, { namespace: "default", shard: 0, term });
    const entry = entryOf(term, head + 1, 2 * MESSAGE_BYTES_MAX);
    stream.send(appendOf({ term, ackedOffset: -1, replicaId: id, entry }));
    expect(await reasonOf(stream.next())).not.toBe("it was taken");
    stream.cancel();
  }
  await nothingIsLost(before);
});
