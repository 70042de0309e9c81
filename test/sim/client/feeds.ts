/**
 * What clients hear of changes: every message of every stream of notifications, by way of their transports, and what
 * their readers are given. Judged against the whole of a shard's notifications, as read at the end.
 */
import type { NotificationItem } from "../../../src/client/changes.ts";
import { decodeNotificationBatch } from "../../../src/client/feed-answers.ts";
import type { Bytes } from "../../../src/lib/bytes.ts";
import { decodeNotificationsRequest } from "../../../src/wire/requests.ts";
import { methodOf } from "./session-watch.ts";
import type { TappedCall, TransportTap } from "./transport.ts";

export interface ToldChange {
  readonly type: "created" | "modified" | "deleted" | "rangeDeleted";
  readonly key: string;
  readonly versionId: number | undefined;
  /** Of a deleted range. */
  readonly toExclusive: string | undefined;
}

export interface ToldBatch {
  readonly offset: number;
  readonly changes: readonly ToldChange[];
}

/** One stream of one shard. */
export interface ToldStream {
  readonly client: string;
  readonly shard: number;
  /** Undefined: from where the shard stood, which the first message tells. */
  readonly after: number | undefined;
  readonly batches: ToldBatch[];
  /** What was said to be gone. */
  firstOffset: number | undefined;
  /** It broke, was given up, or ended with its process. */
  ended: boolean;
}

/** What one reader of a client's notifications was given. */
export interface FollowedChanges {
  readonly client: string;
  readonly items: NotificationItem[];
  /** It was cut: by the end of its process, or because the client was closed. */
  ended: boolean;
}

/** What one reader of a sequence was given. */
export interface FollowedSequence {
  readonly client: string;
  readonly prefix: string;
  readonly items: string[];
  ended: boolean;
}

export class Feeds {
  readonly streams: ToldStream[] = [];
  readonly changes: FollowedChanges[] = [];
  readonly sequences: FollowedSequence[] = [];

  /** What watches the calls of one client. */
  tap(client: string): TransportTap {
    const streams = new WeakMap<TappedCall, ToldStream>();
    return {
      opened: (call) => {
        if (methodOf(call) !== "GetNotifications") return;
        const { shard, startOffsetExclusive } = decodeNotificationsRequest(call.request.message!.subarray(5));
        const after = startOffsetExclusive === undefined ? undefined : Number(startOffsetExclusive);
        const stream: ToldStream = {
          client,
          shard: Number(shard),
          after,
          batches: [],
          firstOffset: undefined,
          ended: false,
        };
        this.streams.push(stream);
        streams.set(call, stream);
      },
      headers: (call, headers) => {
        const first = headers["varia-first-offset"];
        const stream = streams.get(call);
        if (stream !== undefined && first !== undefined) stream.firstOffset = Number(first);
      },
      answered: (call, message) => {
        streams.get(call)?.batches.push(toldBatch(message));
      },
      ended: (call) => {
        const stream = streams.get(call);
        if (stream !== undefined) stream.ended = true;
      },
    };
  }

  /** The client's process is gone. */
  clientEnded(client: string): void {
    for (const feed of [...this.streams, ...this.changes, ...this.sequences]) {
      if (feed.client === client) feed.ended = true;
    }
  }
}

export function toldBatch(message: Bytes): ToldBatch {
  const { offset, changes } = decodeNotificationBatch(message);
  return {
    offset: Number(offset),
    changes: changes.map(({ type, key, versionId, keyRangeLast }) => ({
      type,
      key,
      versionId: versionId === undefined ? undefined : Number(versionId),
      toExclusive: keyRangeLast,
    })),
  };
}

export function describeChange({ type, key, versionId, toExclusive }: ToldChange): string {
  return `${type} ${key}${versionId === undefined ? "" : ` version ${versionId}`}${toExclusive === undefined ? "" : ` … ${toExclusive}`}`;
}
