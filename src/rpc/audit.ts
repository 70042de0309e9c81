/**
 * Who has changed what, and who was turned away, as lines of the log; a coordinator's are events too. What changes
 * nothing is not told. The caller may say why: in a header, percent-encoded, as pages and `varia admin --note` do.
 */
import { fromBinary, type JsonValue, toJson } from "@bufbuild/protobuf";
import type { Bytes } from "../lib/bytes.ts";
import { NOTE_CHARACTERS_MAX } from "../ops/events.ts";
import type { Logger } from "../ports.ts";
import { Code, StatusError } from "./code.ts";
import { changesSomething } from "./guard.ts";
import type { Call, ServedMethod, Sink } from "./method.ts";

/** The caller's own words. */
export const NOTE_HEADER = "varia-note";
/** What was asked for is cut behind so many. */
const WHAT_CHARACTERS_MAX = 300;
/** Who is turned away, or asks for what cannot be, is told of so often in a minute: else others could push everything out. */
export const REFUSALS_PER_MINUTE_MAX = 20;

export interface Change {
  /** What was asked for: a method, or what a page calls it. */
  readonly what: string;
  /** The address that it came from. */
  readonly peer: string;
  readonly note: string;
  /** What it is about, as fields are called: namespace, shard, server … */
  readonly about?: Readonly<Record<string, string>>;
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
    const told = async <T>(request: Bytes, call: Call, handle: () => T | Promise<T>): Promise<T> => {
      const about = isChange ? aboutOf(served, request) : {};
      const words = Object.entries(about).map(([name, value]) => `${name}=${value}`);
      const what = [json.name, ...words].join(" ").slice(0, WHAT_CHARACTERS_MAX);
      const change = { what, peer: call.peer, note: noteOf(call), about };
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
      const handle = (request: Bytes, call: Call) => told(request, call, () => method.handle(request, call));
      return { ...served, method: { ...method, handle } };
    }
    const handle = (request: Bytes, call: Call, sink: Sink) =>
      told(request, call, () => method.handle(request, call, sink));
    return { ...served, method: { ...method, handle } };
  });
}

/**
 * The fields of a request that are given, those of messages in it as `outer.inner`: what admins send is no secret. None
 * where it is no request.
 */
function aboutOf({ binary, json }: ServedMethod, request: Bytes): Record<string, string> {
  try {
    const all = flattened(toJson(json.input, fromBinary(binary.input, request), { alwaysEmitImplicit: true }));
    const isGiven = ([name, value]: [string, string]) => name === "shard" || !["", "0", "false"].includes(value);
    return Object.fromEntries(Object.entries(all).filter(isGiven));
  } catch {
    return {};
  }
}

function flattened(value: JsonValue, path = ""): Record<string, string> {
  if (value === null || typeof value !== "object") return { [path]: String(value) };
  if (Array.isArray(value)) return { [path]: value.map((item) => JSON.stringify(item)).join(",") };
  const inner = (name: string) => (path === "" ? name : `${path}.${name}`);
  return Object.assign({}, ...Object.entries(value).map(([name, each]) => flattened(each, inner(name))));
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

function fieldsOf({ what, peer, note, about = {} }: Change, problem = "") {
  const words = [`${what} from ${peer}`, problem, note === "" ? "" : `note: ${note}`].filter((text) => text !== "");
  const { namespace = about["namespace.name"] ?? "", shard, server = about.from ?? "" } = about;
  const isShard = shard !== undefined && /^\d{1,15}$/.test(shard);
  const of = { namespace, server, ...(isShard ? { shard: Number(shard) } : {}) };
  return { component: "audit", what, peer, ...of, why: words.join("; ") };
}
