/**
 * Reads an SQLite -wal file before SQLite does, to tell a torn tail from damage. SQLite itself stops at the first
 * frame whose checksum fails and silently drops everything behind it: right after a power cut, when that is the end of
 * an unsynced transaction, and wrong when a bit has flipped in the middle of what was acknowledged.
 *
 *     header                              32 bytes: magic, format, page size, sequence, salt 1, salt 2, checksum
 *     frames                              24 bytes and a page each: page number, pages after commit (0 = no commit),
 *                                         salt 1, salt 2, checksum (running, from the header's on)
 *
 * A frame is *live* when it bears the header's salts: older ones are left over from before the file was reset. Every
 * transaction is synced before the next begins, so what a power cut may garble is the last one alone: live frames may
 * then follow a bad one, but none behind that transaction's commit frame. Live frames behind a bad one, with a commit
 * among them and more behind it, prove that a finished transaction is broken: damage. The very last transaction is the
 * gap that stays.
 *
 * Source: the SQLite file format, "The Write-Ahead Log"; safety.md §7.
 */
import { closeSync, openSync, readSync } from "node:fs";

const HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
/** Checksums over little-endian words; the last bit set means big-endian ones. */
const MAGIC = 0x377f_0682;

/** What a scan found. */
export interface WalScan {
  /** Frames whose checksums hold, from the start on. */
  readonly goodFrames: number;
  /** The byte at which the file proves to be damaged. */
  readonly damagedAt: number | undefined;
}

const NOTHING: WalScan = { goodFrames: 0, damagedAt: undefined };

/** Scans a -wal file; a missing or empty one is fine. Throws what the file system throws, except that it is missing. */
export function scanWal(path: string): WalScan {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return NOTHING;
    throw error;
  }
  try {
    return scan(file);
  } finally {
    closeSync(file);
  }
}

/** A running checksum: two 32-bit sums over pairs of words. */
class Checksum {
  s0 = 0;
  s1 = 0;
  readonly #littleEndian: boolean;

  constructor(littleEndian: boolean) {
    this.#littleEndian = littleEndian;
  }

  start(s0: number, s1: number): void {
    this.s0 = s0;
    this.s1 = s1;
  }

  /** Takes in `bytes` from `start` inclusive to `end` exclusive; the length is a multiple of eight. */
  add(view: DataView, start: number, end: number): void {
    let { s0, s1 } = this;
    for (let at = start; at < end; at += 8) {
      s0 = (s0 + view.getUint32(at, this.#littleEndian) + s1) >>> 0;
      s1 = (s1 + view.getUint32(at + 4, this.#littleEndian) + s0) >>> 0;
    }
    this.s0 = s0;
    this.s1 = s1;
  }

  is(s0: number, s1: number): boolean {
    return this.s0 === s0 && this.s1 === s1;
  }
}

function scan(file: number): WalScan {
  const header = new DataView(new ArrayBuffer(HEADER_BYTES));
  if (readSync(file, header, 0, HEADER_BYTES, 0) < HEADER_BYTES) return NOTHING;
  const pageBytes = header.getUint32(8);
  const sane = pageBytes >= 512 && pageBytes <= 65_536 && (pageBytes & (pageBytes - 1)) === 0;
  const checksum = new Checksum((header.getUint32(0) & 1) === 0);
  checksum.add(header, 0, 24);
  const whole = header.getUint32(0) >>> 1 === MAGIC >>> 1 && checksum.is(header.getUint32(24), header.getUint32(28));
  if (!whole || !sane) return { goodFrames: 0, damagedAt: hasFramesOf(file, header) ? 0 : undefined };
  return scanFrames(file, { header, pageBytes, checksum });
}

function scanFrames(
  file: number,
  { header, pageBytes, checksum }: { header: DataView; pageBytes: number; checksum: Checksum },
): WalScan {
  const salt1 = header.getUint32(16);
  const salt2 = header.getUint32(20);
  const frameBytes = FRAME_HEADER_BYTES + pageBytes;
  const frame = new DataView(new ArrayBuffer(frameBytes));
  let goodFrames = 0;
  let badAt: number | undefined;
  let committedBehindBad = false;
  for (let index = 0; ; index++) {
    const position = HEADER_BYTES + index * frameBytes;
    if (readSync(file, frame, 0, frameBytes, position) < frameBytes) break;
    const live = frame.getUint32(8) === salt1 && frame.getUint32(12) === salt2;
    if (badAt === undefined) {
      checksum.add(frame, 0, 8);
      checksum.add(frame, FRAME_HEADER_BYTES, frameBytes);
      if (live && checksum.is(frame.getUint32(16), frame.getUint32(20))) {
        goodFrames++;
        continue;
      }
      badAt = position;
      // The salts of the bad frame itself may be what is broken: one of them is enough to call it one of ours.
      const ours = frame.getUint32(8) === salt1 || frame.getUint32(12) === salt2;
      committedBehindBad = ours && frame.getUint32(4) !== 0;
      continue;
    }
    if (!live) continue;
    if (committedBehindBad) return { goodFrames, damagedAt: badAt };
    committedBehindBad = frame.getUint32(4) !== 0;
  }
  return { goodFrames, damagedAt: undefined };
}

/**
 * Whether a header that does not hold is followed by a frame that continues a whole one's checksum: SQLite syncs the
 * header before the first frame, so such a header was whole once. Tries the stored checksum and the computed one, in
 * both byte orders and all page sizes.
 */
function hasFramesOf(file: number, header: DataView): boolean {
  const frame = new DataView(new ArrayBuffer(FRAME_HEADER_BYTES + 65_536));
  const length = readSync(file, frame, 0, frame.byteLength, HEADER_BYTES);
  for (const littleEndian of [true, false]) {
    const computed = new Checksum(littleEndian);
    computed.add(header, 0, 24);
    const starts: readonly (readonly [number, number])[] = [
      [header.getUint32(24), header.getUint32(28)],
      [computed.s0, computed.s1],
    ];
    for (const [s0, s1] of starts) {
      for (let pageBytes = 512; pageBytes <= 65_536 && FRAME_HEADER_BYTES + pageBytes <= length; pageBytes *= 2) {
        const checksum = new Checksum(littleEndian);
        checksum.start(s0, s1);
        checksum.add(frame, 0, 8);
        checksum.add(frame, FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + pageBytes);
        if (checksum.is(frame.getUint32(16), frame.getUint32(20))) return true;
      }
    }
  }
  return false;
}
