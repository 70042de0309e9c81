/**
 * GetNotifications and GetSequenceUpdates: streams that follow what is applied. A subscriber is a place in the shard's
 * history and nothing more; one that reads slowly is behind, and goes on from what is stored.
 *
 * Source: semantics.md §5.
 */
import { encodeStartBatch } from "../database/notification.ts";
import { type Bytes, equalBytes } from "../lib/bytes.ts";
import { NO_OFFSET } from "../model/ids.ts";
import { Refusal } from "../model/refusal.ts";
import type { Leader } from "../replication/leader.ts";
import { decodeNotificationsRequest, decodeSequenceUpdatesRequest } from "../wire/requests.ts";
import { Writer } from "../wire/writer.ts";
import { requireAuthority } from "./assignments-api.ts";
import type { ClientApi } from "./client-api.ts";
import type { Call, Sink } from "./method.ts";

/** The first offset that is still stored, when it is not the one behind the offset asked for. */
const FIRST_OFFSET_HEADER = "varia-first-offset";

export async function getNotifications(api: ClientApi, message: Bytes, call: Call, sink: Sink): Promise<void> {
  const { shard: id, startOffsetExclusive } = decodeNotificationsRequest(message);
  requireAuthority(call, api.shards);
  const shard = api.shards.leader(id);
  if (!shard.notificationsEnabled) throw new Refusal("NOTIFICATIONS_NOT_ENABLED", "");
  const { notifications: feed } = shard;
  const confirmed = shard.confirmRead();
  if (confirmed !== undefined) await confirmed;
  let after: number;
  if (startOffsetExclusive === undefined) {
    after = shard.readable().applied.offset;
    sink.send(encodeStartBatch(shard.id, after));
  } else {
    after = Math.max(Number(startOffsetExclusive), NO_OFFSET);
    const trimmed = shard.readable().notificationsTrimmed;
    if (trimmed > after) {
      feed.skipped++;
      call.setResponseHeader(FIRST_OFFSET_HEADER, String(trimmed + 1));
      after = trimmed;
    }
  }
  const waiting = new Waiting(call);
  waiting.endWith(shard);
  feed.subscribers++;
  try {
    while (!call.cancelled) {
      waiting.requireGoing();
      const kv = shard.readable();
      const batches = feed.read(after);
      // looked at behind the read: it may be the first to hear of what was removed
      if (kv.notificationsTrimmed > after) throw removedUnread(kv.notificationsTrimmed);
      for (const { offset, bytes } of batches) {
        after = offset;
        if (!sink.send(bytes)) await sink.drained();
      }
      if (batches.length > 0) await shard.nextTurn();
      else if (feed.ended !== undefined) throw feed.ended;
      else await waiting.until((callback) => feed.onMore(callback));
    }
  } finally {
    feed.subscribers--;
    waiting.close();
  }
}

/**
 * A subscriber that was held up for longer than notifications are kept: its stream ends, so that it asks again and is
 * told from where on they are kept. A gap within a stream would be told by nobody.
 */
function removedUnread(trimmed: number): Refusal {
  return new Refusal(
    "RESOURCE_UNAVAILABLE",
    `notifications up to offset ${trimmed} were removed before they were read`,
  );
}

export async function getSequenceUpdates(api: ClientApi, message: Bytes, call: Call, sink: Sink): Promise<void> {
  const { shard: id, key: prefix } = decodeSequenceUpdatesRequest(message);
  requireAuthority(call, api.shards);
  const asked = api.shards.leader(id);
  const waiting = new Waiting(call);
  try {
    await followSequences(api, asked, prefix, { waiting, call, sink });
  } finally {
    waiting.close();
  }
}

/** What a stream of sequence updates is told on. */
interface SequenceStream {
  readonly waiting: Waiting;
  readonly call: Call;
  readonly sink: Sink;
}

