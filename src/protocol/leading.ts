/**
 * The rules of a replica that leads or is asked to: BecomeLeader, AddFollower, FreezeShard, RemoveObserver.
 *
 * Source: safety.md §1 (ids), §2 (members, frozen), §3 (one leadership a term), §5 (an election that chose wrongly);
 * semantics.md §8.1, §8.2; errors.md §3.
 */
import type { Term } from "../model/ids.ts";
import { notIntroduced, notThisReplica } from "./fencing.ts";
import {
  accept,
  type CursorKey,
  compareHeads,
  type Member,
  NO_REPLICA,
  type Outcome,
  type Refused,
  type Replica,
  type Requests,
  refuse,
} from "./replica-state.ts";

/**
 * BecomeLeader, once a term: the mark `led` is durable before anything else is done (§3; two leaders of one term
 * otherwise, after a crash or a lost disk). It names the id and the head that the election was decided on, and no
 * follower with a better head (§5). After a start it waits for the stamp to be checked, as a stream does: an older copy of
 * the disk may lack the mark (§1, check (c)). RF is the number of members, empty slots included.
 */
export function becomeLeader(replica: Replica, request: Requests["BecomeLeader"]): Outcome<"BecomeLeader"> {
  const { term, replicaId, expectedHead, members, followers } = request;
  if (term !== replica.promise) return wrongTerm(replica, term);
  const other = notThisReplica(replica, replicaId);
  if (other !== undefined) return other;
  if (replicaId !== undefined && !replica.introduced) return notIntroduced(replica);
  if (replica.led >= term) return refuse(replica, "INVALID_STATUS", `term ${term} has been led by this replica`);
  if (replica.streaming || replica.head.term >= term) {
    return refuse(replica, "INVALID_STATUS", `term ${term} has been led by another replica`);
  }
  if (expectedHead !== undefined && compareHeads(expectedHead, replica.head) !== 0) {
    return refuse(replica, "INVALID_STATUS", "the election was decided on another head than this replica's");
  }
  if (members !== undefined && !lists(members, replica.id)) {
    return refuse(replica, "NODE_IS_NOT_MEMBER", `replica ${replica.id} is not in the ensemble that it shall lead`);
  }
  const copies = members?.length ?? request.replicationFactor;
  if (followers.length > copies - 1) return refuse(replica, "UNKNOWN", "too many cursors");
  const better = followers.find(({ head }) => compareHeads(head, replica.head) > 0);
  if (better !== undefined) {
    return refuse(replica, "INVALID_TERM", `${better.server} has a better head than this replica`);
  }
  const next: Replica = { ...replica, status: "becoming-leader", led: term, members: members ?? [], cursors: [] };
  return accept(next, { acksNeeded: Math.floor(copies / 2) });
}

/**
 * AddFollower: a member only by an id that the leader's members list (§1: a wiped server's new copy would count), an
 * observer by any. A reference server has none, and its slot is empty for ever: a member named without an id is one. The
 * same server with another id replaces the cursor, which loses what the old one had acked. Only a
 * head of a term above the leader's is wrong: a longer tail is truncated (§5).
 */
export function addFollower(replica: Replica, request: Requests["AddFollower"]): Outcome<"AddFollower"> {
  const { term, byId, head, server, replicaId, observer, targetShard } = request;
  if (term !== replica.promise) return wrongTerm(replica, term);
  const listed = observer ? replicaId !== NO_REPLICA : replica.members.some((member) => sameReplica(member, request));
  if (byId && !listed) {
    return refuse(replica, "NODE_IS_NOT_MEMBER", `replica ${replicaId} at ${server} is not in this leader's ensemble`);
  }
  if (head.term > term) return refuse(replica, "INVALID_TERM", `the follower's head is of term ${head.term}`);
  const key: CursorKey = { server, replicaId, observer, targetShard };
  const before = replica.cursors.find((cursor) => sameCursor(cursor, key));
  if (before?.replicaId === replicaId && before.observer === observer) return accept(replica, { cursor: "kept" });
  const others = replica.cursors.filter((cursor) => cursor !== before);
  const copies = replica.members.length;
  if (!observer && copies > 0 && others.filter((cursor) => !cursor.observer).length >= copies - 1) {
    return refuse(replica, "UNKNOWN", "all followers are already attached");
  }
  return accept({ ...replica, cursors: [...others, key] }, { cursor: before === undefined ? "added" : "replaced" });
}

/** FreezeShard: refuse writes, or take them again; the head that is answered is final while frozen. */
export function freeze(replica: Replica, { term, frozen }: Requests["FreezeShard"]): Outcome<"FreezeShard"> {
  if (term !== replica.promise) return wrongTerm(replica, term);
  const next: Replica = { ...replica, status: frozen ? "frozen" : "leader" };
  return accept(next, { headOffset: replica.head.offset });
}

/** RemoveObserver: gone is success. */
export function removeObserver(replica: Replica, request: Requests["RemoveObserver"]): Outcome<"RemoveObserver"> {
  if (request.term !== replica.promise) return wrongTerm(replica, request.term);
  const cursors = replica.cursors.filter((cursor) => !(cursor.observer && sameCursor(cursor, request)));
  return accept({ ...replica, cursors }, { removed: cursors.length < replica.cursors.length });
}

function sameReplica(a: Member, b: Member): boolean {
  return a.server === b.server && a.replicaId === b.replicaId;
}

function sameCursor(
  a: Pick<CursorKey, "server" | "targetShard">,
  b: Pick<CursorKey, "server" | "targetShard">,
): boolean {
  return a.server === b.server && a.targetShard === b.targetShard;
}

function lists(members: readonly Member[], id: bigint): boolean {
  return members.some((member) => member.replicaId === id);
}

function wrongTerm(replica: Replica, term: Term): Refused {
  return refuse(replica, "INVALID_TERM", `term ${term} is not the promised ${replica.promise}`);
}
