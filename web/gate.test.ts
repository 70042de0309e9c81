/** Who is let in, for how long, and whose changes are taken. */
import { expect, test } from "bun:test";
import {
  Gate,
  LOGIN_FAILURES_ALL_MAX,
  LOGIN_FAILURES_MAX,
  LOGIN_WINDOW_MS,
  SESSION_IDLE_MS,
  SESSIONS_MAX,
} from "./gate.ts";

const OWN = { host: "varia.example:8080", origin: "http://varia.example:8080" };
const FAR = "10.1.2.3";

function request(headers: Record<string, string> = {}): Request {
  return new Request("http://varia.example:8080/", { headers: { host: OWN.host, ...headers } });
}

function gateOf({ needsToken = true, readOnly = false } = {}) {
  let nowMs = 0;
  const roles: Record<string, "viewer" | "admin"> = { "viewer-token": "viewer", "admin-token": "admin" };
  const gate = new Gate({ needsToken, roleOf: (token) => roles[token] }, { nowMs: () => nowMs, readOnly });
  const login = (token: string, peer = FAR, headers: Record<string, string> = { origin: OWN.origin }) =>
    gate.login(token, { request: request(headers), peer });
  /** The cookie as a browser sends it back. */
  const enter = (token: string): string => {
    const answer = login(token);
    if (!("cookie" in answer)) throw new Error(answer.why);
    return answer.cookie.split(";")[0]!;
  };
  const admit = (headers: Record<string, string>) => gate.admit({ request: request(headers), peer: FAR });
  return { gate, login, enter, admit, pass: (ms: number) => (nowMs += ms) };
}

test("without tokens, callers on this machine are admins, by an address of it, and nobody else is let in", () => {
  const { gate } = gateOf({ needsToken: false });
  const admit = (peer: string, host: string) => gate.admit({ request: request({ host }), peer }).kind;
  for (const host of ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "10.0.0.5"]) {
    expect([host, admit("127.0.0.1", host)]).toEqual([host, "admitted"]);
  }
  expect(admit("::1", "localhost")).toBe("admitted");
  // a name that leads here may be anybody's, and a page of theirs would read what this one says
  for (const host of ["evil.example:8080", "localhost.evil.example", ""])
    expect(admit("127.0.0.1", host)).toBe("refused");
  for (const peer of [FAR, "", "::ffff:10.0.0.1"]) expect(admit(peer, "localhost")).toBe("refused");
});

test("with tokens, who has logged in is let in until nothing was asked for half an hour", () => {
  const { enter, admit, pass } = gateOf();
  expect(admit({}).kind).toBe("login");
  const cookie = enter("viewer-token");
  expect(admit({ cookie })).toMatchObject({ kind: "admitted", visitor: { role: "viewer" } });
  for (let nth = 0; nth < 3; nth++) {
    pass(SESSION_IDLE_MS - 1);
    expect(admit({ cookie: `other=1; ${cookie}; more=2` }).kind).toBe("admitted");
  }
  pass(SESSION_IDLE_MS);
  expect(admit({ cookie }).kind).toBe("login");
  expect(admit({ cookie: "varia-session=guessed" }).kind).toBe("login");
});

test("who is looking at a page is welcome until the session ends, and does not make it last", () => {
  const { gate, enter, admit, pass } = gateOf();
  const cookie = enter("viewer-token");
  const asking = { request: request({ cookie }), peer: FAR };
  pass(SESSION_IDLE_MS - 1);
  expect(gate.isWelcome(asking)).toBe(true);
  pass(1);
  expect([gate.isWelcome(asking), admit({ cookie }).kind]).toEqual([false, "login"]);
  const other = enter("viewer-token");
  gate.logout(request({ cookie: other }));
  expect(gate.isWelcome({ request: request({ cookie: other }), peer: FAR })).toBe(false);
  expect(gate.isWelcome({ request: request({ authorization: "Bearer viewer-token" }), peer: FAR })).toBe(true);
});

test("the cookie is kept from scripts, other sites, and plain connections where there is TLS", () => {
  const { gate, login, admit } = gateOf();
  const plain = login("admin-token");
  expect("cookie" in plain && plain.cookie).toMatch(/^varia-session=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict$/);
  const secure = login("admin-token", FAR, { origin: OWN.origin, "x-forwarded-proto": "https" });
  expect("cookie" in secure && secure.cookie).toMatch(
    /^__Host-varia-session=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict; Secure$/,
  );
  const cookie = "cookie" in secure ? secure.cookie.split(";")[0]! : "";
  const behindTls = { "x-forwarded-proto": "https" };
  expect(admit({ cookie, ...behindTls }).kind).toBe("admitted");
  // each is of its own kind of connection: a plain one could have been set by whoever is between
  expect(admit({ cookie }).kind).toBe("login");
  expect(admit({ cookie: cookie.replace("__Host-", ""), ...behindTls }).kind).toBe("login");
  expect(gate.logout(request({ cookie, ...behindTls }))).toStartWith("__Host-varia-session=; Max-Age=0; Path=/");
  expect(admit({ cookie, ...behindTls }).kind).toBe("login");
});

