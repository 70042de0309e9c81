/**
 * What the dashboard and the metrics of a large cluster cost: three data servers and a coordinator of the built
 * executable, 1,000 shards of three replicas. Needs root (network namespaces).
 *
 *     bun run bench:dashboard [--shards 1000] [--dashboards 100] [--directory DIR]
 *
 * Times are those of the whole answer as its reader has it; CPU is the coordinator's, all its threads, less what it takes
 * by itself. An event is one that a kill of a data server brings about: from the event's own time to the page that shows it.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Cluster, VIEWER_TOKEN } from "../e2e/cluster.ts";
import { cpuSeconds } from "./load.ts";

const { values } = parseArgs({
  options: {
    shards: { type: "string", default: "1000" },
    dashboards: { type: "string", default: "100" },
    directory: { type: "string" },
  },
});
const SHARDS = Number(values.shards);
const DASHBOARDS = Number(values.dashboards);
const REQUESTS = 100;
const IDLE_S = 20;
const WAIT_MS_MAX = 120_000;
/** In the row of a server that is gone, and in the event that says so. */
const WATCHED = "unavailable";

const directory = values.directory ?? mkdtempSync(join(tmpdir(), "varia-dashboard-"));
const cluster = await Cluster.start({ directory, shards: SHARDS });
try {
  await until("the cluster is whole", async () => (await cluster.problems()).length === 0);
  await Bun.sleep(10_000); // what a start leaves to be done is done
  const { coordinator, servers } = cluster;
  const [server] = servers;
  const url = `http://${coordinator.httpAddress}`;
  const headers = { cookie: await logIn(url) };
  await times("overview", "50 ms at p95", () => read(`${url}/`, headers));
  await times("shards, first page", "–", () => read(`${url}/shards`, headers));
  await times("scrape of a data server", "100 ms", () => read(`http://${server!.httpAddress}/metrics`, {}));
  await times("scrape of the coordinator", "100 ms", () => read(`${url}/metrics`, {}));

  const idle = await cpuShare();
  const streams = await Promise.all(Array.from({ length: DASHBOARDS }, () => follow(`${url}/live?page=%2F`, headers)));
  await Bun.sleep(3_000);
  const open = await cpuShare();
  console.log(
    `${DASHBOARDS} open dashboards`.padEnd(40),
    `${((open - idle) * 100).toFixed(1)} % of a core   (wanted: 5 %)`,
  );

  for (const stream of streams) stream.forget();
  await servers.at(-1)!.kill();
  await until("all show the event", () => streams.every((stream) => stream.shownMs !== undefined));
  const happened = await eventMs(url, headers);
  line(
    "event to screen",
    streams.map(({ shownMs }) => shownMs! - happened),
    "1,000 ms",
  );
  for (const stream of streams) stream.end();
} finally {
  await cluster.remove();
  if (values.directory === undefined) rmSync(directory, { recursive: true, force: true });
}

async function logIn(at: string): Promise<string> {
  const form = new URLSearchParams({ token: VIEWER_TOKEN, to: "/" });
  const response = await fetch(`${at}/login`, {
    method: "POST",
    body: form,
    redirect: "manual",
    headers: { origin: at },
  });
  const cookie = response.headers.get("set-cookie")?.split(";")[0];
  if (cookie === undefined) throw new Error(`no session: ${response.status} ${await response.text()}`);
  return cookie;
}

async function read(address: string, headers: Record<string, string>): Promise<number> {
  const response = await fetch(address, { headers });
  if (!response.ok) throw new Error(`${address}: ${response.status}`);
  return (await response.text()).length;
}

async function times(what: string, wanted: string, once: () => Promise<number>): Promise<void> {
  const samples: number[] = [];
  let length = 0;
  for (let nth = 0; nth < REQUESTS; nth++) {
    const startedMs = performance.now();
    length = await once();
    samples.push(performance.now() - startedMs);
    await Bun.sleep(20);
  }
  line(`${what}, ${Math.round(length / 1024)} KiB`, samples, wanted);
}

/** Of the coordinator, in cores. */
async function cpuShare(): Promise<number> {
  const before = cpuSeconds(cluster.coordinator.pid);
  await Bun.sleep(IDLE_S * 1_000);
  return (cpuSeconds(cluster.coordinator.pid) - before) / IDLE_S;
}

/** A page that stays open: notes when it shows the event first. */
async function follow(address: string, headers: Record<string, string>) {
  const controller = new AbortController();
  const response = await fetch(address, { headers, signal: controller.signal });
  if (!response.ok || response.body === null) throw new Error(`${address}: ${response.status}`);
  const page = {
    shownMs: undefined as number | undefined,
    forget: () => {
      page.shownMs = undefined;
    },
    end: () => controller.abort(),
  };
  const reading = async () => {
    const decoder = new TextDecoder();
    let tail = "";
    for await (const chunk of response.body!) {
      const text = tail + decoder.decode(chunk, { stream: true });
      if (text.includes(WATCHED)) page.shownMs ??= Date.now();
      tail = text.slice(1 - WATCHED.length);
    }
  };
  reading().catch(() => {}); // it was ended
  return page;
}

async function eventMs(at: string, headers: Record<string, string>): Promise<number> {
  const events = (await (await fetch(`${at}/events.json?kind=server`, { headers })).json()) as {
    message: string;
    timeMs: number;
  }[];
  return events.find(({ message }) => message.includes(WATCHED))!.timeMs;
}

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WAIT_MS_MAX;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`not within ${WAIT_MS_MAX} ms: ${what}`);
    await Bun.sleep(50);
  }
}

function line(what: string, samples: readonly number[], wanted: string): void {
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!.toFixed(0);
  console.log(what.padEnd(40), `p50 ${at(0.5)} ms, p95 ${at(0.95)} ms, longest ${at(1)} ms   (wanted: ${wanted})`);
}
