/**
 * Bits that flip at rest, in every file that holds data: log segments and their -wal, promises, watermark, the shards'
 * databases; after a clean stop and after a kill. Each flip is made in a copy of its own. Then either nothing is
 * wrong, or the shards concerned say DATA_LOSS, with file and place, and the others serve: never a wrong value, never
 * a missing record, never an end without a word. `--accept-loss` brings a refused shard back.
 *
 * The kill comes when nothing is in flight and the watermark has caught up: the very last transaction before a crash
 * is the one gap that safety.md §7 leaves.
 */
import { afterAll, expect, test } from "bun:test";
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { CallFailed, read, write } from "../harness/client.ts";
import { Code, type Connection, codeName, type Outcome } from "../harness/grpc.ts";
import type { ShardHistory } from "./checker.ts";
import { inParallel } from "./fault.ts";
import { checkShard, Load, type Random, randomFrom } from "./load.ts";
import { batch, put } from "./model.ts";
import { repetitions, Server, type StartOptions, scratch, seed } from "./varia.ts";

const FLIPS = repetitions("FLIPS", 320);
const LANES = repetitions("LANES", 3);
const SHARDS = 3;
/** Refused shards that are brought back, one in so many. */
const ACCEPT_EVERY = 12;
/** Files without data: what SQLite rebuilds, what only reserves space. */
const NO_DATA = /ballast|-shm$|varia\.(json|lock)/;

const directory = scratch("bit-flip");
afterAll(() => directory.remove());

interface Template {
  readonly name: string;
  readonly path: string;
  readonly load: Load;
  /** Files with data, relative to `path`. */
  readonly files: readonly string[];
}

const options = (path: string, ...flags: string[]): StartOptions => ({
  directory: path,
  shards: SHARDS,
  flags: ["--memory", "32MiB", ...flags],
});

/** A data directory with several log segments and flushed databases, ended in one of two ways. */
async function makeTemplate(
  name: string,
  random: Random,
  end: (server: Server) => Promise<unknown>,
): Promise<Template> {
  const path = join(directory.path, name);
  mkdirSync(path);
  const shards = Array.from({ length: SHARDS }, (_, shard) => shard);
  const load = new Load({ seed: random.below(2 ** 31), shards, ownersPerShard: 3, bigValueBytesMax: 30_000 });
  // Segments are rolled at a quarter of the retention; a stop in between flushes the databases.
  const retention = ["--wal-retention-time", "4s"];
  const first = await Server.start(options(path, ...retention));
  await loadFor(first, load, 1_500);
  expect((await first.stop()).code).toBe(0);
  const second = await Server.start(options(path, ...retention));
  await loadFor(second, load, 1_500);
  expect(load.histories.some(({ inDoubt }) => inDoubt)).toBe(false);
  await end(second);
  const files = (readdirSync(path, { recursive: true }) as string[])
    .filter((file) => !NO_DATA.test(file) && statSync(join(path, file)).isFile() && statSync(join(path, file)).size > 0)
    .sort();
  return { name, path, load, files };
}

async function loadFor(server: Server, load: Load, ms: number): Promise<void> {
  const stop = new AbortController();
  setTimeout(() => stop.abort(), ms);
  const failures: Outcome[] = [];
  await load.run([await server.connect(), await server.connect()], stop.signal, (outcome) => failures.push(outcome));
  expect(failures.map(({ code, message }) => `${codeName(code)} ${message}`)).toEqual([]);
}

/** Resolves when no file in `path` has changed for a while: the watermark follows the log within 50 ms. */
async function quiet(path: string): Promise<void> {
  const look = () =>
    (readdirSync(path, { recursive: true }) as string[]).map((file) => statSync(join(path, file)).mtimeMs).join();
  for (let before = look(), same = 0; same < 5; ) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    const now = look();
    same = now === before ? same + 1 : 0;
    before = now;
  }
}

interface Flip {
  readonly template: Template;
  readonly file: string;
  readonly at: number;
  readonly bit: number;
}

/** Every file gets its share, whatever its size. */
function chooseFlips(template: Template, count: number, random: Random): Flip[] {
  return Array.from({ length: count }, (_, n) => {
    const file = template.files[n % template.files.length]!;
    return { template, file, at: random.below(statSync(join(template.path, file)).size), bit: random.below(8) };
  });
}

interface Verdict {
  readonly refused: readonly ShardHistory[];
  readonly served: readonly ShardHistory[];
}

let nthCopy = 0;

