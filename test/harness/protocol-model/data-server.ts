/** A data server of the model: one replica with its log; as a follower it takes appends, as a leader leader.ts drives it. */
import { EMPTY_HEAD, type Head, NO_OFFSET, type Offset, type ReplicaId } from "../../../src/model/ids.ts";
import type { FollowerAck } from "../../../src/protocol/commit.ts";
import { freezeLapsed } from "../../../src/protocol/ensemble-change.ts";
import { takeStamp } from "../../../src/protocol/fencing.ts";
import { decide } from "../../../src/protocol/replica.ts";
import {
  afterStart,
  endReplica,
  NO_REPLICA,
  NOTHING,
  type Outcome,
  type Replica,
  type RequestName,
  type Requests,
} from "../../../src/protocol/replica-state.ts";
import { Leader, type NamedFollower } from "./leader.ts";
import type { AppendMessage, Stream } from "./stream.ts";
import type { DiskFault, Entry, World } from "./world.ts";

interface Disk {
  readonly stamp: number;
  readonly replica: Replica;
  readonly log: readonly Entry[];
}

export class DataServer {
  readonly world: World;
  readonly name: string;
  replica: Replica = NOTHING;
  /** Entries up to `synced` are durable; the others wait in the log writer. */
  log: Entry[] = [];
  synced = 0;
  leading: Leader | undefined;
  #inbound: Stream | undefined;
  #roundSeen = 0;
  #frozenAtMs = 0;
  /** The promise and lead mark as they are on disk, where they are not synced before the answer. */
  #unsynced: Pick<Replica, "promise" | "led"> | undefined;
  #copies: Disk[] = [];
  #stamp = 0;

  constructor(world: World, name: string) {
    this.world = world;
    this.name = name;
  }

  create(id: ReplicaId): void {
    this.replica = { ...NOTHING, status: "fenced", id, introduced: true };
  }

  describe(): string {
    return `${this.replica.status} T${this.replica.promise} id ${this.replica.id} [${this.log.map(({ term, uid }) => `${term}:${uid}`)}] synced ${this.synced} applied ${this.replica.applied}`;
  }

  entryAt(offset: Offset): Entry | Head | undefined {
    return offset < 0 ? EMPTY_HEAD : this.log[offset];
  }

  durableHead(): Head {
    return this.log[this.synced - 1] ?? EMPTY_HEAD;
  }

  // --- coordination ---------------------------------------------------------------------------------------------

  handshake(stamps: { readonly stamp: number; readonly confirmedStamp: number }, reply: () => void): void {
    this.#takeStamp(stamps);
    this.replica = { ...this.replica, introduced: true };
    this.world.send(reply);
  }

  newTerm(request: Requests["NewTerm"], confirmedStamp: number): Outcome<"NewTerm"> {
    this.#takeStamp({ stamp: 0, confirmedStamp });
    const early = this.world.has("head read before the barrier");
    const before = this.durableHead();
    const { verified } = this.replica;
    const asked = this.world.has("votes by address") ? { ...request, replicaId: NO_REPLICA, countedTerm: -1 } : request;
    const stale = this.#inbound;
    const outcome = this.#decide("NewTerm", asked);
    if (!outcome.accepted) return outcome;
    if (outcome.answer.erase) this.#erase();
    // What waits in the log writer is written before the barrier or dropped, as the writer happens to have it.
    if (early || this.world.oneIn(2)) this.synced = this.log.length;
    else this.log.length = this.synced;
    this.#headMoved();
    if (early && stale?.open === true) {
      // The appends that waited are acked by the stream on which they came.
      stale.up.push({ offset: Math.min(this.synced - 1, verified), readRound: 0, promise: stale.term });
      while (stale.up.length > 0) stale.from.acked(stale, stale.up.shift()!);
    }
    this.leading = undefined;
    this.world.closeStreamsOf(this);
    this.#copy();
    const next = early ? { ...outcome.next, head: before } : this.replica;
    this.world.log(() => `${this.name} fenced by T${request.term}: ${this.describe()} ${outcome.answer.ended}`);
    return { ...outcome, next };
  }

  becomeLeader(
    request: Requests["BecomeLeader"],
    followers: readonly NamedFollower[],
    reply: (led: boolean) => void,
  ): void {
    const { replica } = this;
    const twice = this.world.has("leads a term twice");
    if (twice) this.replica = { ...replica, led: -1, head: { ...replica.head, term: -1 } };
    const asked = twice ? { ...request, expectedHead: undefined, followers: [] } : request;
    const outcome = this.#decide("BecomeLeader", asked);
    if (twice) this.replica = { ...this.replica, head: replica.head };
    if (!outcome.accepted) {
      // A repeated one says nothing about the first.
      if (replica.led < request.term) this.world.send(() => reply(false));
      return;
    }
    this.world.leads(this, request.term);
    this.leading = new Leader(this, this.replica.members, reply);
    for (const follower of followers) this.leading.addCursor(follower, false);
    this.leading.advance();
  }

