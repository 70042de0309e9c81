/**
 * A leader's state on its way to a follower that its log cannot bring up to date:
 *
 *     first chunk: the last entry's id and chain, whom it is for ── pieces ── end mark: what all of it comes to
 *
 * Source: safety.md §6; semantics.md §8.4.
 */
import { EMPTY_BYTES } from "../lib/bytes.ts";
import { type Head, NO_OFFSET } from "../model/ids.ts";
import { PEER_CALL_MS_MAX } from "../model/limits.ts";
import type { SnapshotChunk } from "../model/peer-messages.ts";
import { Refusal } from "../model/refusal.ts";
import type { Followers, KeyValue, SnapshotStream, StateSender } from "../ports.ts";
import { type FollowerAddress, hasId } from "./agree.ts";
import type { OwnLog } from "./own-log.ts";

export interface SnapshotContext {
  readonly log: OwnLog;
  readonly kv: KeyValue;
  readonly followers: Followers;
  /** The leader's own shard. */
  readonly shard: number;
  /** The leader's own state cannot be read. */
  readonly onFault: (error: unknown) => void;
}

/** One snapshot. `cancel` ends it at once: the state is let go and the stream is closed. */
export class SnapshotSending {
  readonly #context: SnapshotContext;
  readonly #follower: FollowerAddress;
  #state: StateSender | undefined;
  #stream: SnapshotStream | undefined;
  #cancelled = false;
  #chunks = 0;

  constructor(context: SnapshotContext, follower: FollowerAddress) {
    this.#context = context;
    this.#follower = follower;
  }

  /**
   * Resolves with the entry that the follower's state now ends with. Rejects as the port does; ABORTED when cancelled. A
   * state in which nothing is applied goes only to a follower whose log has not one entry of this leader's: it makes it
   * begin anew, where a cleared log would do.
   */
  async run({ sharesEntries }: { readonly sharesEntries: boolean }): Promise<Head> {
    const { log, kv, shard } = this.#context;
    try {
      // the reference's snapshots are files of another engine, and it would clear its log for ours
      if (!(await this.#isOurs())) {
        throw new Refusal("FAILED_PRECONDITION", "a reference server takes no snapshot of ours");
      }
      this.#requireGoing();
      const state = await this.#own(kv.send());
      this.#state = state;
      this.#requireGoing();
      const { applied } = state;
      const last = await log.at(shard, applied.offset);
      this.#requireGoing();
      if (last?.term !== applied.term || (sharesEntries && applied.offset === NO_OFFSET)) {
        throw new Refusal("FAILED_PRECONDITION", `the log does not have entry ${applied.offset}`);
      }
      return await this.#send(state, last);
    } finally {
      this.#letGo();
    }
  }

  cancel(): void {
    this.#cancelled = true;
    this.#letGo();
  }

  /** A server without an id may be one of ours under a reference coordinator: then its status tells the term of its head. */
  async #isOurs(): Promise<boolean> {
    const { server, shard } = this.#follower;
    if (hasId(this.#follower)) return true;
    const { followers } = this.#context;
    return (await followers.getStatus(server, { shard }, { timeoutMs: PEER_CALL_MS_MAX })).headTerm !== undefined;
  }

  #letGo(): void {
    this.#state?.release();
    this.#stream?.cancel();
    this.#state = undefined;
    this.#stream = undefined;
  }

  async #send(state: StateSender, last: Head): Promise<Head> {
    const { server, namespace, shard, term } = this.#follower;
    const stream = this.#context.followers.sendSnapshot(server, { namespace, shard, term });
    this.#stream = stream;
    let ended = false;
    const end = stream.ended.then(() => {
      ended = true;
    });
    const chunk = async (fields: Partial<SnapshotChunk>) => {
      if (!stream.send(this.#chunk(last, fields))) await Promise.race([stream.drained(), end]);
      this.#requireGoing();
    };
    for (;;) {
      const content = await this.#own(state.next());
      this.#requireGoing();
      if (content === undefined || ended) break;
      await chunk({ content });
    }
    // what was refused before the end is heard from `finish`
    if (!ended) await chunk({ rowCount: state.rowCount, stateHash: state.stateHash });
    const { ackOffset } = await stream.finish();
    this.#requireGoing();
    if (ackOffset !== last.offset) {
      throw new Refusal("RESOURCE_CONFLICT", `the snapshot ends with ${last.offset}, the answer says ${ackOffset}`);
    }
    return last;
  }

  #chunk(last: Head, fields: Partial<SnapshotChunk>): SnapshotChunk {
    const first = this.#chunks++ === 0;
    return {
      term: this.#follower.term,
      name: `state-${this.#chunks}`,
      content: EMPTY_BYTES,
      chunkIndex: 0,
      chunkCount: 1,
      last: first ? last : undefined,
      replicaId: first ? this.#follower.replicaId : undefined,
      rowCount: undefined,
      stateHash: undefined,
      ...fields,
    };
  }

  /** What the own state says: damage there is no refusal of the follower's. */
  async #own<T>(asked: Promise<T>): Promise<T> {
    try {
      return await asked;
    } catch (error) {
      if (!(error instanceof Refusal) || error.reason === "DATA_LOSS") this.#context.onFault(error);
      throw error;
    }
  }

  #requireGoing(): void {
    if (this.#cancelled) throw new Refusal("ABORTED", "the snapshot was cancelled");
  }
}
