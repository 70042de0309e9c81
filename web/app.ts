/**
 * The HTTP port: pages, what load balancers and Prometheus ask, and the files that pages load. Every page is a GET that
 * works without a script; with one, what it shows comes again whenever it changes.
 *
 *     GET address ─> page ─> whole document            GET /live?page=address ─> page ─> its body, again and again
 */
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { compress } from "hono/compress";
import { NONCE, secureHeaders } from "hono/secure-headers";
import { NOTE_CHARACTERS_MAX } from "../src/ops/events.ts";
import { GetClusterStatus, ListEvents, ListOperations, WatchEvents } from "./admin.ts";
import { ASSETS } from "./assets.ts";
import { fieldsOf } from "./deed.ts";
import { DEEDS, isServed } from "./deeds.ts";
import { type Asking, Gate, type Visitor } from "./gate.ts";
import type { Inspect } from "./inspect.ts";
import { VALUE_PATH } from "./key-space.ts";
import { document } from "./layout.tsx";
import { Live } from "./live.ts";
import { ADDRESS_CHARACTERS_MAX, type Asked, isTooLong, type Page, PageError, type PageOf } from "./page.ts";
import { configurationPage } from "./pages/configuration.tsx";
import { deedPage, NOTE_FIELD } from "./pages/deed.tsx";
import { BUNDLE_PATH, diagnosisPage } from "./pages/diagnosis.tsx";
import { errorPage, refusedPage } from "./pages/error.tsx";
import { eventsJson, eventsPage } from "./pages/events.tsx";
import { helpPage } from "./pages/help.tsx";
import { indexPage } from "./pages/index-lookup.tsx";
import { keysPage } from "./pages/keys.tsx";
import { loginPage } from "./pages/login.tsx";
import { namespacePage, namespacesPage } from "./pages/namespaces.tsx";
import { nodePage } from "./pages/node.tsx";
import { notificationsPage } from "./pages/notifications.tsx";
import { operationPage, operationsPage } from "./pages/operations.tsx";
import { overviewPage } from "./pages/overview.tsx";
import { performancePage } from "./pages/performance.tsx";
import { recordPage, recordValue } from "./pages/record.tsx";
import { serverPage, serversPage } from "./pages/servers.tsx";
import { sessionPage, sessionsPage } from "./pages/sessions.tsx";
import { shardPage } from "./pages/shard.tsx";
import { shardsPage } from "./pages/shards.tsx";
import { supportBundle } from "./support-bundle.ts";
import { Tails } from "./tails.ts";

/** An answer of the cluster that is so old is shown: many readers cost it no more than one. In milliseconds. */
const SHOWN_AGE_MS_MAX = 400;
/** A page that is opened is there at once: it shows an older one, and a newer one is asked for meanwhile, which it gets when it is live. */
const FIRST_SHOWN = { maxAgeMs: 1_500, refreshAgeMs: SHOWN_AGE_MS_MAX } as const;

/** Longer forms are refused. */
export const FORM_BYTES_MAX = 4 * 1024 * 1024;

const LOGGED_OUT = "You are not logged in, or not any more: nothing was done.";

interface Env {
  Bindings: { readonly peer: string };
  Variables: { secureHeadersNonce: string; visitor: Visitor };
}

/** By the shape of an address: each `*` is one place of it. */
type Pages = readonly (readonly [shape: string, page: PageOf])[];

export interface WebApp {
  /** `peer`: the address that the request came from. */
  readonly fetch: (request: Request, peer: string) => Response | Promise<Response>;
  /** Ends what is still sent. */
  close(): void;
}

