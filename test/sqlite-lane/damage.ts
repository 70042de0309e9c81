/**
 * Damage at rest to real files: one bit of one of them, or a file that is gone.
 *
 * Where it may fall follows from what the rules promise to notice (safety.md §7). The end of the open segment is not
 * promised before the watermark has it: so that segment is damaged anywhere only while the watermark has all of the log,
 * and else in front of a transaction that is whole.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { LogWriter } from "../../src/storage/log-writer.ts";
import { readWatermark } from "../../src/storage/watermark.ts";
import type { SimRandom } from "../sim/random.ts";
import type { DiskDamage } from "../sim/server-storage.ts";
import type { Contents } from "./durable-files.ts";

export interface Damaging {
  readonly damage: DiskDamage;
  readonly random: SimRandom;
  /** A directory to look at the files in. */
  readonly scratch: string;
}

export interface Damaged {
  readonly contents: Contents;
  readonly what: string;
}

/** Bytes of a file that may be hit. */
interface Stretch {
  readonly name: string;
  readonly from: number;
  readonly to: number;
}

const WATERMARK = "log/watermark";
const PROMISES = "log/promises.sqlite";
const SEGMENT = /^log\/log-(\d+)\.sqlite(-wal)?$/;
const STATE = /^data\/.*\.sqlite(-wal)?$/;

const PAGE_BYTES = 4_096;
const WAL_HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;

/** The files as they are afterwards; undefined when there is nothing to damage. */
export function damaged(contents: Contents, { damage, random, scratch }: Damaging): Damaged | undefined {
  const stretchesOf = (within: (name: string) => boolean) => stretches(contents, within);
  switch (damage) {
    case "lost":
      return { contents: new Map(), what: "disk lost" };
    case "log":
      return flip(contents, logStretches(contents, scratch), random);
    case "state":
      return flip(
        contents,
        stretchesOf((name) => STATE.test(name)),
        random,
      );
    case "watermark":
      return flip(
        contents,
        stretchesOf((name) => name === WATERMARK),
        random,
      );
    case "promises":
      return flip(
        contents,
        stretchesOf((name) => name.startsWith(PROMISES)),
        random,
      );
    case "misdirected":
      return misdirect(contents, random);
    case "file":
      return loseFile(contents, random);
  }
}

function stretches(contents: Contents, within: (name: string) => boolean): Stretch[] {
  return [...contents]
    .filter(([name]) => within(name))
    .map(([name, content]) => ({ name, from: 0, to: content.length }));
}

function flip(contents: Contents, where: readonly Stretch[], random: SimRandom): Damaged | undefined {
  const bytes = where.reduce((sum, { from, to }) => sum + to - from, 0);
  if (bytes <= 0) return undefined;
  let at = random.int(0, bytes);
  for (const { name, from, to } of where) {
    if (at >= to - from) {
      at -= to - from;
      continue;
    }
    const content = contents.get(name)!.slice();
    const bit = random.int(0, 8);
    content[from + at]! ^= 1 << bit;
    const what = `bit ${bit} of byte ${from + at} of ${content.length} flipped in ${name}`;
    return { contents: new Map([...contents, [name, content]]), what };
  }
  return undefined;
}

/** A page of a closed segment or of a state lies in the place of another one. */
function misdirect(contents: Contents, random: SimRandom): Damaged | undefined {
  const newest = Math.max(...[...contents.keys()].filter((name) => SEGMENT.test(name)).map(numberOf));
  const names = [...contents].flatMap(([name, { length }]) => {
    const isFile = name.endsWith(".sqlite") && (STATE.test(name) || (SEGMENT.test(name) && numberOf(name) < newest));
    return isFile && length >= 3 * PAGE_BYTES ? [name] : [];
  });
  if (names.length === 0) return undefined;
  const name = random.pick(names);
  const content = contents.get(name)!.slice();
  const pages = Math.floor(content.length / PAGE_BYTES);
  const from = random.int(0, pages);
  const to = (from + random.int(1, pages)) % pages;
  content.copyWithin(to * PAGE_BYTES, from * PAGE_BYTES, (from + 1) * PAGE_BYTES);
  return { contents: new Map([...contents, [name, content]]), what: `page ${from} written over page ${to} of ${name}` };
}

/** The watermark, the promises, or a state goes: with what lies beside it, or that alone, or without it. */
function loseFile(contents: Contents, random: SimRandom): Damaged | undefined {
  const names = [...contents.keys()].filter((name) => name === WATERMARK || name === PROMISES || STATE.test(name));
  if (names.length === 0) return undefined;
  const name = random.pick(names);
  const besides = random.chance(0.5) ? [...contents.keys()].filter((other) => other.startsWith(`${name}-`)) : [];
  const gone = [name, ...besides];
  return {
    contents: new Map([...contents].filter(([other]) => !gone.includes(other))),
    what: `lost: ${gone.join(", ")}`,
  };
}

function logStretches(contents: Contents, scratch: string): Stretch[] {
  const all = stretches(contents, (name) => SEGMENT.test(name));
  if (all.length === 0 || isCovered(contents, scratch)) return all;
  const newest = Math.max(...all.map(({ name }) => numberOf(name)));
  return all.flatMap((stretch) => {
    if (numberOf(stretch.name) < newest) return [stretch];
    if (!stretch.name.endsWith("-wal")) return [];
    const to = lastTransaction(contents.get(stretch.name)!);
    return to > WAL_HEADER_BYTES ? [{ ...stretch, from: WAL_HEADER_BYTES, to }] : [];
  });
}

function numberOf(segment: string): number {
  return Number(SEGMENT.exec(segment)![1]);
}

/** Whether the watermark has every head of the log: opened, it has no other ones. */
function isCovered(contents: Contents, scratch: string): boolean {
  rmSync(scratch, { recursive: true, force: true });
  mkdirSync(scratch, { recursive: true });
  for (const [name, content] of contents) {
    if (name.startsWith("log/")) writeFileSync(join(scratch, basename(name)), content);
  }
  const reading = readWatermark(join(scratch, "watermark"));
  if (reading.kind !== "content") return false;
  const writer = new LogWriter({
    directory: scratch,
    retentionMs: Number.POSITIVE_INFINITY,
    syncData: true,
    acceptLoss: new Map(),
    now: () => 0,
    monotonicMs: () => 0,
    ballastBytes: 0,
  });
  const covered = writer.replicas().every(({ shard, head, damage }) => {
    return damage === undefined && reading.content.records.get(shard)?.head.offset === head.offset;
  });
  writer.close();
  return covered;
}

/** Where the last whole transaction of a -wal begins that another one lies in front of; 0: there is none. */
function lastTransaction(wal: Uint8Array): number {
  if (wal.length < WAL_HEADER_BYTES) return 0;
  const view = new DataView(wal.buffer, wal.byteOffset, wal.length);
  const pageBytes = view.getUint32(8);
  const frameBytes = FRAME_HEADER_BYTES + pageBytes;
  /** Ends of the transactions of the header's salts. */
  const ends: number[] = [];
  for (let at = WAL_HEADER_BYTES; at + frameBytes <= wal.length; at += frameBytes) {
    if (view.getUint32(at + 8) !== view.getUint32(16) || view.getUint32(at + 12) !== view.getUint32(20)) break;
    if (view.getUint32(at + 4) > 0) ends.push(at + frameBytes);
  }
  return ends.at(-2) ?? 0;
}
