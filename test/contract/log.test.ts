import { afterAll } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSqliteLog } from "../../src/storage/log.ts";
import { logContract } from "./log.ts";

const folder = mkdtempSync(join(tmpdir(), "varia-log-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let nth = 0;
logContract("SQLite", () => {
  const directory = join(folder, `${nth++}`);
  return {
    open: () =>
      openSqliteLog({
        directory,
        retentionMs: 3_600_000,
        syncData: true,
        onFault: (error) => {
          throw error;
        },
      }),
  };
});
