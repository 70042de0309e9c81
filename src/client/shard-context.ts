/** What the reads and writes of all shards of one client share. */
import type { Assignments } from "./assignments.ts";
import type { ChangedBy } from "./backoff.ts";
import type { BatchBounds } from "./batch.ts";
import type { PendingBudget } from "./operation.ts";
import type { ClientPorts } from "./transport.ts";

/** A stream that follows one shard. */
export interface FollowingStream {
  assignmentsChanged(by: ChangedBy): void;
}

export interface ShardContext {
  readonly ports: ClientPorts;
  readonly assignments: Assignments;
  readonly namespace: string;
  /** Sent with every call. */
  readonly headers: Readonly<Record<string, string>>;
  readonly requestTimeoutMs: number;
  readonly bounds: BatchBounds;
  readonly budget: PendingBudget;
  /** Range reads under way, to be failed when the client closes. */
  readonly openRanges: Set<{ fail(error: Error): void }>;
  /** Streams without an end, to be told when the assignments change. */
  readonly feeds: Set<FollowingStream>;
  /** What ends their readers when the client closes. */
  readonly closers: Set<() => void>;
}
