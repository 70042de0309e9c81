/**
 * The KeyValue port with what a crash does to it: ModelKeyValue in memory, and on a simulated disk the state as of the
 * last flush that was completed and synced. That one is read when it is opened again; a checkpoint with a flipped bit
 * is damage, one that is lost is an empty state.
 *
 *     commit  ->  memory  --flush-->  a whole new checkpoint: written beside the old one, synced, renamed
 *
 * Source: safety.md §7: under synchronous=NORMAL a power cut brings the state back to the last synced checkpoint.
 */
import type { Bytes } from "../../src/lib/bytes.ts";
import type { Offset, ShardId, Timestamp } from "../../src/model/ids.ts";
import type { KeyOrder } from "../../src/model/keys.ts";
import { Refusal } from "../../src/model/refusal.ts";
import type {
  AppliedState,
  Cursor,
  Damage,
  KeyRange,
  KeyValue,
  KeyValueSnapshot,
  NotificationEntries,
  StateSender,
} from "../../src/ports.ts";
import { PacedSender } from "../../src/storage/key-value/state-sender.ts";
import { DiskFull, type MountedDisk } from "./disk.ts";
import { ModelKeyValue } from "./model-key-value.ts";
import type { ModelState } from "./model-rows.ts";
import { headOf, pieceWriter } from "./model-state.ts";
import type { Life } from "./node.ts";

export interface DiskKeyValueOptions {
  readonly life: Life;
  readonly disk: MountedDisk;
  readonly shard: ShardId;
  readonly order: KeyOrder;
  /** Commits after which a flush starts by itself; default 64. */
  readonly flushCommits?: number;
  /** Commits that may wait for a flush until `room` asks callers to; default 256. */
  readonly unflushedCommitsMax?: number;
  /** Bytes of one piece of a state that is sent: small, so that a transfer has many steps. Default 1 KiB. */
  readonly pieceBytesMax?: number;
  /** Told up to where the state is in a synced checkpoint. */
  readonly released?: (upToInclusive: Offset) => void;
}

/** How long a flush that found the disk full waits before it tries again. */
const FULL_RETRY_MS = 1_000;

export function keyValueName(shard: ShardId): string {
  return `kv/shard-${shard}`;
}

/** Opens the state of a shard, or makes an empty one. Damage is told by `damage`. */
export async function openDiskKeyValue(options: DiskKeyValueOptions): Promise<DiskKeyValue> {
  const name = keyValueName(options.shard);
  const [found] = (await options.disk.read<ModelState>(name)) ?? [];
  const damage = found?.bad === true ? { file: name, where: "byte 0", what: "its checksum is wrong" } : undefined;
  return new DiskKeyValue(options, damage === undefined ? found?.record : undefined, damage);
}

export class DiskKeyValue implements KeyValue {
  readonly damage: Damage | undefined;
  readonly scanned = true;
  full = false;
  readonly #options: DiskKeyValueOptions;
  readonly #state: ModelKeyValue;
  /** Up to where the state is in a synced checkpoint. */
  #flushed: Offset;
  #unflushedCommits = 0;
  #flushing: Promise<void> | undefined;
  readonly #senders = new Set<PacedSender>();
  #closed = false;

  constructor(options: DiskKeyValueOptions, from: ModelState | undefined, damage: Damage | undefined) {
    this.#options = options;
    this.#state = new ModelKeyValue(options.order, from);
    this.#flushed = this.#state.applied.offset;
    this.damage = damage;
    if (from !== undefined) options.released?.(this.#flushed);
  }

  // --- what lies in memory --------------------------------------------------------------------------------------------

  get applied(): AppliedState {
    return this.#state.applied;
  }

  get rowCount(): number {
    return this.#state.rowCount;
  }

  get stateHash(): bigint {
    return this.#state.stateHash;
  }

  get notificationsTrimmed(): Offset {
    return this.#state.notificationsTrimmed;
  }

  get(key: Bytes): Bytes | undefined {
    this.#checkOpen();
    return this.#state.get(key);
  }

  put(key: Bytes, row: Bytes): void {
    this.#checkOpen();
    this.#state.put(key, row);
  }

  putNew(key: Bytes, row: Bytes): void {
    this.#checkOpen();
    this.#state.putNew(key, row);
  }

  delete(key: Bytes): boolean {
    this.#checkOpen();
    return this.#state.delete(key);
  }

  rollback(): void {
    this.#state.rollback();
  }

  ordered(): Promise<void> {
    return this.#state.ordered();
  }

  cursor(range: KeyRange): Cursor {
    this.#checkOpen();
    return this.#state.cursor(range);
  }

  async snapshot(): Promise<KeyValueSnapshot> {
    this.#checkOpen();
    const { applied, cursor, get, release } = await this.#state.snapshot();
    return {
      applied,
      cursor: (range) => this.#checked(cursor(range)),
      get: (key) => {
        this.#checkOpen();
        return get(key);
      },
      release,
    };
  }

  /** A cursor of a snapshot: it moves as long as the state stands. */
  #checked(cursor: Cursor): Cursor {
    const check = () => this.#checkOpen();
    return {
      next() {
        check();
        return cursor.next();
      },
      get key() {
        return cursor.key;
      },
      get row() {
        return cursor.row;
      },
      appendRecords(target, recordsMax, bytesMax) {
        check();
        return cursor.appendRecords(target, recordsMax, bytesMax);
      },
    };
  }

