/**
 * Records that were read or written lately, kept until a notification tells that they changed. What is given out may be
 * as old as notifications take to come, and while the connection to a shard is down as old as that; use `client.get`
 * where that matters.
 *
 * A record is kept only when it is known to be the newest that this cache has heard of: each read and write under way
 * watches what notifications say of its key meanwhile, and its result is kept if they say nothing, or last the version
 * that it has itself.
 *
 * Bounds: `entriesMax` records; the least recently used go first.
 */
import { text } from "../lib/bytes.ts";
import { CLIENT_CACHE_ENTRIES_DEFAULT } from "../model/limits.ts";
import type { Int64 } from "../wire/reader.ts";
import { Change } from "./changes.ts";
import { InvalidArgumentError } from "./errors.ts";
import { type Key, keyBytes, type WireKey, wireKey } from "./keys.ts";
import type { Notifications } from "./notifications.ts";
import type { DeleteOptions, GetOptions, PutOptions } from "./options.ts";
import type { GetResult, PutResult } from "./records.ts";

export interface CacheOptions<T> {
  /** Makes a value of a record's bytes. Default: reads them as JSON. */
  readonly decode?: (value: Uint8Array) => T;
  /** Makes a record's bytes of a value. Default: writes it as JSON. */
  readonly encode?: (value: T) => string | Uint8Array;
  /** Records to keep. Default 10,000. */
  readonly entriesMax?: number;
  /** The partition key of all records of this cache. */
  readonly partitionKey?: Key;
}

interface Entry<T> {
  /** Undefined: there is no record. */
  readonly value: T | undefined;
  readonly versionId: Int64 | undefined;
}

/** A read or write under way, and what was told of its key meanwhile. */
interface Flight {
  told: { readonly versionId: Int64 | undefined } | undefined;
}

/** What a cache asks of its client. */
interface Records {
  get(key: Key, options: GetOptions): Promise<GetResult | undefined>;
  put(key: Key, value: string | Uint8Array, options: PutOptions): Promise<PutResult>;
  delete(key: Key, options: DeleteOptions): Promise<boolean>;
  notifications(): Promise<Notifications>;
}

/** Made by `VariaClient.cache`. Values are shared by all who ask: do not change them. */
export class RecordCache<T> {
  readonly #client: Records;
  readonly #notifications: Notifications;
  readonly #decode: (value: Uint8Array) => T;
  readonly #encode: (value: T) => string | Uint8Array;
  readonly #entriesMax: number;
  readonly #routing: { readonly partitionKey?: Key };
  /** In order of their last use. */
  readonly #entries = new Map<string, Entry<T>>();
  readonly #flights = new Map<string, Set<Flight>>();
  readonly #loads = new Map<string, Promise<T | undefined>>();
  #live = true;

  private constructor(client: Records, notifications: Notifications, options: CacheOptions<T>) {
    this.#client = client;
    this.#notifications = notifications;
    this.#decode = options.decode ?? ((value) => JSON.parse(text(value)) as T);
    this.#encode = options.encode ?? ((value) => JSON.stringify(value));
    this.#entriesMax = options.entriesMax ?? CLIENT_CACHE_ENTRIES_DEFAULT;
    this.#routing = options.partitionKey === undefined ? {} : { partitionKey: options.partitionKey };
  }

  /** @internal Resolves once subscribed. */
  static async open<T>(client: Records, options: CacheOptions<T>): Promise<RecordCache<T>> {
    const { entriesMax = 1 } = options;
    if (!(entriesMax >= 1)) throw new InvalidArgumentError("entriesMax is not a number from 1");
    const cache = new RecordCache(client, await client.notifications(), options);
    void cache.#follow();
    return cache;
  }

