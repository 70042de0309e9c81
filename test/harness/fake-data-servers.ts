/**
 * Data servers for tests of the coordinator: each answers by the very decisions of src/protocol, with nothing behind
 * them. A leader's entries are at its followers as soon as they can be; a test may hold that back, take a server down,
 * let it stand still, wipe it, or answer a call itself.
 */
import { EMPTY_HEAD, type Head, NO_OFFSET, NO_TERM, type ReplicaId } from "../../src/model/ids.ts";
import {
  type BecomeLeaderRequest,
  FEATURES,
  type GetStatusResponse,
  type HandshakeRequest,
  type HandshakeResponse,
  type NewTermRequest,
  type NewTermResponse,
  type ShardAssignments,
} from "../../src/model/peer-messages.ts";
import { Refusal, Unreachable } from "../../src/model/refusal.ts";
import type { AssignmentStream, CallLimits, Clock, DataServers } from "../../src/ports.ts";
import { FREEZE_LAPSE_MS } from "../../src/protocol/ensemble-change.ts";
import { takeStamp } from "../../src/protocol/fencing.ts";
import { decide, nowServing } from "../../src/protocol/replica.ts";
import {
  afterStart,
  endReplica,
  NOTHING,
  type Outcome,
  type Replica,
  type RequestName,
  type Requests,
} from "../../src/protocol/replica-state.ts";

const ROUND_TRIP_MS = 1;

export interface Call {
  readonly server: string;
  readonly method: keyof DataServers;
  readonly request: unknown;
}

export class FakeServer {
  readonly address: string;
  readonly replicas = new Map<number, Replica>();
  up = true;
  /** Takes calls and answers none. */
  standsStill = false;
  serving = true;
  stamp = 0;
  /** FreezeShard calls so far: a freeze lapses unless another one has come. */
  freezes = 0;
  instanceId = "";
  assignments: ShardAssignments[] = [];
  streams = new Set<() => void>();

  constructor(address: string) {
    this.address = address;
  }

  replica(shard: number): Replica {
    return this.replicas.get(shard) ?? NOTHING;
  }

  /** The process ends: connections break, what leads leads no more. */
  kill(): void {
    this.up = false;
    for (const end of [...this.streams]) end();
    for (const [shard, replica] of this.replicas) this.replicas.set(shard, afterStart(replica));
  }

  start(): void {
    this.up = true;
  }

  restart(): void {
    this.kill();
    this.start();
  }

  wipe(): void {
    this.replicas.clear();
    this.stamp = 0;
    this.instanceId = "";
  }

  /** What lives here has ended, as damage ends it. */
  end(shard: number, why: string): void {
    this.replicas.set(shard, endReplica(this.replica(shard), why));
  }

  /** Entries that its log holds, by the head alone. */
  write(shard: number, head: Head): void {
    this.replicas.set(shard, { ...this.replica(shard), head });
  }
}

export class FakeDataServers implements DataServers {
  readonly servers: ReadonlyMap<string, FakeServer>;
  readonly calls: Call[] = [];
  /** Throws instead of an answer, or waits before it. */
  before: (call: Call) => void | Promise<void> = () => {};
  /** After the server has done it, before the answer. */
  after: (call: Call) => void | Promise<void> = () => {};
  /** Whether what a leader holds reaches this server. */
  reaches: (server: string) => boolean = () => true;
  readonly #clock: Clock;
  #ids = 100n;

  constructor(clock: Clock, addresses: readonly string[]) {
    this.#clock = clock;
    this.servers = new Map(addresses.map((address) => [address, new FakeServer(address)]));
  }

  server(address: string): FakeServer {
    return this.servers.get(address)!;
  }

  callsOf(method: keyof DataServers): Call[] {
    return this.calls.filter((call) => call.method === method);
  }

  /** The server that leads a shard, as the replicas see it. */
  leaderOf(shard: number): FakeServer | undefined {
    const leads = ({ status }: Replica) => status === "leader" || status === "frozen";
    return [...this.servers.values()].find((server) => server.up && leads(server.replica(shard)));
  }

  /** A leader takes so many entries, and its followers have them. */
  append(shard: number, count = 1): void {
    const leader = this.leaderOf(shard)!;
    const { head, promise } = leader.replica(shard);
    leader.write(shard, entry(promise, head.offset + count));
    this.replicate(shard);
  }

