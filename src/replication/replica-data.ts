/**
 * What one replica has on disk: its record and entries in the node's log, its key-value state, what it was told. The
 * state must lie within the log, neither ahead of its head nor behind its first entry, nor behind a checkpoint that it has
 * had: the log may let go what that holds (safety.md §7).
 *
 *     erase     state removed → log removed → text deleted      a crash in between leaves an ended replica, or nothing
 *     mint      erase → text stored → state made → log created      nothing lives here before the last step
 */
import { EMPTY_HEAD, type EntryId, type Head, NO_OFFSET, type Offset, type ShardId } from "../model/ids.ts";
import type { Damage, Documents, KeyValue, KeyValues, Log, ReplicaLife, ReplicaLog } from "../ports.ts";
import { encodeTold, sameTold, type Told } from "./told.ts";

export interface DataPorts {
  readonly log: Log;
  readonly keyValues: KeyValues;
  readonly documents: Documents;
}

/** Name of the text that holds what was told of a shard. */
export const toldName = (shard: ShardId): string => `shard-${shard}`;

export class ReplicaData {
  readonly #ports: DataPorts;
  readonly #shard: ShardId;
  #told: Told | undefined;
  #kv: KeyValue | undefined;

  constructor(ports: DataPorts, shard: ShardId, told: Told | undefined) {
    this.#ports = ports;
    this.#shard = shard;
    this.#told = told;
  }

  get told(): Told | undefined {
    return this.#told;
  }

  /** The state, once it is open. */
  get kv(): KeyValue | undefined {
    return this.#kv;
  }

  /** Where the log begins: it changes as it is trimmed, and with an installed snapshot. */
  get base(): Head {
    return this.#inLog?.base ?? EMPTY_HEAD;
  }

  get #inLog(): ReplicaLog | undefined {
    return this.#ports.log.replica(this.#shard);
  }

  /** Durable once it resolves. */
  async remember(told: Told): Promise<void> {
    if (sameTold(this.#told, told)) return;
    await this.#ports.documents.put(toldName(this.#shard), encodeTold(told));
    this.#told = told;
  }

  /** Opens the state, if it is not open, beside a log with this head. Resolves with damage when it cannot be trusted. */
  async open(head: EntryId): Promise<Damage | undefined> {
    const told = this.#told;
    if (told === undefined || this.#kv !== undefined) return undefined;
    const { base, released } = this.#inLog ?? { base: EMPTY_HEAD, released: NO_OFFSET };
    const opened = await this.#ports.keyValues.open(placeOf(told, this.#shard), base);
    if ("damage" in opened) return opened.damage;
    const begins = Math.max(base.offset, released);
    const misfit = misfitOf(opened.keyValue, { begins, head: head.offset }, `${told.namespace}/shard-${this.#shard}`);
    if (misfit === undefined) this.#kv = opened.keyValue;
    else await opened.keyValue.close();
    return misfit;
  }

  /** A replica from nothing. What stood here before is removed; resolves with what the log has of it now. */
  async mint(life: ReplicaLife, told: Told): Promise<ReplicaLog> {
    await this.erase(told);
    await this.remember(told);
    // a disk that is full is found before the step after which there is a replica: its id can then be minted again
    const damage = await this.open(EMPTY_HEAD);
    if (damage !== undefined) throw new Error(`${damage.file}: ${damage.where}: ${damage.what}`);
    return this.#ports.log.create(this.#shard, life);
  }

  /** Removes all that stands here: its id must have ended. */
  async erase(told = this.#told): Promise<void> {
    const kv = this.#kv;
    this.#kv = undefined;
    if (kv !== undefined) await kv.close();
    if (told !== undefined) await this.#ports.keyValues.remove({ namespace: told.namespace, shard: this.#shard });
    await this.#ports.log.remove(this.#shard);
    if (this.#told === undefined) return;
    await this.#ports.documents.put(toldName(this.#shard), undefined);
    this.#told = undefined;
  }

  /** A received state has taken the place of the one that stood. */
  switched(kv: KeyValue): void {
    this.#kv = kv;
  }

  /** Closes the state. */
  async close(): Promise<void> {
    const kv = this.#kv;
    this.#kv = undefined;
    await kv?.close();
  }
}

export function placeOf({ namespace, options }: Told, shard: ShardId) {
  return { namespace, shard, sorting: options.keySorting };
}

/** `begins`: the entries up to there are gone, or may go at any time, since a checkpoint of the state has had them. */
function misfitOf(kv: KeyValue, log: { readonly begins: Offset; readonly head: Offset }, file: string) {
  const { offset } = kv.applied;
  if (offset > log.head) {
    return {
      file,
      where: `offset ${offset}`,
      what: `the key-value state is ahead of the log, whose head is ${log.head}`,
    };
  }
  if (offset < log.begins) {
    const what = `the key-value state needs entries that the log does not keep: it begins at ${log.begins + 1}`;
    return { file, where: `offset ${offset + 1}`, what };
  }
  return undefined;
}
