/**
 * Random operations for the model-based test: keys so few and so odd that they collide all the time, and options drawn
 * with a look at the model, so that right and wrong expectations are about as frequent.
 */
import type { Random } from "./load.ts";
import {
  type Bytes,
  type Comparison,
  type Delete,
  type DeleteRange,
  type Get,
  type Index,
  type Put,
  type Range,
  type SpecModel,
  sessionKey,
  type Write,
} from "./spec-model.ts";

const ALPHABET = ["a", "a", "b", "/", "/", "-", "0", "1", "_", "\0", "\x01", "\xff", "\xfe", "."];
const ODD_KEYS = ["", "/", "//", "/a//", "a//", "a/", "/a/", "/a/b", "a//b", "\xff/", "/\xff", "__oxia", "__oxia0"];
const INDEX_NAMES = ["i", "i", "i/", "j", "", "\xff", "i\x01", "//"];
const SEQUENCES = ["a", "b", "a/", "", "a-", "/\xff", "a//", "a-00000000000000000001"];
const COMPARISONS: readonly Comparison[] = ["EQUAL", "FLOOR", "CEILING", "LOWER", "HIGHER"];
const INT64_MAX = 2n ** 63n - 1n;
const UINT64_MAX = 2n ** 64n - 1n;
const BIG_VALUE_BYTES_MAX = 400_000;

export class Operations {
  readonly #random: Random;
  readonly #model: SpecModel;
  /** Also of sessions that are gone. */
  readonly sessionsSeen: bigint[] = [];
  #values = 0;

  constructor(random: Random, model: SpecModel) {
    this.#random = random;
    this.#model = model;
  }

  /** True once in `n` times. */
  oneIn(n: number): boolean {
    return this.#random.below(n) === 0;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.#random.below(items.length)]!;
  }

