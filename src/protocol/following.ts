/**
 * The rules by which a replica takes a leader's entries: Truncate, the first message of a Replicate stream, each
 * Append, SendSnapshot. A leader refuses them all (safety.md §3).
 *
 * Source: safety.md §1 (check (b)), §3, §6, §11; semantics.md §8.1, §8.3, §8.4, §8.6.
 */
import { type Head, NO_OFFSET, NO_TERM, type Offset, type Term } from "../model/ids.ts";
import { notIntroduced, notThisReplica } from "./fencing.ts";
import {
  accept,
  endReplica,
  type Outcome,
  type Refused,
  type Replica,
  type Requests,
  refuse,
  sameHead,
} from "./replica-state.ts";

/** What a leader answers to another leader's calls. Two leaders of one term, and a leader cut by itself, otherwise (§3). */
export function refusedByLeader(replica: Replica, { term }: { readonly term: Term }): Refused {
  if (term !== NO_TERM && term !== replica.promise) return wrongTerm(replica, term);
  return refuse(replica, "INVALID_STATUS", `this replica leads term ${replica.promise}`);
}

/**
 * Truncate names the head it expects and is refused from the first append of the term on, and below what is applied
 * (§6). A late one would cut entries that were acked since. An entry of the term in the log is such an append, also if
 * the process has forgotten it.
 */
export function truncate(replica: Replica, request: Requests["Truncate"]): Outcome<"Truncate"> {
  const { term, keep, held, expectedHead } = request;
  if (term !== replica.promise) return wrongTerm(replica, term);
  const other = notThisReplica(replica, request.replicaId);
  if (other !== undefined) return other;
  if (replica.streaming) return refuse(replica, "RESOURCE_CONFLICT", "a replicate stream is open");
  if (replica.head.term >= term) return truncateTooLate(replica);
  if (expectedHead !== undefined && !sameHead(expectedHead, replica.head)) {
    return refuse(replica, "RESOURCE_CONFLICT", "the head is not the one that the leader expects");
  }
  if (keep.offset < replica.applied) {
    return refuse(replica, "FAILED_PRECONDITION", `entries up to ${replica.applied} are applied`, true);
  }
  if (held === undefined || keep.offset > replica.head.offset) {
    return refuse(replica, "INVALID_ARGUMENT", `there is no entry at offset ${keep.offset} to keep`);
  }
  return accept({ ...replica, status: "follower", head: held, verified: NO_OFFSET }, { keep: keep.offset });
}

export function truncateTooLate(replica: Replica): Refused {
  return refuse(replica, "INVALID_STATUS", `an entry of term ${replica.promise} has been appended`);
}

/**
 * The first message of a stream. A head below what this id has acked to this leader is an older copy of the disk: its
 * id ends (§1, check (b)); so nothing is taken before the stamp has been checked, after a start (check (c)).
 *
 * What has been acked to this term's leader was verified by it, also where the process has forgotten that: the leader
 * will not send it again, and without new entries nothing else would verify it.
 */
export function openReplicate(replica: Replica, request: Requests["OpenReplicate"]): Outcome<"OpenReplicate"> {
  const { term, replicaId, ackedOffset } = request;
  if (replica.streaming) return refuse(replica, "RESOURCE_CONFLICT", "a replicate stream is open");
  if (term !== replica.promise && !(term === NO_TERM && replicaId === undefined)) return wrongTerm(replica, term);
  const other = notThisReplica(replica, replicaId);
  if (other !== undefined) return other;
  if (replicaId !== undefined && !replica.introduced) return notIntroduced(replica);
  if (replicaId !== undefined && ackedOffset > replica.head.offset) {
    const why = `the head is ${replica.head.offset}, but ${ackedOffset} has been acked: an older copy of the disk`;
    return refuse(endReplica(replica, why), "NODE_IS_NOT_MEMBER", why);
  }
  const streaming: Replica = { ...replica, streaming: true };
  if (replicaId === undefined || ackedOffset <= replica.verified) return accept(streaming, { ackedOffset });
  return accept({ ...streaming, status: "following", verified: ackedOffset }, { ackedOffset });
}

/**
 * One Append. It counts only if the entry before is the same here and there, by term and chain CRC; an entry that is
 * held already counts only if it is the same one (§6: a longer log of an old term would be acked and applied unread).
 * Without an entry nothing is verified and the status stays. Entries that are applied here and that the leader does not
 * have are an alarm, never cut.
 *
 * A reference leader truncates by offset alone and may stand on a foreign tail (§11): what does not agree with what it
 * sends is cut here, entry by entry, as long as nobody was told that it is held.
 */
