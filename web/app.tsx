/**
 * The HTTP port: what this server is, whether it lives and is ready, and its metrics. Answers everybody who reaches
 * the port and changes nothing. Everything it shows comes from `Inspect`.
 */
import { Hono } from "hono";
import { secureHeaders } from "hono/secure-headers";
import type { Inspect } from "./inspect.ts";
import { HomePage } from "./pages/home.tsx";

/** `/`, `/livez`, `/readyz` (with `?verbose`), `/metrics`; anything else is 404. */
export function webApp(inspect: Inspect): Hono {
  const app = new Hono();
  app.use(
    secureHeaders({
      contentSecurityPolicy: {
        defaultSrc: ["'none'"],
        styleSrc: ["'self'"],
        frameAncestors: ["'none'"],
        baseUri: ["'none'"],
      },
      referrerPolicy: "no-referrer",
    }),
  );
  app.get("/", (context) => context.html(`<!doctype html>${HomePage({ overview: inspect.overview() })}`));
  app.get("/style.css", (context) =>
    context.body(inspect.styleSheet, 200, { "content-type": "text/css; charset=utf-8" }),
  );
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
  return app;
}
