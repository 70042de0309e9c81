/**
 * The replica state machine: what each status answers to each request, as one table in which no cell may be missing.
 *
 * `decide` takes data and returns data. The flow makes what changed durable (promise, lead mark, id or its end, head)
 * before it answers, also when it refuses: a refusal may have ended the id. Head, applied and the chain CRC at an offset
 * come from the log; the log writer alone reads the head that NewTerm answers (safety.md §4).
 *
 * Source: semantics.md §8.1 and errors.md §3, corrected by safety.md §1 and §3-§6 (in fencing.ts, following.ts and
 * leading.ts, rule by rule); TLA+ NodeHandlesNewTermRequest and following.
 */
import type { Reason } from "../model/refusal.ts";
import { deleteShard, newTerm, newTermOfLeader, notThisReplica } from "./fencing.ts";
import { append, openReplicate, refusedByLeader, sendSnapshot, truncate, truncateTooLate } from "./following.ts";
import { addFollower, becomeLeader, freeze, removeObserver } from "./leading.ts";
import {
  type Answers,
  accept,
  type Outcome,
  type Refused,
  type Replica,
  type ReplicaStatus,
  type RequestName,
  type Requests,
  type Rule,
  refuse,
} from "./replica-state.ts";

type Table = { readonly [Status in ReplicaStatus]: { readonly [Name in RequestName]: Rule<Name> } };

/** Answers `request`: the next state and what is to be done, or a reason. */
export function decide<Name extends RequestName>(replica: Replica, name: Name, request: Requests[Name]): Outcome<Name> {
  const rule: Rule<Name> = TABLE[replica.status][name];
  return rule(replica, request);
}

/** BecomeLeader is done: the own-term entry is committed and applied, the leader serves (safety.md §5). */
export function nowServing(replica: Replica): Replica {
  return replica.status === "becoming-leader" ? { ...replica, status: "leader" } : replica;
}

