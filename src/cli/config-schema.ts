/**
 * JSON Schemas of the files that servers read, for editors: what may stand where, with what it is for. They take what
 * the readers take, null where a field may be absent too. What `varia config check` alone knows: rules between fields (a
 * name given twice, more replicas than servers), and the bounds of sizes that are text.
 *
 * Source: JSON Schema, draft 2020-12.
 */
import { numberPattern } from "../lib/number-pattern.ts";
import { SHARDS_PER_NAMESPACE_MAX } from "../model/limits.ts";
import {
  DURATION_PATTERN,
  environmentName,
  flagName,
  type Schema,
  type Setting,
  type SettingsTable,
} from "../ops/settings.ts";
import type { Unsupported } from "./unsupported.ts";

const DIALECT = "https://json-schema.org/draft/2020-12/schema";
/** The bound of the coordinator's reader; that there are as many servers is a rule between fields. */
const REPLICATION_FACTOR_MAX = 1000;

/** Of the file that `--sconfig` names. What Varia does not know there is passed over, and so is allowed. */
export function settingsSchema(title: string, table: SettingsTable, unsupported: readonly Unsupported[]): Schema {
  const root = objectSchema();
  for (const setting of Object.values(table)) put(root, setting.path, scalarSchema(setting));
  for (const { path, what } of unsupported) if (path !== undefined) put(root, path, switchedOff(what));
  return { $schema: DIALECT, title, ...root };
}

interface ObjectSchema {
  readonly type: readonly ["object", "null"];
  readonly properties: Record<string, Schema | ObjectSchema>;
}

function objectSchema(): ObjectSchema {
  return { type: ["object", "null"], properties: {} };
}

function put(root: ObjectSchema, path: string, schema: Schema): void {
  const names = path.split(".");
  let at = root;
  for (const name of names.slice(0, -1)) {
    at.properties[name] ??= objectSchema();
    at = at.properties[name] as ObjectSchema;
  }
  at.properties[names.at(-1)!] = schema;
}

function scalarSchema(setting: Setting<unknown>): Schema {
  const description = `${setting.description} (--${flagName(setting)}, ${environmentName(setting)})`;
  const { anyOf = [setting.parse.schema] } = setting.parse.schema as { readonly anyOf?: readonly Schema[] };
  const schema = { description, anyOf: [...anyOf, { type: "null" }] };
  if (setting.default === undefined) return schema; // what is shown in its place says so in words
  return { ...schema, default: setting.shown ?? setting.default };
}

/** What counts as not given. */
function switchedOff(what: string): Schema {
  return {
    description: `Varia does not support ${what} yet.`,
    anyOf: [
      { type: "null" },
      { enum: [false, ""] },
      { type: "array", maxItems: 0 },
      { type: "object", maxProperties: 0 },
      { type: "object", required: ["enabled"], properties: { enabled: { const: false } } },
    ],
  };
}

const HOST = "(\\[[0-9A-Fa-f:.%]+\\]|[^\\s/?#@:\\[\\]]+)";
const ADDRESS = { type: "string", pattern: `^${HOST}:(?=[0-9]{1,5}$)${numberPattern(1, 65_535)}$` };
/** The reader takes any five digits for a port here. */
const AUTHORITY = { type: "string", pattern: `^([a-z]+://)?${HOST}:[0-9]{1,5}$` };
/** Not of nothing; empty: the default. */
const DURATION = { type: ["string", "null"], pattern: `^$|^(?=.*[1-9])${DURATION_PATTERN}$` };

/** Of the file that `--cconfig` names: Oxia's document. */
export function clusterSchema(): Schema {
  return {
    $schema: DIALECT,
    title: "Varia cluster configuration",
    type: ["object", "null"],
    properties: {
      servers: list("Data servers of the cluster.", {
        type: "object",
        required: ["public", "internal"],
        properties: {
          name: optionalText("By which admin commands call it; default: its internal address."),
          public: { ...ADDRESS, description: "Where clients connect." },
          internal: { ...ADDRESS, description: "Where coordinators and other data servers connect." },
        },
      }),
      namespaces: list("Namespaces, each with shards of its own.", {
        type: "object",
        required: ["name", "initialShardCount", "replicationFactor"],
        properties: {
          name: { type: "string", description: "Its name.", pattern: "^(?!.*[.][.])[a-zA-Z0-9][a-zA-Z0-9_.-]*$" },
          initialShardCount: whole("Shards that it is made with.", SHARDS_PER_NAMESPACE_MAX),
          replicationFactor: whole("Replicas of each shard.", REPLICATION_FACTOR_MAX),
          notificationsEnabled: {
            type: ["boolean", "null"],
            default: true,
            description: "Whether its changes can be followed.",
          },
          keySorting: { enum: ["hierarchical", "natural", "", null], description: "The order of its keys." },
          readConsistency: {
            enum: ["linearizable", "leader", null],
            default: "linearizable",
            description: "leader: as Oxia, a leader that was cut off may answer with an old value.",
          },
          antiAffinities: list("Labels whose values differ between the servers of a shard.", {
            type: "object",
            required: ["labels"],
            properties: {
              labels: { ...list("Names of labels.", SCALAR), type: "array", minItems: 1 },
              mode: { enum: ["strict", null] },
            },
          }),
        },
      }),
      serverMetadata: map("Labels of servers, by their names.", {
        type: ["object", "null"],
        properties: { labels: map("Values of labels.", SCALAR) },
      }),
      allowExtraAuthorities: list("Further addresses by which clients may call servers.", AUTHORITY),
      coordinators: list("For admin clients.", {
        type: "object",
        required: ["name", "publicAddress"],
        properties: { name: { type: "string", minLength: 1 }, publicAddress: ADDRESS },
      }),
      loadBalancer: {
        type: ["object", "null"],
        description: "When replicas and leaders are spread evenly.",
        properties: { scheduleInterval: DURATION, quarantineTime: DURATION },
      },
      autoSplit: {
        type: ["object", "null"],
        description: "Varia does not split shards by itself.",
        properties: { enabled: { enum: [false, null] } },
      },
    },
  };
}

const SCALAR = { type: ["string", "number"] };

function optionalText(description: string): Schema {
  return { type: ["string", "null"], description };
}

/** From 1 on, or its digits as text. */
function whole(description: string, maximum: number): Schema {
  const asText = { type: "string", pattern: `^(?=.{1,16}$)${numberPattern(1, maximum)}$` };
  return { description, anyOf: [{ type: "integer", minimum: 1, maximum }, asText] };
}

function list(description: string, items: Schema): Schema {
  return { type: ["array", "null"], description, items };
}

function map(description: string, additionalProperties: Schema): Schema {
  return { type: ["object", "null"], description, additionalProperties };
}
