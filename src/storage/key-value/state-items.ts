/**
 * What a state that is sent to another server consists of, in this order:
 *
 *     head            what it is at, as stored in its file, and its key order
 *     block …         records in key order, as they lie in the file (block.ts)
 *     notification …  what entries told subscribers, by offset
 *     end
 *
 * An item is a byte for its kind, the length of its body, the body. Lengths are 32 bits and offsets are doubles, little
 * endian.
 */
import { type Bytes, EMPTY_BYTES } from "../../lib/bytes.ts";
import type { Offset } from "../../model/ids.ts";
import type { KeySorting } from "../../model/keys.ts";
import { STATE_ITEM_BYTES_MAX } from "../../model/limits.ts";
import { Refusal } from "../../model/refusal.ts";
import type { NotificationEntries } from "../../ports.ts";
import type { StoredBlock } from "./block.ts";
import type { StoredState } from "./stored-state.ts";

export interface StateHead {
  readonly sorting: KeySorting;
  readonly state: StoredState;
  /** What was told up to this offset may be gone. */
  readonly trimmed: Offset;
}

export type StateItem =
  | { readonly kind: "head"; readonly head: StateHead }
  | { readonly kind: "block"; readonly block: StoredBlock }
  | { readonly kind: "notification"; readonly told: NotificationEntries }
  | { readonly kind: "end" };

const HEAD = 1;
const BLOCK = 2;
const NOTIFICATION = 3;
const END = 4;

const ITEM_HEADER_BYTES = 5;
const HEAD_BODY_BYTES = 57;
const BLOCK_LENGTHS_BYTES = 8;
const NOTIFICATION_NUMBERS_BYTES = 16;
const SORTINGS: readonly KeySorting[] = ["natural", "hierarchical"];

// --- writing --------------------------------------------------------------------------------------------------

/** An item's bytes, in one part or more. */
export function itemParts(item: StateItem): Bytes[] {
  switch (item.kind) {
    case "head":
      return [headBytes(item.head)];
    case "block":
      return blockParts(item.block);
    case "notification":
      return [notificationNumbers(item.told), item.told.entries];
    case "end":
      return [opened(END, 0, 0).bytes];
  }
}

/** The header of an item, and room for the first bytes of its body. */
function opened(
  kind: number,
  bodyBytes: number,
  roomBytes: number,
): { readonly bytes: Bytes; readonly view: DataView } {
  const bytes = new Uint8Array(ITEM_HEADER_BYTES + roomBytes);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, kind);
  view.setUint32(1, bodyBytes, true);
  return { bytes, view };
}

function headBytes({ sorting, state, trimmed }: StateHead): Bytes {
  const { bytes, view } = opened(HEAD, HEAD_BODY_BYTES, HEAD_BODY_BYTES);
  const { applied, told, rowCount, hash } = state;
  let at = ITEM_HEADER_BYTES;
  view.setUint8(at++, SORTINGS.indexOf(sorting));
  for (const number of [applied.offset, applied.term, applied.versionId, told, trimmed, rowCount]) {
    view.setFloat64(at, number, true);
    at += 8;
  }
  view.setInt32(at, hash.low, true);
  view.setInt32(at + 4, hash.high, true);
  return bytes;
}

function blockParts({ okey, tie, records }: StoredBlock): Bytes[] {
  const own = BLOCK_LENGTHS_BYTES + okey.length + tie.length;
  const { bytes, view } = opened(BLOCK, own + records.length, own);
  view.setUint32(ITEM_HEADER_BYTES, okey.length, true);
  view.setUint32(ITEM_HEADER_BYTES + 4, tie.length, true);
  bytes.set(okey, ITEM_HEADER_BYTES + BLOCK_LENGTHS_BYTES);
  bytes.set(tie, ITEM_HEADER_BYTES + BLOCK_LENGTHS_BYTES + okey.length);
  return [bytes, records];
}

function notificationNumbers({ offset, timestamp, entries }: NotificationEntries): Bytes {
  const { bytes, view } = opened(NOTIFICATION, NOTIFICATION_NUMBERS_BYTES + entries.length, NOTIFICATION_NUMBERS_BYTES);
  view.setFloat64(ITEM_HEADER_BYTES, offset, true);
  view.setFloat64(ITEM_HEADER_BYTES + 8, timestamp, true);
  return bytes;
}

