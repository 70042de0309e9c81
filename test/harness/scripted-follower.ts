/**
 * Followers of a leader under test: each keeps a log of its own and answers by the rules, over streams without delay, or
 * as a test scripts it. Everything that a leader sends is kept to be looked at.
 */
import { EMPTY_HEAD, type Head, type LogEntry, NO_OFFSET, type Offset, type ReplicaId } from "../../src/model/ids.ts";
import type {
  Ack,
  Append,
  GetStatusResponse,
  NewTermRequest,
  NewTermResponse,
  SnapshotChunk,
  SnapshotResponse,
  TruncateRequest,
  TruncateResponse,
} from "../../src/model/peer-messages.ts";
import { Refusal, Unreachable } from "../../src/model/refusal.ts";
import type { AppendStream, Followers, SnapshotStream } from "../../src/ports.ts";
import { entryCrc } from "../../src/wire/entry-crc.ts";

/** A queue with one reader. */
class Answers<T> {
  #items: T[] = [];
  #reader: { resolve(item: T | undefined): void; reject(error: unknown): void } | undefined;
  #end: { readonly error: unknown } | undefined;

  push(item: T): void {
    if (this.#end !== undefined) return;
    if (this.#reader === undefined) this.#items.push(item);
    else this.#reader.resolve(item);
    this.#reader = undefined;
  }

  end(error?: unknown): void {
    this.#end ??= { error };
    if (error === undefined) this.#reader?.resolve(undefined);
    else this.#reader?.reject(error);
    this.#reader = undefined;
  }

  next(): Promise<T | undefined> {
    const item = this.#items.shift();
    if (item !== undefined) return Promise.resolve(item);
    if (this.#end?.error !== undefined) return Promise.reject(this.#end.error);
    if (this.#end !== undefined) return Promise.resolve(undefined);
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
    });
  }
}

export class ScriptedFollower {
  readonly server: string;
  readonly replicaId: ReplicaId;
  /** A server of the reference: no ids, no chain, no answers to messages without an entry. */
  readonly isReference: boolean;
  promise: number;
  entries: LogEntry[] = [];
  /** Entries up to here are acked; undefined: all. */
  syncsUpTo: Offset | undefined;
  /** Whether streams open, and calls are answered. */
  reachable = true;
  /** What Replicate, Truncate and SendSnapshot are refused with. */
  refuses: Refusal | undefined;
  /** Truncations may be carried out or not: nobody answers them. */
  losesTruncations = false;
  /** Whether messages are read; if not, `send` answers false. */
  reads = true;
  /** Whether acks echo rounds. */
  echoes = true;
  base: Head = EMPTY_HEAD;
  verified = NO_OFFSET;
  commitOffset = NO_OFFSET;
  readonly received: Append[] = [];
  readonly calls: string[] = [];
  readonly chunks: SnapshotChunk[] = [];
  #acks: Answers<Ack> | undefined;
  #drains: (() => void)[] = [];
  #round = 0;
  /** What was computed of the chain, as long as entries are only added. */
  #chain: { readonly of: readonly LogEntry[]; readonly heads: Head[] } = { of: [], heads: [EMPTY_HEAD] };

  constructor(server: string, replicaId: ReplicaId, promise: number, { isReference = false } = {}) {
    this.server = server;
    this.replicaId = replicaId;
    this.promise = promise;
    this.isReference = isReference;
  }

  get head(): Head {
    return this.chain().at(-1)!;
  }

  get streaming(): boolean {
    return this.#acks !== undefined;
  }

  /** The base and every entry behind it, each with the chain's value. */
  chain(): readonly Head[] {
    if (this.#chain.of !== this.entries || this.#chain.heads[0] !== this.base) {
      this.#chain = { of: this.entries, heads: [this.base] };
    }
    const { heads } = this.#chain;
    for (const entry of this.entries.slice(heads.length - 1)) {
      heads.push({ term: entry.term, offset: entry.offset, crc: entryCrc(heads.at(-1)!.crc, entry) });
    }
    return heads;
  }

  at(offset: Offset): Head | undefined {
    return this.chain().find((head) => head.offset === offset);
  }

  /** Breaks the open stream. */
  breakStream(error: unknown = new Unreachable("broken")): void {
    const acks = this.#acks;
    this.#acks = undefined;
    acks?.end(error);
  }

  /** Acks what it has now. */
  ack(fields: Partial<Ack> = {}): void {
    const durable = Math.min(this.head.offset, this.syncsUpTo ?? this.head.offset);
    const offset = this.isReference ? durable : Math.max(NO_OFFSET, Math.min(durable, this.verified));
    const ours = this.isReference ? undefined : this.promise;
    const readRound = this.isReference ? undefined : this.#round;
    this.#acks?.push({ offset, readRound, promise: ours, ...fields });
  }

  /** Reads again. */
  drain(): void {
    this.reads = true;
    for (const drained of this.#drains.splice(0)) drained();
  }

  // --- as the leader calls it ---------------------------------------------------------------------------------------

  #requireReachable(call: string): void {
    this.calls.push(call);
    if (!this.reachable) throw new Unreachable(`${this.server} cannot be reached`);
  }

  async getStatus(): Promise<GetStatusResponse> {
    this.#requireReachable("GetStatus");
    const { head, promise } = this;
    const ours = this.isReference ? undefined : head;
    return {
      term: promise,
      status: "FOLLOWER",
      headOffset: head.offset,
      commitOffset: this.commitOffset,
      replicaId: ours && this.replicaId,
      ended: ours && "",
      promise: ours && promise,
      appliedOffset: ours && this.commitOffset,
      verifiedOffset: ours && this.verified,
      headTerm: ours?.term,
      headCrc: ours?.crc,
      scanned: ours && true,
      frozen: ours && false,
    };
  }

  async newTerm({ term }: NewTermRequest): Promise<NewTermResponse> {
    this.#requireReachable("NewTerm");
    if (term < this.promise) throw new Refusal("INVALID_TERM", "a later term");
    this.promise = term;
    this.breakStream();
    const { term: headTerm, offset } = this.head;
    const head = { term: headTerm, offset, crc: undefined };
    return { head, replicaId: undefined, ended: undefined, mintedTerm: undefined };
  }

  async truncate({ term, keep, expectedHead }: TruncateRequest): Promise<TruncateResponse> {
    this.#requireReachable(`Truncate ${keep.offset}`);
    if (this.losesTruncations) throw new Unreachable(`${this.server} does not answer`);
    if (this.refuses !== undefined) throw this.refuses;
    const { offset, crc } = this.head;
    if (expectedHead !== undefined && (expectedHead.offset !== offset || expectedHead.crc !== crc)) {
      throw new Refusal("RESOURCE_CONFLICT", "another head");
    }
    this.entries = this.entries.filter((entry) => entry.offset <= keep.offset);
    const { head } = this;
    const answered = { head: { term, offset: head.offset } };
    if (this.isReference) return { ...answered, entryTerm: undefined, headCrc: undefined };
    return { ...answered, entryTerm: head.term, headCrc: head.crc };
  }

  replicate(): AppendStream {
    this.calls.push("Replicate");
    const acks = new Answers<Ack>();
    if (!this.reachable) acks.end(new Unreachable(`${this.server} cannot be reached`));
    else if (this.refuses !== undefined) acks.end(this.refuses);
    else this.#acks = acks;
    return {
      send: (append) => {
        if (this.#acks === acks) this.#take(append);
        return this.reads;
      },
      drained: () => (this.reads ? Promise.resolve() : new Promise((resolve) => this.#drains.push(resolve))),
      next: () => acks.next(),
      cancel: () => {
        acks.end(new Unreachable("cancelled"));
        if (this.#acks === acks) this.#acks = undefined;
      },
    };
  }

  #take(append: Append): void {
    this.received.push(append);
    const { entry, previousTerm, previousCrc, commitOffset, readRound, ackedOffset } = append;
    if (ackedOffset !== undefined && !this.isReference) this.verified = Math.max(this.verified, ackedOffset);
    if (this.echoes) this.#round = Math.max(this.#round, readRound ?? 0);
    if (entry !== undefined) {
      const before = this.at(entry.offset - 1);
      const differs = !this.isReference && (before?.term !== previousTerm || before?.crc !== previousCrc);
      if (before === undefined || differs) {
        this.breakStream(new Refusal("RESOURCE_CONFLICT", "the entry before is another one, or none"));
        return;
      }
      if (this.at(entry.offset) === undefined) this.entries.push(entry);
      this.verified = Math.max(this.verified, entry.offset);
    }
    this.commitOffset = Math.max(this.commitOffset, Math.min(commitOffset, this.verified));
    if (entry !== undefined || !this.isReference) this.ack();
  }

  sendSnapshot(): SnapshotStream {
    this.calls.push("SendSnapshot");
    const ended = Promise.withResolvers<void>();
    const chunks: SnapshotChunk[] = [];
    if (!this.reachable || this.refuses !== undefined) ended.resolve();
    return {
      send: (chunk) => {
        chunks.push(chunk);
        this.chunks.push(chunk);
        return true;
      },
      drained: () => Promise.resolve(),
      finish: async (): Promise<SnapshotResponse> => {
        if (!this.reachable) throw new Unreachable(`${this.server} cannot be reached`);
        if (this.refuses !== undefined) throw this.refuses;
        const last = chunks[0]!.last!;
        this.base = last;
        this.entries = [];
        this.verified = last.offset;
        return { ackOffset: last.offset };
      },
      ended: ended.promise,
      cancel: () => ended.resolve(),
    };
  }
}

/** The port, by server name. */
export function scriptedFollowers(followers: readonly ScriptedFollower[]): Followers {
  const named = (server: string): ScriptedFollower => {
    const found = followers.find((follower) => follower.server === server);
    if (found === undefined) throw new Error(`no follower ${server}`);
    return found;
  };
  return {
    newTerm: (server, request) => named(server).newTerm(request),
    truncate: (server, request) => named(server).truncate(request),
    getStatus: (server) => named(server).getStatus(),
    replicate: (server) => named(server).replicate(),
    sendSnapshot: (server) => named(server).sendSnapshot(),
  };
}