const TABLE: Table = {
  // Nothing that counts lives here. It promises nothing to leaders before a NewTerm (semantics.md §8.6).
  "not-member": {
    NewTerm: newTerm,
    BecomeLeader: always("INVALID_STATUS", "nothing to lead with lives here"),
    AddFollower: always("NODE_IS_NOT_LEADER", "no replica lives here"),
    Truncate: notMember,
    OpenReplicate: notMember,
    Append: notMember,
    SendSnapshot: notMember,
    DeleteShard: deleteShard,
    FreezeShard: always("NODE_IS_NOT_LEADER", "no replica lives here"),
    RemoveObserver: always("NODE_IS_NOT_LEADER", "no replica lives here"),
    GetStatus: statusOfNone,
  },
  // It has promised a term and waits for a leader, or to become it.
  fenced: {
    NewTerm: newTerm,
    BecomeLeader: becomeLeader,
    AddFollower: ofTerm("NODE_IS_NOT_LEADER", "this replica is fenced"),
    Truncate: truncate,
    OpenReplicate: openReplicate,
    Append: append,
    SendSnapshot: sendSnapshot,
    DeleteShard: deleteShard,
    FreezeShard: ofTerm("INVALID_STATUS", "this replica is fenced"),
    RemoveObserver: ofTerm("NODE_IS_NOT_LEADER", "this replica is fenced"),
    GetStatus: shows("FENCED"),
  },
  // It has been truncated or was sent a snapshot by the leader of its term; no append of that term yet.
  follower: {
    NewTerm: newTerm,
    BecomeLeader: ofTerm("INVALID_STATUS", "this replica follows"),
    AddFollower: ofTerm("NODE_IS_NOT_LEADER", "this replica follows"),
    Truncate: truncate,
    OpenReplicate: openReplicate,
    Append: append,
    SendSnapshot: sendSnapshot,
    DeleteShard: deleteShard,
    FreezeShard: ofTerm("NODE_IS_NOT_LEADER", "this replica follows"),
    RemoveObserver: ofTerm("NODE_IS_NOT_LEADER", "this replica follows"),
    GetStatus: shows("FOLLOWER"),
  },
  // It has seen an append of its term: never truncated again in it.
  following: {
    NewTerm: newTerm,
    BecomeLeader: ofTerm("INVALID_STATUS", "this replica follows"),
    AddFollower: ofTerm("NODE_IS_NOT_LEADER", "this replica follows"),
    Truncate: truncateOfFollowing,
    OpenReplicate: openReplicate,
    Append: append,
    SendSnapshot: sendSnapshot,
    DeleteShard: deleteShard,
    FreezeShard: ofTerm("NODE_IS_NOT_LEADER", "this replica follows"),
    RemoveObserver: ofTerm("NODE_IS_NOT_LEADER", "this replica follows"),
    GetStatus: shows("FOLLOWER"),
  },
  // It has marked its term as led; its own-term entry is not applied yet. NewTerm of a higher term interrupts it.
  "becoming-leader": {
    NewTerm: newTermOfLeader,
    BecomeLeader: ofTerm("INVALID_STATUS", "this replica is becoming the leader"),
    AddFollower: ofTerm("NODE_IS_NOT_LEADER", "this replica does not lead yet"),
    Truncate: refusedByLeader,
    OpenReplicate: refusedByLeader,
    Append: refusedByLeader,
    SendSnapshot: refusedByLeader,
    DeleteShard: deleteShard,
    FreezeShard: ofTerm("INVALID_STATUS", "this replica does not lead yet"),
    RemoveObserver: ofTerm("NODE_IS_NOT_LEADER", "this replica does not lead yet"),
    GetStatus: shows("FENCED"),
  },
  // It serves.
  leader: {
    NewTerm: newTermOfLeader,
    BecomeLeader: ofTerm("INVALID_STATUS", "this replica leads"),
    AddFollower: addFollower,
    Truncate: refusedByLeader,
    OpenReplicate: refusedByLeader,
    Append: refusedByLeader,
    SendSnapshot: refusedByLeader,
    DeleteShard: deleteShard,
    FreezeShard: freeze,
    RemoveObserver: removeObserver,
    GetStatus: shows("LEADER"),
  },
  // It serves reads; its head is final until it is thawed, or the freeze lapses.
  frozen: {
    NewTerm: newTermOfLeader,
    BecomeLeader: ofTerm("INVALID_STATUS", "this replica leads"),
    AddFollower: addFollower,
    Truncate: refusedByLeader,
    OpenReplicate: refusedByLeader,
    Append: refusedByLeader,
    SendSnapshot: refusedByLeader,
    DeleteShard: deleteShard,
    FreezeShard: freeze,
    RemoveObserver: removeObserver,
    GetStatus: shows("LEADER"),
  },
};

function always(reason: Reason, message: string): (replica: Replica) => Refused {
  return (replica) => refuse(replica, reason, message);
}

/** The term is looked at first: a caller of another term learns that, and gives up or asks again. */
function ofTerm(reason: Reason, message: string): (replica: Replica, request: { readonly term: number }) => Refused {
  return (replica, { term }) =>
    term === replica.promise
      ? refuse(replica, reason, message)
      : refuse(replica, "INVALID_TERM", `term ${term} is not the promised ${replica.promise}`);
}

function notMember(replica: Replica): Refused {
  return refuse(replica, "NODE_IS_NOT_MEMBER", replica.ended || "no replica lives here");
}

/** An id that has ended says why; where none has ever lived there is nothing to say. */
function statusOfNone(replica: Replica): Outcome<"GetStatus"> {
  return replica.ended === "" ? notMember(replica) : accept(replica, { status: "NOT_MEMBER" });
}

function truncateOfFollowing(replica: Replica, request: Requests["Truncate"]): Outcome<"Truncate"> {
  if (request.term !== replica.promise) return truncate(replica, request);
  return notThisReplica(replica, request.replicaId) ?? truncateTooLate(replica);
}

function shows(shown: Answers["GetStatus"]["status"]): Rule<"GetStatus"> {
  return (replica) => accept(replica, { status: shown });
}
