/**
 * The client of one namespace: takes operations, finds their shards, hands them to the shard's reader or writer.
 *
 * Everything it needs of the world comes in through ClientPorts; `connect` plugs in the real one.
 */
import { utf8 } from "../lib/bytes.ts";
import type { Int64 } from "../wire/reader.ts";
import { Assignments } from "./assignments.ts";
import { ClientClosedError, InvalidArgumentError } from "./errors.ts";
import { isInternalKey, type Key, keyBytes, keyText, type WireKey, wireKey } from "./keys.ts";
import { PendingBudget, type Route } from "./operation.ts";
import type {
  DeleteOptions,
  GetOptions,
  PutOptions,
  RangeOptions,
  RangeReadOptions,
  ResolvedOptions,
  RoutingOptions,
} from "./options.ts";
import { convertedPages, mergedPages, RangeRead } from "./range-read.ts";
import type { GetResult, PutResult } from "./records.ts";
import { Comparison, writeDelete, writeDeleteRange, writeGet, writePut } from "./requests.ts";
import { allOf, nearest, type Router, reroute } from "./routing.ts";
import type { ShardContext } from "./shard-context.ts";
import { KEYS, type KeyRange, type RangeKind, RECORDS } from "./shard-range.ts";
import { ShardReader } from "./shard-reader.ts";
import { hashesOf, type Shard } from "./shard-table.ts";
import { ShardWriter } from "./shard-writer.ts";
import type { ClientPorts } from "./transport.ts";

/** `expected_version_id` that says: must not exist. */
const MUST_NOT_EXIST = -1;
const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

