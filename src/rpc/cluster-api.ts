/**
 * `varia.admin.v1.VariaAdmin`: how the cluster stands, and recovery with loss. Servers are named by their name in the
 * configuration, or by their internal address.
 */
import { create, type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { serverName } from "../coordination/administer.ts";
import type { ClusterReport, ReplicaLine, ServerLine, ShardLine } from "../coordination/cluster-report.ts";
import type { Coordinator } from "../coordination/coordinator.ts";
import type { FoundReplica, LossPlan } from "../coordination/recover.ts";
import type { ShardRef } from "../coordination/status-store.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import type { Bytes } from "../lib/bytes.ts";
import type { Offset, ShardId } from "../model/ids.ts";
import { Refusal } from "../model/refusal.ts";
import { NO_REPLICA } from "../protocol/replica-state.ts";
import { type AdminPorts, requireCoordinator } from "./admin-api.ts";
import type { LoadWatch, ServerLoad } from "./load-watch.ts";
import type { ServedMethod } from "./method.ts";
import { toNumber } from "./peer-fields.ts";
import { type MethodOf, servedEncoded, servedUnary } from "./served.ts";

/** What only a coordinator answers. */
export function clusterMethods(ports: AdminPorts): ServedMethod[] {
  const { method } = VariaAdmin;
  const unary = <I extends DescMessage, O extends DescMessage>(
    descriptor: MethodOf<I, O>,
    answer: (request: MessageShape<I>, coordinator: Coordinator) => unknown,
  ) => servedUnary(descriptor, (request) => answer(request, requireCoordinator(ports)));
  const inspections = new Inspections();
  const named = (name: string, coordinator: Coordinator) => internalAddress(ports, name, coordinator);
  return [
    servedEncoded(method.getClusterStatus, async ({ maxAgeMs, refreshAgeMs }) => {
      const coordinator = requireCoordinator(ports);
      const inspection = await inspections.of(coordinator, { maxAgeMs, refreshAgeMs });
      inspection.encoded ??= encoded(protoReport(inspection, beyond(ports, coordinator)));
      return inspection.encoded;
    }),
    unary(method.planRecovery, async (request, coordinator) => {
      const servers = request.servers.map((server) => named(server, coordinator));
      const plan = await coordinator.planLoss(shardRef(request), servers);
      return { lines: planLines(plan), loses: plan.losses.length > 0 };
    }),
    unary(method.recoverShard, async (request, coordinator) => {
      const servers = request.servers.map((server) => named(server, coordinator));
      const ref = shardRef(request);
      const goal = { kind: "recover-shard", ...ref, from: "", to: "" } as const;
      const { plan, pending } = await ports.operations.perform(goal, () => coordinator.acceptLoss(ref, servers));
      return { term: BigInt(plan.term), pending };
    }),
  ];
}

/** Many who look at the same time, or shortly behind each other, have the cluster asked once. */
class Inspections {
  #last: (Inspection & { readonly of: Coordinator }) | undefined;
  #running: { readonly of: Coordinator; readonly answer: Promise<Inspection> } | undefined;

  async of(
    coordinator: Coordinator,
    { maxAgeMs, refreshAgeMs }: { readonly maxAgeMs: number; readonly refreshAgeMs: number },
  ): Promise<Inspection> {
    const last = this.#last;
    const ageMs = last?.of === coordinator ? Date.now() - last.observedAtMs : Number.POSITIVE_INFINITY;
    const isRunning = this.#running?.of === coordinator;
    if (ageMs < maxAgeMs) {
      // for whoever comes next, who hears of an error
      if (refreshAgeMs > 0 && ageMs >= refreshAgeMs && !isRunning) this.#begin(coordinator).catch(() => {});
      return last!;
    }
    return maxAgeMs > 0 && isRunning ? this.#running!.answer : this.#begin(coordinator);
  }

  async #begin(coordinator: Coordinator): Promise<Inspection> {
    const answer = this.#inspect(coordinator);
    const running = { of: coordinator, answer };
    this.#running = running;
    try {
      return await answer;
    } finally {
      if (this.#running === running) this.#running = undefined;
    }
  }

  async #inspect(coordinator: Coordinator): Promise<Inspection> {
    const observedAtMs = Date.now();
    const inspection = { report: await coordinator.inspect(), observedAtMs, of: coordinator };
    this.#last = inspection;
    return inspection;
  }
}

/** A report, and when it was begun, in milliseconds since the epoch. */
export interface Inspection {
  readonly report: ClusterReport;
  readonly observedAtMs: number;
  /** As GetClusterStatusResponse, with what was known beside it when it was first asked for. */
  encoded?: Bytes;
}

function encoded(fields: object): Bytes {
  const { output } = VariaAdmin.method.getClusterStatus;
  return toBinary(output, create(output, fields as never));
}

/** What is known of servers and shards beside how they stand, in the fields of their messages. */
interface Beyond {
  readonly server: (line: Pick<ServerLine, "internal" | "public">) => object;
  readonly shard: (shard: ShardId) => object;
  readonly lagSeconds: (shard: ShardId, holds: Offset) => number | undefined;
}

