/**
 * One shard's KeyValue on SQLite. Where a key's newest row may be, newest first:
 *
 *     active table → frozen table (being flushed) → cache generations → SQLite file
 *
 * Writes go to the active table alone. Frozen, it is flushed by the Worker and then becomes the newest cache
 * generation; rows read from the file go to a read-through generation. Generations are dropped oldest first, so a row
 * in one is never older than what lies behind it: nothing stale can surface.
 *
 * Invariant: file state + frozen table + active table = all that is applied.
 */
import { assert } from "../../lib/assert.ts";
import { type Bytes, EMPTY_BYTES } from "../../lib/bytes.ts";
import { crc32c } from "../../lib/crc32c.ts";
import { NO_OFFSET, type Offset, type Timestamp } from "../../model/ids.ts";
import type { KeyOrder } from "../../model/keys.ts";
import { SNAPSHOT_PIN_MS_MAX } from "../../model/limits.ts";
import { Refusal } from "../../model/refusal.ts";
import type {
  AppliedState,
  Clock,
  Cursor,
  Damage,
  KeyRange,
  KeyValue,
  KeyValueSnapshot,
  NotificationEntries,
  StateSender,
} from "../../ports.ts";
import type { ChunkPool } from "./chunk-pool.ts";
import { MergedCursor } from "./cursor.ts";
import { NONE_STORED, type NotificationRun, NotificationTail } from "./notification-tail.ts";
import { type KeyValueReader, StoredCursor } from "./reader.ts";
import { addToHash, hashToBigInt, type RecordHash } from "./record-hash.ts";
import { type Layer, orderRange, SqliteSnapshot } from "./snapshot.ts";
import type { PacedSender } from "./state-sender.ts";
import type { StoredState } from "./stored-state.ts";
import { type Address, hashKey, type KeyProbe, NOWHERE, probeOf, Table } from "./table.ts";
import { type OrderRange, TableOrder } from "./table-order.ts";

/** Keys copied per turn when a flushed table is compacted into the cache. */
const COMPACT_KEYS_PER_TURN = 2000;

/** What a shard's state asks of the node, which owns memory, connections and the flush Worker (node.ts). */
export interface StateHost {
  readonly pool: ChunkPool;
  readonly clock: Clock;
  readonly stats: { tableHits: number; fileReads: number };
  readonly full: boolean;
  committed(shard: SqliteKeyValue): void;
  room(): Promise<void> | undefined;
  flushNow(shard: SqliteKeyValue): Promise<void>;
  trimNotifications(shard: SqliteKeyValue, before: Timestamp): Promise<Offset | undefined>;
  readThroughTable(shard: SqliteKeyValue, current: Table | undefined): Table | undefined;
  cacheAdded(shard: SqliteKeyValue, table: Table): void;
  cacheGrew(bytes: number): void;
  reader(path: string): KeyValueReader;
  snapshotReader(path: string): Promise<KeyValueReader>;
  returnSnapshotReader(reader: KeyValueReader): void;
  discardSnapshotReader(reader: KeyValueReader): void;
  send(shard: SqliteKeyValue): Promise<PacedSender>;
  settled(shard: SqliteKeyValue): Promise<void>;
  closed(shard: SqliteKeyValue): Promise<void>;
}

