/** The file with the cluster's configuration: edits leave what is beside them, and others' changes are not run over. */
import { afterAll, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { ManualClock } from "../../test/harness/manual-clock.ts";
import type { ConfigEdit } from "../coordination/administer.ts";
import { CLUSTER_CONFIG_POLL_MS } from "../model/limits.ts";
import type { Logger } from "../ports.ts";
import { editedDocument } from "./cluster-document.ts";
import { ClusterFile } from "./cluster-file.ts";

const directory = mkdtempSync(join(tmpdir(), "varia-config-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const quiet = () => {};
const logger: Logger = { debug: quiet, info: quiet, warn: quiet, error: quiet };
const TEXT = `# the cluster in room 7
servers: # two racks
  - {name: s1, public: "h1:6648", internal: "h1:6649"} # the old one
  - public: h2:6648 # without a name
    internal: h2:6649
namespaces:
  - {name: default, initialShardCount: 4, replicationFactor: 2}
  # those of the shop
  - name: orders
    initialShardCount: 2
    replicationFactor: 1
serverMetadata: {s1: {labels: {rack: a}}}
extra: kept
`;

let files = 0;
function opened(text = TEXT): { readonly path: string; readonly file: ClusterFile } {
  files += 1;
  const path = join(directory, `cluster-${files}.yaml`);
  writeFileSync(path, text);
  return { path, file: ClusterFile.open(path, logger, { create: false }) };
}

interface Parsed {
  readonly servers: readonly Readonly<Record<string, unknown>>[];
  readonly namespaces: readonly Readonly<Record<string, unknown>>[];
  readonly serverMetadata: Readonly<Record<string, { readonly labels?: unknown }>>;
}

const added: ConfigEdit = {
  ...{ kind: "add-namespace", name: "bills", initialShardCount: 1, replicationFactor: 2 },
  ...{ notificationsEnabled: false, keySorting: undefined },
};

test("what an edit does not touch stays as it is written", () => {
  const { path, file } = opened();
  const config = file.edit(() => added);
  expect(config.namespaces.at(-1)).toMatchObject({ name: "bills", shards: 1, notificationsEnabled: false });
  const text = readFileSync(path, "utf8");
  for (const [comment] of TEXT.matchAll(/#.*$/gm)) expect(text).toContain(comment);
  expect(Bun.YAML.parse(text)).toEqual({
    ...(Bun.YAML.parse(TEXT) as object),
    namespaces: [
      { name: "default", initialShardCount: 4, replicationFactor: 2 },
      { name: "orders", initialShardCount: 2, replicationFactor: 1 },
      { name: "bills", initialShardCount: 1, replicationFactor: 2, notificationsEnabled: false },
    ],
  });
  expect(file.config).toBe(config);
});

test("each edit does what it says", () => {
  const after = (edit: ConfigEdit, text = TEXT) => Bun.YAML.parse(editedDocument(text, edit)) as Parsed;
  const set = { kind: "set-namespace", name: "orders", replicationFactor: 2, notificationsEnabled: undefined } as const;
  expect(after(set).namespaces[1]).toEqual({ name: "orders", initialShardCount: 2, replicationFactor: 2 });
  expect(after({ kind: "remove-namespace", name: "default" }).namespaces.map((each) => each.name)).toEqual(["orders"]);
  const labels = new Map([["rack", "b"]]);
  const server = { kind: "add-server", name: "s3", public: "h3:6648", internal: "h3:6649", labels } as const;
  const grown = after(server);
  expect(grown.servers[2]).toEqual({ name: "s3", public: "h3:6648", internal: "h3:6649" });
  expect(grown.serverMetadata).toEqual({ s1: { labels: { rack: "a" } }, s3: { labels: { rack: "b" } } });
  const moved = after({ kind: "set-server", name: "s1", public: "h9:6648", internal: undefined, labels: new Map() });
  expect(moved.servers[0]).toEqual({ name: "s1", public: "h9:6648", internal: "h1:6649" });
  expect(moved.serverMetadata.s1?.labels).toBeUndefined();
  const unnamed = after({
    kind: "set-server",
    name: "h2:6649",
    public: "h8:6648",
    internal: "h8:6649",
    labels: undefined,
  });
  expect(unnamed.servers[1]).toEqual({ name: "h2:6649", public: "h8:6648", internal: "h8:6649" });
  const left = after({ kind: "remove-server", name: "s1" });
  expect(left.servers.map((each) => each.internal)).toEqual(["h2:6649"]);
  expect(left.serverMetadata).toEqual({});
  expect(after({ kind: "remove-server", name: "h2:6649" }).servers).toHaveLength(1);
  const bare = TEXT.replace(/serverMetadata.*\n/, "");
  expect(after({ kind: "remove-server", name: "s1" }, bare).servers).toHaveLength(1);
  const noLabels = {
    kind: "set-server",
    name: "s1",
    public: undefined,
    internal: undefined,
    labels: new Map(),
  } as const;
  expect(after(noLabels, bare).servers).toHaveLength(2);
});

test("an empty document, one with empty lists, and JSON take an edit as well", () => {
  const server = {
    kind: "add-server",
    name: "s1",
    public: "h:1",
    internal: "h:2",
    labels: new Map([["a", "b"]]),
  } as const;
  const wanted = {
    servers: [{ name: "s1", public: "h:1", internal: "h:2" }],
    serverMetadata: { s1: { labels: { a: "b" } } },
  };
  for (const text of ["", "servers:\n", "servers: []\n", "# nothing yet\n"]) {
    expect(Bun.YAML.parse(editedDocument(text, server))).toEqual(wanted);
  }
  expect(JSON.parse(editedDocument('{"servers": []}', server))).toEqual(wanted);
  const aliased = "x: &one {name: s1, public: 'h:1', internal: 'h:2'}\nservers: [*one]\n";
  expect((Bun.YAML.parse(editedDocument(aliased, { kind: "remove-server", name: "s1" })) as Parsed).servers).toEqual(
    [],
  );
});

test("what comes of an edit has to be meant, or nothing is changed", () => {
  const { path, file } = opened();
  const before = file.config;
  expect(() => file.edit(() => ({ kind: "remove-server", name: "s1" }))).toThrow(
    /^cluster configuration: namespaces.0.replicationFactor 2 is more than the 1/, // no line of a text that nobody has seen
  );
  expect(readFileSync(path, "utf8")).toBe(TEXT);
  expect(file.config).toBe(before);
});

test("a change that somebody else makes meanwhile is not run over; one made before is taken up", () => {
  const { path, file } = opened();
  const others = TEXT.replace("room 7", "room 8");
  expect(() =>
    file.edit(() => {
      writeFileSync(path, others);
      return added;
    }),
  ).toThrow("was changed meanwhile");
  expect(readFileSync(path, "utf8")).toBe(others);
  writeFileSync(path, others.replace("orders", "invoices"));
  const config = file.edit(({ namespaces }) => {
    expect(namespaces.map(({ name }) => name)).toEqual(["default", "invoices"]);
    return added;
  });
  expect(config.namespaces.map(({ name }) => name)).toEqual(["default", "invoices", "bills"]);
});

test("who watches hears of others' changes, also of one that a refused edit has read; not of edits", () => {
  const { path, file } = opened();
  const clock = new ManualClock();
  const heard: number[] = [];
  file.watch(clock, ({ namespaces }) => void heard.push(namespaces.length));
  file.edit(() => added);
  clock.advance(CLUSTER_CONFIG_POLL_MS);
  expect(heard).toEqual([]);
  writeFileSync(path, TEXT);
  expect(() =>
    file.edit(() => {
      throw new Error("refused");
    }),
  ).toThrow("refused");
  clock.advance(CLUSTER_CONFIG_POLL_MS);
  expect(heard).toEqual([2]);
  writeFileSync(path, "servers: [broken");
  clock.advance(CLUSTER_CONFIG_POLL_MS);
  expect(heard).toEqual([2]);
  expect(() => file.edit(() => added)).toThrow(path);
});

test("a link stays a link, and who may read the file stays who it was", () => {
  const { path } = opened();
  chmodSync(path, 0o640);
  const link = join(directory, "link.yaml");
  symlinkSync(path, link);
  const file = ClusterFile.open(link, logger, { create: false });
  file.edit(() => added);
  expect(readFileSync(path, "utf8")).toContain("bills");
  expect(statSync(path).mode & 0o777).toBe(0o640);
});

test("what is in force is told field by field, with the line that gives it", () => {
  const { path, file } = opened();
  const told = new Map(file.settings.map((setting) => [setting.name, setting]));
  const source = (line: number) => ({ origin: "file", source: `${basename(path)}: line ${line}` });
  expect(told.get("servers.s1.public")).toMatchObject({ value: "h1:6648", ...source(3) });
  expect(told.get("servers.h2:6649.internal")).toMatchObject({ value: "h2:6649", ...source(5) });
  expect(told.get("serverMetadata.s1")).toMatchObject({ value: "rack=a", ...source(12) });
  expect(told.get("namespaces.orders.replicationFactor")).toMatchObject({ value: "1", ...source(11) });
  const byDefault = { origin: "default", source: "" };
  expect(told.get("namespaces.orders.keySorting")).toMatchObject({ value: "hierarchical", ...byDefault });
  expect(told.get("allowExtraAuthorities")).toMatchObject({ value: "", ...byDefault });
  expect(told.get("loadBalancer.scheduleInterval")).toMatchObject({ value: "30s", byDefault: "30s", ...byDefault });
  const rest = { public: "h3:6648", internal: "h3:6649", labels: new Map() };
  file.edit(() => ({ kind: "add-server", name: "s3", ...rest }));
  expect(file.settings.find(({ name }) => name === "servers.s3.public")?.value).toBe("h3:6648");
});
