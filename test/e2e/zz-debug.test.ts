/**
 * A disk that fills up, on a small tmpfs: writes are refused before anything is broken, reads go on, and writes go on
 * without a restart once there is space. Also when the process is killed, or told to stop, while the disk is full.
 *
 * Mounting needs root, as CI has it.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { closeSync, openSync, rmSync, statfsSync, writeSync } from "node:fs";
import { join } from "node:path";
import { read, write } from "../harness/client.ts";
import { Code, type Connection, codeName, type Outcome } from "../harness/grpc.ts";
import { checkAll, checkGets, Load } from "./load.ts";
import { batch, put } from "./model.ts";
import { Server, type StartOptions, scratch, seed } from "./varia.ts";

const DISK_BYTES = 160 * 1024 * 1024;
const SHARDS = [0, 1];
const REFUSALS_WANTED = 30;
/** Space is back: how long until writes must be. */
const RESUME_MS_MAX = 5_000;

const mountPoint = scratch("disk");
const canMount = process.getuid?.() === 0;
if (!canMount && process.env.CI) throw new Error("the full-disk test needs root");
if (!canMount) console.log("skipped: the full-disk test mounts a tmpfs, which needs root");

beforeAll(() => {
  if (canMount) run("mount", "-t", "tmpfs", "-o", `size=${DISK_BYTES}`, "tmpfs", mountPoint.path);
});
afterAll(() => {
  if (canMount) run("umount", "-l", mountPoint.path);
  mountPoint.remove();
});

function run(...command: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(command);
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr.toString()}`);
}

const options: StartOptions = { directory: mountPoint.path, shards: SHARDS.length, flags: ["--memory", "32MiB"] };
const filler = join(mountPoint.path, "filler");

/** Takes all space that is left. */
function fill(): void {
  const file = openSync(filler, "a");
  let chunk = Buffer.alloc(1024 * 1024, 1);
  while (chunk.length > 0) {
    try {
      if (writeSync(file, chunk) < chunk.length) chunk = chunk.subarray(0, chunk.length >> 1);
    } catch {
      chunk = chunk.subarray(0, chunk.length >> 1);
    }
  }
  closeSync(file);
}

const free = () => rmSync(filler);
const freeBytes = () => {
  const { bavail, bsize } = statfsSync(mountPoint.path);
  return bavail * bsize;
};

/** Runs load until writes are refused, again and again, for lack of space; nothing else may go wrong. */
async function loadUntilRefused(server: Server, load: Load): Promise<Connection> {
  const connection = await server.connect();
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), 60_000);
  const others: Outcome[] = [];
  let refusals = 0;
  await load.run([connection, await server.connect()], stop.signal, (outcome) => {
    console.log(outcome.code,outcome.message,outcome.lost);if (outcome.code === Code.RESOURCE_EXHAUSTED) refusals++;
    else others.push(outcome);
    if (refusals >= REFUSALS_WANTED || others.length > 0) stop.abort();
  });
  clearTimeout(timer);
  expect(others.map(({ code, message }) => `${codeName(code)} ${message}`)).toEqual([]);
  expect(refusals, `refusals, ${freeBytes()} bytes free`).toBeGreaterThanOrEqual(REFUSALS_WANTED);
  return connection;
}

/** What is certain can be read, record by record and by scan, while nothing can be written. */
async function readsGoOn(connection: Connection, load: Load): Promise<void> {
  for (const { owners } of load.histories) {
    for (const owner of owners) if (owner.pending === 0) await checkGets(connection, owner);
  }
}

/** Waits until a write to each shard is taken again. What the streams left in doubt is decided then. */
async function writesResume(connection: Connection, load: Load): Promise<void> {
  const deadline = Date.now() + RESUME_MS_MAX;
  for (const history of load.histories) {
    const register = history.registers[0]!;
    for (;;) {
      const attempt = register.send(Buffer.from(`again ${Date.now()} ${Math.random()}`));
      const outcome = await write(connection, history.shard, batch(put(register.key, attempt.value)));
      const answer = outcome.answer?.puts[0];
      if (answer) {
        register.acknowledge(attempt, answer.status, answer.version);
        break;
      }
      expect(codeName(outcome.code)).toBe("RESOURCE_EXHAUSTED");
      register.refused(attempt);
      if (Date.now() > deadline) throw new Error(`still ${outcome.message} with ${freeBytes()} bytes free`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

test.skipIf(!canMount)(
  "a full disk refuses writes, keeps reads, loses nothing, and writes go on when there is space",
  async () => {
    const load = new Load({ seed: seed(), shards: SHARDS, ownersPerShard: 4, bigValueBytesMax: 200_000 });
    let server = await Server.start(options);
    await writesResume(await server.connect(), load);

    // Full, then space again, without a restart; twice, since what was reserved must be reserved anew.
    for (let round = 0; round < 2; round++) {
      console.log("fill");fill();console.log("filled");
      const connection = (console.log("load"),await loadUntilRefused(server, load));
      await readsGoOn(connection, load);
      free();
      await writesResume(connection, load);
      await checkAll(connection, load.histories);
      expect(server.running).toBe(true);
    }

    // Killed while full: it starts on the full disk, shows everything, refuses writes, and goes on with space.
    console.log("fill");fill();console.log("filled");
    (console.log("load"),await loadUntilRefused(server, load));
    await server.kill();
    server = await Server.start(options);
    let connection = await server.connect();
    await checkAll(connection, load.histories);
    (console.log("load"),await loadUntilRefused(server, load));
    await readsGoOn(connection, load);
    free();
    await writesResume(connection, load);
    await checkAll(connection, load.histories);

    // Told to stop while full: a clean end, and nothing is lost either.
    console.log("fill");fill();console.log("filled");
    (console.log("load"),await loadUntilRefused(server, load));
    expect(await server.stop()).toEqual({ code: 0, signal: null });
    free();
    server = await Server.start(options);
    connection = await server.connect();
    await checkAll(connection, load.histories);
    expect((await read(connection, 0, ["never written"]))[0]).toBeUndefined();
    expect(await server.stop()).toEqual({ code: 0, signal: null });
  },
  5 * 60_000,
);
