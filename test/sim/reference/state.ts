/** A reference server's key-value state of one shard: in memory, made anew from the log after each start. */
import { Applier } from "../../../src/database/apply.ts";
import type { Bytes } from "../../../src/lib/bytes.ts";
import type { LogEntry, Offset } from "../../../src/model/ids.ts";
import { keyOrder } from "../../../src/model/keys.ts";
import type { TermOptions } from "../../../src/model/peer-messages.ts";
import type { Refusal } from "../../../src/model/refusal.ts";
import { decodeEntryValue } from "../../../src/wire/log-entry.ts";
import { ModelKeyValue } from "../model-key-value.ts";

const CONTROL_TAG = 0x12;
/** Inside a control request: the kinds that the reference applies, `feature_enable` and `record_checksum`. */
const KNOWN_CONTROLS = [0x0a, 0x12];
/** A control entry that enables FEATURE_DB_CHECKSUM. */
export const FEATURE_ENABLE = new Uint8Array([CONTROL_TAG, 5, 0x0a, 3, 0x0a, 1, 1]);

export class ReferenceState {
  readonly #kv: ModelKeyValue;
  readonly #applier: Applier;
  /** An entry that cannot be applied stops it for good. */
  #stopped = false;

  constructor({ keySorting, notificationsEnabled }: TermOptions) {
    const order = keyOrder(keySorting);
    this.#kv = new ModelKeyValue(order);
    this.#applier = new Applier(this.#kv, { order, notificationsEnabled });
  }

  get applied(): Offset {
    return this.#kv.applied.offset;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** Applies the next entry. The answer to a write, where somebody waits for it. */
  apply(entry: LogEntry): Bytes | Refusal | undefined {
    const { value } = entry;
    if (value[0] === CONTROL_TAG && !KNOWN_CONTROLS.includes(value[2]!)) this.#stopped = true;
    if (this.#stopped) return undefined;
    const decoded = decodeEntryValue(value);
    if (decoded.kind === "write" && decoded.writes.length === 1) {
      return this.#applier.applyWrite(decoded.writes[0]!, entry);
    }
    this.#applier.applyEntry(entry);
    return undefined;
  }

  get(key: Bytes): Bytes | undefined {
    return this.#kv.get(key)?.slice();
  }
}
