/**
 * The dashboard of a real cluster in a real browser: every page, light and dark, wide and narrow, with and without its
 * script. Nothing is loaded from elsewhere, nothing fails in the console, and axe finds nothing serious.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { AxeBuilder } from "@axe-core/playwright";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { VIEWER_TOKEN } from "../e2e/cluster.ts";
import { HOSTILE_KEYS, LOGIN_PAGE, pagesOf } from "./pages.ts";
import { logIn, openBrowser, openStage, type Stage, untilWell } from "./stage.ts";

let stage: Stage;
let browser: Browser;
let urls: readonly string[];

beforeAll(async () => {
  [stage, browser] = await Promise.all([openStage("browser"), openBrowser()]);
  urls = [stage.url, stage.storageUrl, stage.standaloneUrl];
}, 120_000);

afterAll(async () => {
  await browser?.close();
  await stage?.remove();
});

/** A tab whose complaints are kept: messages of the console, errors, requests that went elsewhere or failed. */
async function watchedTab(context: BrowserContext): Promise<{ tab: Page; complaints: string[] }> {
  const tab = await context.newPage();
  const complaints: string[] = [];
  const hosts = urls.map((url) => new URL(url).host);
  tab.on("console", (message) => {
    // the browser itself says that a page of an error has its status
    if (/Failed to load resource.*(404|400)/.test(message.text())) return;
    if (["error", "warning"].includes(message.type())) complaints.push(`console: ${message.text()}`);
  });
  tab.on("pageerror", (error) => complaints.push(`error: ${error.message}`));
  tab.on("request", (request) => {
    const { host, protocol } = new URL(request.url());
    if (protocol !== "data:" && !hosts.includes(host)) complaints.push(`request: ${request.url()}`);
  });
  return { tab, complaints };
}

