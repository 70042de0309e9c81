/**
 * The rules by which a replica is fenced, deleted, and told from an older or an empty copy of itself: stamps, NewTerm,
 * DeleteShard.
 *
 * Source: safety.md §1 (replica ids, rolled-back disks), §4 (fencing), §11 (reference coordinators); semantics.md §8.1.
 */
import { EMPTY_HEAD, NO_OFFSET, NO_TERM, type ReplicaId } from "../model/ids.ts";
import {
  accept,
  endReplica,
  NO_REPLICA,
  type Outcome,
  type Refused,
  type Replica,
  type Requests,
  refuse,
} from "./replica-state.ts";

/**
 * Handshake and NewTerm: what stamp a server holds from now on, and whether it has gone back in time, so that all its
 * ids end. Both become durable in one transaction, before the answer and before anything else of the request is done.
 * Lost otherwise: what the newer copy of the disk has acked (safety.md §1, check (c)).
 */
export function takeStamp(
  held: number,
  { stamp, confirmedStamp }: { readonly stamp: number; readonly confirmedStamp: number },
): { readonly held: number; readonly rolledBack: boolean } {
  return { held: Math.max(held, stamp), rolledBack: held < confirmedStamp };
}

/**
 * NewTerm: fences whatever stands here and answers its id (safety.md §1). Mints only when asked with id 0 (or by a
 * reference coordinator) and no live id stands here; the data of an ended one is erased first. The caller hands the
 * request to the log writer: the head that is answered is read there, behind every append accepted before (§4).
 */
export function newTerm(replica: Replica, request: Requests["NewTerm"]): Outcome<"NewTerm"> {
  if (request.term < replica.promise) {
    return refuse(replica, "INVALID_TERM", `term ${request.term} is below the promise ${replica.promise}`);
  }
  const introduced = { ...replica, introduced: replica.introduced || request.replicaId !== undefined };
  if (request.adopt) return adopt(introduced, request);
  if (replica.id === NO_REPLICA) return newTermOfNone(introduced, request);

  const asked = request.replicaId;
  if (asked === replica.id && replica.promise < request.countedTerm) {
    const why = `promise ${replica.promise} is below term ${request.countedTerm}, in which this replica was counted`;
    const ended = endReplica(introduced, why);
    return accept(ended, { erase: false, ended: why });
  }
  const counts = asked === undefined || asked === NO_REPLICA || asked === replica.id;
  const ended = counts ? "" : replica.ended || `replica ${asked} does not live here, ${replica.id} does`;
  return accept(fence(introduced, request.term), { erase: false, ended });
}

/** NewTerm of a term that this replica leads already: the reference's INVALID_STATUS; it leads on. */
export function newTermOfLeader(replica: Replica, request: Requests["NewTerm"]): Outcome<"NewTerm"> {
  if (request.term === replica.promise) {
    return refuse(replica, "INVALID_STATUS", `term ${request.term} is led by this replica`);
  }
  return newTerm(replica, request);
}

/**
 * DeleteShard: only the replica that was meant (safety.md §1): a late one must not take a newer copy. Nothing there is
 * success. Its id ends before the answer.
 */
export function deleteShard(replica: Replica, request: Requests["DeleteShard"]): Outcome<"DeleteShard"> {
  if (request.term < replica.promise) {
    return refuse(replica, "INVALID_TERM", `term ${request.term} is below the promise ${replica.promise}`);
  }
  if (replica.id === NO_REPLICA) return accept(replica, { erase: replica.ended !== "" });
  const other = notThisReplica(replica, request.replicaId);
  if (other !== undefined) return other;
  const next = endReplica({ ...replica, promise: request.term }, `deleted in term ${request.term}`);
  return accept(next, { erase: true });
}

/** safety.md §1: a call that acts on a replica names its id, and is refused unless that id lives here. */
export function notThisReplica(replica: Replica, asked: ReplicaId | undefined): Refused | undefined {
  if (asked === undefined || asked === replica.id) return undefined;
  return refuse(replica, "NODE_IS_NOT_MEMBER", `replica ${asked} does not live here`);
}

/** After a start, until the stamp has been checked: this may be an older copy of the disk (safety.md §1, check (c)). */
export function notIntroduced(replica: Replica): Refused {
  return refuse(replica, "NOT_INITIALIZED", "no coordinator has been heard since the start");
}

function newTermOfNone(replica: Replica, request: Requests["NewTerm"]): Outcome<"NewTerm"> {
  const { replicaId } = request;
  if (replicaId !== undefined && replicaId !== NO_REPLICA) {
    const ended = replica.ended || `replica ${replicaId} does not live here, nor does any other`;
    return accept(replica, { erase: false, ended });
  }
  // A reference coordinator takes any answer for an honest one. It repeats NewTerm only where a leader stands.
  if (replicaId === undefined && replica.ended !== "" && replica.refusedTerm !== request.term) {
    const refused = { ...replica, refusedTerm: request.term };
    return refuse(refused, "RESOURCE_UNAVAILABLE", `this replica has ended: ${replica.ended}`);
  }
  // `ended` stays: it says why the id before this one ended.
  const empty = { ...replica, head: EMPTY_HEAD, applied: NO_OFFSET, led: NO_TERM };
  return accept(mint(empty, request), { erase: replica.ended !== "", ended: "" });
}

/** `recover` only: whatever data stands here gets a new id, so that all that knows the old one is void. */
function adopt(replica: Replica, request: Requests["NewTerm"]): Outcome<"NewTerm"> {
  return accept(mint(replica, request), { erase: false, ended: "" });
}

function mint(replica: Replica, request: Requests["NewTerm"]): Replica {
  return fence({ ...replica, id: request.freshId, mintedTerm: request.term }, request.term);
}

/** Ends streams, cursors, a freeze and a BecomeLeader that waits; what waits in the log writer is dropped there. */
function fence(replica: Replica, term: number): Replica {
  return {
    ...replica,
    status: "fenced",
    promise: term,
    verified: NO_OFFSET,
    streaming: false,
    members: [],
    cursors: [],
  };
}
