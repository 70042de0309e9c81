/** The schemas for editors agree with those who read the files. */
import { expect, test } from "bun:test";
import Ajv from "ajv/dist/2020.js";
import fc from "fast-check";
import { parse } from "yaml";
import { ConfigInvalid, parseConfig } from "../coordination/parse-config.ts";
import type { Json } from "../model/status-entries.ts";
import { atPath, resolveSettings, SettingError, type SettingsTable } from "../ops/settings.ts";
import { clusterSchema, settingsSchema } from "./config-schema.ts";
import { COORDINATOR_SETTINGS } from "./coordinator-settings.ts";
import { STANDALONE_SETTINGS } from "./standalone-settings.ts";
import { STORAGE_SETTINGS } from "./storage-settings.ts";
import {
  refuseUnsupported,
  UNSUPPORTED_COORDINATOR,
  UNSUPPORTED_STANDALONE,
  UNSUPPORTED_STORAGE,
  type Unsupported,
} from "./unsupported.ts";

interface Server {
  readonly name: string;
  readonly table: SettingsTable;
  readonly unsupported: readonly Unsupported[];
}

const SERVERS: readonly Server[] = [
  { name: "standalone", table: STANDALONE_SETTINGS, unsupported: UNSUPPORTED_STANDALONE },
  { name: "storage", table: STORAGE_SETTINGS, unsupported: UNSUPPORTED_STORAGE },
  { name: "coordinator", table: COORDINATOR_SETTINGS, unsupported: UNSUPPORTED_COORDINATOR },
];
/** So many values are tried, on average. */
const RUNS_AT_A_PLACE = 150;

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

/** Rules that the schemas leave to the readers. */
const BETWEEN_FIELDS =
  /given twice|is that of servers|the internal address too|no server's name|servers there are|to keep apart/;
const BOUND_OF_SIZE = /is below the least|is more than there can be|is not between/;

/** Whether the coordinator takes the document, rules between fields aside. */
function isRead(document: unknown): boolean {
  try {
    parseConfig(document);
    return true;
  } catch (error) {
    if (error instanceof ConfigInvalid) return BETWEEN_FIELDS.test(error.message);
    throw error;
  }
}

function isResolved({ table, unsupported }: Server, file: Json, value: Json): boolean {
  try {
    refuseUnsupported(unsupported, { flags: {}, environment: {}, file });
    resolveSettings(table, { flags: {}, environment: {}, file });
    return true;
  } catch (error) {
    if (error instanceof SettingError) return typeof value === "string" && BOUND_OF_SIZE.test(error.message);
    throw error;
  }
}

/** Texts that are read somewhere, or nearly. */
const digits = fc.oneof(
  fc.nat(10),
  fc.integer({ min: 990, max: 1010 }),
  fc.integer({ min: 4090, max: 4100 }),
  fc.integer({ min: 65_530, max: 65_540 }),
  fc.nat(2_000_000),
  fc.maxSafeNat(),
);
const digitsAsText = fc
  .tuple(fc.constantFrom("", "", "0", "000", "0000000000000", "-", "+", " "), digits)
  .map((parts) => parts.join(""));
const host = fc.constantFrom("h", "h.example", "[::1]", "[fe80::1%25]", "::1", "", " ", "a b", "a/b", "u@h", "[h", "ü");
const hostPort = fc
  .tuple(fc.constantFrom("", "", "tls://", "TLS://"), host, fc.constantFrom(":", ":", ":", ""), digitsAsText)
  .map((parts) => parts.join(""));
const unit = fc.constantFrom("", " m", ..."ns us µs ms s m h k K kb MiB gIb g b bib x".split(" "));
const fraction = fc.constantFrom("", "", "", ".0", ".5", ".00", ".", ".1.2");
const quantity = fc.tuple(digitsAsText, fraction, unit).map((parts) => parts.join(""));
const quantities = fc.array(quantity, { minLength: 1, maxLength: 3 }).map((parts) => parts.join(""));
const WORDS =
  "true false yes on off t F hierarchical natural linearizable leader strict relaxed read-only sqlite file memory raft " +
  "debug info warn error , a,b a, a..b -a a_.-9";
