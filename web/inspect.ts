/** What a page may ask. The web has no other way in. */

export interface ShardOverview {
  readonly namespace: string;
  readonly shard: number;
  /** Inclusive at both ends. */
  readonly hashRange: readonly [number, number];
  /** The replica's status, or "damaged". */
  readonly status: string;
  /** Why, when it is damaged or its id has ended. */
  readonly reason: string;
  readonly term: number;
  /** Offsets; -1 = none. */
  readonly head: number;
  readonly committed: number;
  readonly applied: number;
  readonly records: number;
}

export interface Overview {
  readonly version: string;
  readonly mode: "standalone" | "storage" | "coordinator";
  readonly publicAddress: string;
  /** Where one order holds for all that is here. */
  readonly keySorting?: string;
  readonly startedAt: Date;
  readonly shards: readonly ShardOverview[];
}

export interface ReadinessCheck {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

export interface Inspect {
  readonly styleSheet: string;
  readonly metricsContentType: string;
  overview(): Overview;
  readiness(): readonly ReadinessCheck[];
  metricsText(): Promise<string>;
}
