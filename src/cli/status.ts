/** `varia status`: whether the cluster is well, what is not, and who holds what. Exit code 0: it is well. */
import type { MessageShape } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { toleranceWords } from "../../web/parts/format.ts";
import { SHARD_STATES, shardState, verdictOf, worstLag } from "../../web/view.ts";
import {
  type Event,
  type GetClusterStatusResponseSchema,
  type Operation,
  type ServerLoad,
  type ShardLoad,
  VariaAdmin,
} from "../gen/varia/admin/v1/admin_pb.ts";
import { SELF } from "../rpc/standalone-api.ts";
import { type AdminFlags, addAdminFlags, callAdmin } from "./admin-connection.ts";
import { eventRow } from "./admin-event.ts";
import { operationRow } from "./admin-operation.ts";
import { examples } from "./examples.ts";
import { EXIT } from "./exit.ts";
import { onePage, printObject, printObjects, standardOutput, type Write } from "./output.ts";

type ClusterStatus = MessageShape<typeof GetClusterStatusResponseSchema>;

interface StatusFlags extends AdminFlags {
  readonly json?: boolean;
}

export function addStatusCommand(program: Command): void {
  addAdminFlags(program.command("status"))
    .description("Show whether the cluster is well: servers, shards, replicas; exit code 1 when it is not.")
    .option("--json", "the same as -o json")
    .addHelpText("after", examples("varia status", "varia status --admin-address h1:6651 --json | jq .problems"))
    .action(async (flags: StatusFlags) => {
      const status = await callAdmin(flags, VariaAdmin.method.getClusterStatus, {});
      const form = flags.json === true ? "json" : flags.output;
      if (form === "table") await printStatus(status, standardOutput(), await lately(flags));
      else await printObject(form, statusObject(status), standardOutput());
      if (!status.healthy) process.exitCode = EXIT.failure;
    });
}

/** For programs: the names of the protocol; ids of 63 bits as text, since many JSON readers would round them. */
export function statusObject({ instanceId, healthy, problems, faultTolerance, servers, shards }: ClusterStatus) {
  return {
    instance_id: instanceId,
    healthy,
    problems,
    fault_tolerance: faultTolerance,
    servers: servers.map((server) => ({
      name: server.name,
      public_address: server.publicAddress,
      internal_address: server.internalAddress,
      available: server.available,
      reason: server.reason,
      replicas: server.replicas,
      leaders: server.leaders,
      draining: server.draining,
      version: server.version,
      features: server.features,
      labels: server.labels,
      http_address: server.httpAddress,
      load: server.load === undefined ? null : serverLoad(server.load),
    })),
    shards: shards.map((shard) => ({
      namespace: shard.namespace,
      shard: shard.shard,
      term: shard.term,
      leader: shard.leader,
      min_hash_inclusive: shard.minHashInclusive,
      max_hash_inclusive: shard.maxHashInclusive,
      fault_tolerance: shard.faultTolerance,
      change: shard.change,
      problems: shard.problems,
      load: shard.load === undefined ? null : shardLoad(shard.load),
      replicas: shard.replicas.map((replica) => ({
        server: replica.server,
        replica_id: String(replica.replicaId),
        part: replica.part,
        status: replica.status,
        reason: replica.reason,
        promise: replica.promise,
        head_offset: replica.headOffset,
        ack_offset: replica.ackOffset,
        commit_offset: replica.commitOffset,
        applied_offset: replica.appliedOffset,
        lag_entries: replica.lagEntries,
        lag_seconds: replica.lagSeconds ?? null,
        scanned: replica.scanned,
      })),
    })),
  };
}

function serverLoad(load: ServerLoad) {
  return {
    observed_at_ms: load.observedAtMs,
    started_at_ms: load.startedAtMs,
    cpu_cores: load.cpuCores,
    resident_bytes: load.residentBytes,
    loop_delay_p99_ms: load.loopDelayP99Ms,
    disk_free_bytes: load.diskFreeBytes,
    disk_total_bytes: load.diskTotalBytes,
    log_bytes: load.logBytes,
    state_bytes: load.stateBytes,
    writes_per_s: load.writesPerS,
    reads_per_s: load.readsPerS,
  };
}

function shardLoad({ writesPerS, readsPerS, records, stateBytes }: ShardLoad) {
  return { writes_per_s: writesPerS, reads_per_s: readsPerS, records, state_bytes: stateBytes };
}

/** What is wrong has room on a screen beside what follows; the other forms have all. */
const PROBLEMS_SHOWN_MAX = 20;

const EVENTS_SHOWN = 5;
const OPERATIONS_SHOWN = 10;

