/**
 * GetShardAssignments: which shard owns which key hashes, and where its leader is. A message is the whole set of the
 * namespace asked for; the stream then stays open, and says it again whenever it has changed.
 *
 *     every message    covers all hashes: one that does not is left out, clients end in panic on a key without a shard
 *     no leader now    this very server is named, under the name that the client called it by: an operation that comes
 *                      here is refused NODE_IS_NOT_LEADER, which clients retry; an empty address they dial once
 *     the first one    waits a moment until every shard has a leader: some clients read no third message
 *     a slow reader    gets the newest set when it reads again
 *
 * Standalone leads every shard itself: it names no leaders, and so always the authority of the request.
 *
 * Source: semantics.md §6; errors.md §2.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  ShardAssignmentsRequestSchema,
  ShardAssignmentsSchema,
  ShardKeyRouter,
} from "../gen/io/oxia/proto/v1/client_pb.ts";
import type { Bytes } from "../lib/bytes.ts";
import { equalBytes } from "../lib/bytes.ts";
import { ASSIGNMENTS_ENCODED_MAX, ASSIGNMENTS_HELD_MS_MAX } from "../model/limits.ts";
import type { ShardAssignment, ShardAssignments } from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";
import type { Clock } from "../ports.ts";
import type { Shards } from "../replication/shards.ts";
import { malformed } from "../wire/reader.ts";
import type { Call, Sink } from "./method.ts";

const NAMESPACE_DEFAULT = "default";
const HASH_MAX = 0xffff_ffff;

/** `host:port`, with a name, an IPv4 address or an IPv6 address in brackets; no scheme, path, query or fragment. */
const AUTHORITY = /^(\[[0-9A-Fa-f:.%]+\]|[^\s/?#@:[\]]+):\d{1,5}$/;

/**
 * The authority that the client called. Throws NOT_INITIALIZED before the first assignments, INVALID_ARGUMENT when it is
 * missing or malformed, PERMISSION_DENIED when the coordinator has named those that are allowed and it is none.
 */
export function requireAuthority(call: Call, shards: Shards): string {
  const { allowedAuthorities } = shards.requireInitialized();
  const { authority } = call;
  if (authority === undefined || !AUTHORITY.test(authority)) {
    throw new Refusal("INVALID_ARGUMENT", `oxia: invalid authority: ${JSON.stringify(authority ?? "")}`);
  }
  if (allowedAuthorities.length > 0 && !allowedAuthorities.includes(authority)) {
    throw new Refusal("PERMISSION_DENIED", `oxia: unexpected authority ${JSON.stringify(authority)}`);
  }
  return authority;
}

export interface AssignmentsOptions {
  readonly clock: Clock;
  /** Default ASSIGNMENTS_HELD_MS_MAX; 0 where no shard ever has a leader by name. */
  readonly heldMsMax?: number;
}

export class Assignments {
  readonly #shards: Shards;
  readonly #clock: Clock;
  readonly #heldMsMax: number;
  readonly #open = new Set<Watcher>();
  /** The current set as it was encoded, by namespace and authority. */
  readonly #encoded = new Map<string, Bytes>();

  constructor(shards: Shards, { clock, heldMsMax = ASSIGNMENTS_HELD_MS_MAX }: AssignmentsOptions) {
    this.#shards = shards;
    this.#clock = clock;
    this.#heldMsMax = heldMsMax;
    shards.onAssignments(() => {
      this.#encoded.clear();
      for (const watcher of [...this.#open]) watcher.wake();
    });
  }

  /** Clients that watch assignments now. */
  get watchers(): number {
    return this.#open.size;
  }

  /** Serves one stream until the client goes or `close` ends it. */
  async serve(request: Bytes, call: Call, sink: Sink): Promise<void> {
    const namespace = decodeNamespace(request);
    const authority = requireAuthority(call, this.#shards);
    requireNamespace(this.#shards.requireInitialized(), namespace);
    const watcher = new Watcher(call);
    this.#open.add(watcher);
    try {
      await this.#hold(watcher, namespace);
      await this.#tell(watcher, { namespace, authority }, sink);
    } finally {
      this.#open.delete(watcher);
    }
  }

  /** Ends every stream with `reason`: clients ask again, elsewhere or later. */
  close(reason: Refusal): void {
    for (const watcher of [...this.#open]) watcher.end(reason);
  }

  async #hold(watcher: Watcher, namespace: string): Promise<void> {
    let over = false;
    const cancel = this.#clock.after(this.#heldMsMax, () => {
      over = true;
      watcher.wake();
    });
    const isWhole = () => (this.#setOf(namespace) ?? []).every(({ leader }) => leader !== "");
    while (this.#heldMsMax > 0 && !over && !watcher.ended && !isWhole()) await watcher.change();
    cancel();
  }

  async #tell(watcher: Watcher, asked: Asked, sink: Sink): Promise<void> {
    let told: Bytes | undefined;
    while (!watcher.ended) {
      const message = this.#message(asked);
      if (message === undefined && told === undefined) throw notInitialized();
      if (message !== undefined && (told === undefined || !equalBytes(told, message))) {
        told = message;
        if (!sink.send(message)) await sink.drained();
      } else await watcher.change();
    }
    if (watcher.reason !== undefined) throw watcher.reason;
  }

  #setOf(namespace: string): readonly ShardAssignment[] | undefined {
    return this.#shards.assignments?.namespaces.get(namespace);
  }

  /** The set as the client is told it, without its namespace when that is no more; undefined while it has gaps. */
  #message({ namespace, authority }: Asked): Bytes | undefined {
    const set = this.#setOf(namespace);
    if (set !== undefined && !coversAll(set)) return undefined;
    const key = JSON.stringify([namespace, authority]);
    const known = this.#encoded.get(key);
    if (known !== undefined) return known;
    if (this.#encoded.size >= ASSIGNMENTS_ENCODED_MAX) this.#encoded.clear();
    const encoded = encodeAssignments(namespace, set, authority);
    this.#encoded.set(key, encoded);
    return encoded;
  }
}

interface Asked {
  readonly namespace: string;
  readonly authority: string;
}

/** One client that watches: woken by changes, by its end, and by the server's. */
class Watcher {
  ended = false;
  reason: Refusal | undefined;
  #changed = false;
  #resolve: (() => void) | undefined;

  constructor(call: Call) {
    call.onCancel(() => this.end(undefined));
  }

  /** Resolves when something has changed since the last call. */
  async change(): Promise<void> {
    if (!this.#changed) {
      await new Promise<void>((resolve) => {
        this.#resolve = resolve;
      });
    }
    this.#changed = false;
  }

  wake(): void {
    this.#changed = true;
    this.#resolve?.();
    this.#resolve = undefined;
  }

  end(reason: Refusal | undefined): void {
    if (this.ended) return;
    this.ended = true;
    this.reason = reason;
    this.wake();
  }
}

function requireNamespace({ namespaces }: ShardAssignments, namespace: string): void {
  if (namespaces.size === 0) throw notInitialized();
  if (!namespaces.has(namespace)) throw new Refusal("NAMESPACE_NOT_FOUND", "oxia: namespace not found");
}

function notInitialized(): Refusal {
  return new Refusal("NOT_INITIALIZED", "oxia: server not initialized yet");
}

/** Whether the ranges cover all hashes without gap or overlap. */
function coversAll(set: readonly ShardAssignment[]): boolean {
  let next = 0;
  for (const { minHashInclusive, maxHashInclusive } of [...set].sort(
    (a, b) => a.minHashInclusive - b.minHashInclusive,
  )) {
    if (minHashInclusive !== next) return false;
    next = maxHashInclusive + 1;
  }
  return next === HASH_MAX + 1;
}

function decodeNamespace(request: Bytes): string {
  try {
    const { namespace } = fromBinary(ShardAssignmentsRequestSchema, request);
    return namespace === "" ? NAMESPACE_DEFAULT : namespace;
  } catch (cause) {
    throw Object.assign(malformed("ShardAssignmentsRequest"), { cause });
  }
}

function encodeAssignments(namespace: string, set: readonly ShardAssignment[] | undefined, authority: string): Bytes {
  const assignments = set?.map(({ shard, leader, minHashInclusive, maxHashInclusive }) => ({
    shard: BigInt(shard),
    leader: leader === "" ? authority : leader,
    shardBoundaries: { case: "int32HashRange" as const, value: { minHashInclusive, maxHashInclusive } },
  }));
  const known = assignments && { [namespace]: { assignments, shardKeyRouter: ShardKeyRouter.XXHASH3 } };
  return toBinary(ShardAssignmentsSchema, create(ShardAssignmentsSchema, { namespaces: known ?? {} }));
}
