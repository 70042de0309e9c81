/**
 * SIGKILL at random moments under load: in the middle of writes, of flushes and segment rolls (small budgets make
 * them frequent), while it starts and replays, while it shuts down. After each restart every record is read back and
 * judged against all that was ever acknowledged.
 */
import { afterAll, expect, test } from "bun:test";
import { shardIds } from "../harness/client.ts";
import type { Connection, Outcome } from "../harness/grpc.ts";
import { codeName } from "../harness/grpc.ts";
import { checkAll, Load, type Random, randomFrom } from "./load.ts";
import { repetitions, Server, type StartOptions, scratch, seed } from "./varia.ts";

const CYCLES = repetitions("KILLS", 55);
const SHARDS = 4;
/** So that flushes, cache evictions and segment rolls happen within each run. */
const SMALL_BUDGETS = ["--memory", "32MiB", "--wal-retention-time", "1s"];

const directory = scratch("crash");
afterAll(() => directory.remove());

const options: StartOptions = { directory: directory.path, shards: SHARDS, flags: SMALL_BUDGETS };

/** When the server dies. */
type Moment = "under load" | "while it starts" | "while it shuts down";

function momentOf(cycle: number): Moment {
  if (cycle % 5 === 3) return "while it starts";
  if (cycle % 5 === 4) return "while it shuts down";
  return "under load";
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

test(
  `nothing acknowledged is lost and nothing else is half there after ${CYCLES} kills`,
  async () => {
    const random = randomFrom(seed());
    const load = new Load({
      seed: random.below(2 ** 31),
      shards: Array.from({ length: SHARDS }, (_, shard) => shard),
      ownersPerShard: 4,
      bigValueBytesMax: 500_000,
    });
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      const server = await Server.start(options);
      const connection = await server.connect();
      expect(await shardIds(connection)).toEqual(load.histories.map(({ shard }) => shard));
      await checkAll(connection, load.histories);
      await killUnderLoad(server, load, momentOf(cycle), random);
      if (momentOf(cycle) === "while it starts") await killWhileStarting(random);
    }
    const server = await Server.start(options);
    await checkAll(await server.connect(), load.histories);
    expect(await server.stop()).toEqual({ code: 0, signal: null });
    const again = await Server.start(options);
    await checkAll(await again.connect(), load.histories);
    await again.kill();
    console.log(`${load.acknowledged} requests acknowledged, none lost`);
    expect(load.acknowledged).toBeGreaterThan(CYCLES * 50);
  },
  10 * 60_000,
);

/** Loads the server for a random while, then kills it; or tells it to stop first and kills it soon after. */
async function killUnderLoad(server: Server, load: Load, moment: Moment, random: Random): Promise<void> {
  const connections: Connection[] = [];
  for (let n = 0; n < 3; n++) connections.push(await server.connect());
  const stop = new AbortController();
  const failures: Outcome[] = [];
  let dying = false;
  const running = load.run(connections, stop.signal, (outcome) => {
    if (!dying) failures.push(outcome);
  });
  await Promise.race([sleep(20 + random.below(500)), running]);
  dying = true;
  if (moment === "while it shuts down") {
    server.signal("SIGTERM");
    await sleep(random.below(60));
  }
  await server.kill();
  stop.abort();
  await running;
  const told = failures.map(({ code, message }) => `${codeName(code)} ${message}`);
  expect(told, "errors while the server was up").toEqual([]);
}

/** Kills a start that replays what the last kill left behind, a few times in a row. */
async function killWhileStarting(random: Random): Promise<void> {
  for (let n = 0; n < 3; n++) {
    const server = Server.launch(options);
    await Promise.race([sleep(random.below(150)), server.ready]);
    await server.kill();
  }
}
