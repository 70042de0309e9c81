/** disk-shim.c, from TypeScript: compiled where it is not yet, loaded into this process, and told what to do. */
import { dlopen, type FFIFunction } from "bun:ffi";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert } from "../../src/lib/assert.ts";
import { text } from "../../src/lib/bytes.ts";
import type { Note } from "./durable-files.ts";

const SYMBOLS = {
  shim_begin: { args: [], returns: "int" },
  shim_disk: { args: ["int", "ptr"], returns: "void" },
  shim_fail: { args: ["int", "int"], returns: "void" },
  shim_space: { args: ["int", "double"], returns: "void" },
  shim_failed: { args: ["int"], returns: "int" },
  shim_fills: { args: ["int"], returns: "int" },
  shim_notes: { args: [], returns: "double" },
  shim_take: { args: ["ptr"], returns: "void" },
} as const satisfies Record<string, FFIFunction>;

const NOTE_BYTES = 24;
/** Disks that one run may have; as in disk-shim.c. */
export const DISKS_MAX = 16;

export interface DiskNote {
  readonly disk: number;
  readonly note: Note;
}

/** One a process: system calls are caught once. */
export class DiskShim {
  static #loaded: DiskShim | undefined;
  readonly #calls: ReturnType<typeof dlopen<typeof SYMBOLS>>["symbols"];

  /** The shim of this process. Throws with the compiler's words where it cannot be built. */
  static get(): DiskShim {
    DiskShim.#loaded ??= new DiskShim();
    return DiskShim.#loaded;
  }

  private constructor() {
    this.#calls = dlopen(built(), SYMBOLS).symbols;
    const answer = this.#calls.shim_begin();
    assert(answer === 0, "this machine lets no process catch its own system calls");
  }

  /** What lies below a directory is this disk from now on, without faults; undefined: nothing is. */
  disk(disk: number, directory: string | undefined): void {
    assert(disk < DISKS_MAX, "too many disks", disk);
    this.#calls.shim_disk(disk, Buffer.from(directory === undefined ? "\0" : `${directory}/\0`));
  }

  /** The call that makes `calls` from now fails, and all after it. */
  fail(disk: number, calls: number): void {
    this.#calls.shim_fail(disk, calls);
  }

  /** Files may grow by so many bytes; undefined: by any. */
  space(disk: number, bytes: number | undefined): void {
    this.#calls.shim_space(disk, bytes === undefined ? -1 : Math.max(0, bytes));
  }

  hasFailed(disk: number): boolean {
    return this.#calls.shim_failed(disk) !== 0;
  }

  /** Calls that found no space. */
  fills(disk: number): number {
    return this.#calls.shim_fills(disk);
  }

  /** All notes since this was last asked, in order. */
  take(): DiskNote[] {
    const bytes = new Uint8Array(this.#calls.shim_notes());
    if (bytes.length === 0) return [];
    this.#calls.shim_take(bytes);
    const view = new DataView(bytes.buffer);
    const notes: DiskNote[] = [];
    for (let at = 0; at < bytes.length; ) {
      const path = at + NOTE_BYTES;
      const data = path + view.getUint32(at + 8, true);
      const end = data + view.getUint32(at + 12, true);
      const note = {
        kind: String.fromCharCode(view.getUint32(at, true)),
        path: text(bytes.subarray(path, data)),
        offset: Number(view.getBigUint64(at + 16, true)),
        data: bytes.subarray(data, end),
      };
      notes.push({ disk: view.getUint32(at + 4, true), note });
      at = end;
    }
    return notes;
  }
}

/** The library, named by what it is made from. */
function built(): string {
  const sources = [join(import.meta.dir, "disk-shim.c"), join(import.meta.dir, "../e2e/trap.h")];
  const name = Bun.hash(sources.map((path) => readFileSync(path, "utf8")).join("\n")).toString(16);
  const folder = join(tmpdir(), `varia-disk-shim-${process.getuid?.() ?? 0}`);
  const library = join(folder, `${name}-${process.arch}.so`);
  if (existsSync(library)) return library;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const fresh = `${library}.${process.pid}`;
  const { exitCode, stderr } = Bun.spawnSync(["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", fresh, sources[0]!]);
  if (exitCode !== 0) throw new Error(`cannot build the disk shim:\n${stderr.toString()}`);
  renameSync(fresh, library);
  return library;
}
