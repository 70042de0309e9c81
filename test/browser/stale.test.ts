/** A page whose server is gone, whose session has ended or whose stream is cut says so: it does not go on looking well. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Browser, Page } from "playwright-core";
import { ADMIN_TOKEN } from "../e2e/cluster.ts";
import { logIn, openBrowser, openStage, type Stage } from "./stage.ts";

let stage: Stage;
let browser: Browser;

beforeAll(async () => {
  [stage, browser] = await Promise.all([openStage("stale"), openBrowser()]);
}, 120_000);

afterAll(async () => {
  await browser?.close();
  await stage?.remove();
});

async function overview(): Promise<Page> {
  const context = await logIn(browser, [stage.url]);
  const tab = await context.newPage();
  const live = tab.waitForResponse((response) => new URL(response.url()).pathname === "/live");
  await tab.goto(`${stage.url}/`);
  await live;
  expect(await tab.getByText("Not live").isVisible()).toBe(false);
  return tab;
}

test("where the session has ended, it leads to the login and back", async () => {
  const tab = await overview();
  const other = await tab.context().newPage();
  await other.goto(`${stage.url}/servers`);
  await other.getByRole("button", { name: "Log out" }).click();
  await tab.getByText("Your session has ended.").waitFor();
  await tab.getByRole("link", { name: "Log in" }).click();
  await tab.getByLabel("Token").fill(ADMIN_TOKEN);
  await tab.getByRole("button", { name: "Log in" }).click();
  await tab.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  expect(await tab.getByText("Not live").isVisible()).toBe(false);
  await tab.context().close();
}, 60_000);

test("where the server is gone, it says since when; and once it is back, that its sessions are not", async () => {
  const tab = await overview();
  await stage.cluster.coordinator.kill();
  await tab.getByText("The server does not answer.").waitFor();
  expect(await tab.getByText(/What is shown is as of \d\d:\d\d:\d\d UTC/).isVisible()).toBe(true);
  expect(await tab.getByRole("link", { name: "Log in" }).isVisible()).toBe(false);
  await stage.cluster.coordinator.start();
  await tab.getByText("Your session has ended.").waitFor();
  await tab.context().close();
}, 60_000);

test("where the stream does not come through, the page is asked for now and then", async () => {
  const context = await logIn(browser, [stage.url]);
  const tab = await context.newPage();
  await tab.route(/\/live\?/, (route) => route.abort());
  await tab.goto(`${stage.url}/`);
  await tab.evaluate(() => {
    document.querySelector("#live h1")!.textContent = "as it was";
  });
  await tab.getByText("The stream of changes does not come through").waitFor({ timeout: 30_000 });
  await tab.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  expect(await tab.getByRole("heading", { level: 1 }).count()).toBe(1);
  await tab.unroute(/\/live\?/);
  await context.close();
}, 60_000);

test("a command is copied by its button", async () => {
  const context = await logIn(browser, [stage.url]);
  const tab = await context.newPage();
  await tab.goto(`${stage.url}/`);
  await tab.getByText("Copy as command").first().click();
  await tab.getByRole("button", { name: "Copy", exact: true }).first().click();
  await tab.getByRole("button", { name: "Copied" }).waitFor();
  await tab.evaluate(() => document.body.append(document.createElement("input")));
  await tab.locator("body > input").press("Control+V");
  expect(await tab.locator("body > input").inputValue()).toStartWith("varia status --admin-address ");
  await context.close();
}, 60_000);
