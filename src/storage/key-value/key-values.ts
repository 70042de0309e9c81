/**
 * The key-value states of a data server on SQLite: `<directory>/<namespace>/shard-<id>.sqlite`, with what is on its way
 * in beside it (state-files.ts). What is asked for one shard is done in the order in which it was asked.
 */
import { join } from "node:path";
import type { EntryId, Offset, ShardId } from "../../model/ids.ts";
import { keyOrder } from "../../model/keys.ts";
import type { Damage, KeyValuePlace, KeyValues, StateReceiver } from "../../ports.ts";
import { KeyValueNode, type KeyValueNodeOptions } from "./node.ts";
import type { SqliteKeyValue } from "./shard-state.ts";
import { SteppedReceiver } from "./state-receiver.ts";

export interface SqliteKeyValuesOptions extends KeyValueNodeOptions {
  /** The data directory. */
  readonly directory: string;
  /** Whether every record is checked when a state is opened. */
  readonly verify: boolean;
  /** What becomes of a damaged state; default "refuse", which leaves it as it is. */
  readonly onDamage?: (place: KeyValuePlace) => "refuse" | "salvage";
  /** Told up to where a shard's state is in a synced checkpoint: its log may be trimmed up to there. */
  readonly released: (shard: ShardId, upToInclusive: Offset) => void;
}

/** A shard's files, and what is being done with them. */
interface Place {
  readonly shard: ShardId;
  /** Settles when nothing is being done any more. */
  turn: Promise<unknown>;
  receiver: SteppedReceiver<SqliteKeyValue> | undefined;
}

export class SqliteKeyValues implements KeyValues {
  /** Budgets, counters, and the shards that are open. */
  readonly node: KeyValueNode;
  readonly #options: SqliteKeyValuesOptions;
  /** By the path of the state. */
  readonly #places = new Map<string, Place>();

  constructor(options: SqliteKeyValuesOptions) {
    this.#options = options;
    this.node = new KeyValueNode(options);
    this.node.onDurable = (path, offset) => options.released(this.#places.get(path)!.shard, offset);
  }

  open(
    place: KeyValuePlace,
    base: EntryId,
  ): Promise<{ readonly keyValue: SqliteKeyValue } | { readonly damage: Damage }> {
    const { verify, onDamage = () => "refuse" } = this.#options;
    const order = keyOrder(place.sorting);
    return this.#inTurn(place, (path) => this.node.open({ path, order, verify, onDamage: onDamage(place), base }));
  }

  receive(place: KeyValuePlace): Promise<StateReceiver> {
    return this.#inTurn(place, async (path, at) => {
      await at.receiver?.drop();
      const writing = await this.node.receive(path, place.sorting);
      at.receiver = new SteppedReceiver(writing, (receiver) =>
        this.#inTurn(place, () => {
          receiver.beginSwitch();
          return this.node.replace(path, keyOrder(place.sorting));
        }),
      );
      return at.receiver;
    });
  }

  remove(place: Pick<KeyValuePlace, "namespace" | "shard">): Promise<void> {
    return this.#inTurn(place, async (path, at) => {
      await at.receiver?.drop();
      at.receiver = undefined;
      await this.node.remove(path);
    });
  }

  /** What a shard's state takes on disk, as of its last flush. */
  fileBytesOf(place: Pick<KeyValuePlace, "namespace" | "shard">): number {
    return this.node.fileBytesOf(this.#pathOf(place));
  }

  /** Flushes and closes all. A state that was received whole stays beside the one that it has not replaced. */
  async close(): Promise<void> {
    for (const at of this.#places.values()) {
      await at.turn;
      await at.receiver?.close();
    }
    await this.node.close();
  }

  #pathOf({ namespace, shard }: Pick<KeyValuePlace, "namespace" | "shard">): string {
    return join(this.#options.directory, directoryOf(namespace), `shard-${shard}.sqlite`);
  }

  #inTurn<T>(
    of: Pick<KeyValuePlace, "namespace" | "shard">,
    work: (path: string, at: Place) => Promise<T>,
  ): Promise<T> {
    const path = this.#pathOf(of);
    let at = this.#places.get(path);
    if (at === undefined) {
      at = { shard: of.shard, turn: Promise.resolve(), receiver: undefined };
      this.#places.set(path, at);
    }
    const place = at;
    const done = place.turn.then(() => work(path, place));
    place.turn = done.catch(() => {});
    return done;
  }
}

/** A directory's name for any namespace: letters, digits and a few more stay as they are. */
function directoryOf(namespace: string): string {
  return encodeURIComponent(namespace).replace(/^\.+$/, (dots) => dots.replaceAll(".", "%2E"));
}
