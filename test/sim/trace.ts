/**
 * What happened in a simulated run, as one running hash: two runs of one seed are the same run exactly when their
 * hashes are equal. The last events are kept as text on request, for whoever looks at a failure.
 */

export interface TraceOptions {
  readonly seed: number;
  /** So many of the last events are kept as text; default 0. */
  readonly linesMax?: number;
  /** What replays a seed, without the seed: `bun test/sim/run.ts`. */
  readonly command?: string;
}

export type Detail = string | number | boolean | bigint | undefined;

const TEXTS_KEPT_MAX = 4_096;
const wordOfText = new Map<string, number>();
const asDouble = new Float64Array(1);
const asWords = new Uint32Array(asDouble.buffer);

export class Trace {
  readonly #options: TraceOptions;
  readonly #linesMax: number;
  #lines: string[] = [];
  #low = 0x811c_9dc5 | 0;
  #high = 0x1656_67b1 | 0;
  #events = 0;
  #lastMs = 0;

  constructor(options: TraceOptions) {
    this.#options = options;
    this.#linesMax = options.linesMax ?? 0;
  }

  /** Events so far. */
  get events(): number {
    return this.#events;
  }

  /** 16 hex digits over all events so far. */
  get hash(): string {
    return hex(this.#high) + hex(this.#low);
  }

  /** One event: when, at which node (`""` for none), what, and whatever tells it from another. */
  event(atMs: number, who: string, what: string, ...details: readonly Detail[]): void {
    this.#events++;
    this.#lastMs = atMs;
    this.#number(atMs);
    this.#text(who);
    this.#text(what);
    for (const detail of details) {
      if (typeof detail === "number") this.#number(detail);
      else this.#text(String(detail));
    }
    if (this.#linesMax > 0) this.#keep(`${atMs.toFixed(3)} ${who} ${what} ${details.join(" ")}`.trimEnd());
  }

  /** Whether events are kept as text at all. */
  get keepsLines(): boolean {
    return this.#linesMax > 0;
  }

  /** Text for whoever reads the last events; no event itself. */
  note(atMs: number, who: string, text: string): void {
    if (this.#linesMax > 0) this.#keep(`${atMs.toFixed(3)} ${who} ${text}`);
  }

  /** The last events, oldest first: at most `linesMax`. */
  lines(): readonly string[] {
    return this.#lines.slice(-this.#linesMax);
  }

  /** One line that leads back to this run. */
  replayLine(): string {
    const { command = "bun test/sim/run.ts", seed } = this.#options;
    return `replay: ${command} --seed ${seed}  # ${this.#events} events, ${this.#lastMs.toFixed(3)} ms, trace ${this.hash}`;
  }

  #keep(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length > 2 * this.#linesMax) this.#lines = this.#lines.slice(-this.#linesMax);
  }

  #number(value: number): void {
    asDouble[0] = value;
    this.#mix(asWords[0]!);
    this.#mix(asWords[1]!);
  }

  #text(value: string): void {
    let word = wordOfText.get(value);
    if (word === undefined) {
      word = 0x811c_9dc5 | 0;
      for (let i = 0; i < value.length; i++) word = Math.imul(word ^ value.charCodeAt(i), 0x0100_0193);
      // most texts are the same few names; the others are not kept
      if (wordOfText.size < TEXTS_KEPT_MAX) wordOfText.set(value, word);
    }
    this.#mix(word);
    this.#mix(0x1_0000 + value.length);
  }

  #mix(word: number): void {
    this.#low = Math.imul(this.#low ^ word, 0x0100_0193);
    this.#high = Math.imul(((this.#high << 13) | (this.#high >>> 19)) ^ word, 0x85eb_ca6b) + (this.#low >>> 7);
  }
}

function hex(word: number): string {
  return (word >>> 0).toString(16).padStart(8, "0");
}