export class SqliteKeyValue implements KeyValue {
  readonly path: string;
  readonly order: KeyOrder;
  readonly #node: StateHost;
  applied: AppliedState;
  rowCount: number;
  readonly #hash: RecordHash;
  #active: Layer;
  #frozen: Layer | undefined;
  /** Newest first. */
  #generations: Table[] = [];
  /** The newest generation, while it takes rows read from the file. */
  #readThrough: Table | undefined;
  /** Whether the file may hold any row. */
  #fileHasRows: boolean;
  /** Applied offset of the last flush that is in the file, and of the last one in a synced checkpoint. */
  flushedOffset: number;
  durableOffset = NO_OFFSET;
  /** What the node has counted of `activeBytes`. */
  activeBytesCounted = 0;
  /** Versions appended since the last commit, with the keys they are of: what a rollback undoes. */
  readonly #undo: Address[] = [];
  #undoState: { rowCount: number; low: number; high: number };
  readonly #probe: KeyProbe = { bytes: new Uint8Array(256), orderKeyLength: 0, tieLength: 0, hash: 0 };
  /** What the last `get` found, for a put or delete of the same key. */
  #lastKey: Bytes | undefined;
  #lastExists = false;
  #lastCrc = 0;
  readonly snapshots = new Set<SqliteSnapshot>();
  readonly #senders = new Set<PacedSender>();
  readonly #tail: NotificationTail;
  #trimmed: Offset;
  damage: Damage | undefined;
  scanned = true;
  /** It ends once it is flushed, or the disk has no space for that. */
  isClosing = false;
  #closed = false;

  constructor(node: StateHost, path: string, order: KeyOrder, state: StoredState, trimmed: Offset) {
    this.#node = node;
    this.path = path;
    this.order = order;
    this.applied = state.applied;
    this.rowCount = state.rowCount;
    this.#hash = { ...state.hash };
    this.#active = this.#newLayer();
    this.#fileHasRows = state.rowCount > 0;
    this.flushedOffset = state.applied.offset;
    this.#undoState = { rowCount: state.rowCount, ...state.hash };
    this.#tail = new NotificationTail(state.told);
    this.#trimmed = trimmed;
  }

