/** How long to wait before a retry: doubling, bounded, with jitter so that many clients do not come back at once. */
import { CLIENT_HINTS_AT_ONCE_MAX, CLIENT_RETRY_MS_MAX, CLIENT_RETRY_MS_MIN } from "../model/limits.ts";

/** What has changed the table: a set of the assignments, or a server's word for who leads one shard. */
export type ChangedBy = "set" | "hint";

/**
 * Whether a leader is asked at once, without what is left of the wait: always when a set of the assignments names it,
 * also the one that did not answer. Two servers may name each other: hints are followed so a few times, then with a pause.
 */
export function followsAtOnce(by: ChangedBy, attempts: number, isSameLeader: boolean): boolean {
  return by === "set" || (attempts <= CLIENT_HINTS_AT_ONCE_MAX && !isSameLeader);
}

/** Milliseconds before retry number `attempt` (from 1): between half and all of the bound at that attempt. */
export function retryDelayMs(attempt: number, random: () => number): number {
  const bound = Math.min(CLIENT_RETRY_MS_MAX, CLIENT_RETRY_MS_MIN * 2 ** Math.min(attempt - 1, 30));
  return bound * (0.5 + random() / 2);
}
