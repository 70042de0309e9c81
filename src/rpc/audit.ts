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
/** Who is turned away is told of so often in a minute: others must not be able to push everything else out. */
export const TURNED_AWAY_PER_MINUTE_MAX = 20;

export interface Change {
  /** What was asked for: a method, or what a page calls it. */
  readonly what: string;
  /** The address that it came from. */
  readonly peer: string;
  readonly note: string;
}

export class Audit {
  readonly #logger: Pick<Logger, "info" | "warn">;
  readonly #nowMs: () => number;
  #windowSinceMs = Number.NEGATIVE_INFINITY;
  #turnedAway = 0;

  /** `nowMs`: never goes back. */
  constructor(logger: Pick<Logger, "info" | "warn">, nowMs: () => number = () => performance.now()) {
    this.#logger = logger;
    this.#nowMs = nowMs;
  }

  changed(change: Change): void {
    this.#logger.info(fieldsOf(change), "change made");
  }

  refused(change: Change, error: unknown): void {
    const why = error instanceof Error ? error.message : String(error);
    this.#logger.warn(fieldsOf(change, why), "change refused");
  }

  /** Told at most TURNED_AWAY_PER_MINUTE_MAX times a minute, with how many were not in the minute before. */
  turnedAway({ what, peer }: Pick<Change, "what" | "peer">, why: string): void {
    const nowMs = this.#nowMs();
    const missed = Math.max(0, this.#turnedAway - TURNED_AWAY_PER_MINUTE_MAX);
    const isNew = nowMs - this.#windowSinceMs >= 60_000;
    if (isNew) [this.#windowSinceMs, this.#turnedAway] = [nowMs, 0];
    if (++this.#turnedAway > TURNED_AWAY_PER_MINUTE_MAX) return;
    const more = isNew && missed > 0 ? `; ${missed} more before` : "";
    this.#logger.warn({ ...fieldsOf({ what, peer, note: "" }, `${why}${more}`) }, "caller turned away");
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
