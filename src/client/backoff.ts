/** How long to wait before a retry: doubling, bounded, with jitter so that many clients do not come back at once. */
import { CLIENT_RETRY_MS_MAX, CLIENT_RETRY_MS_MIN } from "../model/limits.ts";

/** Milliseconds before retry number `attempt` (from 1): between half and all of the bound at that attempt. */
export function retryDelayMs(attempt: number, random: () => number): number {
  const bound = Math.min(CLIENT_RETRY_MS_MAX, CLIENT_RETRY_MS_MIN * 2 ** Math.min(attempt - 1, 30));
  return bound * (0.5 + random() / 2);
}
