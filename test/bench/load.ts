/** What the benches share: load from `varia perf` in a process of its own, and what processes have cost. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

export const EXECUTABLE = join(import.meta.dir, "../../dist/varia");
const TICKS_PER_S = 100;

/** What `varia perf --json` prints, as far as it is read here. */
export interface Summary {
  readonly elapsedSeconds: number;
  readonly byOperation: Readonly<
    Record<
      string,
      {
        readonly records?: number;
        readonly operations: number;
        readonly latencyMs: { readonly p50: number; readonly p99: number };
      }
    >
  >;
}

/** Runs `varia perf` against a server, to its end. Rejects with what it has said when it fails. */
export async function perf(address: string, words: readonly string[]): Promise<Summary> {
  const child = Bun.spawn([EXECUTABLE, "perf", "-a", address, "--json", ...words], { stderr: "ignore" });
  const text = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`varia perf failed on ${address}: ${words.join(" ")}\n${text}`);
  return JSON.parse(text) as Summary;
}

/** CPU seconds of processes, all their threads. */
export function cpuSeconds(...pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
    return sum + (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S;
  }, 0);
}
