/**
 * Pictures of every page, for people who look at them:
 *
 *     bun scripts/screenshots.ts [--out screenshots] [--only NAME]
 *
 * A cluster of three data servers is started for it; each page is taken light and dark, wide and narrow, and twice
 * without a script. Needs root (each server has a network of its own) and Debian's chromium.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { LOGIN_PAGE, pagesOf } from "../test/browser/pages.ts";
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
  { name: "plain-dark-390", width: 390, scheme: "dark", script: false },
] as const;

mkdirSync(values.out, { recursive: true });
const stage = await openStage("screenshots");
const browser = await openBrowser();
try {
  const login = { ...LOGIN_PAGE, url: stage.url + LOGIN_PAGE.path };
  const pages = [...pagesOf(stage), login].filter(({ name }) => values.only === undefined || values.only === name);
  for (const { name: look, width, scheme, script } of LOOKS) {
    const context = await logIn(browser, [stage.url, stage.storageUrl, stage.standaloneUrl], {
      viewport: { width, height: 900 },
      colorScheme: scheme,
      javaScriptEnabled: script,
    });
    const tab = await context.newPage();
    for (const { name, url } of pages) {
      if (name === login.name) await context.clearCookies();
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