  addFollower(request: Requests["AddFollower"], follower: NamedFollower, reply: () => void): void {
    const outcome = this.#decide("AddFollower", request);
    if (!outcome.accepted || this.leading === undefined) return;
    if (outcome.answer.cursor !== "kept") this.leading.addCursor(follower, request.observer);
    this.world.send(reply);
  }

  freeze(request: Requests["FreezeShard"]): Offset | undefined {
    const outcome = this.#decide("FreezeShard", request);
    this.#frozenAtMs = this.world.nowMs();
    return outcome.accepted ? this.log.length - 1 : undefined;
  }

  deleteShard(request: Requests["DeleteShard"], reply: () => void): void {
    const outcome = this.#decide("DeleteShard", request);
    if (outcome.accepted) {
      this.world.log(() => `${this.name} deleted in T${request.term}`);
      this.world.closeStreamsOf(this);
      this.leading = undefined;
      this.#erase();
    }
    if (outcome.accepted || outcome.reason === "NODE_IS_NOT_MEMBER") this.world.send(reply);
  }

  // --- following ------------------------------------------------------------------------------------------------

  truncate(request: Omit<Requests["Truncate"], "held">, reply: (head: Head) => void): void {
    const { keep } = request;
    const held = this.entryAt(keep.offset);
    const outcome = this.#decide("Truncate", { ...request, held });
    if (!outcome.accepted) return;
    this.world.log(() => `${this.name} truncates to ${keep.offset}: ${this.describe()}`);
    this.log.length = keep.offset + 1;
    this.synced = this.log.length;
    this.#headMoved();
    this.#copy();
    const head = this.durableHead();
    this.world.send(() => reply(head));
  }

  snapshot(
    request: Requests["SendSnapshot"] & { readonly last: Head },
    entries: readonly Entry[],
    reply: (head: Head) => void,
  ): void {
    const outcome = this.#decide("SendSnapshot", request);
    if (!outcome.accepted) return;
    this.world.log(() => `${this.name} takes a snapshot up to ${request.last.offset}: ${this.describe()}`);
    this.world.tally.snapshots += 1;
    this.log = [...entries];
    this.synced = this.log.length;
    this.#headMoved();
    this.#copy();
    this.world.send(() => reply(request.last));
  }

