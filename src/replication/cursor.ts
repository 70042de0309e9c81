/**
 * A leader's place in one follower's log: agrees with it on an entry, then sends what follows and takes acks.
 *
 *     agree ──> (snapshot) ──> stream open ──> entries out, acks in ──> stream ended ──> wait ──> stream again …
 *
 * Entries come from the shard's tail while the cursor keeps up, from the log when it is behind. Each message tells the
 * commit offset and the read round; when one of them moves and there is no entry to send, a message without an entry
 * does. What a stream opens with says what this leader has seen acked, and begins a round.
 *
 * An acked offset never falls. NODE_IS_NOT_MEMBER ends the cursor, since the id has ended; INVALID_TERM silences it,
 * since a later term stands there; anything else is tried again. A cursor that does not get through holds nobody up.
 *
 * Source: safety.md §1, §5, §6, §11; semantics.md §8.3.
 */
import { assert } from "../lib/assert.ts";
import { type Head, type LogEntry, NO_OFFSET, type Offset, type ReplicaId } from "../model/ids.ts";
import {
  CATCH_UP_STALL_MS_MAX,
  COMMIT_TOLD_MS_MAX,
  CURSOR_BYTES_IN_FLIGHT_MAX,
  CURSOR_ENTRIES_IN_FLIGHT_MAX,
  CURSOR_RETRY_FACTOR,
  CURSOR_RETRY_MS_MAX,
  CURSOR_RETRY_MS_MIN,
  LOG_READ_BYTES_MAX,
  PEER_CALL_MS_MAX,
} from "../model/limits.ts";
import type { Ack, PeerHead, TermOptions } from "../model/peer-messages.ts";
import { Refusal, Unreachable } from "../model/refusal.ts";
import type { AppendStream, Clock, Followers, KeyValue, Logger, Random } from "../ports.ts";
import {
  closeStream,
  commitToTell,
  type FollowerStream,
  type Leadership,
  openStream,
  takeAck,
  takeStatus,
} from "../protocol/commit.ts";
import { entryCrc } from "../wire/entry-crc.ts";
import { agree, type FollowerAddress, hasId } from "./agree.ts";
import { CatchUpReader } from "./catch-up-reader.ts";
import type { EntryTail, ReplicationBudget } from "./entry-tail.ts";
import { EntriesLost, type OwnLog } from "./own-log.ts";
import { SnapshotSending } from "./snapshot-sending.ts";

/** What all cursors of one leadership share. */
export interface CursorContext {
  readonly log: OwnLog;
  readonly kv: KeyValue;
  readonly clock: Clock;
  readonly random: Random;
  readonly followers: Followers;
  readonly logger: Logger;
  readonly budget: ReplicationBudget;
  /** The leader's own shard. */
  readonly shard: number;
  readonly options: TermOptions;
  readonly leadership: Leadership;
  /** Undefined with replication factor 1: observers read the log, so they hold nothing that it may still refuse. */
  readonly tail: EntryTail | undefined;
  /** A round is begun for a stream that opens. */
  readonly beginRound: () => void;
  /** An ack or a status has counted, or the cursor has moved on. */
  readonly onProgress: () => void;
  /** The follower's id has ended. */
  readonly onEnded: (cursor: Cursor) => void;
  /** The leader's own log or state cannot be read, or code of ours is wrong. */
  readonly onFault: (error: unknown) => void;
}

export interface CursorTarget {
  readonly address: FollowerAddress;
  /** What its acks count by: its replica id, or a stand-in for one that has none. */
  readonly id: ReplicaId;
  readonly observer: boolean;
}

export type CursorState = "agreeing" | "snapshot" | "streaming" | "waiting" | "fenced" | "ended";

interface InFlight {
  readonly offset: Offset;
  readonly bytes: number;
}

export class Cursor {
  readonly target: CursorTarget;
  readonly #context: CursorContext;
  readonly #abort = new AbortController();
  readonly #reader: CatchUpReader;
  #state: CursorState = "agreeing";
  /** The follower's head as it was told last, until it has been used. */
  #told: PeerHead | undefined;
  /** Where both logs agree; undefined until they do. */
  #agreed: Head | undefined;
  /** The log has lost entries that this follower needs. */
  #needsSnapshot = false;
  /** The last entry sent on the open stream, or agreed on. */
  #last: Head | undefined;
  #acked: Offset;
  #stream: AppendStream | undefined;
  #token: FollowerStream | undefined;
  #choked = false;
  /** Sent and not acked, from `#firstInFlight` on. */
  #inFlight: InFlight[] = [];
  #firstInFlight = 0;
  #inFlightBytes = 0;
  #commitTold: Offset = NO_OFFSET;
  #cancelTelling: (() => void) | undefined;
  #roundTold = 0;
  #asking = false;
  /** The last round for which a reference follower was asked for its status. */
  #askedRound = 0;
  #snapshot: SnapshotSending | undefined;
  /** Why this side has ended the stream. */
  #failure: unknown;
  #retryMs = CURSOR_RETRY_MS_MIN;
  #endWait: () => void = () => {};
  #cancelled = false;

