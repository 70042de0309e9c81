/**
 * The entries that a state needs next. The log trims only what the state has had in a synced checkpoint: where they are
 * gone all the same, the state has lost it since, and is damaged. It cannot be told when the state is opened, for the log
 * may be trimmed after that, as far as the state once said that it may.
 */
import type { LogEntry, Offset, ShardId } from "../model/ids.ts";
import { damageRefusal, Refusal } from "../model/refusal.ts";
import type { Log } from "../ports.ts";

/** Log.read; rejects DATA_LOSS also where the entries were trimmed. */
export async function readNeeded(log: Log, shard: ShardId, from: Offset): Promise<readonly LogEntry[]> {
  try {
    return await log.read(shard, from);
  } catch (error) {
    if (!(error instanceof Refusal) || error.reason !== "FAILED_PRECONDITION") throw error;
    throw damageRefusal(shard, { file: "the key-value state", where: `offset ${from}`, what: error.message });
  }
}