  replicate(shard: number): void {
    const leader = this.leaderOf(shard);
    if (leader !== undefined) this.#replicateFrom(leader, shard);
  }

  handshake(server: string, request: HandshakeRequest, limits: CallLimits): Promise<HandshakeResponse> {
    return this.#call(server, "handshake", request, limits, (at) => {
      const { instanceId } = request;
      if (at.instanceId !== "" && at.instanceId !== instanceId) return { status: "MISMATCH", features: [], stamp: 0 };
      const status = at.instanceId === "" ? ("BOUND" as const) : ("ALREADY_BOUND" as const);
      const stamp = at.stamp;
      at.instanceId = instanceId;
      this.#takeStamp(at, { stamp: request.stamp ?? 0, confirmedStamp: request.confirmedStamp ?? 0 });
      for (const [shard, replica] of at.replicas) at.replicas.set(shard, { ...replica, introduced: true });
      return { status, features: FEATURES, stamp };
    });
  }

  newTerm(server: string, request: NewTermRequest, limits: CallLimits): Promise<NewTermResponse> {
    return this.#call(server, "newTerm", request, limits, (at) => {
      this.#takeStamp(at, { stamp: 0, confirmedStamp: request.confirmedStamp ?? 0 });
      const { term, replicaId, countedTerm = NO_TERM, adopt = false } = request;
      this.#ids += 1n;
      const asked = { term, replicaId, countedTerm, adopt, freshId: this.#ids };
      const { answer, next } = this.#decide(at, request.shard, "NewTerm", asked);
      return { head: next.head, replicaId: next.id, ended: answer.ended, mintedTerm: next.mintedTerm };
    });
  }

  becomeLeader(server: string, request: BecomeLeaderRequest, limits: CallLimits): Promise<void> {
    return this.#call(server, "becomeLeader", request, limits, async (at) => {
      const { shard, term, followers, members } = request;
      this.#decide(at, shard, "BecomeLeader", { ...request, members });
      const cursors = followers.map((follower) => ({
        server: follower.server,
        replicaId: members!.find((member) => member.server === follower.server)!.replicaId,
        observer: false,
        targetShard: shard,
      }));
      const replica = at.replica(shard);
      at.replicas.set(shard, { ...replica, cursors, head: entry(term, replica.head.offset + 1) });
      while (this.#replicateFrom(at, shard) < Math.floor(members!.length / 2)) {
        await new Promise<void>((resolve) => this.#clock.after(10, resolve));
        if (at.replica(shard).promise !== term || !at.up) throw new Unreachable("fenced meanwhile");
      }
      at.replicas.set(shard, nowServing(at.replica(shard)));
    });
  }

  addFollower(server: string, request: Parameters<DataServers["addFollower"]>[1], limits: CallLimits): Promise<void> {
    return this.#call(server, "addFollower", request, limits, (at) => {
      const { shard, replicaId } = request;
      const cursor = { ...request, replicaId: replicaId!, byId: true, targetShard: shard };
      this.#decide(at, shard, "AddFollower", cursor);
      this.#replicateFrom(at, shard);
    });
  }

  getStatus(server: string, request: { shard: number }, limits: CallLimits): Promise<GetStatusResponse> {
    return this.#call(server, "getStatus", request, limits, (at) => {
      const { answer, next } = this.#decide(at, request.shard, "GetStatus", {});
      const leads = next.status === "leader" || next.status === "frozen";
      return {
        term: next.promise,
        status: answer.status,
        headOffset: next.head.offset,
        commitOffset: leads ? next.head.offset : next.verified,
        replicaId: next.id,
        ended: next.ended,
        promise: next.promise,
        appliedOffset: next.applied,
        verifiedOffset: next.verified,
        headTerm: next.head.term,
        headCrc: next.head.crc,
        scanned: true,
        frozen: next.status === "frozen",
      };
    });
  }

  freezeShard(server: string, request: Parameters<DataServers["freezeShard"]>[1], limits: CallLimits) {
    return this.#call(server, "freezeShard", request, limits, (at) => {
      at.freezes += 1;
      const { freezes } = at;
      const lapse = () => {
        const replica = at.replica(request.shard);
        if (at.freezes !== freezes || replica.status !== "frozen") return;
        at.replicas.set(request.shard, { ...replica, status: "leader" });
      };
      this.#clock.after(FREEZE_LAPSE_MS, lapse);
      return this.#decide(at, request.shard, "FreezeShard", request).answer;
    });
  }

  removeObserver(server: string, request: Parameters<DataServers["removeObserver"]>[1], limits: CallLimits) {
    return this.#call(server, "removeObserver", request, limits, (at) => {
      this.#decide(at, request.shard, "RemoveObserver", request);
    });
  }

  deleteShard(server: string, request: Parameters<DataServers["deleteShard"]>[1], limits: CallLimits): Promise<void> {
    return this.#call(server, "deleteShard", request, limits, (at) => {
      this.#decide(at, request.shard, "DeleteShard", request);
    });
  }

  checkHealth(server: string, limits: CallLimits): Promise<boolean> {
    return this.#call(server, "checkHealth", {}, limits, (at) => at.serving);
  }

  pushAssignments(server: string): AssignmentStream {
    const at = this.server(server);
    let end: () => void = () => {};
    const ended = new Promise<void>((resolve) => {
      end = () => {
        at.streams.delete(end);
        resolve();
      };
    });
    if (at.up) at.streams.add(end);
    else this.#clock.after(ROUND_TRIP_MS, end);
    return { send: (assignments) => void at.assignments.push(assignments), ended, cancel: end };
  }

  async #call<T>(
    server: string,
    method: keyof DataServers,
    request: unknown,
    { timeoutMs = 60_000, signal }: CallLimits,
    answer: (at: FakeServer) => T | Promise<T>,
  ): Promise<T> {
    const call = { server, method, request };
    if (method !== "checkHealth") this.calls.push(call);
    const at = this.server(server);
    return new Promise<T>((resolve, reject) => {
      const late = this.#clock.after(timeoutMs, () => reject(new Unreachable(`no answer within ${timeoutMs} ms`)));
      signal?.addEventListener("abort", () => reject(new Unreachable("cancelled")));
      const arrive = async () => {
        if (!at.up) throw new Unreachable("connection refused");
        if (at.standsStill) return undefined;
        await this.before(call);
        const answered = await answer(at);
        await this.after(call);
        await new Promise<void>((back) => this.#clock.after(ROUND_TRIP_MS / 2, back));
        if (!at.up) throw new Unreachable("the connection broke");
        return { answered };
      };
      this.#clock.after(ROUND_TRIP_MS / 2, () => {
        arrive().then(
          (result) => {
            if (result === undefined) return;
            late();
            resolve(result.answered);
          },
          (error) => {
            late();
            reject(error);
          },
        );
      });
    });
  }

  #decide<Name extends RequestName>(at: FakeServer, shard: number, name: Name, request: Requests[Name]) {
    const outcome: Outcome<Name> = decide(at.replica(shard), name, request);
    if (outcome.next !== NOTHING) at.replicas.set(shard, outcome.next);
    if (!outcome.accepted) throw new Refusal(outcome.reason, outcome.message);
    return outcome;
  }

  #takeStamp(at: FakeServer, stamps: { readonly stamp: number; readonly confirmedStamp: number }): void {
    const { held, rolledBack } = takeStamp(at.stamp, stamps);
    at.stamp = held;
    if (rolledBack) for (const shard of at.replicas.keys()) at.end(shard, "an older disk");
  }

  /** How many members hold what the leader holds, itself not counted. */
  #replicateFrom(leader: FakeServer, shard: number): number {
    const { cursors, head, promise } = leader.replica(shard);
    let members = 0;
    for (const cursor of cursors) {
      const at = this.server(cursor.server);
      const replica = at.replica(shard);
      const fits = replica.id === cursor.replicaId && replica.promise === promise && replica.introduced;
      if (!at.up || at.standsStill || !fits || !this.reaches(cursor.server)) continue;
      at.replicas.set(shard, { ...replica, status: "following", head, verified: head.offset, applied: NO_OFFSET });
      if (!cursor.observer) members += 1;
    }
    return members;
  }
}

/** The head of a log that ends with this entry. */
export function entry(term: number, offset: number): Head {
  return offset === NO_OFFSET ? EMPTY_HEAD : { term, offset, crc: term * 1_000 + offset };
}

export type { ReplicaId };