  /** The value of the record at the key, undefined when there is none: from here, or read from the server. */
  get(key: Key): Promise<T | undefined> {
    const name = nameOf(wireKey(key));
    const entry = this.#entries.get(name);
    if (entry !== undefined) {
      this.#entries.delete(name);
      this.#entries.set(name, entry);
      return Promise.resolve(entry.value);
    }
    let load = this.#loads.get(name);
    if (load === undefined) {
      load = this.#load(key, name);
      this.#loads.set(name, load);
      const over = () => {
        if (this.#loads.get(name) === load) this.#loads.delete(name);
      };
      load.then(over, over);
    }
    return load;
  }

  /** Stores the value on the server, and here. */
  async put(key: Key, value: T, options: Omit<PutOptions, "partitionKey" | "sequenceKeysDeltas"> = {}) {
    const name = nameOf(wireKey(key));
    return this.#watching(name, async (flight): Promise<PutResult> => {
      const result = await this.#client.put(key, this.#encode(value), { ...options, ...this.#routing });
      const { versionId } = result.version;
      const newest = isNewest(flight, versionId);
      if (newest) this.#changed(name, versionId);
      this.#entries.delete(name);
      if (newest) this.#keep(name, { value, versionId });
      return result;
    });
  }

  /** Deletes the record on the server, and here; resolves with whether there was one. */
  async delete(key: Key, options: Omit<DeleteOptions, "partitionKey"> = {}): Promise<boolean> {
    const deleted = await this.#client.delete(key, { ...options, ...this.#routing });
    this.#changed(nameOf(wireKey(key)), undefined);
    return deleted;
  }

  /** Records kept. */
  get size(): number {
    return this.#entries.size;
  }

  /** Whether notifications come: when not, nothing is kept, and every `get` asks the server. */
  get live(): boolean {
    return this.#live;
  }

  /** Ends the subscription and forgets everything. */
  async close(): Promise<void> {
    await this.#notifications.return();
    this.#end();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #load(key: Key, name: string): Promise<T | undefined> {
    return this.#watching(name, async (flight) => {
      const record = await this.#client.get(key, this.#routing);
      const value = record === undefined ? undefined : this.#decode(record.value);
      const versionId = record?.version.versionId;
      if (isNewest(flight, versionId)) this.#keep(name, { value, versionId });
      return value;
    });
  }

  async #watching<R>(name: string, run: (flight: Flight) => Promise<R>): Promise<R> {
    const flight: Flight = { told: undefined };
    const flights = this.#flights.get(name) ?? new Set();
    this.#flights.set(name, flights.add(flight));
    try {
      return await run(flight);
    } finally {
      flights.delete(flight);
      if (flights.size === 0 && this.#flights.get(name) === flights) this.#flights.delete(name);
    }
  }

  #keep(name: string, entry: Entry<T>): void {
    if (!this.#live) return;
    this.#entries.set(name, entry);
    if (this.#entries.size <= this.#entriesMax) return;
    for (const oldest of this.#entries.keys()) {
      this.#entries.delete(oldest);
      return;
    }
  }

  /** The record has another version now, or is gone when `versionId` is undefined. */
  #changed(name: string, versionId: Int64 | undefined): void {
    const entry = this.#entries.get(name);
    if (entry !== undefined && (versionId === undefined || entry.versionId !== versionId)) this.#entries.delete(name);
    for (const flight of this.#flights.get(name) ?? []) flight.told = { versionId };
    // who asks from now on must not be given what was read before
    this.#loads.delete(name);
  }

  #changedAll(): void {
    this.#entries.clear();
    for (const name of [...this.#flights.keys()]) this.#changed(name, undefined);
  }

  async #follow(): Promise<void> {
    try {
      for await (const item of this.#notifications) {
        // the order of keys that a range is in is the shard's: what lies in it is not known here
        if (item.type === "missed" || item.type === "rangeDeleted") this.#changedAll();
        else this.#changed(nameOf(Change.wireKeyOf(item)), item.versionId);
      }
    } catch {
      // `live` tells; operations on the client say what is wrong
    }
    this.#end();
  }

  #end(): void {
    this.#live = false;
    this.#changedAll();
  }
}

/** Whether nothing newer than this version was told of while it was read or written; undefined: there is no record. */
function isNewest({ told }: Flight, versionId: Int64 | undefined): boolean {
  return told === undefined || (told.versionId === versionId && versionId !== undefined);
}

/** One form for a key in a map. */
function nameOf(key: WireKey): string {
  return typeof key === "string" ? key : `\u0100${Buffer.from(keyBytes(key)).toString("latin1")}`;
}
