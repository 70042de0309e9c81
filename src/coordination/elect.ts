/**
 * One election of one shard, top to bottom:
 *
 *     store the term ─> NewTerm to all ─> judge each answer ─> store who was counted ─> BecomeLeader, once ─> store the result
 *
 * Each arrow behind a store is licensed by this coordinator's own compare-and-swap; where that is lost, somebody else
 * acts on the shard. Whatever goes wrong, the next try is in the next term: a term is never elected in twice.
 *
 * Source: semantics.md §9.3; safety.md §1-§3, §5, §9; house.md (example).
 */
import { NO_TERM, type ReplicaId, type Term } from "../model/ids.ts";
import { BECOME_LEADER_MS_MAX, BECOME_LEADER_MS_MIN, ELECTION_GRACE_MS, FENCE_CALL_MS_MAX } from "../model/limits.ts";
import { type BecomeLeaderRequest, FEATURES, type Feature } from "../model/peer-messages.ts";
import { type Answer, type Candidate, judge, type Slot, slotsToFence, type Verdict } from "../protocol/election.ts";
import { resultDocument, type StoredShard } from "../protocol/ensemble-change.ts";
import { NO_REPLICA } from "../protocol/replica-state.ts";
import { type Cluster, shardFields } from "./cluster.ts";
import { askForVote } from "./replica-calls.ts";
import { wordsOf } from "./server-link.ts";
import type { ShardMetadata } from "./status-document.ts";
import type { ShardRef } from "./status-store.ts";
import { shardDocument, storedShard } from "./stored-shard.ts";
import { Interrupted, unlessInterrupted, Wakeup } from "./wait.ts";

/** What a shard's elections remember of those before: kept by the shard's keeper, cleared when one has led somewhere. */
export class ElectionHistory {
  /** Replicas whose BecomeLeader failed since the last leader. */
  readonly failedLeaders = new Set<ReplicaId>();
  becomeLeaderMs = BECOME_LEADER_MS_MIN;

  clear(): void {
    this.failedLeaders.clear();
    this.becomeLeaderMs = BECOME_LEADER_MS_MIN;
  }
}

export type ElectionOutcome =
  /** A leader serves, and is stored. `named`: members that it knows as its followers. */
  | { readonly kind: "led"; readonly named: ReadonlySet<string> }
  /** Somebody else has changed the shard: read it again. */
  | { readonly kind: "overtaken" }
  /** Nobody leads: the next term, after a while. */
  | { readonly kind: "failed"; readonly why: string; readonly turnRound: boolean }
  /** No election can be held: it is the operator's to decide. */
  | { readonly kind: "halted"; readonly why: string };

export interface ElectionOf {
  readonly ref: ShardRef;
  /** The shard as it is stored. */
  readonly shard: ShardMetadata;
  /** What to store first: a term above, no leader (ensemble-change.ts: nextTerm, jointDocument, turnedRound). */
  readonly next: StoredShard;
  readonly history: ElectionHistory;
  /** A server for whose sake it is held: it has as long to answer as its call, and not the grace alone. */
  readonly awaited?: string | undefined;
  /** A server that shall lead if it is among the candidates. */
  readonly heir?: string | undefined;
}

/** Rejects with Interrupted when the signal is aborted, wherever it stands: the next one begins with the next term. */
export async function elect(cluster: Cluster, of: ElectionOf, signal: AbortSignal): Promise<ElectionOutcome> {
  const times = cluster.stats.timesOf(of.ref.namespace);
  const sinceMs = cluster.clock.monotonicMs();
  const fenced = await cluster.elections.hold(() => holdVote(cluster, of, signal));
  if (fenced.kind !== "decided") return fenced;
  const { named, leader, followers } = fenced;
  const namedMs = cluster.clock.monotonicMs();
  const outcome = await becomeLeader(cluster, of, fenced, signal);
  times.becomeLeader.record(cluster.clock.monotonicMs() - namedMs);
  if (outcome !== undefined) return outcome;
  const { server, replicaId } = leader;
  const result = resultDocument(storedShard(named), { server, replicaId });
  const led = shardDocument(named, result, { servers: cluster.config.servers });
  if (!(await cluster.store.updateShard(of.ref, named, led))) return { kind: "overtaken" };
  of.history.clear();
  times.election.record(cluster.clock.monotonicMs() - sinceMs);
  cluster.logger.info(shardFields(of.ref, { term: led.term, leader: server }), "leader elected");
  return { kind: "led", named: new Set(followers.map((follower) => follower.server)) };
}

