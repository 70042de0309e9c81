/**
 * Plays a power cut: undoes what a killed process had written and never synced, from the notes that fault-shim.c made.
 *
 * Of each file some of the unsynced writes survive, from none to all, in the order in which they were made, the last
 * one perhaps by half. A real disk may also keep a later write and lose an earlier one; names (files created, renamed,
 * removed) count as safe at once. So what this finds is a fault, and what it does not find may be one yet.
 */
import { closeSync, existsSync, fstatSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import type { Random } from "./load.ts";

const HEADER_BYTES = 40;

/** What one write replaced. */
interface Replaced {
  readonly sequence: number;
  readonly offset: number;
  readonly oldSize: number;
  readonly old: Uint8Array;
}

/** For each file, in order, the writes that were not synced when the process ended. */
export function unsyncedWrites(undoFile: string): Map<string, Replaced[]> {
  const bytes = existsSync(undoFile) ? readFileSync(undoFile) : Buffer.alloc(0);
  const files = new Map<string, Replaced[]>();
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const kind = String.fromCharCode(bytes.readUInt32LE(at));
    const pathEnd = at + HEADER_BYTES + bytes.readUInt32LE(at + 4);
    const [sequence, offset, oldSize, length] = [8, 16, 24, 32].map((n) => Number(bytes.readBigUInt64LE(at + n))) as [
      number,
      number,
      number,
      number,
    ];
    if (pathEnd + length > bytes.length) break; // the process was killed while it made this note: the write was not made
    const path = bytes.toString("utf8", at + HEADER_BYTES, pathEnd);
    const writes = files.get(path) ?? [];
    if (kind === "W") {
      files.set(path, writes);
      writes.push({ sequence, offset, oldSize, old: bytes.subarray(pathEnd, pathEnd + length) });
    } else if (kind === "S") {
      const left = writes.filter((write) => write.sequence > sequence);
      files.set(path, left);
    } else if (kind === "F") {
      files.delete(path);
    } else if (kind === "R") {
      const [from, to] = path.split("\n") as [string, string];
      files.set(to, files.get(from) ?? []);
      files.delete(from);
    } else {
      throw new Error(`${undoFile}: no note at byte ${at}`);
    }
    at = pathEnd + length;
  }
  for (const [path, writes] of files) if (writes.length === 0 || !existsSync(path)) files.delete(path);
  return files;
}

/** Undoes unsynced writes in place. `keepNone`: all of them; else a random number of the last ones. Returns how many. */
export function cutPower(undoFile: string, random: Random, keepNone: boolean): number {
  let undone = 0;
  for (const [path, writes] of unsyncedWrites(undoFile)) {
    const kept = keepNone ? 0 : random.below(writes.length + 1);
    const file = openSync(path, "r+");
    for (let n = writes.length - 1; n >= kept; n--) {
      const half = n === kept && !keepNone && random.below(3) === 0;
      undo(file, writes[n]!, half);
      undone++;
    }
    closeSync(file);
  }
  return undone;
}

/** Puts back what a write replaced; with `half`, only the second half of it, as if the write had been torn. */
function undo(file: number, { offset, oldSize, old }: Replaced, half: boolean): void {
  const from = half ? old.length >> 1 : 0;
  if (from < old.length) writeSync(file, old, from, old.length - from, offset + from);
  const size = fstatSync(file).size;
  if (size <= oldSize) {
    ftruncateSync(file, oldSize);
  } else if (!half) {
    ftruncateSync(file, oldSize);
  } else {
    ftruncateSync(file, Math.max(oldSize, size - ((size - Math.max(offset, oldSize)) >> 1)));
  }
}
