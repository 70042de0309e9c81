/**
 * Pictures of every page, for people who look at them:
 *
 *     bun scripts/screenshots.ts [--out screenshots] [--only NAME]
 *
 * A cluster of three data servers is started for it; each page is taken light and dark, wide and narrow, and once
 * without a script. Needs root (each server has a network of its own) and Debian's chromium.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { COORDINATOR_PAGES, STORAGE_PAGES } from "../test/browser/pages.ts";
import { logIn, openBrowser, openStage } from "../test/browser/stage.ts";

const { values } = parseArgs({
  options: { out: { type: "string", default: "screenshots" }, only: { type: "string" } },
});

const LOOKS = [
  { name: "light-1280", width: 1280, scheme: "light", script: true },
  { name: "dark-1280", width: 1280, scheme: "dark", script: true },
  { name: "light-390", width: 390, scheme: "light", script: true },
  { name: "dark-390", width: 390, scheme: "dark", script: true },
  { name: "plain-1280", width: 1280, scheme: "light", script: false },
] as const;

mkdirSync(values.out, { recursive: true });
const stage = await openStage("screenshots");
const browser = await openBrowser();
try {
  const [storage] = stage.cluster.servers;
  const all = [
    ...COORDINATOR_PAGES.map((page) => ({ ...page, url: `${stage.url}${page.path}` })),
    ...STORAGE_PAGES.map((page) => ({ ...page, url: `http://${storage!.httpAddress}${page.path}` })),
  ];
  const pages = all.filter(({ name }) => values.only === undefined || values.only === name);
  for (const { name: look, width, scheme, script } of LOOKS) {
    const context = await logIn(browser, [stage.url, `http://${storage!.httpAddress}`], {
      viewport: { width, height: 900 },
      colorScheme: scheme,
      javaScriptEnabled: script,
    });
    const tab = await context.newPage();
    for (const { name, url } of pages) {
      await tab.goto(url);
      await tab.screenshot({ path: join(values.out, `${name}-${look}.png`), fullPage: true });
    }
    await context.close();
  }
  console.log(`${pages.length * LOOKS.length} pictures in ${values.out}`);
} finally {
  await browser.close();
  await stage.remove();
}
