/** The checkers of all shards of a simulated cluster, and what the coordinators' store says of them. */
import type { ShardId } from "../../src/model/ids.ts";
import { CLUSTER_KEY, parseShardKey } from "../../src/model/status-entries.ts";
import { ChangeInvariants, type ShardDocument } from "./change-invariants.ts";
import { ShardInvariants } from "./shard-invariants.ts";
import type { StoredEnsemble, StoredSlot, Violation } from "./violation.ts";

interface StoredMember {
  readonly internal: string;
  readonly public?: string;
  readonly replicaId?: string;
}

interface StoredShardText {
  readonly term?: string;
  readonly leader?: StoredMember | null;
  readonly ensemble?: readonly StoredMember[];
  readonly formerEnsemble?: readonly StoredMember[];
  readonly observers?: readonly StoredMember[];
  readonly pendingDeleteShardNodes?: readonly StoredMember[];
}

export class ClusterInvariants {
  readonly #fail: (violation: Violation) => void;
  readonly #nowMs: () => number;
  readonly #shards = new Map<ShardId, ShardInvariants>();
  readonly changes: ChangeInvariants;
  /** By key: the text that was read last. */
  readonly #texts = new Map<string, string>();

  /** By server: the last stamp that the store knows it to hold. */
  #confirmedStamps: ReadonlyMap<string, number> = new Map();

  constructor(fail: (violation: Violation) => void, nowMs: () => number) {
    this.#fail = fail;
    this.#nowMs = nowMs;
    this.changes = new ChangeInvariants(this.of, fail);
  }

  confirmedStamp(server: string): number {
    return this.#confirmedStamps.get(server) ?? 0;
  }

  readonly of = (shard: ShardId): ShardInvariants => {
    let invariants = this.#shards.get(shard);
    if (invariants === undefined) {
      invariants = new ShardInvariants(shard, this.#fail, this.#nowMs);
      this.#shards.set(shard, invariants);
    }
    return invariants;
  };

  shards(): ReadonlyMap<ShardId, ShardInvariants> {
    return this.#shards;
  }

  /** The store holds this from now on. */
  stored(entries: ReadonlyMap<string, string>): void {
    for (const [key, text] of entries) {
      if (this.#texts.get(key) === text) continue;
      this.#texts.set(key, text);
      if (key === CLUSTER_KEY) this.#readCluster(text);
      const parsed = parseShardKey(key);
      if (parsed === undefined) continue;
      const stored = JSON.parse(text) as StoredShardText;
      this.of(parsed.shard).stored = storedEnsemble(stored);
      this.changes.stored(parsed.shard, documentOf(stored));
    }
  }

  #readCluster(text: string): void {
    const { confirmedStamps = {} } = JSON.parse(text) as { confirmedStamps?: Record<string, string> };
    this.#confirmedStamps = new Map(Object.entries(confirmedStamps).map(([server, stamp]) => [server, Number(stamp)]));
  }

  /** The disk of a server that is down has lost something, or may have; `gone`: it is empty, or an older one. */
  diskFault(server: string, gone: boolean): void {
    for (const shard of this.#shards.values()) shard.diskFault(server, gone);
  }
}

function storedEnsemble({ term, leader, ensemble = [], formerEnsemble = [] }: StoredShardText): StoredEnsemble {
  return {
    term: Number(term ?? -1),
    leader: leader?.internal,
    members: ensemble.map(slotOf),
    formerMembers: formerEnsemble.map(slotOf),
  };
}

function documentOf(stored: StoredShardText): ShardDocument {
  const { leader, observers = [], pendingDeleteShardNodes = [] } = stored;
  const { term, members, formerMembers } = storedEnsemble(stored);
  return {
    term,
    leader: leader ? { server: leader.internal, publicAddress: leader.public ?? "" } : undefined,
    members,
    formerMembers,
    observers: observers.map(slotOf),
    pendingDeletes: pendingDeleteShardNodes.map(slotOf),
  };
}

function slotOf({ internal, replicaId }: StoredMember): StoredSlot {
  return { server: internal, replicaId: BigInt(replicaId ?? "0") };
}
