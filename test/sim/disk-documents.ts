/** The Documents port on a simulated disk: one file that each change is added to; the latest text of a name counts. */

import { Refusal } from "../../src/model/refusal.ts";
import type { Documents } from "../../src/ports.ts";
import { DiskFull, type MountedDisk } from "./disk.ts";

const FILE = "documents";

interface DocumentRecord {
  readonly name: string;
  readonly text: string | undefined;
}

export function diskDocuments(disk: MountedDisk): Documents {
  let last: Promise<void> = Promise.resolve();
  const write = async (record: DocumentRecord) => {
    try {
      await disk.write(FILE, [{ record, bytes: record.name.length + (record.text?.length ?? 0) }]);
    } catch (error) {
      if (error instanceof DiskFull) throw new Refusal("RESOURCE_EXHAUSTED", "no space left for a document");
      throw error;
    }
    await disk.sync(FILE);
    await disk.syncNames();
  };
  return {
    async all() {
      const texts = new Map<string, string>();
      for (const { record, bad } of (await disk.read<DocumentRecord>(FILE)) ?? []) {
        if (bad) continue;
        if (record.text === undefined) texts.delete(record.name);
        else texts.set(record.name, record.text);
      }
      return texts;
    },
    put(name, text) {
      const done = last.then(() => write({ name, text }));
      last = done.catch(() => {});
      return done;
    },
  };
}
