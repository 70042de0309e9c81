/**
 * The KeyValues port on a simulated disk: a state a shard (disk-key-value.ts), and beside it one that another server
 * sends. What is asked for one shard is done in the order in which it was asked.
 *
 *     kv/shard-3            what stands
 *     kv/shard-3.incoming   pieces of a state on its way in: of no use after a crash
 *     kv/shard-3.received   one that is whole; taken up at a start when the shard's log begins with it
 */
import { assert } from "../../src/lib/assert.ts";
import type { Bytes } from "../../src/lib/bytes.ts";
import { type EntryId, NO_OFFSET, type Offset, type ShardId } from "../../src/model/ids.ts";
import { keyOrder } from "../../src/model/keys.ts";
import { Refusal } from "../../src/model/refusal.ts";
import type { Damage, KeyValuePlace, KeyValues, StateReceiver } from "../../src/ports.ts";
import type { StateClaim } from "../../src/storage/key-value/state-check.ts";
import { SteppedReceiver, type Writing } from "../../src/storage/key-value/state-receiver.ts";
import { DiskFull, type MountedDisk } from "./disk.ts";
import { bytesOf, type DiskKeyValue, keyValueName, openDiskKeyValue } from "./disk-key-value.ts";
import type { ModelState } from "./model-rows.ts";
import { ModelStateReader } from "./model-state.ts";
import type { Life } from "./node.ts";

export interface DiskKeyValuesOptions {
  readonly life: Life;
  readonly disk: MountedDisk;
  /** Told up to where a shard's state is in a synced checkpoint. */
  readonly released?: (shard: ShardId, upToInclusive: Offset) => void;
  /** As those of DiskKeyValue. */
  readonly flushCommits?: number;
  readonly unflushedCommitsMax?: number;
  readonly pieceBytesMax?: number;
}

interface Place {
  /** Settles when nothing is being done with the shard any more. */
  turn: Promise<unknown>;
  keyValue: DiskKeyValue | undefined;
  receiver: SteppedReceiver<DiskKeyValue> | undefined;
}

function incomingName(shard: ShardId): string {
  return `${keyValueName(shard)}.incoming`;
}

function receivedName(shard: ShardId): string {
  return `${keyValueName(shard)}.received`;
}

/** All that a transfer may leave behind; `replace` writes beside the file that it replaces. */
function transferNames(shard: ShardId): string[] {
  return [incomingName(shard), receivedName(shard), `${receivedName(shard)}.new`];
}

export class DiskKeyValues implements KeyValues {
  readonly #options: DiskKeyValuesOptions;
  readonly #places = new Map<ShardId, Place>();

  constructor(options: DiskKeyValuesOptions) {
    this.#options = options;
  }

