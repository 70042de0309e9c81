/**
 * Space kept back on the log's disk: promises, the watermark and control entries may use it when the disk is full, so
 * that elections go on; clients' entries are refused before. It is laid down again when there is space.
 */
import { closeSync, existsSync, fsyncSync, openSync } from "node:fs";
import { LOG_BALLAST_BYTES } from "../model/limits.ts";
import { removeFile, writeAll } from "./files.ts";
import { ballastPath } from "./log-files.ts";
import { isDiskFull } from "./sqlite.ts";

export class Ballast {
  readonly #path: string;
  readonly #bytes: number;

  constructor(directory: string, bytes = LOG_BALLAST_BYTES) {
    this.#path = ballastPath(directory);
    this.#bytes = bytes;
  }

  /** Runs what must not fail for want of space: the ballast is given up for it. */
  use<T>(step: () => T): T {
    try {
      return step();
    } catch (error) {
      if (!isDiskFull(error) || !this.drop()) throw error;
      return step();
    }
  }

  /** Gives the space free. False when there was none left to give. */
  drop(): boolean {
    if (!existsSync(this.#path)) return false;
    removeFile(this.#path);
    return true;
  }

  /** Lays the ballast down when it is not there and there is space. */
  lay(): void {
    if (existsSync(this.#path)) return;
    const file = openSync(this.#path, "w", 0o600);
    try {
      writeAll(file, new Uint8Array(this.#bytes), 0);
      fsyncSync(file);
    } catch (error) {
      removeFile(this.#path);
      if (!isDiskFull(error)) throw error;
    } finally {
      closeSync(file);
    }
  }
}
