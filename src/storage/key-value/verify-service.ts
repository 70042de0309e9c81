/** What scans KV files which serve already, as its thread runs it: each at one moment, on a connection of its own. */
import { type KeySorting, keyOrder } from "../../model/keys.ts";
import type { Damage } from "../../ports.ts";
import { explainError, openSqlite, sqliteErrorKind } from "../sqlite.ts";
import { readState } from "./stored-state.ts";
import { scan } from "./verify.ts";

export interface VerifyRequest {
  readonly path: string;
  readonly sorting: KeySorting;
}

/** What a scan found; `fault` when the device failed. */
export type VerifyReply =
  | { readonly path: string; readonly damage: Damage | undefined }
  | { readonly path: string; readonly fault: string };

export function verify({ path, sorting }: VerifyRequest): VerifyReply {
  try {
    const database = openSqlite(path, { mode: "read", synchronous: "NORMAL" });
    try {
      database.run("BEGIN");
      return { path, damage: scan(database, path, keyOrder(sorting), readState(database)) };
    } finally {
      database.close();
    }
  } catch (error) {
    if (sqliteErrorKind(error) === "io") return { path, fault: explainError(error) };
    return { path, damage: { file: path, where: "byte 0", what: (error as Error).message } };
  }
}
