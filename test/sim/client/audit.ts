/** What is there at the end, read by a client that has nothing to do with the others, once nothing changes any more. */
import { Assignments } from "../../../src/client/assignments.ts";
import { VariaClient } from "../../../src/client/client.ts";
import { type ResolvedOptions, resolveOptions } from "../../../src/client/options.ts";
import { notificationsFrame } from "../../../src/client/requests.ts";
import type { Call, ClientPorts } from "../../../src/client/transport.ts";
import { text } from "../../../src/lib/bytes.ts";
import type { Network } from "../network.ts";
import type { Life } from "../node.ts";
import type { SimRandom } from "../random.ts";
import type { ToldShard } from "./check-notifications.ts";
import { CutScans } from "./cut-scans.ts";
import { type ToldBatch, type ToldStream, toldBatch } from "./feeds.ts";
import { keyHash } from "./key-hash.ts";
import { EPHEMERAL_KEYS, KEYS, Operations, RANGE_END } from "./operations.ts";
import type { Record } from "./record.ts";
import { Sends } from "./sends.ts";
import type { SessionWatch } from "./session-watch.ts";
import { SimTransport } from "./transport.ts";

export interface AuditOptions {
  readonly life: Life;
  readonly network: Network;
  readonly address: string;
  readonly namespace: string;
  readonly requestTimeoutMs: number;
  readonly random: SimRandom;
  readonly record: Record;
  readonly sessions: SessionWatch;
}

export interface FoundAtEnd {
  readonly shard: number;
  readonly key: string;
  readonly value: string;
  readonly version: number;
  readonly session: number | undefined;
}

export interface Audit {
  /** When the records were asked for. */
  readonly readMs: number;
  /** All records but those of the servers. */
  readonly found: readonly FoundAtEnd[];
  readonly shards: readonly ToldShard[];
  /** Of each shard, what it tells behind some offset that it has told of. */
  readonly resumed: readonly ToldStream[];
  /** Of each shard, what it still tells after that. */
  readonly left: readonly ToldAtEnd[];
  readonly shardOf: (key: string) => number;
}

/** Put in the end, one of them on each shard that has other keys. */
const LAST_KEYS: readonly string[] = ["a9", "b9", "c9", "d9", "e9", "z9"];
/** How long nothing more must come until all notifications are taken to be read. */
const SILENCE_MS = 500;
const RETRY_MS = 100;

/** Reads everything. What it reads of the records is in the histories too. */
export async function audit(options: AuditOptions): Promise<Audit> {
  const { life, network, address, namespace, requestTimeoutMs, record, sessions } = options;
  const nowMs = () => life.node.scheduler.nowMs;
  const portsOf = (): ClientPorts => ({
    clock: life.clock,
    transport: new SimTransport(network.channel(life), nowMs),
    hash: keyHash,
    random: options.random.unit,
  });
  const resolved = resolveOptions({ serviceAddress: address, namespace, requestTimeoutMs });
  const client = await VariaClient.open(portsOf(), resolved);
  const watched = { sends: new Sends(), cutScans: new CutScans(), sessions };
  const operations = new Operations({ name: "audit", client, record, ...watched, nowMs });
  const shardOf = (key: string) => operations.shardOf(key);
  // a stream says what is gone with the first message that is not
  const last = new Map(LAST_KEYS.map((key) => [shardOf(key), key]));
  for (const key of last.values()) await operations.put(key, {});
  await operations.scan({ fromInclusive: "a", toExclusive: RANGE_END });
  for (const key of [...KEYS, ...EPHEMERAL_KEYS]) await operations.get(key);
  let readMs = nowMs();
  let found = await everything(client, shardOf);
  let told = await notificationsOfAll(options, portsOf(), resolved);
  for (;;) {
    // a session may have ended in between, and its records with it: what was told is then of another moment
    const [atMs, again] = [nowMs(), await everything(client, shardOf)];
    if (sameRecords(found, again)) break;
    readMs = atMs;
    found = again;
    told = await notificationsOfAll(options, portsOf(), resolved);
  }
  const { whole, resumed, left } = told;
  const shards = whole.map((one) => ({
    ...one,
    // where nothing is left nothing says so
    trimmed: one.batches.length === 0 ? Number.MAX_SAFE_INTEGER : one.trimmed,
    records: new Map(found.filter(({ shard }) => shard === one.shard).map(({ key, version }) => [key, version])),
  }));
  await client.close();
  return { readMs, found, shards, resumed, left, shardOf };
}

async function everything(client: VariaClient, shardOf: (key: string) => number): Promise<FoundAtEnd[]> {
  const found: FoundAtEnd[] = [];
  for await (const { key, value, version } of client.rangeScan()) {
    const session = version.sessionId === undefined ? undefined : Number(version.sessionId);
    found.push({ shard: shardOf(key), key, value: text(value), version: Number(version.versionId), session });
  }
  return found;
}

function sameRecords(a: readonly FoundAtEnd[], b: readonly FoundAtEnd[]): boolean {
  return a.length === b.length && a.every(({ key, version }, n) => b[n]!.key === key && b[n]!.version === version);
}

async function notificationsOfAll({ life, random }: AuditOptions, ports: ClientPorts, options: ResolvedOptions) {
  const assignments = new Assignments(ports, { ...options, headers: {} });
  const { shards } = await assignments.start(options.requestTimeoutMs);
  const read = (shard: number, after: number) => {
    const address = () => assignments.table.byId(shard)?.leader ?? "";
    return notificationsAtEnd({ life, ports, shard, after, address });
  };
  const whole = await Promise.all(shards.map(({ id }) => read(id, -1)));
  const again = whole.map(async ({ shard, batches }): Promise<ToldStream> => {
    const after = random.int(-1, (batches.at(-1)?.offset ?? -1) + 1);
    const told = await read(shard, after);
    const firstOffset = told.trimmed < 0 ? undefined : told.trimmed + 1;
    return { client: "audit", shard, after, batches: [...told.batches], firstOffset, ended: false };
  });
  const resumed = await Promise.all(again);
  const left = await Promise.all(shards.map(({ id }) => read(id, -1)));
  assignments.close();
  return { whole, resumed, left };
}

type ToldAtEnd = Omit<ToldShard, "records">;

interface NotificationsRead {
  readonly life: Life;
  readonly ports: ClientPorts;
  readonly shard: number;
  readonly after: number;
  /** The shard's leader, as known when it is asked. */
  readonly address: () => string;
}

/** All notifications of a shard behind an offset that are still there. */
function notificationsAtEnd({ life, ports, shard, after, address }: NotificationsRead): Promise<ToldAtEnd> {
  const batches: ToldBatch[] = [];
  let trimmed = -1;
  return new Promise((resolve) => {
    let call: Call | undefined;
    let stopSilence = () => {};
    const heard = () => {
      stopSilence();
      stopSilence = life.clock.after(SILENCE_MS, () => {
        call?.cancel();
        resolve({ shard, batches, trimmed });
      });
    };
    const open = () => {
      heard();
      const message = notificationsFrame(shard, batches.at(-1)?.offset ?? after);
      call = ports.transport.open(
        { address: address(), path: "/io.oxia.proto.v1.OxiaClient/GetNotifications", message },
        {
          headers: (headers) => {
            const first = headers["varia-first-offset"];
            if (first !== undefined) trimmed = Math.max(trimmed, Number(first) - 1);
          },
          message: (bytes) => {
            batches.push(toldBatch(bytes));
            heard();
          },
          drained: () => {},
          ended: () => {
            stopSilence();
            life.clock.after(RETRY_MS, open);
          },
        },
      );
    };
    open();
  });
}
