/** A Replicate stream between two servers of the model: ordered both ways, until it breaks. */
import type { Head, Offset, ReplicaId, Term } from "../../../src/model/ids.ts";
import type { FollowerAck, FollowerStream } from "../../../src/protocol/commit.ts";
import type { DataServer } from "./data-server.ts";
import type { Entry } from "./world.ts";

export interface AppendMessage {
  readonly entry: Entry | undefined;
  readonly previous: Head;
  readonly commitOffset: Offset;
  readonly readRound: number;
  /** On the first message. */
  readonly ackedOffset: Offset | undefined;
}

export interface Stream {
  readonly from: DataServer;
  readonly to: DataServer;
  readonly term: Term;
  readonly replicaId: ReplicaId;
  readonly token: FollowerStream;
  readonly down: AppendMessage[];
  readonly up: FollowerAck[];
  open: boolean;
}
