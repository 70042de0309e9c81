import { expect, test } from "bun:test";
import { coreFiles } from "./seed-record.ts";

test("the core is what the simulator imports of the server, and nothing that it does not", async () => {
  const core = await coreFiles();
  for (const file of [
    "src/replication/leader.ts",
    "src/coordination/coordinator.ts",
    "src/storage/log-writer.ts",
    "src/rpc/feeds-api.ts",
    "src/client/client.ts",
  ]) {
    expect(core).toContain(file);
  }
  expect(core.filter((file) => /^src\/(cli|ops|standalone)\/|\.test\.ts$/.test(file))).toEqual([]);
});
