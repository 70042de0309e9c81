/** A state on its way to another server, as the port has it: pieces from wherever the state is read, cut when the receiver is too slow. */
import { assert } from "../../lib/assert.ts";
import type { Bytes } from "../../lib/bytes.ts";
import { Refusal } from "../../model/refusal.ts";
import type { AppliedState, Clock, StateSender } from "../../ports.ts";
import { hashToBigInt } from "./record-hash.ts";
import { SendPace } from "./send-pace.ts";
import type { StoredState } from "./stored-state.ts";

/** Where pieces come from. */
export interface PieceSource {
  /** The next one, undefined at the end. */
  next(): Promise<Bytes | undefined>;
  /** Gives back what is pinned. Called once, perhaps while `next` is at work. */
  close(): Promise<void>;
}

export class PacedSender implements StateSender {
  readonly applied: AppliedState;
  readonly rowCount: number;
  readonly stateHash: bigint;
  readonly #source: PieceSource;
  readonly #pace: SendPace;
  #state: "open" | "released" | "cut" = "open";
  /** Resolves once nothing is pinned any more. */
  readonly closed: Promise<void>;
  #close: (closed: Promise<void>) => void = () => {};

  /** Owns `source`. */
  constructor({ applied, rowCount, hash }: StoredState, source: PieceSource, clock: Clock) {
    this.applied = applied;
    this.rowCount = rowCount;
    this.stateHash = hashToBigInt(hash);
    this.#source = source;
    this.closed = new Promise((resolve) => {
      this.#close = resolve;
    });
    this.#pace = new SendPace(clock, () => this.cut());
  }

  async next(): Promise<Bytes | undefined> {
    this.#check();
    let piece: Bytes | undefined;
    try {
      piece = await this.#source.next();
    } catch (error) {
      this.#check();
      throw error;
    }
    this.#check();
    this.#pace.took(piece?.length ?? 0);
    return piece;
  }

  release(): void {
    this.#end("released");
  }

  /** The state is not there any more, or the receiver was too slow. */
  cut(): void {
    this.#end("cut");
  }

  #end(state: "released" | "cut"): void {
    if (this.#state !== "open") return;
    this.#state = state;
    this.#pace.stop();
    this.#close(this.#source.close());
  }

  #check(): void {
    if (this.#state === "cut") throw new Refusal("ABORTED", "the state was cut off while it was sent: begin again");
    assert(this.#state === "open", "a state was sent after its release");
  }
}
