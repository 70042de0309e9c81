/**
 * The client of one namespace: takes operations, finds their shards, hands them to the shard's reader or writer.
 *
 * Everything it needs of the world comes in through ClientPorts; `connect` plugs in the real one.
 */
import { CLIENT_CLOSE_SESSIONS_MS_MAX, CLIENT_HEARTBEAT_MS_MIN } from "../model/limits.ts";
import type { Clock } from "../ports.ts";
import { int64, keyRange, optionalKey, putFields, userKey } from "./arguments.ts";
import { Assignments } from "./assignments.ts";
import type { ChangedBy } from "./backoff.ts";
import { type CacheOptions, RecordCache } from "./cache.ts";
import { ClientClosedError, InvalidArgumentError, SessionDoesNotExistError } from "./errors.ts";
import { type Key, keyBytes, keyText, type WireKey, wireKey } from "./keys.ts";
import { Notifications, type NotificationsOptions } from "./notifications.ts";
import { PendingBudget, type Route } from "./operation.ts";
import type {
  DeleteOptions,
  GetOptions,
  PutOptions,
  RangeReadOptions,
  ResolvedOptions,
  RoutingOptions,
  SequenceUpdatesOptions,
} from "./options.ts";
import { convertedPages, mergedPages, RangeRead } from "./range-read.ts";
import type { GetResult, PutResult } from "./records.ts";
import { Comparison, type PutFields, writeDelete, writeDeleteRange, writeGet, writePut } from "./requests.ts";
import { allOf, nearest, type Router, reroute, type Search } from "./routing.ts";
import { SequenceUpdates } from "./sequence-updates.ts";
import { type SessionLost, Sessions } from "./sessions.ts";
import type { ShardContext } from "./shard-context.ts";
import { KEYS, type KeyRange, type RangeKind, RECORDS } from "./shard-range.ts";
import { ShardReader } from "./shard-reader.ts";
import { hashesOf, type Shard } from "./shard-table.ts";
import { ShardWriter } from "./shard-writer.ts";
import { type ClientPorts, randomName } from "./transport.ts";

/** Where a write goes, and what it does there. It may have to wait for a session first. */
interface Write {
  readonly bytes: number;
  readonly ephemeral: boolean;
  shard(): Shard;
  run(shard: Shard): void;
  fail(error: Error): void;
}

export class VariaClient {
  readonly #ports: ClientPorts;
  readonly #context: ShardContext;
  readonly #writers = new Map<number, ShardWriter>();
  readonly #readers = new Map<number, ShardReader>();
  readonly #sessions: Sessions;
  readonly #identity: WireKey;
  readonly #router: Router = { table: () => this.#context.assignments.table, shardOf: (key) => this.#shardOf(key) };
  #closing: Promise<void> | undefined;

