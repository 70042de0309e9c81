/** Every change that a page offers, made in a browser and looked at through the API. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { connect, type VariaClient } from "../../src/client/index.ts";
import { ADMIN_TOKEN, VIEWER_TOKEN } from "../e2e/cluster.ts";
import { logIn, openBrowser, openStage, type Stage } from "./stage.ts";

let stage: Stage;
let browser: Browser;
let context: BrowserContext;
let tab: Page;
let client: VariaClient;

beforeAll(async () => {
  [stage, browser] = await Promise.all([openStage("actions", { servers: 4 }), openBrowser()]);
  context = await logIn(browser, [stage.url]);
  tab = await context.newPage();
  client = await connect({ serviceAddress: stage.cluster.addresses[0]! });
}, 120_000);

afterAll(async () => {
  await client?.close();
  await browser?.close();
  await stage?.remove();
});

/** One call of the coordinator's admin port, as anybody makes it. */
async function ask(service: string, method: string, request: object = {}): Promise<Record<string, unknown>> {
  const response = await fetch(`http://${stage.cluster.coordinator.host}:6651/${service}/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${ADMIN_TOKEN}` },
    body: JSON.stringify(request),
  });
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()) as Record<string, unknown>;
}

interface Shard {
  readonly namespace: string;
  /** Absent: 0. */
  readonly shard?: string;
  readonly leader?: string;
  readonly term?: string;
  readonly change?: string;
  readonly replicas: readonly { readonly server: string; readonly replicaId: string; readonly status: string }[];
}

async function shardZero(): Promise<Shard> {
  const { shards } = await ask("varia.admin.v1.VariaAdmin", "GetClusterStatus");
  return (shards as Shard[]).find(({ namespace, shard = "0" }) => namespace === "default" && shard === "0")!;
}

async function namespaces(): Promise<Record<string, unknown>[]> {
  const { namespaces: all } = await ask("io.oxia.proto.v1.OxiaAdmin", "ListNamespaces");
  return (all as { namespace: Record<string, unknown> }[]).map(({ namespace }) => namespace);
}

/** What comes of it, once it is as it should be. */
async function until<T>(look: () => Promise<T>, isThere: (found: T) => boolean): Promise<T> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    const found = await look();
    if (isThere(found)) return found;
    if (performance.now() > deadline) throw new Error(`it did not come to that: ${JSON.stringify(found)}`);
    await Bun.sleep(50);
  }
}

/** Waits for a page by its heading; says what was there in its place. */
async function shows(heading: string): Promise<void> {
  try {
    await tab.getByRole("heading", { name: heading, level: 1 }).waitFor();
  } catch (cause) {
    throw new Error(`not ${heading}, but:\n${await tab.locator("main").textContent()}`, { cause });
  }
}

/** Sends the form of a preview; `heading`: of the page that it leads to. */
async function confirm(verb: string, heading?: string): Promise<void> {
  await tab.getByRole("button", { name: verb, exact: true }).click();
  if (heading === undefined) return;
  await tab.waitForURL((url) => url.search === "" && !url.pathname.startsWith("/do/"));
  const shown = (await tab.locator("main").textContent()) ?? "";
  if (!shown.includes(heading)) throw new Error(`not ${heading}, but:\n${shown}`);
}

test("a replica is moved to a server that has none", async () => {
  const nameOf = (address: string) =>
    stage.cluster.servers.find(({ internalAddress }) => internalAddress === address)!.name;
  const before = await shardZero();
  const from = before.replicas.find(({ status }) => status === "follower")!.server;
  const to = stage.cluster.servers.find(({ internalAddress }) =>
    before.replicas.every(({ server }) => server !== internalAddress),
  )!;
  await tab.goto(`${stage.url}/shards/default/0`);
  await tab.getByLabel("From").selectOption(nameOf(from));
  await tab.locator('form[action="/do/swap-replica"] select[name="to"]').selectOption(to.name);
  await tab.getByRole("button", { name: "Move replica" }).click();
  await tab.getByText(`A replica of shard default/0 will be filled on ${to.name}`).waitFor();
  expect((await shardZero()).replicas.map(({ server }) => server)).toContain(from);
  await confirm("Move", "Operation ");
  const isMoved = ({ replicas, change }: Shard) =>
    !change &&
    replicas.length === 3 &&
    replicas.some(({ server, status }) => server === to.internalAddress && status !== "");
  const after = await until(shardZero, isMoved);
  expect(after.replicas.map(({ server }) => server)).not.toContain(from);
  expect((await client.get("greeting"))!.value).toEqual(new TextEncoder().encode("hello"));
  // where it goes a second time it is already, and the page says so
  await tab.goto(`${stage.url}/do/swap-replica?namespace=default&shard=0&from=${to.name}&to=${to.name}`);
  await tab.getByText("will be filled anew, if its id has ended").waitFor();
  await confirm("Move", "Operation ");
  // as a follower, or as the leader that the change has elected
  await tab.getByText(/ (holds that very replica|leads the shard: its replica lives)$/).waitFor();
}, 60_000);

