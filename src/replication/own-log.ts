/** A leader's own log as its cursors read it: damage that they find is a fault of this replica, not of a follower. */
import { Refusal } from "../model/refusal.ts";
import type { Log } from "../ports.ts";

export type OwnLog = Pick<Log, "at" | "read" | "shape">;

export function ownLog(log: Log, onFault: (error: unknown) => void): OwnLog {
  return {
    at: (shard, offset) => own(log.at(shard, offset), onFault),
    read: (shard, fromInclusive) => own(log.read(shard, fromInclusive), onFault),
    shape: (shard) => own(log.shape(shard), onFault),
  };
}

/** Tells of damage, and passes on what comes. */
export async function own<T>(asked: Promise<T>, onFault: (error: unknown) => void): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    if (!(error instanceof Refusal) || error.reason === "DATA_LOSS") onFault(error);
    throw error;
  }
}
