/** Another server's state on its way in, as the port has it: its steps in their order, whatever it is written to. */
import { assert } from "../../lib/assert.ts";
import type { Bytes } from "../../lib/bytes.ts";
import type { EntryId } from "../../model/ids.ts";
import { Refusal } from "../../model/refusal.ts";
import type { KeyValue, StateReceiver } from "../../ports.ts";
import type { StateClaim } from "./state-check.ts";

/** A state that is being written beside the one that stands. One step at a time; after one that rejects there is only `drop`. */
export interface Writing {
  add(piece: Bytes): Promise<void>;
  complete(claim: StateClaim): Promise<void>;
  /** Removes what was written, also what is complete. Called once. */
  drop(): Promise<void>;
  /** Leaves what was completed where it is. */
  leave(): void;
}

export class SteppedReceiver<State extends KeyValue> implements StateReceiver {
  readonly #writing: Writing;
  readonly #takeOver: (receiver: SteppedReceiver<State>) => Promise<State>;
  #state: "open" | "complete" | "switched" | "dropped" = "open";
  /** Settles when the step that is under way is done. */
  #step: Promise<unknown> | undefined;
  #dropping: Promise<void> | undefined;

  /** Owns `writing`. `takeOver` puts what was written in the place of what stands, once `beginSwitch` has let it. */
  constructor(writing: Writing, takeOver: (receiver: SteppedReceiver<State>) => Promise<State>) {
    this.#writing = writing;
    this.#takeOver = takeOver;
  }

  add(piece: Bytes): Promise<void> {
    return this.#run(() => this.#writing.add(piece));
  }

  async complete(applied: EntryId, rowCount: number, stateHash: bigint): Promise<void> {
    await this.#run(() => this.#writing.complete({ applied, rowCount, stateHash }));
    this.#state = "complete";
  }

  async switchTo(): Promise<State> {
    this.#checkNotDropped();
    assert(this.#state === "complete", "a state was switched to out of turn", this.#state);
    return this.#takeOver(this);
  }

  /** From here on nothing is dropped any more. Throws ABORTED when it was. */
  beginSwitch(): void {
    this.#checkNotDropped();
    this.#state = "switched";
    this.#writing.leave();
  }

  drop(): Promise<void> {
    if (this.#state === "switched") return Promise.resolve();
    this.#state = "dropped";
    this.#dropping ??= this.#dropBehind(this.#step);
    return this.#dropping;
  }

  /** The process ends: what is complete stays for the next start, anything else goes. */
  async close(): Promise<void> {
    if (this.#state === "complete") this.#writing.leave();
    else await this.drop();
  }

  async #dropBehind(step: Promise<unknown> | undefined): Promise<void> {
    await step?.catch(() => {});
    await this.#writing.drop();
  }

  /** What fails takes all that came with it. */
  async #run(step: () => Promise<void>): Promise<void> {
    this.#checkNotDropped();
    assert(this.#state === "open" && this.#step === undefined, "a step of a transfer out of turn", this.#state);
    this.#step = step();
    try {
      await this.#step;
    } catch (error) {
      this.#step = undefined;
      await this.drop();
      throw error;
    }
    this.#step = undefined;
    this.#checkNotDropped();
  }

  #checkNotDropped(): void {
    if (this.#state === "dropped") throw new Refusal("ABORTED", "this transfer of a state was dropped: begin again");
  }
}