test("another replica leads, and a shard takes no writes until that is cancelled", async () => {
  const { leader, replicas } = await shardZero();
  const heir = stage.cluster.servers.find(
    ({ internalAddress }) =>
      internalAddress !== leader && replicas.some(({ server, status }) => server === internalAddress && status !== ""),
  )!;
  await tab.goto(`${stage.url}/shards/default/0`);
  await tab.getByLabel("New leader").selectOption(heir.name);
  await tab.getByRole("button", { name: "Switch leader" }).click();
  await tab.getByText(`will be led by ${heir.name}`).waitFor();
  await confirm("Switch", "Operation ");
  await tab.getByText("succeeded", { exact: true }).waitFor();
  expect((await shardZero()).leader).toBe(heir.internalAddress);
  await tab.goto(`${stage.url}/shards/default/0`);
  await tab.getByLabel("Seconds without writes").fill("600");
  await tab.getByRole("button", { name: "Freeze" }).click();
  await tab.getByText("will take no writes for 600 seconds").waitFor();
  await confirm("Freeze", "Operation ");
  await tab.getByText("no write is taken behind offset").waitFor();
  expect((await shardZero()).change).toContain("frozen for ");
  await tab.goto(`${stage.url}/`);
  await tab.getByRole("heading", { name: "Operations that run" }).waitFor();
  await tab.getByRole("region", { name: "Operations" }).getByRole("link").first().click();
  await tab.getByRole("button", { name: "Cancel" }).waitFor();
  const other = await tab.context().newPage();
  await other.goto(tab.url());
  await tab.getByRole("button", { name: "Cancel" }).click();
  await tab.getByText("The shard will take writes again.").waitFor();
  await confirm("Cancel it", "Operation ");
  await tab.getByText("cancelled", { exact: true }).waitFor();
  expect((await shardZero()).change ?? "").toBe("");
  // who looks at it elsewhere is offered that no more
  await other.getByText("cancelled", { exact: true }).waitFor();
  await other.getByRole("button", { name: "Cancel" }).waitFor({ state: "hidden" });
  await other.close();
}, 60_000);

test("a namespace is made, changed by who has seen it as it is, and deleted by who types its name", async () => {
  await tab.goto(`${stage.url}/namespaces`);
  await tab.getByLabel("Name", { exact: true }).fill("jobs");
  await tab.getByLabel("Shards").fill("2");
  await tab.getByLabel("Key sorting").selectOption("natural");
  await tab.getByRole("button", { name: "Create namespace" }).click();
  await tab.getByText("jobs will have 2 shards with 3 replicas each").waitFor();
  await confirm("Create", "Operation ");
  await tab.getByText("succeeded", { exact: true }).waitFor();
  const made = (await namespaces()).find(({ name }) => name === "jobs");
  expect(made).toMatchObject({ initialShardCount: 2, replicationFactor: 3, keySorting: "natural" });

  await tab.goto(`${stage.url}/namespaces/jobs`);
  const stale = await context.newPage();
  await stale.goto(`${stage.url}/namespaces/jobs`);
  await tab.getByLabel("Replicas").fill("2");
  await tab.getByRole("button", { name: "Change", exact: true }).click();
  await confirm("Change");
  await tab.getByRole("heading", { name: "Namespace jobs" }).waitFor();
  expect((await namespaces()).find(({ name }) => name === "jobs")).toMatchObject({ replicationFactor: 2 });
  await stale.getByLabel("Replicas").fill("1");
  await stale.getByRole("button", { name: "Change", exact: true }).click();
  await stale.getByText("Somebody has changed the namespace jobs since you saw it").waitFor();
  await stale.close();
  expect((await namespaces()).find(({ name }) => name === "jobs")).toMatchObject({ replicationFactor: 2 });

  await tab.getByRole("button", { name: "Delete namespace" }).click();
  await tab.getByLabel("Type jobs to go on").fill("job");
  await confirm("Delete"); // the browser itself holds it back
  await tab.getByLabel("Type jobs to go on").fill("jobs");
  await confirm("Delete", "Operation ");
  await tab.getByText("succeeded", { exact: true }).waitFor();
  expect((await namespaces()).some(({ name }) => name === "jobs")).toBe(false);
}, 60_000);