test("a session ends when its owner says so, and the oldest when there are too many", () => {
  const { gate, enter, admit } = gateOf();
  const cookie = enter("admin-token");
  expect(gate.logout(request({ cookie }))).toContain("Max-Age=0");
  expect(admit({ cookie }).kind).toBe("login");
  const cookies = Array.from({ length: SESSIONS_MAX }, () => enter("viewer-token"));
  expect(admit({ cookie: cookies[0]! }).kind).toBe("admitted"); // the newest now
  enter("viewer-token");
  expect([0, 1, 2].map((nth) => admit({ cookie: cookies[nth]! }).kind)).toEqual(["admitted", "login", "admitted"]);
});

test("a bearer token does as well, each time", () => {
  const { admit } = gateOf();
  expect(admit({ authorization: "Bearer admin-token" })).toMatchObject({
    kind: "admitted",
    visitor: { role: "admin" },
  });
  expect(admit({ authorization: "Bearer wrong" }).kind).toBe("refused");
  expect(admit({ authorization: "Basic admin-token" }).kind).toBe("login");
});

test("wrong tokens are counted by address and over all, and then not even a right one is taken for a while", () => {
  const { login, pass } = gateOf();
  const status = (token: string, peer: string) => {
    const answer = login(token, peer);
    return "status" in answer ? answer.status : 200;
  };
  for (let nth = 0; nth < LOGIN_FAILURES_MAX; nth++) expect(status("wrong", FAR)).toBe(401);
  expect([status("wrong", FAR), status("admin-token", FAR), status("admin-token", "10.9.9.9")]).toEqual([
    429, 429, 200,
  ]);
  pass(LOGIN_WINDOW_MS);
  expect(status("admin-token", FAR)).toBe(200);
  for (let nth = 0; nth < LOGIN_FAILURES_ALL_MAX; nth++) expect(status("wrong", `10.0.${nth}.1`)).toBe(401);
  expect(status("admin-token", "10.9.9.9")).toBe(429);
});

test("a login that another site sends is refused", () => {
  const { login } = gateOf();
  for (const headers of [
    {},
    { origin: "http://evil.example" },
    { origin: "null" },
    { "sec-fetch-site": "cross-site" },
  ]) {
    expect(login("admin-token", FAR, headers as Record<string, string>)).toMatchObject({ status: 403 });
  }
  expect("cookie" in login("admin-token", FAR, { "sec-fetch-site": "same-origin" })).toBe(true);
});

test("a change takes an admin, our own origin, and a form of the same session", () => {
  const { gate, enter, admit } = gateOf();
  const [admin, other, viewer] = [enter("admin-token"), enter("admin-token"), enter("viewer-token")];
  const tokenOf = (cookie: string) => {
    const admission = admit({ cookie });
    return admission.kind === "admitted" ? admission.visitor.formToken : "";
  };
  const why = (headers: Record<string, string>, token: string) =>
    gate.whyNotChange({ request: request(headers), peer: FAR }, new URLSearchParams({ token }));
  const origin = OWN.origin;
  expect(why({ cookie: admin, origin }, tokenOf(admin))).toBeUndefined();
  expect(why({ cookie: admin, origin }, "")).toContain("not of this session");
  expect(why({ cookie: admin, origin }, tokenOf(other))).toContain("not of this session");
  expect(why({ cookie: admin, origin: "http://evil.example" }, tokenOf(admin))).toContain("another site");
  expect(why({ cookie: admin }, tokenOf(admin))).toContain("another site");
  expect(why({ cookie: viewer, origin }, tokenOf(viewer))).toContain("viewer");
  expect(why({ origin }, tokenOf(admin))).toContain("not logged in");
  expect(why({ authorization: "Bearer admin-token" }, "")).toBeUndefined();
  expect(why({ authorization: "Bearer viewer-token" }, "")).toContain("viewer");
  const local = gateOf({ needsToken: false }).gate;
  const here = { request: request({ host: "localhost", origin: "http://localhost" }), peer: "127.0.0.1" };
  const admission = local.admit(here);
  const token = admission.kind === "admitted" ? admission.visitor.formToken : "";
  expect(local.whyNotChange(here, new URLSearchParams({ token }))).toBeUndefined();
  expect(local.whyNotChange(here, new URLSearchParams())).toContain("not of this session");
});

test("where it is read-only even an admin is a viewer, and changes nothing", () => {
  const { gate, admit } = gateOf({ readOnly: true });
  const headers = { authorization: "Bearer admin-token" };
  expect(admit(headers)).toMatchObject({ kind: "admitted", visitor: { role: "viewer" } });
  const why = gate.whyNotChange({ request: request(headers), peer: FAR }, new URLSearchParams());
  expect(why).toBe("This dashboard is read-only.");
});
