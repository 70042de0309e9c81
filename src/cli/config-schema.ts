/**
 * JSON Schemas of the files that servers read, for editors: what may stand where, with what it is for. Rules between
 * fields (a name given twice, more replicas than servers) are those of `varia config check`.
 *
 * Source: JSON Schema, draft 2020-12.
 */
import { SHARDS_PER_NAMESPACE_MAX } from "../model/limits.ts";
import { environmentName, flagName, type Setting, type SettingsTable } from "../ops/settings.ts";

type Schema = Readonly<Record<string, unknown>>;

const DIALECT = "https://json-schema.org/draft/2020-12/schema";

/** Of the file that `--sconfig` names. What Varia does not know there is passed over, and so is allowed. */
export function settingsSchema(title: string, table: SettingsTable): Schema {
  const root: MutableObject = objectSchema();
  for (const setting of Object.values(table)) {
    const names = setting.path.split(".");
    let at = root;
    for (const name of names.slice(0, -1)) {
      at.properties[name] ??= objectSchema();
      at = at.properties[name] as MutableObject;
    }
    at.properties[names.at(-1)!] = scalarSchema(setting);
  }
  return { $schema: DIALECT, title, ...root };
}

interface MutableObject {
  readonly type: "object";
  readonly properties: Record<string, Schema | MutableObject>;
}

function objectSchema(): MutableObject {
  return { type: "object", properties: {} };
}

/** Values are read from their text, so that a number and its text are the same. */
function scalarSchema(setting: Setting<unknown>): Schema {
  const description = `${setting.description} (--${flagName(setting)}, ${environmentName(setting)})`;
  const type = typeof setting.default === "boolean" ? ["boolean", "string"] : ["string", "number"];
  if (setting.default === undefined) return { description, type }; // what is shown in its place says so in words
  return { description, type, default: setting.shown ?? setting.default };
}

const HOST_PORT = "(\\[[0-9A-Fa-f:.%]+\\]|[^\\s/?#@:\\[\\]]+):[0-9]{1,5}$";
const ADDRESS = { type: "string", pattern: `^${HOST_PORT}` };
const AUTHORITY = { type: "string", pattern: `^([a-z]+://)?${HOST_PORT}` };
const DURATION = { type: "string", pattern: "^$|^([0-9]+([.][0-9]+)?(ns|us|µs|ms|s|m|h))+$" };

/** Of the file that `--cconfig` names: Oxia's document. */
export function clusterSchema(): Schema {
  return {
    $schema: DIALECT,
    title: "Varia cluster configuration",
    type: "object",
    properties: {
      servers: list("Data servers of the cluster.", {
        type: "object",
        required: ["public", "internal"],
        properties: {
          name: text("By which admin commands call it; default: its internal address."),
          public: { ...ADDRESS, description: "Where clients connect." },
          internal: { ...ADDRESS, description: "Where coordinators and other data servers connect." },
        },
      }),
      namespaces: list("Namespaces, each with shards of its own.", {
        type: "object",
        required: ["name", "initialShardCount", "replicationFactor"],
        properties: {
          name: { ...text("Its name."), pattern: "^(?!.*[.][.])[a-zA-Z0-9][a-zA-Z0-9_.-]*$" },
          initialShardCount: whole("Shards that it is made with.", SHARDS_PER_NAMESPACE_MAX),
          replicationFactor: whole("Replicas of each shard.", 1000),
          notificationsEnabled: { type: "boolean", default: true, description: "Whether its changes can be followed." },
          keySorting: { enum: ["hierarchical", "natural", ""], description: "The order of its keys." },
          readConsistency: {
            enum: ["linearizable", "leader"],
            default: "linearizable",
            description: "leader: as Oxia, a leader that was cut off may answer with an old value.",
          },
          antiAffinities: list("Labels whose values differ between the servers of a shard.", {
            type: "object",
            required: ["labels"],
            properties: {
              labels: { ...list("Names of labels.", { type: ["string", "number"] }), minItems: 1 },
              mode: { enum: ["strict"] },
            },
          }),
        },
      }),
      serverMetadata: map("Labels of servers, by their names.", {
        type: "object",
        properties: { labels: map("Values of labels.", { type: ["string", "number"] }) },
      }),
      allowExtraAuthorities: list("Further addresses by which clients may call servers.", AUTHORITY),
      coordinators: list("For admin clients.", {
        type: "object",
        required: ["name", "publicAddress"],
        properties: { name: { type: "string", minLength: 1 }, publicAddress: ADDRESS },
      }),
      loadBalancer: {
        type: "object",
        description: "When replicas and leaders are spread evenly.",
        properties: { scheduleInterval: DURATION, quarantineTime: DURATION },
      },
      autoSplit: {
        type: "object",
        description: "Varia does not split shards by itself.",
        properties: { enabled: { const: false } },
      },
    },
  };
}

function text(description: string): Schema {
  return { type: "string", description };
}

/** From 1 on. */
function whole(description: string, maximum: number): Schema {
  return { type: "integer", minimum: 1, maximum, description };
}

function list(description: string, items: Schema): Schema {
  return { type: "array", description, items };
}

function map(description: string, additionalProperties: Schema): Schema {
  return { type: "object", description, additionalProperties };
}
