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
import type { Shard } from "../replication/shard.ts";
import { isDamage } from "../replication/shards.ts";
import { decodeNotificationsRequest, decodeSequenceUpdatesRequest } from "../wire/requests.ts";
import { Writer } from "../wire/writer.ts";
import { requireAuthority } from "./assignments-api.ts";
import type { ClientApi } from "./client-api.ts";
import type { Call, Sink } from "./method.ts";

/** The first offset that is still stored, when it is not the one behind the offset asked for. */
const FIRST_OFFSET_HEADER = "varia-first-offset";

export async function getNotifications(api: ClientApi, message: Bytes, call: Call, sink: Sink): Promise<void> {
  const { shard: id, startOffsetExclusive } = decodeNotificationsRequest(message);
  requireAuthority(call);
  const shard = api.shards.leader(id);
  if (!shard.notificationsEnabled) throw new Refusal("NOTIFICATIONS_NOT_ENABLED", "");
  const { notifications: feed } = shard;
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
    }
  }
  const waiting = new Waiting(call);
  feed.subscribers++;
  try {
    while (!call.cancelled) {
      shard.readable();
      const batches = feed.read(after);
      for (const { offset, bytes } of batches) {
        after = offset;
        if (!sink.send(bytes)) await sink.drained();
      }
      if (batches.length > 0) await nextTurn();
      else if (feed.ended !== undefined) throw feed.ended;
      else await waiting.until((callback) => feed.onMore(callback));
    }
  } finally {
    feed.subscribers--;
  }
}

export async function getSequenceUpdates(api: ClientApi, message: Bytes, call: Call, sink: Sink): Promise<void> {
  const { shard: id, key: prefix } = decodeSequenceUpdatesRequest(message);
  requireAuthority(call);
  const asked = api.shards.leader(id);
  const waiting = new Waiting(call);
  /** By shard: several may have the prefix, for several partition keys. */
  const told = new Map<Shard, Bytes>();
  while (!call.cancelled) {
    const shards = await watched(api, asked, prefix);
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
async function watched(api: ClientApi, asked: Shard, prefix: Bytes): Promise<Shard[]> {
  if (asked.id !== 0 || (await asked.highestSequenceKey(prefix)) !== undefined) return [asked];
  const slots = api.shards.ofNamespace(asked.namespace) ?? [];
  return slots.flatMap(({ replica }) => (isDamage(replica) ? [] : [replica]));
}

/** Waits for the next advance of the prefix on any of the shards, unless one has advanced past what was `told` of it already. */
async function untilAdvanced(
  waiting: Waiting,
  shards: readonly Shard[],
  prefix: Bytes,
  told: ReadonlyMap<Shard, Bytes>,
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

function isTold(told: ReadonlyMap<Shard, Bytes>, shard: Shard, key: Bytes): boolean {
  const last = told.get(shard);
  return last !== undefined && equalBytes(last, key);
}

/** What a stream waits with: a call keeps what it was given for its cancellation, so there is one such thing a stream. */
class Waiting {
  #goOn: () => void = () => {};

  constructor(call: Call) {
    call.onCancel(() => this.#goOn());
  }

  /** Resolves when `register` calls back, or the call is cancelled. */
  async until(register: (callback: () => void) => () => void): Promise<void> {
    let takeBack: (() => void) | undefined;
    await new Promise<void>((resolve) => {
      this.#goOn = resolve;
      takeBack = register(resolve);
    });
    takeBack?.();
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
