/**
 * Power cuts under load: the process is killed, and what it had not synced is taken away. What was acknowledged must be
 * there all the same. A kill alone cannot show that: the kernel keeps what was written, synced or not.
 */

import { Database } from "bun:sqlite";
import { afterAll, expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildShim, faultEnvironment } from "./fault.ts";
import { checkAll, Load, randomFrom } from "./load.ts";
import { cutPower } from "./power-cut.ts";
import { repetitions, Server, type StartOptions, scratch, seed } from "./varia.ts";

const CUTS = repetitions("CUTS", 15);
const SHARDS = [0, 1, 2];

const directory = scratch("power-cut");
const library = buildShim(directory.path);
afterAll(() => directory.remove());

test(
  `nothing acknowledged is lost in ${CUTS} power cuts`,
  async () => {
    const random = randomFrom(seed());
    const load = new Load({
      seed: random.below(2 ** 31),
      shards: SHARDS,
      ownersPerShard: 4,
      bigValueBytesMax: 200_000,
    });
    const disk = join(directory.path, "disk");
    const undo = join(directory.path, "undo");
    const options: StartOptions = {
      directory: disk,
      shards: SHARDS.length,
      flags: ["--memory", "32MiB", "--wal-retention-time", "1s"],
      cwd: directory.path,
      environment: { ...faultEnvironment(library, disk, "", { at: 0 }), FAULT_UNDO: undo },
    };
    let undone = 0;
    for (let cycle = 0; cycle < CUTS; cycle++) {
      rmSync(undo, { force: true });
      const server = await Server.start(options);
      const connections = [await server.connect(), await server.connect()];
      await checkAll(connections[0]!, load.histories);
      const stop = new AbortController();
      const running = load.run(connections, stop.signal);
      await Promise.race([new Promise((resolve) => setTimeout(resolve, 100 + random.below(600))), running]);
      if (cycle % 4 === 3) server.signal("SIGTERM");
      if (cycle % 4 === 3) await new Promise((resolve) => setTimeout(resolve, random.below(80)));
      await server.kill();
      stop.abort();
      await running;
      undone += cutPower(undo, random, cycle % 2 === 0);
    }
    const server = await Server.start({ ...options, environment: {} });
    await checkAll(await server.connect(), load.histories);
    expect(await server.stop()).toEqual({ code: 0, signal: null });
    console.log(`${load.acknowledged} requests acknowledged, ${undone} writes undone, none lost`);
    expect(undone).toBeGreaterThan(CUTS);
  },
  10 * 60_000,
);

test("the play is a play: a database that does not sync loses what it has committed, one that does keeps it", () => {
  const script = join(directory.path, "unsynced.ts");
  const run = (synchronous: string) => {
    const disk = join(directory.path, `sqlite-${synchronous}`);
    const undo = `${disk}-undo`;
    writeFileSync(
      script,
      `import { Database } from "bun:sqlite";
       const db = new Database(${JSON.stringify(`${disk}.sqlite`)});
       db.run("PRAGMA journal_mode = WAL");
       db.run("PRAGMA synchronous = FULL");
       db.run("CREATE TABLE t (n)");
       db.run("PRAGMA synchronous = ${synchronous}");
       for (let n = 0; n < 10; n++) db.run("INSERT INTO t VALUES (?)", [n]);
       process.kill(process.pid, "SIGKILL");`,
    );
    Bun.spawnSync([process.execPath, script], {
      env: { ...process.env, ...faultEnvironment(library, disk, "", { at: 0 }), FAULT_UNDO: undo },
    });
    cutPower(undo, randomFrom(1), true);
    rmSync(`${disk}.sqlite-shm`, { force: true });
    const database = new Database(`${disk}.sqlite`);
    const { rows } = database.query("SELECT count(*) AS rows FROM t").get() as { rows: number };
    database.close();
    return rows;
  };
  expect(run("FULL")).toBe(10);
  expect(run("OFF")).toBe(0);
});
