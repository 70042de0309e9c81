/** A process that runs seeds, one after the other, as its parent sends them: see workers.ts. */
import { runSeed, type SeedOptions } from "./run-seed.ts";

export interface WorkerRequest {
  readonly options: Omit<SeedOptions, "without">;
  readonly without: readonly number[];
  /** Run it twice, and say whether both were the same run. */
  readonly twice: boolean;
}

if (process.send !== undefined) {
  process.on("message", ({ options, without, twice }: WorkerRequest) => {
    const run = () => runSeed({ ...options, without: new Set(without) });
    const result = run();
    const again = twice ? run().trace : result.trace;
    process.send!({ result, again });
  });
  process.send({ ready: true });
}
