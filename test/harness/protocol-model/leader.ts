/** A leadership of the model: what replication/cursor.ts and write-path.ts will do around protocol/commit.ts. */
import { type EntryId, type Head, NO_OFFSET, type Offset, type ReplicaId } from "../../../src/model/ids.ts";
import { catchUp } from "../../../src/protocol/catch-up.ts";
import {
  closeStream,
  commitToTell,
  entrySent,
  type FollowerAck,
  followerEnded,
  type Leadership,
  mayAnswer,
  mayServe,
  newLeadership,
  openStream,
  ownTermEntryDue,
  readArrives,
  sendRound,
  takeAck,
  takeOwnDurable,
  type WaitingRead,
} from "../../../src/protocol/commit.ts";
import { nowServing } from "../../../src/protocol/replica.ts";
import type { Member } from "../../../src/protocol/replica-state.ts";
import type { DataServer } from "./data-server.ts";
import type { Stream } from "./stream.ts";
import type { Entry, World } from "./world.ts";

const ENTRIES_MAX = 24;

export interface NamedFollower extends Member {
  readonly head: Head;
}

interface Cursor extends Member {
  readonly observer: boolean;
  /** Where the follower's log and the leader's agree; undefined until they do. */
  agreed: Offset | undefined;
  acked: Offset;
  next: Offset;
  stream: Stream | undefined;
}

export class Leader {
  readonly #server: DataServer;
  readonly #world: World;
  readonly #leadership: Leadership;
  readonly #cursors = new Map<string, Cursor>();
  readonly #reply: (led: boolean) => void;
  #reads: (WaitingRead & { readonly committed: Offset })[] = [];
  #serving = false;

