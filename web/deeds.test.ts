/** Changes by way of pages: what is shown before, what is asked of the API, and what is refused. */
import { afterEach, expect, test } from "bun:test";
import {
  InvalidArgumentError,
  NamespaceNotFoundError,
  RequestTimeoutError,
  ServerError,
  UnexpectedVersionIdError,
} from "../src/client/errors.ts";
import { GrpcCode } from "../src/client/grpc-code.ts";
import { clusterOf, type FakeInspect, fakeInspect, operationOf } from "../test/harness/fake-inspect.ts";
import { FORM_BYTES_MAX, type WebApp, webApp } from "./app.ts";
import { DEEDS } from "./deeds.ts";

const LOCAL = "127.0.0.1";
const HOST = "localhost:8080";
const open: WebApp[] = [];
afterEach(() => {
  for (const app of open.splice(0)) app.close();
});

/** One browser on one server. */
function visit(inspect: FakeInspect = fakeInspect()) {
  const app = webApp(inspect);
  open.push(app);
  const ask = async (path: string, init: RequestInit = {}) => {
    const request = new Request(`http://${HOST}${path}`, init);
    request.headers.set("host", HOST);
    const response = await app.fetch(request, LOCAL);
    return { status: response.status, to: response.headers.get("location"), text: await response.text() };
  };
  const preview = (name: string, fields: Record<string, string>) => ask(`/do/${name}?${new URLSearchParams(fields)}`);
  const send = (name: string, fields: Record<string, string>, origin = `http://${HOST}`) =>
    ask(`/do/${name}`, { method: "POST", body: new URLSearchParams(fields), headers: { origin } });
  /** As a browser sends the form of a preview. */
  const confirm = async (name: string, fields: Record<string, string>, typed?: string) => {
    const { text, status } = await preview(name, fields);
    if (status !== 200) throw new Error(text);
    const hidden = [...text.matchAll(/<input type="hidden" name="(\w+)" value="([^"]*)"/g)];
    const form = Object.fromEntries(hidden.map(([, field, value]) => [field!, value!]));
    return send(name, { ...form, ...(typed === undefined ? {} : { typed }) });
  };
  return { inspect, ask, preview, send, confirm };
}

test("what will be is shown, and then asked of the API as it was shown", async () => {
  for (const { name, fields, words, to, request } of [
    {
      name: "swap-replica",
      fields: { namespace: "default", shard: "1", from: "s1", to: "s1" },
      words: [
        "will be filled anew",
        "varia admin shard swap --admin-address h:6651 -n default --shard 1 --from s1 --to s1",
      ],
      to: "/operations/7",
      request: {
        name: "SwapReplica",
        request: { namespace: "default", shard: 1n, from: "s1", to: "s1", detach: true },
      },
    },
    {
      name: "switch-leader",
      fields: { namespace: "default", shard: "1", to: "s3" },
      words: [
        "which s2 leads, will be led by s3",
        "varia admin shard switch-leader --admin-address h:6651 -n default --shard 1 --to s3",
      ],
      to: "/operations/7",
      request: { name: "SwitchLeader", request: { namespace: "default", shard: 1n, to: "s3" } },
    },
    {
      name: "freeze-shard",
      fields: { namespace: "default", shard: "1", seconds: "90" },
      words: [
        "will take no writes for 90 seconds",
        "shard freeze --admin-address h:6651 -n default --shard 1 --for 90s",
      ],
      to: "/operations/7",
      request: { name: "FreezeShard", request: { namespace: "default", shard: 1n, forMs: 90_000 } },
    },
    {
      name: "log-level",
      fields: { level: "debug" },
      words: ["will log at the level debug", "varia admin --admin-address h:6651 log-level debug"],
      to: "/configuration",
      request: { name: "SetLogLevel", request: { level: "debug", server: "" } },
    },
    {
      name: "log-level",
      fields: { level: "warn", server: "s2" },
      words: ["s2 will log at the level warn", "varia admin --admin-address h:6651 log-level warn --server s2"],
      to: "/configuration?server=s2",
      request: { name: "SetLogLevel", request: { level: "warn", server: "s2" } },
    },
    {
      name: "create-namespace",
      fields: { name: "jobs", shards: "8", replicas: "3", sorting: "natural", notifications: "off" },
      words: ["jobs will have 8 shards with 3 replicas each", "order natural", "cannot be followed"],
      to: "/operations/7",
      request: {
        name: "CreateNamespace",
        request: {
          namespace: {
            name: "jobs",
            keySorting: "natural",
            notificationsEnabled: false,
            initialShardCount: 8,
            replicationFactor: 3,
          },
        },
      },
    },
    {
      name: "patch-namespace",
      fields: { name: "default", replicas: "2", notifications: "on", seen: "3 on" },
      words: ["default will have 2 replicas"],
      to: "/namespaces/default",
      request: {
        name: "PatchNamespace",
        request: { namespace: { name: "default", notificationsEnabled: true, replicationFactor: 2 } },
      },
    },
  ]) {
    const { inspect, preview, confirm } = visit();
    const { text, status } = await preview(name, fields);
    expect([name, status]).toEqual([name, 200]);
    for (const word of words) expect(text).toContain(word);
    expect(inspect.asked).toEqual([]);
    const done = await confirm(name, fields);
    expect([name, done.status, done.to]).toEqual([name, 303, to]);
    expect(inspect.asked).toEqual([request]);
  }
});

