/**
 * A leader's decisions while it leads one term: whose acks count, when its own-term entry is due, what is committed,
 * what followers may be told, and which reads are confirmed.
 *
 *     becoming ── floor(RF/2) followers attached ─> own-term entry appended ── on a majority ─> committed, told, served
 *
 * An ack counts only from a listed replica id, on the stream that is open to it now, of this term. It is cumulative, and
 * kept when it comes before the leader's own fsync. Above what was sent it is refused. Nothing of earlier terms commits
 * but through the own-term entry, and no commit offset is told before (both are Raft's figure 8).
 *
 * Read rounds instead of leases: a read waits for a round that was sent after it arrived. All that wait share the next
 * one; the answer to an earlier one is too small a number. Observers and former members count for nothing.
 *
 * Source: safety.md §1, §2, §5, §8; protocol.md §5.5; quorum.ts counts.
 */
import { assert } from "../lib/assert.ts";
import { NO_OFFSET, type Offset, type ReplicaId, type Term } from "../model/ids.ts";
import { ack, newQuorum, ownDurable, type Quorum } from "./quorum.ts";
import { NO_REPLICA } from "./replica-state.ts";

export interface Leadership {
  readonly term: Term;
  readonly self: ReplicaId;
  /** Ids in the stored (new) ensemble beside the leader's own. */
  readonly followers: ReadonlySet<ReplicaId>;
  /** floor(RF / 2), RF being the number of members, empty slots included. */
  readonly acksNeeded: number;
  readonly quorum: Quorum;
  /** Whether the own-term entry, at `quorum.firstOwnOffset`, has been handed to the log. */
  ownTermEntry: boolean;
  /** The stream that is open to each follower or observer. */
  readonly streams: Map<ReplicaId, FollowerStream>;
  /** Followers that have answered in this term, on a stream (reference followers: GetStatus): not those that were only named. */
  readonly attached: Set<ReplicaId>;
  /** Number of the last round sent; 0: none. */
  roundSent: number;
  /** By follower: the highest round that it has echoed in this term. */
  readonly echoed: Map<ReplicaId, number>;
  /** With replication factor 1: the last round that the log writer has confirmed. */
  roundConfirmedAlone: number;
}

/** One Replicate stream. Acks count by this object: those of a stream before it, or of another leadership, do not. */
export interface FollowerStream {
  readonly follower: ReplicaId;
  readonly term: Term;
}

/** A linearizable read that has arrived. */
export interface WaitingRead {
  /** Answered once a round of at least this number is confirmed, */
  readonly round: number;
  /** and the log is applied up to here. */
  readonly commitOffset: Offset;
}

export interface FollowerAck {
  /** Durable and verified up to here; NO_OFFSET: nothing yet. */
  readonly offset: Offset;
  /** Highest round seen; undefined from a reference follower. */
  readonly readRound: number | undefined;
  /** Its durable promise; undefined from a reference follower. */
  readonly promise: Term | undefined;
}

/** What an ack has come to. "refused": the peer answers what cannot be; close its stream. "ignored": it does not count. */
export type AckOutcome = "counted" | "ignored" | "refused";

/** A new leadership. `members`: the ids of the stored ensemble, NO_REPLICA for each empty slot. */
export function newLeadership(options: {
  readonly term: Term;
  readonly self: ReplicaId;
  readonly members: readonly ReplicaId[];
  /** The leader's durable head as it was elected. */
  readonly headOffset: Offset;
}): Leadership {
  const { term, self, members, headOffset } = options;
  assert(members.includes(self), "the leader is a member", self);
  const quorum = newQuorum(members.length, headOffset + 1);
  return {
    term,
    self,
    followers: new Set(members.filter((id) => id !== self && id !== NO_REPLICA)),
    acksNeeded: quorum.acksNeeded,
    quorum,
    ownTermEntry: false,
    streams: new Map(),
    attached: new Set(),
    roundSent: 0,
    echoed: new Map(),
    roundConfirmedAlone: 0,
  };
}

/** A stream to `follower` is open: it takes the place of the one before. */
export function openStream(leadership: Leadership, follower: ReplicaId): FollowerStream {
  const stream = { follower, term: leadership.term };
  leadership.streams.set(follower, stream);
  return stream;
}

/** A stream has ended; what it acked stays counted: an acked offset never falls (safety.md §1). */
export function closeStream(leadership: Leadership, stream: FollowerStream): void {
  if (leadership.streams.get(stream.follower) === stream) leadership.streams.delete(stream.follower);
}

/** NODE_IS_NOT_MEMBER: the id has ended. Its cursor ends with it and is not reset; what it acked counts no more. */
export function followerEnded(leadership: Leadership, follower: ReplicaId): void {
  leadership.streams.delete(follower);
  leadership.attached.delete(follower);
  leadership.quorum.acked.delete(follower);
  leadership.echoed.delete(follower);
}

