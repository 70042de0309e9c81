/** Records by way of pages: found wherever they are, and changed there. */
import { afterEach, expect, test } from "bun:test";
import {
  InvalidArgumentError,
  NamespaceNotFoundError,
  OverloadedError,
  RequestTimeoutError,
  ServerError,
} from "../src/client/errors.ts";
import { type FakeInspect, fakeInspect } from "../test/harness/fake-inspect.ts";
import { fakeRecords, shardIdOf } from "../test/harness/fake-records.ts";
import { FORM_BYTES_MAX, type WebApp, webApp } from "./app.ts";

const HOST = "localhost:8080";
const open: WebApp[] = [];
afterEach(() => {
  for (const app of open.splice(0)) app.close();
});

function visit(inspect: FakeInspect) {
  const app = webApp(inspect);
  open.push(app);
  const ask = async (path: string, init: RequestInit = {}) => {
    const request = new Request(`http://${HOST}${path}`, init);
    request.headers.set("host", HOST);
    const response = await app.fetch(request, "127.0.0.1");
    const { status, headers } = response;
    return { status, headers, to: headers.get("location"), text: await response.text() };
  };
  const tokenOf = (text: string) => /name="token" value="([^"]+)"/.exec(text)![1]!;
  const send = async (name: string, fields: Record<string, string>) => {
    const token = tokenOf((await ask("/keys")).text);
    const body = new URLSearchParams({ ...fields, token });
    return ask(`/do/${name}`, { method: "POST", body, headers: { origin: `http://${HOST}` } });
  };
  return { ask, send };
}

/** Of four texts that lead to four shards. */
const PARTITION_KEYS = Array.from({ length: 100 }, (_, nth) => `part-${nth}`);
const OWN = shardIdOf("pk");
const PART = PARTITION_KEYS.find((key) => shardIdOf(key) !== OWN)!;
const ELSEWHERE = shardIdOf(PART);

test("a record with a partition key is listed with its shard, opened, changed and deleted there", async () => {
  const { client, calls } = fakeRecords([
    { key: "pk", value: "of a partition key", partitionKey: PART },
    { key: "plain", value: "of none" },
  ]);
  const { ask, send } = visit(fakeInspect({ client }));
  const list = (await ask("/keys?namespace=default")).text;
  const address = `/keys/record?namespace=default&key=pk&shard=${ELSEWHERE}`;
  expect(list).toContain(`href="${address.replaceAll("&", "&amp;")}"`);
  expect(list).toContain(`partition key, shard ${ELSEWHERE}`);
  expect(list).toContain('href="/keys/record?namespace=default&amp;key=plain"');
  // by its shard, by its partition key, and by its key alone, as notifications and sessions name it
  for (const path of [address, `/keys/record?key=pk&partitionKey=${PART}`, "/keys/record?key=pk"]) {
    const { status, text } = await ask(path);
    expect([path, status, text.includes("of a partition key")]).toEqual([path, 200, true]);
    expect(text).toContain(`default/${ELSEWHERE}`);
  }
  expect((await ask(`/keys/record?key=pk&partitionKey=${PART}`)).text).toContain(`<bdi>${PART}</bdi>`);
  const wrong = PARTITION_KEYS.find((key) => shardIdOf(key) !== ELSEWHERE)!;
  expect((await ask(`/keys/record?key=pk&partitionKey=${wrong}`)).status).toBe(404);

  const edit = { namespace: "default", key: "pk", version: "7", value: "new", shard: String(ELSEWHERE) };
  // what is stored would have another partition key, or be another record
  for (const partitionKey of ["", wrong]) {
    const refused = await send("put-record", { ...edit, partitionKey });
    expect([refused.status, refused.text.includes("nothing was written")]).toEqual([400, true]);
  }
  expect((await send("put-record", { ...edit, partitionKey: PART })).to).toBe(
    `/keys/record?namespace=default&key=pk&partitionKey=${PART}`,
  );
  const created = { namespace: "default", key: "new", version: "", value: "x", partitionKey: PART };
  expect((await send("put-record", created)).to).toContain(`partitionKey=${PART}`);
  const gone = { namespace: "default", key: "pk", version: "7" };
  await send("delete-record", { ...gone, partitionKey: PART });
  await send("delete-record", { ...gone, shard: String(ELSEWHERE) });
  const [first, second, third, last] = calls as [string, string, ...unknown[]][];
  expect([first, second, third]).toEqual([
    ["put", "pk", "new", { expectedVersionId: 7n, partitionKey: PART }],
    ["put", "new", "x", { mustNotExist: true, partitionKey: PART }],
    ["delete", "pk", { expectedVersionId: 7n, partitionKey: PART }],
  ]);
  const { partitionKey } = last![2] as { partitionKey: string };
  expect(shardIdOf(partitionKey)).toBe(ELSEWHERE);
  const preview = await ask(`/do/delete-record?${new URLSearchParams({ ...gone, shard: String(ELSEWHERE) })}`);
  expect(preview.text).toContain(`delete pk -e 7 -p ${partitionKey}`);
});

