/** A worker to test what runs workers: every seed ends at once but those that are multiples of 5, which never do. */
import type { SeedResult } from "./run-seed.ts";
import type { WorkerRequest } from "./seed-worker.ts";

if (process.send !== undefined) {
  process.on("message", ({ options: { seed } }: WorkerRequest) => {
    while (seed % 5 === 0);
    const nothing = { steps: 1, simulatedMs: 0, trace: "", faults: {}, tally: {}, violation: undefined, lines: [] };
    const result: SeedResult = { seed, ...nothing };
    process.send!({ result, again: "" });
  });
  process.send({ ready: true });
}