test("a record is made, changed, kept from who has not seen its last version, and deleted", async () => {
  const read = async () => {
    const record = await client.get("/notes/first");
    return record === undefined ? undefined : new TextDecoder().decode(record.value);
  };
  await tab.goto(`${stage.url}/keys?namespace=default&place=/notes/`);
  await tab.getByLabel("New key").fill("/notes/first");
  await tab.getByLabel("Value").fill("one\ntwo <b>");
  await confirm("Write");
  await tab.getByRole("heading", { name: "/notes/first" }).waitFor();
  expect(await read()).toBe("one\ntwo <b>");
  await tab.getByLabel("Value, in place of version").fill("three");
  await confirm("Write");
  await tab.getByText("three").first().waitFor();
  expect(await read()).toBe("three");
  await client.put("/notes/first", "meanwhile");
  await tab.getByLabel("Value, in place of version").fill("four");
  await confirm("Write");
  await tab.getByText("The record has changed since you saw it").waitFor();
  expect(await read()).toBe("meanwhile");
  await tab.goto(`${stage.url}/keys/record?namespace=default&key=/notes/first`);
  await tab.getByRole("button", { name: "Delete" }).click();
  await tab.getByText("The record /notes/first of default will be deleted").waitFor();
  await confirm("Delete");
  await tab.getByText("There are no keys here.").waitFor();
  expect(await read()).toBeUndefined();
}, 60_000);

test("a record that a partition key has put into another shard is found, changed by who knows the key, and deleted", async () => {
  const keys = Array.from({ length: 8 }, (_, nth) => `/parts/${nth}`);
  for (const key of keys) await client.put(key, "as it was", { partitionKey: `of ${key}` });
  const elsewhere = [];
  for (const key of keys) if ((await client.get(key)) === undefined) elsewhere.push(key);
  const [key] = elsewhere as [string];
  await tab.goto(`${stage.url}/keys?namespace=default&place=/parts/`);
  await tab.getByRole("row", { name: new RegExp(`^${key.slice(-1)}.*partition key, shard`) }).waitFor();
  await tab.getByRole("link", { name: key.slice(-1), exact: true }).click();
  await tab.getByText("as it was").first().waitFor();
  await tab.getByText("one that servers do not tell").waitFor();
  await tab.getByLabel("Value, in place of").fill("changed");
  const write = () => tab.getByRole("button", { name: "Write" }).click();
  await tab.getByLabel("Partition key that it was written with").fill(key);
  await write();
  await tab.getByText("does not lead to shard").waitFor();
  await tab.goBack();
  await tab.getByLabel("Value, in place of").fill("changed");
  await tab.getByLabel("Partition key that it was written with").fill(`of ${key}`);
  await write();
  await tab.getByText("changed").first().waitFor();
  expect((await client.get(key, { partitionKey: `of ${key}` }))?.value).toEqual(new TextEncoder().encode("changed"));
  await tab.getByRole("button", { name: "Delete" }).click();
  await confirm("Delete");
  await shows("Keys");
  expect(await client.get(key, { partitionKey: `of ${key}` })).toBeUndefined();
}, 60_000);

