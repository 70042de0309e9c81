/**
 * One shard on a reference server: the tables of semantics.md §8.1 and §8.3 as they stand there, [BUG] marks included.
 * It knows no replica ids, no lead marks, no stamps, and compares no entry with what a leader sends.
 */
import { NO_OFFSET, NO_TERM, type Offset, type Term } from "../../../src/model/ids.ts";
import type {
  Ack,
  AddFollowerRequest,
  Append,
  BecomeLeaderRequest,
  FreezeShardRequest,
  GetStatusResponse,
  NewTermRequest,
  NewTermResponse,
  RemoveObserverRequest,
  ShardTerm,
  TermOptions,
  TruncateRequest,
  TruncateResponse,
} from "../../../src/model/peer-messages.ts";
import { Refusal } from "../../../src/model/refusal.ts";
import type { AppendReceiver, SnapshotReceiver } from "../../../src/ports.ts";
import type { MountedDisk } from "../disk.ts";
import { ReferenceLeading, type ReferencePorts } from "./leading.ts";
import { ReferenceLog, readTerm, removeShard, writeTerm } from "./log.ts";
import { ReferenceState } from "./state.ts";

const DEFAULT_OPTIONS: TermOptions = {
  notificationsEnabled: true,
  keySorting: "hierarchical",
  readConsistency: "leader",
};
/** Fields of ours in answers: a reference server has none. */
const NO_FIELDS = { replicaId: undefined, ended: undefined } as const;

export class ReferenceReplica {
  readonly #ports: ReferencePorts;
  readonly #disk: MountedDisk;
  readonly #folder: string;
  readonly #log: ReferenceLog;
  #type: "leader" | "follower" = "leader";
  #status: GetStatusResponse["status"] = "NOT_MEMBER";
  #term: Term = NO_TERM;
  #state: ReferenceState;
  #committed: Offset = NO_OFFSET;
  #leading: ReferenceLeading | undefined;
  #stream: AppendReceiver | undefined;
  /** Ends the open stream. */
  #endStream: (reason: Refusal) => void = () => {};
  #busy: Promise<unknown> = Promise.resolve();

  private constructor(ports: ReferencePorts, disk: MountedDisk, folder: string, log: ReferenceLog) {
    this.#ports = ports;
    this.#disk = disk;
    this.#folder = folder;
    this.#log = log;
    this.#state = new ReferenceState(DEFAULT_OPTIONS);
  }

  /** Fenced if a term is stored, else it has never been told of one. */
  static async open(ports: ReferencePorts, disk: MountedDisk, folder: string): Promise<ReferenceReplica> {
    const stored = await readTerm(disk, folder);
    const replica = new ReferenceReplica(ports, disk, folder, await ReferenceLog.open(disk, folder));
    if (stored === undefined) return replica;
    replica.#term = stored.term;
    replica.#status = "FENCED";
    replica.#state = new ReferenceState(stored.options);
    return replica;
  }

  get leading(): ReferenceLeading | undefined {
    return this.#leading;
  }

  // --- coordination -------------------------------------------------------------------------------------------------

