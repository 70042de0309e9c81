/** A cluster with something in it, and a browser that looks at it. */
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium } from "playwright-core";
import type { VariaClient } from "../../src/client/client.ts";
import { connect } from "../../src/client/connect.ts";
import { ADMIN_TOKEN, Cluster } from "../e2e/cluster.ts";
import { Server, scratch } from "../e2e/varia.ts";
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
  /** Of a data server's own. */
  readonly storageUrl: string;
  /** Of a standalone server, where there is one. */
  readonly standaloneUrl: string;
  /** That stays as long as the stage. */
  readonly session: Session;
  remove(): Promise<void>;
}

export interface Session {
  readonly shard: number;
  readonly id: bigint;
}

/** Data servers and a coordinator, well, and a standalone server, each with some records. */
export async function openStage(name: string, { servers = 3 } = {}): Promise<Stage> {
  const directory = scratch(name);
  const cluster = await Cluster.start({ directory: directory.path, servers });
  let worker: VariaClient | undefined;
  const remove = async () => {
    await worker?.close();
    await cluster.remove();
    directory.remove();
  };
  try {
    const standalone = await startStandalone(join(directory.path, "standalone"), cluster.tokenFile);
    await untilWell(cluster);
    await Promise.all([fill(cluster.addresses[0]!), fill(await standalone.ready)]);
    await operate(cluster);
    worker = await connect({ serviceAddress: cluster.addresses[0]!, clientIdentity: "worker-of-the-stage" });
    await worker.put("/workers/stage", "here", { ephemeral: true });
    return {
      ...{ cluster, remove, session: await sessionOf(cluster) },
      url: `http://${cluster.coordinator.httpAddress}`,
      storageUrl: `http://${cluster.servers[0]!.httpAddress}`,
      standaloneUrl: /http:\/\/127\.\d+\.\d+\.\d+:\d+/.exec(standalone.log())![0],
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function startStandalone(directory: string, tokenFile: string): Promise<Server> {
  mkdirSync(directory);
  return Server.start({ directory, shards: 4, flags: ["--admin-token-file", tokenFile] });
}

/** The one that there is. */
async function sessionOf(cluster: Cluster): Promise<Session> {
  const { sessions } = (await askAdmin(cluster, "ListSessions", { namespace: "default" })) as {
    sessions: readonly { readonly shard?: string; readonly session: string }[];
  };
  const [{ shard = "0", session }] = sessions as [(typeof sessions)[number]];
  return { shard: Number(shard), id: BigInt(session) };
}

async function askAdmin({ coordinator }: Cluster, method: string, body: object): Promise<unknown> {
  const response = await fetch(`http://${coordinator.host}:6651/varia.admin.v1.VariaAdmin/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${ADMIN_TOKEN}` },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${method}: ${await response.text()}`);
  return response.json();
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
async function operate(cluster: Cluster): Promise<void> {
  const of = { namespace: "default", shard: 0 };
  await askAdmin(cluster, "FreezeShard", { ...of, forMs: 60_000 });
  await askAdmin(cluster, "ThawShard", of);
  await askAdmin(cluster, "SwitchLeader", { ...of, to: "s2" });
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
      ...Array.from({ length: 150 }, (_, nth) =>
        client.put(`/jobs/${String(nth).padStart(4, "0")}/state`, "done", {
          secondaryIndexes: [{ name: "by-state", key: nth % 2 === 0 ? "done" : "open" }],
        }),
      ),
      ...HOSTILE_KEYS.map((key) => client.put(key, "<b>not bold</b>")),
    ]);
  } finally {
    await client.close();
  }
}
