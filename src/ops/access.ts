/**
 * Who may look at a cluster, and who may change it: whoever holds a token of the file that `--admin-token-file` names;
 * without such a file, whoever is on this very machine.
 *
 *     # a role and a token a line; a token alone is an admin's
 *     viewer 6f0d0c1b4c…
 *     admin  9a4bb2d1f3…
 *
 * Tokens are kept as digests, and compared in a time that does not depend on them.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { SettingError } from "./settings.ts";

/** An admin may all that a viewer may. */
export const ROLES = ["viewer", "admin"] as const;
export type Role = (typeof ROLES)[number];

/** Shorter ones could be guessed. */
export const TOKEN_CHARACTERS_MIN = 16;
export const TOKEN_CHARACTERS_MAX = 512;
export const TOKENS_MAX = 100;

interface Known {
  readonly role: Role;
  readonly digest: Buffer;
}

export class Access {
  readonly #known: readonly Known[];

  /** The tokens of a file, which it reads once; undefined: none. Throws SettingError when it cannot be used. */
  static open(path: string | undefined): Access {
    if (path === undefined) return new Access([]);
    let text: string;
    try {
      text = readFileSync(path, "utf8");
    } catch (cause) {
      throw new SettingError(`--admin-token-file: ${path}: ${(cause as Error).message}`, { cause });
    }
    const known = text
      .split("\n")
      .flatMap((line, nth) => knownOf(line, `--admin-token-file: ${path}: line ${nth + 1}`));
    if (known.length === 0) throw new SettingError(`--admin-token-file: ${path}: there is no token in it`);
    if (known.length > TOKENS_MAX) {
      throw new SettingError(`--admin-token-file: ${path}: ${known.length} tokens, at most ${TOKENS_MAX} are taken`);
    }
    return new Access(known);
  }

  private constructor(known: readonly Known[]) {
    this.#known = known;
  }

  /** Whether a token is needed; otherwise callers on this machine alone are answered. */
  get needsToken(): boolean {
    return this.#known.length > 0;
  }

  /** The role that a token gives; undefined: none. */
  roleOf(token: string): Role | undefined {
    const digest = digestOf(token);
    let found: Role | undefined;
    for (const known of this.#known) if (timingSafeEqual(known.digest, digest)) found = known.role;
    return found;
  }
}

function knownOf(line: string, where: string): Known[] {
  const words = line.trim().split(/\s+/);
  if (words[0] === "" || words[0]!.startsWith("#")) return [];
  const [role, token] = words.length === 1 ? ["admin", words[0]!] : [words[0]!, words[1]!];
  if (words.length > 2) throw new SettingError(`${where}: a role and a token are expected, and nothing behind them`);
  if (role !== "viewer" && role !== "admin") throw new SettingError(`${where}: "${role}" is no role: viewer or admin`);
  if (token.length < TOKEN_CHARACTERS_MIN || token.length > TOKEN_CHARACTERS_MAX) {
    throw new SettingError(`${where}: a token has ${TOKEN_CHARACTERS_MIN} to ${TOKEN_CHARACTERS_MAX} characters`);
  }
  return [{ role, digest: digestOf(token) }];
}

function digestOf(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}

/** The token of an Authorization header; undefined: the header carries none, or another kind. */
export function bearerToken(header: string | null | undefined): string | undefined {
  return /^bearer +(\S+)$/i.exec(header ?? "")?.[1];
}

/** Whether an address is of this machine alone; with or without a port, and as IPv6 writes one of IPv4. */
export function isLoopback(address: string): boolean {
  const host = address.replace(/^\[(.*)\](?::\d+)?$/, "$1").replace(/^::ffff:/i, "");
  if (host === "::1" || /^::1:\d+$/.test(address)) return true;
  return /^127(?:\.\d{1,3}){3}(?::\d+)?$/.test(host);
}

/**
 * Whether a `host:port` that a caller used names this machine, whoever resolves it: localhost, or an address. A page of
 * another site may have its own name lead here, and would then be taken for ours (DNS rebinding).
 */
export function isOwnName(authority: string): boolean {
  return /^(localhost|\d+\.\d+\.\d+\.\d+|\[[\da-f:.]+\])(:\d+)?$/i.test(authority);
}
