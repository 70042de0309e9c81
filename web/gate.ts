/**
 * Who may see the pages, and who may change something with them.
 *
 *     without tokens    callers on this machine, by an address of it (a name could be anybody's: DNS rebinding)
 *     with tokens       who has logged in: a cookie that scripts cannot read and other sites cannot send; or a bearer token
 *
 * A change takes an admin, a form of our own (its token belongs to the session) and our own origin.
 *
 * Source: testing.md; OWASP cheat sheets on session management and cross-site request forgery.
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { bearerToken, isLoopback, isOwnName, type Role } from "../src/ops/access.ts";

/** Without a request for so long a session ends. */
export const SESSION_IDLE_MS = 30 * 60_000;
/** The one that was used longest ago ends when there are more. */
export const SESSIONS_MAX = 1_000;
/** Wrong tokens in a window, from one address and from all; then nobody is let in from there until it is over. */
export const LOGIN_FAILURES_MAX = 10;
export const LOGIN_FAILURES_ALL_MAX = 200;
export const LOGIN_WINDOW_MS = 10 * 60_000;
const ADDRESSES_MAX = 10_000;
/** Under TLS the prefix has browsers take it from this host alone, whatever other names of its domain say. */
const COOKIE = { plain: "varia-session", secure: "__Host-varia-session" } as const;

/** What is needed of src/ops/access.ts. */
export interface Tokens {
  readonly needsToken: boolean;
  roleOf(token: string): Role | undefined;
}

export interface Visitor {
  readonly role: Role;
  /** To be sent with each form. */
  readonly formToken: string;
}

export type Admission =
  | { readonly kind: "admitted"; readonly visitor: Visitor }
  /** Somebody with a token could be. */
  | { readonly kind: "login" }
  | { readonly kind: "refused"; readonly why: string };

export interface Asking {
  readonly request: Request;
  /** The address that the request came from. */
  readonly peer: string;
}

export interface GateOptions {
  readonly nowMs?: () => number;
  readonly readOnly?: boolean;
}

interface Session {
  readonly role: Role;
  usedAtMs: number;
}

export class Gate {
  readonly #tokens: Tokens;
  readonly #nowMs: () => number;
  readonly #readOnly: boolean;
  readonly #secret = randomBytes(32);
  readonly #sessions = new Map<string, Session>();
  #failures = new Map<string, number>();
  #failuresAll = 0;
  #windowSinceMs = 0;

  /** `readOnly`: everybody who is let in is a viewer. */
  constructor(tokens: Tokens, { nowMs = () => performance.now(), readOnly = false }: GateOptions = {}) {
    this.#tokens = tokens;
    this.#nowMs = nowMs;
    this.#readOnly = readOnly;
  }

  get needsToken(): boolean {
    return this.#tokens.needsToken;
  }

