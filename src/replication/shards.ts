/**
 * The replicas held here, and the one that a request is for.
 *
 * A shard id may be any 64-bit number on the wire: one that nobody serves here is refused like one whose leader is
 * elsewhere. A damaged replica is known and refuses with DATA_LOSS, naming file and place; the others serve.
 */
import { assert } from "../lib/assert.ts";
import type { ShardId } from "../model/ids.ts";
import { damageRefusal, type LeaderHint, Refusal } from "../model/refusal.ts";
import type { Damage } from "../ports.ts";
import type { HashRange } from "../protocol/assignment.ts";
import type { Int64 } from "../wire/reader.ts";
import type { Shard } from "./shard.ts";

export interface ShardSlot {
  readonly namespace: string;
  readonly id: ShardId;
  readonly range: HashRange;
  readonly replica: Shard | Damage;
}

export class Shards {
  readonly #slots = new Map<ShardId, ShardSlot>();

  add(slot: ShardSlot): void {
    assert(!this.#slots.has(slot.id), "shard added twice", slot.id);
    this.#slots.set(slot.id, slot);
  }

  /** All replicas, damaged ones too, in order of their ids. */
  all(): ShardSlot[] {
    return [...this.#slots.values()].sort((a, b) => a.id - b.id);
  }

  /** The shards of a namespace; undefined when there is no such namespace. */
  ofNamespace(namespace: string): ShardSlot[] | undefined {
    const slots = this.all().filter((slot) => slot.namespace === namespace);
    return slots.length === 0 ? undefined : slots;
  }

  /** The replicas that lead. */
  leaders(): Shard[] {
    return this.all().flatMap(({ replica }) => (isDamage(replica) ? [] : [replica]));
  }

  /** The leader that a request is for. Throws INVALID_ARGUMENT, NODE_IS_NOT_LEADER or DATA_LOSS. */
  leader(id: Int64 | undefined, hint?: LeaderHint): Shard {
    if (id === undefined) throw new Refusal("INVALID_ARGUMENT", "shard id is required");
    const replica = this.#slots.get(id as ShardId)?.replica;
    if (replica === undefined) {
      throw new Refusal("NODE_IS_NOT_LEADER", "oxia: node is not leader", hint === undefined ? {} : { hint });
    }
    if (isDamage(replica)) {
      throw damageRefusal(id as ShardId, replica);
    }
    return replica;
  }
}

export function isDamage(replica: Shard | Damage): replica is Damage {
  return "what" in replica;
}

/** Why a replica serves nothing: it was found damaged on opening, or has turned out so since. */
export function damageOf(replica: Shard | Damage): Damage | undefined {
  return isDamage(replica) ? replica : replica.kv.damage;
}
