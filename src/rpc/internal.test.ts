/** The internal port over a real connection: what coordinators and leaders call is what a data server is asked. */
import { afterEach, expect, test } from "bun:test";
import { Http2Transport } from "../client/http2-transport.ts";
import type {
  Ack,
  AddFollowerRequest,
  Append,
  BecomeLeaderRequest,
  GetStatusResponse,
  HandshakeRequest,
  NewTermRequest,
  ShardAssignments,
  ShardTerm,
  SnapshotChunk,
} from "../model/peer-messages.ts";
import { Refusal, Unreachable } from "../model/refusal.ts";
import { systemClock } from "../ops/clock.ts";
import type { AppendReceiver, SnapshotReceiver } from "../ports.ts";
import { GrpcDataServers } from "./data-servers.ts";
import { GrpcFollowers } from "./followers.ts";
import { Health } from "./health-api.ts";
import { type InternalServer, internalMethods } from "./internal-methods.ts";
import { startListener } from "./listener.ts";
import type { ServedMethod } from "./method.ts";

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const AT: ShardTerm = { namespace: "default", shard: 3, term: 7 };
const LIMITS = { timeoutMs: 5_000 };
const STATUS: GetStatusResponse = {
  term: 7,
  status: "FOLLOWER",
  headOffset: 9,
  commitOffset: 8,
  replicaId: 5n,
  ended: "",
  promise: 7,
  appliedOffset: 8,
  verifiedOffset: 9,
  headTerm: 7,
  headCrc: 99,
  scanned: true,
  frozen: false,
};

/** A data server that notes what it is asked. */
class Scripted implements InternalServer {
  instance: string | undefined = "cluster-1";
  readonly asked: unknown[] = [];
  assignments: ShardAssignments[] = [];
  refuse: Error | undefined;
  stall: Promise<void> | undefined;
  replicateFlow: (shard: ShardTerm, stream: AppendReceiver) => Promise<void> = async () => {};
  snapshotFlow: (shard: ShardTerm, chunks: SnapshotReceiver) => Promise<number> = async () => 0;

  async #note<T>(asked: unknown, answer: T): Promise<T> {
    this.asked.push(asked);
    if (this.refuse !== undefined) throw this.refuse;
    await this.stall;
    return answer;
  }

  handshake = (request: HandshakeRequest) =>
    this.#note(request, { status: "BOUND" as const, features: ["VARIA_SAFETY" as const], stamp: 4 });
  newTerm = (request: NewTermRequest) =>
    this.#note(request, { head: { term: 6, offset: 5, crc: 77 }, replicaId: 5n, ended: "", mintedTerm: 2 });
  becomeLeader = (request: unknown) => this.#note(request, undefined);
  addFollower = (request: unknown) => this.#note(request, undefined);
  getStatus = (request: unknown) => this.#note(request, STATUS);
  freezeShard = (request: unknown) => this.#note(request, { headOffset: 12 });
  removeObserver = (request: unknown) => this.#note(request, undefined);
  deleteShard = (request: unknown) => this.#note(request, undefined);
  truncate = (request: unknown) => this.#note(request, { head: { term: 7, offset: 4 }, entryTerm: 3, headCrc: 55 });
  replicate = (shard: ShardTerm, stream: AppendReceiver) => this.replicateFlow(shard, stream);
  sendSnapshot = async (shard: ShardTerm, chunks: SnapshotReceiver) => ({
    ackOffset: await this.snapshotFlow(shard, chunks),
  });
  takeAssignments = (assignments: ShardAssignments) => void this.assignments.push(assignments);
}

async function start(options: { instanceId?: string; methods?: ServedMethod[] } = {}) {
  const server = new Scripted();
  const health = new Health();
  health.set("", true);
  const methods = options.methods ?? [...internalMethods(server), ...health.methods()];
  const listener = await startListener({ host: "127.0.0.1", port: 0, methods, clock: systemClock, logger: quiet });
  const transport = new Http2Transport();
  cleanups.push(
    () => listener.close({ graceMs: 0 }),
    () => transport.close(),
  );
  const instanceId = "instanceId" in options ? options.instanceId : "cluster-1";
  const ports = { transport, clock: systemClock, instanceId: () => instanceId };
  const address = `127.0.0.1:${listener.port}`;
  return { server, health, address, dataServers: new GrpcDataServers(ports), followers: new GrpcFollowers(ports) };
}

