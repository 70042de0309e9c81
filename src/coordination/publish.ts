/**
 * Tells all data servers who leads what, as it is stored: after each change, with a pause in between, since each time
 * it is the full set.
 *
 * Source: semantics.md §6, §9.2.
 */
import { ASSIGNMENTS_INTERVAL_MS_A_SHARD, ASSIGNMENTS_INTERVAL_MS_MIN } from "../model/limits.ts";
import type { ShardAssignments } from "../model/peer-messages.ts";
import type { Clock } from "../ports.ts";
import { type PublishableShard, sameAssignments, shardAssignments } from "../protocol/assignment.ts";
import type { ClusterConfig } from "./cluster-config.ts";
import type { ClusterStatus, NamespaceStatus, ShardMetadata } from "./status-document.ts";

export class Publisher {
  readonly #clock: Clock;
  readonly #send: (assignments: ShardAssignments) => void;
  readonly #current: () => ShardAssignments;
  #sent: ShardAssignments | undefined;
  #due: (() => void) | undefined;
  #nextMs = 0;

  /** `current`: what is to be told when it is asked. */
  constructor(clock: Clock, current: () => ShardAssignments, send: (assignments: ShardAssignments) => void) {
    this.#clock = clock;
    this.#current = current;
    this.#send = send;
  }

  /** What is stored, or configured, may be another: sends it if it is, now or a little later. */
  changed(): void {
    const waitMs = Math.max(this.#nextMs - this.#clock.monotonicMs(), 0);
    this.#due ??= this.#clock.after(waitMs, () => this.#publish());
  }

  stop(): void {
    this.#due?.();
  }

  #publish(): void {
    this.#due = undefined;
    const current = this.#current();
    this.#nextMs = this.#clock.monotonicMs() + pauseMs(current);
    if (this.#sent !== undefined && sameAssignments(this.#sent, current)) return;
    this.#sent = current;
    this.#send(current);
  }
}

/** The more shards there are, the more each set costs everybody. */
function pauseMs({ namespaces }: ShardAssignments): number {
  let shards = 0;
  for (const assignments of namespaces.values()) shards += assignments.length;
  return ASSIGNMENTS_INTERVAL_MS_MIN + shards * ASSIGNMENTS_INTERVAL_MS_A_SHARD;
}

/** The full set for a stored status. */
export function assignmentsOf(status: ClusterStatus, config: ClusterConfig): ShardAssignments {
  const addresses = new Map(config.servers.map((server) => [server.internal, server.public]));
  const publish = ([shard, metadata]: [number, ShardMetadata]): PublishableShard => ({
    shard,
    leader: metadata.leader === undefined ? "" : (addresses.get(metadata.leader.internal) ?? metadata.leader.public),
    range: metadata.int32HashRange,
    hidden: metadata.status === "Deleting" || isUnfinishedChild(metadata),
  });
  const namespaces = [...status.namespaces].map(([name, { shards }]) => [name, [...shards].map(publish)] as const);
  return shardAssignments(namespaces, authorities(status, config));
}

function isUnfinishedChild({ split }: ShardMetadata): boolean {
  return split !== undefined && split.childShardIds.length === 0;
}

function authorities(status: ClusterStatus, config: ClusterConfig): Set<string> {
  const all = new Set(config.allowExtraAuthorities);
  const add = (server: { readonly public: string; readonly internal: string }) => {
    if (server.public !== "") all.add(server.public);
    all.add(server.internal);
  };
  for (const server of config.servers) add(server);
  for (const { shards } of status.namespaces.values() as Iterable<NamespaceStatus>) {
    for (const { ensemble, formerEnsemble, removedNodes } of shards.values()) {
      for (const server of [...ensemble, ...(formerEnsemble ?? []), ...removedNodes]) add(server);
    }
  }
  return all;
}
