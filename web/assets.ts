/** The files that pages load, embedded as text, under names that change with their content: they may be kept for ever. */

import sse from "htmx.org/dist/ext/hx-sse.min.js" with { type: "text" };
import htmx from "htmx.org/dist/htmx.min.js" with { type: "text" };
import uplot from "uplot/dist/uPlot.iife.min.js" with { type: "text" };
import uplotStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import app from "./assets/app.js" with { type: "text" };
import charts from "./assets/charts.js" with { type: "text" };
import style from "./assets/style.css" with { type: "text" };

export interface Asset {
  readonly path: string;
  readonly type: string;
  readonly body: Uint8Array<ArrayBuffer>;
  readonly gzip: Uint8Array<ArrayBuffer>;
}

function asset(name: string, type: string, text: string): Asset {
  const body = new TextEncoder().encode(text);
  const [stem, end] = [name.slice(0, name.lastIndexOf(".")), name.slice(name.lastIndexOf("."))];
  const path = `/assets/${stem}-${Bun.hash(body).toString(36).slice(0, 10)}${end}`;
  return { path, type, body, gzip: Bun.gzipSync(body, { level: 9 }) };
}

const JAVASCRIPT = "text/javascript; charset=utf-8";

export const STYLE = asset("style.css", "text/css; charset=utf-8", style);
/**
 * One file: htmx begins in a task of its own right after it has run, and an extension that arrives in a later file may be
 * too late for it; the page then never asks for its stream.
 */
export const SCRIPT = asset("varia.js", JAVASCRIPT, [htmx, sse, app].join(";\n"));
/** Of pages with charts, before their own. */
export const CHART_STYLE = asset("charts.css", "text/css; charset=utf-8", uplotStyle);
export const CHART_SCRIPTS = [asset("uplot.js", JAVASCRIPT, uplot), asset("charts.js", JAVASCRIPT, charts)];

const ALL = [STYLE, SCRIPT, CHART_STYLE, ...CHART_SCRIPTS];
export const ASSETS: ReadonlyMap<string, Asset> = new Map(ALL.map((one) => [one.path, one]));
