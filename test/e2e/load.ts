/**
 * Load with a memory: clients that send random requests to a server that may die at any moment, and tell the checker
 * what was sent before it leaves and what was acknowledged when it comes.
 *
 * An owner's client has its own keys on one shard and is either unary (one request at a time) or a WriteStream with
 * many requests in flight. Clients of registers write keys that they share. All are deterministic from a seed, apart
 * from the server's timing.
 */

import { CallFailed, encodeWrite, read, scan, write, writeStream } from "../harness/client.ts";
import { Code, type Connection, type Outcome } from "../harness/grpc.ts";
import { type Owner, type Register, ShardHistory, Violation } from "./checker.ts";
import {
  type Batch,
  batch,
  compareKeys,
  isUnknown,
  type Key,
  type Operation,
  put,
  remove,
  removeRange,
  show,
} from "./model.ts";

/** Keys of one owner: half of them one level deeper, so that ranges and both depths of the order are at work. */
const KEYS_PER_OWNER = 48;
const STREAM_IN_FLIGHT_MAX = 32;
const REGISTERS_PER_SHARD = 2;

export interface Random {
  /** A whole number from 0 inclusive to `below` exclusive. */
  below(below: number): number;
  bytes(length: number): Uint8Array;
}

/** Mulberry32: small, and the same everywhere. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  return {
    below: (below) => Math.floor((next() / 0x1_0000_0000) * below),
    bytes: (length) => {
      const words = new Uint32Array((length + 3) >> 2);
      for (let i = 0; i < words.length; i++) words[i] = next();
      return new Uint8Array(words.buffer, 0, length);
    },
  };
}

export interface LoadOptions {
  readonly seed: number;
  readonly shards: readonly number[];
  /** Owners on each shard, in turn unary and streaming. */
  readonly ownersPerShard: number;
  /** Upper bound of a big value; one request in thirty has one. */
  readonly bigValueBytesMax: number;
}

/** The whole load: histories that outlive restarts, and clients that are started anew after each. */
export class Load {
  readonly histories: readonly ShardHistory[];
  readonly #options: LoadOptions;
  readonly #random: Random;
  /** Hashes of all values that were ever sent. */
  readonly #values = new Set<bigint>();
  #writes = 0;

  constructor(options: LoadOptions) {
    this.#options = options;
    this.#random = randomFrom(options.seed);
    this.histories = options.shards.map((shard) => {
      const history = new ShardHistory(shard);
      for (let n = 0; n < options.ownersPerShard; n++) history.owner(`s${shard}o${n}/`);
      for (let n = 0; n < REGISTERS_PER_SHARD; n++) history.register(`s${shard}r${n}`);
      return history;
    });
  }

  /** Requests acknowledged since the beginning. */
  get acknowledged(): number {
    return this.histories.flatMap(({ owners }) => owners).reduce((sum, owner) => sum + owner.acknowledged, 0);
  }

