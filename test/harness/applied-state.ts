/**
 * One shard's state as entries leave it, without a log: writes are applied as a leader applies them, sessions started
 * and ended as it proposes them. For tests of database/.
 *
 * Keys are latin1 strings, one character a byte.
 */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Applier } from "../../src/database/apply.ts";
import { encodeBatch } from "../../src/database/notification.ts";
import { encodeSessionEnds, encodeSessionStart } from "../../src/database/session-record.ts";
import {
  NotificationBatchSchema,
  NotificationType,
  WriteRequestSchema,
  type WriteResponse,
  WriteResponseSchema,
} from "../../src/gen/bytes/io/oxia/proto/v1/client_pb.ts";
import { EMPTY_BYTES } from "../../src/lib/bytes.ts";
import { type KeySorting, keyOrder } from "../../src/model/keys.ts";
import { Refusal } from "../../src/model/refusal.ts";
import { decodeWrite } from "../../src/wire/requests.ts";
import { ModelKeyValue } from "../sim/model-key-value.ts";
import { bytesOf, keyOf } from "./client.ts";

export type WriteInit = MessageInitShape<typeof WriteRequestSchema>;
type PutInit = NonNullable<WriteInit["puts"]>[number];

/** A put of a WriteRequest; a `key` of another form is in `options`. */
export function put(key: string, options: Omit<PutInit, "key" | "$typeName"> = {}): PutInit {
  return { ...options, key: bytesOf(key) } as PutInit;
}

/** A put of a sequence: its key is the prefix. */
export function sequencePut(prefix: string, ...deltas: (number | bigint)[]): PutInit {
  return put(prefix, { sequenceKeyDelta: deltas.map(BigInt), partitionKey: bytesOf("p") });
}

export const index = (name: string, key: string) => ({ indexName: bytesOf(name), secondaryKey: bytesOf(key) });
export const range = (from: string, to: string) => ({ startInclusive: bytesOf(from), endExclusive: bytesOf(to) });

const TYPES = new Map<number, string>([
  [NotificationType.KEY_CREATED, "CREATED"],
  [NotificationType.KEY_MODIFIED, "MODIFIED"],
  [NotificationType.KEY_DELETED, "DELETED"],
  [NotificationType.KEY_RANGE_DELETED, "RANGE_DELETED"],
]);

export class AppliedState {
  readonly sorting: KeySorting;
  readonly kv: ModelKeyValue;
  applier: Applier;
  now = 1_000;
  /** What the listener was told, oldest first. */
  readonly told: string[] = [];

  constructor(sorting: KeySorting = "hierarchical", { notificationsEnabled = true } = {}) {
    this.sorting = sorting;
    this.kv = new ModelKeyValue(keyOrder(sorting));
    this.applier = this.#newApplier(notificationsEnabled);
  }

  #newApplier(notificationsEnabled: boolean): Applier {
    const applier = new Applier(this.kv, { order: keyOrder(this.sorting), notificationsEnabled });
    applier.listener = {
      sessionStarted: (id, timeoutMs) => this.told.push(`started ${id} ${timeoutMs}`),
      sessionEnded: (id) => this.told.push(`ended ${id}`),
      sequenceAdvanced: (prefix, key) => this.told.push(`advanced ${keyOf(prefix)} ${keyOf(key)}`),
    };
    return applier;
  }

  /** What a restart does: nothing is remembered but the state. */
  restart(): void {
    this.applier = this.#newApplier(true);
  }

  /** Applies a write as the next entry. Its response, or why nothing of it happened. */
  apply(init: WriteInit): WriteResponse | Refusal {
    return this.#applyRequest(toBinary(WriteRequestSchema, create(WriteRequestSchema, init)));
  }

  #applyRequest(request: Uint8Array): WriteResponse | Refusal {
    const at = { term: 1, offset: this.kv.applied.offset + 1, timestamp: this.now };
    const response = this.applier.applyWrite(decodeWrite(request), at);
    return response instanceof Refusal ? response : fromBinary(WriteResponseSchema, response);
  }

  /** `apply` for a write that must be taken. */
  write(init: WriteInit): WriteResponse {
    const response = this.apply(init);
    if (response instanceof Refusal) throw response;
    return response;
  }

  /** The statuses of the puts of a write. */
  put(...puts: PutInit[]): number[] {
    return this.write({ puts }).puts.map(({ status }) => status);
  }

  delete(...keys: string[]): number[] {
    return this.write({ deletes: keys.map((key) => ({ key: bytesOf(key) })) }).deletes.map(({ status }) => status);
  }

  /** The key that a sequence put got; the reason or status when it got none. */
  next(prefix: string, ...deltas: (number | bigint)[]): string {
    const response = this.apply({ puts: [sequencePut(prefix, ...deltas)] });
    if (response instanceof Refusal) return response.reason;
    const { key, status } = response.puts[0]!;
    return key === undefined ? `status ${status}` : keyOf(key);
  }

  startSession(timeoutMs = 2_000): number {
    const id = this.kv.applied.offset + 1;
    this.#applyRequest(encodeSessionStart(0, id, timeoutMs, EMPTY_BYTES));
    return id;
  }

  endSessions(...ids: number[]): void {
    this.#applyRequest(encodeSessionEnds(0, ids));
  }

  /** All keys, or those with a prefix, in the state's order. */
  keys(prefix = ""): string[] {
    const keys: string[] = [];
    const cursor = this.kv.cursor({});
    while (cursor.next()) keys.push(keyOf(cursor.key));
    return keys.filter((key) => key.startsWith(prefix));
  }

  userKeys(): string[] {
    return this.keys().filter((key) => !key.startsWith("__oxia/"));
  }

  /** What the entry at `offset`, by default the last one, told subscribers; undefined when it has no batch. */
  notified(offset = this.kv.applied.offset): string[] | undefined {
    const [batch] = this.kv.notifications(offset - 1);
    if (batch?.offset !== offset) return undefined;
    const { notifications } = fromBinary(NotificationBatchSchema, encodeBatch(0, batch, batch.entries));
    return notifications.map(({ key, value }) => {
      const { type, versionId, keyRangeLast } = value!;
      const words = [TYPES.get(type)!, keyOf(key!)];
      if (keyRangeLast !== undefined) words.push(keyOf(keyRangeLast));
      if (versionId !== undefined) words.push(`v${versionId}`);
      return words.join(" ");
    });
  }
}

/** The part of a sequence key that a counter makes. */
export function part(counter: number | bigint): string {
  return `-${String(counter).padStart(20, "0")}`;
}
