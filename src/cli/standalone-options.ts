/** What a standalone server is started with. */
import type { ServerLogger } from "../ops/logger.ts";
import type { GivenSetting } from "../ops/settings.ts";
import type { Clock } from "../ports.ts";
import type { StandaloneSettings } from "./standalone-settings.ts";

/** The one namespace that it serves. */
export const NAMESPACE = "default";

export interface StandaloneOptions {
  readonly settings: StandaloneSettings;
  /** The same, with where they come from, for whoever asks; default: nothing is told. */
  readonly given?: readonly GivenSetting[];
  readonly version: string;
  /** Shards whose damage is accepted: what is readable is kept, the rest is lost. */
  readonly acceptLoss: ReadonlySet<number>;
  readonly clock: Clock;
  readonly logger: ServerLogger;
  /** Told once when a device failed: the process must end at once, without a further answer. */
  readonly onFault: (error: Error) => void;
}