/** An Ack came on `stream`. Afterwards `quorum.committed` and `confirmedRound` may have moved. */
export function takeAck(leadership: Leadership, stream: FollowerStream, answer: FollowerAck): AckOutcome {
  const { follower } = stream;
  const current = leadership.streams.get(follower) === stream;
  if (!current || stream.term !== leadership.term) return "ignored";
  const { offset, readRound = 0, promise = leadership.term } = answer;
  if (offset > leadership.quorum.sent || readRound > leadership.roundSent) return "refused";
  // A follower that has promised a later term must not help this one any more.
  if (promise !== leadership.term || !leadership.followers.has(follower)) return "ignored";
  leadership.attached.add(follower);
  if (readRound > (leadership.echoed.get(follower) ?? 0)) leadership.echoed.set(follower, readRound);
  if (offset > NO_OFFSET) ack(leadership.quorum, follower, offset);
  return "counted";
}

/**
 * A reference follower has answered GetStatus with `term`, asked after `round` was begun (0: none). It acks no Append
 * without an entry and echoes no round: this is how it shows that it is there and that no later term has been promised
 * (safety.md §11). A head that is sent again proves nothing: its ack may come late.
 */
export function takeStatus(
  leadership: Leadership,
  follower: ReplicaId,
  { term, round }: { readonly term: Term; readonly round: number },
): AckOutcome {
  if (term !== leadership.term || !leadership.followers.has(follower)) return "ignored";
  assert(round <= leadership.roundSent, "a status asked for a round to come", round);
  leadership.attached.add(follower);
  if (round > (leadership.echoed.get(follower) ?? 0)) leadership.echoed.set(follower, round);
  return "counted";
}

/**
 * Whether the own-term entry is to be appended now: earlier, a replica that reaches the coordinator but no peer would get
 * the one best head, and win every election for ever.
 */
export function ownTermEntryDue(leadership: Leadership): boolean {
  return !leadership.ownTermEntry && leadership.attached.size >= leadership.acksNeeded;
}

/** An entry is handed to the log and the followers: the own-term entry first, then each that follows. */
export function entrySent(leadership: Leadership, offset: Offset): void {
  const { quorum } = leadership;
  assert(offset === quorum.sent + 1, "entries are sent without gaps", offset, quorum.sent);
  assert(leadership.ownTermEntry || ownTermEntryDue(leadership), "the own-term entry is not due yet", offset);
  quorum.sent = offset;
  leadership.ownTermEntry = true;
}

/** The leader's own log is durable up to `offset`, as the log writer says under this term. Returns the committed offset. */
export function takeOwnDurable(leadership: Leadership, offset: Offset): Offset {
  return ownDurable(leadership.quorum, offset);
}

/** What Append's commit_offset says: nothing before the own-term entry is on a majority. Entries are applied up to here too. */
export function commitToTell(leadership: Leadership): Offset {
  return leadership.quorum.committed;
}

/** Whether clients may be served: the own-term entry is committed and applied. */
export function mayServe(leadership: Leadership, applied: Offset): boolean {
  const { committed, firstOwnOffset } = leadership.quorum;
  return committed >= firstOwnOffset && applied >= firstOwnOffset;
}

/** A read has arrived at a leader that serves: what it waits for. It joins the next round, never one that is on its way. */
export function readArrives(leadership: Leadership): WaitingRead {
  return { round: leadership.roundSent + 1, commitOffset: leadership.quorum.committed };
}

/** Begins a round for all reads that wait, or to show that the leader stands: its number rides on the next Appends. */
export function sendRound(leadership: Leadership): number {
  leadership.roundSent += 1;
  return leadership.roundSent;
}

/** With replication factor 1: the log writer, asked after `round` was begun, says that the term still stands. */
export function confirmAlone(leadership: Leadership, round: number): void {
  assert(leadership.acksNeeded === 0 && round <= leadership.roundSent, "a round confirmed alone", round);
  leadership.roundConfirmedAlone = Math.max(leadership.roundConfirmedAlone, round);
}

/** The highest round that a majority has echoed; the leader is one of it. */
export function confirmedRound(leadership: Leadership): number {
  const { acksNeeded, echoed, roundConfirmedAlone } = leadership;
  if (acksNeeded === 0) return roundConfirmedAlone;
  return [...echoed.values()].sort((a, b) => b - a)[acksNeeded - 1] ?? 0;
}

export function mayAnswer(leadership: Leadership, read: WaitingRead, applied: Offset): boolean {
  return confirmedRound(leadership) >= read.round && applied >= read.commitOffset;
}
