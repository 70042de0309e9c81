/**
 * Which shard holds a key: one namespace's shards as the servers told them, in order of their hash ranges.
 *
 * Invariant: the ranges cover 0…0xFFFFFFFF without gap or overlap; a set that does not is no table.
 *
 * Source: protocol.md §2.3; semantics.md §6.
 */
import { type Bytes, text } from "../lib/bytes.ts";
import { Reader } from "../wire/reader.ts";

export interface Shard {
  readonly id: number;
  /** Public `host:port`; empty while there is none. */
  readonly leader: string;
  readonly minHashInclusive: number;
  readonly maxHashInclusive: number;
}

export interface HashRange {
  readonly minHashInclusive: number;
  readonly maxHashInclusive: number;
}

const ROUTER_XXHASH3 = 1;

/** The hashes that a shard owns, as plain data of its own. */
export function hashesOf({ minHashInclusive, maxHashInclusive }: HashRange): HashRange {
  return { minHashInclusive, maxHashInclusive };
}

export class ShardTable {
  /** By hash range, ascending. */
  readonly shards: readonly Shard[];
  readonly #byId: ReadonlyMap<number, Shard>;

  private constructor(shards: readonly Shard[]) {
    this.shards = shards;
    this.#byId = new Map(shards.map((shard) => [shard.id, shard]));
  }

  /** Undefined when the shards do not cover every hash exactly once. */
  static of(shards: readonly Shard[]): ShardTable | undefined {
    const sorted = [...shards].sort((a, b) => a.minHashInclusive - b.minHashInclusive);
    let next = 0;
    for (const shard of sorted) {
      if (
        !Number.isSafeInteger(shard.id) ||
        shard.minHashInclusive !== next ||
        shard.maxHashInclusive < shard.minHashInclusive
      )
        return undefined;
      next = shard.maxHashInclusive + 1;
    }
    if (next !== 0x1_0000_0000 || new Set(sorted.map(({ id }) => id)).size !== sorted.length) return undefined;
    return new ShardTable(sorted);
  }

  byId(id: number): Shard | undefined {
    return this.#byId.get(id);
  }

  /** The shard that owns `hash`, an unsigned 32-bit number. */
  byHash(hash: number): Shard {
    const { shards } = this;
    let low = 0;
    let high = shards.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (hash <= shards[middle]!.maxHashInclusive) high = middle;
      else low = middle + 1;
    }
    return shards[low]!;
  }

  /** The shards that own a part of `range`. */
  within(range: HashRange): readonly Shard[] {
    return this.shards.filter(
      (shard) => shard.minHashInclusive <= range.maxHashInclusive && shard.maxHashInclusive >= range.minHashInclusive,
    );
  }

  /** This table with another leader of one shard; itself when there is no such shard or nothing changes. */
  withLeader(id: number, leader: string): ShardTable {
    const known = this.#byId.get(id);
    if (known === undefined || known.leader === leader) return this;
    return new ShardTable(this.shards.map((shard) => (shard.id === id ? { ...shard, leader } : shard)));
  }
}

/** What a message of GetShardAssignments says about one namespace. */
export type Assignment =
  | { readonly kind: "table"; readonly table: ShardTable }
  /** The namespace is not in the message. */
  | { readonly kind: "absent" }
  /** The message cannot be used; `what` says why. */
  | { readonly kind: "unusable"; readonly what: string };

/** Reads a ShardAssignments message. Throws INVALID_ARGUMENT (Refusal) when it is not one. */
export function decodeAssignments(message: Bytes, namespace: string): Assignment {
  const reader = new Reader(message);
  let found: Bytes | undefined;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag !== 0x0a) {
      reader.skip(tag);
      continue;
    }
    let name = "";
    let value: Bytes = new Uint8Array(0);
    const entry = new Reader(reader.view());
    while (entry.more()) {
      const entryTag = entry.tag();
      if (entryTag === 0x0a) name = text(entry.view());
      else if (entryTag === 0x12) value = entry.view();
      else entry.skip(entryTag);
    }
    if (name === namespace) found = value;
  }
  return found === undefined ? { kind: "absent" } : decodeNamespace(found);
}

function decodeNamespace(bytes: Bytes): Assignment {
  const reader = new Reader(bytes);
  const shards: Shard[] = [];
  let router = 0;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 0x0a) shards.push(decodeShard(new Reader(reader.view())));
    else if (tag === 0x10) router = reader.uint32();
    else reader.skip(tag);
  }
  if (router !== ROUTER_XXHASH3) return { kind: "unusable", what: `keys are routed by an unknown hash (${router})` };
  const table = ShardTable.of(shards);
  if (table === undefined) return { kind: "unusable", what: `${shards.length} shards do not cover all hashes once` };
  return { kind: "table", table };
}

function decodeShard(reader: Reader): Shard {
  let id = 0;
  let leader = "";
  let minHashInclusive = 0;
  let maxHashInclusive = 0;
  while (reader.more()) {
    const tag = reader.tag();
    if (tag === 0x08) id = Number(reader.int64());
    else if (tag === 0x12) leader = text(reader.view());
    else if (tag === 0x1a) {
      const range = new Reader(reader.view());
      while (range.more()) {
        const rangeTag = range.tag();
        if (rangeTag === 0x0d) minHashInclusive = range.fixed32();
        else if (rangeTag === 0x15) maxHashInclusive = range.fixed32();
        else range.skip(rangeTag);
      }
    } else reader.skip(tag);
  }
  return { id, leader, minHashInclusive, maxHashInclusive };
}
