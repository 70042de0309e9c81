/**
 * The failing disk, from TypeScript: builds fault-shim.c and reads the trace that it writes.
 *
 * The trace has one line for each call that changes a file, in the order in which they were begun. It tells more than
 * whether a fault was hit: an answer that was sent before the log was synced shows in it, although the file looks the
 * same afterwards, since the kernel gives back what was written whether it was synced or not.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface FaultCall {
  readonly number: number;
  readonly kind: "write" | "sync";
  readonly call: string;
  readonly path: string;
  readonly failed: boolean;
}

export interface Fault {
  /** Number of the first call that fails; 0: none, calls are only counted. */
  readonly at: number;
  readonly kind?: "write" | "sync" | "any";
  /** Whether the disk works again after that one call. */
  readonly once?: boolean;
  /** A failing write first puts down half of its bytes. */
  readonly short?: boolean;
  /** Default EIO. */
  readonly errno?: number;
}

/** Builds the shim into `directory`; throws with the compiler's words. */
export function buildShim(directory: string): string {
  const library = join(directory, "fault-shim.so");
  const source = join(import.meta.dir, "fault-shim.c");
  const { exitCode, stderr } = Bun.spawnSync(["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", library, source, "-ldl"]);
  if (exitCode !== 0) throw new Error(`cannot build the fault shim:\n${stderr.toString()}`);
  return library;
}

/** Environment for a process whose calls on paths that begin with `path` are counted, traced into `trace` (unless it is empty) and may fail. */
export function faultEnvironment(library: string, path: string, trace: string, fault: Fault): Record<string, string> {
  return {
    LD_PRELOAD: library,
    FAULT_PATH: path,
    FAULT_SKIP: "-shm",
    ...(trace === "" ? {} : { FAULT_TRACE: trace }),
    FAULT_AT: String(fault.at),
    FAULT_KIND: fault.kind ?? "any",
    FAULT_MODE: fault.once ? "once" : "stay",
    FAULT_SHORT: fault.short ? "1" : "0",
    ...(fault.errno === undefined ? {} : { FAULT_ERRNO: String(fault.errno) }),
  };
}

export function readTrace(trace: string): FaultCall[] {
  if (!existsSync(trace)) return [];
  return readFileSync(trace, "utf8")
    .split("\n")
    .slice(0, -1)
    .map((line) => {
      const failed = line.endsWith(" FAILS");
      const [number, kind, call, ...path] = (failed ? line.slice(0, -6) : line).split(" ");
      return { number: Number(number), kind: kind as "write" | "sync", call: call!, path: path.join(" "), failed };
    });
}

/** Runs `task` for each item, `width` at a time, and rejects with the first failure after all have ended. */
export async function inParallel<T>(
  items: readonly T[],
  width: number,
  task: (item: T) => Promise<void>,
): Promise<void> {
  const queue = [...items];
  const failures: unknown[] = [];
  const lane = async () => {
    for (let item = queue.shift(); item !== undefined && failures.length === 0; item = queue.shift()) {
      try {
        await task(item);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: width }, lane));
  if (failures.length > 0) throw failures[0];
}