for (const { scheme, width, script } of [
  { scheme: "light", width: 1280, script: true },
  { scheme: "dark", width: 1280, script: true },
  { scheme: "light", width: 390, script: true },
  { scheme: "dark", width: 390, script: true },
  { scheme: "light", width: 1280, script: false },
  { scheme: "dark", width: 1280, script: false },
  { scheme: "light", width: 390, script: false },
  { scheme: "dark", width: 390, script: false },
] as const) {
  test(`every page: ${scheme}, ${width} px, ${script ? "with" : "without"} script`, async () => {
    const options = { viewport: { width, height: 900 }, colorScheme: scheme, javaScriptEnabled: script };
    const context = await logIn(browser, urls, options);
    const { tab, complaints } = await watchedTab(context);
    const login = { ...LOGIN_PAGE, url: stage.url + LOGIN_PAGE.path };
    for (const { name, url, heading } of [...pagesOf(stage), login]) {
      if (name === login.name) await context.clearCookies();
      await tab.goto(url);
      expect([name, await tab.getByRole("heading", { level: 1 }).textContent()]).toEqual([name, heading]);
      expect([name, complaints]).toEqual([name, []]);
      const wider = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      expect([name, wider <= 0]).toEqual([name, true]);
      // axe is a script; colours do not differ by width
      if (!script || (scheme === "dark" && width < 1280)) continue;
      const { violations } = await new AxeBuilder({ page: tab }).analyze();
      const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
      const found = serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`);
      expect([name, found]).toEqual([name, []]);
    }
    await context.close();
  }, 240_000);
}

test("a page is live however late its scripts come, and in whatever pieces", async () => {
  const context = await logIn(browser, urls);
  const { tab, complaints } = await watchedTab(context);
  let scripts = 0;
  await tab.route("**/assets/*.js", async (route) => {
    // each a good while after the one before it: the browser runs them one by one
    await Bun.sleep(scripts++ * 300);
    await route.continue();
  });
  const asked = tab.waitForRequest((request) => new URL(request.url()).pathname === "/live");
  await tab.goto(`${stage.url}/performance`);
  await asked;
  expect(scripts).toBeGreaterThan(0);
  expect(complaints).toEqual([]);
  await context.close();
}, 60_000);

test("an election comes on screen by itself, and a pause holds it back", async () => {
  const context = await logIn(browser, urls);
  const { tab, complaints } = await watchedTab(context);
  const paused = await context.newPage();
  await Promise.all([tab.goto(`${stage.url}/`), paused.goto(`${stage.url}/`)]);
  await paused.getByRole("button", { name: "Live: on" }).click();
  await paused.getByRole("button", { name: "Live: paused" }).waitFor();
  const leader = await stage.cluster.leader();
  const before = await paused.locator("#live").textContent();
  await leader.kill();
  await tab.getByText("Degraded", { exact: true }).waitFor();
  await tab.getByRole("row", { name: new RegExp(`${leader.name} unavailable`) }).waitFor();
  await tab.getByText(`data server ${leader.name}`).first().waitFor();
  await tab.getByText("data server unavailable").first().waitFor();
  await leader.start();
  await untilWell(stage.cluster);
  await tab.getByText("Healthy", { exact: true }).waitFor();
  expect(await paused.locator("#live").textContent()).toBe(before);
  expect(complaints).toEqual([]);
  await context.close();
}, 120_000);

test("keys of every kind are text: none of them runs, and each leads to its record", async () => {
  const context = await logIn(browser, urls);
  const { tab, complaints } = await watchedTab(context);
  for (const key of HOSTILE_KEYS) {
    await tab.goto(`${stage.url}/keys/record?namespace=default&key=${encodeURIComponent(key)}`);
    expect(await tab.title()).not.toBe("run");
    await tab.locator("bdi", { hasText: "<b>not bold</b>" }).waitFor();
  }
  await tab.goto(`${stage.url}/keys?namespace=default`);
  expect(await tab.title()).toBe("Keys of default · Varia");
  await tab.getByRole("link", { name: "greeting" }).click();
  await tab.locator("bdi", { hasText: "hello" }).first().waitFor();
  await tab.getByRole("link", { name: "hex" }).click();
  await tab.getByText("00000000  68 65 6c 6c 6f").waitFor();
  expect(complaints).toEqual([]);
  await context.close();
}, 60_000);

test("what the script adds: keys that lead somewhere, a theme that stays, times as one likes them", async () => {
  const context = await logIn(browser, urls, { colorScheme: "light" });
  const { tab, complaints } = await watchedTab(context);
  await tab.goto(`${stage.url}/`);
  await tab.keyboard.press("g");
  await tab.keyboard.press("k");
  await tab.getByRole("heading", { name: "Keys" }).waitFor();
  await tab.keyboard.press("/");
  await tab.keyboard.type("/config/ap");
  await tab.getByLabel("Find").selectOption("ceiling");
  await tab.keyboard.press("Escape");
  await tab.getByRole("button", { name: "Go" }).click();
  await tab.getByRole("heading", { name: "/config/app" }).waitFor();
  const ground = () => tab.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await tab.getByRole("button", { name: "Theme: auto" }).click();
  await tab.getByRole("button", { name: "Theme: light" }).click();
  expect(await ground()).not.toBe(light);
  await tab.getByRole("button", { name: "Times: utc" }).click();
  await tab.getByRole("button", { name: "Times: local" }).click();
  await tab
    .getByText(/\d+ (s|min) ago/)
    .first()
    .waitFor();
  await tab.goto(`${stage.url}/shards`);
  await tab.getByRole("region", { name: "Shards" }).focus();
  const focused = () => tab.evaluate(() => document.activeElement?.closest("tr")?.rowIndex);
  for (const [key, row] of [
    ["ArrowDown", 1],
    ["ArrowDown", 2],
    ["ArrowDown", 3],
    ["ArrowUp", 2],
  ] as const) {
    await tab.keyboard.press(key);
    expect([key, await focused()]).toEqual([key, row]);
  }
  await tab.goto(`${stage.url}/performance`);
  // two looks at the numbers are twenty seconds apart
  await tab.locator("figure.drawn canvas").first().waitFor({ timeout: 30_000 });
  const bundle = await tab.request.get(`${stage.url}/support-bundle.json`);
  expect(await bundle.json()).toMatchObject({ mode: "coordinator", cluster: { healthy: true } });
  await tab.goto(`${stage.url}/help`);
  await tab.getByRole("button", { name: "Theme: dark" }).waitFor();
  await tab.getByRole("button", { name: "Times: relative" }).waitFor();
  expect(complaints).toEqual([]);
  await context.close();
}, 60_000);

test("who has no token sees nothing; a viewer looks; who logs out is out", async () => {
  const context = await browser.newContext();
  const tab = await context.newPage();
  await tab.goto(`${stage.url}/shards/default/0`);
  await tab.getByRole("heading", { name: "Log in" }).waitFor();
  await tab.getByLabel("Token").fill("not-a-token-of-this-cluster");
  await tab.getByRole("button", { name: "Log in" }).click();
  await tab.getByText("The token is not known.").waitFor();
  await tab.getByLabel("Token").fill(VIEWER_TOKEN);
  await tab.getByRole("button", { name: "Log in" }).click();
  await tab.getByRole("heading", { name: "Shard default/0" }).waitFor();
  await tab.getByText("viewer", { exact: true }).waitFor();
  await tab.getByRole("button", { name: "Log out" }).click();
  await tab.getByRole("heading", { name: "Log in" }).waitFor();
  await tab.goto(`${stage.url}/`);
  await tab.getByRole("heading", { name: "Log in" }).waitFor();
  await context.close();
}, 60_000);