test("what cannot be taken back is typed first", async () => {
  const { inspect, preview, confirm } = visit();
  expect((await preview("delete-namespace", { name: "default" })).text).toContain(
    "data of its 4 shards will be deleted",
  );
  for (const typed of [undefined, "", "defaul"]) {
    expect((await confirm("delete-namespace", { name: "default" }, typed)).status).toBe(400);
  }
  expect(inspect.asked).toEqual([]);
  expect((await confirm("delete-namespace", { name: "default" }, "default")).to).toBe("/operations/7");
  expect(inspect.asked).toEqual([{ name: "DeleteNamespace", request: { namespace: "default" } }]);
});

test("a server leaves once its name is typed", async () => {
  const { inspect, preview, confirm, ask } = visit();
  expect((await ask("/servers/s2")).text).toContain('action="/do/drain-server"');
  expect((await preview("drain-server", { name: "s2" })).text).toContain(
    "its 4 replicas will be filled on other servers",
  );
  expect((await preview("drain-server", { name: "s9" })).status).toBe(404);
  expect((await confirm("drain-server", { name: "s2" })).status).toBe(400);
  expect((await confirm("drain-server", { name: "s2" }, "s2")).to).toBe("/operations/7");
  expect(inspect.asked).toEqual([{ name: "DrainServer", request: { server: "s2" } }]);
});

test("forged, foreign and empty-handed forms do nothing", async () => {
  const fields = { namespace: "default", shard: "1", from: "s1", to: "s1" };
  const { inspect, send } = visit();
  expect((await send("swap-replica", fields)).status).toBe(403);
  expect((await send("swap-replica", { ...fields, token: "guessed" })).text).toContain("not of this session");
  const { text } = await visit(inspect).preview("swap-replica", fields);
  const token = /name="token" value="([^"]+)"/.exec(text)![1]!;
  expect((await send("swap-replica", { ...fields, token }, "http://evil.example")).text).toContain("another site");
  // another server's, which has another secret
  expect((await send("swap-replica", { ...fields, token })).status).toBe(403);
  expect(inspect.asked).toEqual([]);
});

test("a viewer is offered nothing and changes nothing", async () => {
  const access = { needsToken: true, roleOf: (token: string) => (token === "v" ? ("viewer" as const) : undefined) };
  const { inspect, ask } = visit(fakeInspect({ access }));
  const headers = { authorization: "Bearer v" };
  for (const path of ["/shards/default/1", "/namespaces", "/namespaces/default"]) {
    const { status, text } = await ask(path, { headers });
    expect([status, text.includes("/do/")]).toEqual([200, false]);
  }
  for (const name of Object.keys(DEEDS)) {
    expect((await ask(`/do/${name}?namespace=default&name=default&shard=1&session=7`, { headers })).status).toBe(403);
    expect((await ask(`/do/${name}`, { method: "POST", body: new URLSearchParams(), headers })).status).toBe(403);
  }
  expect(inspect.asked).toEqual([]);
  const four = fakeInspect();
  four.cluster = clusterOf(4, {
    servers: [...clusterOf(4).servers, { ...clusterOf(4).servers[0]!, name: "s4", internalAddress: "s4:6649" }],
  });
  expect((await visit(four).ask("/shards/default/1")).text).toContain('action="/do/swap-replica"');
});