  constructor(context: CursorContext, target: CursorTarget, head: PeerHead) {
    this.#context = context;
    this.target = target;
    this.#told = head;
    this.#acked = context.leadership.quorum.acked.get(target.id) ?? NO_OFFSET;
    this.#reader = new CatchUpReader(context.log, context.clock, context.budget, context.shard, {
      stallMs: CATCH_UP_STALL_MS_MAX,
      onRead: () => this.pump(),
      onFailed: (error) => this.#readFailed(error),
    });
  }

  get state(): CursorState {
    return this.#state;
  }

  get acked(): Offset {
    return this.#acked;
  }

  /** Last offset sent, or agreed on. */
  get sent(): Offset {
    return this.#last?.offset ?? NO_OFFSET;
  }

  /** Works until it is cancelled or the follower is gone for this term. */
  start(): void {
    void this.#run();
  }

  /** The follower's head was told anew: it helps a cursor that has not come to agree yet, and hurries one that waits. */
  headTold(head: PeerHead): void {
    if (this.#agreed !== undefined) return;
    this.#told = head;
    this.#endWait();
  }

  /** Nothing is sent or counted by this cursor any more. */
  cancel(): void {
    if (this.#cancelled) return;
    this.#cancelled = true;
    this.#abort.abort();
    this.#closeStream();
    this.#snapshot?.cancel();
    this.#cancelTelling?.();
    this.#endWait();
  }

  // --- the follower, from first to last ---------------------------------------------------------------------------

  async #run(): Promise<void> {
    while (!this.#cancelled) {
      try {
        if (this.#agreed === undefined) await this.#agree();
        if (this.#cancelled) return;
        await this.#follow(this.#agreed!);
      } catch (error) {
        if (this.#cancelled) return;
        const cause = this.#failure ?? error;
        this.#failure = undefined;
        this.#closeStream();
        if (!this.#goesOn(cause)) return;
      }
      await this.#wait();
    }
  }

  async #agree(): Promise<void> {
    this.#state = "agreeing";
    const { address } = this.target;
    const told = this.#told;
    this.#told = undefined;
    const context = { ...this.#context, signal: this.#abort.signal };
    const entriesLost = this.#needsSnapshot;
    const agreed = entriesLost ? "snapshot" : await agree(context, address, told);
    if (this.#cancelled) return;
    this.#agreed = agreed === "snapshot" ? await this.#sendSnapshot({ sharesEntries: entriesLost }) : agreed;
    this.#needsSnapshot = false;
  }

  async #sendSnapshot(follower: { readonly sharesEntries: boolean }): Promise<Head> {
    this.#state = "snapshot";
    this.#snapshot = new SnapshotSending(this.#context, this.target.address);
    try {
      return await this.#snapshot.run(follower);
    } finally {
      this.#snapshot = undefined;
    }
  }

  /** One stream, until it ends. Acked entries are not sent again: an acked offset never falls. */
  async #follow(agreed: Head): Promise<void> {
    const { server, namespace, shard, term } = this.target.address;
    const from = await this.#resumeAt(agreed);
    if (this.#cancelled) return;
    this.#token = openStream(this.#context.leadership, this.target.id);
    const stream = this.#context.followers.replicate(server, { namespace, shard, term });
    this.#stream = stream;
    this.#state = "streaming";
    this.#last = from;
    this.#context.beginRound();
    this.#send(undefined, this.#opensWith(agreed));
    this.#context.onProgress();
    for (;;) {
      const ack = await stream.next();
      if (this.#cancelled) return;
      if (this.#failure !== undefined || ack === undefined) throw new Unreachable("the follower has ended the stream");
      this.#take(ack);
    }
  }

  /** The entry after which to send: what was agreed on, or acked since. */
  async #resumeAt(agreed: Head): Promise<Head> {
    const { log, shard, tail } = this.#context;
    if (this.#acked <= agreed.offset) return agreed;
    const held = tail?.at(this.#acked);
    if (held !== undefined) return { term: held.entry.term, offset: this.#acked, crc: held.crc };
    // not durable here yet, or trimmed: what lies before will do
    return (await log.at(shard, this.#acked)) ?? agreed;
  }

  /**
   * What the follower is known to hold durably of this leader's log. A head of this term that it has told, and that was
   * found here by term and chain, is as good as an ack: one that was lost on its way would not come again, and without new
   * entries nothing else would verify it there.
   */
  #opensWith(agreed: Head): Offset {
    const isOwn = hasId(this.target.address) && agreed.term === this.target.address.term;
    return isOwn ? Math.max(this.#acked, agreed.offset) : this.#acked;
  }

  /** Whether the follower is tried again after this. */
  #goesOn(error: unknown): boolean {
    const { logger, shard, onEnded, onFault } = this.#context;
    const { address } = this.target;
    const fields = { component: "cursor", namespace: address.namespace, shard, server: address.server, err: error };
    if (error instanceof Unreachable) return true;
    if (error instanceof EntriesLost) {
      logger.warn(fields, "entries that a follower needs are damaged: it is sent a snapshot");
      this.#needsSnapshot = true;
      this.#agreed = undefined;
      return true;
    }
    if (!(error instanceof Refusal)) {
      this.#state = "ended";
      onFault(error);
      return false;
    }
    switch (error.reason) {
      case "NODE_IS_NOT_MEMBER":
        if (!hasId(address)) break;
        this.#state = "ended";
        logger.warn(fields, "a follower's replica has ended");
        onEnded(this);
        return false;
      case "INVALID_TERM":
        this.#state = "fenced";
        logger.info(fields, "a follower has promised another term");
        return false;
      default:
        logger.debug(fields, "a follower refused");
    }
    // Whatever stands there now is compared anew; but what a reference follower has acked is not put to the question:
    // the NewTerm that takes would open it to truncations again.
    if (hasId(address) || this.#acked === NO_OFFSET) this.#agreed = undefined;
    return true;
  }

  /** Waits before the next attempt, longer each time, until a follower has answered again. */
  #wait(): Promise<void> {
    if (this.#cancelled || this.#told !== undefined) return Promise.resolve();
    this.#state = "waiting";
    const ms = this.#retryMs * (0.5 + this.#context.random.fraction() / 2);
    this.#retryMs = Math.min(this.#retryMs * CURSOR_RETRY_FACTOR, CURSOR_RETRY_MS_MAX);
    return new Promise((resolve) => {
      const cancel = this.#context.clock.after(ms, resolve);
      this.#endWait = () => {
        cancel();
        resolve();
      };
    });
  }

  #closeStream(): void {
    if (this.#token !== undefined) closeStream(this.#context.leadership, this.#token);
    this.#stream?.cancel();
    this.#reader.reset();
    this.#token = undefined;
    this.#stream = undefined;
    this.#choked = false;
    this.#inFlight = [];
    this.#firstInFlight = 0;
    this.#inFlightBytes = 0;
  }

  // --- sending ----------------------------------------------------------------------------------------------------

  /** Sends what there is to be sent and the follower has room for. */
  pump(): void {
    if (this.#stream === undefined) return;
    while (!this.#choked && this.#hasRoom()) {
      const next = this.#nextEntry();
      if (next === undefined) break;
      this.#sendEntry(next);
    }
    if (this.#choked) return;
    const { leadership } = this.#context;
    if (this.#roundTold < leadership.roundSent) this.#sendBare();
    else if (this.#commitTold < commitToTell(leadership)) this.#tellCommitSoon();
    if (!hasId(this.target.address)) void this.#askStatus();
  }

  /** Whether an entry waits for this follower and could go now: a round may ride on it. */
  get hasEntryToSend(): boolean {
    if (this.#stream === undefined || this.#choked) return false;
    return this.#last!.offset < this.#context.leadership.quorum.sent && this.#hasRoom();
  }

  #hasRoom(): boolean {
    const count = this.#inFlight.length - this.#firstInFlight;
    return count === 0 || (count < CURSOR_ENTRIES_IN_FLIGHT_MAX && this.#inFlightBytes < CURSOR_BYTES_IN_FLIGHT_MAX);
  }

  /** The entry behind the last one sent: from the tail, or from what was read of the log. Undefined: not now. */
  #nextEntry(): { readonly entry: LogEntry; readonly crc: number } | undefined {
    const { tail, leadership } = this.#context;
    const last = this.#last!;
    const offset = last.offset + 1;
    const held = tail?.at(offset);
    if (held !== undefined) {
      this.#reader.reset();
      return held;
    }
    const entry = this.#reader.take(offset);
    if (entry !== undefined) return { entry, crc: entryCrc(last.crc, entry) };
    const isRoomy = this.#inFlightBytes === 0 || this.#inFlightBytes + LOG_READ_BYTES_MAX <= CURSOR_BYTES_IN_FLIGHT_MAX;
    if (offset <= leadership.quorum.durable && isRoomy) this.#reader.read(offset);
    return undefined;
  }

  #sendEntry({ entry, crc }: { readonly entry: LogEntry; readonly crc: number }): void {
    const { term, offset } = entry;
    const bytes = entry.value.length;
    this.#inFlight.push({ offset, bytes });
    this.#inFlightBytes += bytes;
    this.#send(entry, undefined);
    this.#last = { term, offset, crc };
  }

  /** A commit offset goes with the next entry or round; alone only when there is none for a while. */
  #tellCommitSoon(): void {
    if (this.#cancelTelling !== undefined) return;
    this.#cancelTelling = this.#context.clock.after(COMMIT_TOLD_MS_MAX, () => {
      this.#cancelTelling = undefined;
      const isNews = this.#commitTold < commitToTell(this.#context.leadership);
      if (this.#stream !== undefined && !this.#choked && isNews) this.#sendBare();
    });
  }

  /** A message without an entry: it tells a commit offset or a round. */
  #sendBare(): void {
    this.#send(undefined, undefined);
  }

  #send(entry: LogEntry | undefined, ackedOffset: Offset | undefined): void {
    const { leadership } = this.#context;
    const { term, replicaId } = this.target.address;
    const last = this.#last!;
    this.#commitTold = commitToTell(leadership);
    this.#roundTold = leadership.roundSent;
    const flows = this.#stream!.send({
      term,
      entry,
      commitOffset: this.#commitTold,
      previousEntryCrc: last.crc,
      cumulativeAcksSupported: true,
      previousTerm: last.term,
      previousCrc: last.crc,
      readRound: this.#roundTold,
      ackedOffset,
      replicaId: ackedOffset === undefined ? undefined : replicaId,
    });
    if (!flows) void this.#unchoke(this.#stream!);
  }

  async #unchoke(stream: AppendStream): Promise<void> {
    this.#choked = true;
    this.#reader.stall();
    try {
      await stream.drained();
    } catch {
      return; // whoever reads the acks hears why
    }
    if (this.#stream !== stream) return;
    this.#choked = false;
    this.#context.onProgress();
  }

  #readFailed(error: unknown): void {
    if (this.#cancelled) return;
    const isTrimmed = error instanceof Refusal && error.reason === "FAILED_PRECONDITION";
    if (!isTrimmed && !(error instanceof EntriesLost)) return; // a fault, told already
    this.#failure = error;
    this.#stream?.cancel();
  }

  // --- acks -------------------------------------------------------------------------------------------------------

  #take(ack: Ack): void {
    const { leadership, onProgress } = this.#context;
    const outcome = takeAck(leadership, this.#token!, ack);
    if (outcome === "refused") {
      throw new Refusal("RESOURCE_CONFLICT", `${this.target.address.server} acks what it was not sent: ${ack.offset}`);
    }
    const isObserved = this.target.observer && (ack.promise ?? leadership.term) === leadership.term;
    if (outcome === "ignored" && !isObserved) return;
    this.#retryMs = CURSOR_RETRY_MS_MIN;
    if (ack.offset > this.#acked) this.#acked = ack.offset;
    this.#arrived(ack.offset);
    onProgress();
  }

  /** What was sent up to `upToInclusive` is no longer on its way. */
  #arrived(upToInclusive: Offset): void {
    while (this.#firstInFlight < this.#inFlight.length) {
      const { offset, bytes } = this.#inFlight[this.#firstInFlight]!;
      if (offset > upToInclusive) break;
      this.#inFlightBytes -= bytes;
      this.#firstInFlight++;
    }
    assert(this.#inFlightBytes >= 0, "more was acked than was sent");
    if (this.#firstInFlight === this.#inFlight.length) this.#inFlight = [];
    else if (this.#firstInFlight > 1024) this.#inFlight = this.#inFlight.slice(this.#firstInFlight);
    else return;
    this.#firstInFlight = 0;
  }

  /** A reference follower answers no message without an entry, and echoes no round: its status says that it is there. */
  async #askStatus(): Promise<void> {
    const { leadership, followers, onProgress } = this.#context;
    const { address, id } = this.target;
    const round = leadership.roundSent;
    if (this.#asking || this.#askedRound >= round || this.target.observer) return;
    this.#asking = true;
    this.#askedRound = round;
    try {
      const limits = { timeoutMs: PEER_CALL_MS_MAX, signal: this.#abort.signal };
      const { status, term } = await followers.getStatus(address.server, { shard: address.shard }, limits);
      if (this.#cancelled) return;
      if (status === "FENCED" || status === "FOLLOWER") takeStatus(leadership, id, { term, round });
    } catch (error) {
      // the next round asks again
      if (!(error instanceof Refusal) && !(error instanceof Unreachable)) throw error;
      return;
    } finally {
      this.#asking = false;
    }
    onProgress();
  }
}