export class VariaClient {
  readonly #ports: ClientPorts;
  readonly #context: ShardContext;
  readonly #writers = new Map<number, ShardWriter>();
  readonly #readers = new Map<number, ShardReader>();
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
    };
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
    assignments.onChange(() => client.#assignmentsChanged());
    return client;
  }

  /**
   * Stores a record. Text is stored as UTF-8; bytes are copied before the call returns. Rejects with
   * UnexpectedVersionIdError when `expectedVersionId` or `mustNotExist` does not hold.
   */
  put(key: Key, value: string | Uint8Array, options: PutOptions = {}): Promise<PutResult> {
    return new Promise((resolve, reject) => {
      const fields = {
        key: userKey(key),
        value: typeof value === "string" ? utf8(value) : value,
        expectedVersionId: expectedVersion(options),
        partitionKey: optionalKey(options.partitionKey),
        overrideVersionId: int64("overrideVersionId", options.overrideVersionId),
        overrideModificationsCount: int64("overrideModificationsCount", options.overrideModificationsCount),
      };
      const route = fields.partitionKey ?? fields.key;
      const bytes = fields.key.length + fields.value.length;
      this.#admit(bytes);
      const writer = this.#writerOf(this.#shardOf(route));
      const batch = writer.batchForPut(fields.key, bytes);
      const start = batch.writer.length;
      writePut(batch.writer, fields);
      writer.added({ kind: "put", key: fields.key, route, start, end: start, deadline: 0, resolve, reject });
    });
  }

  /**
   * The record at the key, or, with another `comparison`, the nearest one; undefined when there is none. The nearest
   * one is found within the order of each shard, and among shards by the order in which their results are merged.
   */
  get(key: Key, options: GetOptions = {}): Promise<GetResult | undefined> {
    try {
      const asked = wireKey(key);
      const comparison = Comparison[options.comparison ?? "equal"];
      if (comparison === undefined) throw new InvalidArgumentError(`unknown comparison "${options.comparison}"`);
      const includeValue = options.includeValue ?? true;
      const partitionKey = optionalKey(options.partitionKey);
      if (comparison !== Comparison.equal && partitionKey === undefined) {
        return this.#getNearest(asked, includeValue, comparison);
      }
      const route = partitionKey ?? asked;
      return this.#get(this.#shardOf(route), asked, route, includeValue, comparison);
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
      const writer = this.#writerOf(this.#shardOf(route));
      const batch = writer.batchForDelete(deleted, deleted.length);
      const start = batch.writer.length;
      writeDelete(batch.writer, deleted, expectedVersionId, partitionKey);
      writer.added({ kind: "delete", key: deleted, route, start, end: start, deadline: 0, resolve, reject });
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

  /** Number of shards of the namespace, as last heard. */
  get shardCount(): number {
    return this.#context.assignments.table.shards.length;
  }

  /** Sends what is gathered and resolves once everything given so far is answered or has failed. */
  async flush(): Promise<void> {
    await Promise.all([...this.#writers.values(), ...this.#readers.values()].map((shard) => shard.flush()));
  }

  /** Takes no more operations, flushes, closes all connections. Range reads under way are cut. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    await this.flush();
    const error = new ClientClosedError();
    for (const range of [...this.#context.openRanges]) range.fail(error);
    for (const shard of [...this.#writers.values(), ...this.#readers.values()]) shard.close(error);
    this.#context.assignments.close();
    this.#ports.transport.close();
  }

  // --- one shard ------------------------------------------------------------------------------------------------

  #get(shard: Shard, key: WireKey, route: Route, includeValue: boolean, comparison: number) {
    return new Promise<GetResult | undefined>((resolve, reject) => {
      this.#admit(key.length);
      const reader = this.#readerOf(shard);
      const batch = reader.batchFor(key.length);
      const start = batch.writer.length;
      writeGet(batch.writer, key, includeValue, comparison);
      reader.added({ kind: "get", key, comparison, route, start, end: start, deadline: 0, resolve, reject });
    });
  }

  #deleteRange(shard: Shard, start: WireKey, end: WireKey, route: Route): Promise<void> {
    return new Promise((resolve, reject) => {
      const bytes = start.length + end.length;
      this.#admit(bytes);
      const writer = this.#writerOf(shard);
      const batch = writer.batchForDeleteRange(bytes);
      const from = batch.writer.length;
      writeDeleteRange(batch.writer, start, end);
      writer.added({ kind: "delete-range", route, start: from, end: from, deadline: 0, resolve, reject });
    });
  }

  #admit(bytes: number): void {
    if (this.#closing !== undefined) throw new ClientClosedError();
    this.#context.budget.check(bytes);
  }

  // --- all shards -----------------------------------------------------------------------------------------------

  async #getNearest(key: WireKey, includeValue: boolean, comparison: number): Promise<GetResult | undefined> {
    const { shards } = this.#context.assignments.table;
    const found = shards.map((shard) => this.#get(shard, key, hashesOf(shard), includeValue, comparison));
    return nearest(await allOf(found), comparison);
  }

  #range<T>(kind: RangeKind<T>, options: RangeReadOptions): () => AsyncGenerator<T[], void, undefined> {
    const range: KeyRange = { ...keyRange(options), includeInternalKeys: options.includeInternalKeys ?? false };
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

  #assignmentsChanged(): void {
    const { table } = this.#context.assignments;
    for (const shards of [this.#writers, this.#readers]) {
      for (const [id, shard] of shards) {
        shard.assignmentsChanged();
        if (table.byId(id) === undefined && shard.idle) {
          shard.close(new ClientClosedError());
          shards.delete(id);
        }
      }
    }
  }
}

function optionalKey(key: Key | undefined): WireKey | undefined {
  return key === undefined ? undefined : wireKey(key);
}

/** The key of a record that a program writes. Refuses the server's own region, so that one such key cannot fail a batch of others'. */
function userKey(key: Key): WireKey {
  const user = wireKey(key);
  if (isInternalKey(user)) throw new InvalidArgumentError("keys that start with __oxia/ belong to the server");
  return user;
}

function expectedVersion({ expectedVersionId, mustNotExist }: PutOptions): Int64 | undefined {
  if (mustNotExist !== true) return int64("expectedVersionId", expectedVersionId);
  if (expectedVersionId !== undefined) throw new InvalidArgumentError("mustNotExist contradicts expectedVersionId");
  return MUST_NOT_EXIST;
}

function int64(name: string, value: Int64 | undefined): Int64 | undefined {
  if (value === undefined || Number.isSafeInteger(value)) return value;
  if (typeof value === "bigint" && value >= INT64_MIN && value <= INT64_MAX) return value;
  throw new InvalidArgumentError(`${name} is not a 64-bit integer: a safe integer or a bigint`);
}

function keyRange({ startInclusive, endExclusive }: RangeOptions): Pick<KeyRange, "startInclusive" | "endExclusive"> {
  return { startInclusive: wireKey(startInclusive ?? ""), endExclusive: wireKey(endExclusive ?? "") };
}