// --- reading --------------------------------------------------------------------------------------------------

/** Finds the items in a run of bytes that comes in parts. */
export class ItemReader {
  readonly #header = new Uint8Array(ITEM_HEADER_BYTES);
  #headerLength = 0;
  /** The body of an item that began in a part before, and how much of it is there. */
  #body: Bytes | undefined;
  #bodyLength = 0;

  /** Whether an item has begun and not ended. */
  get isWithin(): boolean {
    return this.#headerLength > 0;
  }

  /** The items that end in the next part; their bytes may be views of it. Throws INVALID_ARGUMENT for what is none. */
  *add(part: Bytes): Generator<StateItem> {
    for (let at = 0; at < part.length; ) {
      at += this.#takeHeader(part, at);
      if (this.#headerLength < ITEM_HEADER_BYTES) return;
      const length = this.#bodyBytes();
      if (this.#body === undefined && at + length <= part.length) {
        yield this.#item(part.subarray(at, at + length));
        at += length;
        continue;
      }
      this.#body ??= new Uint8Array(length);
      const taken = Math.min(length - this.#bodyLength, part.length - at);
      this.#body.set(part.subarray(at, at + taken), this.#bodyLength);
      this.#bodyLength += taken;
      at += taken;
      if (this.#bodyLength === length) yield this.#item(this.#body);
    }
  }

  #takeHeader(part: Bytes, at: number): number {
    const taken = Math.min(ITEM_HEADER_BYTES - this.#headerLength, part.length - at);
    this.#header.set(part.subarray(at, at + taken), this.#headerLength);
    this.#headerLength += taken;
    return taken;
  }

  #bodyBytes(): number {
    const length = new DataView(this.#header.buffer).getUint32(1, true);
    if (length > STATE_ITEM_BYTES_MAX) throw malformed();
    return length;
  }

  #item(body: Bytes): StateItem {
    const item = parse(this.#header[0]!, body);
    this.#headerLength = 0;
    this.#body = undefined;
    this.#bodyLength = 0;
    return item;
  }
}

function malformed(): Refusal {
  return new Refusal("INVALID_ARGUMENT", "a state has a part that cannot be read");
}

function parse(kind: number, body: Bytes): StateItem {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  switch (kind) {
    case HEAD:
      return { kind: "head", head: parseHead(view) };
    case BLOCK:
      return { kind: "block", block: parseBlock(body, view) };
    case NOTIFICATION:
      return { kind: "notification", told: parseNotification(body, view) };
    case END:
      return { kind: "end" };
    default:
      throw malformed();
  }
}

function parseHead(view: DataView): StateHead {
  if (view.byteLength !== HEAD_BODY_BYTES) throw malformed();
  const sorting = SORTINGS[view.getUint8(0)];
  const numbers = Array.from({ length: 6 }, (_, index) => view.getFloat64(1 + 8 * index, true));
  if (sorting === undefined || !numbers.every(Number.isSafeInteger)) throw malformed();
  const [offset, term, versionId, told, trimmed, rowCount] = numbers as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const hash = { low: view.getInt32(49, true), high: view.getInt32(53, true) };
  return { sorting, trimmed, state: { applied: { offset, term, versionId }, told, rowCount, hash } };
}

function parseBlock(body: Bytes, view: DataView): StoredBlock {
  if (body.length < BLOCK_LENGTHS_BYTES) throw malformed();
  const okeyEnd = BLOCK_LENGTHS_BYTES + view.getUint32(0, true);
  const tieEnd = okeyEnd + view.getUint32(4, true);
  if (tieEnd > body.length) throw malformed();
  const okey = okeyEnd === BLOCK_LENGTHS_BYTES ? EMPTY_BYTES : body.subarray(BLOCK_LENGTHS_BYTES, okeyEnd);
  return { okey, tie: body.subarray(okeyEnd, tieEnd), records: body.subarray(tieEnd) };
}

function parseNotification(body: Bytes, view: DataView): NotificationEntries {
  if (body.length < NOTIFICATION_NUMBERS_BYTES) throw malformed();
  const offset = view.getFloat64(0, true);
  const timestamp = view.getFloat64(8, true);
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(timestamp)) throw malformed();
  return { offset, timestamp, entries: body.subarray(NOTIFICATION_NUMBERS_BYTES) };
}