interface Lately {
  /** Those that run. */
  readonly operations: readonly Operation[];
  /** The newest first. */
  readonly events: readonly Event[];
}

/** Nothing where nobody tells of it: a standalone server has neither. */
async function lately(flags: AdminFlags): Promise<Lately> {
  const { listOperations, listEvents } = VariaAdmin.method;
  const none = { operations: [], events: [] };
  const [{ operations }, { events }] = await Promise.all([
    callAdmin(flags, listOperations, { state: "running", limit: OPERATIONS_SHOWN }).catch(() => none),
    callAdmin(flags, listEvents, { limit: EVENTS_SHOWN }).catch(() => none),
  ]);
  return { operations, events };
}

/** For people: what the overview of the pages shows. */
export async function printStatus(
  status: ClusterStatus,
  write: Write,
  { operations, events }: Lately = { operations: [], events: [] },
): Promise<void> {
  const { problems, faultTolerance, instanceId, shards } = status;
  const isAlone = status.servers.length === 1 && status.servers[0]!.internalAddress === SELF;
  const may = isAlone ? "one server, without replicas" : toleranceWords(faultTolerance);
  await write(`${verdictOf(status).word.toLowerCase()}: ${may}\n`);
  for (const problem of problems.slice(0, PROBLEMS_SHOWN_MAX)) await write(`  - ${problem}\n`);
  if (problems.length > PROBLEMS_SHOWN_MAX) await write(`  - and ${problems.length - PROBLEMS_SHOWN_MAX} more\n`);
  await write(`cluster ${instanceId}; ${shardWords(shards)}\n\n`);
  await printObjects("table", onePage(status.servers.map(serverRow)), write);
  if (status.shards.length > 0) await write("\n");
  await printObjects("table", onePage(status.shards.flatMap(replicaRows)), write);
  const changes = status.shards.filter(({ change }) => change !== "");
  if (changes.length > 0) await write("\n");
  for (const { namespace, shard, change } of changes) await write(`shard ${namespace}/${shard}: ${change}\n`);
  if (operations.length > 0) await write("\n");
  await printObjects("table", onePage(operations.map(operationRow)), write);
  if (events.length > 0) await write("\n");
  await printObjects("table", onePage(events.map(eventRow)), write);
}

function shardWords(shards: ClusterStatus["shards"]): string {
  const states = SHARD_STATES.flatMap((state) => {
    const found = shards.filter((shard) => shardState(shard) === state).length;
    return found === 0 ? [] : [`${found} ${state}`];
  });
  const lag = worstLag(shards);
  const behind = lag === undefined || lag === 0n ? "" : `, a replica up to ${lag} entries behind`;
  return `shards: ${states.join(", ") || "none"}${behind}`;
}

function serverRow(server: ClusterStatus["servers"][number]) {
  const { name, publicAddress, internalAddress, available, replicas, leaders, draining, reason, load } = server;
  const state = `${available ? "available" : "unavailable"}${draining ? ", leaving" : ""}`;
  const told = (value: number | undefined, digits: number) => (value === undefined ? "" : value.toFixed(digits));
  return {
    ...{ server: name, public: publicAddress, internal: internalAddress, state, replicas, leaders },
    ...{ cores: told(load?.cpuCores, 2), "writes/s": told(load?.writesPerS, 0), "reads/s": told(load?.readsPerS, 0) },
    why: reason,
  };
}

function replicaRows({ namespace, shard, term, leader, replicas }: ClusterStatus["shards"][number]) {
  return replicas.map((replica, index) => {
    const { server, replicaId, part, status, headOffset, ackOffset, commitOffset } = replica;
    const { lagEntries, lagSeconds, reason, scanned } = replica;
    const is = status === "" ? "silent" : status === "leader" && server !== leader ? "leader of an old term" : status;
    return {
      shard: index === 0 ? `${namespace}/${shard}` : "",
      term: index === 0 ? term : "",
      replica: server,
      id: replicaId === 0n ? "none yet" : replicaId,
      is: part === "member" ? is : `${is} (${part})`,
      head: headOffset < 0n ? "" : headOffset,
      acked: ackOffset < 0n ? "" : ackOffset,
      committed: commitOffset < 0n ? "" : commitOffset,
      lag: lagEntries < 0n ? "" : lagEntries,
      seconds: lagEntries > 0n && lagSeconds !== undefined ? lagSeconds.toFixed(1) : "",
      note: [reason, status !== "" && status !== "not-member" && !scanned ? "not scanned yet" : ""]
        .filter((text) => text !== "")
        .join("; "),
    };
  });
}
