/**
 * One client machine: a process that opens the client, works off its operations, several at a time, and is started
 * again whenever it has ended. What it did not hear the end of stays unknown.
 */
import { VariaClient } from "../../../src/client/client.ts";
import { VariaError } from "../../../src/client/errors.ts";
import { resolveOptions } from "../../../src/client/options.ts";
import type { Comparison } from "../history.ts";
import type { Network } from "../network.ts";
import type { Life, SimNode } from "../node.ts";
import type { SimRandom } from "../random.ts";
import type { Scheduler } from "../scheduler.ts";
import { CutScans } from "./cut-scans.ts";
import type { Feeds } from "./feeds.ts";
import { keyHash } from "./key-hash.ts";
import { COLORS, EPHEMERAL_KEYS, KEYS, Operations, partitionKeyOf } from "./operations.ts";
import type { Record } from "./record.ts";
import { Sends } from "./sends.ts";
import type { SessionWatch } from "./session-watch.ts";
import { allOf, SimTransport } from "./transport.ts";
import { drawKind, type Kind, type WorkloadOptions } from "./workload-options.ts";

export interface ClientProcessContext {
  readonly scheduler: Scheduler;
  readonly network: Network;
  /** `host:port` of servers; any of them is asked first. */
  readonly addresses: readonly string[];
  readonly namespace: string;
  readonly random: SimRandom;
  readonly options: WorkloadOptions;
  readonly record: Record;
  readonly sessions: SessionWatch;
  readonly feeds: Feeds;
}

export const SEQUENCES: readonly string[] = ["zs", "zt"];
const RECONNECT_MS = 200;

/** One client, from its opening to its end. */
interface Connection {
  readonly life: Life;
  readonly client: VariaClient;
  readonly operations: Operations;
  /** Keys that are being written: one client's writes of one key come one after the other. */
  readonly busy: Set<string>;
  /** No new operations: it is to be closed. */
  closing: boolean;
  /** Operations without an answer. */
  underWay: number;
}

export class ClientProcess {
  readonly node: SimNode;
  readonly #context: ClientProcessContext;
  readonly #random: SimRandom;
  #left: number;
  #stopped = false;
  #connection: Connection | undefined;

