/** One leader with scripted followers in simulated time, on a simulated disk. */

import { create, toBinary } from "@bufbuild/protobuf";
import { WriteRequestSchema } from "../../src/gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { type Bytes, utf8 } from "../../src/lib/bytes.ts";
import { EMPTY_HEAD, type LogEntry, NO_TERM } from "../../src/model/ids.ts";
import { FEATURES, type Feature } from "../../src/model/peer-messages.ts";
import { Refusal } from "../../src/model/refusal.ts";
import type { KeyValue, Log } from "../../src/ports.ts";
import { NO_REPLICA } from "../../src/protocol/replica-state.ts";
import { ReplicationBudget } from "../../src/replication/entry-tail.ts";
import { Leader } from "../../src/replication/leader.ts";
import type { LeaderConfig, ShardOptions } from "../../src/replication/leader-config.ts";
import { Turns } from "../../src/replication/turns.ts";
import { encodeWriteEntry } from "../../src/wire/log-entry.ts";
import { decodeWrite } from "../../src/wire/requests.ts";
import { CALM_DISK, SimDisk } from "../sim/disk.ts";
import { DiskKeyValues } from "../sim/disk-key-values.ts";
import { type MemoryLog, openMemoryLog } from "../sim/memory-log.ts";
import { type Life, SimNode } from "../sim/node.ts";
import { randomPort, SimRandom } from "../sim/random.ts";
import { Scheduler } from "../sim/scheduler.ts";
import { Trace } from "../sim/trace.ts";
import { ScriptedFollower, scriptedFollowers } from "./scripted-follower.ts";

const SHARD = 3;
const SELF = 100n;

export interface LeaderWorldOptions {
  /** Followers that are members; default 2. */
  readonly followers?: number;
  readonly isReference?: boolean;
  /** Terms of the entries that the log holds before. */
  readonly terms?: readonly number[];
  /** Or what they are, all of term 1. */
  readonly values?: readonly Bytes[];
  readonly options?: Partial<ShardOptions>;
  readonly features?: readonly Feature[];
  readonly wrapKeyValue?: (kv: KeyValue) => KeyValue;
  readonly wrapLog?: (log: Log) => Log;
}

export class LeaderWorld {
  readonly scheduler = new Scheduler({ trace: new Trace({ seed: 1 }) });
  readonly random = new SimRandom(1);
  readonly node = new SimNode(this.scheduler, "leader");
  readonly disk: SimDisk;
  readonly budget = new ReplicationBudget();
  readonly followers: ScriptedFollower[];
  readonly term: number;
  readonly life: Life;
  readonly log: MemoryLog;
  readonly kv: KeyValue;
  readonly leader: Leader;
  readonly faults: unknown[] = [];
  readonly ended: string[] = [];
  /** Entries that the leader has handed to its log. */
  appends = 0;
  /** Whether the log has no space for an entry. */
  refuseAppends: (offset: number) => boolean = () => false;
  started: "pending" | "served" | Refusal | Error = "pending";

  constructor(options: LeaderWorldOptions = {}) {
    const { followers: count = 2, isReference = false, values = [], features = FEATURES } = options;
    const { terms = values.map(() => 1) } = options;
    this.disk = new SimDisk(this.node, this.random.split("disk"), CALM_DISK);
    this.life = this.node.start();
    const disk = this.disk.mount(this.life);
    const { life } = this;
    this.log = this.run(() =>
      openMemoryLog({ life, disk, random: this.random.split("log"), retentionMs: 1, segmentEntriesMax: 4 }),
    );
    this.term = (terms.at(-1) ?? 0) + 1;
    const entries = terms.map((term, offset) => {
      const entry = entryOf(term, offset);
      return { ...entry, value: values[offset] ?? entry.value };
    });
    this.run(() => this.#fill(entries));
    const opened = this.run(() =>
      new DiskKeyValues({ life, disk }).open({ namespace: "ns", shard: SHARD, sorting: "hierarchical" }, EMPTY_HEAD),
    );
    if ("damage" in opened) throw new Error(opened.damage.what);
    this.kv = options.wrapKeyValue?.(opened.keyValue) ?? opened.keyValue;
    this.followers = Array.from({ length: count + 1 }, (_, n) => {
      return new ScriptedFollower(`f${n + 1}`, BigInt(n + 1), this.term, { isReference });
    });
    this.leader = this.#lead(options, { count, isReference, features });
  }

  async #fill(entries: readonly LogEntry[]): Promise<void> {
    await this.log.create(SHARD, { replicaId: SELF, mintedTerm: NO_TERM });
    for (const entry of entries) {
      const { promise } = this.log.replicas()[0]!;
      if (promise < entry.term) await this.log.promise(SHARD, entry.term);
      await this.log.append(SHARD, entry);
    }
    await this.log.promise(SHARD, this.term);
    await this.log.markLed(SHARD, this.term);
  }

