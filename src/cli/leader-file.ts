/**
 * `leader.json` beside the metadata store: where the coordinator that works can be reached, for those that stand by. It
 * says nothing about who holds the store; after a crash it names one that is gone.
 */
import { readFileSync, rmSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { utf8 } from "../lib/bytes.ts";
import type { Address } from "../ops/settings.ts";
import { replaceFile } from "../storage/files.ts";

const NAME = "leader.json";
/** Longer than any two addresses. */
const BYTES_MAX = 4_096;

export interface LeaderAddresses {
  /** Of its admin port. */
  readonly admin: Address;
  /** Of its HTTP port. */
  readonly http: Address;
}

export class LeaderFile {
  readonly #path: string;

  constructor(directory: string) {
    this.#path = join(directory, NAME);
  }

  /** Undefined: nobody has said so, or what stands there cannot be read. */
  read(): LeaderAddresses | undefined {
    try {
      const text = readFileSync(this.#path, "utf8");
      if (text.length > BYTES_MAX) return undefined;
      const { admin, http } = JSON.parse(text) as Partial<LeaderAddresses>;
      return isAddress(admin) && isAddress(http) ? { admin, http } : undefined;
    } catch {
      return undefined;
    }
  }

  /** Addresses that are bound to all interfaces become one that others can reach. */
  write({ admin, http }: LeaderAddresses): void {
    const text = `${JSON.stringify({ admin: ofThisMachine(admin), http: ofThisMachine(http) })}\n`;
    replaceFile(this.#path, utf8(text));
  }

  remove(): void {
    rmSync(this.#path, { force: true });
  }
}

function isAddress(value: unknown): value is Address {
  const { host, port } = (value ?? {}) as Partial<Address>;
  return typeof host === "string" && host !== "" && Number.isInteger(port) && port! > 0 && port! <= 65_535;
}

function ofThisMachine({ host, port }: Address): Address {
  if (host !== "0.0.0.0" && host !== "::") return { host, port };
  const outside = Object.values(networkInterfaces())
    .flatMap((each) => each ?? [])
    .find(({ internal }) => !internal);
  return { host: outside?.address ?? "127.0.0.1", port };
}
