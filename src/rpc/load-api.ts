/** `varia.internal.v1.NodeService`: what a data server bears, for its coordinator. */
import { statfsSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { create, type MessageShape } from "@bufbuild/protobuf";
import { GetLoadResponseSchema, NodeService } from "../gen/varia/internal/v1/node_pb.ts";
import { summed } from "../ops/quantile.ts";
import type { Log } from "../ports.ts";
import type { Leader } from "../replication/leader.ts";
import type { Shards } from "../replication/shards.ts";
import { type InternalServer, requireInstance } from "./internal-methods.ts";
import type { ServedMethod } from "./method.ts";
import { servedUnary } from "./served.ts";

export interface LoadSources {
  readonly version: string;
  /** Milliseconds since the epoch. */
  readonly startedAtMs: number;
  readonly shards: Shards;
  readonly log: Pick<Log, "stats">;
  /** Bytes of all states that are stored. */
  readonly stateBytes: () => number;
  /** Bytes of one of them. */
  readonly stateBytesOf: (shard: Leader) => number;
  /** Where they are. */
  readonly directory: string;
  /** Of this process's own pages. */
  readonly httpPort: () => number;
}

/** Coarse: it costs a timer, and what it looks for lasts longer. */
const LOOP_RESOLUTION_MS = 50;
const NS_PER_MS = 1e6;

export function loadMethods(server: Pick<InternalServer, "instance">, sources: LoadSources): ServedMethod[] {
  const load = ownLoad(sources);
  return [
    servedUnary(NodeService.method.getLoad, (_, call) => {
      requireInstance(server, call);
      return load();
    }),
  ];
}

/** What this process bears now; the delay of its event loop since the last call. */
export function ownLoad(sources: LoadSources): () => MessageShape<typeof GetLoadResponseSchema> {
  const delay = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });
  delay.enable();
  return () => {
    const loopDelayP99Ms = delay.percentile(99) / NS_PER_MS;
    delay.reset();
    const { user, system } = process.cpuUsage();
    const leaders = sources.shards.leaders();
    return create(GetLoadResponseSchema, {
      ...{ version: sources.version, startedAtMs: BigInt(Math.round(sources.startedAtMs)) },
      httpPort: sources.httpPort(),
      cpuMs: BigInt(Math.round((user + system) / 1000)),
      residentBytes: BigInt(process.memoryUsage.rss()),
      loopDelayP99Ms: Number.isFinite(loopDelayP99Ms) ? loopDelayP99Ms : 0,
      ...diskOf(sources.directory),
      logBytes: BigInt(sources.log.stats().bytes),
      stateBytes: BigInt(sources.stateBytes()),
      ...latenciesOf(leaders),
      shards: leaders.map((leader) => ({ ...shardLoad(leader), stateBytes: BigInt(sources.stateBytesOf(leader)) })),
    });
  };
}

function diskOf(directory: string) {
  const { bavail, blocks, bsize } = statfsSync(directory, { bigint: true });
  return { diskFreeBytes: bavail * bsize, diskTotalBytes: blocks * bsize };
}

/** Of all that lead here, in one. */
function latenciesOf(leaders: readonly Leader[]) {
  const { bounds, counts } = summed(leaders.map(({ writeLatency }) => writeLatency));
  return { writeLatencyBoundsMs: [...bounds], writeLatencyCounts: [...counts].map(BigInt) };
}

function shardLoad({ id, term, counters, kv, committed }: Leader) {
  const { puts, deletes, deleteRanges, gets, lists, rangeScans } = counters;
  return {
    ...{ shard: BigInt(id), term: BigInt(term) },
    ...{ writes: BigInt(puts + deletes + deleteRanges), reads: BigInt(gets + lists + rangeScans) },
    ...{ records: BigInt(kv.rowCount), commitOffset: BigInt(committed) },
  };
}
