/**
 * The internal keys that hold no record of their own: made from the shard's state when they are read. Visible to an
 * EQUAL get and to range reads that include internal keys; never written, and left out of the checksum.
 *
 * Source: protocol.md §6.1.
 */
import { type Bytes, utf8 } from "../lib/bytes.ts";
import type { Term } from "../model/ids.ts";
import type { TermOptions } from "../model/peer-messages.ts";
import type { AppliedState } from "../ports.ts";
import { Writer } from "../wire/writer.ts";

export interface BookkeepingRecord {
  readonly key: Bytes;
  /** In the form of record.ts. */
  readonly row: Bytes;
}

/** KeySortingType on the wire. */
const KEY_SORTING = { natural: 1, hierarchical: 2 } as const;

/** In key order, which is the same in both key orders. */
export function bookkeepingRecords(
  applied: AppliedState,
  term: Term,
  options: Pick<TermOptions, "notificationsEnabled" | "keySorting">,
): BookkeepingRecord[] {
  const termOptions = {
    NotificationsEnabled: options.notificationsEnabled,
    KeySorting: KEY_SORTING[options.keySorting],
  };
  return [
    record("__oxia/commit-offset", String(applied.offset)),
    record("__oxia/last-version-id", String(applied.versionId)),
    record("__oxia/term", String(term)),
    record("__oxia/term-options", JSON.stringify(termOptions)),
  ];
}

/** Version { version_id = -1 }, then the value. */
function record(key: string, value: string): BookkeepingRecord {
  const row = new Writer(32);
  row.byte(0x12);
  row.varint(11);
  row.byte(0x08);
  row.int64(-1);
  row.field(0x1a, utf8(value));
  return { key: utf8(key), row: row.finish() };
}
