/**
 * The operations of one client, each recorded as it is sent and answered. Keys have the hash of their partition key,
 * which is a key's own first letter: so a key is on one shard for the whole run, and the reads of a shard can be asked
 * for by a letter.
 *
 *     a0 … d0    records        e0, e1   records of sessions      zs-…  zt-…   sequences
 *
 * Reads of ranges end before `z`: the keys of a sequence put that was not answered are nobody's knowledge.
 */
import { VariaClient } from "../../../src/client/client.ts";
import { UnexpectedVersionIdError, VariaError } from "../../../src/client/errors.ts";
import type { PutOptions } from "../../../src/client/options.ts";
import type { GetResult, PutResult } from "../../../src/client/records.ts";
import { text } from "../../../src/lib/bytes.ts";
import type { Comparison, FoundRecord, Operation, Outcome, PendingOperation } from "../history.ts";
import { BrokenPromise } from "./broken-promise.ts";
import type { CutScans } from "./cut-scans.ts";
import type { Record } from "./record.ts";
import type { Sends } from "./sends.ts";
import type { SessionWatch } from "./session-watch.ts";

/** Behind all keys that range reads look at. */
export const RANGE_END = "z";
export const INDEX = "by-color";

export interface OperationsContext {
  readonly name: string;
  readonly client: VariaClient;
  readonly record: Record;
  readonly sends: Sends;
  readonly cutScans: CutScans;
  readonly sessions: SessionWatch;
  readonly nowMs: () => number;
}

export interface PutChoice {
  readonly expected?: number;
  readonly index?: string;
  readonly ephemeral?: boolean;
}

/** Of records that outlive their clients; the first ones are used when there are to be few. */
export const KEYS: readonly string[] = ["a0", "b0", "a1", "c0", "d0"];
export const EPHEMERAL_KEYS: readonly string[] = ["e0", "e1"];
/** In the index. */
export const COLORS: readonly string[] = ["blue", "green", "red"];

interface Range {
  readonly fromInclusive: string;
  readonly toExclusive: string;
}

export function partitionKeyOf(key: string): string {
  return key.slice(0, 1);
}

export class Operations {
  readonly #context: OperationsContext;
  /** The version of each key last heard of. */
  readonly versions = new Map<string, number>();

  constructor(context: OperationsContext) {
    this.#context = context;
  }

