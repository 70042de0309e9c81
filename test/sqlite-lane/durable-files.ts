/**
 * What a disk holds behind the page cache: of each file what was last synced, and the changes since then, as the shim
 * has noted them.
 *
 *     a write or a cut      waits for a sync of its file
 *     a sync                what waits is durable; a failed one drops it: the page cache vouches for bytes that the disk
 *                           does not hold, and syncing again does not help, only writing them again
 *     a name made, changed or removed    waits for a sync of its directory; a power cut leaves those up to some point,
 *                           in their order, as a file system with a journal does
 *
 * Names are relative to the disk's directory.
 */
import { assert } from "../../src/lib/assert.ts";
import type { SimRandom } from "../sim/random.ts";

/** From the shim: see disk-shim.c for its kinds. */
export interface Note {
  readonly kind: string;
  readonly path: string;
  readonly offset: number;
  readonly data: Uint8Array;
}

/** How much of what is not synced a power cut leaves. */
export interface Survival {
  /** How often some names are lost. */
  readonly nameLostChance: number;
  /** How often the write behind the last one that is left is there in part. */
  readonly tornChance: number;
}

type Change =
  | { readonly kind: "write"; readonly offset: number; readonly data: Uint8Array }
  | { readonly kind: "cut"; readonly bytes: number };

interface DurableFile {
  readonly content: GrowingBytes;
  /** Changes that are not synced. */
  waiting: Change[];
}

type Names = Map<string, DurableFile>;

export type Contents = ReadonlyMap<string, Uint8Array>;

export class DurableFiles {
  #names: Names = new Map();
  /** As they are without the changes of names that wait. */
  #syncedNames: Names = new Map();
  #nameChanges: { readonly directory: string; readonly change: (names: Names) => void }[] = [];

  #isUnsure = false;

  /** All of it durable. */
  constructor(contents: Contents = new Map()) {
    for (const [name, content] of contents) this.#names.set(name, { content: new GrowingBytes(content), waiting: [] });
    this.#syncedNames = new Map(this.#names);
  }

  take({ kind, path, offset, data }: Note): void {
    switch (kind) {
      case "W":
        this.#file(path).waiting.push({ kind: "write", offset, data });
        break;
      case "T":
        this.#file(path).waiting.push({ kind: "cut", bytes: offset });
        break;
      case "S":
        this.#synced(path);
        break;
      case "X": {
        const file = this.#names.get(path);
        if (file !== undefined) file.waiting = [];
        this.#isUnsure = true;
        break;
      }
      case "C": {
        const file: DurableFile = { content: new GrowingBytes(), waiting: [] };
        this.#changeNames(path, (names) => names.set(path, file));
        break;
      }
      case "U":
        this.#changeNames(path, (names) => names.delete(path));
        break;
      case "R": {
        const [from, to] = path.split("\n") as [string, string];
        const file = this.#file(from);
        this.#changeNames(to, (names) => {
          names.delete(from);
          names.set(to, file);
        });
        break;
      }
      default:
        assert(false, "a note of no kind", kind, path);
    }
  }

  /** Whether a sync has failed: the page cache may vouch for more than there is. */
  get isUnsure(): boolean {
    return this.#isUnsure;
  }

  /** What a process that runs on reads, unless a sync has failed. */
  cached(): Contents {
    return contentsOf(this.#names, (waiting) => waiting);
  }

  /** What is durable. */
  synced(): Contents {
    return contentsOf(this.#syncedNames, () => []);
  }

  /** What a power cut leaves. Names and changes that survive are drawn. */
  afterPowerCut(random: SimRandom, { nameLostChance, tornChance }: Survival): Contents {
    const names = new Map(this.#syncedNames);
    const kept = random.chance(nameLostChance)
      ? random.pick([0, random.int(0, this.#nameChanges.length + 1)])
      : this.#nameChanges.length;
    for (const { change } of this.#nameChanges.slice(0, kept)) change(names);
    return contentsOf(names, (waiting) => {
      if (waiting.length === 0) return [];
      // all, none, or anything in between
      const left = random.pick([0, waiting.length, random.int(0, waiting.length + 1)]);
      const torn = waiting[left];
      const some = waiting.slice(0, left);
      if (torn?.kind !== "write" || !random.chance(tornChance)) return some;
      return [...some, { ...torn, data: torn.data.subarray(0, random.int(0, torn.data.length)) }];
    });
  }

  #file(name: string): DurableFile {
    const file = this.#names.get(name);
    assert(file !== undefined, "a change of a file that is not there", name);
    return file;
  }

  #synced(path: string): void {
    const file = this.#names.get(path);
    if (file !== undefined) {
      for (const change of file.waiting) file.content.apply(change);
      file.waiting = [];
      return;
    }
    // a directory: the order of changes is kept, so those of other directories before them are durable too
    const last = this.#nameChanges.findLastIndex(({ directory }) => directory === path);
    for (const { change } of this.#nameChanges.splice(0, last + 1)) change(this.#syncedNames);
  }

  #changeNames(path: string, change: (names: Names) => void): void {
    change(this.#names);
    this.#nameChanges.push({ directory: path.slice(0, Math.max(path.lastIndexOf("/"), 0)), change });
  }
}

function contentsOf(names: Names, left: (waiting: readonly Change[]) => readonly Change[]): Contents {
  // a file has one content, whatever names it has
  const contents = new Map<DurableFile, Uint8Array>();
  return new Map(
    [...names].map(([name, file]) => {
      const content = contents.get(file) ?? contentOf(file, left(file.waiting));
      contents.set(file, content);
      return [name, content];
    }),
  );
}

function contentOf(file: DurableFile, changes: readonly Change[]): Uint8Array {
  const content = new GrowingBytes(file.content.bytes);
  for (const change of changes) content.apply(change);
  return content.bytes;
}

/** A file's bytes. Those between its end and a write behind it are zero. */
class GrowingBytes {
  /** Zero behind `#length`. */
  #room: Uint8Array;
  #length: number;

  constructor(bytes: Uint8Array = new Uint8Array(0)) {
    this.#room = bytes.slice();
    this.#length = bytes.length;
  }

  get bytes(): Uint8Array {
    return this.#room.subarray(0, this.#length);
  }

  apply(change: Change): void {
    const length = change.kind === "cut" ? change.bytes : Math.max(this.#length, change.offset + change.data.length);
    if (length > this.#room.length) {
      const room = new Uint8Array(2 * length);
      room.set(this.bytes);
      this.#room = room;
    }
    if (change.kind === "write") this.#room.set(change.data, change.offset);
    else this.#room.fill(0, Math.min(change.bytes, this.#length), this.#length);
    this.#length = length;
  }
}
