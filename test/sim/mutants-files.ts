/**
 * Planted bugs in the adapters that keep a server's data in files of SQLite: what they write and do not sync, and what
 * they read and do not check. The lane of real files (test/sqlite-lane) has to find them.
 */
import type { Mutant } from "./mutants.ts";

export const FILE_MUTANTS: readonly Mutant[] = [
  {
    name: "entries are not synced",
    rule: "§5 acks are durable",
    story: "a commit of the log is answered while its pages are in the page cache alone",
    edits: [
      { file: "src/storage/segment.ts", find: 'synchronous: syncData ? "FULL" : "OFF"', replace: 'synchronous: "OFF"' },
    ],
    lane: "sqlite",
  },
  {
    name: "promises are not synced",
    rule: "§7 the watermark",
    story: "a promise is answered while the database that holds it is in the page cache alone",
    edits: [{ file: "src/storage/promises.ts", find: 'synchronous: "FULL"', replace: 'synchronous: "OFF"' }],
    lane: "sqlite",
  },
  {
    name: "watermark is not synced",
    rule: "§7 the watermark",
    story: "a promise is answered while the second file has it in the page cache alone",
    edits: [{ file: "src/storage/watermark.ts", find: "    fdatasyncSync(this.#file);\n", replace: "" }],
    lane: "sqlite",
  },
  {
    name: "flush forgets to sync",
    rule: "§7 trimming",
    story: "a checkpoint of a state is called complete before it is on the disk, and the log lets go what it holds",
    edits: [
      {
        file: "src/storage/key-value/flush.ts",
        find: 'const [row] = database.query("PRAGMA wal_checkpoint(PASSIVE)").values() as',
        replace: "const [row] = (database.inTransaction ? [] : [[0, 0, 0]]) as",
      },
    ],
    lane: "sqlite",
  },
  {
    name: "bad frames are dropped in silence",
    rule: "§7 damaged",
    story: "a flipped bit in a -wal takes every later commit away, as SQLite reads it, and nobody looks",
    edits: [
      {
        file: "src/storage/log-opening.ts",
        find: "if (damagedAt === undefined) return undefined;",
        replace: "if (damagedAt !== -1) return undefined;",
      },
    ],
    lane: "sqlite",
  },
  {
    name: "an I/O error is lived with",
    rule: "§7 the first I/O error",
    story: "a process goes on after a call of its disk has failed",
    edits: [
      {
        file: "src/storage/log-service.ts",
        find: "if (!this.#failed) this.#thread.post({ fault: explainError(error) });",
        replace: "",
      },
    ],
    lane: "sqlite",
  },
];
