/** The schemas for editors agree with those who read the files. */
import { expect, test } from "bun:test";
import Ajv from "ajv/dist/2020.js";
import { parse } from "yaml";
import { ConfigInvalid, parseConfig } from "../coordination/parse-config.ts";
import { atPath } from "../ops/settings.ts";
import { clusterSchema, settingsSchema } from "./config-schema.ts";
import { COORDINATOR_SETTINGS } from "./coordinator-settings.ts";
import { STANDALONE_SETTINGS } from "./standalone-settings.ts";
import { STORAGE_SETTINGS } from "./storage-settings.ts";

const ajv = new Ajv({ strict: true, allowUnionTypes: true });

const GOOD = `
servers:
  - {name: s1, public: "h1:6648", internal: "h1:6649"}
  - {public: "[::1]:6648", internal: "[::1]:6649"}
namespaces:
  - name: default
    initialShardCount: 4
    replicationFactor: 2
    notificationsEnabled: false
    keySorting: natural
    readConsistency: leader
    antiAffinities: [{labels: [rack], mode: strict}]
serverMetadata:
  s1: {labels: {rack: a}}
  "[::1]:6649": {labels: {rack: 2}}
allowExtraAuthorities: ["tls://lb:6648"]
coordinators: [{name: c1, publicAddress: "c1:6651"}]
loadBalancer: {scheduleInterval: 1m30s, quarantineTime: ""}
autoSplit: {enabled: false}
`;

function isRead(document: unknown): boolean {
  try {
    parseConfig(document);
    return true;
  } catch (error) {
    if (error instanceof ConfigInvalid) return false;
    throw error;
  }
}

test("what the coordinator reads is valid, and what it refuses for one field's sake is not", () => {
  const valid = ajv.compile(clusterSchema());
  for (const text of [GOOD, "{}", "servers: []\nnamespaces: []\n"]) {
    expect([text, valid(parse(text)), isRead(parse(text))]).toEqual([text, true, true]);
  }
  for (const [from, to] of [
    ['public: "h1:6648", ', ""],
    ['"h1:6648"', '"h1"'],
    ['"h1:6649"', "17"],
    ["name: default", "name: -x"],
    ["name: default", "name: a..b"],
    ["    initialShardCount: 4\n", ""],
    ["initialShardCount: 4", "initialShardCount: 0"],
    ["initialShardCount: 4", "initialShardCount: 1.5"],
    ["replicationFactor: 2", "replicationFactor: many"],
    ["notificationsEnabled: false", "notificationsEnabled: maybe"],
    ["keySorting: natural", "keySorting: odd"],
    ["readConsistency: leader", "readConsistency: eventual"],
    ["labels: [rack], mode: strict", "labels: []"],
    ["mode: strict", "mode: relaxed"],
    ["scheduleInterval: 1m30s", "scheduleInterval: soon"],
    ["scheduleInterval: 1m30s", "scheduleInterval: 1.2.3s"],
    ["enabled: false", "enabled: true"],
    ['publicAddress: "c1:6651"', "publicAddress: c1"],
    ['allowExtraAuthorities: ["tls://lb:6648"]', "allowExtraAuthorities: lb"],
    ["tls://lb:6648", "lb"],
  ] as const) {
    const text = GOOD.replace(from, to);
    expect([to, text !== GOOD, valid(parse(text)), isRead(parse(text))]).toEqual([to, true, false, false]);
  }
});

test("the schema has the fields that the coordinator asks for, and no others", () => {
  const asked = new Set<string>();
  parseConfig(watched(parse(GOOD), asked));
  for (const name of ["s1", "[::1]:6649", "rack"]) asked.delete(name); // keys of maps
  expect([...asked].sort()).toEqual([...propertiesOf(clusterSchema())].sort());
});

/** The same document, which notes the names that are looked for in it, there or not. */
function watched(value: unknown, asked: Set<string>): unknown {
  if (Array.isArray(value)) return value.map((item) => watched(item, asked));
  if (value === null || typeof value !== "object") return value;
  const fields = Object.entries(value).map(([name, field]) => [name, watched(field, asked)] as const);
  return new Proxy(Object.fromEntries(fields), {
    getOwnPropertyDescriptor(object, name) {
      asked.add(String(name));
      return Reflect.getOwnPropertyDescriptor(object, name);
    },
  });
}

function propertiesOf(schema: unknown): Set<string> {
  if (schema === null || typeof schema !== "object") return new Set();
  const { properties = {} } = schema as { readonly properties?: object };
  return new Set([...Object.keys(properties), ...Object.values(schema).flatMap((part) => [...propertiesOf(part)])]);
}

test("settings stand where they are read from, by text or number", () => {
  for (const [title, table] of [
    ["standalone", STANDALONE_SETTINGS],
    ["storage", STORAGE_SETTINGS],
    ["coordinator", COORDINATOR_SETTINGS],
  ] as const) {
    const schema = settingsSchema(title, table);
    const valid = ajv.compile(schema);
    for (const { path, default: byDefault, parse: read } of Object.values(table)) {
      const place = `properties.${path.split(".").join(".properties.")}`;
      expect([path, atPath(schema, `${place}.description`) !== undefined]).toEqual([path, true]);
      const offered = atPath(schema, `${place}.default`);
      expect([path, offered === undefined ? undefined : read(String(offered))]).toEqual([path, byDefault]);
      const document = (value: unknown) =>
        path.split(".").reduceRight<unknown>((inner, name) => ({ [name]: inner }), value);
      const given = typeof byDefault === "boolean" ? byDefault : "1h";
      expect([path, valid(document(given))]).toEqual([path, true]);
      expect([path, valid(document([1]))]).toEqual([path, false]);
    }
  }
});
