/** The HTTP port of a server, over a connection. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fakeInspect } from "../../test/harness/fake-inspect.ts";
import { NamespaceClients } from "./namespace-clients.ts";
import { WebSide } from "./web-side.ts";

let web: WebSide;
let url: string;

beforeAll(() => {
  const logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => logger };
  web = WebSide.start({
    ...fakeInspect(),
    address: { host: "127.0.0.1", port: 0 },
    methods: [],
    metrics: { contentType: "text/plain; version=0.0.4; charset=utf-8", text: async () => "" },
    clients: new NamespaceClients(() => undefined),
    logger: logger as never,
    audit: fakeInspect().audit as never,
    access: fakeInspect().access as never,
  });
  url = `http://127.0.0.1:${web.port}`;
});

afterAll(() => web.stop());

test("an address that is too long for a page is answered by a page", async () => {
  for (const length of [20_000, 70_000]) {
    const response = await fetch(`${url}/keys/record?key=${"k".repeat(length)}`);
    expect([response.status, await response.text()]).toEqual([414, expect.stringContaining("<h1>Too long</h1>")]);
  }
});

test("other servers of the process keep their bound", async () => {
  const server = createServer({ maxHeaderSize: 16 * 1024 }, (_, response) => response.end("taken"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const ask = async (length: number) => (await fetch(`http://127.0.0.1:${port}/${"k".repeat(length)}`)).status;
  expect([await ask(10_000), await ask(20_000)]).toEqual([200, 431]);
  server.close();
});