const word = fc
  .constantFrom("", ...WORDS.split(" "))
  .chain((text) => fc.constantFrom(text, text.toUpperCase(), `${text} `, `${text}\n`));
const text = fc.oneof(digitsAsText, hostPort, quantity, quantities, word, fc.string({ maxLength: 4 }));
const number = fc.oneof(
  digits,
  digits.map((value) => value + 0.5),
  digits.map((value) => -value),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
);
const scalar = fc.oneof(fc.constant(null), fc.boolean(), number, text, text);
const field = fc.constantFrom("enabled", "labels", "name", "a");
const ANY_VALUE: fc.Arbitrary<Json> = fc.oneof(
  { weight: 6, arbitrary: scalar },
  { weight: 1, arbitrary: fc.oneof(fc.array(scalar, { maxLength: 2 }), fc.dictionary(field, scalar, { maxKeys: 2 })) },
);

/** Every place in a document, the document itself first, the names and positions that lead there. */
function placesOf(value: Json): string[][] {
  if (value === null || typeof value !== "object") return [[]];
  return [
    [],
    ...Object.entries(value).flatMap(([name, inner]) => placesOf(inner as Json).map((rest) => [name, ...rest])),
  ];
}

/** The document with another value at a place; undefined: with nothing there. */
function replaced(document: Json, [name, ...rest]: readonly string[], value: Json | undefined): Json | undefined {
  if (name === undefined) return value;
  const inner = (document as { readonly [name: string]: Json })[name]!;
  const changed = replaced(inner, rest, value);
  if (Array.isArray(document)) return document.toSpliced(Number(name), 1, ...(changed === undefined ? [] : [changed]));
  const { [name]: _, ...others } = document as { readonly [name: string]: Json };
  return changed === undefined ? others : { ...others, [name]: changed };
}

function settingsOf(place: string, value: Json): Json {
  if (place === "") return value;
  return place.split(".").reduceRight<Json>((inner, name) => ({ [name]: inner }), value);
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

test("settings stand where they are read from, with what they are for and their defaults", () => {
  for (const { name, table, unsupported } of SERVERS) {
    const schema = settingsSchema(name, table, unsupported);
    for (const { path, default: byDefault, parse: read } of Object.values(table)) {
      const place = `properties.${path.split(".").join(".properties.")}`;
      expect([path, atPath(schema, `${place}.description`) !== undefined]).toEqual([path, true]);
      const offered = atPath(schema, `${place}.default`);
      expect([path, offered === undefined ? undefined : read(String(offered))]).toEqual([path, byDefault]);
    }
  }
});

test("whatever stands at a place of the cluster's configuration: what is valid is read, what is not is refused", () => {
  const valid = ajv.compile(clusterSchema());
  const document = parse(GOOD) as Json;
  const agree = (place: readonly string[], value: Json | undefined) => {
    const changed = replaced(document, place, value);
    return valid(changed) === isRead(changed);
  };
  const [, ...places] = placesOf(document);
  for (const place of places) expect([place, agree(place, undefined)]).toEqual([place, true]);
  everywhere([[], ...places], agree);
}, 60_000);

for (const server of SERVERS) {
  const { name, table, unsupported } = server;
  test(`whatever stands at a place of the settings of varia ${name}: what is valid is read, what is not is refused`, () => {
    const valid = ajv.compile(settingsSchema(name, table, unsupported));
    const paths = [...Object.values(table), ...unsupported].flatMap(({ path }) => path ?? []);
    const places = paths.flatMap((path) => path.split(".").map((_, depth, names) => names.slice(0, depth).join(".")));
    everywhere([...new Set([...places, ...paths])], (place, value) => {
      const document = settingsOf(place, value);
      return valid(document) === isResolved(server, document, value);
    });
  }, 60_000);
}

function everywhere<Place>(places: readonly Place[], agree: (place: Place, value: Json) => boolean): void {
  const property = fc.property(fc.constantFrom(...places), ANY_VALUE, agree);
  fc.assert(property, { numRuns: RUNS_AT_A_PLACE * places.length });
}
