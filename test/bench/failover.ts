/**
 * How long writes pause when servers go, and how a large cluster starts: real processes of the built executable, each in
 * a network of its own, while a client writes to every shard. Needs root (network namespaces).
 *
 *     bun run bench:failover                       all rows
 *     bun run bench:failover --rows kill --kills 50
 *     bun run bench:failover --rows "stop,cut,all,majority,many,cold"
 *     bun run bench:failover --directory DIR       data and logs are kept there
 *
 * A pause is, for one shard, the time between two answers that follow each other; of the shards concerned the longest.
 * One after a start is counted from the start of the processes to the first answer of the last shard.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { connect, type VariaClient } from "../../src/client/index.ts";
import { Cluster, type Member } from "../e2e/cluster.ts";
import { cpuSeconds } from "./load.ts";

const ROWS = ["kill", "stop", "cut", "all", "majority", "many", "cold"] as const;
type Row = (typeof ROWS)[number];

const { values } = parseArgs({
  options: {
    rows: { type: "string", default: ROWS.join(",") },
    kills: { type: "string", default: "50" },
    directory: { type: "string" },
  },
});

const SHARDS = 4;
const MANY_SHARDS = 300;
const COLD_SHARDS = 1_000;
const WRITE_EVERY_MS = 5;
const IDLE_S = 20;
const WAIT_MS_MAX = 120_000;

/** One client that writes to every shard, and knows when each was last answered. */
class Load {
  readonly #client: VariaClient;
  readonly #keys: readonly string[];
  readonly #answeredMs: number[];
  readonly #pauseMs: number[];
  #stopped = false;

  static async begin(cluster: Cluster, shards: number, everyMs: number): Promise<Load> {
    const client = await connect({ serviceAddress: cluster.addresses[0]!, requestTimeoutMs: WAIT_MS_MAX });
    return new Load(client, shards, everyMs);
  }

  private constructor(client: VariaClient, shards: number, everyMs: number) {
    this.#client = client;
    this.#keys = keysOf(shards);
    this.#answeredMs = Array.from({ length: shards }, () => performance.now());
    this.#pauseMs = this.#answeredMs.map(() => 0);
    for (let shard = 0; shard < shards; shard++) void this.#write(shard, everyMs);
  }

  /** The longest pause of these shards since, or one that lasts. */
  async pausesFrom(sinceMs: number, shards: readonly number[]): Promise<number> {
    await until("every shard is written to", () => shards.every((shard) => this.#answeredMs[shard]! > sinceMs));
    const longest = Math.max(...shards.map((shard) => this.#pauseMs[shard]!));
    this.forget();
    return longest;
  }

  /** When the last shard was answered first since then. */
  async allAnswered(sinceMs: number): Promise<number> {
    const first = new Map<number, number>();
    await until("every shard is written to", () => {
      for (const [shard, ms] of this.#answeredMs.entries()) if (ms > sinceMs && !first.has(shard)) first.set(shard, ms);
      return first.size === this.#answeredMs.length;
    });
    return Math.max(...first.values());
  }

  forget(): void {
    this.#pauseMs.fill(0);
  }

  async end(): Promise<void> {
    this.#stopped = true;
    await this.#client.close();
  }

  async #write(shard: number, everyMs: number): Promise<void> {
    while (!this.#stopped) {
      const answered = await this.#client.put(this.#keys[shard]!, "value").then(
        () => true,
        () => false,
      );
      if (answered) {
        const nowMs = performance.now();
        this.#pauseMs[shard] = Math.max(this.#pauseMs[shard]!, nowMs - this.#answeredMs[shard]!);
        this.#answeredMs[shard] = nowMs;
      }
      await Bun.sleep(everyMs);
    }
  }
}

/** A key of each shard: hashes are divided evenly (protocol.md §3). */
function keysOf(shards: number): string[] {
  const keys = new Map<number, string>();
  for (let n = 0; keys.size < shards; n++) {
    const key = `key-${n}`;
    const hash = Number(Bun.hash.xxHash3(key) & 0xffff_ffffn);
    const shard = Math.floor(hash / (2 ** 32 / shards));
    if (!keys.has(shard)) keys.set(shard, key);
  }
  return Array.from({ length: shards }, (_, shard) => keys.get(shard)!);
}

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WAIT_MS_MAX;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`not within ${WAIT_MS_MAX} ms: ${what}`);
    await Bun.sleep(2);
  }
}

const whole = (cluster: Cluster) =>
  until("the cluster is whole", async () => {
    await Bun.sleep(50);
    return (await cluster.problems()).length === 0;
  });

async function ledBy(cluster: Cluster, member: Member): Promise<number[]> {
  return [...(await cluster.leaders())].flatMap(([shard, leader]) => (leader === member ? [Number(shard)] : []));
}

/** The server with most leaders, and its shards. */
async function victimOf(cluster: Cluster): Promise<{ victim: Member; shards: number[] }> {
  const victim = await cluster.leader();
  return { victim, shards: await ledBy(cluster, victim) };
}

function line(row: string, samples: readonly number[], wanted: string): void {
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (share: number) => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!);
  const figures =
    samples.length === 1
      ? `${at(0)} ms`
      : `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, longest ${at(1)} ms of ${samples.length}`;
  console.log(`${row.padEnd(48)} ${figures}   (wanted: ${wanted})`);
}

