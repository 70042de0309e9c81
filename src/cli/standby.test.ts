/** A coordinator that stands by: what it forwards, what it answers itself, and that it takes over. */
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { OxiaAdmin } from "../gen/io/oxia/proto/v1/admin_pb.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { systemClock } from "../ops/clock.ts";
import { resolveSettings } from "../ops/settings.ts";
import { callOnce } from "./admin-connection.ts";
import { CoordinatorServer } from "./coordinator-server.ts";
import { COORDINATOR_SETTINGS, type CoordinatorSettings, coordinatorFiles } from "./coordinator-settings.ts";
import { type CoordinatorStores, openStores } from "./coordinator-stores.ts";
import { LeaderFile } from "./leader-file.ts";
import { openStoresOrStandBy, type Standby } from "./standby.ts";

const nothing = () => {};
const logger = { debug: nothing, info: nothing, warn: nothing, error: nothing, level: "info" as const };
const directory = mkdtempSync(join(tmpdir(), "varia-standby-"));
const closing: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  rmSync(directory, { recursive: true, force: true });
});

function settingsOf(flags: Record<string, string> = {}): CoordinatorSettings {
  const free = { publicAddr: "127.0.0.1:0", internalAddr: "127.0.0.1:0", metricsAddr: "127.0.0.1:0" };
  const given = { ...free, metadataDir: join(directory, "metadata"), ...flags };
  return resolveSettings(COORDINATOR_SETTINGS, { flags: given, environment: {}, file: undefined }).values;
}

async function working(settings = settingsOf(), stores?: CoordinatorStores): Promise<CoordinatorServer> {
  const onFault = (error: Error) => expect.unreachable(error.message);
  const at = { settings, version: "test", clock: systemClock, logger, onFault };
  const server = await CoordinatorServer.start(stores === undefined ? at : { ...at, stores });
  while (server.coordinator === undefined) await Bun.sleep(5);
  return server;
}

/** One that waits, and what it comes to have. */
async function standingBy(settings = settingsOf()) {
  const stop = new AbortController();
  const { promise, resolve } = Promise.withResolvers<Standby>();
  const stores = openStoresOrStandBy({ settings, clock: systemClock, logger }, stop.signal, resolve);
  closing.push(async () => {
    stop.abort();
    const opened = await stores;
    await opened?.store.close().catch(nothing);
    opened?.journal.close();
  });
  return { standby: await promise, stores, stop };
}

const namespaces = (port: number) => {
  const { listNamespaces } = OxiaAdmin.method;
  return callOnce(`127.0.0.1:${port}`, listNamespaces, create(listNamespaces.input), { timeoutMs: 5_000 });
};
const status = (port: number) => {
  const { getClusterStatus } = VariaAdmin.method;
  return callOnce(`127.0.0.1:${port}`, getClusterStatus, create(getClusterStatus.input), { timeoutMs: 5_000 });
};

test("what it is asked is answered by the one that works: gRPC, Connect, pages, and what they stream", async () => {
  const server = await working();
  closing.push(() => server.stop());
  const { standby } = await standingBy();
  expect((await status(standby.adminPort)).instanceId).toBe(server.coordinator!.instanceId);
  expect((await namespaces(standby.adminPort)).namespaces).toEqual([]);
  const at = `http://127.0.0.1:${standby.httpPort}`;
  const answer = await fetch(`${at}/varia.admin.v1.VariaAdmin/GetClusterStatus`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: "{}",
  });
  expect((await answer.json()) as object).toMatchObject({ instanceId: server.coordinator!.instanceId });
  const page = await fetch(`${at}/servers`);
  expect([page.status, await page.text()]).toEqual([200, expect.stringContaining("<h1>Servers</h1>")]);
  const live = (await fetch(`${at}/live?page=%2F`)).body!.getReader();
  expect(new TextDecoder().decode((await live.read()).value)).toContain("data: <h1>Overview</h1>");
  await live.cancel();
  const [from, to] = [await fetch(`http://127.0.0.1:${server.httpPort}/nowhere`), await fetch(`${at}/nowhere`)];
  expect(to.status).toBe(from.status);
  const redirected = await fetch(`${at}/logout`, { method: "POST", redirect: "manual" });
  expect(redirected.status).toBe(303);
}, 20_000);

test("of itself it says that it lives, whether it has somebody to forward to, and that it stands by", async () => {
  const server = await working();
  closing.push(() => server.stop());
  const { standby } = await standingBy();
  const ask = async (path: string) => {
    const answer = await fetch(`http://127.0.0.1:${standby.httpPort}${path}`);
    return [answer.status, await answer.text()] as const;
  };
  expect(await ask("/livez")).toEqual([200, "ok\n"]);
  expect((await ask("/readyz"))[0]).toBe(200);
  expect((await ask("/metrics"))[1]).toContain("varia_coordinator_standby 1");
  new LeaderFile(join(directory, "metadata")).remove();
  expect((await ask("/readyz"))[0]).toBe(503);
  expect(await ask("/")).toEqual([503, expect.stringContaining("stands by")]);
  expect(namespaces(standby.adminPort)).rejects.toThrow("another coordinator works, and this one stands by");
}, 20_000);