test("each call of a coordinator arrives whole, and its answer comes back", async () => {
  const { server, address, dataServers: call } = await start();
  const newTerm: NewTermRequest = {
    ...AT,
    options: { notificationsEnabled: false, keySorting: "natural", readConsistency: "leader" },
    replicaId: 0n,
    countedTerm: -1,
    confirmedStamp: 0,
    adopt: false,
  };
  const becomeLeader: BecomeLeaderRequest = {
    ...AT,
    replicationFactor: 3,
    followers: [{ server: "s2:1", head: { term: -1, offset: -1 } }],
    features: ["DB_CHECKSUM"],
    replicaId: 5n,
    expectedHead: { term: 6, offset: 5 },
    members: [{ server: "s1:1", replicaId: 5n }],
    formerMembers: [],
  };
  const addFollower: AddFollowerRequest = {
    ...AT,
    server: "s3:1",
    head: { term: 2, offset: 3, crc: 4 },
    observer: true,
    replicaId: 6n,
  };
  const handshake = { instanceId: "cluster-1", stamp: 8, confirmedStamp: 3 };
  const freeze = { ...AT, frozen: true };
  const observer = { ...AT, server: "s3:1", targetShard: 3 };
  const deletion = { ...AT, replicaId: 5n };

  expect(await call.handshake(address, handshake, LIMITS)).toEqual({
    status: "BOUND",
    features: ["VARIA_SAFETY"],
    stamp: 4,
  });
  expect(await call.newTerm(address, newTerm, LIMITS)).toEqual({
    head: { term: 6, offset: 5, crc: 77 },
    replicaId: 5n,
    ended: "",
    mintedTerm: 2,
  });
  await call.becomeLeader(address, becomeLeader, LIMITS);
  await call.addFollower(address, addFollower, LIMITS);
  expect(await call.getStatus(address, { shard: 3 }, LIMITS)).toEqual(STATUS);
  expect(await call.freezeShard(address, freeze, LIMITS)).toEqual({ headOffset: 12 });
  await call.removeObserver(address, observer, LIMITS);
  await call.deleteShard(address, deletion, LIMITS);
  expect(await call.checkHealth(address, LIMITS)).toBe(true);
  expect(server.asked).toEqual([
    handshake,
    newTerm,
    becomeLeader,
    addFollower,
    { shard: 3 },
    freeze,
    observer,
    deletion,
  ]);
});

test("a refusal keeps its reason and its text; a server that is not there is unreachable", async () => {
  const { server, address, dataServers } = await start();
  server.refuse = new Refusal("INVALID_TERM", "term 7 is not the promised 9");
  const refused = dataServers.getStatus(address, { shard: 3 }, LIMITS);
  await expect(refused).rejects.toMatchObject({ reason: "INVALID_TERM" });
  await expect(refused).rejects.toThrow("term 7 is not the promised 9");
  server.refuse = new Refusal("RESOURCE_EXHAUSTED", "no space left");
  await expect(dataServers.getStatus(address, { shard: 3 }, LIMITS)).rejects.toMatchObject({
    reason: "RESOURCE_EXHAUSTED",
  });
  await expect(dataServers.getStatus("127.0.0.1:1", { shard: 3 }, LIMITS)).rejects.toBeInstanceOf(Unreachable);
});

test("a call that is not answered in time, or is given up, is unreachable", async () => {
  const { server, address, dataServers } = await start();
  const { promise, resolve } = Promise.withResolvers<void>();
  server.stall = promise;
  await expect(dataServers.getStatus(address, { shard: 3 }, { timeoutMs: 30 })).rejects.toBeInstanceOf(Unreachable);
  const controller = new AbortController();
  const given = dataServers.getStatus(address, { shard: 3 }, { signal: controller.signal });
  controller.abort();
  await expect(given).rejects.toThrow("given up");
  const late = dataServers.getStatus(address, { shard: 3 }, { signal: controller.signal });
  await expect(late).rejects.toThrow("given up");
  resolve();
});