/** What is done to a leader, again and again. */
async function leaderGoes(
  cluster: Cluster,
  load: Load,
  { times, go, back }: { times: number; go(victim: Member): Promise<void>; back(victim: Member): Promise<void> },
): Promise<number[]> {
  const samples: number[] = [];
  for (let nth = 0; nth < times; nth++) {
    const { victim, shards } = await victimOf(cluster);
    load.forget();
    const sinceMs = performance.now();
    await go(victim);
    samples.push(await load.pausesFrom(sinceMs + 1, shards));
    await back(victim);
    await whole(cluster);
  }
  return samples;
}

/** Looks now and then: who leads a thousand shards is a long answer, and to ask takes from the machine what is measured. */
const allLed = (cluster: Cluster) =>
  until("every shard is led", async () => {
    await Bun.sleep(50);
    return (await cluster.leaders()).size === COLD_SHARDS;
  });

async function coldStart(directory: string): Promise<void> {
  const beganMs = performance.now();
  const cluster = await Cluster.start({ directory, shards: COLD_SHARDS });
  try {
    const startedMs = performance.now();
    await allLed(cluster);
    const ledMs = performance.now();
    line(`cold start, ${COLD_SHARDS} shards: all led`, [ledMs - beganMs], "5,000 ms at most");
    console.log(`  of it until the ports were open: ${Math.round(startedMs - beganMs)} ms`);
    await whole(cluster);
    await Bun.sleep(5_000);
    const before = cluster.members.map(({ pid }) => cpuSeconds(pid));
    await Bun.sleep(IDLE_S * 1_000);
    for (const [nth, member] of cluster.members.entries()) {
      const percent = ((cpuSeconds(member.pid) - before[nth]!) / IDLE_S) * 100;
      console.log(`  idle CPU of ${member.name}: ${percent.toFixed(1)} % of a core   (wanted: 3 % at most)`);
    }
    await cluster.killAll();
    const againMs = performance.now();
    await Promise.all(cluster.members.map((member) => member.start()));
    await allLed(cluster);
    line(`start again, ${COLD_SHARDS} shards: all led`, [performance.now() - againMs], "5,000 ms at most");
  } finally {
    await cluster.remove();
  }
}

async function many(directory: string): Promise<void> {
  const cluster = await Cluster.start({ directory, shards: MANY_SHARDS });
  try {
    await whole(cluster);
    const load = await Load.begin(cluster, MANY_SHARDS, 50);
    await load.allAnswered(performance.now());
    const { victim, shards } = await victimOf(cluster);
    load.forget();
    const sinceMs = performance.now();
    await victim.kill();
    line(`killed with ${shards.length} leaders`, [await load.pausesFrom(sinceMs + 1, shards)], "1,000 ms at most");
    await load.end();
  } finally {
    await cluster.remove();
  }
}

async function small(directory: string, rows: ReadonlySet<Row>): Promise<void> {
  const cluster = await Cluster.start({ directory, shards: SHARDS });
  try {
    await whole(cluster);
    const load = await Load.begin(cluster, SHARDS, WRITE_EVERY_MS);
    await load.allAnswered(performance.now());
    const restart = async (victim: Member) => victim.start();
    if (rows.has("kill")) {
      const times = Number(values.kills);
      const samples = await leaderGoes(cluster, load, { times, go: (victim) => victim.kill(), back: restart });
      line("leader killed under load", samples, "p50 100 ms, p99 500 ms at most");
    }
    if (rows.has("stop")) {
      const go = async (victim: Member) => victim.pause();
      const back = async (victim: Member) => victim.resume();
      line("leader stopped (SIGSTOP)", await leaderGoes(cluster, load, { times: 5, go, back }), "3,000 ms at most");
    }
    if (rows.has("cut")) {
      const go = async (victim: Member) => cluster.isolate(victim, "both");
      const back = async () => cluster.network.heal();
      line("leader cut off in silence", await leaderGoes(cluster, load, { times: 5, go, back }), "3,000 ms at most");
    }
    if (rows.has("all")) {
      const samples: number[] = [];
      for (let nth = 0; nth < 5; nth++) {
        await cluster.killAll();
        await Bun.sleep(1_000);
        const sinceMs = performance.now();
        for (const member of cluster.members) member.launch();
        samples.push((await load.allAnswered(sinceMs)) - sinceMs);
        await whole(cluster);
      }
      line("all killed, back after 1 s: writable", samples, "3,000 ms at most");
    }
    if (rows.has("majority")) {
      const samples: number[] = [];
      for (let nth = 0; nth < 5; nth++) {
        const gone = cluster.servers.slice(nth % 2, (nth % 2) + 2);
        await Promise.all(gone.map((member) => member.kill()));
        await Bun.sleep(6_000);
        const sinceMs = performance.now();
        for (const member of gone) member.launch();
        samples.push((await load.allAnswered(sinceMs)) - sinceMs);
        await whole(cluster);
      }
      line("two of three away for 6 s: writable", samples, "2,000 ms at most");
    }
    await load.end();
  } finally {
    await cluster.remove();
  }
}

const asked = values.rows.split(",").map((row) => row.trim());
const unknown = asked.find((row) => !ROWS.some((known) => known === row));
if (unknown !== undefined) throw new Error(`no such row: ${unknown}; there are ${ROWS.join(", ")}`);
const rows = new Set(asked as Row[]);
const directory = values.directory ?? mkdtempSync(join(tmpdir(), "varia-failover-"));
try {
  if (["kill", "stop", "cut", "all", "majority"].some((row) => rows.has(row as Row)))
    await small(join(directory, "small"), rows);
  if (rows.has("many")) await many(join(directory, "many"));
  if (rows.has("cold")) await coldStart(join(directory, "cold"));
} finally {
  if (values.directory === undefined) rmSync(directory, { recursive: true, force: true });
}
