/** A cluster of one: a data server that leads all shards alone, on a simulated machine that may crash. */
import { NOTIFICATION_RETENTION_MS_DEFAULT } from "../../../src/model/limits.ts";
import type { KeyValue, KeyValues } from "../../../src/ports.ts";
import { initialRanges } from "../../../src/protocol/assignment.ts";
import { DataServer } from "../../../src/replication/data-server.ts";
import { leadAlone, NO_FOLLOWERS } from "../../../src/replication/lead-alone.ts";
import { Assignments } from "../../../src/rpc/assignments-api.ts";
import { ClientApi } from "../../../src/rpc/client-api.ts";
import { clientMethods } from "../../../src/rpc/client-methods.ts";
import type { ServedMethod } from "../../../src/rpc/method.ts";
import type { SimDisk } from "../disk.ts";
import { diskDocuments } from "../disk-documents.ts";
import { DiskKeyValues } from "../disk-key-values.ts";
import { openMemoryLog } from "../memory-log.ts";
import type { Network } from "../network.ts";
import type { Life, SimNode } from "../node.ts";
import { randomPort, type SimRandom } from "../random.ts";
import { traceLogger } from "../trace-logger.ts";
import { serveMethods } from "./serve-methods.ts";

export interface OneNodeOptions {
  readonly network: Network;
  readonly node: SimNode;
  readonly disk: SimDisk;
  readonly random: SimRandom;
  readonly shards: number;
  readonly notificationsRetentionMs?: number;
  readonly planted?: Planted;
}

/** What a server does wrong. */
export interface Planted {
  methods?(methods: readonly ServedMethod[], life: Life): readonly ServedMethod[];
  keyValue?(keyValue: KeyValue): KeyValue;
}

export const NODE_ADDRESS = "node:6648";
const NAMESPACE = "default";

/** Starts the process: it serves once it has recovered. */
export function startOneNode(options: OneNodeOptions): void {
  const life = options.node.start();
  life.spawn("serves", () => serve(options, life));
}

async function serve(options: OneNodeOptions, life: Life): Promise<void> {
  const { network, shards, planted = {}, notificationsRetentionMs = NOTIFICATION_RETENTION_MS_DEFAULT } = options;
  const disk = options.disk.mount(life);
  const random = options.random.split(life.name);
  const log = await openMemoryLog({ life, disk, random: random.split("log"), retentionMs: 3_600_000 });
  const released = (shard: number, upTo: number) => log.release(shard, upTo);
  const server = await DataServer.open(
    {
      log,
      keyValues: plantedIn(new DiskKeyValues({ life, disk, released }), planted),
      followers: NO_FOLLOWERS,
      documents: diskDocuments(disk),
      clock: life.clock,
      random: randomPort(random.split("port")),
      logger: traceLogger(life.node),
    },
    { self: "node:6649", notificationsRetentionMs },
  );
  await leadAlone(server, {
    instanceId: "one",
    namespace: NAMESPACE,
    options: { notificationsEnabled: true, keySorting: "hierarchical", readConsistency: "linearizable" },
    ranges: initialRanges(shards),
  });
  const api = new ClientApi(server.replicas, new Assignments(server.replicas, { clock: life.clock, heldMsMax: 0 }));
  const methods = clientMethods(api);
  const served = planted.methods?.(methods, life) ?? methods;
  network.channel(life).listen(NODE_ADDRESS, serveMethods(life, NODE_ADDRESS, served));
}

function plantedIn(keyValues: KeyValues, { keyValue }: Planted): KeyValues {
  if (keyValue === undefined) return keyValues;
  return {
    open: async (place, base) => {
      const opened = await keyValues.open(place, base);
      return "keyValue" in opened ? { keyValue: keyValue(opened.keyValue) } : opened;
    },
    receive: (place) => keyValues.receive(place),
    remove: (place) => keyValues.remove(place),
  };
}
