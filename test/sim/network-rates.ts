/** How a simulated network behaves over one run: drawn once per seed, so that runs differ in kind and not only in detail. */
import type { Durations, SimRandom } from "./random.ts";

export interface NetworkRates {
  /** One way, one message. */
  readonly delay: Durations;
  /** A unary request, or its answer, is lost with its connection: the caller hears UNAVAILABLE some time later. */
  readonly loseChance: number;
  /** A unary request arrives twice. */
  readonly duplicateChance: number;
  /** A stream breaks while a message is sent: what was under way is lost. */
  readonly breakChance: number;
  /** Of streams that break: only one side hears of it at once, the other when its keepalive fails. */
  readonly halfOpenChance: number;
  /** Of unary messages that were sent into a cut link: they arrive when it heals, instead of never. */
  readonly lateChance: number;
  /** A connection whose other side cannot be reached for this long is broken. */
  readonly keepaliveMs: number;
  /** Messages of a stream that may be under way or unread; further ones wait at the sender. */
  readonly windowMessages: number;
}

/** In order, soon, and without loss. */
export const CALM: NetworkRates = {
  delay: { minMs: 0.2, typicalMs: 1, maxMs: 1, tailChance: 0 },
  loseChance: 0,
  duplicateChance: 0,
  breakChance: 0,
  halfOpenChance: 0,
  lateChance: 0.5,
  keepaliveMs: 5_000,
  windowMessages: 64,
};

/** The rates of one seed: any of the faults may be off. */
export function drawNetworkRates(random: SimRandom): NetworkRates {
  const typicalMs = random.pick([1, 2, 10, 50]);
  return {
    delay: { minMs: 0.1, typicalMs, maxMs: random.pick([typicalMs, 100, 500]), tailChance: random.rate(0.2) },
    loseChance: random.rate(0.3),
    duplicateChance: random.rate(0.2),
    breakChance: random.rate(0.02),
    halfOpenChance: random.pick([0, 0.2, 0.8]),
    lateChance: random.pick([0, 0.5, 1]),
    keepaliveMs: random.pick([1_000, 5_000, 20_000]),
    windowMessages: random.pick([1, 4, 64, 1_000]),
  };
}