  /** Waits for a BecomeLeader that waits: it does not interrupt it. */
  newTerm({ term, options }: NewTermRequest): Promise<NewTermResponse> {
    return this.#exclusive(async () => {
      if (term < this.#term) throw invalidTerm();
      if (term === this.#term && this.#type === "leader" && this.#status !== "FENCED") {
        throw new Refusal("INVALID_STATUS", "oxia: invalid status");
      }
      this.#endStream(new Refusal("UNKNOWN", "context canceled"));
      this.#closeLeading();
      await this.#log.flushed();
      if (this.#status === "NOT_MEMBER") this.#state = new ReferenceState(options);
      this.#term = term;
      this.#status = "FENCED";
      await writeTerm(this.#disk, this.#folder, { term, options });
      const { term: headTerm, offset } = this.#log.head;
      return { ...NO_FIELDS, head: { term: headTerm, offset, crc: undefined }, mintedTerm: undefined };
    });
  }

  becomeLeader(request: BecomeLeaderRequest): Promise<void> {
    return this.#exclusive(async () => {
      this.#type = "leader";
      if (this.#status !== "FENCED") throw new Refusal("INVALID_STATUS", "oxia: invalid status");
      if (request.term !== this.#term) throw invalidTerm();
      const { followers, replicationFactor, namespace, shard, term } = request;
      if (followers.length > replicationFactor - 1) throw new Refusal("UNKNOWN", "too many cursors");
      if (followers.some(({ head }) => head.term > this.#log.head.term)) throw invalidTerm();
      const parts = { log: this.#log, state: this.#state, committed: this.#committed, replicationFactor };
      const leading = new ReferenceLeading(this.#ports, { shard: { namespace, shard, term }, ...parts });
      this.#leading = leading;
      try {
        await leading.start(followers, request.features);
      } catch (error) {
        this.#closeLeading();
        throw error;
      }
      this.#status = "LEADER";
    });
  }

  addFollower({ term, server, head, observer }: AddFollowerRequest): Promise<void> {
    return this.#exclusive(async () => {
      if (this.#type !== "leader") throw new Refusal("NODE_IS_NOT_LEADER", "oxia: node is not leader");
      if (term !== this.#term) throw invalidTerm();
      if (this.#status !== "LEADER") throw new Refusal("NODE_IS_NOT_LEADER", "oxia: node is not leader");
      await this.#leading!.add({ server, head, observer });
    });
  }

  async removeObserver({ term, server }: RemoveObserverRequest): Promise<void> {
    if (term !== this.#term) throw invalidTerm();
    if (this.#type !== "leader") throw new Refusal("NODE_IS_NOT_LEADER", "oxia: node is not leader");
    this.#leading?.removeObserver(server);
  }

  async freeze({ term, frozen }: FreezeShardRequest): Promise<Offset> {
    if (this.#type !== "leader") throw new Refusal("NODE_IS_NOT_LEADER", "oxia: node is not leader");
    if (term !== this.#term) throw invalidTerm();
    if (this.#status !== "LEADER") throw new Refusal("INVALID_STATUS", "oxia: invalid status");
    this.#leading!.frozen = frozen;
    return this.#log.head.offset;
  }

  /** A fenced controller that could lead tells no head; a follower tells what it has appended, durable or not. */
  getStatus(): GetStatusResponse {
    const shown = this.#type === "follower" || this.#status === "LEADER";
    return {
      ...NO_FIELDS,
      term: this.#term,
      status: this.#status,
      headOffset: shown ? this.#log.head.offset : NO_OFFSET,
      commitOffset: shown ? (this.#leading?.committed ?? this.#committed) : NO_OFFSET,
      promise: undefined,
      appliedOffset: undefined,
      verifiedOffset: undefined,
      headTerm: undefined,
      headCrc: undefined,
      scanned: undefined,
      frozen: undefined,
    };
  }

  delete({ term }: ShardTerm): Promise<void> {
    return this.#exclusive(async () => {
      if (term < this.#term) throw invalidTerm();
      this.#endStream(new Refusal("RESOURCE_CONFLICT", "oxia: resource not available"));
      this.#closeLeading();
      await this.#log.flushed();
      await removeShard(this.#disk, this.#folder);
    });
  }

  // --- following ----------------------------------------------------------------------------------------------------

  /** Cuts also what is applied. An id above the head is refused, and yet it follows from then on. */
  truncate({ term, keep }: TruncateRequest): Promise<TruncateResponse> {
    return this.#exclusive(async () => {
      this.#toFollower(term);
      if (this.#status !== "FENCED") throw new Refusal("INVALID_STATUS", "oxia: invalid status");
      if (term !== this.#term) throw invalidTerm();
      if (this.#stream !== undefined) throw new Refusal("RESOURCE_CONFLICT", "oxia: resource conflict");
      this.#status = "FOLLOWER";
      if (keep.offset > this.#log.head.offset) {
        throw new Refusal("RESOURCE_UNAVAILABLE", "truncate offset is above the head");
      }
      await this.#log.truncate(keep.offset);
      return { head: { term, offset: this.#log.head.offset }, entryTerm: undefined, headCrc: undefined };
    });
  }

  /** Serves a Replicate stream to its end. */
  async replicate({ term }: ShardTerm, stream: AppendReceiver): Promise<void> {
    this.#toFollower(term);
    if (this.#status === "NOT_MEMBER") throw new Refusal("NODE_IS_NOT_MEMBER", "oxia: node is not member");
    if (this.#status === "LEADER") throw new Refusal("INVALID_STATUS", "oxia: invalid status");
    if (this.#stream !== undefined) throw new Refusal("RESOURCE_CONFLICT", "oxia: resource conflict");
    this.#stream = stream;
    const ended = new Promise<never>((_, reject) => {
      this.#endStream = reject;
    });
    try {
      await Promise.race([this.#receive(stream), ended]);
    } finally {
      if (this.#stream === stream) {
        this.#stream = undefined;
        this.#endStream = () => {};
      }
    }
  }

  /** The files of another kind of server: turned down before anything is destroyed. */
  async sendSnapshot(header: ShardTerm, chunks: SnapshotReceiver): Promise<never> {
    this.#toFollower(header.term);
    if (this.#stream !== undefined) throw new Refusal("RESOURCE_CONFLICT", "oxia: resource conflict");
    const first = await chunks.next();
    const { term } = first ?? header;
    if (term !== this.#term && term !== NO_TERM && this.#term !== NO_TERM) throw invalidTerm();
    throw new Refusal("FAILED_PRECONDITION", "not the files of this storage engine");
  }

  async #receive(stream: AppendReceiver): Promise<void> {
    for (;;) {
      const append = await stream.next();
      if (append === undefined || this.#stream !== stream) return;
      if (append.term !== this.#term && append.term !== NO_TERM) throw invalidTerm();
      if (append.entry === undefined) this.#commitUpTo(append.commitOffset);
      else this.#take(stream, append, append.entry.offset);
    }
  }

  #take(stream: AppendReceiver, append: Append, offset: Offset): void {
    this.#status = "FOLLOWER";
    const { head } = this.#log;
    if (offset <= head.offset) {
      // a duplicate: neither read nor written, and its commit offset is not looked at
      void this.#ackOnceDurable(stream, append, offset);
      return;
    }
    if (offset !== head.offset + 1) {
      const message = `entry ${offset} can not immediately follow ${head.offset}: oxia: invalid next offset in wal`;
      throw new Refusal("UNKNOWN", message);
    }
    this.#log.append(append.entry!);
    void this.#ackOnceDurable(stream, append, offset);
    this.#commitUpTo(append.commitOffset);
  }

  async #ackOnceDurable(stream: AppendReceiver, append: Append, offset: Offset): Promise<void> {
    if (offset > this.#log.durableOffset) await this.#log.flushed();
    if (this.#stream !== stream) return;
    const acked = append.cumulativeAcksSupported ? Math.max(offset, this.#log.durableOffset) : offset;
    const ack: Ack = { offset: acked, readRound: undefined, promise: undefined };
    stream.send(ack);
  }

  #commitUpTo(offset: Offset): void {
    this.#committed = Math.max(this.#committed, Math.min(offset, this.#log.head.offset));
    for (let next = this.#state.applied + 1; next <= this.#committed && !this.#state.stopped; next++) {
      const entry = this.#log.entry(next);
      if (entry === undefined) return;
      this.#state.apply(entry);
    }
  }

  // --- inside -------------------------------------------------------------------------------------------------------

  /** Whoever could lead, or leads, is made a follower by a call of its own term, or of none. */
  #toFollower(term: Term): void {
    if (this.#type === "follower") return;
    if (term !== this.#term && term !== NO_TERM) throw invalidTerm();
    if (this.#status === "LEADER") this.#status = "FENCED";
    this.#closeLeading();
    this.#type = "follower";
  }

  #closeLeading(): void {
    if (this.#leading === undefined) return;
    this.#committed = Math.max(this.#committed, this.#leading.committed);
    this.#leading.close(new Refusal("RESOURCE_UNAVAILABLE", "oxia: resource not available"));
    this.#leading = undefined;
  }

  #exclusive<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#busy.then(run);
    this.#busy = result.catch(() => {});
    return result;
  }
}

function invalidTerm(): Refusal {
  return new Refusal("INVALID_TERM", "oxia: invalid term");
}
