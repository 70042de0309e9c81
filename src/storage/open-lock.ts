/**
 * One thread of the process at a time opens a database. Bun keeps the open databases of all threads in one list without a
 * lock: two threads that open one at the same moment can get each other's, and a log would be written into another file
 * (oven-sh/bun issue 34446, pull request 29969; seen with 1.4.5 as a file that answered as one in memory).
 *
 * The lock is a word of shared memory that Workers inherit: whoever starts one calls `shareOpenLock` before.
 */
import { getEnvironmentData, setEnvironmentData } from "node:worker_threads";
import { DATABASE_OPEN_MS_MAX } from "../model/limits.ts";

const KEY = "varia: databases are opened one at a time";
const FREE = 0;
const HELD = 1;

let word: Int32Array | undefined;

/** Has the Workers that this thread starts from now on take turns with it. */
export function shareOpenLock(): Int32Array {
  if (word !== undefined) return word;
  let memory = getEnvironmentData(KEY) as SharedArrayBuffer | undefined;
  if (memory === undefined) {
    memory = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
    setEnvironmentData(KEY, memory);
  }
  word = new Int32Array(memory);
  return word;
}

/** Runs `open` while no other thread does. Throws when its turn does not come: somebody was ended within it. */
export function inTurn<T>(open: () => T): T {
  const lock = shareOpenLock();
  while (Atomics.compareExchange(lock, 0, FREE, HELD) !== FREE) {
    if (Atomics.wait(lock, 0, HELD, DATABASE_OPEN_MS_MAX) === "timed-out") {
      throw new Error(`another thread has been opening a database for ${DATABASE_OPEN_MS_MAX} ms`);
    }
  }
  try {
    return open();
  } finally {
    Atomics.store(lock, 0, FREE);
    Atomics.notify(lock, 0);
  }
}
