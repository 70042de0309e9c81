/**
 * What the data servers bear, as a coordinator hears it from them now and then: rates over the last seconds, and since
 * when a replica lacks what its leader has committed. For people alone: nothing is decided by it.
 *
 *     each LOAD_INTERVAL_MS: available servers ─GetLoad─> counters ─ less those before ─> rates
 */
import { create, type MessageShape } from "@bufbuild/protobuf";
import { GetLoadRequestSchema, type GetLoadResponseSchema, NodeService } from "../gen/varia/internal/v1/node_pb.ts";
import type { Offset, ShardId } from "../model/ids.ts";
import { quantileOf } from "../ops/quantile.ts";
import type { Clock } from "../ports.ts";
import { callPeer, type PeerPorts } from "./peer-call.ts";

type Counters = MessageShape<typeof GetLoadResponseSchema>;

/** How often servers are asked. */
export const LOAD_INTERVAL_MS = 5_000;
/** As long as none has answered. */
const LOAD_FIRST_MS = 500;
/** One that does not answer by then is asked again at the next turn. */
const LOAD_CALL_MS_MAX = 2_000;
/** What is older is not shown. */
export const LOAD_AGE_MS_MAX = 3 * LOAD_INTERVAL_MS;
/** Of commits that are remembered for each shard: five minutes. */
export const COMMITS_KEPT_MAX = 60;

export interface LoadPorts {
  /** Rejects when it is not told. */
  readonly ask: (server: string) => Promise<Counters>;
  /** Internal addresses of those that are there. */
  readonly servers: () => readonly string[];
  readonly clock: Clock;
}

/** What one server bears. Numbers as in varia.admin.v1.ServerLoad. */
export interface ServerLoad {
  readonly version: string;
  /** 0: not known. */
  readonly httpPort: number;
  readonly observedAtMs: number;
  readonly startedAtMs: number;
  readonly cpuCores: number;
  readonly residentBytes: number;
  readonly loopDelayP99Ms: number;
  readonly diskFreeBytes: number;
  readonly diskTotalBytes: number;
  readonly logBytes: number;
  readonly stateBytes: number;
  readonly writesPerS: number;
  readonly readsPerS: number;
}

export interface ShardLoad {
  readonly writesPerS: number;
  readonly readsPerS: number;
  readonly records: number;
  readonly stateBytes: number;
}

interface Heard {
  readonly load: ServerLoad;
  readonly counters: Counters;
  /** Writes by how long they took, over the last interval. */
  readonly latencies: readonly number[];
  /** On the monotonic clock. */
  readonly atMs: number;
}

interface SeenShard {
  readonly load: ShardLoad;
  readonly term: bigint;
  readonly atMs: number;
}

/** Asks a data server over its internal port. */
export function askLoad(ports: PeerPorts, server: string): Promise<Counters> {
  const call = { server, limits: { timeoutMs: LOAD_CALL_MS_MAX } };
  return callPeer(ports, NodeService.method.getLoad, call, create(GetLoadRequestSchema));
}

export class LoadWatch {
  readonly #ports: LoadPorts;
  readonly #heard = new Map<string, Heard>();
  readonly #shards = new Map<ShardId, SeenShard>();
  readonly #commits = new Map<ShardId, { readonly atMs: number; readonly offset: Offset }[]>();
  #cancel: () => void = () => {};
  #isStopped = false;

  constructor(ports: LoadPorts) {
    this.#ports = ports;
  }

