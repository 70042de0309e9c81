/** What the clients of one run have asked for and were told, in the forms in which it is judged. */
import { History } from "../history.ts";

/** A put that was sent, of any kind. */
export interface SentPut {
  readonly value: string;
  readonly shard: number;
  /** Of a sequence: its prefix. */
  readonly key: string;
  /** Set for a put of a sequence. */
  readonly deltas: readonly number[] | undefined;
  readonly ephemeral: boolean;
  readonly invokedMs: number;
  /** What the client was told: the key and the version. */
  stored: { readonly key: string; readonly version: number; readonly atMs: number } | undefined;
  /** Sent so many times more: each may have been carried out. */
  repeats: number;
  /** Not carried out, for certain. */
  refused: boolean;
}

/** A delete that found a record, for certain. */
export interface ToldDelete {
  readonly shard: number;
  readonly key: string;
}

export class Record {
  readonly #histories = new Map<number, History>();
  readonly puts = new Map<string, SentPut>();
  readonly deletes: ToldDelete[] = [];
  readonly #acked: (shard: number, version: number) => void;
  /** Values of records are numbered over the whole run. */
  #values = 0;

  /** `acked`: is told of each put that was answered, at that moment. */
  constructor(acked: (shard: number, version: number) => void = () => {}) {
    this.#acked = acked;
  }

  history(shard: number): History {
    let history = this.#histories.get(shard);
    if (history === undefined) {
      history = new History();
      this.#histories.set(shard, history);
    }
    return history;
  }

  histories(): ReadonlyMap<number, History> {
    return this.#histories;
  }

  /** A client was told that its put is stored. */
  acked(sent: SentPut, stored: NonNullable<SentPut["stored"]>): void {
    sent.stored = stored;
    this.#acked(sent.shard, stored.version);
  }

  newValue(client: string): string {
    return `${client}/${this.#values++}`;
  }

  sent(put: Pick<SentPut, "value" | "shard" | "key" | "deltas" | "ephemeral" | "invokedMs">): SentPut {
    const sent: SentPut = { ...put, stored: undefined, repeats: 0, refused: false };
    this.puts.set(put.value, sent);
    return sent;
  }
}
