/** The frame around pages. */
import { expect, test } from "bun:test";
import { fakeInspect } from "../test/harness/fake-inspect.ts";
import { webApp } from "./app.ts";

async function page(path: string): Promise<string> {
  const app = webApp(fakeInspect());
  const request = new Request(`http://localhost${path}`, { headers: { host: "localhost" } });
  const text = await (await app.fetch(request, "127.0.0.1")).text();
  app.close();
  return text;
}

test("pages of another process stand under servers in the menu", async () => {
  const current = async (path: string) => /<a href="([^"]*)" aria-current="page">/.exec(await page(path))?.[1];
  expect(await current("/node")).toBe("/node");
  for (const path of ["/node?server=s1", "/performance?server=s1", "/configuration?server=s1", "/servers/s1"]) {
    expect([path, await current(path)]).toEqual([path, "/servers"]);
  }
  expect(await current("/events?server=s1")).toBe("/events");
});
