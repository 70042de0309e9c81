/**
 * A leader's own log as its cursors read it. Damage that they find is a fault of this replica, not of a follower; unless
 * the log says that the replica lives on, since its state does not need those entries any more: then whoever needs them
 * gets a snapshot.
 */
import type { ShardId } from "../model/ids.ts";
import { Refusal } from "../model/refusal.ts";
import type { Log } from "../ports.ts";

export type OwnLog = Pick<Log, "at" | "read" | "shape">;

/** Entries are damaged that only followers need. */
export class EntriesLost extends Error {
  override readonly name = "EntriesLost";
}

export function ownLog(log: Log, onFault: (error: unknown) => void): OwnLog {
  const watched = async <T>(shard: ShardId, asked: Promise<T>): Promise<T> => {
    try {
      return await asked;
    } catch (error) {
      if (error instanceof Refusal && error.reason === "DATA_LOSS" && livesOn(log, shard)) {
        throw new EntriesLost(error.message, { cause: error });
      }
      if (!(error instanceof Refusal) || error.reason === "DATA_LOSS") onFault(error);
      throw error;
    }
  };
  return {
    at: (shard, offset) => watched(shard, log.at(shard, offset)),
    read: (shard, fromInclusive) => watched(shard, log.read(shard, fromInclusive)),
    shape: (shard) => watched(shard, log.shape(shard)),
  };
}

function livesOn(log: Log, shard: ShardId): boolean {
  const replica = log.replica(shard);
  return replica !== undefined && replica.damage === undefined && replica.ended === "";
}
