/**
 * Who has changed what, and who was turned away, as lines of the log; a coordinator's are events too. What changes
 * nothing is not told. The caller may say why: in a header, percent-encoded, as pages and `varia admin --note` do.
 */
import type { Bytes } from "../lib/bytes.ts";
import type { Logger } from "../ports.ts";
import { Code, StatusError } from "./code.ts";
import { changesSomething } from "./guard.ts";
import type { Call, ServedMethod, Sink } from "./method.ts";

/** The caller's own words. */
export const NOTE_HEADER = "varia-note";
/** They are cut behind so many characters. */
export const NOTE_CHARACTERS_MAX = 500;
/** Who is turned away, or asks for what cannot be, is told of so often in a minute: else others could push everything out. */
export const REFUSALS_PER_MINUTE_MAX = 20;

export interface Change {
  /** What was asked for: a method, or what a page calls it. */
  readonly what: string;
  /** The address that it came from. */
  readonly peer: string;
  readonly note: string;
}

export class Audit {
  readonly #logger: Pick<Logger, "info" | "warn">;
  readonly #refused: PerMinute;
  readonly #turnedAway: PerMinute;

  /** `nowMs`: never goes back. */
  constructor(logger: Pick<Logger, "info" | "warn">, nowMs: () => number = () => performance.now()) {
    this.#logger = logger;
    this.#refused = new PerMinute(REFUSALS_PER_MINUTE_MAX, nowMs);
    this.#turnedAway = new PerMinute(REFUSALS_PER_MINUTE_MAX, nowMs);
  }

  changed(change: Change): void {
    this.#logger.info(fieldsOf(change), "change made");
  }

  refused(change: Change, error: unknown): void {
    const why = error instanceof Error ? error.message : String(error);
    const missed = this.#refused.take();
    if (missed !== undefined) this.#logger.warn(fieldsOf(change, `${why}${missed}`), "change refused");
  }

  turnedAway({ what, peer }: Pick<Change, "what" | "peer">, why: string): void {
    const missed = this.#turnedAway.take();
    if (missed !== undefined)
      this.#logger.warn(fieldsOf({ what, peer, note: "" }, `${why}${missed}`), "caller turned away");
  }
}

/** Takes so many a minute. */
class PerMinute {
  readonly #max: number;
  readonly #nowMs: () => number;
  #sinceMs = Number.NEGATIVE_INFINITY;
  #count = 0;

  constructor(max: number, nowMs: () => number) {
    this.#max = max;
    this.#nowMs = nowMs;
  }

  /** Undefined: no more in this minute. Otherwise how many were not taken in the one before, in words; empty: none. */
  take(): string | undefined {
    const nowMs = this.#nowMs();
    const missed = Math.max(0, this.#count - this.#max);
    const isNew = nowMs - this.#sinceMs >= 60_000;
    if (isNew) [this.#sinceMs, this.#count] = [nowMs, 0];
    if (++this.#count > this.#max) return undefined;
    return isNew && missed > 0 ? `; ${missed} more before` : "";
  }
}

/** The same methods; what becomes of those that change something is told. */
export function audited(methods: readonly ServedMethod[], audit: Audit): ServedMethod[] {
  return methods.map((served) => {
    const { method, json } = served;
    const isChange = changesSomething(json.name);
    const told = async <T>(call: Call, handle: () => T | Promise<T>): Promise<T> => {
      const change = { what: json.name, peer: call.peer, note: noteOf(call) };
      try {
        const answer = await handle();
        if (isChange) audit.changed(change);
        return answer;
      } catch (error) {
        if (isTurnedAway(error)) audit.turnedAway(change, error.message);
        else if (isChange) audit.refused(change, error);
        throw error;
      }
    };
    if (method.kind === "bidi") return served; // of no service of an admin's
    if (method.kind === "unary") {
      const handle = (request: Bytes, call: Call) => told(call, () => method.handle(request, call));
      return { ...served, method: { ...method, handle } };
    }
    const handle = (request: Bytes, call: Call, sink: Sink) => told(call, () => method.handle(request, call, sink));
    return { ...served, method: { ...method, handle } };
  });
}

const TURNED_AWAY: readonly Code[] = [Code.UNAUTHENTICATED, Code.PERMISSION_DENIED];

function isTurnedAway(error: unknown): error is StatusError {
  return error instanceof StatusError && TURNED_AWAY.includes(error.code);
}

/** What is not well-formed is no note. */
function noteOf(call: Call): string {
  try {
    return decodeURIComponent(call.header(NOTE_HEADER)[0] ?? "")
      .slice(0, NOTE_CHARACTERS_MAX)
      .trim();
  } catch {
    return "";
  }
}

function fieldsOf({ what, peer, note }: Change, problem = "") {
  const words = [`${what} from ${peer}`, problem, note === "" ? "" : `note: ${note}`].filter((text) => text !== "");
  return { component: "audit", what, peer, why: words.join("; ") };
}