test("what changes is shown as it changes, of the keys that are asked for", async () => {
  await tab.goto(`${stage.url}/notifications?prefix=/tail/`);
  await tab.getByText("Nothing yet.").waitFor();
  await client.put("/tail/<a>", "1");
  await client.put("/elsewhere", "1");
  await tab.getByRole("row", { name: /created \/tail\/<a>/ }).waitFor();
  await client.delete("/tail/<a>");
  await tab.getByRole("row", { name: /deleted \/tail\/<a>/ }).waitFor();
  await client.deleteRange("/tail/", "/tail/~");
  await tab
    .getByRole("row", { name: /range deleted \/tail\// })
    .first()
    .waitFor();
  expect(await tab.getByText("/elsewhere").count()).toBe(0);
}, 60_000);

test("a session is found by its client, shows what ends with it, and is closed", async () => {
  const worker = await connect({ serviceAddress: stage.cluster.addresses[0]!, clientIdentity: "worker-<7>" });
  try {
    await worker.put("/workers/7", "here", { ephemeral: true });
    await tab.goto(`${stage.url}/sessions`);
    await tab.getByRole("row", { name: "worker-<7>" }).getByRole("link").first().click();
    await tab.getByText("1 record ends with it").waitFor();
    await tab.getByRole("link", { name: "/workers/7" }).waitFor();
    await tab.getByRole("button", { name: "Close session" }).click();
    await tab.getByText("will end, and 1 record with it").waitFor();
    expect(await client.get("/workers/7")).toBeDefined();
    await confirm("Close");
    await shows("Sessions");
    await until(
      () => client.get("/workers/7"),
      (record) => record === undefined,
    );
    expect(await tab.getByText("worker-<7>").count()).toBe(0);
    await tab.goto(`${stage.url}/sessions/default/0/123456789`);
    await tab.getByRole("heading", { name: "Not found" }).waitFor();
  } finally {
    await worker.close();
  }
}, 60_000);

test("a data server's log level is changed by way of the coordinator, which keeps its own", async () => {
  const [server] = stage.cluster.servers;
  const level = async () => {
    const { logLevel } = await ask("varia.admin.v1.VariaAdmin", "GetNodeStatus", { server: server!.name });
    return logLevel;
  };
  await tab.goto(`${stage.url}/servers/${server!.name}`);
  await tab.getByRole("link", { name: "Configuration", exact: true }).last().click();
  await tab.getByText(`What ${server!.name} was started with`).waitFor();
  await tab.getByLabel("Log level").selectOption("debug");
  await tab.getByRole("button", { name: "Change" }).click();
  await tab.getByText(`${server!.name} will log at the level debug`).waitFor();
  expect(await level()).toBe("info");
  await tab.getByRole("button", { name: "Change", exact: true }).click();
  await tab.getByText("It logs at the level debug").waitFor();
  expect(await level()).toBe("debug");
  await tab.goto(`${stage.url}/configuration`);
  await tab.getByText("It logs at the level info").waitFor();
}, 60_000);

test("a server leaves the cluster: what it holds goes to the others", async () => {
  const [leaving] = stage.cluster.servers.slice(-1);
  await tab.goto(`${stage.url}/servers/${leaving!.name}`);
  await tab.getByRole("button", { name: "Drain and remove" }).click();
  await tab.getByLabel(`Type ${leaving!.name} to go on`).fill(leaving!.name);
  await confirm("Drain", "Operation ");
  const holders = async () => {
    const { shards } = await ask("varia.admin.v1.VariaAdmin", "GetClusterStatus");
    return (shards as Shard[]).flatMap(({ replicas, change }) => [
      ...replicas.map(({ server }) => server),
      change ?? "",
    ]);
  };
  await until(
    holders,
    (found) => !found.includes(leaving!.internalAddress) && found.every((text) => !text.startsWith("moving")),
  );
  await tab.getByText("succeeded", { exact: true }).waitFor();
  await tab.goto(`${stage.url}/servers`);
  // it is shown as long as it is needed
  await tab.getByRole("link", { name: leaving!.name, exact: true }).waitFor({ state: "detached" });
  expect((await client.get("greeting"))!.value).toEqual(new TextEncoder().encode("hello"));
}, 90_000);

test("a viewer is offered none of it", async () => {
  const viewing = await logIn(browser, [stage.url], { token: VIEWER_TOKEN });
  const page = await viewing.newPage();
  for (const path of [
    "/shards/default/0",
    "/namespaces",
    "/namespaces/default",
    "/keys",
    "/keys/record?key=greeting",
  ]) {
    await page.goto(`${stage.url}${path}`);
    await page.getByRole("heading", { level: 1 }).waitFor();
    expect([path, await page.locator('form[action^="/do/"]').count()]).toEqual([path, 0]);
  }
  await viewing.close();
}, 60_000);