  /**
   * Runs until `stop` is aborted or the server is gone; resolves when every client has come to rest. Rejects with a
   * Violation as soon as an answer is wrong. Outcomes other than success are handed to `onFailure`.
   */
  async run(
    connections: readonly Connection[],
    stop: AbortSignal,
    onFailure: (outcome: Outcome) => void = () => {},
  ): Promise<void> {
    let turn = 0;
    const connection = () => connections[turn++ % connections.length]!;
    const clients = this.histories.flatMap((history) => [
      ...history.owners.map((owner, n) => {
        const run = { connection: connection(), stop, onFailure, next: () => this.#request(owner) };
        return n % 2 === 0 ? runUnary(owner, run) : runStream(owner, run);
      }),
      ...history.registers.flatMap((register) =>
        [0, 1].map(() => this.#writeRegister(register, connection(), stop, onFailure)),
      ),
    ]);
    const failed = (await Promise.allSettled(clients)).find((result) => result.status === "rejected");
    if (failed) throw failed.reason;
  }

  #request(owner: Owner): Batch {
    const tag = `${owner.prefix}${this.#writes++}`;
    const request = randomBatch(owner, this.#random, { tag, bigValueBytesMax: this.#options.bigValueBytesMax });
    for (const { key, value } of request.puts) this.#values.add(hashOf(key, value));
    return request;
  }

  /** Throws a Violation when the shard holds a record that was never sent, whatever became of it. `but`: keys of others. */
  async checkOnlyWritten(connection: Connection, shard: number, but: ReadonlySet<Key>): Promise<void> {
    for (const [key, { value }] of await scan(connection, shard)) {
      if (!but.has(key) && !this.#values.has(hashOf(key, value))) {
        throw new Violation(`shard ${shard}: ${show(key)} holds what nobody wrote`);
      }
    }
  }

  async #writeRegister(
    register: Register,
    connection: Connection,
    stop: AbortSignal,
    onFailure: (outcome: Outcome) => void,
  ): Promise<void> {
    const shard = register.history.shard;
    while (!stop.aborted) {
      const newest = register.newest;
      const conditional = newest >= 0 && this.#random.below(2) === 0;
      const attempt = register.send(Buffer.from(`${register.key}#${this.#writes++}`), conditional ? newest : undefined);
      this.#values.add(hashOf(register.key, attempt.value));
      const outcome = await write(connection, shard, batch(put(register.key, attempt.value, attempt.expected)));
      const answer = outcome.answer?.puts[0];
      if (answer) {
        register.acknowledge(attempt, answer.status, answer.version);
        await readRegister(register, connection);
        continue;
      }
      if (isPromiseOfNothing(outcome)) register.refused(attempt);
      onFailure(outcome);
      if (!isPromiseOfNothing(outcome)) return;
      await pause();
    }
  }
}

function hashOf(key: Key, value: Uint8Array): bigint {
  return Bun.hash.xxHash3(value, BigInt(Bun.hash.crc32(key)));
}

interface Run {
  readonly connection: Connection;
  readonly stop: AbortSignal;
  readonly onFailure: (outcome: Outcome) => void;
  readonly next: () => Batch;
}

/** Reads back what the request was about: nobody else writes there, so it must show exactly what was acknowledged. */
async function readOwn(owner: Owner, connection: Connection, { puts, deletes }: Batch): Promise<void> {
  const key = [...puts, ...deletes].at(-1)?.key;
  if (key !== undefined)
    await unlessLost(read(connection, owner.history.shard, [key]), ([found]) => owner.read(key, found));
}

/** Reads what others write too: it may show a later write, never an earlier one than was told before. */
async function readRegister(register: Register, connection: Connection): Promise<void> {
  const newest = register.newest;
  const reading = read(connection, register.history.shard, [register.key]);
  await unlessLost(reading, ([found]) => register.read(found, newest));
}

/** A read that fails says nothing; the next write will tell what is wrong with the server. */
async function unlessLost<T>(reading: Promise<T>, judge: (result: T) => void): Promise<void> {
  let result: T;
  try {
    result = await reading;
  } catch (error) {
    if (error instanceof CallFailed) return;
    throw error;
  }
  judge(result);
}

/** Whether an error says that nothing happened: a full disk or queue. Any other error leaves the request in doubt. */
export function isPromiseOfNothing(outcome: Outcome): boolean {
  return !outcome.lost && outcome.code === Code.RESOURCE_EXHAUSTED;
}

async function runUnary(owner: Owner, { connection, stop, onFailure, next }: Run): Promise<void> {
  const shard = owner.history.shard;
  while (!stop.aborted) {
    const request = next();
    owner.send(request);
    const outcome = await write(connection, shard, request);
    if (outcome.answer) {
      owner.acknowledge(outcome.answer);
      await readOwn(owner, connection, request);
      continue;
    }
    onFailure(outcome);
    if (!isPromiseOfNothing(outcome)) return;
    owner.refused();
    await pause();
  }
}

/** Keeps many requests in flight; at the end it half-closes and takes the answers that are still due. */
async function runStream(owner: Owner, { connection, stop, onFailure, next }: Run): Promise<void> {
  let failure: unknown;
  let halfClosed = false;
  const stream = writeStream(connection, owner.history.shard, (answer) => {
    if (failure !== undefined) return;
    try {
      owner.acknowledge(answer);
      fill();
    } catch (error) {
      failure = error;
      stream.cancel();
    }
  });
  const halfClose = () => {
    if (!halfClosed) stream.halfClose();
    halfClosed = true;
  };
  const fill = () => {
    while (!stop.aborted && !halfClosed && owner.pending < STREAM_IN_FLIGHT_MAX) {
      const request = next();
      owner.send(request);
      stream.send(encodeWrite(request));
    }
  };
  stop.addEventListener("abort", halfClose, { once: true });
  if (stop.aborted) halfClose();
  fill();
  const outcome = await stream.ended;
  stop.removeEventListener("abort", halfClose);
  if (failure !== undefined) throw failure;
  if (outcome.code !== 0) return onFailure(outcome);
  if (owner.pending > 0) throw new Violation(`stream ended OK with ${owner.pending} requests unanswered`);
}

/** A turn for the others before a refused request is tried again. */
function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 5));
}

