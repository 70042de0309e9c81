/** A cluster with something in it, and a browser that looks at it. */
import { existsSync } from "node:fs";
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium } from "playwright-core";
import { connect } from "../../src/client/connect.ts";
import { ADMIN_TOKEN, Cluster } from "../e2e/cluster.ts";
import { scratch } from "../e2e/varia.ts";
import { HOSTILE_KEYS } from "./pages.ts";

const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser"];
const WELL_MS_MAX = 60_000;
/** For what is to come on screen. */
const WAIT_MS_MAX = 15_000;

/** Debian's chromium, without a window. */
export async function openBrowser(): Promise<Browser> {
  const executablePath = process.env.VARIA_CHROMIUM ?? CHROMIUM.find((path) => existsSync(path));
  if (executablePath === undefined) throw new Error("chromium is missing: apt-get install chromium");
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

/** Somebody who is logged in at all of these, each `http://host:port`. */
export async function logIn(
  browser: Browser,
  urls: readonly string[],
  { token = ADMIN_TOKEN, ...options }: BrowserContextOptions & { readonly token?: string } = {},
): Promise<BrowserContext> {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(WAIT_MS_MAX);
  const tab = await context.newPage();
  for (const url of urls) {
    await tab.goto(url);
    await tab.getByLabel("Token").fill(token);
    await tab.getByRole("button", { name: "Log in" }).click();
    await tab.getByRole("button", { name: "Log out" }).waitFor();
  }
  await tab.close();
  return context;
}

export interface Stage {
  readonly cluster: Cluster;
  /** Of the coordinator's pages: `http://host:port`. */
  readonly url: string;
  remove(): Promise<void>;
}

/** Data servers and a coordinator, well, with some records. */
export async function openStage(name: string, { servers = 3 } = {}): Promise<Stage> {
  const directory = scratch(name);
  const cluster = await Cluster.start({ directory: directory.path, servers });
  const remove = async () => {
    await cluster.remove();
    directory.remove();
  };
  try {
    await untilWell(cluster);
    await fill(cluster.addresses[0]!);
    await operate(cluster);
  } catch (error) {
    await remove();
    throw error;
  }
  return { cluster, url: `http://${cluster.coordinator.httpAddress}`, remove };
}

/** Resolves once nothing is wrong. */
export async function untilWell(cluster: Cluster): Promise<void> {
  const deadline = performance.now() + WELL_MS_MAX;
  for (;;) {
    const problems = await cluster.problems();
    if (problems.length === 0) return;
    if (performance.now() > deadline) throw new Error(`the cluster is not well: ${problems.join("; ")}`);
    await Bun.sleep(50);
  }
}

/** Two operations: one that has ended, and one that was cancelled. */
async function operate({ coordinator }: Cluster): Promise<void> {
  const ask = async (method: string, body: object) => {
    const response = await fetch(`http://${coordinator.host}:6651/varia.admin.v1.VariaAdmin/${method}`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${ADMIN_TOKEN}` },
      body: JSON.stringify({ namespace: "default", shard: 0, ...body }),
    });
    if (!response.ok) throw new Error(`${method}: ${await response.text()}`);
  };
  await ask("FreezeShard", { forMs: 60_000 });
  await ask("ThawShard", {});
  await ask("SwitchLeader", { to: "s2" });
}

export async function fill(serviceAddress: string): Promise<void> {
  const client = await connect({ serviceAddress });
  try {
    const app = { name: "billing", replicas: 3, features: { audit: true, export: false } };
    await Promise.all([
      client.put("greeting", "hello"),
      client.put("/config/app", JSON.stringify(app)),
      client.put("/config/limits", "requests=100\nbytes=1048576\n"),
      client.put(
        "/config/certificate",
        new Uint8Array(600).map((_, nth) => (nth * 37) & 0xff),
      ),
      client.put("/config/empty", ""),
      ...Array.from({ length: 150 }, (_, nth) => client.put(`/jobs/${String(nth).padStart(4, "0")}/state`, "done")),
      ...HOSTILE_KEYS.map((key) => client.put(key, "<b>not bold</b>")),
    ]);
  } finally {
    await client.close();
  }
}
