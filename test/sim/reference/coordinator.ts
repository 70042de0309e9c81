/**
 * A coordinator as the reference is one, for one shard: elections and swaps of semantics.md §9.3 and §9.4, [BUG] marks
 * included. It knows no replica ids and no stamps.
 *
 *     the majority is one of ensemble and removed servers together; the leader is sought in the ensemble alone
 *     a swap is stored with the election's result only: a coordinator that dies before has forgotten it
 *
 * The leader's GetStatus stands for health checks: whoever has restarted, or leads no longer, is found by it.
 */
import { type EntryId, NO_TERM, type ShardId, type Term } from "../../../src/model/ids.ts";
import type { Feature, ShardTerm, TermOptions } from "../../../src/model/peer-messages.ts";
import { Refusal } from "../../../src/model/refusal.ts";
import type { Clock, DataServers, Random } from "../../../src/ports.ts";
import { compareHeads } from "../../../src/protocol/replica-state.ts";

/** A shard as the status document has it. */
export interface ReferenceDocument {
  readonly status: "Unknown" | "Election" | "SteadyState";
  readonly term: Term;
  readonly leader: string | undefined;
  readonly ensemble: readonly string[];
  readonly removedNodes: readonly string[];
  readonly pendingDelete: readonly string[];
}

/** The status document: outlives the coordinator's process. */
export class ReferenceMetadata {
  document: ReferenceDocument;

  constructor(ensemble: readonly string[]) {
    const none = { status: "Unknown", term: NO_TERM, leader: undefined } as const;
    this.document = { ...none, ensemble, removedNodes: [], pendingDelete: [] };
  }
}

export interface ReferenceCoordinatorOptions {
  readonly namespace: string;
  readonly shard: ShardId;
  readonly instanceId: string;
  readonly options: TermOptions;
}

interface Fenced {
  readonly server: string;
  readonly head: EntryId;
}

const CALL_TIMEOUT_MS = 5_000;
const BECOME_LEADER_TIMEOUT_MS = 10_000;
const GRACE_MS = 100;
const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 60_000;
const RETRY_FACTOR = 1.5;
const FOLLOWER_RETRY_MS = 1_000;
const HANDSHAKE_RETRY_MS = 500;
const HEALTH_INTERVAL_MS = 2_000;
const HEALTH_FAILURES_MAX = 3;
const STORE_MS = 1;
/** All our fields of NewTerm, left out. */
const NO_FIELDS = {
  replicaId: undefined,
  countedTerm: undefined,
  confirmedStamp: undefined,
  adopt: undefined,
} as const;

export class ReferenceCoordinator {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #servers: DataServers;
  readonly #metadata: ReferenceMetadata;
  readonly #options: ReferenceCoordinatorOptions;
  readonly #features = new Map<string, readonly Feature[]>();
  /** One election or swap at a time. */
  #busy: Promise<unknown> = Promise.resolve();

  constructor(
    ports: { clock: Clock; random: Random; servers: DataServers; metadata: ReferenceMetadata },
    options: ReferenceCoordinatorOptions,
  ) {
    this.#clock = ports.clock;
    this.#random = ports.random;
    this.#servers = ports.servers;
    this.#metadata = ports.metadata;
    this.#options = options;
  }

