/**
 * One data server on a simulated disk, for tests that play its coordinator and its leaders by hand: what it answers, what
 * it has on disk after a crash. `simulated` runs a test's flow in simulated time.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { WriteRequestSchema } from "../../src/gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { EMPTY_HEAD, type Head, type LogEntry, NO_OFFSET, NO_TERM, type ReplicaId } from "../../src/model/ids.ts";
import {
  type Ack,
  type Append,
  type BecomeLeaderRequest,
  FEATURES,
  type NewTermRequest,
  type NewTermResponse,
  type TermOptions,
} from "../../src/model/peer-messages.ts";
import { Refusal, Unreachable } from "../../src/model/refusal.ts";
import type { AppendReceiver, Followers, Log, Logger } from "../../src/ports.ts";
import { DataServer, type DataServerOptions } from "../../src/replication/data-server.ts";
import { entryCrc } from "../../src/wire/entry-crc.ts";
import { encodeOwnTermEntry, encodeWriteEntry } from "../../src/wire/log-entry.ts";
import { SimDisk } from "../sim/disk.ts";
import { diskDocuments } from "../sim/disk-documents.ts";
import { DiskKeyValues } from "../sim/disk-key-values.ts";
import { type MemoryLog, openMemoryLog } from "../sim/memory-log.ts";
import { type Life, SimNode } from "../sim/node.ts";
import { randomPort, SimRandom } from "../sim/random.ts";
import { Scheduler } from "../sim/scheduler.ts";
import { Trace } from "../sim/trace.ts";
import { bytesOf } from "./client.ts";

export const NAMESPACE = "default";
export const SHARD = 7;
export const OPTIONS: TermOptions = {
  notificationsEnabled: true,
  keySorting: "hierarchical",
  readConsistency: "linearizable",
};

/** Runs a flow in simulated time, to its end. */
export function simulated(flow: (world: World) => Promise<void>, seed = 1): void {
  const random = new SimRandom(seed);
  const scheduler = new Scheduler({ trace: new Trace({ seed, linesMax: 50 }) });
  const world = new World(scheduler, random);
  scheduler.complete("test", () => flow(world), 3_600_000);
}

export class World {
  readonly scheduler: Scheduler;
  readonly random: SimRandom;
  readonly #servers: TestServer[] = [];

  constructor(scheduler: Scheduler, random: SimRandom) {
    this.scheduler = scheduler;
    this.random = random;
  }

  /** A server that is bound to a cluster. */
  async server(name = "server", options: Partial<DataServerOptions> = {}): Promise<TestServer> {
    const server = new TestServer(this, name, options);
    this.#servers.push(server);
    await server.start();
    await server.now.handshake({ instanceId: "cluster", stamp: 0, confirmedStamp: 0 });
    return server;
  }

  sleep(ms: number): Promise<void> {
    return this.scheduler.sleep(ms);
  }

  /** Resolves once the condition holds. */
  async until(condition: () => boolean, what: string, withinMs = 10_000): Promise<void> {
    for (let waited = 0; !condition(); waited++) {
      if (waited > withinMs) throw new Error(`waited in vain for ${what}`);
      await this.sleep(1);
    }
  }
}

const noFollowers = new Proxy({} as Followers, {
  get() {
    throw new Error("no followers in this test");
  },
});

export class TestServer {
  readonly world: World;
  readonly node: SimNode;
  readonly disk: SimDisk;
  /** What was logged as an error. */
  readonly errors: string[] = [];
  log!: MemoryLog;
  now!: DataServer;
  readonly #options: Partial<DataServerOptions>;

  constructor(world: World, name: string, options: Partial<DataServerOptions>) {
    this.world = world;
    this.#options = options;
    this.node = new SimNode(world.scheduler, name);
    this.disk = new SimDisk(this.node, world.random.split(`disk ${name}`));
  }

  async start({ spy = (log: Log): Log => log } = {}): Promise<void> {
    const life: Life = this.node.start();
    const disk = this.disk.mount(life);
    const random = this.world.random.split(`${this.node.name} ${life.number}`);
    this.log = await openMemoryLog({ life, disk, random, retentionMs: 3_600_000, segmentEntriesMax: 8 });
    const released = (shard: number, offset: number) => this.log.release(shard, offset);
    const error = (_: unknown, message: string) => void this.errors.push(message);
    const logger: Logger = { debug() {}, info() {}, warn() {}, error };
    this.now = await DataServer.open(
      {
        log: spy(this.log),
        keyValues: new DiskKeyValues({ life, disk, released, flushCommits: 16 }),
        followers: noFollowers,
        documents: diskDocuments(disk),
        clock: life.clock,
        random: randomPort(random.split("port")),
        logger,
      },
      { self: `${this.node.name}:1`, ...this.#options },
    );
  }

  /** Loses what was not synced, starts again, and is greeted by its coordinator. */
  async restart({ greeted = true } = {}): Promise<void> {
    this.node.end("power");
    await this.start();
    if (greeted) await this.now.handshake({ instanceId: "cluster", stamp: 0, confirmedStamp: 0 });
  }

  newTerm(
    term: number,
    replicaId: ReplicaId | undefined,
    more: Partial<NewTermRequest> = {},
  ): Promise<NewTermResponse> {
    return this.now.newTerm({
      namespace: NAMESPACE,
      shard: SHARD,
      term,
      options: OPTIONS,
      replicaId,
      countedTerm: NO_TERM,
      confirmedStamp: 0,
      adopt: false,
      ...more,
    });
  }

  /** A replica from nothing, fenced by `term`: its id. */
  async mint(term: number): Promise<ReplicaId> {
    const { replicaId } = await this.newTerm(term, 0n);
    return replicaId!;
  }

  /** Leads alone. */
  becomeLeader(term: number, replicaId: ReplicaId, more: Partial<BecomeLeaderRequest> = {}): Promise<void> {
    return this.now.becomeLeader({
      namespace: NAMESPACE,
      shard: SHARD,
      term,
      replicationFactor: 1,
      followers: [],
      features: FEATURES,
      replicaId,
      expectedHead: undefined,
      members: [{ server: `${this.node.name}:1`, replicaId }],
      formerMembers: [],
      ...more,
    });
  }

  status() {
    return this.now.getStatus({ shard: SHARD });
  }

  /** Opens a Replicate stream as the leader of `term`. */
  stream(term: number, leader: ScriptedLeader = new ScriptedLeader()): ScriptedStream {
    const stream = new ScriptedStream(term, leader);
    stream.ended = this.now.replicate({ namespace: NAMESPACE, shard: SHARD, term }, stream).then(
      () => "ended",
      (error: unknown) => (error instanceof Refusal ? error.reason : String(error)),
    );
    return stream;
  }

  /** The value of a key, as latin1; undefined when it is not there. */
  get kv() {
    return this.now.replicas.replica(SHARD)!.kv!;
  }
}

/** A leader's log, with its chain. */
export class ScriptedLeader {
  readonly entries: LogEntry[] = [];
  readonly heads: Head[] = [];