  constructor(node: SimNode, context: ClientProcessContext) {
    this.node = node;
    this.#context = context;
    this.#random = context.random.split(node.name);
    this.#left = context.options.operations;
    node.watchers.push({ ended: () => this.#ended() });
  }

  start(): void {
    const life = this.node.start();
    life.spawn("works", () => this.#live(life));
  }

  /** It has no operations left, and none under way. */
  get done(): boolean {
    return (this.#left === 0 || this.#stopped) && (this.#connection?.underWay ?? 0) === 0;
  }

  /** Begins no more operations, and does not start again. */
  stop(): void {
    this.#stopped = true;
  }

  /** Ends for good: closes the client, or is killed. Resolves when that is done. */
  async end(how: "closed" | "killed"): Promise<void> {
    this.stop();
    if (how === "closed") await this.#connection?.client.close();
    this.node.end("power");
  }

  // --- its life -------------------------------------------------------------------------------------------------

  #ended(): void {
    this.#connection = undefined;
    this.#context.feeds.clientEnded(this.node.name);
    if (this.#stopped) return;
    const { scheduler, options } = this.#context;
    scheduler.after(this.#random.between(0, 2 * options.sessionTimeoutMs), "starts again", () => {
      if (!this.#stopped && this.node.life === undefined) this.start();
    });
  }

  async #live(life: Life): Promise<void> {
    while (!this.#stopped) {
      const connection = await this.#connect(life);
      if (connection === undefined) {
        await sleep(life, RECONNECT_MS);
        continue;
      }
      this.#connection = connection;
      this.#follow(connection);
      await Promise.all(Array.from({ length: this.#context.options.concurrency }, () => this.#lane(connection)));
      if (!connection.closing) return;
      this.#connection = undefined;
      await connection.client.close();
    }
  }

  async #connect(life: Life): Promise<Connection | undefined> {
    const { scheduler, network, addresses, namespace, options, record, sessions, feeds } = this.#context;
    const sends = new Sends();
    const cutScans = new CutScans();
    const nowMs = () => scheduler.nowMs;
    const transport = new SimTransport(
      network.channel(life),
      nowMs,
      allOf([sends, cutScans, sessions, feeds.tap(this.node.name)]),
    );
    const ports = { clock: life.clock, transport, hash: keyHash, random: this.#random.unit };
    const { requestTimeoutMs, sessionTimeoutMs, batchLingerMs } = options;
    const serviceAddress = this.#random.pick(addresses);
    const resolved = resolveOptions({
      serviceAddress,
      namespace,
      requestTimeoutMs,
      sessionTimeoutMs,
      batchLingerMs,
    });
    try {
      const client = await VariaClient.open(ports, resolved);
      const context = { name: `${this.node.name}#${life.number}`, client, record, sends, cutScans, sessions, nowMs };
      return { life, client, operations: new Operations(context), busy: new Set(), closing: false, underWay: 0 };
    } catch (error) {
      if (!(error instanceof VariaError)) throw error;
      return undefined;
    }
  }

  // --- its operations -------------------------------------------------------------------------------------------

  async #lane(connection: Connection): Promise<void> {
    while (this.#left > 0 && !this.#stopped && !connection.closing) {
      await sleep(connection.life, this.#random.between(0, this.#context.options.pauseMs));
      if (this.#left === 0 || this.#stopped || connection.closing) return;
      this.#left--;
      connection.underWay++;
      await this.#operate(connection, drawKind(this.#random, this.#context.options));
      connection.underWay--;
    }
  }

  #operate(connection: Connection, kind: Kind): Promise<void> {
    const { operations } = connection;
    const random = this.#random;
    const key = random.pick(KEYS.slice(0, this.#context.options.keys));
    switch (kind) {
      case "put":
      case "delete":
        return this.#write(connection, kind, key);
      case "ephemeral":
        return this.#write(connection, kind, random.pick(EPHEMERAL_KEYS));
      case "delete-range":
        return this.#deleteRange(connection);
      case "get":
        return operations.get(random.pick([key, key, random.pick(EPHEMERAL_KEYS)]));
      case "compare":
        return operations.compare(key, random.pick<Comparison>(["floor", "lower", "ceiling", "higher"]));
      case "scan":
      case "list":
        return operations[kind](this.#range());
      case "index-scan":
        return operations.indexScan(random.pick([COLORS, COLORS.slice(0, 1), COLORS.slice(1)].map(colorRange)));
      case "sequence":
        return operations.sequence(...this.#sequence());
      case "reopen":
        connection.closing = true;
        return Promise.resolve();
      case "crash":
        this.node.end(random.pick(["killed", "power"] as const));
        return new Promise(() => {});
    }
  }

  async #write({ operations, busy }: Connection, kind: "put" | "delete" | "ephemeral", key: string): Promise<void> {
    const random = this.#random;
    if (busy.has(key)) return operations.get(key);
    busy.add(key);
    const known = random.chance(0.2) ? -1 : (operations.versions.get(key) ?? -1);
    const expected = random.chance(this.#context.options.expectedChance) ? known : undefined;
    if (kind === "delete") await operations.delete(key, expected === -1 ? undefined : expected);
    else if (kind === "ephemeral") {
      // as locks and leases do it
      if (random.chance(0.15)) await operations.delete(key, undefined);
      else await operations.put(key, { ephemeral: true, ...(random.chance(0.7) ? { expected: -1 } : {}) });
    } else {
      const index = random.chance(0.4) ? { index: random.pick(COLORS) } : {};
      await operations.put(key, { ...index, ...(expected === undefined ? {} : { expected }) });
    }
    busy.delete(key);
  }

  /** Alone among this client's writes: those in one request with it would not be told of. */
  async #deleteRange({ operations, busy }: Connection): Promise<void> {
    if (busy.size > 0) return operations.list(this.#range());
    const all = [...KEYS, ...EPHEMERAL_KEYS];
    for (const key of all) busy.add(key);
    await operations.deleteRange(this.#range());
    for (const key of all) busy.delete(key);
  }

  #range(): { fromInclusive: string; toExclusive: string } {
    return this.#random.pick([
      { fromInclusive: "a", toExclusive: "f" },
      { fromInclusive: "a0", toExclusive: "b" },
      { fromInclusive: "a1", toExclusive: "d1" },
      { fromInclusive: "e", toExclusive: "f" },
    ]);
  }

  #sequence(): [prefix: string, deltas: number[]] {
    const prefix = this.#random.pick(SEQUENCES);
    const first = this.#random.int(1, 4);
    return [prefix, prefix === "zt" ? [first, this.#random.int(0, 3)] : [first]];
  }

  // --- what it follows ------------------------------------------------------------------------------------------

  #follow(connection: Connection): void {
    const { options, feeds } = this.#context;
    const { life, client } = connection;
    const { name } = this.node;
    if (options.follow.notifications) {
      life.spawn("follows changes", async () => {
        const followed = { client: name, items: [], ended: false };
        await untilEnded(followed, async () => {
          const changes = await client.notifications();
          feeds.changes.push(followed);
          return changes;
        });
      });
    }
    if (!options.follow.sequences) return;
    for (const prefix of SEQUENCES) {
      const followed = { client: name, prefix, items: [], ended: false };
      feeds.sequences.push(followed);
      life.spawn(`follows ${prefix}`, () =>
        untilEnded<string>(followed, async () =>
          client.sequenceUpdates(prefix, { partitionKey: partitionKeyOf(prefix) }),
        ),
      );
    }
  }
}

/** Takes what a feed gives until its client is closed. */
async function untilEnded<T>(
  followed: { readonly items: T[]; ended: boolean },
  open: () => Promise<AsyncIterable<T>>,
): Promise<void> {
  try {
    for await (const item of await open()) followed.items.push(item);
  } catch (error) {
    if (!(error instanceof VariaError)) throw error;
  }
  followed.ended = true;
}

function colorRange(colors: readonly string[]): { fromInclusive: string; toExclusive: string } {
  return { fromInclusive: colors[0]!, toExclusive: `${colors.at(-1)!}~` };
}

function sleep(life: Life, ms: number): Promise<void> {
  return new Promise((resolve) => life.clock.after(ms, resolve));
}