test("where several records have a key, the page leads to each", async () => {
  const others = [0n, 1n, 2n, 3n].filter((shard) => shard !== OWN);
  const { client } = fakeRecords(
    others.map((shard) => {
      return { key: "pk", value: `in ${shard}`, partitionKey: PARTITION_KEYS.find((key) => shardIdOf(key) === shard)! };
    }),
  );
  const { ask } = visit(fakeInspect({ client }));
  const { status, text } = await ask("/keys/record?key=pk");
  expect([status, text.includes("Several records have this key")]).toEqual([200, true]);
  for (const shard of others) {
    expect(text).toContain(`/keys/record?namespace=default&amp;key=pk&amp;shard=${shard}`);
    expect((await ask(`/keys/record?key=pk&shard=${shard}`)).text).toContain(`in ${shard}`);
  }
});

test("a value that begins with a line end is in its form as it is", async () => {
  const { client } = fakeRecords([{ key: "plain", value: "\nsecond" }]);
  const { text } = await visit(fakeInspect({ client })).ask("/keys/record?key=plain");
  // what reads HTML drops the first
  expect(text).toContain(">\n\nsecond</textarea>");
});

test("records are looked up by a secondary index, exactly or in a range, page by page", async () => {
  const names = Array.from({ length: 150 }, (_, nth) => String(nth).padStart(3, "0"));
  const { client } = fakeRecords([
    ...names.map((nth) => ({ key: `u/${nth}`, value: `user ${nth}`, secondaryIndexKey: "ada" })),
    { key: "pk", value: "of a partition key", partitionKey: PART, secondaryIndexKey: "bob" },
    { key: "last", value: "of the end", secondaryIndexKey: "eve" },
    { key: "outside", value: "of no index" },
  ]);
  const { ask } = visit(fakeInspect({ client }));
  expect((await ask("/keys")).text).toContain('action="/keys/index"');
  const keysOf = (text: string) =>
    [...text.matchAll(/\/keys\/record\?namespace=default&amp;key=([^"&]*)/g)].map(([, key]) => key);
  const first = await ask("/keys/index?index=by-name&match=exactly&from=ada");
  expect([first.status, keysOf(first.text).length]).toEqual([200, 100]);
  expect(first.text).toContain("get ada --index by-name -v");
  const more = /<a href="(\/keys\/index[^"]*)"><bdi>More/.exec(first.text)![1]!.replaceAll("&amp;", "&");
  const second = await ask(more);
  expect([...keysOf(first.text), ...keysOf(second.text)]).toEqual(names.map((nth) => `u%2F${nth}`));
  expect(second.text).not.toContain("More<");
  const range = await ask("/keys/index?index=by-name&match=range&from=b&before=e");
  expect(keysOf(range.text)).toEqual(["pk"]);
  expect(range.text).toContain(`key=pk&amp;shard=${ELSEWHERE}`);
  expect(range.text).toContain("range-scan --index by-name -s b -e e -v");
  expect(keysOf((await ask("/keys/index?index=by-name&match=range&from=b")).text)).toEqual(["pk", "last"]);
  expect((await ask("/keys/index?index=by-name&from=zoe")).text).toContain("The index has no records there.");
  for (const [path, status] of [
    ["/keys/index", 400],
    ["/keys/index?index=i&match=near", 400],
    ["/keys/index?index=i&shard=x", 400],
    ["/keys/index?index=i&namespace=none", 404],
  ] as const) {
    expect([path, (await ask(path)).status]).toEqual([path, status]);
  }
});

test("what the client of the cluster refuses is told as what it is", async () => {
  const version = "7";
  const refusing = (error: Error) => {
    const { client } = fakeRecords([]);
    const fails = async () => ({ ...(await client()), put: () => Promise.reject(error) }) as never;
    return visit(fakeInspect({ client: fails }));
  };
  const put = { namespace: "default", key: "a", value: "x", version };
  const server = (code: number) => new ServerError({ code, message: "in its own words", reason: undefined });
  for (const [error, status] of [
    [new InvalidArgumentError("in its own words"), 400],
    [server(3), 400],
    [server(7), 403],
    [server(5), 404],
    [server(9), 409],
    [server(8), 503],
    [server(14), 503],
    [server(13), 500],
    [new OverloadedError("in its own words"), 503],
    [new RequestTimeoutError("in its own words", 5_000), 503],
  ] as const) {
    const { send } = refusing(error);
    const { status: told, text } = await send("put-record", put);
    expect([error.name, told, text.includes("in its own words")]).toEqual([error.name, status, true]);
  }
  const { client } = fakeRecords([]);
  const { ask, send } = visit(fakeInspect({ client }));
  const internal = await send("put-record", { ...put, key: "__oxia/a" });
  expect([internal.status, internal.text.includes("keys that start with __oxia/ belong to the server")]).toEqual([
    400,
    true,
  ]);
  for (const path of ["key=__oxia/a&version=7", "key=a&version=x", "key=a", "version=7"]) {
    expect([path, (await ask(`/do/delete-record?namespace=default&${path}`)).status]).toEqual([path, 400]);
  }
  const none = fakeInspect({
    client: async (namespace) => {
      if (namespace === "none") throw new NamespaceNotFoundError(namespace);
      return client();
    },
  });
  const other = visit(none);
  expect((await other.send("put-record", { ...put, namespace: "none" })).status).toBe(404);
  expect((await other.ask("/do/delete-record?namespace=none&key=a&version=7")).status).toBe(404);
  expect((await other.ask("/keys/record?namespace=none&key=a")).status).toBe(404);
});

test("a key that no address holds is refused by a page that says so, and linked nowhere", async () => {
  const long = "k".repeat(20_000);
  const { client, calls } = fakeRecords([
    { key: long, value: "x" },
    { key: `${long}/below`, value: "x" },
    { key: "z", value: "x" },
  ]);
  const { ask, send } = visit(fakeInspect({ client }));
  for (const path of [`/keys/record?key=${long}`, `/do/delete-record?namespace=default&key=${long}&version=7`]) {
    const { status, text } = await ask(path);
    expect([status, text.includes("at most 16384 characters")]).toEqual([414, true]);
  }
  const { status, text } = await send("put-record", { namespace: "default", key: long, value: "x", version: "" });
  expect([status, text.includes("The key has 20000 bytes"), text.includes("nothing was written")]).toEqual([
    413,
    true,
    true,
  ]);
  expect(calls).toEqual([]);
  const list = (await ask("/keys")).text;
  expect([list.includes("too long for the address of a page"), list.length < 20_000]).toEqual([true, true]);
  expect(list).toContain('href="/keys/record?namespace=default&amp;key=z"');
  const gone = await send("delete-record", { namespace: "default", key: `${long}/below`, version: "7" });
  expect(gone.to).toBe("/keys?namespace=default");
});

test("whatever is sent where nothing takes it gets a page, and so do a form that is too large and one sent too late", async () => {
  const { client } = fakeRecords([]);
  const { ask } = visit(fakeInspect({ client }));
  const isPage = (text: string) => text.startsWith("<!doctype html>");
  for (const [path, method] of [
    ["/nothing", "POST"],
    ["/keys", "PUT"],
    ["/do/put-record", "DELETE"],
  ] as const) {
    const { status, text } = await ask(path, { method });
    expect([path, status, isPage(text)]).toEqual([path, 404, true]);
  }
  const body = "x".repeat(FORM_BYTES_MAX + 1);
  const headers = { "content-length": String(body.length), origin: `http://${HOST}` };
  const large = await ask("/login", { method: "POST", body, headers });
  expect([large.status, isPage(large.text)]).toEqual([413, true]);
  const late = visit(fakeInspect({ access: { needsToken: true, roleOf: () => undefined } }));
  const expired = await late.ask("/do/put-record", { method: "POST", body: "key=a" });
  expect([expired.status, isPage(expired.text), expired.text.includes("nothing was done")]).toEqual([401, true, true]);
  expect((await late.ask("/events.json")).text).toBe("Log in first.\n");
  expect((await late.ask(`/keys/record?key=${"k".repeat(20_000)}`)).status).toBe(414);
});

test("a value is shown as what it is, and had whole as a file by those who may see it", async () => {
  const long = "x".repeat(100_000);
  const key = '/config/\u00e9t\u00e9"; x.bin';
  const { client } = fakeRecords([
    { key: "binary", value: new Uint8Array(600).map((_, nth) => (nth * 37) & 0xff) },
    { key: "nul", value: "a\0b" },
    // the 80th byte is the first of two
    { key: "umlaut", value: `${"y".repeat(79)}\u00e9 and more` },
    { key: "tabs", value: "a\tb\n" },
    { key, value: long },
    { key: "secret/a", value: "hidden" },
  ]);
  const inspect = fakeInspect({ client, masked: ["secret/"] });
  const { ask } = visit(inspect);
  const list = (await ask("/keys")).text;
  // a narrow screen has no headings: each cell says its own
  for (const label of ["Value", "Size", "Version", "Changed"]) {
    expect([label, list.split(`<td data-label="${label}"`).length - 1]).toEqual([
      label,
      list.split('<th scope="row"').length - 1,
    ]);
  }
  for (const words of ["600 bytes, binary", "3 bytes, binary", `${"y".repeat(79)}\u2026`, "a\\u{9}b"]) {
    expect(list).toContain(words);
  }
  // what HTML would not give back is not put into a form
  for (const [path, isEditable] of [
    ["nul", false],
    ["binary", false],
    ["tabs", true],
  ] as const) {
    expect([path, (await ask(`/keys/record?key=${path}`)).text.includes("<textarea")]).toEqual([path, isEditable]);
  }
  const page = (await ask(`/keys/record?key=${encodeURIComponent(key)}`)).text;
  expect(page).toContain("The first 64.0 KiB of 97.7 KiB.");
  const address = /href="(\/keys\/value[^"]*)"/.exec(page)![1]!.replaceAll("&amp;", "&");
  const { headers, text } = await ask(address);
  expect([headers.get("content-type"), headers.get("content-disposition"), text === long]).toEqual([
    "application/octet-stream",
    'attachment; filename="_t____x.bin"',
    true,
  ]);
  expect((await ask("/keys/value?key=none")).status).toBe(404);
  expect((await ask("/keys/value?key=secret/a")).status).toBe(403);
  expect((await ask("/keys/value?key=secret/a&unmasked=1")).text).toBe("hidden");
  const access = { needsToken: true, roleOf: () => "viewer" as const };
  const viewer = visit(fakeInspect({ client, access, masked: ["secret/"] }));
  const asViewer = { headers: { authorization: "Bearer v" } };
  expect((await viewer.ask("/keys/value?key=secret/a&unmasked=1", asViewer)).status).toBe(403);
});

test("a place shows its slashes, and what destroys something looks like it", async () => {
  const { client } = fakeRecords([{ key: "/config/app", value: "x" }]);
  const { ask } = visit(fakeInspect({ client }));
  const trail = /<nav class="trail"[^>]*>(.*?)<\/nav>/.exec((await ask("/keys/record?key=/config/app")).text)![1]!;
  expect(trail.replace(/<[^>]*>/g, "")).toBe("default › / › config/");
  for (const path of ["/keys/record?key=/config/app", "/servers/s2", "/namespaces/default"]) {
    expect([path, (await ask(path)).text.includes('<button class="danger" type="submit">')]).toEqual([path, true]);
  }
  expect((await ask("/do/delete-record?namespace=default&key=a&version=7")).text).toContain('class="danger"');
});
