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
import { type ToldBatch, toldBatch } from "./feeds.ts";
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
  readonly shardOf: (key: string) => number;
}

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
  await operations.scan({ fromInclusive: "a", toExclusive: RANGE_END });
  for (const key of [...KEYS, ...EPHEMERAL_KEYS]) await operations.get(key);
  const readMs = nowMs();
  const found: FoundAtEnd[] = [];
  for await (const { key, value, version } of client.rangeScan()) {
    const session = version.sessionId === undefined ? undefined : Number(version.sessionId);
    found.push({ shard: shardOf(key), key, value: text(value), version: Number(version.versionId), session });
  }
  const told = await notificationsOfAll(life, portsOf(), resolved);
  const shards = told.map((one) => ({
    ...one,
    records: new Map(found.filter(({ shard }) => shard === one.shard).map(({ key, version }) => [key, version])),
  }));
  await client.close();
  return { readMs, found, shards, shardOf };
}

async function notificationsOfAll(life: Life, ports: ClientPorts, options: ResolvedOptions): Promise<ToldAtEnd[]> {
  const assignments = new Assignments(ports, { ...options, headers: {} });
  const { shards } = await assignments.start(options.requestTimeoutMs);
  const each = shards.map(({ id }) => {
    const address = () => assignments.table.byId(id)?.leader ?? "";
    return notificationsAtEnd({ life, ports, shard: id, address });
  });
  const told = await Promise.all(each);
  assignments.close();
  return told;
}

type ToldAtEnd = Omit<ToldShard, "records">;

interface NotificationsRead {
  readonly life: Life;
  readonly ports: ClientPorts;
  readonly shard: number;
  /** The shard's leader, as known when it is asked. */
  readonly address: () => string;
}

/** All notifications of a shard that are still there. */
function notificationsAtEnd({ life, ports, shard, address }: NotificationsRead): Promise<ToldAtEnd> {
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
      const message = notificationsFrame(shard, batches.at(-1)?.offset ?? -1);
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
