/** Settings of `varia standalone`: Oxia's flags and file fields, and Varia's own. */
import { SHARDS_PER_NAMESPACE_MAX } from "../model/limits.ts";
import { boolean, integer, oneOf, type Settings } from "../ops/settings.ts";
import { DATA_SETTINGS, setting } from "./data-settings.ts";

export const STANDALONE_SETTINGS = {
  shards: setting({
    flags: "-s, --shards <n>",
    description: "number of shards, fixed when the data directory is created",
    path: "standalone.shards",
    default: 1,
    parse: integer(1, SHARDS_PER_NAMESPACE_MAX),
  }),
  keySorting: setting({
    flags: "--key-sorting <order>",
    description: "hierarchical or natural, fixed when the data directory is created",
    path: "standalone.keySorting",
    default: "hierarchical" as const,
    parse: oneOf("hierarchical", "natural"),
  }),
  ...DATA_SETTINGS,
  notificationsEnabled: setting({
    flags: "--notifications-enabled <bool>",
    description: "keep what each write changed, for clients that follow it",
    path: "standalone.notificationsEnabled",
    default: true,
    parse: boolean,
  }),
};

export type StandaloneSettings = Settings<typeof STANDALONE_SETTINGS>;
