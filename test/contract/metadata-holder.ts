/**
 * Started by metadata-store.test.ts as a process of its own: opens a store, stores something, says so, and stays. With
 * a third argument it stores a text of so many bytes as well, and says what became of it.
 */
import { openFileMetadata } from "../../src/storage/metadata/file-directory.ts";
import { openSqliteMetadata } from "../../src/storage/metadata/sqlite.ts";
import { CLUSTER, changes, shard } from "./metadata-store.ts";

const [kind, path, bytes] = process.argv.slice(2) as ["file" | "sqlite", string, string?];
try {
  const store = kind === "file" ? openFileMetadata(path) : openSqliteMetadata(path);
  const { version } = await store.get();
  const answer = await store.compareAndSwap(version, changes(["cluster", CLUSTER]));
  console.log(answer.outcome);
  if (bytes !== undefined && answer.outcome === "stored") {
    const large = changes(["shard/0/default", shard(1, "x".repeat(Number(bytes)))]);
    const outcome = store.compareAndSwap(answer.version, large).then((found) => found.outcome);
    console.log(await outcome.catch((error: Error) => `fault: ${error.message}`));
    console.log(await store.get().catch((error: { reason?: string }) => error.reason));
  } else await Bun.stdin.text(); // until it is killed, or its parent is gone
} catch (error) {
  console.log((error as Error).message);
}