  private constructor(ports: ClientPorts, options: ResolvedOptions) {
    const headers: Record<string, string> = {};
    if (options.authToken !== undefined) headers.authorization = `Bearer ${options.authToken}`;
    this.#ports = ports;
    this.#context = {
      ports,
      assignments: new Assignments(ports, { ...options, headers }),
      namespace: options.namespace,
      headers,
      requestTimeoutMs: options.requestTimeoutMs,
      bounds: {
        lingerMs: options.batchLingerMs,
        requestsMax: options.batchRequestsMax,
        bytesMax: options.batchBytesMax,
      },
      budget: new PendingBudget(),
      openRanges: new Set(),
      feeds: new Set(),
      closers: new Set(),
    };
    const { sessionTimeoutMs, requestTimeoutMs } = options;
    this.#identity = wireKey(options.clientIdentity ?? `varia-${randomName(ports.random)}`);
    this.#sessions = new Sessions(this.#context, {
      timeoutMs: sessionTimeoutMs,
      // as the official clients, but several of them within a session that lives shortly
      heartbeatMs: Math.min(Math.max(sessionTimeoutMs / 10, CLIENT_HEARTBEAT_MS_MIN), sessionTimeoutMs / 4),
      clientIdentity: this.#identity,
      closeMs: Math.min(requestTimeoutMs, CLIENT_CLOSE_SESSIONS_MS_MAX),
    });
  }

  /** Resolves once the shards are known. For programs there is `connect`; this is for other ports. */
  static async open(ports: ClientPorts, options: ResolvedOptions): Promise<VariaClient> {
    const client = new VariaClient(ports, options);
    const { assignments } = client.#context;
    try {
      await assignments.start(options.requestTimeoutMs);
    } catch (error) {
      assignments.close();
      ports.transport.close();
      throw error;
    }
    assignments.onChange((by) => client.#assignmentsChanged(by));
    return client;
  }

  /**
   * Stores a record. Text is stored as UTF-8; bytes are copied before the call returns. Rejects with
   * UnexpectedVersionIdError when `expectedVersionId` or `mustNotExist` does not hold, and with SessionDoesNotExistError
   * when the session of an ephemeral one has ended: nothing was stored then, and the next ephemeral put makes a new
   * session. The result has the key that the server made of a sequence.
   */
  put(key: Key, value: string | Uint8Array, options: PutOptions = {}): Promise<PutResult> {
    return new Promise((resolve, reject) => {
      const given = putFields(key, value, options, this.#identity);
      const route = given.partitionKey ?? given.key;
      const bytes = given.key.length + given.value.length;
      this.#admit(bytes);
      const ephemeral = options.ephemeral === true;
      if (!ephemeral && !this.#sessions.holding) return this.#put(this.#shardOf(route), given, route, resolve, reject);
      // it may have to wait, and the caller's bytes may change meanwhile
      const fields = typeof value === "string" ? given : { ...given, value: given.value.slice() };
      this.#write({
        bytes,
        ephemeral,
        shard: () => this.#shardOf(route),
        run: (shard) => {
          if (ephemeral) this.#putInSession(shard, fields, route, resolve, reject);
          else this.#put(shard, fields, route, resolve, reject);
        },
        fail: reject,
      });
    });
  }

  /**
   * The record at the key, or, with another `comparison`, the nearest one; undefined when there is none. The nearest
   * one is found within the order of each shard, and among shards by the order in which their results are merged.
   * With `useIndex` the key is one of that index, and the result has `secondaryIndexKey`.
   */
  get(key: Key, options: GetOptions = {}): Promise<GetResult | undefined> {
    try {
      const asked = wireKey(key);
      const comparison = Comparison[options.comparison ?? "equal"];
      if (comparison === undefined) throw new InvalidArgumentError(`unknown comparison "${options.comparison}"`);
      const includeValue = options.includeValue ?? true;
      const partitionKey = optionalKey(options.partitionKey);
      const useIndex = optionalKey(options.useIndex);
      const search = { key: asked, comparison, byIndex: useIndex !== undefined, includeValue, useIndex };
      if (partitionKey === undefined && (comparison !== Comparison.equal || useIndex !== undefined)) {
        return this.#getNearest(search);
      }
      const route = partitionKey ?? asked;
      return this.#get(this.#shardOf(route), search, route);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Deletes the record at the key; resolves with whether there was one. Rejects with UnexpectedVersionIdError when
   * `expectedVersionId` is given and the record is missing or has another.
   */
  delete(key: Key, options: DeleteOptions = {}): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const deleted = userKey(key);
      const partitionKey = optionalKey(options.partitionKey);
      const expectedVersionId = int64("expectedVersionId", options.expectedVersionId);
      const route = partitionKey ?? deleted;
      this.#admit(deleted.length);
      const run = (shard: Shard) => {
        const writer = this.#writerOf(shard);
        const batch = writer.batchForDelete(deleted, deleted.length);
        const start = batch.writer.length;
        writeDelete(batch.writer, deleted, expectedVersionId, partitionKey);
        writer.added({ kind: "delete", key: deleted, route, start, end: start, deadline: 0, resolve, reject });
      };
      const shard = () => this.#shardOf(route);
      this.#write({ bytes: deleted.length, ephemeral: false, shard, run, fail: reject });
    });
  }

  /**
   * Deletes all records from `startInclusive` to `endExclusive`, in the order of each shard's keys. Atomic on each shard,
   * not across them: when it rejects, some shards may have deleted theirs. An open end is refused: servers differ
   * in what it means.
   */
  async deleteRange(startInclusive: Key, endExclusive: Key, options: RoutingOptions = {}): Promise<void> {
    const start = wireKey(startInclusive);
    const end = wireKey(endExclusive);
    if (end.length === 0) throw new InvalidArgumentError("deleteRange needs an end");
    const partitionKey = optionalKey(options.partitionKey);
    if (partitionKey !== undefined) return this.#deleteRange(this.#shardOf(partitionKey), start, end, partitionKey);
    const { shards } = this.#context.assignments.table;
    await allOf(shards.map((shard) => this.#deleteRange(shard, start, end, hashesOf(shard))));
  }

  /**
   * The changes of all records from now on, over all shards: resolves once subscribed, so that whatever is written from
   * then on is told of, once each. After a `missed` item the servers no longer knew some. Not read, it holds back the
   * servers; leave the loop, abort the signal or close the client to end it.
   */
  async notifications(options: NotificationsOptions = {}): Promise<Notifications> {
    if (this.#closing !== undefined) throw new ClientClosedError();
    return Notifications.open(this.#context, options);
  }

  /** The highest key of a sequence, now and whenever there is a higher one; slow readers hear of the latest only. */
  sequenceUpdates(key: Key, options: SequenceUpdatesOptions): SequenceUpdates {
    if (this.#closing !== undefined) throw new ClientClosedError();
    const route = wireKey(options.partitionKey);
    return new SequenceUpdates(this.#context, wireKey(key), () => this.#shardOf(route).id, options.signal);
  }

  /**
   * Calls `listener` when a session of this client has ended, or may have: its ephemeral records are gone, or will be.
   * The returned function ends that.
   */
  onSessionLost(listener: (lost: SessionLost) => void): () => void {
    return this.#sessions.onLost(listener);
  }

  /** A cache of records, kept fresh by notifications: resolves once it hears of changes. Close it when done. */
  async cache<T>(options: CacheOptions<T> = {}): Promise<RecordCache<T>> {
    return RecordCache.open(this, options);
  }

  /** Keys of the range as text; what is not UTF-8 in them is U+FFFD (`listBytes` has them as they are). */
  list(options: RangeReadOptions = {}): RangeRead<string> {
    const open = this.#range(KEYS, options);
    return new RangeRead(() => convertedPages(open(), (keys) => keys.map(keyText)));
  }

  /** Keys of the range as bytes. */
  listBytes(options: RangeReadOptions = {}): RangeRead<Uint8Array> {
    const open = this.#range(KEYS, options);
    return new RangeRead(() => convertedPages(open(), (keys) => keys.map(keyBytes)));
  }

  /** Records of the range, with values. */
  rangeScan(options: RangeReadOptions = {}): RangeRead<GetResult> {
    return new RangeRead(this.#range<GetResult>(RECORDS, options));
  }

  /** @internal What locks need of a client beside its operations. */
  static inside(client: VariaClient): {
    readonly clock: Clock;
    readonly random: () => number;
    readonly identity: string;
    shardIdOf(key: Key): number;
  } {
    const { clock, random } = client.#ports;
    const identity = keyText(client.#identity);
    return { clock, random, identity, shardIdOf: (key) => client.#shardOf(wireKey(key)).id };
  }

  /** Number of shards of the namespace, as last heard. */
  get shardCount(): number {
    return this.#context.assignments.table.shards.length;
  }

  /** Sends what is gathered and resolves once everything given so far is answered or has failed. */
  async flush(): Promise<void> {
    await this.#sessions.idle();
    await Promise.all([...this.#writers.values(), ...this.#readers.values()].map((shard) => shard.flush()));
  }

  /**
   * Takes no more operations, flushes, ends its sessions and with them its ephemeral records, closes all connections.
   * Range reads under way are cut, notifications end.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    for (const close of [...this.#context.closers]) close();
    await this.flush();
    await this.#sessions.close();
    const error = new ClientClosedError();
    for (const range of [...this.#context.openRanges]) range.fail(error);
    for (const shard of [...this.#writers.values(), ...this.#readers.values()]) shard.close(error);
    this.#context.assignments.close();
    this.#ports.transport.close();
  }

  // --- one shard ------------------------------------------------------------------------------------------------

  #get(shard: Shard, search: Search & { includeValue: boolean; useIndex: WireKey | undefined }, route: Route) {
    const { key, comparison, byIndex, includeValue, useIndex } = search;
    return new Promise<GetResult | undefined>((resolve, reject) => {
      this.#admit(key.length);
      const reader = this.#readerOf(shard);
      const batch = reader.batchFor(key.length);
      const start = batch.writer.length;
      writeGet(batch.writer, key, includeValue, comparison, useIndex);
      reader.added({ kind: "get", key, comparison, byIndex, route, start, end: start, deadline: 0, resolve, reject });
    });
  }

  #put(
    shard: Shard,
    fields: PutFields,
    route: WireKey,
    resolve: (result: PutResult) => void,
    reject: (error: Error) => void,
  ): void {
    const { key } = fields;
    const writer = this.#writerOf(shard);
    const batch = writer.batchForPut(key, key.length + fields.value.length);
    const start = batch.writer.length;
    writePut(batch.writer, fields);
    writer.added({ kind: "put", key, route, start, end: start, deadline: 0, resolve, reject });
  }

  #putInSession(
    shard: Shard,
    fields: PutFields,
    route: WireKey,
    resolve: (result: PutResult) => void,
    reject: (error: Error) => void,
  ): void {
    const sessionId = this.#sessions.idOf(shard.id)!;
    fields.extras!.sessionId = sessionId;
    this.#put(shard, fields, route, resolve, (error) => {
      if (error instanceof SessionDoesNotExistError) this.#sessions.refused(shard.id, sessionId);
      reject(error);
    });
  }

  /** Sends the write now, or once its shard has the session that it or one before it waits for. */
  #write(write: Write): void {
    const shard = write.shard();
    const { bytes, ephemeral } = write;
    if (this.#sessions.holds(shard.id) || (ephemeral && this.#sessions.idOf(shard.id) === undefined)) {
      this.#sessions.hold(shard, { bytes, ephemeral, again: () => this.#write(write), fail: write.fail });
    } else write.run(shard);
  }

  #deleteRange(shard: Shard, start: WireKey, end: WireKey, route: Route): Promise<void> {
    return new Promise((resolve, reject) => {
      const bytes = start.length + end.length;
      this.#admit(bytes);
      const run = () => {
        const writer = this.#writerOf(shard);
        const batch = writer.batchForDeleteRange(bytes);
        const from = batch.writer.length;
        writeDeleteRange(batch.writer, start, end);
        writer.added({ kind: "delete-range", route, start: from, end: from, deadline: 0, resolve, reject });
      };
      this.#write({ bytes, ephemeral: false, shard: () => shard, run, fail: reject });
    });
  }

  #admit(bytes: number): void {
    if (this.#closing !== undefined) throw new ClientClosedError();
    this.#context.budget.check(bytes);
  }

  // --- all shards -----------------------------------------------------------------------------------------------

  async #getNearest(search: Search & { includeValue: boolean; useIndex: WireKey | undefined }) {
    const { shards } = this.#context.assignments.table;
    return nearest(await allOf(shards.map((shard) => this.#get(shard, search, hashesOf(shard)))), search);
  }

  #range<T>(kind: RangeKind<T>, options: RangeReadOptions): () => AsyncGenerator<T[], void, undefined> {
    const range: KeyRange = {
      ...keyRange(options),
      includeInternalKeys: options.includeInternalKeys ?? false,
      useIndex: optionalKey(options.useIndex),
    };
    const partitionKey = optionalKey(options.partitionKey);
    return () => {
      if (this.#closing !== undefined) throw new ClientClosedError();
      const { shards } = this.#context.assignments.table;
      const read = partitionKey === undefined ? shards : [this.#shardOf(partitionKey)];
      return mergedPages(read, kind, range, this.#context);
    };
  }

  // --- routing --------------------------------------------------------------------------------------------------

  #shardOf(key: WireKey): Shard {
    const { table } = this.#context.assignments;
    // with one shard there is nothing to find out
    return table.shards.length === 1 ? table.shards[0]! : table.byHash(this.#ports.hash(key));
  }

  #writerOf(shard: Shard): ShardWriter {
    let writer = this.#writers.get(shard.id);
    if (writer === undefined) {
      writer = new ShardWriter(shard.id, this.#context, (operations, frame) =>
        reroute(operations, frame, this.#router, (heir) => this.#writerOf(heir)),
      );
      this.#writers.set(shard.id, writer);
    }
    return writer;
  }

  #readerOf(shard: Shard): ShardReader {
    let reader = this.#readers.get(shard.id);
    if (reader === undefined) {
      reader = new ShardReader(shard.id, this.#context, (operations, frame) =>
        reroute(operations, frame, this.#router, (heir) => this.#readerOf(heir)),
      );
      this.#readers.set(shard.id, reader);
    }
    return reader;
  }

  #assignmentsChanged(by: ChangedBy): void {
    const { table } = this.#context.assignments;
    this.#sessions.assignmentsChanged();
    for (const feed of [...this.#context.feeds]) feed.assignmentsChanged(by);
    for (const shards of [this.#writers, this.#readers]) {
      for (const [id, shard] of shards) {
        shard.assignmentsChanged(by);
        if (table.byId(id) === undefined && shard.idle) {
          shard.close(new ClientClosedError());
          shards.delete(id);
        }
      }
    }
  }
}