export function append(replica: Replica, request: Requests["Append"]): Outcome<"Append"> {
  const { term, entry, commitOffset, held } = request;
  if (!replica.streaming) return refuse(replica, "RESOURCE_CONFLICT", "the stream has ended");
  if (term !== replica.promise && term !== NO_TERM) return wrongTerm(replica, term);
  if (entry === undefined) {
    return accept(replica, { write: false, cut: false, applyUpTo: applicable(replica, commitOffset) });
  }
  const refused = previousDiffers(replica, request);
  if (refused !== undefined) return refused;
  const contradicted = held !== undefined && !sameHead(entry, held);
  if (contradicted && !mayCut(replica, request, held)) return heldDiffers(replica, held);
  const head = contradicted ? request.heldBefore! : replica.head;
  const verified = Math.max(replica.verified, entry.offset);
  const next: Replica = { ...replica, status: "following", head, verified };
  const write = held === undefined || contradicted;
  return accept(next, { write, cut: contradicted, applyUpTo: applicable(next, commitOffset) });
}

/**
 * SendSnapshot, by its first chunk; `next` holds once it is installed whole and switched to. Refused when it lies below
 * what is applied (§6), and below what this term's leader has been acked: a late one of the same term would drop entries
 * that a majority was counted on.
 */
export function sendSnapshot(replica: Replica, request: Requests["SendSnapshot"]): Outcome<"SendSnapshot"> {
  const { term, last } = request;
  if (replica.streaming) return refuse(replica, "RESOURCE_CONFLICT", "a replicate stream is open");
  if (term !== replica.promise) return wrongTerm(replica, term);
  const other = notThisReplica(replica, request.replicaId);
  if (other !== undefined) return other;
  if (last === undefined) {
    return refuse(replica, "FAILED_PRECONDITION", "a snapshot of a reference server cannot be read");
  }
  const acked = replica.head.term >= term ? replica.head.offset : replica.verified;
  if (last.offset < Math.max(replica.applied, acked)) {
    return refuse(replica, "FAILED_PRECONDITION", `entries above ${last.offset} are applied or acked`);
  }
  const status = replica.status === "following" ? "following" : "follower";
  const next: Replica = { ...replica, status, head: last, applied: last.offset, verified: last.offset };
  return accept(next, { last });
}

function wrongTerm(replica: Replica, term: Term): Refused {
  return refuse(replica, "INVALID_TERM", `term ${term} is not the promised ${replica.promise}`);
}

/** Applied <= what this term's leader has verified, not what the log happens to hold (§6). */
function applicable(replica: Replica, commitOffset: Offset): Offset {
  return Math.max(replica.applied, Math.min(commitOffset, replica.verified));
}

function previousDiffers(replica: Replica, request: Requests["Append"]): Refused | undefined {
  const { entry, previous, heldBefore } = request;
  if (entry === undefined) return undefined;
  if (heldBefore === undefined) {
    const message = `entry ${entry.offset} can not immediately follow ${replica.head.offset}`;
    return refuse(replica, "UNKNOWN", `${message}: oxia: invalid next offset in wal`);
  }
  if (previous === undefined) return unprovenBefore(replica, request, heldBefore);
  if (sameHead(previous, heldBefore)) return undefined;
  const alarm = heldBefore.offset <= replica.applied;
  return refuse(replica, "RESOURCE_CONFLICT", `the entry before ${entry.offset} is another one here`, alarm);
}

/**
 * A reference leader's chain value may be wrong, so a difference says nothing; but what it follows must have been
 * compared, else acks would vouch for entries that the leader does not have. NODE_IS_NOT_MEMBER, once a term, makes it
 * send its log from 0 on, each entry to be compared. If it has trimmed its log, this replica stays out.
 */
function unprovenBefore(
  replica: Replica,
  { previousEntryCrc }: Requests["Append"],
  heldBefore: Head,
): Refused | undefined {
  const { offset, crc } = heldBefore;
  if (offset === NO_OFFSET || offset <= replica.verified || previousEntryCrc === crc) return undefined;
  const message = `nothing proves that the leader has the entries up to ${offset}`;
  if (replica.askedAgainTerm === replica.promise) return refuse(replica, "RESOURCE_CONFLICT", message);
  return refuse({ ...replica, askedAgainTerm: replica.promise }, "NODE_IS_NOT_MEMBER", message);
}

function heldDiffers(replica: Replica, { offset }: Head): Refused {
  return refuse(replica, "RESOURCE_CONFLICT", `entry ${offset} is another one here`, offset <= replica.applied);
}

/** Only for a reference leader, and only before anything of its term is held: from then on entries here may count as acked. */
function mayCut(replica: Replica, { term, previous }: Requests["Append"], { offset }: Head): boolean {
  const { applied, verified, head, promise } = replica;
  return previous === undefined && term === promise && offset > Math.max(applied, verified) && head.term < promise;
}
