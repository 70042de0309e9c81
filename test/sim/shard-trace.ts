/** What the checkers of one shard keep of its replicas, its leaders and its state. */
import type { Offset, ReplicaId, Term } from "../../src/model/ids.ts";
import type { BecomeLeaderRequest } from "../../src/model/peer-messages.ts";
import type { Line, Made } from "./entry-history.ts";
import type { StoredSlot } from "./violation.ts";

/** One replica id, from its making on, also when it has ended. */
export interface ReplicaTrace {
  readonly server: string;
  readonly id: ReplicaId;
  line: Line;
  /** What it held before faults took it: it was acked all the same. */
  readonly before: Line[];
  /** The highest term that it has promised. */
  promised: Term;
  /** A fault has taken some of its data: it may have to end. */
  lost: boolean;
  /** Its disk is another one, or was set back: it must never count again. */
  gone: boolean;
}

export interface Place {
  readonly server: string;
  life: number;
  /** The id that lives here. */
  living: ReplicaTrace | undefined;
  promise: Term;
  /** A cut or an installation was begun and has not ended: after a crash either is found. */
  changing: boolean;
  /** DeleteShard has come: the id may end. */
  deleting: boolean;
  applied: Offset;
  /** Asked to lead, by term. */
  readonly asked: Map<Term, BecomeLeaderRequest>;
}

export interface Leadership {
  readonly term: Term;
  readonly server: string;
  readonly life: number;
  readonly trace: ReplicaTrace;
  readonly members: readonly StoredSlot[] | undefined;
  /** What it has made: followers may hold what its own log has refused for now. */
  readonly made: Map<Offset, Made>;
  /** Members that have answered it on a stream. */
  readonly attached: Set<ReplicaId>;
}

/** What the state is behind one entry. */
export interface Applied {
  readonly hash: bigint;
  readonly rows: number;
  readonly versionId: number;
  readonly term: Term;
}

/** A server of which nothing is known. */
export function newPlace(server: string): Place {
  return {
    server,
    life: 0,
    living: undefined,
    promise: -1,
    changing: false,
    deleting: false,
    applied: -1,
    asked: new Map(),
  };
}
