/** The pages, as a browser without a script gets them: what they say, what they refuse, and what they let nobody do. */
import { afterEach, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { ServerLoadSchema, ShardLoadSchema } from "../src/gen/varia/admin/v1/admin_pb.ts";
import { Refusal } from "../src/model/refusal.ts";
import {
  clusterOf,
  eventOf,
  type FakeInspect,
  fakeInspect,
  internalOf,
  operationOf,
} from "../test/harness/fake-inspect.ts";
import { type WebApp, webApp } from "./app.ts";
import { SCRIPT, STYLE } from "./assets.ts";

/** For the first page of a visit, compressed: the document, the sheet and the scripts. */
const FIRST_LOAD_BYTES_MAX = 60_000;

const open: WebApp[] = [];
afterEach(() => {
  for (const app of open.splice(0)) app.close();
});

function appOf(inspect: FakeInspect): WebApp {
  const app = webApp(inspect);
  open.push(app);
  return app;
}

const LOCAL = "127.0.0.1";

function request(path: string, headers: Record<string, string> = {}): Request {
  return new Request(`http://localhost:8080${path}`, { headers: { host: "localhost:8080", ...headers } });
}

async function get(inspect: FakeInspect, path: string, headers: Record<string, string> = {}) {
  const response = await appOf(inspect).fetch(request(path, headers), LOCAL);
  return { status: response.status, headers: response.headers, text: await response.text() };
}

const headingOf = (html: string) => /<h1[^>]*>(?:<bdi>)?([^<]*)/.exec(html)?.[1];

test("each page has its heading, and says where one is", async () => {
  for (const [path, heading] of [
    ["/", "Overview"],
    ["/namespaces", "Namespaces"],
    ["/namespaces/default", "Namespace default"],
    ["/shards", "Shards"],
    ["/shards/default/3", "Shard default/3"],
    ["/servers", "Servers"],
    ["/servers/s2", "Server s2"],
    ["/operations", "Operations"],
    ["/operations/7", "Operation 7"],
    ["/events", "Events"],
    ["/diagnosis", "Diagnosis"],
    ["/configuration", "Configuration"],
    ["/performance", "Performance"],
    ["/node", "This process"],
    ["/help", "Help"],
  ] as const) {
    const { status, text } = await get(fakeInspect(), path);
    expect([path, status, headingOf(text)]).toEqual([path, 200, heading]);
    expect(text).toStartWith('<!doctype html><html lang="en">');
    if (path !== "/help") expect(text).toContain('aria-current="page"');
  }
});

test("what does not exist is 404, what is not understood is 400, and neither is anything else", async () => {
  for (const [path, status, words] of [
    ["/nothing", 404, "There is no page /nothing."],
    ["/shards/default/99", 404, "There is no shard default/99."],
    ["/shards/other/0", 404, "There is no shard other/0."],
    ["/namespaces/%3Cb%3E", 404, "There is no namespace &quot;&lt;b&gt;&quot;."],
    ["/servers/s9", 404, "There is no server &quot;s9&quot;."],
    ["/shards?page=2", 404, "There is no page 2: these shards fill 1."],
    ["/shards?page=0", 400, "not the number of a page"],
    ["/shards?page=1e9", 400, "not the number of a page"],
    ["/shards?state=odd", 400, "There is no state"],
    ["/events?before=x", 400, "is not a number"],
    ["/operations?before=x", 400, "is not a number"],
    ["/operations/8", 404, "there is no operation 8"],
    ["/keys?place=a", 400, "A place ends with a slash."],
    ["/keys?namespace=none", 404, "There is no namespace"],
    ["/keys/record", 400, "A key is needed."],
    ["/keys/record?key=a&comparison=near", 400, "is none of equal, floor"],
    ["/%ff", 400, "not well-formed"],
  ] as const) {
    const found = await get(fakeInspect(), path);
    expect([path, found.status]).toEqual([path, status]);
    expect(found.text).toContain(words);
  }
});

test("a coordinator that does not work, a cluster without servers and one that has stopped are told", async () => {
  const none = fakeInspect();
  none.cluster = new Refusal("NOT_INITIALIZED", "the coordinator is not ready");
  const { status, text } = await get(none, "/");
  expect([status, headingOf(text)]).toEqual([503, "Not ready"]);
  // it may be back: the page looks again by itself
  expect(text).toContain("hx-sse:connect");
  expect((await get(fakeInspect(), "/keys")).status).toBe(500);

  const empty = fakeInspect();
  empty.cluster = clusterOf(0, { servers: [], shards: [] });
  expect((await get(empty, "/")).text).toContain("No data server is configured.");

  const stopped = fakeInspect();
  const { shards } = clusterOf(4);
  stopped.cluster = clusterOf(4, {
    healthy: false,
    faultTolerance: -1,
    problems: ["shard default/1: no majority of its servers answers"],
    shards: shards.map((shard, nth) => (nth === 1 ? { ...shard, leader: "", problems: ["no majority"] } : shard)),
  });
  const page = (await get(stopped, "/")).text;
  expect(page).toContain("Unavailable");
  expect(page).toContain("shard default/1: no majority of its servers answers");
  expect(page).toContain("1 no leader");
  expect((await get(stopped, "/shards?state=no+leader")).text).toContain("1 of 4 shards");
});

test("names, reasons and addresses are text, whatever is in them", async () => {
  const hostile = `<script>alert(1)</script>" onclick="x`;
  const inspect = fakeInspect();
  inspect.events = [eventOf(1, { message: hostile, why: hostile, server: hostile, namespace: hostile })];
  inspect.operations = [operationOf(1, { phase: hostile, namespace: hostile, from: hostile, kind: hostile })];
  const cluster = clusterOf(1, { healthy: false, problems: [hostile] });
  inspect.cluster = {
    ...cluster,
    servers: cluster.servers.map((server) => ({ ...server, name: `${server.name}${hostile}`, reason: hostile })),
    shards: cluster.shards.map((shard) => ({ ...shard, namespace: hostile, problems: [hostile], change: hostile })),
  };
  const of = encodeURIComponent;
  for (const path of [
    "/",
    "/shards",
    `/shards/${of(hostile)}/0`,
    "/servers",
    `/servers/${of(`s1${hostile}`)}`,
    "/events",
    "/operations",
    "/operations/1",
  ]) {
    const { status, text } = await get(inspect, path);
    expect([path, status]).toEqual([path, 200]);
    expect(text).not.toContain("<script>alert");
    expect(text).not.toMatch(/<[^>]* onclick="/);
  }
});

test("nothing runs or loads that is not ours, and nothing of a page is written where it could", async () => {
  const { text, headers } = await get(fakeInspect(), "/");
  const policy = headers.get("content-security-policy")!;
  const nonce = /script-src 'nonce-([^']+)'/.exec(policy)![1]!;
  expect(policy).toStartWith("default-src 'none'");
  expect(policy).toContain("frame-ancestors 'none'");
  expect(policy).toContain("form-action 'self'");
  expect(headers.get("x-content-type-options")).toBe("nosniff");
  expect(headers.get("referrer-policy")).toBe("same-origin");
  expect(headers.get("cache-control")).toBe("no-store");
  for (const [tag] of text.matchAll(/<(?:script|link rel="stylesheet")[^>]*>/g))
    expect(tag).toContain(`nonce="${nonce}"`);
  expect(text).not.toMatch(/ style=| on[a-z]+=|<style|javascript:/i);
  const other = /script-src 'nonce-([^']+)'/.exec(
    (await get(fakeInspect(), "/")).headers.get("content-security-policy")!,
  )![1];
  expect(other).not.toBe(nonce);
  // every address on the page is on this server
  const addresses = [...text.matchAll(/(?:href|src|action)="([^"]*)"/g)].map(([, address]) => address!);
  expect(addresses.filter((address) => !/^[/#]/.test(address) || address.startsWith("//"))).toEqual([]);
});

test("the first page of a visit is small, and what it loads may be kept", async () => {
  const document = Bun.gzipSync(new TextEncoder().encode((await get(fakeInspect(), "/")).text)).length;
  const loaded = [STYLE, SCRIPT].reduce((sum, { gzip }) => sum + gzip.length, 0);
  expect(document + loaded).toBeLessThan(FIRST_LOAD_BYTES_MAX);
  for (const { path, gzip } of [STYLE, SCRIPT]) {
    const zipped = await appOf(fakeInspect()).fetch(request(path, { "accept-encoding": "gzip" }), LOCAL);
    expect(zipped.headers.get("content-encoding")).toBe("gzip");
    expect(zipped.headers.get("cache-control")).toContain("immutable");
    expect((await zipped.bytes()).length).toBe(gzip.length);
    expect((await get(fakeInspect(), path)).headers.get("content-encoding")).toBeNull();
  }
  expect((await get(fakeInspect(), "/assets/other.js")).status).toBe(404);
});

test("shards come page by page, and the ring has all of them", async () => {
  const inspect = fakeInspect();
  inspect.cluster = clusterOf(1_000);
  const first = (await get(inspect, "/shards")).text;
  expect(first.match(/<rect/g)!.length).toBe(1_000);
  expect(first).toContain("Page 1 of 10");
  expect(first).toContain('href="/shards?page=2"');
  expect(first).not.toContain(">default/100<");
  expect((await get(inspect, "/shards?page=10")).text).toContain(">default/999<");
  expect((await get(inspect, "/shards?page=11")).status).toBe(404);
  expect((await get(inspect, "/shards?server=s2&namespace=default")).text).toContain("1000 of 1000 shards");
});

test("hashes that nobody has, or two have, are told", async () => {
  const inspect = fakeInspect();
  const { shards } = clusterOf(4);
  inspect.cluster = clusterOf(4, { shards: shards.filter((_, nth) => nth !== 2) });
  expect((await get(inspect, "/shards")).text).toContain("no shard has the hashes before shard 3");
  inspect.cluster = clusterOf(4, { shards: [...shards, { ...shards[1]!, shard: 9n }] });
  expect((await get(inspect, "/shards")).text).toContain("has hashes that another one has too");
  inspect.cluster = clusterOf(4);
  expect((await get(inspect, "/shards")).text).not.toContain("notice bad");
});

test("charts have their lines, the newest at the right, and say how much it is now", async () => {
  const { text } = await get(fakeInspect(), "/performance");
  expect(text.match(/<figure/g)!.length).toBe(2);
  expect(text).toContain("at most 1235 a second");
  expect(text).toContain("reads: 3.00 a second");
  expect(text).toContain("resident: 1.0 MiB");
  expect(text).toContain('points="335.2,88.0 347.6,87.7 360.0,2.0"');
});

test("events can be had as JSON", async () => {
  const { text, headers } = await get(fakeInspect(), "/events.json?limit=5");
  expect(headers.get("content-type")).toBe("application/json");
  expect(JSON.parse(text)).toMatchObject([{ id: 1, kind: "election", server: internalOf("s1"), shard: 0, term: 3 }]);
  expect((await get(fakeInspect(), "/events.json?limit=x")).status).toBe(400);
});

test("a data server shows itself, and no cluster", async () => {
  const storage = () =>
    fakeInspect({
      mode: "storage",
      methods: ["GetNodeStatus", "GetConfiguration", "GetHistory", "SetLogLevel"],
    });
  const { status, text } = await get(storage(), "/");
  expect([status, headingOf(text)]).toEqual([200, "This process"]);
  expect(text).not.toContain('href="/shards"');
  for (const path of ["/shards", "/events", "/events.json", "/keys"])
    expect((await get(storage(), path)).status).toBe(404);
});

test("where it is off there is nothing but what machines ask for", async () => {
  const off = () => fakeInspect({ ui: "off" });
  for (const path of ["/", "/login", "/shards", "/live?page=/", "/icon.svg"])
    expect((await get(off(), path)).status).toBe(404);
  for (const path of ["/livez", "/readyz", "/metrics"]) expect((await get(off(), path)).status).toBe(200);
});

test("load balancers and Prometheus are answered in plain text", async () => {
  expect((await get(fakeInspect(), "/livez")).text).toBe("ok\n");
  expect((await get(fakeInspect(), "/metrics")).text).toBe("varia_up 1\n");
  expect((await get(fakeInspect(), "/readyz")).text).toBe("ok\n");
  const inspect = fakeInspect({ readiness: () => [{ name: "working", ok: false, detail: "the store is not open" }] });
  const { status, text } = await get(inspect, "/readyz");
  expect([status, text]).toEqual([503, "[-] working: the store is not open\nnot ready\n"]);
});

test("without tokens nobody on another machine sees anything but health and metrics", async () => {
  const far = async (path: string) => {
    const response = await appOf(fakeInspect()).fetch(request(path), "10.1.2.3");
    return { status: response.status, text: await response.text() };
  };
  for (const path of [
    ...["/", "/shards", "/keys", "/keys/record?key=a", "/live?page=/", "/events.json", "/support-bundle.json"],
    "/nothing",
  ]) {
    const { status, text } = await far(path);
    expect([path, status]).toEqual([path, 403]);
    expect(text).not.toContain("default");
  }
  for (const path of ["/livez", "/readyz", "/metrics"]) expect((await far(path)).status).toBe(200);
});

test("with tokens one logs in first, and comes back to where one was going, and nowhere else", async () => {
  const token = "correct-horse-battery";
  const access = { needsToken: true, roleOf: (given: string) => (given === token ? ("viewer" as const) : undefined) };
  const app = appOf(fakeInspect({ access }));
  const origin = { origin: "http://localhost:8080" };
  const ask = async (path: string, headers: Record<string, string> = {}) =>
    app.fetch(request(path, headers), "10.1.2.3");
  const first = await ask("/shards?state=serving");
  expect([first.status, first.headers.get("location")]).toEqual([303, "/login?to=%2Fshards%3Fstate%3Dserving"]);
  for (const path of ["/live?page=/", "/events.json"]) expect((await ask(path)).status).toBe(401);
  const form = await (await ask("/login?to=%2Fshards")).text();
  expect(form).toContain('name="to" value="/shards"');
  expect(form).not.toContain('href="/shards"');
  const post = async (fields: Record<string, string>, headers: Record<string, string> = origin) => {
    const body = new URLSearchParams(fields);
    const sent = new Request("http://localhost:8080/login", {
      method: "POST",
      body,
      headers: { host: "localhost:8080", ...headers },
    });
    return app.fetch(sent, "10.1.2.3");
  };
  const wrong = await post({ token: "wrong", to: "/shards" });
  expect([wrong.status, wrong.headers.get("set-cookie")]).toEqual([401, null]);
  expect(await wrong.text()).not.toContain('value="wrong"');
  expect((await post({ token, to: "/" }, { origin: "http://evil.example" })).status).toBe(403);
  for (const to of ["//evil.example", "https://evil.example", "/\\evil.example", ""]) {
    expect((await post({ token, to })).headers.get("location")).toBe("/");
  }
  const entered = await post({ token, to: "/shards?state=serving" });
  expect([entered.status, entered.headers.get("location")]).toEqual([303, "/shards?state=serving"]);
  const cookie = entered.headers.get("set-cookie")!.split(";")[0]!;
  const page = await ask("/shards", { cookie });
  expect(page.status).toBe(200);
  expect(await page.text()).toContain("Log out");
  const left = await app.fetch(
    new Request("http://localhost:8080/logout", {
      method: "POST",
      headers: { host: "localhost:8080", cookie, ...origin },
    }),
    "10.1.2.3",
  );
  expect(left.headers.get("set-cookie")).toContain("Max-Age=0");
  expect((await ask("/shards", { cookie })).status).toBe(303);
});

test("a live page comes again when it has changed, and only then", async () => {
  const inspect = fakeInspect();
  const app = appOf(inspect);
  const response = await app.fetch(request("/live?page=/servers"), LOCAL);
  expect(response.headers.get("content-type")).toBe("text/event-stream");
  const messages = messagesOf(response);
  const first = await messages.next();
  expect(first.data).toContain("<h1>Servers</h1>");
  const looks = inspect.called.length;
  // it is looked at again, and nothing is sent: what comes next is the change
  while (inspect.called.length < looks + 2) await Bun.sleep(5);
  const { servers } = clusterOf(4);
  inspect.cluster = clusterOf(4, {
    servers: servers.map((server) =>
      server.name === "s3" ? { ...server, available: false, reason: "it is away" } : server,
    ),
  });
  const second = await messages.next();
  expect(second.data).toContain("it is away");
  expect(second.id).not.toBe(first.id);
  await messages.cancel();
  const now = inspect.called.length;
  // who has what is shown is sent the next one
  const again = messagesOf(await app.fetch(request("/live?page=/servers", { "last-event-id": second.id }), LOCAL));
  while (inspect.called.length < now + 2) await Bun.sleep(5);
  inspect.cluster = clusterOf(4);
  expect((await again.next()).id).toBe(first.id);
  await again.cancel();
});

/** Messages of a stream of server-sent events. */
function messagesOf(response: Response) {
  const reader = response.body!.getReader();
  const decoder = new TextDecoder();
  let text = "";
  return {
    async next() {
      for (let end = text.indexOf("\n\n"); ; end = text.indexOf("\n\n")) {
        if (end >= 0) {
          const message = text.slice(0, end);
          text = text.slice(end + 2);
          const id = /^id: (.*)$/m.exec(message)?.[1];
          if (id !== undefined) return { id, data: message.replace(/^id: .*\n/, "").replace(/^data: /gm, "") };
          continue;
        }
        const { done, value } = await reader.read();
        if (done) throw new Error("the stream has ended");
        text += decoder.decode(value, { stream: true });
      }
    },
    cancel: () => reader.cancel(),
  };
}

test("what servers and shards bear is shown as far as they have said so", async () => {
  const inspect = fakeInspect();
  const cluster = clusterOf(1);
  const [s1, ...others] = cluster.servers;
  const load = create(ServerLoadSchema, {
    ...{ cpuCores: 0.25, residentBytes: 104_857_600n, loopDelayP99Ms: 12.5, writesPerS: 150, readsPerS: 7.25 },
    ...{ diskFreeBytes: 1_073_741_824n, diskTotalBytes: 2_147_483_648n, observedAtMs: 1_790_000_000_000n },
  });
  const said = { ...s1!, version: "1.2.3", features: ["DB_CHECKSUM"], labels: { zone: "z1" }, load };
  const [shard] = cluster.shards;
  const [one, two, three] = shard!.replicas;
  inspect.cluster = {
    ...cluster,
    servers: [said, ...others],
    shards: [
      {
        ...shard!,
        load: create(ShardLoadSchema, { writesPerS: 150, readsPerS: 7.25, records: 1_234n }),
        replicas: [one!, { ...two!, lagEntries: 17n, lagSeconds: 3.25 }, { ...three!, lagEntries: 9n }],
      },
    ],
  };
  const shows = async (path: string, ...words: string[]) => {
    const { text } = await get(inspect, path);
    for (const word of words) expect([path, text.includes(word) ? word : ""]).toEqual([path, word]);
  };
  await shows("/servers", "0.25 cores", "100.0 MiB", "150 /s", "7.25 /s", "1.2.3");
  await shows("/servers/s1", "DB_CHECKSUM", "zone=z1", "12.5 ms late", "1.0 GiB free of 2.0 GiB", "150 writes/s");
  await shows("/servers/s2", "it has not said");
  await shows("/shards/default/0", "1234", "150 writes/s, 7.25 reads/s", ">17, 3.3 s<", ">9<");
  await shows("/namespaces", ">1234<", "150 /s", "zone, rack (strict)");
  inspect.cluster = cluster;
  await shows("/namespaces", ">–<");
  // the last hour of the cluster, which this fake has under the names of one process
  expect((await get(inspect, "/")).text).not.toContain("Operations of the cluster");
  await shows("/performance", "Operations");
  expect((await get(fakeInspect({ mode: "standalone" }), "/")).text).toContain('aria-label="Operations, over time"');
});

test("masked values are seen by an admin who asks for them, and by nobody else; nor are they in forms", async () => {
  const version = { versionId: 3n, modificationsCount: 0, createdTimestamp: 1, modifiedTimestamp: 1 };
  const record = (key: string) => ({ key, value: new TextEncoder().encode(`content of ${key}`), version });
  const client = {
    get: async (key: unknown) => (typeof key === "string" ? record(key) : undefined),
    async *rangeScan() {
      yield* [record("/secrets/a"), record("/secrets/b")];
    },
  };
  const show = async (role: "viewer" | "admin", path: string) => {
    const access = { needsToken: true, roleOf: () => role };
    const inspect = fakeInspect({
      access,
      masked: ["/secrets/", "/config/token"],
      client: async () => client as never,
    });
    const app = webApp(inspect);
    const request = new Request(`http://localhost${path}`, {
      headers: { authorization: "Bearer x", host: "localhost" },
    });
    const text = await (await app.fetch(request, LOCAL)).text();
    app.close();
    return text;
  };
  const at = (key: string, more = "") => `/keys/record?namespace=default&key=${encodeURIComponent(key)}${more}`;
  for (const key of ["/secrets/a", "/config/token-of-billing"]) {
    for (const role of ["viewer", "admin"] as const) {
      const text = await show(role, at(key));
      expect([key, role, text.includes("is masked"), text.includes("content of")]).toEqual([key, role, true, false]);
      expect(text.includes("unmasked=1")).toBe(role === "admin");
    }
    expect(await show("viewer", at(key, "&unmasked=1"))).not.toContain("content of");
    expect(await show("admin", at(key, "&unmasked=1"))).toContain(`content of ${key}`);
    expect(await show("admin", at(key, "&unmasked=1"))).toContain("unmasked=1&amp;as=hex");
  }
  const list = await show("admin", "/keys?namespace=default&place=/secrets/");
  expect([list.includes("/keys/record?namespace=default&amp;key=%2Fsecrets%2Fb"), list.includes("masked")]).toEqual([
    true,
    true,
  ]);
  expect(list).not.toContain("content of");
  for (const key of ["/config/app", "secrets/a"]) expect(await show("viewer", at(key))).toContain(`content of ${key}`);
});

test("a form that is turned away is told, by what it would have done; one of nothing is not", async () => {
  const access = { needsToken: true, roleOf: (given: string) => (given === "v" ? ("viewer" as const) : undefined) };
  const inspect = fakeInspect({ access });
  const app = appOf(inspect);
  const post = async (name: string, headers: Record<string, string>) => {
    const sent = { method: "POST", body: "level=debug", headers: { host: "localhost:8080", ...headers } };
    return (await app.fetch(new Request(`http://localhost:8080/do/${name}`, sent), LOCAL)).status;
  };
  expect(await post("log-level", { authorization: "Bearer v" })).toBe(403);
  expect(await post("nothing", { authorization: "Bearer v" })).toBe(403);
  expect(inspect.audited).toEqual([
    "turned away: Change log level: A viewer's token changes nothing: log in with an admin's.",
  ]);
  expect(inspect.called).toEqual([]);
});

test("a support bundle holds all that is said, whatever cannot be had, and nothing of who did what", async () => {
  const inspect = fakeInspect();
  inspect.events = [eventOf(2, { kind: "audit", why: "SwitchLeader from 10.0.0.7" }), eventOf(1)];
  const { status, headers, text } = await get(inspect, "/support-bundle.json");
  expect([status, headers.get("content-type"), headers.get("cache-control")]).toEqual([
    200,
    "application/json",
    "no-store",
  ]);
  expect(headers.get("content-disposition")).toMatch(/^attachment; filename="varia-coordinator-[\dT-]+\.json"$/);
  const bundle = JSON.parse(text);
  expect(bundle).toMatchObject({ mode: "coordinator", cluster: { healthy: true }, node: { version: "1.2.3" } });
  expect(bundle.metrics).toContain("varia_up 1");
  expect(bundle.events.events.map(({ kind }: { kind: string }) => kind)).toEqual(["election"]);
  expect(bundle.findings.length).toBeGreaterThan(5);
  expect(Object.keys(bundle.servers)).toEqual(["s1", "s2", "s3"]);
  expect(bundle.servers.s2.configuration.settings).toHaveLength(2);
  expect([bundle.operations.operations.length, bundle.configuration.settings.length]).toEqual([1, 2]);
  expect(text).not.toContain("10.0.0.7");
  inspect.cluster = new Refusal("NOT_INITIALIZED", "the coordinator is not ready");
  const later = JSON.parse((await get(inspect, "/support-bundle.json")).text);
  expect([later.cluster.error, later.findings.error]).toEqual(Array(2).fill("the coordinator is not ready"));
  expect(later.node.version).toBe("1.2.3");
  const storage = fakeInspect({ mode: "storage", methods: ["GetNodeStatus", "GetConfiguration", "GetHistory"] });
  const own = JSON.parse((await get(storage, "/support-bundle.json")).text);
  expect([own.node.version, own.cluster, own.events]).toEqual(["1.2.3", undefined, undefined]);
});