function beyond({ file, loads }: AdminPorts, coordinator: Coordinator): Beyond {
  const known = loadsBeyond(loads);
  return {
    ...known,
    server: (line) => {
      const { internal } = line;
      const labels = file.config.servers.find((one) => one.internal === internal)?.labels ?? new Map<string, string>();
      const about = { features: coordinator.features(internal), labels: Object.fromEntries(labels) };
      return { ...about, ...known.server(line) };
    },
  };
}

/** What servers and shards bear. */
export function loadsBeyond(loads: Pick<LoadWatch, "server" | "shard" | "lagSeconds">): Beyond {
  return {
    server: ({ internal, public: address }) => {
      const load = loads.server(internal);
      if (load === undefined) return {};
      const { version, httpPort } = load;
      const httpAddress = httpPort === 0 ? "" : address.replace(/:\d+$/, `:${httpPort}`);
      return { version, httpAddress, load: protoLoad(load) };
    },
    shard: (shard) => {
      const load = loads.shard(shard);
      return load === undefined
        ? {}
        : { load: { ...load, records: BigInt(load.records), stateBytes: BigInt(load.stateBytes) } };
    },
    lagSeconds: (shard, holds) => loads.lagSeconds(shard, holds),
  };
}

function protoLoad({
  version: _,
  httpPort: __,
  cpuCores,
  loopDelayP99Ms,
  writesPerS,
  readsPerS,
  ...whole
}: ServerLoad) {
  const integers = Object.entries(whole).map(([name, value]) => [name, BigInt(Math.round(value))]);
  return { cpuCores, loopDelayP99Ms, writesPerS, readsPerS, ...Object.fromEntries(integers) };
}

/** The fields of GetClusterStatusResponse. */
export function protoReport({ report, observedAtMs }: Inspection, known: Beyond) {
  const { servers, shards, ...rest } = report;
  const lines = {
    servers: servers.map((server) => ({ ...protoServer(server), ...known.server(server) })),
    shards: shards.map((shard) => ({ ...protoShard(shard, known), ...known.shard(shard.shard) })),
  };
  return { ...rest, ...lines, observedAtMs: BigInt(Math.round(observedAtMs)) };
}

export function shardRef({ namespace, shard }: { readonly namespace: string; readonly shard: bigint }): ShardRef {
  if (namespace === "") throw new Refusal("INVALID_ARGUMENT", "namespace must not be empty");
  return { namespace, shard: toNumber(shard, "shard") };
}

/** Throws INVALID_ARGUMENT, NOT_FOUND. */
export function internalAddress({ file }: AdminPorts, name: string, coordinator: Coordinator): string {
  if (name === "") throw new Refusal("INVALID_ARGUMENT", "data server must not be empty");
  const leaving = coordinator.status().shards.flatMap(({ identities }) => identities);
  const all = [...file.config.servers, ...leaving];
  const found = all.find((server) => serverName(server) === name) ?? all.find(({ internal }) => internal === name);
  if (found === undefined) throw new Refusal("NOT_FOUND", `data server "${name}" not found`);
  return found.internal;
}

function protoServer(server: ServerLine) {
  const { name, available, replicas, leaders, draining, why } = server;
  const addresses = { publicAddress: server.public, internalAddress: server.internal };
  return { name, ...addresses, available, reason: why, replicas, leaders, draining };
}

function protoShard(shard: ShardLine, { lagSeconds }: Beyond) {
  const { namespace, leader = "", range, replicas, problems, faultTolerance, change } = shard;
  return {
    ...{ namespace, shard: BigInt(shard.shard), term: BigInt(shard.term), leader },
    ...{ minHashInclusive: range.minInclusive, maxHashInclusive: range.maxInclusive },
    replicas: replicas.map((replica) => protoReplica(replica, (holds) => lagSeconds(shard.shard, holds))),
    ...{ problems, faultTolerance, change },
  };
}

function protoReplica(
  { server, replicaId, part, status, why, scanned, ...numbers }: ReplicaLine,
  lagSeconds: (holds: Offset) => number | undefined,
) {
  const { promise, head, acked, committed, applied, lag = -1 } = numbers;
  const seconds = lag < 0 ? undefined : lag === 0 ? 0 : lagSeconds(head);
  return {
    ...{ server, replicaId, part, status, reason: why, promise: BigInt(promise), scanned },
    ...{
      headOffset: BigInt(head),
      ackOffset: BigInt(acked),
      commitOffset: BigInt(committed),
      appliedOffset: BigInt(applied),
    },
    lagEntries: BigInt(lag),
    ...(seconds === undefined ? {} : { lagSeconds: seconds }),
  };
}

/** What each replica holds, then what is given up. */
function planLines({ term, best, replicas, losses, dropped }: LossPlan): string[] {
  const begins = `The shard goes on in term ${term}, with what ${best.server} holds.`;
  return [begins, ...replicas.map(replicaWords), ...[...losses, ...dropped].map((text) => `${text}.`)];
}

function replicaWords({ server, chosen, replicaId, head, why }: FoundReplica): string {
  const what = chosen ? "taken" : "not taken";
  if (head === undefined) return `${server} (${what}): ${why === "" ? "holds nothing" : why}.`;
  const id = replicaId === NO_REPLICA ? "" : `replica ${replicaId}, `;
  return `${server} (${what}): ${id}entries up to offset ${head.offset} of term ${head.term}.`;
}
