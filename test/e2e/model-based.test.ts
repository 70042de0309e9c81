/**
 * Random operations of every kind, one after the other, on the compiled server and on a small model of the
 * specification (spec-model.ts): every answer must be the same, through orderly ends, kills and flushes. A mismatch
 * says the seed, the operation and both answers; VARIA_E2E_SEED repeats a run operation by operation.
 */
import { afterAll, expect, test } from "bun:test";
import { type Random, randomFrom } from "./load.ts";
import {
  type Feed,
  type SeenBatch,
  type SeenError,
  type SeenFound,
  type SeenVersion,
  type SeenWrite,
  SpecClient,
} from "./spec-client.ts";
import {
  type Batch,
  type Bytes,
  isInternal,
  type PutAnswer,
  type Range,
  type Refused,
  type Sorting,
  SpecModel,
  type Version,
  type Write,
  type WriteAnswer,
} from "./spec-model.ts";
import { Operations } from "./spec-operations.ts";
import { repetitions, Server, type StartOptions, scratch, seed } from "./varia.ts";

const OPERATIONS = repetitions("OPERATIONS", 4000);
const SESSION_TIMEOUT_MS = 300_000;
const SESSIONS_MAX = 8;
const WHOLE: Range = { start: "", end: "", internal: true };

const directory = scratch("model");
afterAll(() => directory.remove());

const seedOfRun = seed();

for (const sorting of ["hierarchical", "natural"] as const) {
  test(
    `${OPERATIONS} operations in ${sorting} order are answered as the specification says`,
    async () => {
      const run = new Run(sorting, randomFrom(seedOfRun));
      await run.start();
      for (let n = 0; n < OPERATIONS; n++) await run.step(n);
      await run.restart("SIGTERM");
      await run.end();
      console.log(`${sorting}: ${run.summary()}`);
    },
    5 * 60_000,
  );
}

class Run {
  readonly #model: SpecModel;
  readonly #operations: Operations;
  readonly #random: Random;
  readonly #options: StartOptions;
  #server!: Server;
  #client!: SpecClient;
  #follower!: Feed<SeenBatch>;
  /** Batches of the model that the follower was told of. */
  #followed = 0;
  #what = "";
  readonly #counts = new Map<string, number>();