interface BatchOptions {
  /** Unique: goes into every value of the request. */
  readonly tag: string;
  readonly bigValueBytesMax: number;
}

function randomBatch(owner: Owner, random: Random, options: BatchOptions): Batch {
  const key = () => ownKey(owner, random.below(KEYS_PER_OWNER));
  let nth = 0;
  const value = (lengthMax = 300) => taggedValue(`${options.tag}:${nth++}`, random, lengthMax);
  const known = (of: Key): number | undefined => {
    const version = owner.state.get(of)?.version;
    return version === undefined || isUnknown(version) ? undefined : version.versionId;
  };
  const single: (() => Operation)[] = [
    () => put(key(), value()),
    () => put(key(), value(), -1),
    () => {
      const target = key();
      return put(target, value(), known(target));
    },
    () => put(key(), value(), 1e15),
    () => remove(key()),
    () => {
      const target = key();
      return remove(target, known(target));
    },
  ];
  const dice = random.below(30);
  if (dice === 0) return batch(put(key(), value(options.bigValueBytesMax)));
  if (dice === 1) {
    // Both ends at one depth: a range over two depths would take in other owners' keys.
    const depth = random.below(2);
    const end = () => ownKey(owner, depth + 2 * random.below(KEYS_PER_OWNER / 2));
    const [from, to] = [end(), end()].sort(compareKeys) as [Key, Key];
    return batch(removeRange(from, to));
  }
  if (dice < 10) return batch(...Array.from({ length: 2 + random.below(20) }, () => put(key(), value())));
  if (dice < 16) return batch(...Array.from({ length: 2 + random.below(8) }, () => single[random.below(6)]!()));
  return batch(dice < 24 ? put(key(), value()) : single[random.below(6)]!());
}

/** The n-th key of an owner; every fourth holds bytes that are not UTF-8. */
export function ownKey(owner: Owner, n: number): Key {
  const name = `${n % 4 === 3 ? "\xfe\x00k" : "k"}${String(n).padStart(3, "0")}`;
  return n % 2 === 0 ? `${owner.prefix}${name}` : `${owner.prefix}d/${name}`;
}

/** Whether a key is one of some Load's. */
export function isLoadKey(key: Key): boolean {
  return /^s\d+[or]\d+(\/|$)/.test(key);
}

/** A value that begins with its tag, so that no two puts write the same. */
function taggedValue(tag: string, random: Random, lengthMax: number): Uint8Array {
  const head = Buffer.from(`${tag};`);
  return Buffer.concat([head, random.bytes(random.below(lengthMax))]);
}

/**
 * Reads every shard in two ways, by scan and by gets, and has the checker judge it. Nobody may be writing, and what
 * was in doubt must be decided: after a restart, or behind an acknowledged write on the same connection. `concerns`:
 * which keys are looked at, when somebody else writes to the shards too.
 */
export async function checkAll(
  connection: Connection,
  histories: readonly ShardHistory[],
  concerns: (key: Key) => boolean = () => true,
): Promise<void> {
  for (const history of histories) await checkShard(connection, history, concerns);
}

/** As checkAll, for one shard. Throws CallFailed when the shard does not serve. */
export async function checkShard(
  connection: Connection,
  history: ShardHistory,
  concerns: (key: Key) => boolean = () => true,
): Promise<void> {
  const records = await scan(connection, history.shard);
  const keys = [...records.keys()];
  const sorted = [...keys].sort(compareKeys);
  if (keys.some((key, n) => key !== sorted[n])) throw new Violation(`shard ${history.shard}: scan out of order`);
  history.check(new Map([...records].filter(([key]) => concerns(key))));
  for (const owner of history.owners) await checkGets(connection, owner);
  for (const register of history.registers) {
    const [found] = await read(connection, history.shard, [register.key]);
    const scanned = records.get(register.key);
    if (found?.version.versionId !== scanned?.version.versionId) {
      throw new Violation(`shard ${history.shard}: get and scan of ${register.key} differ`);
    }
  }
}

/** Reads all keys that the owner ever had, also those that should be gone. */
export async function checkGets(connection: Connection, owner: Owner): Promise<void> {
  const keys = Array.from({ length: KEYS_PER_OWNER }, (_, n) => ownKey(owner, n));
  const found = await read(connection, owner.history.shard, keys);
  keys.forEach((key, n) => {
    owner.read(key, found[n]);
  });
}
