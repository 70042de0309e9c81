/**
 * The HTTP port: pages, what load balancers and Prometheus ask, and the files that pages load. Every page is a GET that
 * works without a script; with one, what it shows comes again whenever it changes.
 *
 *     GET address ─> page ─> whole document            GET /live?page=address ─> page ─> its body, again and again
 */
import { Hono } from "hono";
import { compress } from "hono/compress";
import { NONCE, secureHeaders } from "hono/secure-headers";
import { GetClusterStatus, ListEvents } from "./admin.ts";
import { ASSETS } from "./assets.ts";
import type { Inspect } from "./inspect.ts";
import { document } from "./layout.tsx";
import { Live } from "./live.ts";
import { type Asked, type Page, PageError, type PageOf } from "./page.ts";
import { errorPage } from "./pages/error.tsx";
import { eventsJson, eventsPage } from "./pages/events.tsx";
import { helpPage } from "./pages/help.tsx";
import { keysPage, recordPage } from "./pages/keys.tsx";
import { namespacePage, namespacesPage } from "./pages/namespaces.tsx";
import { nodePage } from "./pages/node.tsx";
import { overviewPage } from "./pages/overview.tsx";
import { serverPage, serversPage } from "./pages/servers.tsx";
import { shardPage } from "./pages/shard.tsx";
import { shardsPage } from "./pages/shards.tsx";

/** An answer of the cluster that is so old is shown: many readers cost it no more than one. In milliseconds. */
const SHOWN_AGE_MS_MAX = 400;

/** By the shape of an address: each `*` is one place of it. */
type Pages = readonly (readonly [shape: string, page: PageOf])[];

export interface WebApp {
  readonly fetch: (request: Request) => Response | Promise<Response>;
  /** Ends what is still sent. */
  close(): void;
}

export function webApp(inspect: Inspect): WebApp {
  const pages = pagesOf(inspect);
  const live = new Live({
    render: async (address) => {
      const page = await pageAt(address);
      return page.live === true ? String(page.body) : "";
    },
  });
  const pageAt = async (address: string): Promise<Page> => {
    try {
      const url = new URL(address, "http://varia");
      return await ask(pages, inspect, url);
    } catch (error) {
      return errorPage(error);
    }
  };
  const app = new Hono<{ Variables: { secureHeadersNonce: string } }>();
  forMachines(app as never, inspect);
  app.use(securePages());
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
  app.get("/live", (context) => {
    const stream = live.open(context.req.query("page") ?? "/", context.req.header("last-event-id") ?? "");
    if (stream === undefined) return context.text("Too many pages are open.\n", 503);
    return context.body(stream, 200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  });
  if (inspect.calls.serves(ListEvents)) {
    app.get("/events.json", async (context) => {
      const url = new URL(context.req.url);
      const asked: Asked = { inspect, places: [], query: url.searchParams, maxAgeMs: SHOWN_AGE_MS_MAX };
      try {
        return context.body(await eventsJson(asked), 200, { "content-type": "application/json" });
      } catch (error) {
        return context.json({ error: error instanceof Error ? error.message : String(error) }, errorPage(error).status);
      }
    });
  }
  app.get("*", compress(), async (context) => {
    const { pathname, search } = new URL(context.req.url);
    const address = pathname + search;
    const page = await pageAt(address);
    const nonce = context.get("secureHeadersNonce");
    const liveUrl = `/live?page=${encodeURIComponent(address)}`;
    const html = document(page, { inspect, path: pathname, liveUrl, nonce });
    return context.html(html, page.status ?? 200, { "cache-control": "no-store" });
  });
  return { fetch: (request) => app.fetch(request), close: () => live.close() };
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
    referrerPolicy: "no-referrer",
    xFrameOptions: "DENY",
    // the port speaks plain HTTP: whoever puts TLS before it says so there
    strictTransportSecurity: false,
  });
}

function pagesOf({ calls, mode }: Inspect): Pages {
  const node = [["/node", nodePage]] as const;
  const help = [["/help", helpPage]] as const;
  if (!calls.serves(GetClusterStatus)) return [["/", nodePage], ...node, ...help];
  return [
    ["/", overviewPage],
    ["/namespaces", namespacesPage],
    ["/namespaces/*", namespacePage],
    ["/shards", shardsPage],
    ["/shards/*/*", shardPage],
    ["/servers", serversPage],
    ["/servers/*", serverPage],
    ...(calls.serves(ListEvents) ? ([["/events", eventsPage]] as const) : []),
    ...(mode === "storage"
      ? []
      : ([
          ["/keys", keysPage],
          ["/keys/record", recordPage],
        ] as const)),
    ...node,
    ...help,
  ];
}

async function ask(pages: Pages, inspect: Inspect, { pathname, searchParams }: URL): Promise<Page> {
  const given = placesOf(pathname);
  for (const [shape, page] of pages) {
    const wanted = placesOf(shape);
    if (wanted.length !== given.length || !wanted.every((place, nth) => place === "*" || place === given[nth]))
      continue;
    const places = given.filter((_, nth) => wanted[nth] === "*");
    return page({ inspect, places, query: searchParams, maxAgeMs: SHOWN_AGE_MS_MAX });
  }
  throw new PageError(404, `There is no page ${pathname}.`);
}

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
function forMachines(app: Hono, inspect: Inspect): void {
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