export function webApp(inspect: Inspect): WebApp {
  const tails = new Tails(inspect.client);
  const pages = pagesOf(inspect, tails);
  const gate = new Gate(inspect.access, { readOnly: inspect.ui === "read-only" });
  const show = (address: string, visitor: Visitor) => pageAt(pages, { inspect, visitor, ...FIRST_SHOWN }, address);
  // all see the same: what a page offers to admins alone is not live
  const live = new Live({
    render: async (address) => {
      const visitor = { role: "viewer", formToken: "" } as const;
      const page = await pageAt(pages, { inspect, visitor, maxAgeMs: SHOWN_AGE_MS_MAX }, address);
      return page.live === true ? String(page.body) : "";
    },
  });
  const closed = new AbortController();
  if (inspect.ui !== "off" && inspect.calls.serves(WatchEvents)) {
    const watch = inspect.calls.stream(WatchEvents, {}, { each: () => live.wake(), signal: closed.signal });
    watch.catch(() => {}); // pages are made from time to time all the same
  }
  const app = new Hono<Env>();
  forMachines(app, inspect);
  app.use(async (context, next) => {
    // what a page of another site could send from this very machine: see Gate
    const refusal = gate.needsToken ? undefined : gate.admit(askingOf(context));
    if (refusal?.kind === "refused") return next();
    return (await inspect.answer(context.req.raw, context.env.peer)) ?? next();
  });
  if (inspect.ui === "off") return { fetch: (request, peer) => app.fetch(request, { peer }), close: () => {} };
  app.use(securePages());
  files(app);
  app.get("/login", (context) => send(context, inspect, loginPage({ to: context.req.query("to") ?? "/", why: "" })));
  app.post("/login", bodyLimit({ maxSize: FORM_BYTES_MAX, onError: tooLarge(inspect) }), async (context) => {
    const form = new URLSearchParams(await context.req.text());
    const to = ownPath(form.get("to") ?? "/");
    const answer = gate.login(form.get("token") ?? "", askingOf(context));
    if ("why" in answer) {
      inspect.audit.turnedAway({ what: "login", peer: context.env.peer }, answer.why);
      return send(context, inspect, loginPage({ ...answer, to }));
    }
    context.header("set-cookie", answer.cookie);
    return context.redirect(to, 303);
  });
  app.post("/logout", (context) => {
    context.header("set-cookie", gate.logout(context.req.raw));
    return context.redirect("/login", 303);
  });
  app.use(async (context, next) => {
    const admission = gate.admit(askingOf(context));
    if (admission.kind === "admitted") {
      context.set("visitor", admission.visitor);
      return next();
    }
    const isPage = !["/live", "/events.json", BUNDLE_PATH].includes(context.req.path);
    if (admission.kind === "refused") {
      if (!isPage) return context.text(`${admission.why}\n`, 403);
      return send(context, inspect, refusedPage(admission.why));
    }
    if (!isPage) return context.text("Log in first.\n", 401);
    const { pathname, search } = new URL(context.req.url);
    if (isTooLong(pathname + search)) return send(context, inspect, errorPage(tooLong()));
    if (context.req.method !== "GET")
      return send(context, inspect, loginPage({ to: "/", why: LOGGED_OUT, status: 401 }));
    return context.redirect(`/login?to=${encodeURIComponent(pathname + search)}`, 303);
  });
  app.get("/live", (context) => {
    const asking = askingOf(context);
    const reader = { lastId: context.req.header("last-event-id") ?? "", isWelcome: () => gate.isWelcome(asking) };
    const stream = live.open(context.req.query("page") ?? "/", reader);
    if (stream === undefined) return context.text("Too many pages are open.\n", 503);
    return context.body(stream, 200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  });
  if (inspect.calls.serves(ListEvents)) app.get("/events.json", (context) => sendEvents(context, inspect));
  app.get(BUNDLE_PATH, (context) => sendBundle(context, inspect));
  if (inspect.mode !== "storage") app.get(VALUE_PATH, (context) => sendValue(context, inspect));
  app.post("/do/:name", bodyLimit({ maxSize: FORM_BYTES_MAX, onError: tooLarge(inspect) }), async (context) => {
    const form = new URLSearchParams(await context.req.text());
    const why = gate.whyNotChange(askingOf(context), form);
    const [name, { peer }] = [context.req.param("name"), context.env];
    if (why !== undefined) {
      if (Object.hasOwn(DEEDS, name)) inspect.audit.turnedAway({ what: DEEDS[name]!.title, peer }, why);
      return send(context, inspect, refusedPage(why));
    }
    try {
      return context.redirect(await carryOut(inspect, { name, form, peer }), 303);
    } catch (error) {
      return send(context, inspect, errorPage(error));
    }
  });
  app.get("*", compress(), async (context) => {
    const { pathname, search } = new URL(context.req.url);
    if (isTooLong(pathname + search)) return send(context, inspect, errorPage(tooLong()));
    return send(context, inspect, await show(pathname + search, context.get("visitor")));
  });
  app.notFound((context) => {
    const { method, path } = context.req;
    return send(context, inspect, errorPage(new PageError(404, `There is nothing at ${path} that takes ${method}.`)));
  });
  return {
    fetch: (request, peer) => app.fetch(request, { peer }),
    close: () => {
      closed.abort();
      live.close();
      tails.close();
    },
  };
}

/** Does what a form asks for; resolves to where one sees it. */
async function carryOut(
  inspect: Inspect,
  { name, form, peer }: { readonly name: string; readonly form: URLSearchParams; readonly peer: string },
): Promise<string> {
  const deed = Object.hasOwn(DEEDS, name) ? DEEDS[name]! : undefined;
  if (deed === undefined || !isServed(deed, inspect)) throw new PageError(404, `Nothing is called "${name}".`);
  const fields = fieldsOf(deed, form);
  const { typed } = await deed.preview(inspect, fields);
  if (typed !== undefined && form.get("typed") !== typed)
    throw new PageError(400, `Nothing was done: type ${typed} first.`);
  const note = (form.get(NOTE_FIELD) ?? "").slice(0, NOTE_CHARACTERS_MAX).trim();
  const change = { what: `${deed.title} ${deed.about(fields)}`.trim(), peer, note, about: fields };
  try {
    const to = await deed.run(inspect, fields);
    inspect.audit.changed(change);
    return to;
  } catch (error) {
    inspect.audit.refused(change, error);
    throw error;
  }
}

function tooLarge(inspect: Inspect) {
  return (context: Context) =>
    send(
      context as Context<Env>,
      inspect,
      errorPage(new PageError(413, `A form has at most ${FORM_BYTES_MAX} bytes.`)),
    );
}

function tooLong(): PageError {
  return new PageError(
    414,
    `The address of a page has at most ${ADDRESS_CHARACTERS_MAX} characters, and this one has more. \`varia client\` takes keys of any length.`,
  );
}

function askingOf(context: Context<Env>): Asking {
  return { request: context.req.raw, peer: context.env.peer };
}

/** An address of this server; anything else is its first page. */
function ownPath(to: string): string {
  return /^\/(?![/\\])/.test(to) ? to : "/";
}

function send(context: Context<Env>, inspect: Inspect, page: Page): Response | Promise<Response> {
  const { pathname, search } = new URL(context.req.url);
  const nonce = context.get("secureHeadersNonce");
  const html = document(page, {
    inspect,
    path: pathname,
    address: pathname + search,
    nonce,
    visitor: context.get("visitor"),
  });
  return context.html(html, page.status ?? 200, { "cache-control": "no-store" });
}

async function sendBundle(context: Context<Env>, inspect: Inspect): Promise<Response> {
  const asked = { inspect, places: [], query: new URLSearchParams(), visitor: context.get("visitor"), maxAgeMs: 0 };
  const nowMs = Date.now();
  const name = `varia-${inspect.mode}-${new Date(nowMs).toISOString().slice(0, 19).replaceAll(":", "")}.json`;
  return context.body(await supportBundle(asked, nowMs), 200, {
    "content-type": "application/json",
    "content-disposition": `attachment; filename="${name}"`,
    "cache-control": "no-store",
  });
}

async function sendValue(context: Context<Env>, inspect: Inspect): Promise<Response> {
  const query = new URL(context.req.url).searchParams;
  try {
    const { name, value } = await recordValue({
      inspect,
      places: [],
      query,
      visitor: context.get("visitor"),
      maxAgeMs: 0,
    });
    return context.body(new Uint8Array(value), 200, {
      "content-type": "application/octet-stream",
      "content-disposition": `attachment; filename="${name}"`,
      "cache-control": "no-store",
    });
  } catch (error) {
    return send(context, inspect, errorPage(error));
  }
}

async function sendEvents(context: Context<Env>, inspect: Inspect): Promise<Response> {
  const query = new URL(context.req.url).searchParams;
  const asked = { inspect, places: [], query, visitor: context.get("visitor"), maxAgeMs: SHOWN_AGE_MS_MAX };
  try {
    return context.body(await eventsJson(asked), 200, { "content-type": "application/json" });
  } catch (error) {
    const { status = 500 } = errorPage(error);
    return context.json({ error: error instanceof Error ? error.message : String(error) }, status);
  }
}

function files(app: Hono<Env>): void {
  app.get("/assets/:name", (context) => {
    const asset = ASSETS.get(context.req.path);
    if (asset === undefined) return context.text("There is no such file.\n", 404);
    const zipped = /\bgzip\b/.test(context.req.header("accept-encoding") ?? "");
    return context.body(zipped ? asset.gzip : asset.body, 200, {
      "content-type": asset.type,
      "cache-control": "public, max-age=31536000, immutable",
      vary: "accept-encoding",
      ...(zipped ? { "content-encoding": "gzip" } : {}),
    });
  });
  app.get("/icon.svg", (context) => context.body(ICON, 200, { "content-type": "image/svg+xml" }));
}

/** What nobody may do with a page: run or load anything that is not ours, or put it into a frame. */
function securePages() {
  return secureHeaders({
    contentSecurityPolicy: {
      defaultSrc: ["'none'"],
      scriptSrc: [NONCE],
      styleSrc: [NONCE],
      imgSrc: ["'self'"],
      connectSrc: ["'self'"],
      formAction: ["'self'"],
      frameAncestors: ["'none'"],
      baseUri: ["'none'"],
    },
    // nothing is told to other sites; with "no-referrer" browsers would send our own forms without their origin
    referrerPolicy: "same-origin",
    xFrameOptions: "DENY",
    // the port speaks plain HTTP: browsers take these with TLS alone, and whoever puts it before the port says them there
    strictTransportSecurity: false,
    crossOriginOpenerPolicy: false,
    originAgentCluster: false,
  });
}

function pagesOf(inspect: Inspect, tails: Tails): Pages {
  const { calls, mode } = inspect;
  const node = [["/node", nodePage]] as const;
  const deeds = Object.entries(DEEDS).filter(([, deed]) => isServed(deed, inspect));
  const previews = deeds.map(([name, deed]) => {
    return [`/do/${name}`, (asked: Asked) => deedPage(deed, name, asked)] as const;
  });
  const help = [
    ["/configuration", configurationPage],
    ["/performance", performancePage],
    ["/help", helpPage],
  ] as const;
  if (!calls.serves(GetClusterStatus)) return [["/", nodePage], ...previews, ...node, ...help];
  return [
    ["/", overviewPage],
    ["/namespaces", namespacesPage],
    ["/namespaces/*", namespacePage],
    ["/shards", shardsPage],
    ["/shards/*/*", shardPage],
    ["/servers", serversPage],
    ["/servers/*", serverPage],
    ["/diagnosis", diagnosisPage],
    ...(calls.serves(ListOperations)
      ? ([
          ["/operations", operationsPage],
          ["/operations/*", operationPage],
        ] as const)
      : []),
    ...(calls.serves(ListEvents) ? ([["/events", eventsPage]] as const) : []),
    ...(mode === "storage"
      ? []
      : [...DATA_PAGES, ["/notifications", (asked: Asked) => notificationsPage(asked, tails)] as const]),
    ...previews,
    ...node,
    ...help,
  ];
}

/** What stands at an address; what cannot be shown there, in words. */
async function pageAt(
  pages: Pages,
  asked: Pick<Asked, "inspect" | "visitor" | "maxAgeMs" | "refreshAgeMs">,
  address: string,
): Promise<Page> {
  try {
    const { pathname, searchParams } = new URL(address, "http://varia");
    const given = placesOf(pathname);
    for (const [shape, page] of pages) {
      const wanted = placesOf(shape);
      const isIt =
        wanted.length === given.length && wanted.every((place, nth) => place === "*" || place === given[nth]);
      if (!isIt) continue;
      const places = given.filter((_, nth) => wanted[nth] === "*");
      return await page({ ...asked, places, query: searchParams });
    }
    throw new PageError(404, `There is no page ${pathname}.`);
  } catch (error) {
    return errorPage(error);
  }
}

/** Of what clients have stored. */
const DATA_PAGES: Pages = [
  ["/keys", keysPage],
  ["/keys/record", recordPage],
  ["/keys/index", indexPage],
  ["/sessions", sessionsPage],
  ["/sessions/*/*/*", sessionPage],
];

function placesOf(pathname: string): string[] {
  try {
    return pathname
      .split("/")
      .filter((place) => place !== "")
      .map(decodeURIComponent);
  } catch {
    throw new PageError(400, "The address is not well-formed.");
  }
}

/** `/livez`, `/readyz` (with `?verbose`), `/metrics`: they answer everybody who reaches the port. */
function forMachines(app: Hono<Env>, inspect: Inspect): void {
  app.get("/livez", (context) => context.text("ok\n"));
  app.get("/readyz", (context) => {
    const checks = inspect.readiness();
    const ready = checks.every(({ ok }) => ok);
    const lines = checks.map(
      ({ name, ok, detail }) => `${ok ? "[+]" : "[-]"} ${name}${detail === "" ? "" : `: ${detail}`}`,
    );
    const verdict = ready ? "ok" : "not ready";
    const verbose = context.req.query("verbose") !== undefined || !ready;
    return context.text(verbose ? `${lines.join("\n")}\n${verdict}\n` : `${verdict}\n`, ready ? 200 : 503);
  });
  app.get("/metrics", async (context) =>
    context.body(await inspect.metricsText(), 200, { "content-type": inspect.metricsContentType }),
  );
}

const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#0b5bd3"/><path d="M8 9l8 15 8-15" fill="none" stroke="#fff" stroke-width="3.5" stroke-linecap="round" stroke-linejoin="round"/></svg>`;