  get stateHash(): bigint {
    return hashToBigInt(this.#hash);
  }

  get clock(): Clock {
    return this.#node.clock;
  }

  /** Memory of the active table, and of notifications that are not flushed. */
  get activeBytes(): number {
    return this.#active.table.bytes + this.#tail.bytes;
  }

  // --- point operations -----------------------------------------------------------------------------------------

  get(key: Bytes): Bytes | undefined {
    this.#checkOpen();
    this.#aim(key);
    const row = this.#lookUp();
    this.#lastKey = key;
    this.#lastExists = row !== undefined;
    return row;
  }

  put(key: Bytes, row: Bytes): void {
    this.#find(key);
    this.#write(row);
  }

  putNew(key: Bytes, row: Bytes): void {
    this.#aim(key);
    this.#lastExists = false;
    this.#write(row);
  }

  /** Writes a row under the probed key; whether that exists was looked up, or is known. */
  #write(row: Bytes): void {
    const probe = this.#probe;
    const length = probe.orderKeyLength + probe.tieLength;
    const crc = crc32c(row, 0, row.length, crc32c(probe.bytes, 0, length));
    if (this.#lastExists) addToHash(this.#hash, this.#lastCrc, -1);
    else this.rowCount++;
    addToHash(this.#hash, crc, 1);
    this.#append(row, crc);
    this.#lastKey = undefined;
  }

  delete(key: Bytes): boolean {
    this.#find(key);
    this.#lastKey = undefined;
    if (!this.#lastExists) return false;
    addToHash(this.#hash, this.#lastCrc, -1);
    this.rowCount--;
    this.#append(undefined, 0);
    return true;
  }

  commit(state: AppliedState, notifications?: Pick<NotificationEntries, "timestamp" | "entries">): void {
    this.#checkOpen();
    assert(state.offset > this.applied.offset, "committed out of order", state.offset, this.applied.offset);
    this.applied = state;
    this.#lastKey = undefined;
    this.#undo.length = 0;
    this.#undoState = { rowCount: this.rowCount, low: this.#hash.low, high: this.#hash.high };
    if (notifications !== undefined) {
      this.#tail.add({ offset: state.offset, timestamp: notifications.timestamp, entries: notifications.entries });
    }
    this.#node.committed(this);
  }

  get full(): boolean {
    return this.#node.full;
  }

  room(): Promise<void> | undefined {
    return this.#node.room();
  }

  rollback(): void {
    const { table } = this.#active;
    for (let at = this.#undo.length - 2; at >= 0; at -= 2) {
      table.setNewest(this.#undo[at]!, table.previous(this.#undo[at + 1]!));
    }
    this.#undo.length = 0;
    this.rowCount = this.#undoState.rowCount;
    this.#hash.low = this.#undoState.low;
    this.#hash.high = this.#undoState.high;
    this.#lastKey = undefined;
  }

  /** Looks the key up unless the last `get` was of this very key. */
  #find(key: Bytes): void {
    if (this.#lastKey !== key) this.get(key);
  }

  #append(row: Bytes | undefined, crc: number): void {
    this.#checkOpen();
    const { table } = this.#active;
    const key = table.findOrAdd(this.#probe);
    this.#undo.push(key, table.append(key, row, crc));
  }

  #aim(key: Bytes): void {
    const probe = this.#probe;
    const needed = 2 * key.length + this.order.overhead;
    if (probe.bytes.length < needed) probe.bytes = new Uint8Array(2 * needed);
    probe.orderKeyLength = this.order.encode(key, probe.bytes, 0);
    probe.tieLength = 0;
    if (this.order.needsTie(key)) {
      probe.bytes.set(key, probe.orderKeyLength);
      probe.tieLength = key.length;
    }
    probe.hash = hashKey(probe.bytes, probe.orderKeyLength + probe.tieLength);
  }

  #lookUp(): Bytes | undefined {
    let found = this.#inTable(this.#active.table);
    if (found === NOWHERE && this.#frozen !== undefined) found = this.#inTable(this.#frozen.table);
    for (let at = 0; found === NOWHERE && at < this.#generations.length; at++)
      found = this.#inTable(this.#generations[at]!);
    if (found === NOWHERE) return this.#fromFile();
    return this.#foundRow;
  }

  #foundRow: Bytes | undefined;

  /** Sets `#foundRow` and `#lastCrc` when the table knows the key. */
  #inTable(table: Table): Address {
    const key = table.find(this.#probe);
    if (key === NOWHERE) return NOWHERE;
    const version = table.newest(key);
    if (version === NOWHERE) return NOWHERE;
    this.#node.stats.tableHits++;
    this.#lastCrc = table.crc(version);
    this.#foundRow = table.isTombstone(version) ? undefined : table.row(version);
    return version;
  }

  #fromFile(): Bytes | undefined {
    if (!this.#fileHasRows) return undefined;
    const { bytes, orderKeyLength, tieLength } = this.#probe;
    const orderKey = bytes.subarray(0, orderKeyLength);
    const tie = tieLength === 0 ? EMPTY_BYTES : bytes.subarray(orderKeyLength, orderKeyLength + tieLength);
    const stored = this.#node.reader(this.path).get(this.order, orderKey, tie);
    this.#node.stats.fileReads++;
    const row = stored?.row;
    const crc = stored?.crc ?? 0;
    this.#remember(row, crc);
    this.#lastCrc = crc;
    return row;
  }

  /** Keeps what the file holds of the probed key, absence included. */
  #remember(row: Bytes | undefined, crc: number): void {
    const table = this.#node.readThroughTable(this, this.#readThrough);
    if (table === undefined) return;
    if (table !== this.#readThrough) {
      this.#readThrough = table;
      this.#generations.unshift(table);
    }
    const before = table.bytes;
    table.append(table.findOrAdd(this.#probe), row, crc);
    this.#node.cacheGrew(table.bytes - before);
  }

  /** The node takes a generation, its oldest, back. */
  forget(generation: Table): void {
    this.#generations = this.#generations.filter((table) => table !== generation);
    if (this.#readThrough === generation) this.#readThrough = undefined;
    generation.drop();
  }

  // --- range reads ----------------------------------------------------------------------------------------------

  async ordered(): Promise<void> {
    for (;;) {
      const layer = this.#layers().find(({ order }) => !order.complete);
      if (layer === undefined) return;
      layer.order.step();
      if (this.#layers().every(({ order }) => order.complete)) return;
      await this.#nextTurn();
    }
  }

  cursor(range: KeyRange): Cursor {
    this.#checkOpen();
    const inOrder = orderRange(this.order, range);
    return this.#cursorOver(inOrder, this.#layers(), this.#fileHasRows ? this.#node.reader(this.path) : undefined);
  }

  async snapshot(): Promise<KeyValueSnapshot> {
    this.#checkOpen();
    let reader: KeyValueReader | undefined;
    let layers: (Layer & { readonly end: Address })[];
    try {
      do {
        if (this.#fileHasRows) reader = await this.#node.snapshotReader(this.path);
        await this.ordered();
        this.#checkOpen();
        // a first flush may have ended meanwhile
      } while (reader === undefined && this.#fileHasRows);
      // from here to the end nothing else runs: tables and file are seen as of one moment
      this.#completeOrder(this.#layers());
      layers = this.#layers().map((layer) => ({ ...layer, end: layer.table.end }));
      reader?.pin();
    } catch (error) {
      if (reader !== undefined) this.#node.discardSnapshotReader(reader);
      throw error;
    }
    for (const { table } of layers) table.pin();
    const snapshot = new SqliteSnapshot(
      { order: this.order, clock: this.clock, applied: this.applied, layers, reader },
      () => {
        this.snapshots.delete(snapshot);
        for (const { table } of layers) table.unpin();
        if (reader !== undefined) this.#node.returnSnapshotReader(reader);
      },
    );
    this.snapshots.add(snapshot);
    snapshot.cutAfter(this.#node.clock.after(SNAPSHOT_PIN_MS_MAX, () => snapshot.cut()));
    return snapshot;
  }

  #completeOrder(layers: readonly Layer[]): void {
    for (const { order } of layers) while (!order.complete) order.step();
  }

  #layers(): Layer[] {
    return this.#frozen === undefined ? [this.#active] : [this.#active, this.#frozen];
  }

  #cursorOver(range: OrderRange, layers: readonly Layer[], reader: KeyValueReader | undefined): Cursor {
    this.#completeOrder(layers);
    const tables = layers
      .filter(({ table }) => table.keyCount > 0)
      .map(({ order, table }) => order.cursor(range, table.end));
    return new MergedCursor(this.order, {
      tables,
      stored: reader && new StoredCursor(reader, this.order, range),
      reverse: range.reverse,
    });
  }

  #newLayer(): Layer {
    const table = new Table(this.#node.pool);
    return { table, order: new TableOrder(table) };
  }

  // --- notifications --------------------------------------------------------------------------------------------

  notifications(after: Offset): readonly NotificationEntries[] {
    this.#checkOpen();
    const tail = this.#tail;
    if (after >= tail.last) return [];
    if (after >= tail.before) return tail.read(after);
    // nothing was flushed: the file may not be there
    const isEmpty = this.flushedOffset === NO_OFFSET;
    const { found, trimmed } = isEmpty ? NONE_STORED : this.#node.reader(this.path).notifications(after);
    this.#trimmed = Math.max(this.#trimmed, trimmed);
    // of what is being flushed, the reader may see what memory still holds
    const stored = found.filter(({ offset }) => offset <= tail.before);
    if (stored.length > 0) return stored;
    if (Math.max(after, this.#trimmed) >= tail.before) return tail.read(tail.before);
    throw new Refusal("DATA_LOSS", `${this.path}: notifications of offset ${tail.before}: they are missing`);
  }

  get notificationsTrimmed(): Offset {
    return this.#trimmed;
  }

  async trimNotifications(before: Timestamp): Promise<void> {
    if (this.#tail.hasOlder(before)) await this.flush();
    const last = await this.#node.trimNotifications(this, before);
    if (last !== undefined) this.#trimmed = Math.max(this.#trimmed, last);
  }

  // --- flushing -------------------------------------------------------------------------------------------------

  flush(): Promise<void> {
    return this.#node.flushNow(this);
  }

  /** The state of the file is sent, once all that is applied now is in it. */
  async send(): Promise<StateSender> {
    this.#checkOpen();
    const sender = await this.#node.send(this);
    this.#senders.add(sender);
    void sender.closed.then(() => this.#senders.delete(sender));
    if (this.#closed) sender.cut();
    return sender;
  }

  /** Starts a new active table; undefined when there is nothing to flush or a flush is under way. */
  freeze():
    | { readonly table: Table; readonly state: StoredState; readonly notifications: NotificationRun }
    | undefined {
    assert(this.#undo.length === 0, "frozen within an entry");
    if (this.#frozen !== undefined || this.applied.offset === this.flushedOffset) return undefined;
    this.#frozen = this.#active;
    this.#active = this.#newLayer();
    const hash = { ...this.#hash };
    const state = { applied: this.applied, told: this.#tail.last, rowCount: this.rowCount, hash };
    return { table: this.#frozen.table, state, notifications: this.#tail.freeze() };
  }

  /** The frozen table is in the file: it becomes a cache generation, compacted when most of it is overwritten. */
  async flushed(state: StoredState): Promise<void> {
    const frozen = this.#frozen!.table;
    this.#fileHasRows = true;
    this.flushedOffset = state.applied.offset;
    this.#tail.flushed();
    let generation = frozen;
    if (2 * frozen.liveBytes < frozen.bytes) {
      generation = new Table(this.#node.pool);
      for (let at = 0; at < frozen.keyCount; at++) {
        copyNewest(frozen, frozen.keys[at]!, generation);
        if (at % COMPACT_KEYS_PER_TURN === COMPACT_KEYS_PER_TURN - 1) await this.#nextTurn();
      }
      frozen.drop();
    }
    this.#frozen = undefined;
    this.#generations.unshift(generation);
    this.#readThrough = undefined;
    this.#node.cacheAdded(this, generation);
  }

  /** Whether it serves no more: it was closed, or another state stands in its place. */
  get isClosed(): boolean {
    return this.#closed;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#cutReaders(); // what they pin would hold up the checkpoint
    this.isClosing = true;
    await this.flush();
    if (this.#closed) return;
    this.#closed = true;
    await this.#node.settled(this); // one that waits for space ends
    await this.#release();
  }

  /** Another state takes its place, or none: what is not flushed is dropped, and nothing is written any more once it resolves. */
  async abandon(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#node.settled(this);
    await this.#release();
  }

  /** Ends all who read, and gives memory and connections back. */
  async #release(): Promise<void> {
    const senders = [...this.#senders];
    this.#cutReaders();
    await Promise.all(senders.map(({ closed }) => closed));
    await this.#node.closed(this);
    for (const table of [...this.#generations, ...this.#layers().map((layer) => layer.table)]) table.drop();
    this.#generations = [];
  }

  #cutReaders(): void {
    for (const snapshot of [...this.snapshots]) snapshot.cut();
    for (const sender of this.#senders) sender.cut();
  }

  #nextTurn(): Promise<void> {
    return new Promise((resolve) => this.clock.soon(resolve));
  }

  #checkOpen(): void {
    if (this.#closed)
      throw new Refusal("ABORTED", "oxia: operation was aborted: the shard's state was closed or replaced");
  }
}

function copyNewest(from: Table, key: Address, to: Table): void {
  const version = from.newest(key);
  if (version === NOWHERE) return;
  const row = from.isTombstone(version) ? undefined : from.row(version);
  to.append(to.findOrAdd(probeOf(from.orderKey(key), from.tie(key))), row, from.crc(version));
}