  admit(asking: Asking): Admission {
    const admission = this.#admit(asking);
    if (!this.#readOnly || admission.kind !== "admitted") return admission;
    return { kind: "admitted", visitor: { ...admission.visitor, role: "viewer" } };
  }

  /** Whether a request that was admitted would still be; it counts as no further use of its session. */
  isWelcome({ request }: Asking): boolean {
    if (!this.#tokens.needsToken || request.headers.has("authorization")) return true;
    const session = this.#sessions.get(cookieOf(request) ?? "");
    return session !== undefined && this.#nowMs() - session.usedAtMs < SESSION_IDLE_MS;
  }

  #admit({ request, peer }: Asking): Admission {
    if (!this.#tokens.needsToken) return this.#admitLocal(request, peer);
    const bearer = bearerToken(request.headers.get("authorization"));
    if (bearer !== undefined) {
      const role = this.#tokens.roleOf(bearer);
      if (role === undefined) return { kind: "refused", why: "The token is not known." };
      return { kind: "admitted", visitor: { role, formToken: "" } };
    }
    const id = cookieOf(request);
    const session = id === undefined ? undefined : this.#session(id);
    if (id === undefined || session === undefined) return { kind: "login" };
    return { kind: "admitted", visitor: { role: session.role, formToken: this.#formToken(id) } };
  }

  #admitLocal(request: Request, peer: string): Admission {
    if (!isLoopback(peer)) {
      return { kind: "refused", why: "Without --admin-token-file only callers on the server's own machine see this." };
    }
    if (!isOwnName(request.headers.get("host") ?? "")) {
      return { kind: "refused", why: "Call this server by localhost or by an address." };
    }
    return { kind: "admitted", visitor: { role: "admin", formToken: this.#formToken("") } };
  }

  /** Why a change may not be made; undefined: it may. */
  whyNotChange({ request, peer }: Asking, form: URLSearchParams): string | undefined {
    const admission = this.admit({ request, peer });
    if (admission.kind === "login") return "You are not logged in, or not any more.";
    if (admission.kind === "refused") return admission.why;
    if (this.#readOnly) return "This dashboard is read-only.";
    if (admission.visitor.role !== "admin") return "A viewer's token changes nothing: log in with an admin's.";
    // a bearer token is sent by nobody who was not told to
    if (admission.visitor.formToken === "") return undefined;
    if (!isOwnOrigin(request)) return "The form was sent from another site.";
    if (!equal(form.get("token") ?? "", admission.visitor.formToken))
      return "The form is not of this session: load it again.";
    return undefined;
  }

  /** The cookie of a new session, or why there is none. */
  login(
    token: string,
    { request, peer }: Asking,
  ): { readonly cookie: string } | { readonly why: string; readonly status: 401 | 403 | 429 } {
    if (!isOwnOrigin(request)) return { why: "The form was sent from another site.", status: 403 };
    this.#turnWindow();
    if ((this.#failures.get(peer) ?? 0) >= LOGIN_FAILURES_MAX || this.#failuresAll >= LOGIN_FAILURES_ALL_MAX) {
      return { why: "Too many wrong tokens were tried: wait some minutes.", status: 429 };
    }
    const role = this.#tokens.roleOf(token);
    if (role === undefined) {
      this.#failuresAll += 1;
      if (this.#failures.size < ADDRESSES_MAX) this.#failures.set(peer, (this.#failures.get(peer) ?? 0) + 1);
      return { why: "The token is not known.", status: 401 };
    }
    const id = randomBytes(32).toString("base64url");
    this.#sessions.set(id, { role, usedAtMs: this.#nowMs() });
    if (this.#sessions.size > SESSIONS_MAX) this.#sessions.delete(this.#sessions.keys().next().value!);
    return { cookie: cookieWith(request, id) };
  }

  /** The cookie that takes the place of a session's. */
  logout(request: Request): string {
    const id = cookieOf(request);
    if (id !== undefined) this.#sessions.delete(id);
    return cookieWith(request, "; Max-Age=0");
  }

  #session(id: string): Session | undefined {
    const session = this.#sessions.get(id);
    if (session === undefined) return undefined;
    this.#sessions.delete(id);
    const nowMs = this.#nowMs();
    if (nowMs - session.usedAtMs >= SESSION_IDLE_MS) return undefined;
    session.usedAtMs = nowMs;
    this.#sessions.set(id, session);
    return session;
  }

  #turnWindow(): void {
    const nowMs = this.#nowMs();
    if (nowMs - this.#windowSinceMs < LOGIN_WINDOW_MS) return;
    this.#windowSinceMs = nowMs;
    this.#failures = new Map();
    this.#failuresAll = 0;
  }

  #formToken(session: string): string {
    return createHmac("sha256", this.#secret).update(`form ${session}`).digest("base64url");
  }
}

/** The id of a session; under TLS that of a plain connection's cookie is none. */
function cookieOf(request: Request): string | undefined {
  const cookies = request.headers.get("cookie") ?? "";
  return new RegExp(`(?:^|; *)${cookieName(request)}=([\\w-]+)`).exec(cookies)?.[1];
}

function cookieWith(request: Request, value: string): string {
  return `${cookieName(request)}=${value}; Path=/; HttpOnly; SameSite=Strict${isSecure(request) ? "; Secure" : ""}`;
}

function cookieName(request: Request): string {
  return isSecure(request) ? COOKIE.secure : COOKIE.plain;
}

/** Here, or before a proxy that says so. */
function isSecure(request: Request): boolean {
  return new URL(request.url).protocol === "https:" || request.headers.get("x-forwarded-proto") === "https";
}

/** What a browser says of where a form comes from; one that says nothing is not a browser of ours. */
function isOwnOrigin(request: Request): boolean {
  const origin = request.headers.get("origin");
  if (origin === null) return request.headers.get("sec-fetch-site") === "same-origin";
  try {
    return new URL(origin).host === (request.headers.get("host") ?? "");
  } catch {
    return false;
  }
}

function equal(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}