  open(
    place: KeyValuePlace,
    base: EntryId,
  ): Promise<{ readonly keyValue: DiskKeyValue } | { readonly damage: Damage }> {
    return this.#inTurn(place.shard, async (at) => {
      await this.#settle(place.shard, base);
      const keyValue = await this.#open(place, at);
      return keyValue.damage === undefined ? { keyValue } : { damage: keyValue.damage };
    });
  }

  receive(place: KeyValuePlace): Promise<StateReceiver> {
    return this.#inTurn(place.shard, async (at) => {
      await at.receiver?.drop();
      await removeFiles(this.#options.disk, transferNames(place.shard));
      at.receiver = new SteppedReceiver(new DiskWriting(this.#options.disk, place), (receiver) =>
        this.#inTurn(place.shard, () => {
          receiver.beginSwitch();
          return this.#switch(place, at);
        }),
      );
      return at.receiver;
    });
  }

  remove({ shard }: Pick<KeyValuePlace, "shard">): Promise<void> {
    return this.#inTurn(shard, async (at) => {
      await at.receiver?.drop();
      at.receiver = undefined;
      await at.keyValue?.abandon();
      at.keyValue = undefined;
      const own = keyValueName(shard);
      await removeFiles(
        this.#options.disk,
        this.#options.disk.names().filter((name) => name === own || name.startsWith(`${own}.`)),
      );
    });
  }

  /** Flushes and closes all. A state that was received whole stays beside the one that it has not replaced. */
  async close(): Promise<void> {
    for (const at of this.#places.values()) {
      await at.turn;
      await at.receiver?.close();
      await at.keyValue?.close();
    }
  }

  async #open(place: KeyValuePlace, at: Place): Promise<DiskKeyValue> {
    assert(at.keyValue?.isClosed !== false, "a state was opened twice", place.shard);
    const { released = () => {} } = this.#options;
    const keyValue = await openDiskKeyValue({
      ...this.#options,
      shard: place.shard,
      order: keyOrder(place.sorting),
      released: (offset) => released(place.shard, offset),
    });
    if (keyValue.damage === undefined) at.keyValue = keyValue;
    return keyValue;
  }

  /** Takes up a received state that ends with `base` if what stands is behind it; removes what else was left behind. */
  async #settle(shard: ShardId, base: EntryId): Promise<void> {
    const { disk } = this.#options;
    const received = await this.#appliedOf(receivedName(shard));
    const isDue = received?.offset === base.offset && received.term === base.term;
    if (isDue && ((await this.#appliedOf(keyValueName(shard)))?.offset ?? NO_OFFSET) < base.offset) {
      await disk.rename(receivedName(shard), keyValueName(shard));
    }
    await removeFiles(this.#options.disk, transferNames(shard));
  }

  /** What the state in a file ends with; undefined when there is none, or it is damaged. */
  async #appliedOf(name: string): Promise<EntryId | undefined> {
    const { disk } = this.#options;
    if (!disk.names().includes(name)) return undefined;
    const [found] = (await disk.read<ModelState>(name)) ?? [];
    return found === undefined || found.bad ? undefined : found.record.applied;
  }

  async #switch(place: KeyValuePlace, at: Place): Promise<DiskKeyValue> {
    await at.keyValue?.abandon();
    at.keyValue = undefined;
    const { disk } = this.#options;
    await disk.rename(receivedName(place.shard), keyValueName(place.shard));
    const keyValue = await this.#open(place, at);
    if (keyValue.damage !== undefined) throw new Refusal("DATA_LOSS", `${keyValue.damage.file} was damaged at once`);
    const { name, node } = this.#options.life;
    const { offset } = keyValue.applied;
    node.scheduler.trace.event(node.scheduler.nowMs, name, "switched state", place.shard, offset);
    return keyValue;
  }

  #inTurn<T>(shard: ShardId, work: (at: Place) => Promise<T>): Promise<T> {
    let at = this.#places.get(shard);
    if (at === undefined) {
      at = { turn: Promise.resolve(), keyValue: undefined, receiver: undefined };
      this.#places.set(shard, at);
    }
    const place = at;
    const done = place.turn.then(() => work(place));
    place.turn = done.catch(() => {});
    return done;
  }
}

/** What is received, on a disk. */
class DiskWriting implements Writing {
  readonly #disk: MountedDisk;
  readonly #shard: ShardId;
  readonly #reader: ModelStateReader;

  constructor(disk: MountedDisk, { shard, sorting }: KeyValuePlace) {
    this.#disk = disk;
    this.#shard = shard;
    this.#reader = new ModelStateReader(sorting);
  }

  add(piece: Bytes): Promise<void> {
    return withSpace(async () => {
      this.#reader.add(piece);
      await this.#disk.write(incomingName(this.#shard), [{ record: "piece", bytes: piece.length }]);
    });
  }

  complete(claim: StateClaim): Promise<void> {
    return withSpace(async () => {
      const state = this.#reader.whole(claim);
      await this.#disk.remove(incomingName(this.#shard));
      await this.#disk.replace(receivedName(this.#shard), [{ record: state, bytes: bytesOf(state) }]);
    });
  }

  drop(): Promise<void> {
    return removeFiles(this.#disk, transferNames(this.#shard));
  }

  leave(): void {}
}

async function withSpace(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof DiskFull)) throw error;
    throw new Refusal("RESOURCE_EXHAUSTED", "no space for a state that is received", { cause: error });
  }
}

async function removeFiles(disk: MountedDisk, names: readonly string[]): Promise<void> {
  const there = new Set(disk.names());
  const found = names.filter((name) => there.has(name));
  for (const name of found) await disk.remove(name);
  if (found.length > 0) await disk.syncNames();
}
