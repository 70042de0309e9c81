/**
 * GetShardAssignments: which shard owns which key hashes, and where its leader is. The first message is the whole set
 * of the namespace asked for; the stream then stays open, since clients watch it.
 *
 * Standalone leads every shard itself, under whatever name the client reached it by: the leader of each shard is the
 * `:authority` of the request. The set never changes, so nothing else is ever sent.
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
import { Refusal } from "../model/refusal.ts";
import type { ShardSlot, Shards } from "../replication/shards.ts";
import { malformed } from "../wire/reader.ts";
import type { Call, Sink } from "./method.ts";

const NAMESPACE_DEFAULT = "default";

/** `host:port`, with a name, an IPv4 address or an IPv6 address in brackets; no scheme, path, query or fragment. */
const AUTHORITY = /^(\[[0-9A-Fa-f:.%]+\]|[^\s/?#@:[\]]+):\d{1,5}$/;

/** The authority that the client called. Throws INVALID_ARGUMENT when it is missing or malformed. */
export function requireAuthority(call: Call): string {
  const { authority } = call;
  if (authority === undefined || !AUTHORITY.test(authority)) {
    throw new Refusal("INVALID_ARGUMENT", `oxia: invalid authority: ${JSON.stringify(authority ?? "")}`);
  }
  return authority;
}

export class Assignments {
  readonly #shards: Shards;
  /** Ends of the streams that are open. */
  readonly #open = new Set<(reason: Refusal | undefined) => void>();

  constructor(shards: Shards) {
    this.#shards = shards;
  }

  /** Clients that watch assignments now. */
  get watchers(): number {
    return this.#open.size;
  }

  /** Serves one stream until the client goes or `close` ends it. */
  async serve(request: Bytes, call: Call, sink: Sink): Promise<void> {
    const namespace = decodeNamespace(request);
    const authority = requireAuthority(call);
    const slots = this.#shards.ofNamespace(namespace);
    if (slots === undefined) throw new Refusal("NAMESPACE_NOT_FOUND", "oxia: namespace not found");
    sink.send(encodeAssignments(namespace, slots, authority));
    await new Promise<void>((resolve, reject) => {
      const end = (reason: Refusal | undefined) => {
        this.#open.delete(end);
        if (reason === undefined) resolve();
        else reject(reason);
      };
      this.#open.add(end);
      call.onCancel(() => end(undefined));
    });
  }

  /** Ends every stream with `reason`: clients ask again, elsewhere or later. */
  close(reason: Refusal): void {
    for (const end of [...this.#open]) end(reason);
  }
}

function decodeNamespace(request: Bytes): string {
  try {
    const { namespace } = fromBinary(ShardAssignmentsRequestSchema, request);
    return namespace === "" ? NAMESPACE_DEFAULT : namespace;
  } catch (cause) {
    throw Object.assign(malformed("ShardAssignmentsRequest"), { cause });
  }
}

function encodeAssignments(namespace: string, slots: readonly ShardSlot[], leader: string): Bytes {
  const assignments = slots.map(({ id, range }) => ({
    shard: BigInt(id),
    leader,
    shardBoundaries: {
      case: "int32HashRange" as const,
      value: { minHashInclusive: range.minInclusive, maxHashInclusive: range.maxInclusive },
    },
  }));
  const message = create(ShardAssignmentsSchema, {
    namespaces: { [namespace]: { assignments, shardKeyRouter: ShardKeyRouter.XXHASH3 } },
  });
  return toBinary(ShardAssignmentsSchema, message);
}