  receive(stream: Stream, message: AppendMessage): void {
    if (message.ackedOffset !== undefined && !this.#open(stream, message.ackedOffset)) return;
    if (this.#inbound !== stream) return;
    const { entry, commitOffset } = message;
    const offset = entry?.offset ?? NO_OFFSET;
    let held = entry && this.log[offset];
    let heldBefore = entry && this.entryAt(offset - 1);
    if (this.world.has("truncation trusted and entry before unchecked") && heldBefore !== undefined)
      heldBefore = message.previous;
    if (this.world.has("held entry acked unread") && held !== undefined) {
      held = entry;
      heldBefore = message.previous;
    }
    const { previous } = message;
    const { term } = stream;
    const request = { term, entry, previous, previousEntryCrc: undefined, commitOffset, heldBefore, held };
    const outcome = this.#decide("Append", request);
    if (!outcome.accepted) {
      if (outcome.alarm) this.world.fail(`${this.name} raises the alarm: ${outcome.message}`);
      this.world.closeStream(stream);
      return;
    }
    if (outcome.answer.write) this.log.push(entry!);
    this.#roundSeen = Math.max(this.#roundSeen, message.readRound);
    const greedy = this.world.has("applies what the log holds");
    this.#apply(greedy ? Math.min(commitOffset, this.log.length - 1) : outcome.answer.applyUpTo);
    if (this.world.has("acks before fsync")) stream.up.push(this.#ack(this.log.length - 1));
    if (entry === undefined) stream.up.push(this.#ack(this.synced - 1));
  }

  /** The log writer commits what waits. */
  sync(): void {
    this.#lapse();
    this.synced = this.log.length;
    this.#headMoved();
    this.#copy();
    if (this.#inbound?.open === true) this.#inbound.up.push(this.#ack(this.synced - 1));
    this.leading?.ownDurable();
  }

  // --- streams, as the leader sees them ---------------------------------------------------------------------------

  openStreams(): void {
    this.leading?.openStreams();
  }

  push(): void {
    this.leading?.push();
  }

  clientWrites(): void {
    this.#lapse();
    this.leading?.clientWrites();
  }

  clientReads(): void {
    this.leading?.clientReads();
  }

  acked(stream: Stream, ack: FollowerAck): void {
    this.leading?.acked(stream, ack);
  }

  streamClosed(stream: Stream): void {
    this.leading?.streamClosed(stream);
  }

  inboundClosed(stream: Stream): void {
    if (this.#inbound !== stream) return;
    this.#inbound = undefined;
    this.replica = { ...this.replica, streaming: false };
  }

  // --- faults -----------------------------------------------------------------------------------------------------

  crash(): void {
    this.world.log(() => `${this.name} crashes: ${this.describe()}`);
    this.log.length = this.world.random.int(this.synced, this.log.length + 1);
    this.synced = this.log.length;
    const marks = this.#unsynced !== undefined && this.world.oneIn(2) ? this.#unsynced : {};
    this.#unsynced = undefined;
    this.#restart({ ...this.replica, ...marks });
  }

  /** False if nothing came of it. */
  loseDisk(how: DiskFault): boolean {
    if (how === "lost") {
      this.world.log(() => `${this.name} loses its disk`);
      this.#erase();
      this.#stamp = 0;
      this.#restart(NOTHING);
      return true;
    }
    const confirmed = this.world.confirmedStamps.get(this.name) ?? 0;
    const copies = this.#copies.slice(0, -1).filter(({ stamp }) => how !== "copied" || stamp < confirmed);
    const copy = copies.at(-1 - this.world.random.int(0, 2));
    if (copy === undefined || copy.replica.id !== this.replica.id || this.replica.id === NO_REPLICA) return false;
    this.world.log(() => `${this.name} is set back from ${this.describe()}`);
    this.log = [...copy.log];
    this.synced = this.log.length;
    this.#stamp = copy.stamp;
    const noticed = how !== "copied" && !this.world.has("older disk not noticed");
    this.#restart(noticed ? endReplica(copy.replica, "an older disk") : copy.replica);
    return true;
  }

  #restart(replica: Replica): void {
    this.leading = undefined;
    this.world.closeStreamsOf(this);
    const applied = Math.min(replica.applied, this.synced - 1);
    this.replica = afterStart({ ...replica, head: this.durableHead(), applied });
    this.#roundSeen = 0;
    // Whoever watches its health sees it come back.
    this.world.pick(this.world.coordinators)?.handshake(this.name);
  }

  #erase(): void {
    this.log = [];
    this.synced = 0;
    this.#copies = [];
  }

  #takeStamp(stamps: { readonly stamp: number; readonly confirmedStamp: number }): void {
    const { held, rolledBack } = takeStamp(this.#stamp, stamps);
    this.#stamp = held;
    if (!rolledBack || this.world.has("stamp not checked")) return;
    this.world.log(() => `${this.name} finds its disk older than its stamp: ${this.describe()}`);
    this.world.closeStreamsOf(this);
    this.leading = undefined;
    this.#erase();
    this.replica = endReplica(this.replica, "an older disk");
  }

  #decide<Name extends RequestName>(name: Name, request: Requests[Name]): Outcome<Name> {
    const before = this.replica;
    const outcome = decide(before, name, request);
    this.replica = outcome.next;
    const { promise, led, id } = outcome.next;
    if (promise < before.promise || (id === before.id && led < before.led))
      this.world.fail(`${this.name}: a promise fell`);
    if (this.world.has("promise not synced") && (promise > before.promise || led > before.led)) {
      this.#unsynced ??= { promise: before.promise, led: before.led };
    }
    return outcome;
  }

  #open(stream: Stream, ackedOffset: Offset): boolean {
    const { term, replicaId } = stream;
    const asked = this.world.has("votes by address") ? undefined : replicaId;
    const outcome = this.#decide("OpenReplicate", { term, replicaId: asked, ackedOffset });
    if (outcome.accepted) {
      this.#inbound = stream;
      this.#roundSeen = 0;
      return true;
    }
    this.world.closeStream(stream);
    if (outcome.reason === "NODE_IS_NOT_MEMBER") stream.from.leading?.ended(stream);
    return false;
  }

  #ack(durable: Offset): FollowerAck {
    const verified = this.world.has("applies what the log holds") ? durable : this.replica.verified;
    return { offset: Math.min(durable, verified), readRound: this.#roundSeen, promise: this.replica.promise };
  }

  #apply(upTo: Offset): void {
    for (let offset = this.replica.applied + 1; offset <= upTo; offset++)
      this.world.commits(this, this.log[offset]!, false);
    if (upTo > this.replica.applied) this.replica = { ...this.replica, applied: upTo };
  }

  #headMoved(): void {
    this.replica = { ...this.replica, head: this.durableHead() };
  }

  #lapse(): void {
    if (this.replica.status !== "frozen" || !freezeLapsed(this.#frozenAtMs, this.world.nowMs())) return;
    this.#decide("FreezeShard", { term: this.replica.promise, frozen: false });
  }

  #copy(): void {
    const { disk } = this.world.faults;
    if (disk !== "set back" && disk !== "copied") return;
    this.#copies.push({ stamp: this.#stamp, replica: this.replica, log: this.log.slice(0, this.synced) });
    if (this.#copies.length > 8) this.#copies.shift();
  }
}