  notifications(after: Offset): readonly NotificationEntries[] {
    this.#checkOpen();
    return this.#state.notifications(after);
  }

  trimNotifications(before: Timestamp): Promise<void> {
    return this.#state.trimNotifications(before);
  }

  async send(): Promise<StateSender> {
    this.#checkOpen();
    const state = this.#state.capture();
    const { order, pieceBytesMax = 1024, life } = this.#options;
    const pieces = pieceWriter(order, state, pieceBytesMax);
    const sender = new PacedSender(
      headOf(order, state).state,
      { next: async () => pieces.next(), close: async () => void this.#senders.delete(sender) },
      life.clock,
    );
    this.#senders.add(sender);
    return sender;
  }

  // --- what reaches the disk ------------------------------------------------------------------------------------------

  /** Up to where the state is in a synced checkpoint: what the log may be told to release. */
  get flushed(): Offset {
    return this.#flushed;
  }

  commit(state: AppliedState, notifications?: Pick<NotificationEntries, "timestamp" | "entries">): void {
    this.#checkOpen();
    this.#state.commit(state, notifications);
    this.#unflushedCommits++;
    if (this.#unflushedCommits >= (this.#options.flushCommits ?? 64)) void this.#flushOnce();
  }

  room(): Promise<void> | undefined {
    if (this.#unflushedCommits < (this.#options.unflushedCommitsMax ?? 256)) return undefined;
    return this.flush();
  }

  async flush(): Promise<void> {
    const wanted = this.applied.offset;
    while (this.#flushed < wanted && !this.#closed && this.damage === undefined) await this.#flushOnce();
  }

  /** A full disk does not hold up the end: what was not flushed is applied from the log again. */
  async close(): Promise<void> {
    const isDone = () => this.#closed || this.full || this.damage !== undefined;
    while (this.#flushed < this.applied.offset && !isDone()) await this.#flushOnce();
    await this.abandon();
  }

  /** Whether it serves no more: it was closed, or another state stands in its place. */
  get isClosed(): boolean {
    return this.#closed;
  }

  /** Another state takes its place, or none: what is not flushed is dropped, and nothing is written any more once it resolves. */
  async abandon(): Promise<void> {
    this.#end();
    await this.#flushing;
  }

  #end(): void {
    this.#closed = true;
    for (const sender of [...this.#senders]) sender.cut();
  }

  #checkOpen(): void {
    if (this.#closed) throw new Refusal("ABORTED", "the shard's state was closed or replaced");
  }

  /** One flush at a time: of what is committed when it starts. One that found the disk full is tried again, whoever asks. */
  #flushOnce(): Promise<void> {
    this.#flushing ??= this.#write().finally(() => {
      this.#flushing = undefined;
      if (this.full && !this.#closed) void this.#flushOnce();
    });
    return this.#flushing;
  }

  async #write(): Promise<void> {
    if (this.#closed) return;
    const { disk, shard } = this.#options;
    const captured = this.#state.capture();
    if (captured.applied.offset === this.#flushed || this.damage !== undefined) {
      this.full = false;
      return;
    }
    const commits = this.#unflushedCommits;
    try {
      await disk.replace(keyValueName(shard), [{ record: captured, bytes: bytesOf(captured) }]);
    } catch (error) {
      if (!(error instanceof DiskFull)) throw error;
      this.full = true;
      await new Promise<void>((resolve) => this.#options.life.clock.after(FULL_RETRY_MS, resolve));
      return;
    }
    this.full = false;
    this.#flushed = captured.applied.offset;
    if (!this.#closed) this.#options.released?.(this.#flushed);
    this.#unflushedCommits -= commits;
    const { name, node } = this.#options.life;
    node.scheduler.trace.event(node.scheduler.nowMs, name, "flushed", shard, this.#flushed, captured.rows.length);
  }
}

export function bytesOf({ rows, notifications }: ModelState): number {
  let bytes = 64;
  for (const { key, row } of rows) bytes += key.length + row.length;
  for (const { entries } of notifications) bytes += entries.length;
  return bytes;
}
