/**
 * A member that its leader may not know as a follower is fenced in the steady term, unless it is already, and added
 * again: NewTerm(T), the counted term by CAS, AddFollower. A replica that has ended is not: it has to be replaced.
 *
 * One that stands in T is not fenced once more: its leader may be sending it a snapshot, which that would cut off.
 *
 * Source: semantics.md §9.3, step 7; safety.md §1 (counted terms, first ids), §3 (what any coordinator may send in a
 * stored, steady term).
 */
import { NO_TERM, type Term } from "../model/ids.ts";
import { FENCE_CALL_MS_MAX } from "../model/limits.ts";
import type { NewTermResponse, PeerHead } from "../model/peer-messages.ts";
import type { Member as Copy } from "../protocol/replica-state.ts";
import type { Cluster } from "./cluster.ts";
import { askStatus, isRefusal, isReplica, newTerm, promised, requireServer } from "./replica-calls.ts";
import { wordsOf } from "./server-link.ts";
import { EMPTY_SLOT, type Member, type ShardMetadata } from "./status-document.ts";
import type { ShardRef } from "./status-store.ts";
import { unlessInterrupted } from "./wait.ts";

export type Attached =
  | { readonly kind: "attached" }
  /** Its id lives no more: refill the place under a new id. */
  | { readonly kind: "ended"; readonly why: string }
  /** A replica answers for an empty slot: the next election fills it (safety.md §1, "first ids"). */
  | { readonly kind: "slot can be filled" }
  /** The shard is not what it was. */
  | { readonly kind: "overtaken" }
  | { readonly kind: "again"; readonly why: string };

export async function attachMember(
  cluster: Cluster,
  { ref, shard, member }: { readonly ref: ShardRef; readonly shard: ShardMetadata; readonly member: Member },
  signal: AbortSignal,
): Promise<Attached> {
  const { term, leader } = shard;
  const server = member.internal;
  const slot = { server, replicaId: member.replicaId ?? EMPTY_SLOT, countedTerm: member.countedTerm };
  try {
    let head = await unlessInterrupted(headInTerm(cluster, ref, term, slot), signal);
    if (head === undefined) {
      const answer = await unlessInterrupted(newTerm(cluster, ref, { term, slot }), signal);
      const verdict = slot.replicaId === EMPTY_SLOT ? ofEmptySlot(shard, answer) : ofListed(answer);
      if (verdict !== undefined) return verdict;
      head = answer.head;
    }
    if (!(await storeCounted(cluster, ref, shard, member))) return { kind: "overtaken" };
    requireServer(cluster, leader!.internal);
    const request = { ...ref, term, server, head, observer: false, replicaId: slot.replicaId };
    const limits = { timeoutMs: FENCE_CALL_MS_MAX };
    await unlessInterrupted(cluster.dataServers.addFollower(leader!.internal, request, limits), signal);
    return { kind: "attached" };
  } catch (error) {
    if (isRefusal(error, "INVALID_TERM")) return { kind: "overtaken" };
    return { kind: "again", why: wordsOf(error) };
  }
}

/** The head of a replica that stands in the shard's term; undefined where it does not, or has no id. */
export async function headInTerm(
  cluster: Cluster,
  ref: ShardRef,
  term: Term,
  { server, replicaId }: Copy,
): Promise<PeerHead | undefined> {
  if (replicaId === EMPTY_SLOT) return undefined;
  const answer = await askStatus(cluster, ref, server);
  if (answer.kind !== "status") return undefined;
  const { response } = answer;
  const stands = response.status === "FENCED" || response.status === "FOLLOWER";
  if (!stands || promised(response) !== term || !isReplica(response, replicaId)) return undefined;
  return { term: response.headTerm ?? response.term, offset: response.headOffset, crc: response.headCrc };
}

function ofListed({ ended }: NewTermResponse): Attached | undefined {
  return (ended ?? "") === "" ? undefined : { kind: "ended", why: ended! };
}

/** A reference server has no id, and its slot is empty for ever: it is attached as it is. */
function ofEmptySlot({ adoptedTerm }: ShardMetadata, { replicaId, mintedTerm }: NewTermResponse): Attached | undefined {
  if (replicaId === undefined) return undefined;
  const young = adoptedTerm !== undefined && (mintedTerm ?? NO_TERM) > adoptedTerm;
  if (!young) return { kind: "slot can be filled" };
  return { kind: "ended", why: `minted in term ${mintedTerm}, after the shard was adopted in term ${adoptedTerm}` };
}

/** The id is counted from here on: a disk that is older than that must not pass for this replica. */
async function storeCounted(cluster: Cluster, ref: ShardRef, shard: ShardMetadata, member: Member): Promise<boolean> {
  const stored = cluster.store.shard(ref);
  if (stored !== shard) return false;
  if (member.countedTerm === shard.term) return true;
  const ensemble = shard.ensemble.map((other) => (other === member ? { ...other, countedTerm: shard.term } : other));
  return cluster.store.updateShard(ref, shard, { ...shard, ensemble });
}