test("what cannot be meant, is stale or too large is refused, and nothing happens", async () => {
  const { inspect, preview, send, ask } = visit();
  for (const [name, fields, status] of [
    ["swap-replica", { namespace: "default", shard: "99", from: "s1", to: "s1" }, 404],
    ["swap-replica", { namespace: "default", shard: "x", from: "s1", to: "s2" }, 404],
    ["create-namespace", { name: "n", shards: "-1", replicas: "1" }, 400],
    ["create-namespace", { name: "n", shards: "1", replicas: "4" }, 409],
    ["create-namespace", { name: "n", shards: "1", replicas: "0" }, 400],
    ["create-namespace", { name: "n", shards: "0", replicas: "1" }, 400],
    ["create-namespace", { name: "a b", shards: "1", replicas: "1" }, 400],
    ["create-namespace", { name: "..", shards: "1", replicas: "1" }, 400],
    ["create-namespace", { name: "", shards: "1", replicas: "1" }, 400],
    ["create-namespace", { name: "default", shards: "1", replicas: "1" }, 409],
    ["create-namespace", { name: "n", shards: "999999", replicas: "1" }, 400],
    ["create-namespace", { name: "n", shards: "1", replicas: "1", sorting: "odd" }, 400],
    ["swap-replica", { namespace: "default", shard: "1", from: "s1", to: "nowhere" }, 404],
    ["swap-replica", { namespace: "default", shard: "1", from: "nowhere", to: "s1" }, 400],
    ["swap-replica", { namespace: "default", shard: "1", from: "s1", to: "s2" }, 400],
    ["switch-leader", { namespace: "default", shard: "1", to: "nowhere" }, 400],
    ["patch-namespace", { name: "default", replicas: "5", notifications: "on", seen: "3 on" }, 409],
    ["patch-namespace", { name: "default", replicas: "0", notifications: "on", seen: "3 on" }, 400],
    ["patch-namespace", { name: "default", replicas: "2", notifications: "on", seen: "2 on" }, 409],
    ["patch-namespace", { name: "none", replicas: "2", notifications: "on", seen: "3 on" }, 404],
    ["delete-namespace", { name: "none" }, 404],
    ["switch-leader", { namespace: "default", shard: "99", to: "s1" }, 404],
    ["freeze-shard", { namespace: "default", shard: "1", seconds: "0" }, 400],
    ["freeze-shard", { namespace: "default", shard: "1", seconds: "3601" }, 400],
    ["freeze-shard", { namespace: "default", shard: "1", seconds: "1.5" }, 400],
    ["cancel-operation", { id: "8" }, 404],
    ["cancel-operation", { id: "x" }, 400],
    ["log-level", { level: "loud" }, 400],
    ["log-level", {}, 400],
    ["format-disk", {}, 404],
    ["constructor", {}, 404],
  ] as const) {
    expect([name, fields, (await preview(name, fields)).status]).toEqual([name, fields, status]);
  }
  const { text } = await preview("swap-replica", { namespace: "default", shard: "1", from: "s1", to: "s1" });
  const token = /name="token" value="([^"]+)"/.exec(text)![1]!;
  expect(
    (await send("patch-namespace", { token, name: "default", replicas: "2", notifications: "on", seen: "1 on" }))
      .status,
  ).toBe(409);
  expect((await send("toString", { token })).status).toBe(404);
  const body = `token=${token}&value=${"x".repeat(FORM_BYTES_MAX)}`;
  const large = await ask("/do/put-record", {
    method: "POST",
    body,
    headers: { origin: `http://${HOST}`, "content-length": String(body.length) },
  });
  expect(large.status).toBe(413);
  expect(inspect.asked).toEqual([]);
});

test("a change that takes time leads to its operation, which can be cancelled as long as it runs", async () => {
  const { inspect, ask, preview, confirm } = visit();
  expect((await confirm("create-namespace", { name: "n", shards: "1", replicas: "1" })).to).toBe("/operations/7");
  expect((await confirm("delete-namespace", { name: "default" }, "default")).to).toBe("/operations/7");
  const { text, status } = await ask("/operations/7");
  expect([status, text.includes('action="/do/cancel-operation"')]).toEqual([200, true]);
  for (const word of ["Operation 7", "running", "the new replica is being filled", "default/1, s1 to s2"]) {
    expect(text).toContain(word);
  }
  expect((await preview("cancel-operation", { id: "7" })).text).toContain("will be given up and deleted");
  expect((await confirm("cancel-operation", { id: "7" })).to).toBe("/operations/7");
  expect(inspect.asked.at(-1)).toEqual({ name: "CancelOperation", request: { id: 7n } });
  const over = { state: "failed", reason: "s2 is not available", cancellable: false, endedAtMs: 1_790_000_060_000n };
  inspect.operations = [operationOf(7, over)];
  const ended = await ask("/operations/7");
  for (const word of ["failed", "s2 is not available", "1 min"]) expect(ended.text).toContain(word);
  expect(ended.text).not.toContain("/do/cancel-operation");
  expect((await preview("cancel-operation", { id: "7" })).status).toBe(409);
  for (const id of ["8", "x", "-1"]) expect((await ask(`/operations/${id}`)).status).toBe(404);
  // nobody has recorded it
  inspect.operations = [];
  expect((await confirm("create-namespace", { name: "n", shards: "1", replicas: "1" })).to).toBe("/namespaces/n");
});

