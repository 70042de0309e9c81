/**
 * What has happened, for operators: what a coordinator logs of elections, servers and ensembles is kept beside the log,
 * as far as there is room, and those who follow hear of it at once. One text, two readers.
 *
 *     flow ─> recording logger ─> log
 *                      └────────> ring of the last EVENTS_MAX ─> list, watch
 *                                          └─ save, now and then ─> journal ─> the next process
 */
import { type JournalRoom, NO_JOURNAL } from "../model/journal.ts";
import type { LogFields, Logger } from "../ports.ts";

/** Older events go when there are more. */
export const EVENTS_MAX = 1_000;
/** How often they are saved. */
export const EVENTS_SAVE_MS = 250;
/** Of those that were told and not saved before a crash, the numbers are not given again: there are no more of them. */
export const EVENTS_UNSAVED_MAX = 1_000;
/** Texts are cut behind so many characters: an error may carry another server's words. */
export const EVENT_TEXT_MAX = 1_000;
/** What a caller says of a change is cut behind so many. */
export const NOTE_CHARACTERS_MAX = 500;

export const EVENT_KINDS = [
  "election",
  "server",
  "replica",
  "configuration",
  "recovery",
  "operation",
  "audit",
  "coordinator",
] as const;
export type EventKind = (typeof EVENT_KINDS)[number];
export type EventLevel = "info" | "warn" | "error";

export interface RecordedEvent {
  /** Rises with each event, from 1 on. */
  readonly id: number;
  readonly timeMs: number;
  readonly kind: EventKind;
  readonly level: EventLevel;
  readonly message: string;
  /** Empty: nothing is known of it. */
  readonly why: string;
  readonly namespace: string;
  readonly shard: number | undefined;
  readonly term: number;
  readonly server: string;
}

/** What is not given matches all. */
export interface EventFilter {
  readonly kind?: string | undefined;
  readonly namespace?: string | undefined;
  readonly shard?: number | undefined;
  readonly server?: string | undefined;
}

/** By the words that the coordinator logs; what is not here is of its server, or of the coordinator. */
export const KIND_OF_MESSAGE: ReadonlyMap<string, EventKind> = new Map<string, EventKind>([
  ["election needed", "election"],
  ["leader elected", "election"],
  ["election failed", "election"],
  ["no election can be held", "election"],
  ["the leader stays", "election"],
  ["replica has ended", "replica"],
  ["replica moved", "replica"],
  ["swap given up", "replica"],
  ["move refused", "replica"],
  ["shard deleted", "replica"],
  ["loss accepted", "recovery"],
  ["operation succeeded", "operation"],
  ["operation failed", "operation"],
  ["operation cancelled", "operation"],
  ["change made", "audit"],
  ["change refused", "audit"],
  ["caller turned away", "audit"],
  ["configuration changed", "configuration"],
  ["shard not adopted", "configuration"],
  ["namespace not settled", "configuration"],
]);

export class Events {
  readonly #now: () => number;
  readonly #journal: JournalRoom;
  #kept: RecordedEvent[];
  #lastId: number;
  #savedId: number;
  /** Saved, and not kept any more. */
  #gone: number[] = [];
  readonly #watchers = new Set<(event: RecordedEvent) => void>();

  /** `now`: in milliseconds since the epoch. Begins with what `journal` holds. */
  constructor(now: () => number, journal = NO_JOURNAL) {
    this.#now = now;
    this.#journal = journal;
    this.#kept = journal.read().map(({ id, text }) => ({ ...(JSON.parse(text) as Omit<RecordedEvent, "id">), id }));
    const last = this.#kept.at(-1)?.id;
    this.#lastId = last === undefined ? 0 : last + EVENTS_UNSAVED_MAX;
    this.#savedId = this.#lastId;
  }

  get lastId(): number {
    return this.#lastId;
  }

  record(level: EventLevel, fields: LogFields, message: string): void {
    const server = textOf(fields.server ?? fields.leader);
    const event: RecordedEvent = {
      id: ++this.#lastId,
      timeMs: this.#now(),
      kind: KIND_OF_MESSAGE.get(message) ?? (fields.server === undefined ? "coordinator" : "server"),
      level,
      message: cut(message),
      why: cut(whyOf(fields)),
      namespace: textOf(fields.namespace),
      shard: typeof fields.shard === "number" ? fields.shard : undefined,
      term: typeof fields.term === "number" ? fields.term : -1,
      server,
    };
    this.#kept.push(event);
    // half of the room at a time: one event does not move all the others
    if (this.#kept.length >= EVENTS_MAX * 1.5) {
      const gone = this.#kept.splice(0, this.#kept.length - EVENTS_MAX);
      this.#gone.push(...gone.flatMap(({ id }) => (id <= this.#savedId ? id : [])));
    }
    for (const watcher of this.#watchers) watcher(event);
  }

  /** Stores what has come since the last time. Throws when the journal does not take it: it is tried again with the next. */
  save(): void {
    const unsaved = this.since(this.#savedId);
    if (unsaved.length === 0) return;
    const put = unsaved.map(({ id, ...event }) => ({ id, text: JSON.stringify(event) }));
    this.#journal.write({ put, drop: this.#gone });
    this.#savedId = unsaved.at(-1)!.id;
    this.#gone = [];
  }

  /** The newest first, at most `limit`, of those that match and are older than `beforeId` (0: all); and whether there are more. */
  list(filter: EventFilter, { beforeId, limit }: { readonly beforeId: number; readonly limit: number }) {
    const kept = this.#kept.slice(-EVENTS_MAX);
    const found = kept.filter((event) => (beforeId === 0 || event.id < beforeId) && matches(event, filter));
    const events = found.slice(-limit).reverse();
    return { events, hasMore: found.length > events.length };
  }

  /** What came after the event with this id, the oldest first. */
  since(id: number): readonly RecordedEvent[] {
    return this.#kept.slice(-EVENTS_MAX).filter((event) => event.id > id);
  }

  /** Calls `watcher` with each event from now on, until the returned function is called. */
  watch(watcher: (event: RecordedEvent) => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }
}

/** A logger that also records what is worth an event: all but debug. */
export function recordingLogger(logger: Logger, events: Events): Logger {
  const recorded = (level: EventLevel) => (fields: LogFields, message: string) => {
    logger[level](fields, message);
    events.record(level, fields, message);
  };
  return {
    debug: (fields, message) => logger.debug(fields, message),
    info: recorded("info"),
    warn: recorded("warn"),
    error: recorded("error"),
  };
}

function matches(event: RecordedEvent, { kind, namespace, shard, server }: EventFilter): boolean {
  return (
    (kind === undefined || event.kind === kind) &&
    (namespace === undefined || event.namespace === namespace) &&
    (shard === undefined || event.shard === shard) &&
    (server === undefined || event.server === server)
  );
}

function whyOf({ why, err, losses, file, heir }: LogFields): string {
  if (why !== undefined) return textOf(why);
  if (err instanceof Error) return err.message;
  if (Array.isArray(losses)) return losses.map(String).join("; ");
  return textOf(file ?? heir);
}

function textOf(value: unknown): string {
  return value === undefined || value === null ? "" : String(value);
}

function cut(text: string): string {
  return text.length <= EVENT_TEXT_MAX ? text : `${text.slice(0, EVENT_TEXT_MAX - 1)}…`;
}
