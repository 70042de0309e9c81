/**
 * The last changes of a namespace, for pages that show them: one subscription a namespace, as long as somebody looks.
 *
 *     client.notifications ─> the last TAIL_KEPT_MAX ─> whoever asks, from time to time
 */
import type { VariaClient } from "../src/client/client.ts";
import type { Notifications } from "../src/client/notifications.ts";

/** Older changes go when there are more. */
export const TAIL_KEPT_MAX = 500;
/** Without anybody who asks for so long, the subscription ends. */
export const TAIL_IDLE_MS = 30_000;
/** Namespaces that are followed at a time. */
export const TAILS_MAX = 20;

export interface TailLine {
  /** When it was heard here, in milliseconds since the epoch: servers do not say when it was made. */
  readonly heardMs: number;
  readonly type: "created" | "modified" | "deleted" | "range deleted" | "missed";
  /** Of a range: its first key. Of what was missed: empty. */
  readonly key: string;
  /** A version, the end of a range, or what was missed. */
  readonly detail: string;
}

export interface Tail {
  readonly lines: readonly TailLine[];
  /** Heard since the subscription began, also those that are not kept any more. */
  readonly heard: number;
  readonly sinceMs: number;
  /** Why it has ended; empty: it goes on. */
  readonly ended: string;
}

interface Following extends Tail {
  lines: TailLine[];
  heard: number;
  ended: string;
  stop: () => void;
  idle: ReturnType<typeof setTimeout>;
}

export class Tails {
  readonly #client: (namespace: string) => Promise<VariaClient>;
  readonly #following = new Map<string, Promise<Following>>();

  constructor(client: (namespace: string) => Promise<VariaClient>) {
    this.#client = client;
  }

  /** What was heard of a namespace; begins to follow it. Rejects when no server answers, or too many are followed. */
  async of(namespace: string): Promise<Tail> {
    const known = this.#following.get(namespace);
    if (known === undefined && this.#following.size >= TAILS_MAX) {
      throw new Error(`${TAILS_MAX} namespaces are followed already`);
    }
    const promise = known ?? this.#follow(namespace);
    this.#following.set(namespace, promise);
    try {
      const following = await promise;
      following.idle.refresh();
      if (following.ended !== "") this.#forget(namespace, promise);
      return following;
    } catch (error) {
      this.#forget(namespace, promise);
      throw error;
    }
  }

  close(): void {
    for (const [namespace, promise] of this.#following) this.#forget(namespace, promise);
  }

  async #follow(namespace: string): Promise<Following> {
    const client = await this.#client(namespace);
    const notifications = await client.notifications();
    const idle = setTimeout(() => this.#end(namespace), TAIL_IDLE_MS);
    idle.unref();
    const stop = () => void notifications.return();
    const following: Following = { lines: [], heard: 0, sinceMs: Date.now(), ended: "", stop, idle };
    void hear(notifications, following);
    return following;
  }

  #end(namespace: string): void {
    const promise = this.#following.get(namespace);
    if (promise !== undefined) this.#forget(namespace, promise);
  }

  #forget(namespace: string, promise: Promise<Following>): void {
    if (this.#following.get(namespace) === promise) this.#following.delete(namespace);
    promise.then(
      ({ stop, idle }) => {
        clearTimeout(idle);
        stop();
      },
      () => {},
    );
  }
}

async function hear(notifications: Notifications, following: Following): Promise<void> {
  try {
    for await (const item of notifications) {
      following.lines.push(lineOf(item));
      following.heard += 1;
      // half of the room at a time: one line does not move all the others
      if (following.lines.length >= 2 * TAIL_KEPT_MAX) following.lines = following.lines.slice(-TAIL_KEPT_MAX);
    }
    following.ended = "the subscription has ended";
  } catch (error) {
    following.ended = error instanceof Error ? error.message : String(error);
  }
}

function lineOf(item: Awaited<ReturnType<Notifications["next"]>>["value"] & object): TailLine {
  const heardMs = Date.now();
  if (item.type === "missed") {
    return { heardMs, type: "missed", key: "", detail: `at most ${item.writesMax} writes of shard ${item.shard}` };
  }
  const { type, key, versionId, keyRangeLast } = item;
  if (type === "rangeDeleted") return { heardMs, type: "range deleted", key, detail: `up to ${keyRangeLast ?? ""}` };
  return { heardMs, type, key, detail: versionId === undefined ? "" : `version ${versionId}` };
}