  /** Adds an entry of `term` that puts `key`; without a key a control entry. */
  add(term: number, key?: string, valueBytes = 1): this {
    const offset = this.entries.length;
    const request = create(WriteRequestSchema, {
      puts: [{ key: bytesOf(key ?? ""), value: new Uint8Array(valueBytes) }],
    });
    const value =
      key === undefined ? encodeOwnTermEntry(FEATURES) : encodeWriteEntry(toBinary(WriteRequestSchema, request));
    const entry = { term, offset, timestamp: 1_000 + offset, value };
    this.entries.push(entry);
    this.heads.push({ term, offset, crc: entryCrc(this.head(offset - 1).crc, entry) });
    return this;
  }

  head(offset: number): Head {
    return offset < 0 ? EMPTY_HEAD : this.heads[offset]!;
  }

  /** The same log up to `offset`, to be continued otherwise. */
  fork(offset: number): ScriptedLeader {
    const fork = new ScriptedLeader();
    fork.entries.push(...this.entries.slice(0, offset + 1));
    fork.heads.push(...this.heads.slice(0, offset + 1));
    return fork;
  }
}

const NOTHING_SAID: Append = {
  term: NO_TERM,
  entry: undefined,
  commitOffset: NO_OFFSET,
  previousEntryCrc: undefined,
  cumulativeAcksSupported: true,
  previousTerm: undefined,
  previousCrc: undefined,
  readRound: undefined,
  ackedOffset: undefined,
  replicaId: undefined,
};

/** The follower's end of a stream, whose other end is the test. */
export class ScriptedStream implements AppendReceiver {
  readonly acks: Ack[] = [];
  /** Why it has ended, once it has. */
  ended!: Promise<string>;
  taken = 0;
  readonly #term: number;
  readonly #leader: ScriptedLeader;
  #messages: (Append | undefined | Error)[] = [];
  #reader: { resolve(message: Append | undefined): void; reject(error: Error): void } | undefined;

  constructor(term: number, leader: ScriptedLeader) {
    this.#term = term;
    this.#leader = leader;
  }

  /** The first message of a leader of ours. */
  open(replicaId: ReplicaId | undefined, ackedOffset = NO_OFFSET, readRound = 1): this {
    return this.push({ replicaId, ackedOffset, readRound });
  }

  /** An entry as a leader of ours sends it. */
  entry(offset: number, commitOffset = NO_OFFSET, more: Partial<Append> = {}): this {
    const { term: previousTerm, crc: previousCrc } = this.#leader.head(offset - 1);
    const entry = this.#leader.entries[offset];
    return this.push({ entry, commitOffset, previousTerm, previousCrc, readRound: 0, ...more });
  }

  /** An entry as a reference leader sends it. */
  referenceEntry(offset: number, commitOffset = NO_OFFSET, previousEntryCrc = this.#leader.head(offset - 1).crc): this {
    return this.push({ entry: this.#leader.entries[offset], commitOffset, previousEntryCrc });
  }

  push(fields: Partial<Append>): this {
    this.#give({ ...NOTHING_SAID, term: this.#term, ...fields });
    return this;
  }

  close(): void {
    this.#give(undefined);
  }

  break(): void {
    this.#give(new Unreachable("the stream broke"));
  }

  #give(message: Append | undefined | Error): void {
    const reader = this.#reader;
    this.#reader = undefined;
    if (reader === undefined) this.#messages.push(message);
    else if (message instanceof Error) reader.reject(message);
    else reader.resolve(message);
  }

  next(): Promise<Append | undefined> {
    this.taken++;
    if (this.#messages.length > 0) {
      const message = this.#messages.shift();
      return message instanceof Error ? Promise.reject(message) : Promise.resolve(message);
    }
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
    });
  }

  send(ack: Ack): void {
    this.acks.push(ack);
  }

  get lastAck(): Ack | undefined {
    return this.acks.at(-1);
  }
}

/** The reason for which it was refused; "resolved" when it was not. */
export function refusal(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "resolved",
    (error: unknown) => {
      if (error instanceof Refusal) return error.reason;
      throw error;
    },
  );
}
