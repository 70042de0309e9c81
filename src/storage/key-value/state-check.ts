/** Whether a state that comes from another server is what its sender says: checked item by item, and as a whole in the end. */
import type { EntryId, Offset } from "../../model/ids.ts";
import { type KeySorting, keyOrder } from "../../model/keys.ts";
import { Refusal } from "../../model/refusal.ts";
import type { NotificationEntries } from "../../ports.ts";
import type { StoredBlock } from "./block.ts";
import { hashToBigInt, sameHash } from "./record-hash.ts";
import type { StateHead, StateItem } from "./state-items.ts";
import { RecordCheck } from "./verify.ts";

/** What the sender says of the state once it is all sent. */
export interface StateClaim {
  readonly applied: EntryId;
  readonly rowCount: number;
  readonly stateHash: bigint;
}

export class StateCheck {
  readonly #sorting: KeySorting;
  readonly #records: RecordCheck;
  #head: StateHead | undefined;
  /** The last entry that told anything, of those that came. */
  #told: Offset | undefined;
  #isEnded = false;

  constructor(sorting: KeySorting) {
    this.#sorting = sorting;
    this.#records = new RecordCheck(keyOrder(sorting));
  }

  /** The last entry before the next notification that told anything; after the head. */
  get told(): Offset {
    return this.#told ?? this.#head!.trimmed;
  }

  /** Checks the next item. Its bytes must stay as they are until the next one. Throws INVALID_ARGUMENT. */
  add(item: StateItem): void {
    const isFirst = this.#head === undefined;
    if (this.#isEnded || (item.kind === "head") !== isFirst) throw notWhole("its parts are out of order");
    switch (item.kind) {
      case "head":
        if (item.head.sorting !== this.#sorting) throw notWhole("its keys are sorted otherwise");
        this.#head = item.head;
        break;
      case "block":
        if (this.#told !== undefined) throw notWhole("its parts are out of order");
        this.#addBlock(item.block);
        break;
      case "notification":
        this.#addNotification(item.told);
        break;
      case "end":
        if (this.told !== this.#head!.state.told) throw notWhole("notifications are missing");
        this.#isEnded = true;
        break;
    }
  }

  /** What the state is at, once all of it has come. Throws INVALID_ARGUMENT when it is not what is claimed. */
  whole({ applied, rowCount, stateHash }: StateClaim): StateHead {
    const head = this.#head;
    if (head === undefined || !this.#isEnded) throw notWhole("it ends in the middle");
    const { state } = head;
    if (state.applied.offset !== applied.offset || state.applied.term !== applied.term) {
      throw notWhole(`it is at entry ${state.applied.offset}, not at ${applied.offset}, or of another term`);
    }
    const { count, hash } = this.#records;
    if (count !== rowCount || count !== state.rowCount) throw notWhole(`it has ${count} records, not ${rowCount}`);
    if (!sameHash(hash, state.hash) || hashToBigInt(hash) !== stateHash)
      throw notWhole("its records have another hash");
    return head;
  }

  #addBlock(block: StoredBlock): void {
    let wrong: string | undefined;
    try {
      wrong = this.#records.add(block);
    } catch (cause) {
      throw new Refusal("INVALID_ARGUMENT", "a state that was sent has a block that cannot be read", { cause });
    }
    if (wrong !== undefined) throw notWhole(wrong);
  }

  #addNotification({ offset }: NotificationEntries): void {
    if (offset <= this.told || offset > this.#head!.state.told) throw notWhole("notifications are out of order");
    this.#told = offset;
  }
}

function notWhole(what: string): Refusal {
  return new Refusal("INVALID_ARGUMENT", `a state that was sent is not whole: ${what}`);
}