  /** Runs until its process ends. */
  async run(): Promise<never> {
    await Promise.all(this.#document.ensemble.map((server) => this.#introduce(server)));
    if (!(await this.#isSteady())) await this.#exclusive(() => this.#elect());
    for (;;) {
      await this.#sleep(HEALTH_INTERVAL_MS);
      if (!(await this.#leaderIsWell())) await this.#exclusive(() => this.#elect());
      await this.#deletePending();
    }
  }

  /** Puts `added` in the place of `removed`: false when the election that should do it failed, and all is as before. */
  async swap(removed: string, added: string): Promise<boolean> {
    while (!(await this.#isCaughtUp())) await this.#sleep(FOLLOWER_RETRY_MS);
    await this.#introduce(added);
    return this.#exclusive(async () => {
      const before = this.#document;
      const ensemble = before.ensemble.map((server) => (server === removed ? added : server));
      const pendingDelete = before.pendingDelete.filter((server) => server !== added);
      const edited = { ensemble, removedNodes: [...before.removedNodes, removed], pendingDelete };
      return this.#electOnce(edited).then(
        () => true,
        () => false,
      );
    });
  }

  get #document(): ReferenceDocument {
    return this.#metadata.document;
  }

  // --- elections ----------------------------------------------------------------------------------------------------

  async #elect(): Promise<void> {
    for (let retryMs = RETRY_MS_MIN; ; retryMs = Math.min(retryMs * RETRY_FACTOR, RETRY_MS_MAX)) {
      const { ensemble, removedNodes, pendingDelete } = this.#document;
      const elected = await this.#electOnce({ ensemble, removedNodes, pendingDelete }).then(
        () => true,
        (error) => failed(error),
      );
      if (elected) return;
      await this.#sleep(retryMs);
    }
  }

  /** One election, in a term of its own. `edited` is known to this process alone until there is a result. */
  async #electOnce(edited: Pick<ReferenceDocument, "ensemble" | "removedNodes" | "pendingDelete">): Promise<void> {
    const term = this.#document.term + 1;
    await this.#store({ ...this.#document, status: "Election", leader: undefined, term });
    const fenced = await this.#fence(term, [...edited.ensemble, ...edited.removedNodes]);
    const candidates = fenced.filter(({ server }) => edited.ensemble.includes(server));
    const leader = this.#best(candidates);
    if (leader === undefined) throw new Refusal("UNKNOWN", "no candidate has answered");
    const request = {
      ...this.#shard(term),
      replicationFactor: edited.ensemble.length,
      followers: candidates.filter(({ server }) => server !== leader.server),
      features: this.#commonFeatures(edited.ensemble),
      ...{ replicaId: undefined, expectedHead: undefined, members: undefined, formerMembers: undefined },
    };
    await this.#servers.becomeLeader(leader.server, request, { timeoutMs: BECOME_LEADER_TIMEOUT_MS });
    const pendingDelete = [...edited.pendingDelete, ...edited.removedNodes];
    const result = { ensemble: edited.ensemble, removedNodes: [], pendingDelete };
    await this.#store({ ...result, status: "SteadyState", term, leader: leader.server });
    for (const server of edited.ensemble) {
      if (!candidates.some((one) => one.server === server)) void this.#addLater(term, leader.server, server);
    }
  }

