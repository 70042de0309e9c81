/** What the clients of one run do, and how often: drawn per seed, so that runs differ in kind. */
import type { SimRandom } from "../random.ts";

export type Kind =
  | "put"
  | "delete"
  | "delete-range"
  | "get"
  | "compare"
  | "scan"
  | "list"
  | "index-scan"
  | "ephemeral"
  | "sequence"
  /** The client is closed, and opened anew. */
  | "reopen"
  /** The client's process is killed, and started again some time later. */
  | "crash";

export interface WorkloadOptions {
  readonly clients: number;
  /** Of each client, over all its processes. */
  readonly operations: number;
  /** Operations of one client that wait for answers at once. */
  readonly concurrency: number;
  /** Keys that all clients write and read: few ones make conflicts. */
  readonly keys: number;
  /** Longest pause between two operations of one client. */
  readonly pauseMs: number;
  readonly requestTimeoutMs: number;
  readonly sessionTimeoutMs: number;
  readonly batchLingerMs: number;
  /** How often an operation is of a kind, in parts of their sum. */
  readonly weights: Readonly<Record<Kind, number>>;
  /** Of a put or delete: it expects a version. */
  readonly expectedChance: number;
  /** Whether each client follows all notifications, and all sequences. */
  readonly follow: { readonly notifications: boolean; readonly sequences: boolean };
}

export const WEIGHTS: Readonly<Record<Kind, number>> = {
  put: 30,
  delete: 8,
  "delete-range": 2,
  get: 25,
  compare: 5,
  scan: 5,
  list: 5,
  "index-scan": 4,
  ephemeral: 8,
  sequence: 6,
  reopen: 0.5,
  crash: 0.5,
};

/** Any kind but puts and gets may be missing from a run. */
export function drawWorkload(random: SimRandom): WorkloadOptions {
  const weights = Object.fromEntries(
    Object.entries(WEIGHTS).map(([kind, weight]) => [
      kind,
      kind === "put" || kind === "get" || random.chance(0.7) ? weight * random.pick([0.5, 1, 3]) : 0,
    ]),
  ) as Record<Kind, number>;
  return {
    clients: random.int(2, 6),
    operations: random.pick([10, 30, 60]),
    concurrency: random.pick([1, 2, 5]),
    keys: random.pick([1, 2, 5]),
    pauseMs: random.pick([0, 10, 100, 1_000]),
    requestTimeoutMs: random.pick([500, 2_000, 10_000]),
    sessionTimeoutMs: random.pick([2_000, 3_000, 10_000]),
    batchLingerMs: random.pick([0, 0, 5]),
    weights,
    expectedChance: random.pick([0.1, 0.4, 0.8]),
    follow: { notifications: random.chance(0.5), sequences: random.chance(0.3) },
  };
}

export function drawKind(random: SimRandom, { weights }: WorkloadOptions): Kind {
  let left = random.between(
    0,
    Object.values(weights).reduce((sum, weight) => sum + weight, 0),
  );
  for (const [kind, weight] of Object.entries(weights)) {
    left -= weight;
    if (left < 0) return kind as Kind;
  }
  return "get";
}