/** An election that names its leader: stored with all ids that were counted. */
interface Decided {
  readonly kind: "decided";
  readonly named: ShardMetadata;
  readonly leader: Candidate;
  readonly followers: readonly Candidate[];
}

async function holdVote(
  cluster: Cluster,
  { ref, shard, next, history, awaited, heir }: ElectionOf,
  signal: AbortSignal,
): Promise<Decided | ElectionOutcome> {
  if (signal.aborted) throw new Interrupted();
  const known = { servers: cluster.config.servers };
  const claim = shardDocument(shard, next, known);
  if (!(await cluster.store.updateShard(ref, shard, claim))) return { kind: "overtaken" };

  const answers = new Map<string, Answer>();
  const askedMs = cluster.clock.monotonicMs();
  const verdict = await gatherVotes(cluster, { ref, stored: storedShard(claim), history, awaited, answers }, signal);
  if (verdict.kind !== "elect") return outcomeOf(verdict);
  cluster.stats.timesOf(ref.namespace).quorum.record(cluster.clock.monotonicMs() - askedMs);

  const { members, formerMembers } = verdict;
  const minted = mintedTerms(answers);
  const named = shardDocument(claim, { ...storedShard(claim), members, formerMembers }, { ...known, minted });
  if (!(await cluster.store.updateShard(ref, claim, named))) return { kind: "overtaken" };
  const leader = chooseLeader(cluster, verdict.candidates, { history, heir });
  cluster.leaders.set(ref.shard, leader.server);
  return {
    kind: "decided",
    named,
    leader,
    followers: verdict.followers.filter(({ server }) => server !== leader.server),
  };
}

interface Vote {
  readonly ref: ShardRef;
  readonly stored: StoredShard;
  readonly history: ElectionHistory;
  readonly awaited: string | undefined;
  /** Filled as they come. */
  readonly answers: Map<string, Answer>;
}

/** NewTerm to all. Once the answers so far would do, the others have a short grace: who answers is not left behind. */
async function gatherVotes(
  cluster: Cluster,
  { ref, stored, history, awaited, answers }: Vote,
  signal: AbortSignal,
): Promise<Verdict> {
  const { clock } = cluster;
  const came = new Wakeup();
  const slots = slotsToFence(stored);
  for (const slot of slots) {
    const answered = (answer: Answer) => {
      answers.set(slot.server, answer);
      came.wake();
    };
    askForVote(cluster, ref, { term: stored.term, slot }).then(answered, cluster.fault);
  }
  let graceEndsMs: number | undefined;
  for (;;) {
    const graceMs = (graceEndsMs ?? Number.POSITIVE_INFINITY) - clock.monotonicMs();
    // The grace over, it is an answer that is waited for.
    const waitMs = graceMs > 0 ? Math.min(graceMs, FENCE_CALL_MS_MAX) : FENCE_CALL_MS_MAX;
    await came.wait(clock, waitMs, signal);
    if (signal.aborted) throw new Interrupted();
    const termInStore = await termStored(cluster, ref, answers);
    const verdict = judge({ stored, termInStore, answers: new Map(answers), failedLeaders: history.failedLeaders });
    if (verdict.kind === "wait") continue;
    if (verdict.kind !== "elect" || answers.size === slots.length) return verdict;
    graceEndsMs ??= clock.monotonicMs() + ELECTION_GRACE_MS;
    if (slots.some((slot) => !answers.has(slot.server) && isAwaited(cluster, slot, awaited))) continue;
    if (clock.monotonicMs() >= graceEndsMs) return verdict;
  }
}

/** A slot that nobody has filled yet costs another election when its server's first answer comes after this one. */
function isAwaited({ servers }: Cluster, { server, replicaId }: Slot, awaited: string | undefined): boolean {
  return server === awaited || (replicaId === NO_REPLICA && servers.isAvailable(server));
}

/**
 * The shard's term, read behind the last answer where that matters: a promise above the term that is known here is
 * another coordinator's election, unless the store knows nothing of it (safety.md §9).
 */
async function termStored({ store }: Cluster, ref: ShardRef, answers: ReadonlyMap<string, Answer>): Promise<Term> {
  const highest = Math.max(
    ...[...answers.values()].map((answer) => (answer.kind === "promised" ? answer.promise : NO_TERM)),
  );
  if (highest > (store.shard(ref)?.term ?? NO_TERM)) await store.refresh();
  // A shard that is gone was deleted in a term above all.
  return store.shard(ref)?.term ?? Number.POSITIVE_INFINITY;
}

