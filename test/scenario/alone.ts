/** A data server alone on a simulated machine, leading one shard with replication factor 1. */
import { initialRanges } from "../../src/protocol/assignment.ts";
import { DataServer } from "../../src/replication/data-server.ts";
import { leadAlone, NO_FOLLOWERS } from "../../src/replication/lead-alone.ts";
import type { SimDisk } from "../sim/disk.ts";
import { diskDocuments } from "../sim/disk-documents.ts";
import { DiskKeyValues } from "../sim/disk-key-values.ts";
import { openMemoryLog } from "../sim/memory-log.ts";
import type { Life } from "../sim/node.ts";
import { randomPort, type SimRandom } from "../sim/random.ts";
import { traceLogger } from "../sim/trace-logger.ts";
import { PLACE } from "./stage.ts";

/** Starts it; resolves with the term that it leads, once it serves. */
export async function aloneOn(life: Life, simDisk: SimDisk, random: SimRandom): Promise<number> {
  const disk = simDisk.mount(life);
  const log = await openMemoryLog({ life, disk, random: random.split("log"), retentionMs: 3_600_000 });
  const ports = {
    log,
    keyValues: new DiskKeyValues({ life, disk }),
    followers: NO_FOLLOWERS,
    documents: diskDocuments(disk),
    clock: life.clock,
    random: randomPort(random.split("port")),
    logger: traceLogger(life.node),
  };
  const server = await DataServer.open(ports, { self: "alone:6649" });
  await leadAlone(server, {
    instanceId: "alone",
    namespace: PLACE.namespace,
    options: { notificationsEnabled: true, keySorting: "hierarchical", readConsistency: "linearizable" },
    ranges: initialRanges(1),
  });
  return server.replicas.replica(PLACE.shard)!.serving!.term;
}