  key(): Bytes {
    const { records } = this.#model;
    if (records.size > 0 && !this.oneIn(3)) return this.pick([...records.keys()]);
    if (this.oneIn(5)) return this.pick(ODD_KEYS);
    if (this.oneIn(8)) return this.sequenceKey();
    return Array.from({ length: this.#random.below(4) }, () => this.pick(ALPHABET)).join("");
  }

  /** A key of the form that sequences have, as a client may put one. */
  sequenceKey(): Bytes {
    const parts = Array.from({ length: 1 + this.#random.below(2) }, () => this.#random.below(30));
    return this.pick(SEQUENCES) + parts.map((part) => `-${String(part).padStart(20, "0")}`).join("");
  }

  /** One that there is, one that has been, or one that there never was. */
  session(): bigint {
    const alive = [...this.#model.sessions.keys()];
    if (alive.length > 0 && !this.oneIn(5)) return this.pick(alive);
    if (this.sessionsSeen.length > 0 && !this.oneIn(3)) return this.pick(this.sessionsSeen);
    return this.pick([0n, -1n, 999_999_999n, INT64_MAX, -INT64_MAX - 1n]);
  }

  write(): Write {
    const some = (most: number) => this.#random.below(most);
    const shape = this.#random.below(12);
    const [puts, deletes, ranges] =
      shape < 5 ? [1, 0, 0] : shape < 7 ? [0, 1, 0] : shape < 8 ? [0, 0, 1] : [some(5), some(3), some(3)];
    return {
      puts: Array.from({ length: puts! }, () => this.#put()),
      deletes: Array.from({ length: deletes! }, () => this.#delete()),
      deleteRanges: Array.from({ length: ranges! }, () => this.#deleteRange()),
    };
  }

  sequencePut(prefix: Bytes): Put {
    return { key: prefix, value: this.#value(), partitionKey: "p", deltas: this.#deltas(prefix), indexes: [] };
  }

  prefix(): Bytes {
    return this.oneIn(6) ? this.key() : this.pick(SEQUENCES);
  }

  #put(): Put {
    if (this.oneIn(4)) return this.#anySequencePut();
    const key = this.oneIn(150) ? "__oxia/term" : this.key();
    return { ...this.#putOptions(key), key, value: this.#value(), deltas: [] };
  }

  /** Of the mistakes that turn the whole request down, each is rare. */
  #anySequencePut(): Put {
    const key = this.prefix();
    const put = { ...this.#putOptions(key), ...this.sequencePut(key) };
    return {
      ...put,
      indexes: this.#indexes(),
      partitionKey: this.oneIn(40) ? undefined : this.pick(["", "p"]),
      expected: this.oneIn(12) ? this.pick([-1n, 3n]) : undefined,
    };
  }

  #deltas(prefix: Bytes): bigint[] {
    const highest = this.#model.highestSequenceKey(prefix);
    const parts = highest === undefined ? 0 : highest.slice(prefix.length).split("-").length - 1;
    const wanted = this.oneIn(15) ? parts - 1 : parts + (this.oneIn(6) ? 1 : 0);
    const length = Math.min(Math.max(wanted, 1), 4);
    const delta = () =>
      this.oneIn(40) ? this.pick([UINT64_MAX, UINT64_MAX - 7n, 2n ** 53n]) : BigInt(this.#random.below(9));
    const first = this.oneIn(60) ? 0n : delta() || 1n;
    return [first, ...Array.from({ length: length - 1 }, delta)];
  }

  #putOptions(key: Bytes) {
    return {
      expected: this.oneIn(3) ? this.#expected(key) : undefined,
      session: this.oneIn(4) ? this.session() : undefined,
      identity: this.oneIn(4) ? this.pick(["me", "you", ""]) : undefined,
      partitionKey: this.oneIn(5) ? this.pick(["p", "", "\xff"]) : undefined,
      indexes: this.#indexes(),
      overrideVersion: this.oneIn(12) ? this.pick([-1n, 0n, 3n, -7n, INT64_MAX]) : undefined,
      overrideCount: this.oneIn(12) ? this.pick([0n, 1n, 5n, 2n ** 53n]) : undefined,
    };
  }

  /** Mostly the one that the record has. */
  #expected(key: Bytes): bigint {
    const actual = this.#model.records.get(key)?.version.id ?? -1n;
    return this.oneIn(3) ? this.pick([-1n, 0n, BigInt.asIntN(64, actual + 1n), -2n, INT64_MAX]) : actual;
  }

  #indexes(): Index[] {
    if (!this.oneIn(3)) return [];
    return Array.from({ length: 1 + this.#random.below(4) }, () => ({
      name: this.pick(INDEX_NAMES),
      key: this.secondary(),
    }));
  }

  secondary(): Bytes {
    return this.oneIn(20) ? "__oxia/x" : this.oneIn(2) ? this.pick(["a", "b", "a/z", "b/x", "", "/"]) : this.key();
  }

  #value(): Bytes {
    if (this.oneIn(12)) return "";
    if (this.oneIn(25)) {
      return Buffer.from(this.#random.bytes(1 + this.#random.below(BIG_VALUE_BYTES_MAX))).toString("latin1");
    }
    return `value ${this.#values++}`;
  }

  #delete(): Delete {
    const key = this.oneIn(150) ? sessionKey(this.session()) : this.key();
    return { key, expected: this.oneIn(2) ? this.#expected(key) : undefined };
  }

  /** A wide one is rare, so that records become many at times. */
  #deleteRange(): DeleteRange {
    if (this.oneIn(25)) return { start: this.key(), end: this.pick(["", "__oxia/x", "//"]) };
    if (this.oneIn(100)) return { start: "__oxia/", end: "" };
    if (this.oneIn(4)) return { start: this.key(), end: this.key() };
    const keys = this.#model.keys();
    const at = this.#random.below(keys.length + 1);
    return { start: keys[at] ?? this.key(), end: keys[at + this.#random.below(4)] ?? this.key() };
  }

  get(): Get {
    const index = this.oneIn(3) ? this.pick(INDEX_NAMES) : undefined;
    const internal = index === undefined && this.oneIn(12);
    const key = index !== undefined ? this.secondary() : internal ? sessionKey(this.session()) : this.key();
    // what the value of a session's record is, the model does not know
    return { key, comparison: this.pick(COMPARISONS), withValue: !internal && !this.oneIn(3), index };
  }

  range(): Range {
    const index = this.oneIn(3) ? this.pick(INDEX_NAMES) : undefined;
    const bound = () => {
      if (this.oneIn(3)) return "";
      if (this.oneIn(15)) return this.pick(["__oxia/", "__oxia/session/", sessionKey(this.session())]);
      return index === undefined ? this.key() : this.secondary();
    };
    return { start: bound(), end: bound(), index, internal: index === undefined && this.oneIn(4) };
  }
}
