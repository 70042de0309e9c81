/**
 * Memory for tables, in chunks of shared memory that are reused: sizes are powers of two from 16 KiB to 1 MiB, so that
 * small tables stay small; an entry larger than that gets a chunk of its own, given back to the system afterwards.
 */

/** The two views of one chunk. `words` is for headers, little endian on every machine that Bun runs on. */
export interface Chunk {
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
}

const CHUNK_BYTES_MIN = 16 * 1024;
export const CHUNK_BYTES_MAX = 1024 * 1024;
/** Bytes of free chunks that are kept for reuse. */
const FREE_BYTES_MAX = 32 * 1024 * 1024;

export class ChunkPool {
  readonly #free = new Map<number, Chunk[]>();
  #freeBytes = 0;

  /** A chunk with room for at least `bytes`; `previous` is the size of the last one its table got (0 = none): sizes double. */
  take(bytes: number, previous: number): Chunk {
    let size = previous === 0 ? CHUNK_BYTES_MIN : Math.min(previous * 2, CHUNK_BYTES_MAX);
    while (size < bytes && size < CHUNK_BYTES_MAX) size *= 2;
    if (size < bytes) return newChunk(Math.ceil(bytes / 8) * 8);
    const reused = this.#free.get(size)?.pop();
    if (reused === undefined) return newChunk(size);
    this.#freeBytes -= size;
    return reused;
  }

  /** Takes a chunk back; nobody may read it any more. */
  give(chunk: Chunk): void {
    const size = chunk.bytes.length;
    if (size > CHUNK_BYTES_MAX || this.#freeBytes + size > FREE_BYTES_MAX) return;
    let list = this.#free.get(size);
    if (list === undefined) {
      list = [];
      this.#free.set(size, list);
    }
    list.push(chunk);
    this.#freeBytes += size;
  }
}

function newChunk(size: number): Chunk {
  return chunkOf(new SharedArrayBuffer(size));
}

export function chunkOf(buffer: SharedArrayBuffer): Chunk {
  return { bytes: new Uint8Array(buffer), words: new Int32Array(buffer) };
}
