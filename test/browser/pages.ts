/** Every page of the dashboard, for whoever looks at all of them. */

export interface PageAddress {
  /** For file names and messages. */
  readonly name: string;
  readonly path: string;
  /** Its heading. */
  readonly heading: string;
}

/** Of a coordinator whose namespace `default` has data: see `fill`. */
export const COORDINATOR_PAGES: readonly PageAddress[] = [
  { name: "overview", path: "/", heading: "Overview" },
  { name: "namespaces", path: "/namespaces", heading: "Namespaces" },
  { name: "namespace", path: "/namespaces/default", heading: "Namespace default" },
  { name: "shards", path: "/shards", heading: "Shards" },
  { name: "shard", path: "/shards/default/0", heading: "Shard default/0" },
  { name: "servers", path: "/servers", heading: "Servers" },
  { name: "server", path: "/servers/s1", heading: "Server s1" },
  { name: "operations", path: "/operations", heading: "Operations" },
  { name: "operation", path: "/operations/1", heading: "Operation 1" },
  { name: "events", path: "/events", heading: "Events" },
  { name: "keys", path: "/keys", heading: "Keys" },
  { name: "keys-place", path: "/keys?namespace=default&place=/config/", heading: "Keys" },
  { name: "record", path: "/keys/record?namespace=default&key=/config/app", heading: "/config/app" },
  { name: "sessions", path: "/sessions", heading: "Sessions" },
  { name: "notifications", path: "/notifications", heading: "Notifications" },
  { name: "diagnosis", path: "/diagnosis", heading: "Diagnosis" },
  { name: "performance", path: "/performance", heading: "Performance" },
  { name: "configuration", path: "/configuration", heading: "Configuration" },
  { name: "node", path: "/node", heading: "This process" },
  { name: "help", path: "/help", heading: "Help" },
  { name: "not-found", path: "/shards/default/99", heading: "Not found" },
];

/** Of a data server. */
export const STORAGE_PAGES: readonly PageAddress[] = [
  { name: "storage", path: "/", heading: "This process" },
  { name: "storage-configuration", path: "/configuration", heading: "Configuration" },
  { name: "storage-help", path: "/help", heading: "Help" },
];

/** Keys that a page may not take for anything else than text. */
export const HOSTILE_KEYS: readonly string[] = [
  "<script>document.title='run'</script>",
  "<img src=x onerror=\"document.title='run'\">",
  "\u202eevil\u202c",
  "line\nbreak\u0000nul",
  "\"'><b>",
];