test("another cluster's calls, and calls that name none, are refused; the handshake and health are not", async () => {
  const other = await start({ instanceId: "cluster-2" });
  const status = (it: typeof other) => it.dataServers.getStatus(it.address, { shard: 3 }, LIMITS);
  await expect(status(other)).rejects.toThrow('oxia: unexpected instance id "cluster-2"');
  const stream = other.followers.replicate(other.address, AT);
  await expect(stream.next()).rejects.toMatchObject({ reason: "PERMISSION_DENIED" });
  expect(other.server.asked).toEqual([]);

  const none = await start({ instanceId: undefined as never });
  await expect(status(none)).rejects.toThrow("oxia: instance id not identified");
  expect(await none.dataServers.checkHealth(none.address, LIMITS)).toBe(true);

  const unbound = await start();
  unbound.server.instance = undefined;
  await expect(status(unbound)).rejects.toMatchObject({ reason: "NOT_INITIALIZED" });
  const handshake = { instanceId: "cluster-1", stamp: undefined, confirmedStamp: undefined };
  expect((await unbound.dataServers.handshake(unbound.address, handshake, LIMITS)).status).toBe("BOUND");
});

test("health that is not serving is said", async () => {
  const { health, address, dataServers } = await start();
  health.set("", false);
  expect(await dataServers.checkHealth(address, LIMITS)).toBe(false);
});

const append = (offset: number): Append => ({
  term: 7,
  entry: { term: 7, offset, timestamp: 1, value: new Uint8Array(100).fill(offset) },
  commitOffset: offset - 1,
  previousEntryCrc: 1,
  cumulativeAcksSupported: true,
  previousTerm: 7,
  previousCrc: 1,
  readRound: offset,
  ackedOffset: offset === 0 ? -1 : undefined,
  replicaId: offset === 0 ? 5n : undefined,
});

test("entries go one way and acks the other, in order, past every window", async () => {
  const { server, address, followers } = await start();
  const got: Append[] = [];
  server.replicateFlow = async (shard, stream) => {
    expect(shard).toEqual(AT);
    for (let next = await stream.next(); next !== undefined; next = await stream.next()) {
      got.push(next);
      stream.send({ offset: next.entry!.offset, readRound: next.readRound, promise: 7 });
    }
  };
  const stream = followers.replicate(address, AT);
  const count = 5_000;
  const acks: (Ack | undefined)[] = [];
  const reading = (async () => {
    while (acks.length < count) acks.push(await stream.next());
  })();
  for (let offset = 0; offset < count; offset++) if (!stream.send(append(offset))) await stream.drained();
  await reading;
  expect(got.length).toBe(count);
  expect([got[0], got.at(-1)]).toEqual([append(0), append(count - 1)]);
  expect(acks.map((ack) => ack?.offset)).toEqual(Array.from({ length: count }, (_, offset) => offset));
  stream.cancel();
  await expect(stream.next()).rejects.toBeInstanceOf(Unreachable);
});

