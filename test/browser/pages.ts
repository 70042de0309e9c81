/** Every page of the dashboard, for whoever looks at all of them. */
import { sessionId } from "../../web/parts/format.ts";
import type { Stage } from "./stage.ts";

export interface PageAddress {
  /** For file names and messages. */
  readonly name: string;
  readonly path: string;
  /** Its heading. */
  readonly heading: string;
}

/** Those who have not logged in see it. */
export const LOGIN_PAGE: PageAddress = { name: "login", path: "/login?to=/shards", heading: "Log in" };

/** All of them, each at the server that has it. */
export function pagesOf({
  url,
  storageUrl,
  standaloneUrl,
  session,
}: Stage): readonly (PageAddress & { url: string })[] {
  const { id, shard } = session;
  const sessionPage = {
    name: "session",
    path: `/sessions/default/${shard}/${id}`,
    heading: `Session ${sessionId(id)}`,
  };
  return [
    ...[...COORDINATOR_PAGES, sessionPage].map((page) => ({ ...page, url: url + page.path })),
    ...PREVIEWS.map((page) => ({ ...page, url: url + page.path })),
    ...STORAGE_PAGES.map((page) => ({ ...page, url: storageUrl + page.path })),
    ...STANDALONE_PAGES.map((page) => ({ ...page, url: standaloneUrl + page.path })),
  ];
}

/** Of a coordinator whose namespace `default` has data: see `fill`. */
const COORDINATOR_PAGES: readonly PageAddress[] = [
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
  { name: "index", path: "/keys/index?namespace=default&index=by-state&from=done", heading: "Index by-state" },
  { name: "sessions", path: "/sessions", heading: "Sessions" },
  { name: "notifications", path: "/notifications", heading: "Notifications" },
  { name: "diagnosis", path: "/diagnosis", heading: "Diagnosis" },
  { name: "performance", path: "/performance", heading: "Performance" },
  { name: "configuration", path: "/configuration", heading: "Configuration" },
  { name: "node", path: "/node", heading: "This process" },
  { name: "node-of-server", path: "/node?server=s1", heading: "Process" },
  { name: "configuration-of-server", path: "/configuration?server=s1", heading: "Configuration" },
  { name: "performance-of-server", path: "/performance?server=s1", heading: "Performance" },
  { name: "help", path: "/help", heading: "Help" },
  { name: "not-found", path: "/shards/default/99", heading: "Not found" },
];

/** What changes would do. */
const PREVIEWS: readonly PageAddress[] = [
  ["swap-replica", "namespace=default&shard=0&from=s1&to=s1", "Move replica"],
  ["switch-leader", "namespace=default&shard=0&to=s1", "Switch leader"],
  ["freeze-shard", "namespace=default&shard=0&seconds=5", "Freeze shard"],
  ["create-namespace", "name=jobs&shards=4&replicas=3&sorting=natural&notifications=on", "Create namespace"],
  ["patch-namespace", "name=default&replicas=3&notifications=off&seen=3+on", "Change namespace"],
  ["delete-namespace", "name=default", "Delete namespace"],
  ["drain-server", "name=s1", "Drain server"],
  ["log-level", "level=debug&server=s1", "Change log level"],
  ["delete-record", "namespace=default&key=greeting&version=0", "Delete record"],
].map(([deed, fields, heading]) => ({ name: `preview-${deed}`, path: `/do/${deed}?${fields}`, heading: heading! }));

/** Of a standalone server with the same data. */
const STANDALONE_PAGES: readonly PageAddress[] = [
  { name: "standalone", path: "/", heading: "Overview" },
  { name: "standalone-namespaces", path: "/namespaces", heading: "Namespaces" },
  { name: "standalone-shards", path: "/shards", heading: "Shards" },
  { name: "standalone-shard", path: "/shards/default/0", heading: "Shard default/0" },
  { name: "standalone-keys", path: "/keys", heading: "Keys" },
  { name: "standalone-record", path: "/keys/record?namespace=default&key=/config/app", heading: "/config/app" },
  { name: "standalone-sessions", path: "/sessions", heading: "Sessions" },
  { name: "standalone-notifications", path: "/notifications", heading: "Notifications" },
  { name: "standalone-performance", path: "/performance", heading: "Performance" },
  { name: "standalone-configuration", path: "/configuration", heading: "Configuration" },
  { name: "standalone-node", path: "/node", heading: "This process" },
];

/** Of a data server. */
const STORAGE_PAGES: readonly PageAddress[] = [
  { name: "storage", path: "/", heading: "This process" },
  { name: "storage-performance", path: "/performance", heading: "Performance" },
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
