/**
 * All chance of a simulated run: one seed, and from it a tree of independent generators. A child depends on its
 * parent's seed and its own label alone, never on how much was drawn elsewhere: one more draw in the network does not
 * change what the disks do.
 *
 * Source: sfc32 (PractRand's small fast counting generator), seeded through the finaliser of MurmurHash3.
 */
import { assert } from "../../src/lib/assert.ts";
import type { Random } from "../../src/ports.ts";

export class SimRandom {
  readonly #low: number;
  readonly #high: number;
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** `seed`: an integer from 0 to 2^53 - 1. */
  constructor(seed: number) {
    assert(Number.isSafeInteger(seed) && seed >= 0, "a seed is a safe integer from 0 on", seed);
    this.#low = seed >>> 0;
    this.#high = Math.floor(seed / 0x1_0000_0000) >>> 0;
    this.#a = scramble(this.#low ^ 0x9e37_79b9);
    this.#b = scramble(this.#high ^ 0x85eb_ca6b ^ this.#a);
    this.#c = scramble(this.#a + this.#b);
    for (let i = 0; i < 12; i++) this.bits32();
  }

  /** The generator of a part of the run: the same label gives the same one. */
  split(label: string): SimRandom {
    let low = this.#low ^ 0x1b87_3593;
    let high = this.#high ^ 0xcc9e_2d51;
    for (let i = 0; i < label.length; i++) {
      low = scramble(Math.imul(low, 31) + label.charCodeAt(i));
      high = scramble(Math.imul(high, 37) ^ low);
    }
    return new SimRandom((scramble(high) & 0x1f_ffff) * 0x1_0000_0000 + scramble(low));
  }

  /** Uniform over 0 … 2^32 - 1. */
  bits32(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** From 0 inclusive to 1 exclusive: also the form in which src/ takes its chance. */
  readonly unit = (): number => this.bits32() / 0x1_0000_0000;

  /** An integer from `minInclusive` to `maxExclusive`. */
  int(minInclusive: number, maxExclusive: number): number {
    assert(maxExclusive > minInclusive, "an empty range to draw from", minInclusive, maxExclusive);
    return minInclusive + Math.floor(this.unit() * (maxExclusive - minInclusive));
  }

  between(min: number, max: number): number {
    return min + this.unit() * (max - min);
  }

  /** True with this probability. Draws nothing for 0 and 1. */
  chance(probability: number): boolean {
    if (probability <= 0) return false;
    return probability >= 1 || this.unit() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.int(0, items.length)] as T;
  }

  /** A copy in random order. */
  shuffled<T>(items: readonly T[]): T[] {
    const copy = [...items];
    for (let at = copy.length - 1; at > 0; at--) {
      const other = this.int(0, at + 1);
      [copy[at], copy[other]] = [copy[other] as T, copy[at] as T];
    }
    return copy;
  }

  /** 63 bits, never 0: a replica id. */
  bits63(): bigint {
    const bits = (BigInt(this.bits32() >>> 1) << 32n) | BigInt(this.bits32());
    return bits === 0n ? 1n : bits;
  }

  /** A fault's rate for this whole run: off in every third, else anything up to `max`, small ones as likely as large ones. */
  rate(max: number): number {
    if (max <= 0 || this.chance(1 / 3)) return 0;
    return max * 10 ** this.between(-2, 0);
  }

  /** One duration: mostly up to `typicalMs`, now and then far more, never past `maxMs`. */
  duration({ minMs, typicalMs, maxMs, tailChance }: Durations): number {
    if (!this.chance(tailChance)) return this.between(minMs, typicalMs);
    return typicalMs * (Math.max(maxMs, typicalMs) / Math.max(typicalMs, 0.001)) ** this.unit();
  }
}

/** The port that src/ takes its chance from. */
export function randomPort(random: SimRandom): Random {
  return { fraction: random.unit, replicaId: () => random.bits63() };
}

/** How long something takes. Invariant: minMs <= typicalMs <= maxMs. */
export interface Durations {
  readonly minMs: number;
  readonly typicalMs: number;
  readonly maxMs: number;
  /** How often one takes from `typicalMs` to `maxMs`, evenly over the orders of magnitude. */
  readonly tailChance: number;
}

function scramble(value: number): number {
  let mixed = value | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85eb_ca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2_ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
