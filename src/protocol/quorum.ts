/**
 * Counts acks for one leader's term and says how far the log is committed.
 *
 *     applied <= committed <= own durable head
 *     committed <= what floor(replicationFactor / 2) followers have acked
 *
 * The leader's own copy counts once it is synced, like any other; commit never passes it. Acks are cumulative and
 * may come before the leader's own fsync: they are kept. Committed never moves back, and moves only through an entry
 * of the leader's own term (safety.md §5), so nothing is committed below `firstOwnOffset`.
 *
 * Source: Oxia's replication protocol; TLA+ LeaderHandlesEntryConfirm; safety.md §5.
 */
import { assert } from "../lib/assert.ts";
import { NO_OFFSET, type Offset, type ReplicaId } from "../model/ids.ts";

export interface Quorum {
  /** Followers whose acks are needed beside the leader's own copy: floor(RF / 2). */
  readonly acksNeeded: number;
  /** Offset of the leader's own-term entry. */
  readonly firstOwnOffset: Offset;
  /** Last offset handed to the log and to the followers. */
  sent: Offset;
  /** Last offset durable here. */
  durable: Offset;
  committed: Offset;
  /** By follower: its durable head under this term. */
  readonly acked: Map<ReplicaId, Offset>;
}

/** A quorum for a new leadership: nothing counts as committed before the own-term entry at `firstOwnOffset`. */
export function newQuorum(replicationFactor: number, firstOwnOffset: Offset): Quorum {
  return {
    acksNeeded: Math.floor(replicationFactor / 2),
    firstOwnOffset,
    sent: firstOwnOffset - 1,
    durable: firstOwnOffset - 1,
    committed: NO_OFFSET,
    acked: new Map(),
  };
}

/** The leader's own log is durable up to `offset`. Returns the committed offset. */
export function ownDurable(quorum: Quorum, offset: Offset): Offset {
  assert(offset <= quorum.sent, "durable past what was sent", offset, quorum.sent);
  if (offset > quorum.durable) quorum.durable = offset;
  return advance(quorum);
}

/** A follower has everything up to `offset`, under this term and on its one stream. Returns the committed offset. */
export function ack(quorum: Quorum, follower: ReplicaId, offset: Offset): Offset {
  assert(offset <= quorum.sent, "ack past what was sent", offset, quorum.sent);
  if (offset > (quorum.acked.get(follower) ?? NO_OFFSET)) quorum.acked.set(follower, offset);
  return advance(quorum);
}

function advance(quorum: Quorum): Offset {
  let candidate = quorum.durable;
  if (quorum.acksNeeded > 0) {
    const acked = [...quorum.acked.values()].sort((a, b) => b - a);
    candidate = Math.min(candidate, acked[quorum.acksNeeded - 1] ?? NO_OFFSET);
  }
  if (candidate >= quorum.firstOwnOffset && candidate > quorum.committed) quorum.committed = candidate;
  return quorum.committed;
}