  /** NewTerm to all; resolves once a majority of them has answered, and a little later for those who are late. */
  #fence(term: Term, servers: readonly string[]): Promise<readonly Fenced[]> {
    const fenced: Fenced[] = [];
    let ended = 0;
    const needed = Math.floor(servers.length / 2) + 1;
    return new Promise((resolve, reject) => {
      const settled = () => {
        ended++;
        if (ended < servers.length) return;
        if (fenced.length >= needed) resolve(fenced);
        else reject(new Refusal("UNKNOWN", "no quorum for the new term"));
      };
      for (const server of servers) {
        this.#newTerm(term, server)
          .then((head) => {
            if (fenced.push({ server, head }) === needed) this.#clock.after(GRACE_MS, () => resolve([...fenced]));
          }, failed)
          .then(settled);
      }
    });
  }

  async #newTerm(term: Term, server: string): Promise<EntryId> {
    const request = { ...this.#shard(term), options: this.#options.options, ...NO_FIELDS };
    const { head } = await this.#servers.newTerm(server, request, { timeoutMs: CALL_TIMEOUT_MS });
    return { term: head.term, offset: head.offset };
  }

  #best(candidates: readonly Fenced[]): Fenced | undefined {
    const holders = candidates.filter(({ head }) => candidates.every((other) => compareHeads(head, other.head) >= 0));
    return holders[Math.floor(this.#random.fraction() * holders.length)];
  }

  /** A member that was missing: fenced in the steady term and added, until that has worked or the term is over. */
  async #addLater(term: Term, leader: string, server: string): Promise<void> {
    for (let retryMs = FOLLOWER_RETRY_MS; ; retryMs = Math.min(retryMs * RETRY_FACTOR, RETRY_MS_MAX)) {
      await this.#sleep(retryMs);
      if (this.#document.term !== term) return;
      try {
        const head = { ...(await this.#newTerm(term, server)), crc: undefined };
        const request = { ...this.#shard(term), server, head, observer: false, replicaId: undefined };
        await this.#servers.addFollower(leader, request, { timeoutMs: CALL_TIMEOUT_MS });
        return;
      } catch (error) {
        failed(error);
        if (error instanceof Refusal && error.reason === "INVALID_TERM") return;
      }
    }
  }

  // --- watching -----------------------------------------------------------------------------------------------------

  /** Handshake, again and again until the server has answered; in the background after the first try. */
  async #introduce(server: string): Promise<void> {
    const { instanceId } = this.#options;
    try {
      const request = { instanceId, stamp: undefined, confirmedStamp: undefined };
      const answer = await this.#servers.handshake(server, request, { timeoutMs: CALL_TIMEOUT_MS });
      this.#features.set(server, answer.features);
    } catch (error) {
      failed(error);
      this.#clock.after(HANDSHAKE_RETRY_MS, () => void this.#introduce(server));
    }
  }

  #commonFeatures(ensemble: readonly string[]): Feature[] {
    const all = ensemble.map((server) => this.#features.get(server) ?? []);
    return (all[0] ?? []).filter((feature) => all.every((features) => features.includes(feature)));
  }

  async #leaderIsWell(): Promise<boolean> {
    const { leader } = this.#document;
    for (let failures = 0; leader !== undefined && failures < HEALTH_FAILURES_MAX; failures++) {
      const status = await this.#statusOf(leader);
      if (status !== "unreachable") return status === "LEADER";
    }
    return false;
  }

  /** After a start: whether the leader leads and all others follow, in the stored term. */
  async #isSteady(): Promise<boolean> {
    const { status, leader, ensemble } = this.#document;
    if (status !== "SteadyState") return false;
    const found = await Promise.all(ensemble.map((server) => this.#statusOf(server)));
    return ensemble.every((server, at) => found[at] === (server === leader ? "LEADER" : "FOLLOWER"));
  }

  /** A server's status in the stored term; "other" in another one. */
  async #statusOf(server: string): Promise<"LEADER" | "FOLLOWER" | "other" | "unreachable"> {
    try {
      const request = { shard: this.#options.shard };
      const answer = await this.#servers.getStatus(server, request, { timeoutMs: CALL_TIMEOUT_MS });
      if (answer.term !== this.#document.term) return "other";
      return answer.status === "LEADER" || answer.status === "FOLLOWER" ? answer.status : "other";
    } catch (error) {
      failed(error);
      return error instanceof Refusal ? "other" : "unreachable";
    }
  }

  async #isCaughtUp(): Promise<boolean> {
    const { leader, ensemble } = this.#document;
    if (leader === undefined) return false;
    const limits = { timeoutMs: CALL_TIMEOUT_MS };
    const ask = (server: string) => this.#servers.getStatus(server, { shard: this.#options.shard }, limits);
    try {
      const own = await ask(leader);
      const all = await Promise.all(ensemble.map(ask));
      return all.every(({ term, headOffset }) => term === own.term && headOffset >= own.headOffset);
    } catch (error) {
      return failed(error);
    }
  }

  async #deletePending(): Promise<void> {
    const { pendingDelete, term } = this.#document;
    for (const server of pendingDelete) {
      try {
        const request = { ...this.#shard(term), replicaId: undefined };
        await this.#servers.deleteShard(server, request, { timeoutMs: CALL_TIMEOUT_MS });
      } catch (error) {
        failed(error);
        continue;
      }
      const left = this.#document.pendingDelete.filter((other) => other !== server);
      await this.#store({ ...this.#document, pendingDelete: left });
    }
  }

  // --- inside -------------------------------------------------------------------------------------------------------

  #shard(term: Term): ShardTerm {
    const { namespace, shard } = this.#options;
    return { namespace, shard, term };
  }

  #store(document: ReferenceDocument): Promise<void> {
    return new Promise((resolve) => {
      this.#clock.after(STORE_MS, () => {
        this.#metadata.document = document;
        resolve();
      });
    });
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#clock.after(ms, resolve));
  }

  #exclusive<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#busy.then(run);
    this.#busy = result.catch(() => {});
    return result;
  }
}

/** What a call may fail with; anything else is a bug. */
function failed(error: unknown): false {
  if (error instanceof Refusal || (error instanceof Error && error.name === "Unreachable")) return false;
  throw error;
}