test("a record that has changed since it was seen is not written over, nor deleted", async () => {
  const calls: unknown[] = [];
  let fails: Error | undefined;
  const client = {
    async put(...all: unknown[]) {
      calls.push(["put", ...all]);
      if (fails !== undefined) throw fails;
    },
    async delete(...all: unknown[]) {
      calls.push(["delete", ...all]);
      if (fails !== undefined) throw fails;
    },
  };
  const inspect = fakeInspect({ client: async () => client as never });
  const { confirm, preview } = visit(inspect);
  expect((await preview("delete-record", { namespace: "default", key: "a\u202eb", version: "7" })).text).toContain(
    "a\\u{202e}b",
  );
  const record = { namespace: "default", key: "/a/b", version: "7" };
  expect((await confirm("delete-record", record)).to).toBe("/keys?namespace=default&place=%2Fa%2F");
  expect((await confirm("put-record", { ...record, value: "one\r\ntwo" })).to).toBe(
    "/keys/record?namespace=default&key=%2Fa%2Fb",
  );
  await confirm("put-record", { ...record, version: "", value: "" });
  expect(calls).toEqual([
    ["delete", "/a/b", { expectedVersionId: 7n }],
    ["put", "/a/b", "one\ntwo", { expectedVersionId: 7n }],
    ["put", "/a/b", "", { mustNotExist: true }],
  ]);
  fails = new UnexpectedVersionIdError();
  for (const name of ["delete-record", "put-record"]) {
    const { status, text } = await confirm(name, { ...record, value: "x" });
    expect([status, text.includes("nothing was written")]).toEqual([409, true]);
  }
});

test("who changes what is told, with the words that go with it, and what came of it; nothing of a value", async () => {
  const client = { put: () => Promise.reject(new UnexpectedVersionIdError()) };
  const inspect = fakeInspect({ client: async () => client as never });
  const { preview, send, ask } = visit(inspect);
  const sent = async (name: string, fields: Record<string, string>, note: string) => {
    const { text } = await preview(name, fields);
    expect(text).toContain('name="note"');
    const token = /name="token" value="([^"]+)"/.exec(text)![1]!;
    return send(name, { ...fields, token, note });
  };
  await sent("switch-leader", { namespace: "default", shard: "1", to: "s3" }, ` ${"before the upgrade ".repeat(50)}`);
  await sent("put-record", { namespace: "default", key: "/a", value: "secret", version: "7" }, "");
  await ask("/do/switch-leader", { method: "POST", body: new URLSearchParams() });
  expect(inspect.audited).toEqual([
    `made: Switch leader default/1: ${"before the upgrade ".repeat(50).slice(0, 499).trim()}`,
    expect.stringMatching(/^refused: Write record default\/\/a: The record has changed/),
    "turned away: Switch leader: The form was sent from another site.",
  ]);
});

test("what a client of the cluster is refused has its page and its status", async () => {
  const server = (code: number) => new ServerError({ code, message: "no", reason: undefined });
  for (const [error, status] of [
    [new InvalidArgumentError("an internal key"), 400],
    [new NamespaceNotFoundError("none"), 404],
    [new UnexpectedVersionIdError(), 409],
    [server(GrpcCode.invalidArgument), 400],
    [server(GrpcCode.permissionDenied), 403],
    [server(GrpcCode.unavailable), 503],
    [new RequestTimeoutError("put", 1_000), 503],
    [new Error("a bug"), 500],
  ] as const) {
    const client = { put: () => Promise.reject(error) };
    const { send, preview } = visit(fakeInspect({ client: async () => client as never }));
    const { text } = await preview("freeze-shard", { namespace: "default", shard: "1", seconds: "1" });
    const token = /name="token" value="([^"]+)"/.exec(text)![1]!;
    const answer = await send("put-record", { token, namespace: "default", key: "k", value: "v" });
    expect([error.message, answer.status]).toEqual([error.message, status]);
  }
});