  constructor(sorting: Sorting, random: Random) {
    this.#model = new SpecModel(sorting);
    this.#random = random;
    this.#operations = new Operations(random, this.#model);
    this.#options = {
      directory: `${directory.path}/${sorting}`,
      flags: ["--key-sorting", sorting, "--memory", "32MiB"],
    };
  }

  /** Where the shard stands is told by the first message of a subscription that has no start. */
  async start(): Promise<void> {
    this.#server = await Server.start(this.#options);
    this.#client = new SpecClient(await this.#server.connect());
    const fresh = this.#client.notifications(undefined);
    const { offset, ...rest } = await fresh.next();
    await fresh.cancel();
    this.#same("the first message of a subscription", { timestamp: 0n, notifications: [] }, rest);
    expect(offset, "the last entry").toBeGreaterThanOrEqual(this.#model.offset);
    this.#model.led(offset);
    const last = this.#model.batches[this.#followed - 1]?.entry.offset;
    this.#follower = this.#client.notifications(last ?? -1);
  }

  async restart(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    this.#did(`restart after ${signal}`, "");
    await this.#follow();
    if (signal === "SIGKILL") await this.#server.kill();
    else expect(await this.#server.stop()).toEqual({ code: 0, signal: null });
    await this.start();
    await this.#everything();
  }

  async end(): Promise<void> {
    await this.#notificationsFrom(-1);
    await this.#server.kill();
  }

  async step(n: number): Promise<void> {
    this.#what = `operation ${n}`;
    if (n % 250 === 249) await this.#everything();
    const kind = this.#random.below(1000);
    if (kind < 4) return this.restart(this.#operations.oneIn(2) ? "SIGTERM" : "SIGKILL");
    if (kind < 20) return this.#createSession();
    if (kind < 40) return this.#closeSession();
    if (kind < 60) return this.#keepAlive();
    if (kind < 80) return this.#notificationsFrom(this.#model.offset - this.#random.below(60));
    if (kind < 110) return this.#sequenceUpdates();
    if (kind < 150) return this.#writeStream();
    if (kind < 600) return this.#write(this.#operations.write());
    if (kind < 800) return this.#read();
    if (kind < 900) return this.#list(this.#operations.range());
    return this.#scan(this.#operations.range());
  }

  summary(): string {
    return [...this.#counts].map(([kind, count]) => `${count} ${kind}`).join(", ");
  }

  // --- operations -----------------------------------------------------------------------------------------------

  async #write(write: Write): Promise<void> {
    this.#did("write", write);
    const seen = await this.#client.write(write);
    this.#sameWrite(this.#model.write(write), seen);
  }

  /** Several requests at once, up to the first that the model refuses: it ends the stream. */
  async #writeStream(): Promise<void> {
    const writes: Write[] = [];
    const expected: (WriteAnswer | Refused)[] = [];
    for (let n = 1 + this.#random.below(8); n > 0; n--) {
      const write = this.#operations.write();
      const answer = this.#model.write(write);
      writes.push(write);
      expected.push(answer);
      if ("refused" in answer) break;
    }
    this.#did("stream of writes", writes);
    const seen = await this.#client.writeStream(writes);
    this.#same("answers on the stream", expected.length, seen.length);
    for (const [at, answer] of seen.entries()) this.#sameWrite(expected[at]!, answer);
  }

  async #read(): Promise<void> {
    const gets = Array.from({ length: 1 + this.#random.below(4) }, () => this.#operations.get());
    this.#did("read", gets);
    const seen = await this.#client.read(gets);
    this.#same("results", gets.length, seen.length);
    for (const [at, get] of gets.entries()) this.#sameFound(this.#model.get(get), seen[at]!);
  }

  /** Index entries have internal keys in a form of the server's own; those that hold its bookkeeping are left out too. */
  async #list(range: Range): Promise<void> {
    this.#did("list", range);
    const seen = await this.#client.list(range);
    this.#same("keys", this.#model.list(range), range.internal ? seen.filter(isModelled) : seen);
  }

  async #scan(range: Range): Promise<void> {
    this.#did("scan", range);
    const seen = (await this.#client.scan(range)).filter(({ key }) => !range.internal || isModelled(key!));
    const expected = this.#model.scan(range);
    this.#same(
      "keys",
      expected.map(({ key }) => key),
      seen.map(({ key }) => key),
    );
    for (const [at, found] of seen.entries()) {
      if (range.internal && isInternal(found.key!)) continue;
      // the reference leaves the secondary key out of a scan
      const { secondary } = found;
      this.#sameFound(secondary === undefined ? { ...expected[at]!, secondary } : expected[at]!, found);
    }
  }

  async #createSession(): Promise<void> {
    if (this.#model.sessions.size >= SESSIONS_MAX) return this.#closeSession();
    this.#did("create session", "");
    const id = await this.#client.createSession(SESSION_TIMEOUT_MS, this.#operations.pick(["", "me"]));
    this.#same("session id", this.#model.createSession(), id);
    this.#operations.sessionsSeen.push(id);
  }

  async #keepAlive(): Promise<void> {
    const id = this.#operations.session();
    this.#did("keep alive", id);
    const expected = this.#model.sessions.has(id) ? "OK" : "NOT_FOUND SESSION_NOT_FOUND";
    this.#same("answer", expected, await this.#client.keepAlive(id));
  }

  async #closeSession(): Promise<void> {
    const id = this.#operations.session();
    this.#did("close session", id);
    const expected = this.#model.closeSession(id) ? "OK" : "NOT_FOUND SESSION_NOT_FOUND";
    this.#same("answer", expected, await this.#client.closeSession(id));
  }

  /** Every batch behind an offset, on a subscription of its own. */
  async #notificationsFrom(offset: number): Promise<void> {
    this.#did("notifications", offset);
    const expected = this.#model.batches.filter(({ entry }) => entry.offset > offset);
    if (expected.length === 0) return;
    const feed = this.#client.notifications(offset);
    for (const batch of expected) this.#sameBatch(batch, await feed.next());
    this.#same("further batches", [], feed.waiting);
    await feed.cancel();
  }

  /** The highest key, if there is one, comes first; then each that a put of the sequence makes the highest. */
  async #sequenceUpdates(): Promise<void> {
    const prefix = this.#operations.prefix();
    this.#did("sequence updates", prefix);
    const feed = this.#client.sequenceUpdates(prefix);
    let told: Bytes | undefined;
    for (let puts = 0; puts < 3; puts++) {
      const highest = this.#model.highestSequenceKey(prefix);
      if (highest !== undefined && highest !== told) this.#same("highest key", highest, await feed.next());
      told = highest;
      await this.#write({ puts: [this.#operations.sequencePut(prefix)], deletes: [], deleteRanges: [] });
    }
    await feed.cancel();
  }

  /** All that there is, and all that was told since the last time. */
  async #everything(): Promise<void> {
    await this.#scan({ ...WHOLE, internal: false });
    await this.#list(WHOLE);
    const internal = (await this.#client.list(WHOLE)).filter((key) => key.startsWith("__oxia/idx/"));
    this.#same("entries of indexes", this.#model.indexEntryCount, internal.length);
    for (const id of this.#model.sessions.keys()) this.#same(`session ${id}`, "OK", await this.#client.keepAlive(id));
    await this.#follow();
  }

  /** The subscription that goes on over restarts. */
  async #follow(): Promise<void> {
    const { batches } = this.#model;
    while (this.#followed < batches.length) this.#sameBatch(batches[this.#followed++]!, await this.#follower.next());
    this.#same("further batches", [], this.#follower.waiting);
  }

  // --- comparing ------------------------------------------------------------------------------------------------

  #did(kind: string, details: unknown): void {
    this.#what = `${this.#what.split(":")[0]}: ${kind} ${shown(details)}`;
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1);
  }

  #sameWrite(expected: WriteAnswer | Refused, seen: SeenWrite | SeenError): void {
    if ("refused" in expected) {
      const asExpected = "error" in seen && seen.error.includes(expected.refused);
      this.#same("answer", expected, asExpected ? expected : seen);
      this.#counts.set("refused", (this.#counts.get("refused") ?? 0) + 1);
      return;
    }
    const puts = expected.puts.map((put: PutAnswer, at) => ({
      ...put,
      version: timed(put.version, "error" in seen ? undefined : seen.puts[at]?.version),
    }));
    this.#same("answer", { ...expected, puts }, seen);
    for (const { status } of expected.puts)
      this.#counts.set(`put ${status}`, (this.#counts.get(`put ${status}`) ?? 0) + 1);
  }

  #sameFound(expected: Omit<SeenFound, "version"> & { readonly version: Version | undefined }, seen: SeenFound): void {
    this.#same("record", { ...expected, version: timed(expected.version, seen.version) }, seen);
  }

  #sameBatch({ entry, notifications }: Batch, seen: SeenBatch): void {
    entry.timestamp ??= seen.timestamp;
    this.#same("batch", { offset: entry.offset, timestamp: entry.timestamp, notifications }, seen);
  }

  #same(what: string, expected: unknown, seen: unknown): void {
    if (Bun.deepEquals(expected, seen)) return;
    throw new Error(
      `VARIA_E2E_SEED=${seedOfRun}, ${this.#model.sorting} order, ${this.#what}\n${what}\n` +
        `  expected ${shown(expected)}\n  answered ${shown(seen)}`,
    );
  }
}

/** The version that is expected, with the times that its entries have; one that has none yet takes what is seen. */
function timed(version: Version | undefined, seen: SeenVersion | undefined): SeenVersion | undefined {
  if (version === undefined) return undefined;
  const { created, modified } = version;
  created.timestamp ??= seen?.created;
  modified.timestamp ??= seen?.modified;
  return { ...version, created: created.timestamp, modified: modified.timestamp };
}

/** Keys of records, of sessions, and of what dies with them. */
function isModelled(key: Bytes): boolean {
  return !isInternal(key) || key.startsWith("__oxia/session/");
}

/** Short enough to read, and exact but for long strings. */
function shown(value: unknown): string {
  return JSON.stringify(value, (_, part) => {
    if (typeof part === "bigint") return Number(part) === Number.MAX_SAFE_INTEGER ? String(part) : `${part}n`;
    if (typeof part === "string" && part.length > 100) return `${part.slice(0, 60)}…(${part.length})`;
    return part;
  });
}