async function followSequences(api: ClientApi, asked: Leader, prefix: Bytes, stream: SequenceStream): Promise<void> {
  const { waiting, call, sink } = stream;
  /** By shard: several may have the prefix, for several partition keys. */
  const told = new Map<Leader, Bytes>();
  while (!call.cancelled) {
    waiting.requireGoing();
    const shards = await watched(api, asked, prefix);
    for (const shard of shards) {
      if (!waiting.endWith(shard)) continue;
      const confirmed = shard.confirmRead();
      if (confirmed !== undefined) await confirmed;
    }
    for (const shard of shards) {
      const highest = await shard.highestSequenceKey(prefix);
      if (highest === undefined || isTold(told, shard, highest)) continue;
      told.set(shard, highest);
      const reply = new Writer(highest.length + 8);
      reply.field(0x0a, highest);
      if (!sink.send(reply.finish())) await sink.drained();
    }
    if (shards.some(({ sequences }) => sequences.ended)) return;
    if (call.cancelled) return;
    await untilAdvanced(waiting, shards, prefix, told);
  }
}

/**
 * The shards whose sequences are watched: the one asked for. Go's client asks for shard 0 whatever the key: then, while
 * shard 0 has no such sequence, every shard of its namespace that is here.
 */
async function watched(api: ClientApi, asked: Leader, prefix: Bytes): Promise<Leader[]> {
  if (asked.id !== 0 || (await asked.highestSequenceKey(prefix)) !== undefined) return [asked];
  return api.shards.leaders().filter(({ namespace }) => namespace === asked.namespace);
}

/** Waits for the next advance of the prefix on any of the shards, unless one has advanced past what was `told` of it already. */
async function untilAdvanced(
  waiting: Waiting,
  shards: readonly Leader[],
  prefix: Bytes,
  told: ReadonlyMap<Leader, Bytes>,
): Promise<void> {
  let takeBack = (): void => {};
  const advanced = waiting.until((callback) => {
    const each = shards.map(({ sequences }) => sequences.onAdvance(prefix, callback));
    takeBack = () => {
      for (const back of each) back();
    };
    return takeBack;
  });
  for (const shard of shards) {
    const highest = await shard.highestSequenceKey(prefix);
    if (highest === undefined || isTold(told, shard, highest)) continue;
    takeBack();
    return;
  }
  await advanced;
}

function isTold(told: ReadonlyMap<Leader, Bytes>, shard: Leader, key: Bytes): boolean {
  const last = told.get(shard);
  return last !== undefined && equalBytes(last, key);
}

/** What a stream waits with: a call keeps what it was given for its cancellation, so there is one such thing a stream. */
class Waiting {
  #goOn: () => void = () => {};
  /** By leader that the stream follows: how it is told no more when that one ends its streams. */
  readonly #leaders = new Map<Leader, () => void>();
  #ended: Refusal | undefined;

  constructor(call: Call) {
    call.onCancel(() => this.#goOn());
  }

  /** The stream ends when this leader ends its streams. False when it is followed already. */
  endWith(leader: Leader): boolean {
    if (this.#leaders.has(leader)) return false;
    const takeBack = leader.onInterrupt((reason) => {
      this.#ended ??= reason;
      this.#goOn();
    });
    this.#leaders.set(leader, takeBack);
    return true;
  }

  /** Throws why the stream is to end. */
  requireGoing(): void {
    if (this.#ended !== undefined) throw this.#ended;
  }

  close(): void {
    for (const takeBack of this.#leaders.values()) takeBack();
  }

  /** Resolves when `register` calls back, the call is cancelled, or the stream is to end. */
  async until(register: (callback: () => void) => () => void): Promise<void> {
    if (this.#ended !== undefined) return;
    let takeBack: (() => void) | undefined;
    await new Promise<void>((resolve) => {
      this.#goOn = resolve;
      takeBack = register(resolve);
    });
    takeBack?.();
  }
}
