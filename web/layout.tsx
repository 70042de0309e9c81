/** @jsxImportSource hono/jsx */
/** The frame around every page: where one is, where one can go, and what loads. */
import { GetClusterStatus, ListEvents, ListOperations } from "./admin.ts";
import { CHART_SCRIPTS, CHART_STYLE, SCRIPT, STYLE } from "./assets.ts";
import type { Visitor } from "./gate.ts";
import type { Inspect } from "./inspect.ts";
import type { Page } from "./page.ts";
import { isOfServer } from "./parts/process-trail.tsx";

export interface Frame {
  readonly inspect: Inspect;
  readonly path: string;
  /** Path and query of this page. */
  readonly address: string;
  readonly nonce: string;
  /** Who looks; undefined: nobody knows yet. */
  readonly visitor: Visitor | undefined;
}

/** The whole document. */
export function document(
  { title, body, live, still, charts }: Page,
  { inspect, path, address, nonce, visitor }: Frame,
): string {
  const mode = inspect.mode;
  const shown = isOfServer(address) ? "/servers" : path;
  const asked = encodeURIComponent(address);
  const html = (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <meta name="htmx-config" content={HTMX_CONFIG} />
        <title>{`${title} · Varia`}</title>
        <link rel="icon" href="/icon.svg" type="image/svg+xml" />
        {charts === true ? <link rel="stylesheet" href={CHART_STYLE.path} nonce={nonce} /> : null}
        <link rel="stylesheet" href={STYLE.path} nonce={nonce} />
        {[SCRIPT, ...(charts === true ? CHART_SCRIPTS : [])].map((script) => (
          <script src={script.path} nonce={nonce} defer />
        ))}
      </head>
      <body>
        <a class="skip" href="#main">
          Skip to content
        </a>
        <div class="frame">
          <header class="side">
            <a class="brand" href="/">
              Varia <small>{mode}</small>
            </a>
            <nav aria-label="Pages">
              <ul>
                {(visitor === undefined ? [] : navigation(inspect)).map(([href, name]) => (
                  <li>
                    <a href={href} aria-current={isWithin(shown, href) ? "page" : undefined}>
                      {name}
                    </a>
                  </li>
                ))}
              </ul>
            </nav>
            {visitor === undefined || !inspect.access.needsToken ? null : (
              <form class="who" method="post" action="/logout">
                <span>{visitor.role}</span>
                <button type="submit">Log out</button>
              </form>
            )}
            <div class="tools">
              <button type="button" data-tool="theme">
                Theme
              </button>
              <button type="button" data-tool="times">
                Times
              </button>
              <button type="button" data-tool="live">
                Live
              </button>
            </div>
          </header>
          <main id="main">
            {live === true ? (
              <div id="stale" class="verdict warn" role="alert" hidden>
                <strong>Not live</strong>
                <span>
                  <span data-stale="why" /> What is shown is as of <span data-stale="since" />.{" "}
                  <a data-stale="login" href={`/login?to=${asked}`}>
                    Log in
                  </a>
                </span>
              </div>
            ) : null}
            {live === true ? (
              <div id="live" data-live hx-sse:connect={`/live?page=${asked}`} hx-target="this" hx-swap="innerMorph">
                {body}
              </div>
            ) : (
              body
            )}
            {still}
          </main>
        </div>
      </body>
    </html>
  );
  return `<!doctype html>${html}`;
}

/** Nothing of htmx that would need inline styles or evaluation. */
const HTMX_CONFIG = JSON.stringify({
  ...{ includeIndicatorCSS: false, history: false, prefix: "hx-" },
  // an answer that is no page does not take the place of one
  noSwap: [204, 304, "4xx", "5xx"],
  sse: { reconnectDelay: 500, reconnectMaxDelay: 5_000 },
});

/** What can be shown here depends on what is served here. */
export function navigation({ calls, mode }: Inspect): readonly (readonly [href: string, name: string])[] {
  const cluster = calls.serves(GetClusterStatus);
  return [
    ...(cluster
      ? ([
          ["/", "Overview"],
          ["/namespaces", "Namespaces"],
          ["/shards", "Shards"],
          ["/servers", "Servers"],
        ] as const)
      : []),
    ...(calls.serves(ListOperations) ? ([["/operations", "Operations"]] as const) : []),
    ...(calls.serves(ListEvents) ? ([["/events", "Events"]] as const) : []),
    ...(mode === "storage"
      ? []
      : ([
          ["/keys", "Keys"],
          ["/sessions", "Sessions"],
          ["/notifications", "Notifications"],
        ] as const)),
    ...(cluster ? ([["/diagnosis", "Diagnosis"]] as const) : []),
    [cluster ? "/node" : "/", "This process"] as const,
    ["/performance", "Performance"] as const,
    ["/configuration", "Configuration"] as const,
    ["/help", "Help"] as const,
  ];
}

function isWithin(path: string, href: string): boolean {
  return href === "/" ? path === "/" : path === href || path.startsWith(`${href}/`);
}
