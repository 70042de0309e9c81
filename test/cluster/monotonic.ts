/** The machine's monotonic clock, which all processes share: the runtime's own counts from the start of the process. */
import { readFileSync } from "node:fs";

const offsetMs = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1_000 - performance.now();

/** In milliseconds, right to a hundredth of a second. */
export function monotonicMs(): number {
  return performance.now() + offsetMs;
}