  #lead(
    { options, wrapLog }: LeaderWorldOptions,
    { count, isReference, features }: { count: number; isReference: boolean; features: readonly Feature[] },
  ): Leader {
    const { head, base } = this.log.replicas()[0]!;
    const members = this.followers
      .slice(0, count)
      .map(({ server, replicaId }) => ({ server, replicaId: isReference ? NO_REPLICA : replicaId }));
    const self = { server: "leader", replicaId: SELF };
    const shardOptions: ShardOptions = {
      notificationsEnabled: true,
      keySorting: "hierarchical",
      readConsistency: "linearizable",
      ...options,
    };
    const config: LeaderConfig = {
      namespace: "ns",
      shard: SHARD,
      options: shardOptions,
      term: this.term,
      self,
      head,
      base,
      members: [self, ...members],
      features,
    };
    const { clock } = this.life;
    const silent = { debug() {}, info() {}, warn() {}, error() {} };
    const ports = {
      log: this.#counted(wrapLog?.(this.log) ?? this.log),
      kv: this.kv,
      clock,
      turns: new Turns(clock),
      logger: silent,
      followers: scriptedFollowers(this.followers),
      random: randomPort(this.random.split("leader")),
      budget: this.budget,
    };
    return new Leader(ports, config, {
      fault: (error) => void this.faults.push(error),
      followerEnded: (server) => void this.ended.push(server),
    });
  }

  #counted(log: Log): Log {
    return new Proxy(log, {
      get: (target, name) => {
        if (name === "append") {
          return (shard: number, entry: LogEntry) => {
            this.appends++;
            if (!this.refuseAppends(entry.offset)) return log.append(shard, entry);
            return Promise.reject(new Refusal("RESOURCE_EXHAUSTED", "no space"));
          };
        }
        const value = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  }

  run<T>(flow: () => Promise<T>): T {
    return this.scheduler.complete("test", flow);
  }

  /** Lets `ms` pass. */
  pass(ms = 50): void {
    this.scheduler.run({ untilMs: this.scheduler.nowMs + ms });
  }

  /** Starts the leadership with the members that are named, and lets it come to rest. */
  start(named: readonly ScriptedFollower[] = this.members): this {
    this.leader.start(named.map((follower) => this.named(follower))).then(
      () => {
        this.started = "served";
      },
      (error) => {
        this.started = error;
      },
    );
    this.pass();
    return this;
  }

  /** As a coordinator names it: BecomeLeader leaves the chain out. */
  named({ server, replicaId, isReference, head }: ScriptedFollower) {
    return {
      server,
      replicaId: isReference ? NO_REPLICA : replicaId,
      head: { term: head.term, offset: head.offset, crc: undefined },
    };
  }

  /** The followers that are members; the last one is not. */
  get members(): ScriptedFollower[] {
    return this.followers.slice(0, -1);
  }

  addObserver(follower: ScriptedFollower): void {
    this.leader.addFollower({ ...this.named(follower), observer: true, targetShard: SHARD });
  }

  /** A put, and what comes of it. */
  put(key: string, value = "v"): { outcome: "pending" | "done" | string } {
    const request = putRequest(key, value);
    const state = { outcome: "pending" };
    const settle = (outcome: string) => {
      state.outcome = outcome;
    };
    this.leader.write(decodeWrite(request), request).then(
      () => settle("done"),
      (error) => settle(error instanceof Refusal ? error.reason : String(error)),
    );
    return state;
  }

  /** What becomes of a promise, or of a call that may throw. */
  watch(ask: () => Promise<unknown> | undefined): { outcome: string } {
    const state = { outcome: "pending" };
    const settle = (outcome: string) => {
      state.outcome = outcome;
    };
    const failed = (error: unknown) => settle(error instanceof Refusal ? error.reason : String(error));
    try {
      const asked = ask();
      if (asked === undefined) settle("at once");
      else asked.then(() => settle("done"), failed);
    } catch (error) {
      failed(error);
    }
    return state;
  }
}

function putRequest(key: string, value: string) {
  const init = { shard: BigInt(SHARD), puts: [{ key: utf8(key), value: utf8(value) }] };
  return toBinary(WriteRequestSchema, create(WriteRequestSchema, init));
}

/** An entry that puts a key named after its place. */
export function entryOf(term: number, offset: number, value = "v"): LogEntry {
  return { term, offset, timestamp: 1_000 + offset, value: encodeWriteEntry(putRequest(`k${term}-${offset}`, value)) };
}