  constructor(server: DataServer, members: readonly Member[], reply: (led: boolean) => void) {
    this.#server = server;
    this.#world = server.world;
    this.#reply = reply;
    const { promise: term, id: self } = server.replica;
    const ids = members.map(({ replicaId }) => replicaId);
    this.#leadership = newLeadership({ term, self, members: ids, headOffset: server.log.length - 1 });
    if (this.#world.has("commits earlier terms by counting"))
      Object.assign(this.#leadership.quorum, { firstOwnOffset: 0 });
  }

  addCursor({ server, replicaId, head }: NamedFollower, observer: boolean): void {
    const before = this.#cursors.get(server);
    if (before?.stream !== undefined) this.#world.closeStream(before.stream);
    const cursor: Cursor = {
      server,
      replicaId,
      observer,
      agreed: undefined,
      acked: NO_OFFSET,
      next: 0,
      stream: undefined,
    };
    this.#cursors.set(server, cursor);
    if (observer && this.#world.has("observer counts")) {
      (this.#leadership.followers as Set<ReplicaId>).add(replicaId);
    }
    this.#align(cursor, head);
  }

  openStreams(): void {
    for (const cursor of this.#cursors.values()) {
      const to = this.#world.server(cursor.server);
      if (cursor.agreed === undefined || cursor.stream !== undefined || !this.#world.reaches(this.#server, to))
        continue;
      const token = openStream(this.#leadership, cursor.replicaId);
      const { term } = this.#leadership;
      const stream: Stream = {
        from: this.#server,
        to,
        term,
        replicaId: cursor.replicaId,
        token,
        down: [],
        up: [],
        open: true,
      };
      cursor.stream = stream;
      cursor.next = Math.max(cursor.agreed, cursor.acked) + 1;
      this.#world.addStream(stream);
      this.#append(cursor, undefined, cursor.acked);
    }
  }

  push(): void {
    for (const cursor of this.#cursors.values()) {
      if (cursor.stream === undefined || this.#world.oneIn(2)) continue;
      for (let sent = 0; sent < 2 && cursor.next < this.#server.log.length; sent++) {
        this.#append(cursor, this.#server.log[cursor.next], undefined);
        cursor.next += 1;
      }
      if (this.#world.oneIn(5)) this.#append(cursor, undefined, undefined);
    }
  }

  acked(stream: Stream, ack: FollowerAck): void {
    const cursor = this.#cursors.get(stream.to.name);
    if (cursor?.replicaId !== stream.replicaId) return;
    const outcome = takeAck(this.#leadership, stream.token, ack);
    if (outcome === "refused") this.#world.fail(`${this.#server.name} refuses an ack of ${stream.to.name}`);
    const observed = cursor.observer && cursor.stream === stream;
    if (outcome === "counted" || observed) cursor.acked = Math.max(cursor.acked, ack.offset);
    this.advance();
  }

  /** NODE_IS_NOT_MEMBER: the id has ended, and its cursor with it. */
  ended(stream: Stream): void {
    const cursor = this.#cursors.get(stream.to.name);
    if (cursor?.replicaId !== stream.replicaId || stream.term !== this.#leadership.term) return;
    this.#cursors.delete(cursor.server);
    followerEnded(this.#leadership, cursor.replicaId);
    const { replica } = this.#server;
    this.#server.replica = { ...replica, cursors: replica.cursors.filter(({ server }) => server !== cursor.server) };
  }

  streamClosed(stream: Stream): void {
    const cursor = this.#cursors.get(stream.to.name);
    if (cursor?.stream === stream) cursor.stream = undefined;
    closeStream(this.#leadership, stream.token);
  }

  ownDurable(): void {
    if (this.#leadership.ownTermEntry) takeOwnDurable(this.#leadership, this.#server.synced - 1);
    this.advance();
  }

  clientWrites(): void {
    if (!this.#serving || this.#server.replica.status !== "leader" || this.#server.log.length >= ENTRIES_MAX) return;
    this.#propose();
  }

  clientReads(): void {
    if (!this.#serving) return;
    const read = readArrives(this.#leadership);
    const early = this.#world.has("read joins a round on its way");
    const none = this.#world.has("read without a round");
    const round = none ? 0 : early ? Math.max(1, this.#leadership.roundSent) : read.round;
    this.#reads.push({ ...read, round, committed: this.#world.committedOffset() });
    if (this.#world.oneIn(2)) sendRound(this.#leadership);
    this.advance();
  }

  advance(): void {
    const leadership = this.#leadership;
    if (ownTermEntryDue(leadership)) this.#propose();
    const { replica, log } = this.#server;
    const committed = commitToTell(leadership);
    for (let offset = replica.applied + 1; offset <= committed; offset++)
      this.#world.commits(this.#server, log[offset]!, true);
    const applied = Math.max(replica.applied, committed);
    this.#server.replica = { ...replica, applied };
    if (!this.#serving && mayServe(leadership, applied)) {
      this.#serving = true;
      this.#server.replica = nowServing(this.#server.replica);
      this.#world.serves(this.#server, log);
      this.#world.send(() => this.#reply(true));
    }
    for (const read of this.#reads) {
      if (mayAnswer(leadership, read, applied)) this.#world.answersRead(this.#server, applied, read.committed);
    }
    this.#reads = this.#reads.filter((read) => !mayAnswer(leadership, read, applied));
  }

  #propose(): void {
    const { log } = this.#server;
    const uid = this.#world.newUid();
    const crc = (Math.imul((log.at(-1)?.crc ?? 0) ^ uid, 0x01000193) ^ this.#leadership.term) >>> 0;
    entrySent(this.#leadership, log.length);
    log.push({ term: this.#leadership.term, offset: log.length, crc, uid });
  }

  #append(cursor: Cursor, entry: Entry | undefined, ackedOffset: Offset | undefined): void {
    const previous = entry === undefined ? undefined : this.#server.entryAt(entry.offset - 1);
    const told = this.#world.has("commit told before the own-term entry")
      ? this.#counted()
      : commitToTell(this.#leadership);
    cursor.stream?.down.push({
      entry,
      previous: previous ?? { term: -1, offset: -1, crc: 0 },
      commitOffset: told,
      readRound: this.#leadership.roundSent,
      ackedOffset,
    });
  }

  /** What a majority has, whatever its term. */
  #counted(): Offset {
    const { acked, durable } = this.#leadership.quorum;
    return Math.max(commitToTell(this.#leadership), Math.min(durable, Math.max(NO_OFFSET, ...acked.values())));
  }

  #align(cursor: Cursor, head: Head): void {
    const { log, replica } = this.#server;
    const own = head.offset >= 0 ? log[head.offset] : undefined;
    const termEnds = log.filter(({ term, offset }) => log[offset + 1]?.term !== term);
    const step = catchUp({ base: { term: -1, offset: NO_OFFSET }, termEnds }, head, own);
    const { term } = this.#leadership;
    const { replicaId } = cursor;
    const eager = this.#world.faults.snapshots && this.#world.oneIn(3) && replica.applied >= head.offset;
    if (step.way === "attach" && !eager) {
      cursor.agreed = step.after;
      this.advance();
      return;
    }
    const to = this.#world.server(cursor.server);
    const reply = (answered: Head) => {
      if (this.#server.leading !== this || this.#cursors.get(cursor.server) !== cursor) return;
      if (cursor.agreed !== undefined) return;
      if (this.#world.has("truncation trusted and entry before unchecked"))
        cursor.agreed = Math.min(answered.offset, log.length - 1);
      else this.#align(cursor, answered);
    };
    if (step.way === "truncate" && !eager) {
      const keep: EntryId = this.#world.has("truncation trusted and entry before unchecked")
        ? { ...step.keep, offset: head.offset }
        : step.keep;
      this.#world.send(() => to.truncate({ term, replicaId, keep, expectedHead: head }, reply));
    } else {
      const entries = log.slice(0, replica.applied + 1);
      const last = this.#server.entryAt(replica.applied)!;
      this.#world.send(() => to.snapshot({ term, replicaId, last }, entries, reply));
    }
  }
}
