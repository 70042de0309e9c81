/** The bearer token of a command: where it comes from, what cannot be one, and what is said when a server wants one. */
import { readFileSync } from "node:fs";
import { EXIT, ExitError } from "./exit.ts";

export interface TokenFlags {
  /** Of the flag, or of the environment. */
  readonly authToken?: string;
  readonly authTokenFile?: string;
}

/** Visible ASCII: another character cannot stand in the header that carries it. */
const TOKEN = /^[\x21-\x7e]+$/;
/** A line of a server's --admin-token-file that says more than a token. */
const LINE_WITH_ROLE = /^(#|(viewer|admin)\s)/;

/** The token, without what surrounds it; undefined: none is given. Throws an ExitError for what is no single token. */
export function authToken({ authToken: given = "", authTokenFile: path }: TokenFlags): string | undefined {
  const token = given.trim();
  if (path !== undefined) {
    if (token !== "") throw new ExitError(EXIT.usage, "give either --auth-token or --auth-token-file, not both");
    return tokenOf(readTokenFile(path), path);
  }
  if (token === "") return undefined;
  if (TOKEN.test(token)) return token;
  throw new ExitError(EXIT.usage, "what is given as --auth-token or VARIA_AUTH_TOKEN is no token: it is several words");
}

/** What to do about an answer without a token; undefined where one was given: the server's own words say what is wrong. */
export function tokenAdvice(isGiven: boolean): string | undefined {
  return isGiven ? undefined : "a token is needed: give it by --auth-token-file PATH, or in VARIA_AUTH_TOKEN";
}

function readTokenFile(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new ExitError(EXIT.usage, `cannot read the token file: ${why}`, { cause });
  }
}

/** Its text is never told: it may be a secret. */
function tokenOf(text: string, path: string): string {
  const token = text.trim();
  if (TOKEN.test(token)) return token;
  const lines = token.split("\n").map((line) => line.trim());
  const what = lines.some((line) => LINE_WITH_ROLE.test(line))
    ? "holds tokens with their roles, as a server's --admin-token-file does"
    : token === ""
      ? "is empty"
      : "holds more than one word";
  throw new ExitError(EXIT.usage, `${path} ${what}: --auth-token-file takes a file that holds one token and no more`);
}