async function tryFlip(flip: Flip, acceptLoss: boolean): Promise<Verdict> {
  const path = join(directory.path, `copy-${nthCopy++}`);
  cpSync(flip.template.path, path, { recursive: true });
  const bytes = readFileSync(join(path, flip.file));
  bytes[flip.at]! ^= 1 << flip.bit;
  writeFileSync(join(path, flip.file), bytes);
  const server = Server.launch(options(path));
  try {
    await server.serves();
    const verdict = await judge(await server.connect(), flip);
    await server.kill();
    if (acceptLoss && verdict.refused.length > 0) await bringBack(path, flip, verdict);
    return verdict;
  } catch (error) {
    if (server.running) await server.kill();
    const where = `bit ${flip.bit} of byte ${flip.at} of ${flip.file}, ${flip.template.name}`;
    throw new Error(`${where}: ${(error as Error).message}\n${server.log()}`);
  } finally {
    Bun.spawnSync(["rm", "-rf", path]);
  }
}

/** Each shard either shows exactly what it should, or refuses reads and writes alike. */
async function judge(connection: Connection, flip: Flip): Promise<Verdict> {
  const refused: ShardHistory[] = [];
  const served: ShardHistory[] = [];
  for (const original of flip.template.load.histories) {
    const history = original.copy();
    try {
      await checkShard(connection, history);
      await writesAndReads(connection, history.shard);
      served.push(original);
    } catch (error) {
      if (!(error instanceof CallFailed)) throw error;
      namesTheDamage(error.outcome, flip);
      namesTheDamage(await write(connection, history.shard, batch(put("refused", "1"))), flip);
      refused.push(original);
    }
  }
  return { refused, served };
}

function namesTheDamage({ code, message }: Outcome, { file }: Flip): void {
  const named = message.includes(basename(file).replace(/-wal$/, ""));
  if (code !== Code.DATA_LOSS || !named || !/\b(offset|row|byte|page|frame|record) \d+/.test(message)) {
    throw new Error(`refused with ${codeName(code)} "${message}", not DATA_LOSS with file and place`);
  }
}

async function writesAndReads(connection: Connection, shard: number): Promise<void> {
  const { answer, message } = await write(connection, shard, batch(put("after", "1")));
  if (answer?.puts[0]?.status !== "OK") throw new Error(`shard ${shard} does not take writes: ${message}`);
  const [found] = await read(connection, shard, ["after"]);
  if (found?.version.versionId !== answer.puts[0].version?.versionId)
    throw new Error(`shard ${shard}: wrong read back`);
}

/** The way on: the shards concerned serve again, with nothing in them that was never written; the others as before. */
async function bringBack(path: string, flip: Flip, { refused, served }: Verdict): Promise<void> {
  const flags = refused.flatMap(({ shard }) => ["--accept-loss", `default/${shard}`]);
  for (const start of [options(path, ...flags), options(path)]) {
    const server = await Server.start(start);
    const connection = await server.connect();
    for (const { shard } of [...refused, ...served]) await writesAndReads(connection, shard);
    for (const { shard } of refused) await flip.template.load.checkOnlyWritten(connection, shard, new Set(["after"]));
    await server.kill();
  }
}

/** Which part of the storage a file is, for the count at the end. */
function partOf(file: string): string {
  const name = basename(file);
  if (/^log-/.test(name)) return name.endsWith("-wal") ? "log -wal" : "log segment";
  if (/promise/.test(name)) return "promises";
  if (/watermark/.test(name)) return "watermark";
  return "shard database";
}

test(
  `${FLIPS} flipped bits are found before anything wrong is served, or are without effect`,
  async () => {
    const random = randomFrom(seed());
    const templates = [
      await makeTemplate("after a clean stop", random, (server) => server.stop()),
      await makeTemplate("after a kill", random, async (server) => {
        await quiet(join(directory.path, "after a kill"));
        await server.kill();
      }),
    ];
    const flips = templates.flatMap((template) => chooseFlips(template, Math.ceil(FLIPS / 2), random));
    const counts = new Map<string, { refused: number; without: number }>();
    await inParallel([...flips.entries()], LANES, async ([n, flip]) => {
      const { refused } = await tryFlip(flip, n % ACCEPT_EVERY === 0);
      const part = partOf(flip.file);
      const count = counts.get(part) ?? { refused: 0, without: 0 };
      counts.set(part, count);
      if (refused.length > 0) count.refused++;
      else count.without++;
      if (part === "shard database" && refused.length > 1)
        throw new Error(`one database, ${refused.length} shards refused`);
    });
    for (const { name, files } of templates)
      console.log(`${name}: ${files.map((file) => relative(".", file)).join(" ")}`);
    for (const [part, { refused, without }] of counts)
      console.log(`${part}: ${refused} refused, ${without} without effect`);
    for (const part of ["log segment", "promises", "watermark", "shard database"]) {
      expect(counts.get(part)?.refused ?? 0, `flips in a ${part} that were noticed`).toBeGreaterThan(0);
    }
  },
  10 * 60_000,
);