function outcomeOf(verdict: Exclude<Verdict, { kind: "elect" }>): ElectionOutcome {
  switch (verdict.kind) {
    case "superseded":
      return { kind: "overtaken" };
    case "store-rolled-back": {
      const { server, promise, termInStore } = verdict;
      const why = `${server} has promised term ${promise}, the store has term ${termInStore}: it is an older one`;
      return { kind: "halted", why };
    }
    case "diverged":
      return { kind: "halted", why: verdict.why };
    case "turn-round":
      return { kind: "failed", why: verdict.why, turnRound: true };
    case "next-term":
    case "wait":
      return { kind: "failed", why: verdict.why, turnRound: false };
  }
}

function mintedTerms(answers: ReadonlyMap<string, Answer>): Map<ReplicaId, Term> {
  const minted = new Map<ReplicaId, Term>();
  for (const answer of answers.values()) {
    if (answer.kind === "fenced" && answer.replicaId !== undefined) minted.set(answer.replicaId, answer.mintedTerm);
  }
  return minted;
}

/** One that has not failed to lead, on a server that is to stay: the heir, or one that leads few shards. */
function chooseLeader(
  { leaders, random, config, servers }: Cluster,
  candidates: readonly Candidate[],
  { history, heir }: Pick<ElectionOf, "history" | "heir">,
): Candidate {
  const able = candidates.filter(({ replicaId }) => !history.failedLeaders.has(replicaId));
  const isConfigured = (server: string) => config.servers.some(({ internal }) => internal === server);
  const staying = able.filter(({ server }) => isConfigured(server) && servers.state(server) !== "leaving");
  const among = [staying, able, candidates].find(({ length }) => length > 0)!;
  const wanted = among.find(({ server }) => server === heir);
  if (wanted !== undefined) return wanted;
  const least = Math.min(...among.map(({ server }) => leaders.ledBy(server)));
  const equals = among.filter(({ server }) => leaders.ledBy(server) === least);
  return equals[Math.floor(random.fraction() * equals.length)]!;
}

/**
 * Once. A refusal, silence, or the loss of the server means the next term, without this replica as long as others do.
 * Undefined: it serves.
 */
async function becomeLeader(
  cluster: Cluster,
  { ref, history }: ElectionOf,
  { named, leader, followers }: Decided,
  signal: AbortSignal,
): Promise<ElectionOutcome | undefined> {
  const { members, formerMembers, term } = storedShard(named);
  const place = ({ server, replicaId }: Slot) => ({ server, replicaId });
  const request: BecomeLeaderRequest = {
    ...ref,
    term,
    replicationFactor: members.length,
    followers: followers.map(({ server, head }) => ({ server, head: { term: head.term, offset: head.offset } })),
    features: commonFeatures(cluster, members),
    replicaId: leader.replicaId,
    expectedHead: { term: leader.head.term, offset: leader.head.offset },
    members: members.map(place),
    formerMembers: formerMembers.map(place),
  };
  const lost = new AbortController();
  const endWatch = cluster.servers.watch(leader.server, () => lost.abort());
  const interrupt = () => lost.abort();
  signal.addEventListener("abort", interrupt);
  if (signal.aborted) lost.abort();
  const timeoutMs = history.becomeLeaderMs;
  const sinceMs = cluster.clock.monotonicMs();
  const limits = { timeoutMs, signal: lost.signal };
  try {
    await unlessInterrupted(cluster.dataServers.becomeLeader(leader.server, request, limits), lost.signal);
    return undefined;
  } catch (error) {
    if (signal.aborted) throw new Interrupted();
    if (leader.replicaId !== NO_REPLICA) history.failedLeaders.add(leader.replicaId);
    // It may have been on its way, sending a snapshot to the one follower that it needs: the next one gets more time.
    const timedOut = cluster.clock.monotonicMs() - sinceMs >= timeoutMs;
    if (timedOut) history.becomeLeaderMs = Math.min(timeoutMs * 2, BECOME_LEADER_MS_MAX);
    const why = error instanceof Interrupted ? cluster.servers.why(leader.server) : wordsOf(error);
    return { kind: "failed", why: `${leader.server} does not lead: ${why}`, turnRound: false };
  } finally {
    endWatch();
    signal.removeEventListener("abort", interrupt);
  }
}

/** What all members have. A replica that has an id is one of ours, also where its server has not been reached yet. */
function commonFeatures({ servers }: Cluster, members: readonly Slot[]): Feature[] {
  const has = ({ server, replicaId }: Slot, feature: Feature) =>
    servers.features(server)?.includes(feature) ?? replicaId !== NO_REPLICA;
  return FEATURES.filter((feature) => members.every((slot) => has(slot, feature)));
}