test("a follower that reads slowly holds the leader back", async () => {
  const { server, address, followers } = await start();
  const gate = Promise.withResolvers<void>();
  let got = 0;
  server.replicateFlow = async (_, stream) => {
    await gate.promise;
    while ((await stream.next()) !== undefined) got++;
  };
  const stream = followers.replicate(address, AT);
  const big = { ...append(1), entry: { term: 7, offset: 1, timestamp: 1, value: new Uint8Array(64 * 1024) } };
  let sent = 0;
  for (; sent < 2_000 && stream.send(big); sent++);
  expect(sent).toBeLessThan(2_000);
  gate.resolve();
  await stream.drained();
  while (got <= sent) {
    if (got === sent) stream.send(big);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  stream.cancel();
});

test("a follower that refuses a stream, or gives up the leader, is heard", async () => {
  const { server, address, followers } = await start();
  const reading = Promise.withResolvers<void>();
  const seen = Promise.withResolvers<unknown>();
  server.replicateFlow = async (_, stream) => {
    await stream.next();
    throw new Refusal("NODE_IS_NOT_MEMBER", "replica 5 does not live here");
  };
  const refused = followers.replicate(address, AT);
  refused.send(append(0));
  await expect(refused.next()).rejects.toMatchObject({ reason: "NODE_IS_NOT_MEMBER" });
  server.replicateFlow = async (_, stream) => {
    await stream.next();
    reading.resolve();
    // a stream that the leader has given up looks like one that it has ended, or like a broken one
    seen.resolve(await stream.next().catch((error) => error instanceof Unreachable));
  };
  const cancelled = followers.replicate(address, AT);
  cancelled.send(append(0));
  await reading.promise;
  cancelled.cancel();
  expect([undefined, true]).toContain((await seen.promise) as undefined);
});

const chunk = (index: number): SnapshotChunk => ({
  term: 7,
  name: `piece-${index}`,
  content: new Uint8Array(200_000).fill(index),
  chunkIndex: 0,
  chunkCount: 1,
  last: index === 0 ? { term: 6, offset: 40, crc: 9 } : undefined,
  replicaId: index === 0 ? 5n : undefined,
  rowCount: index === 9 ? 1000 : undefined,
  stateHash: index === 9 ? 2n ** 63n + 1n : undefined,
});

test("a snapshot arrives chunk by chunk and is answered at its end", async () => {
  const { server, address, followers } = await start();
  const got: SnapshotChunk[] = [];
  server.snapshotFlow = async (shard, chunks) => {
    expect(shard).toEqual(AT);
    for (let next = await chunks.next(); next !== undefined; next = await chunks.next()) got.push(next);
    return 40;
  };
  const stream = followers.sendSnapshot(address, AT);
  for (let index = 0; index < 10; index++) if (!stream.send(chunk(index))) await stream.drained();
  expect(await stream.finish()).toEqual({ ackOffset: 40 });
  expect(got).toEqual(Array.from({ length: 10 }, (_, index) => chunk(index)));
});

test("a snapshot that is refused on its way ends at once", async () => {
  const { server, address, followers } = await start();
  server.snapshotFlow = async (_, chunks) => {
    await chunks.next();
    throw new Refusal("FAILED_PRECONDITION", "entries above 40 are applied");
  };
  const stream = followers.sendSnapshot(address, AT);
  stream.send(chunk(0));
  await stream.ended;
  await expect(stream.finish()).rejects.toMatchObject({ reason: "FAILED_PRECONDITION" });
});

test("assignments are pushed, each set whole", async () => {
  const { server, address, dataServers } = await start();
  const stream = dataServers.pushAssignments(address);
  const set = (leader: string): ShardAssignments => ({
    namespaces: new Map([["default", [{ shard: 0, leader, minHashInclusive: 0, maxHashInclusive: 0xffff_ffff }]]]),
    allowedAuthorities: ["s1:1"],
  });
  stream.send(set("s1:1"));
  stream.send(set(""));
  while (server.assignments.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
  expect(server.assignments).toEqual([set("s1:1"), set("")]);
  stream.cancel();
});

test("garbage in a message, headers that are missing, and a split's destination are refused in words", async () => {
  const { server, address } = await start();
  const raw = (headers: Record<string, string>) => {
    const transport = new Http2Transport();
    cleanups.push(() => transport.close());
    return new Promise<string>((resolve) => {
      const call = transport.open(
        {
          address,
          path: "/replication.OxiaLogReplication/Replicate",
          headers: { "instance-id": "cluster-1", ...headers },
        },
        { message: () => {}, drained: () => {}, ended: ({ message }) => resolve(message) },
      );
      call.send(new Uint8Array([0, 0, 0, 0, 2, 0x08, 0xff]));
    });
  };
  server.replicateFlow = async (_, stream) => void (await stream.next());
  const good = { namespace: "default", "shard-id": "3" };
  expect(await raw(good)).toContain("malformed message");
  expect(await raw({ namespace: "default" })).toContain("Request must include 'shard-id' metadata field");
  expect(await raw({ "shard-id": "3" })).toContain("Request must include 'namespace' metadata field");
  expect(await raw({ ...good, "shard-id": "x" })).toContain('expected integer, got "x"');
  expect(await raw({ ...good, term: "9007199254740993" })).toContain("expected integer");
  expect(await raw({ ...good, "split-hash-range-min": "0", "split-hash-range-max": "9" })).toContain("not supported");
});