  shardOf(key: string): number {
    return VariaClient.inside(this.#context.client).shardIdOf(partitionKeyOf(key));
  }

  async put(key: string, { expected, index, ephemeral = false }: PutChoice): Promise<void> {
    const { name, client, record, sends, sessions, nowMs } = this.#context;
    const shard = this.shardOf(key);
    const value = record.newValue(name);
    const sent = record.sent({ value, shard, key, deltas: undefined, ephemeral, invokedMs: nowMs() });
    const conditions = { ...(expected === undefined ? {} : { expected }), ...(index === undefined ? {} : { index }) };
    const pending = record.history(shard).invoke(name, { kind: "put", key, value, ...conditions });
    const inSession = ephemeral ? sessions.put({ shard, key, value }) : undefined;
    const unwatch = sends.watch("put", value, () => {
      sent.repeats++;
      pending.repeated();
    });
    try {
      const { version } = await client.put(key, value, putOptions(key, { expected, index, ephemeral }));
      const versionId = Number(version.versionId);
      record.acked(sent, { key, version: versionId, atMs: nowMs() });
      this.versions.set(key, versionId);
      if (ephemeral !== (version.sessionId !== undefined)) throw new BrokenPromise(`${key}=${value}: its session`);
      inSession?.stored(Number(version.sessionId));
      pending.returned({ status: "OK", version: versionId });
    } catch (error) {
      sent.refused = !isUnknown(error);
      if (sent.refused) inSession?.refused();
      settleFailed(pending, error);
    }
    unwatch();
  }

  async delete(key: string, expected: number | undefined): Promise<void> {
    const { name, client, record, sends } = this.#context;
    const shard = this.shardOf(key);
    const operation = { kind: "delete", key, ...(expected === undefined ? {} : { expected }) } as const;
    const pending = record.history(shard).invoke(name, operation);
    const unwatch = sends.watch("delete", key, () => pending.repeated());
    try {
      const version = expected === undefined ? {} : { expectedVersionId: expected };
      const wasThere = await client.delete(key, { partitionKey: partitionKeyOf(key), ...version });
      if (wasThere) record.deletes.push({ shard, key });
      this.versions.delete(key);
      pending.returned({ status: wasThere ? "OK" : "KEY_NOT_FOUND" });
    } catch (error) {
      settleFailed(pending, error);
    }
    unwatch();
  }

  async deleteRange(range: Range): Promise<void> {
    const { name, client, record, sends } = this.#context;
    const each = this.#allShards().map((shard) => {
      const pending = record.history(shard).invoke(name, { kind: "delete-range", ...range });
      return { pending, unwatch: sends.watch("delete-range", String(shard), () => pending.repeated()) };
    });
    try {
      await client.deleteRange(range.fromInclusive, range.toExclusive);
      for (const { pending } of each) pending.returned({ status: "OK" });
    } catch (error) {
      if (!(error instanceof VariaError)) throw error;
      // some shards may have done it
      for (const { pending } of each) pending.unknown();
    }
    for (const { unwatch } of each) unwatch();
  }

  get(key: string): Promise<void> {
    const { client } = this.#context;
    return this.#read(this.shardOf(key), { kind: "get", key }, async () => {
      const readMs = this.#context.nowMs();
      return this.#found(await client.get(key, { partitionKey: partitionKeyOf(key) }), readMs);
    });
  }

  compare(key: string, comparison: Comparison): Promise<void> {
    const { client } = this.#context;
    return this.#read(this.shardOf(key), { kind: "compare", key, comparison }, async () => {
      const readMs = this.#context.nowMs();
      const record = await client.get(key, { comparison, partitionKey: partitionKeyOf(key) });
      return this.#found(record !== undefined && record.key >= RANGE_END ? undefined : record, readMs);
    });
  }

  scan(range: Range): Promise<void> {
    return this.#readAll({ kind: "scan", ...range }, async () => {
      const { cutScans } = this.#context;
      const cutBefore = cutScans.count;
      const records = await this.#records({ startInclusive: range.fromInclusive, endExclusive: range.toExclusive });
      // perhaps another one that the client makes at the same time: it is not known which
      const inParts = cutScans.count > cutBefore;
      return (shard) => ({ status: "OK", records: this.#onShard(records, shard), inParts });
    });
  }

  list(range: Range): Promise<void> {
    const { client } = this.#context;
    return this.#readAll({ kind: "list", ...range }, async () => {
      const keys: string[] = [];
      for await (const key of client.list({ startInclusive: range.fromInclusive, endExclusive: range.toExclusive })) {
        keys.push(key);
      }
      return (shard) => ({ status: "OK", keys: keys.filter((key) => this.shardOf(key) === shard) });
    });
  }

  indexScan(range: Range): Promise<void> {
    return this.#readAll({ kind: "index-scan", ...range }, async () => {
      const bounds = { startInclusive: range.fromInclusive, endExclusive: range.toExclusive };
      const records = await this.#records({ ...bounds, useIndex: INDEX });
      return (shard) => ({ status: "OK", records: this.#onShard(records, shard) });
    });
  }

  async sequence(prefix: string, deltas: readonly number[]): Promise<void> {
    const { name, client, record, sends, nowMs } = this.#context;
    const shard = this.shardOf(prefix);
    const value = record.newValue(name);
    const sent = record.sent({ value, shard, key: prefix, deltas, ephemeral: false, invokedMs: nowMs() });
    const unwatch = sends.watch("put", value, () => {
      sent.repeats++;
    });
    try {
      const options = { partitionKey: partitionKeyOf(prefix), sequenceKeysDeltas: deltas };
      const { key, version }: PutResult = await client.put(prefix, value, options);
      record.acked(sent, { key, version: Number(version.versionId), atMs: nowMs() });
    } catch (error) {
      sent.refused = !isUnknown(error);
    }
    unwatch();
  }

  // --- inside ---------------------------------------------------------------------------------------------------

  async #read(shard: number, operation: Operation, ask: () => Promise<Outcome>): Promise<void> {
    const { name, record } = this.#context;
    const pending = record.history(shard).invoke(name, operation);
    try {
      pending.returned(await ask());
    } catch (error) {
      if (!(error instanceof VariaError)) throw error;
      pending.unknown();
    }
  }

  /** A read of all shards: of each, one that may have been at another moment than those of the others. */
  async #readAll(operation: Operation, ask: () => Promise<(shard: number) => Outcome>): Promise<void> {
    const { name, record } = this.#context;
    const each = this.#allShards().map((shard) => ({ shard, pending: record.history(shard).invoke(name, operation) }));
    try {
      const outcomeOf = await ask();
      for (const { shard, pending } of each) pending.returned(outcomeOf(shard));
    } catch (error) {
      if (!(error instanceof VariaError)) throw error;
      for (const { pending } of each) pending.unknown();
    }
  }

  async #records(options: { startInclusive: string; endExclusive: string; useIndex?: string }): Promise<FoundRecord[]> {
    const records: FoundRecord[] = [];
    const readMs = this.#context.nowMs();
    for await (const found of this.#context.client.rangeScan(options)) {
      this.#seen(found, readMs);
      records.push(foundRecord(found));
    }
    return records;
  }

  /** Records are where they were put, if anybody has put them. */
  #onShard(records: readonly FoundRecord[], shard: number): FoundRecord[] {
    return records.filter(({ key }) => this.shardOf(key) === shard);
  }

  /** All shards that may have any of the keys. */
  #allShards(): number[] {
    return [...new Set([...KEYS, ...EPHEMERAL_KEYS].map((key) => this.shardOf(key)))];
  }

  /** A record was read: if it is one of a session, that has not ended. */
  #seen({ key, version: { sessionId } }: GetResult, readMs: number): void {
    if (sessionId === undefined) return;
    // how long a session without heartbeats lives depends on who led meanwhile: that is looked at in the end
    const at = { readMs, lateMs: Number.POSITIVE_INFINITY, ledSinceMs: 0 };
    this.#context.sessions.seen(this.shardOf(key), Number(sessionId), at);
  }

  #found(result: GetResult | undefined, readMs: number): Outcome {
    if (result === undefined) return { status: "KEY_NOT_FOUND" };
    this.#seen(result, readMs);
    const record = foundRecord(result);
    this.versions.set(record.key, record.version);
    return { status: "OK", record };
  }
}

function putOptions(key: string, { expected, index, ephemeral }: { [P in keyof PutChoice]: PutChoice[P] | undefined }) {
  const options: { -readonly [P in keyof PutOptions]: PutOptions[P] } = { partitionKey: partitionKeyOf(key) };
  if (expected === -1) options.mustNotExist = true;
  else if (expected !== undefined) options.expectedVersionId = expected;
  if (index !== undefined) options.secondaryIndexes = [{ name: INDEX, key: index }];
  if (ephemeral === true) options.ephemeral = true;
  return options;
}

export function foundRecord({ key, value, version }: GetResult): FoundRecord {
  return { key, value: text(value), version: Number(version.versionId) };
}

/** Whether a write that failed may have been carried out all the same. */
function isUnknown(error: unknown): boolean {
  if (!(error instanceof VariaError)) throw error;
  return error.outcomeUnknown;
}

function settleFailed(pending: PendingOperation, error: unknown): void {
  if (isUnknown(error)) pending.unknown();
  else if (error instanceof UnexpectedVersionIdError) pending.returned({ status: "UNEXPECTED_VERSION_ID" });
  else pending.refused();
}
