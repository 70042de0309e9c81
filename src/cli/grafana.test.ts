/** The Grafana dashboard in deploy/grafana asks for metrics that servers have, by labels that they have. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { LocalCluster } from "../../test/harness/local-cluster.ts";
import { connect } from "../client/connect.ts";

const FILE = join(import.meta.dir, "../../deploy/grafana/varia.json");

let cluster: LocalCluster;
let exposed: Exposed;

interface Exposed {
  /** By metric; histograms as the series that Prometheus stores. */
  readonly labels: ReadonlyMap<string, ReadonlySet<string>>;
}

beforeAll(async () => {
  const namespaces = "namespaces:\n  - {name: default, initialShardCount: 1, replicationFactor: 3}\n";
  cluster = await LocalCluster.start({ servers: 3, namespaces });
  const client = await connect({ serviceAddress: cluster.servers[0]!.public });
  await client.put("key", "value"); // a call has a code once it has been made
  await client.close();
  // every kind of series is there once the shard is replicated
  for (;;) {
    const ports = [cluster.coordinator.httpPort, ...cluster.servers.map(({ server }) => server!.httpPort)];
    const texts = await Promise.all(
      ports.map(async (port) => (await fetch(`http://127.0.0.1:${port}/metrics`)).text()),
    );
    exposed = exposedBy(texts.join("\n"));
    const late = ["varia_follower_lag_entries", "oxia_coordinator_leader_election_latency_milliseconds_bucket"];
    if (late.every((name) => exposed.labels.get(name)?.has("oxia_namespace"))) break;
    await Bun.sleep(50);
  }
}, 60_000);
afterAll(() => cluster.stop());

/** Labels that Prometheus itself adds to what it scrapes. */
const ADDED = ["instance", "job"];

function exposedBy(text: string): Exposed {
  const labels = new Map<string, Set<string>>();
  for (const [, name] of text.matchAll(/^# TYPE (\w+) (?:counter|gauge)$/gm)) labels.set(name!, new Set(ADDED));
  for (const [, name, inside = ""] of text.matchAll(/^(\w+)(?:\{(.*)\})? \S+$/gm)) {
    const known = labels.get(name!) ?? new Set(ADDED);
    for (const [, label] of inside.matchAll(/(\w+)="/g)) known.add(label!);
    labels.set(name!, known);
  }
  return { labels };
}

/** What stands in an expression and is no metric; functions stand before a parenthesis. */
const KEYWORDS = ["and", "or", "unless", "bool", "offset"];
const GROUPING = /\b(by|without|on|ignoring) *\(([^)]*)\)/g;
const SELECTOR = /\b([a-z_]\w*)\b(?! *\()(?:\{([^}]*)\})?/g;

/** What an expression, or its legend, asks for that nobody exposes. */
function unknownIn(expression: string, { labels }: Exposed, legend = ""): string[] {
  const words = expression.replace(/"[^"]*"/g, '""').replace(/\[[^\]]*\]/g, "");
  const found: string[] = [];
  const there = new Set<string>();
  for (const [, name, inside = ""] of words.replace(GROUPING, "").matchAll(SELECTOR)) {
    if (KEYWORDS.includes(name!)) continue;
    const known = labels.get(name!);
    if (known === undefined) found.push(name!);
    for (const label of known ?? []) there.add(label);
    for (const [, label] of inside.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g))
      if (known?.has(label!) === false) found.push(`${name}{${label}}`);
  }
  let kept = there;
  for (const [, word, list] of words.matchAll(GROUPING)) {
    const named = list!.split(",").map((label) => label.trim());
    for (const label of named) if (!there.has(label)) found.push(`${word} ${label}`);
    if (word === "by") kept = new Set(named);
  }
  for (const [, label] of legend.matchAll(/\{\{(\w+)\}\}/g)) if (!kept.has(label!)) found.push(`{{${label}}}`);
  return found;
}

interface Panel {
  readonly type: string;
  readonly title: string;
  readonly gridPos: { readonly h: number; readonly w: number; readonly x: number; readonly y: number };
  readonly targets?: readonly { readonly expr: string; readonly legendFormat?: string }[];
}

interface Variable {
  readonly type: string;
  readonly query: string;
}

/** Of Grafana. */
const COLUMNS_MAX = 24;

const dashboard = async () =>
  (await Bun.file(FILE).json()) as { readonly panels: Panel[]; readonly templating: { list: Variable[] } };

test("every panel asks for what is there", async () => {
  const { panels, templating } = await dashboard();
  const asked = panels.filter(({ type }) => type !== "row");
  expect(asked.length).toBeGreaterThan(20);
  for (const { title, targets = [] } of asked) {
    expect([title, targets.length > 0]).toEqual([title, true]);
    for (const { expr, legendFormat } of targets) {
      expect([title, expr, unknownIn(expr, exposed, legendFormat)]).toEqual([title, expr, []]);
    }
  }
  const queries = templating.list.filter(({ type }) => type === "query").map(({ query }) => query);
  expect(queries).not.toEqual([]);
  for (const query of queries) {
    const [, metric, label] = /^label_values\((\w+), (\w+)\)$/.exec(query) ?? [];
    expect([query, exposed.labels.get(metric!)?.has(label!)]).toEqual([query, true]);
  }
});

test("what nobody exposes is found: a metric, a label, a grouping, a legend", () => {
  for (const [expression, found, legend] of [
    ["rate(nodejs_eventloop_lag_seconds[1m])", "nodejs_eventloop_lag_seconds"],
    ["rate(oxia_server_db_pets_count_total[1m])", "oxia_server_db_pets_count_total"],
    ["oxia_server_leader_write_latency_milliseconds", "oxia_server_leader_write_latency_milliseconds"],
    ['varia_connections{shard="1"}', "varia_connections{shard}"],
    ["sum by (region) (varia_connections)", "by region"],
    ["sum by (oxia_namespace) (varia_connections)", "by oxia_namespace"],
    ["varia_connections", "{{shard}}", "{{instance}} {{shard}}"],
    ["sum by (job) (varia_connections)", "{{instance}}", "{{instance}}"],
  ] as const) {
    expect(unknownIn(expression, exposed, legend)).toEqual([found]);
  }
});

test("panels do not overlap, and have titles of their own", async () => {
  const { panels } = await dashboard();
  const taken = new Map<string, string>();
  for (const { title, gridPos } of panels) {
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        expect([title, x, y, taken.get(`${x} ${y}`)]).toEqual([title, x, y, undefined]);
        taken.set(`${x} ${y}`, title);
      }
    }
    expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(COLUMNS_MAX);
  }
  expect(new Set(panels.map(({ title }) => title)).size).toBe(panels.length);
});