test("where the other one is gone, or what it has said cannot be read, it says that it is not ready", async () => {
  const held = openStores(coordinatorFiles({ values: settingsOf() }));
  closing.push(async () => {
    await held.store.close();
    held.journal.close();
  });
  const { standby } = await standingBy();
  const file = join(directory, "metadata", "leader.json");
  const gone = JSON.stringify({ admin: { host: "127.0.0.1", port: 1 }, http: { host: "127.0.0.1", port: 1 } });
  for (const text of [gone, "{", "null", '{"admin":{"host":"","port":0}}', `{"admin":${"[".repeat(100_000)}`]) {
    writeFileSync(file, text);
    const failure = await status(standby.adminPort).catch((error: Error) => error);
    expect((failure as Error).message).toContain("stands by");
    expect((await fetch(`http://127.0.0.1:${standby.httpPort}/`)).status).toBe(503);
  }
}, 20_000);

test("it takes over when the other one ends, with what that one has kept, and gives its ports back", async () => {
  const first = await working();
  const { instanceId } = first.coordinator!;
  const settings = settingsOf();
  const { stores, standby } = await standingBy(settings);
  const { httpPort } = standby;
  await first.stop();
  const opened = (await stores)!;
  expect(fetch(`http://127.0.0.1:${httpPort}/livez`)).rejects.toThrow();
  const second = await working(settings, opened);
  closing.push(() => second.stop());
  expect(second.coordinator!.instanceId).toBe(instanceId);
  const { standby: third } = await standingBy();
  expect((await status(third.adminPort)).instanceId).toBe(instanceId);
}, 20_000);

test("one that is told to stop while it stands by ends, and holds nothing", async () => {
  const server = await working();
  const { stores, stop, standby } = await standingBy();
  stop.abort();
  expect(await stores).toBeUndefined();
  expect(fetch(`http://127.0.0.1:${standby.httpPort}/livez`)).rejects.toThrow();
  await server.stop();
  await (await working()).stop();
}, 20_000);

test("a coordinator that answers on its own machine alone is not made reachable from others", async () => {
  const server = await working();
  closing.push(() => server.stop());
  const everywhere = { publicAddr: "0.0.0.0:0", internalAddr: "127.0.0.1:0", metricsAddr: "0.0.0.0:0" };
  const { standby } = await standingBy(settingsOf(everywhere));
  const outside = Object.values(networkInterfaces())
    .flatMap((each) => each ?? [])
    .find(({ internal, family }) => !internal && family === "IPv4");
  expect((await fetch(`http://127.0.0.1:${standby.httpPort}/`)).status).toBe(200);
  if (outside === undefined) return;
  const answer = await fetch(`http://${outside.address}:${standby.httpPort}/`);
  expect([answer.status, await answer.text()]).toEqual([403, expect.stringContaining("on its own machine alone")]);
  const { listNamespaces } = OxiaAdmin.method;
  const call = callOnce(`${outside.address}:${standby.adminPort}`, listNamespaces, create(listNamespaces.input), {
    timeoutMs: 5_000,
  });
  expect((await call.catch((error: Error) => error)) as Error).toHaveProperty(
    "message",
    expect.stringContaining("stands by"),
  );
}, 20_000);

test("pages that are turned off here, or change nothing here, are not forwarded", async () => {
  const server = await working();
  closing.push(() => server.stop());
  for (const [ui, path, method] of [
    ["off", "/", "GET"],
    ["read-only", "/do/drain-server", "POST"],
  ] as const) {
    const { standby, stop } = await standingBy(settingsOf({ ui }));
    const answer = await fetch(`http://127.0.0.1:${standby.httpPort}${path}`, { method });
    expect([ui, answer.status]).toEqual([ui, ui === "off" ? 404 : 403]);
    stop.abort();
  }
}, 20_000);

test("an address that others cannot use is told as one that they can", () => {
  const settings = settingsOf();
  const files = coordinatorFiles({ values: settings });
  const held = openStores(files);
  closing.push(async () => {
    await held.store.close();
    held.journal.close();
  });
  const file = new LeaderFile(settings.metadataDir);
  file.write({ admin: { host: "0.0.0.0", port: 1_000 }, http: { host: "h", port: 2_000 } });
  expect(file.read()!.admin.host).not.toBe("0.0.0.0");
  expect(file.read()!.http).toEqual({ host: "h", port: 2_000 });
});