  /** Asks from now on, until `stop`; it is not started again. */
  start(): void {
    void this.look().then(() => {
      if (this.#isStopped) return;
      const pauseMs = this.#heard.size === 0 ? LOAD_FIRST_MS : LOAD_INTERVAL_MS;
      this.#cancel = this.#ports.clock.after(pauseMs, () => this.start());
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel();
  }

  /** Asks all once. Those that do not answer, or are another's and cannot, are passed over. */
  async look(): Promise<void> {
    const servers = this.#ports.servers();
    for (const server of this.#heard.keys()) if (!servers.includes(server)) this.#heard.delete(server);
    const asked = servers.map(async (server) => {
      const counters = await this.#ports.ask(server).catch(() => undefined);
      if (counters !== undefined) this.#hear(server, counters);
    });
    await Promise.all(asked);
    this.#forgetOld();
  }

  /** Undefined: it has not said so lately. */
  server(server: string): ServerLoad | undefined {
    const heard = this.#heard.get(server);
    return heard === undefined || !this.#isFresh(heard) ? undefined : heard.load;
  }

  shard(shard: ShardId): ShardLoad | undefined {
    const seen = this.#shards.get(shard);
    return seen === undefined || !this.#isFresh(seen) ? undefined : seen.load;
  }

  /**
   * For how many seconds the leader has committed entries behind `holds`, as far as that was seen: between two looks it
   * is the time since the last one. Undefined: nothing is known of the shard.
   */
  lagSeconds(shard: ShardId, holds: Offset): number | undefined {
    const commits = this.#commits.get(shard) ?? [];
    const nowMs = this.#ports.clock.monotonicMs();
    const since = commits.find(({ offset }) => offset > holds) ?? commits.at(-1);
    return since === undefined ? undefined : (nowMs - since.atMs) / 1_000;
  }

  /** Of all servers. */
  totals(): { readonly writesPerS: number; readonly readsPerS: number; readonly writeP99Ms: number } {
    const fresh = [...this.#heard.values()].filter((heard) => this.#isFresh(heard));
    const sum = (read: (load: ServerLoad) => number) => fresh.reduce((total, { load }) => total + read(load), 0);
    return {
      writesPerS: sum(({ writesPerS }) => writesPerS),
      readsPerS: sum(({ readsPerS }) => readsPerS),
      writeP99Ms: p99(fresh),
    };
  }

  /** Shards that nobody leads any more. */
  #forgetOld(): void {
    const nowMs = this.#ports.clock.monotonicMs();
    for (const [shard, { atMs }] of this.#shards) {
      if (nowMs - atMs <= COMMITS_KEPT_MAX * LOAD_INTERVAL_MS) continue;
      this.#shards.delete(shard);
      this.#commits.delete(shard);
    }
  }

  #isFresh({ atMs }: { readonly atMs: number }): boolean {
    return this.#ports.clock.monotonicMs() - atMs <= LOAD_AGE_MS_MAX;
  }

  #hear(server: string, counters: Counters): void {
    const { clock } = this.#ports;
    const atMs = clock.monotonicMs();
    const heard = this.#heard.get(server);
    const isSame = heard?.counters.startedAtMs === counters.startedAtMs;
    const before = isSame ? heard : undefined;
    const seconds = before === undefined ? 0 : (atMs - before.atMs) / 1_000;
    const rate = (now: number, then: number | undefined) =>
      seconds <= 0 || then === undefined ? 0 : Math.max(0, now - then) / seconds;
    const led = new Map(before?.counters.shards.map((shard) => [`${shard.shard} ${shard.term}`, shard]));
    let [writesPerS, readsPerS] = [0, 0];
    for (const { shard, term, writes, reads, records, commitOffset, stateBytes } of counters.shards) {
      const then = led.get(`${shard} ${term}`);
      const load = {
        writesPerS: rate(Number(writes), then && Number(then.writes)),
        readsPerS: rate(Number(reads), then && Number(then.reads)),
        ...{ records: Number(records), stateBytes: Number(stateBytes) },
      };
      writesPerS += load.writesPerS;
      readsPerS += load.readsPerS;
      const seen = this.#shards.get(Number(shard));
      // a leader that was cut off goes on saying what it did
      if (seen !== undefined && seen.term > term && this.#isFresh(seen)) continue;
      this.#shards.set(Number(shard), { load, term, atMs });
      this.#committed(Number(shard), { atMs, offset: Number(commitOffset) });
    }
    const load: ServerLoad = {
      httpPort: counters.httpPort,
      ...{ version: counters.version, observedAtMs: clock.now(), startedAtMs: Number(counters.startedAtMs) },
      cpuCores: rate(Number(counters.cpuMs) / 1_000, before && Number(before.counters.cpuMs) / 1_000),
      ...{ residentBytes: Number(counters.residentBytes), loopDelayP99Ms: counters.loopDelayP99Ms },
      ...{ diskFreeBytes: Number(counters.diskFreeBytes), diskTotalBytes: Number(counters.diskTotalBytes) },
      ...{ logBytes: Number(counters.logBytes), stateBytes: Number(counters.stateBytes), writesPerS, readsPerS },
    };
    const latencies = counters.writeLatencyCounts.map((count, nth) =>
      before === undefined ? 0 : Math.max(0, Number(count - (before.counters.writeLatencyCounts[nth] ?? 0n))),
    );
    this.#heard.set(server, { load, counters, latencies, atMs });
  }

  /** A leader that was cut off may say less than was committed since. */
  #committed(shard: ShardId, commit: { readonly atMs: number; readonly offset: Offset }): void {
    const commits = this.#commits.get(shard) ?? [];
    if ((commits.at(-1)?.offset ?? -1) > commit.offset) return;
    commits.push(commit);
    if (commits.length > COMMITS_KEPT_MAX) commits.shift();
    this.#commits.set(shard, commits);
  }
}

/** The upper bound of the bucket in which the slowest hundredth of all writes begins; 0: there were none. */
function p99(all: readonly Heard[]): number {
  const bounds =
    all.find(({ counters }) => counters.writeLatencyBoundsMs.length > 0)?.counters.writeLatencyBoundsMs ?? [];
  const counts = bounds.map(() => 0).concat(0);
  // another version may have other buckets: what is beyond these is in the last one
  const last = counts.length - 1;
  for (const { latencies } of all) {
    for (const [nth, count] of latencies.entries()) counts[Math.min(nth, last)]! += count;
  }
  return quantileOf(0.99, bounds, counts);
}
