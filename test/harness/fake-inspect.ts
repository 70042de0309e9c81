/** What pages ask, answered from plain data: a cluster of three data servers with as many shards as a test wants. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ListNamespacesResponseSchema } from "../../src/gen/io/oxia/proto/v1/admin_pb.ts";
import {
  CloseSessionResponseSchema,
  type Event,
  EventSchema,
  type GetClusterStatusResponse,
  GetClusterStatusResponseSchema,
  GetConfigurationResponseSchema,
  GetDiagnosisResponseSchema,
  GetHistoryResponseSchema,
  GetNodeStatusResponseSchema,
  GetOperationResponseSchema,
  GetSessionResponseSchema,
  ListEventsResponseSchema,
  ListOperationsResponseSchema,
  ListSessionsResponseSchema,
  type Operation,
  OperationSchema,
  type ServerStatus,
  ServerStatusSchema,
  type ShardStatus,
  ShardStatusSchema,
} from "../../src/gen/varia/admin/v1/admin_pb.ts";
import { Refusal } from "../../src/model/refusal.ts";
import { initialRanges } from "../../src/protocol/assignment.ts";
import { diagnose } from "../../web/diagnosis.ts";
import type { Inspect } from "../../web/inspect.ts";

interface Differs extends Partial<Pick<GetClusterStatusResponse, "healthy" | "problems" | "faultTolerance">> {
  readonly servers?: readonly ServerStatus[];
  readonly shards?: readonly ShardStatus[];
}

export const SERVERS = ["s1", "s2", "s3"];
export const internalOf = (server: string): string => `${server}:6649`;

/** Well, but for what is given. */
export function clusterOf(
  shards: number,
  { servers, shards: given, ...differs }: Differs = {},
): GetClusterStatusResponse {
  const ranges = shards === 0 ? [] : initialRanges(shards);
  return create(GetClusterStatusResponseSchema, {
    ...{ instanceId: "5e6f0a52-cluster", healthy: true, problems: [], faultTolerance: 1, observedAtMs: 1_000n },
    servers: [...(servers ?? SERVERS.map((name, nth) => serverOf(name, shards, nth)))],
    shards: [
      ...(given ?? ranges.map(({ minInclusive, maxInclusive }, nth) => shardOf(nth, minInclusive, maxInclusive))),
    ],
    ...differs,
  });
}

function serverOf(name: string, shards: number, nth: number): ServerStatus {
  return create(ServerStatusSchema, {
    ...{ name, publicAddress: `${name}:6648`, internalAddress: internalOf(name), available: true },
    ...{ replicas: shards, leaders: Math.ceil((shards - nth) / SERVERS.length) },
  });
}

function shardOf(shard: number, minHashInclusive: number, maxHashInclusive: number): ShardStatus {
  const leader = internalOf(SERVERS[shard % SERVERS.length]!);
  return create(ShardStatusSchema, {
    ...{ namespace: "default", shard: BigInt(shard), term: 3n, leader, minHashInclusive, maxHashInclusive },
    faultTolerance: 1,
    replicas: SERVERS.map((server, nth) => ({
      ...{ server: internalOf(server), replicaId: BigInt(1_000 * shard + nth + 1), part: "member", scanned: true },
      ...{ status: internalOf(server) === leader ? "leader" : "follower", promise: 3n, headOffset: 42n },
      ...{ commitOffset: 42n, appliedOffset: 42n, lagEntries: 0n },
    })),
  });
}

export function eventOf(id: number, differs: MessageInitShape<typeof EventSchema> = {}): Event {
  return create(EventSchema, {
    ...{ id: BigInt(id), timeMs: BigInt(1_790_000_000_000 + id), kind: "election", level: "info" },
    ...{ message: "leader elected", why: "", namespace: "default", shard: 0n, term: 3n, server: internalOf("s1") },
    ...differs,
  });
}

export function operationOf(id: number, differs: MessageInitShape<typeof OperationSchema> = {}): Operation {
  return create(OperationSchema, {
    ...{ id: BigInt(id), kind: "swap-replica", state: "running", phase: "the new replica is being filled" },
    ...{ namespace: "default", shard: 1n, from: internalOf("s1"), to: internalOf("s2"), cancellable: true },
    startedAtMs: 1_790_000_000_000n,
    ...differs,
  });
}

export interface FakeInspect extends Inspect {
  cluster: GetClusterStatusResponse | Error;
  events: Event[];
  /** Names of the methods that were called, in order. */
  readonly called: string[];
  /** What was told of who changes what. */
  readonly audited: string[];
  /** What was asked of those that change something. */
  readonly asked: { readonly name: string; readonly request: unknown }[];
  operations: Operation[];
}

const SESSION = {
  ...{ shard: 0n, session: 7n, clientIdentity: "worker-7", timeoutMs: 15_000 },
  ...{ createdAtMs: 1_790_000_000_000n, ephemerals: 1n },
};

const CHANGES = [
  "SwapReplica",
  "SwitchLeader",
  "FreezeShard",
  "DrainServer",
  "CancelOperation",
  "SetLogLevel",
  "CreateNamespace",
  "PatchNamespace",
  "DeleteNamespace",
];

/** A coordinator; `methods`: in place of all that one serves. */
export function fakeInspect(differs: Partial<Inspect> & { readonly methods?: readonly string[] } = {}): FakeInspect {
  const { methods, ...rest } = differs;
  const answers: Record<string, (fake: FakeInspect, request: never) => unknown> = {
    GetClusterStatus: ({ cluster }) => {
      if (cluster instanceof Error) throw cluster;
      return cluster;
    },
    GetDiagnosis: ({ cluster, events }) => {
      if (cluster instanceof Error) throw cluster;
      const found = diagnose({ status: cluster, events, nowMs: Date.now() });
      const findings = found.map(({ rule, outcome, what, next }) => ({ rule, outcome, seen: what, toDo: next }));
      return create(GetDiagnosisResponseSchema, { findings });
    },
    ListEvents: ({ events }) => create(ListEventsResponseSchema, { events, hasMore: false }),
    ListOperations: ({ operations }) => create(ListOperationsResponseSchema, { operations, hasMore: false }),
    GetOperation: ({ operations }, { id }: { readonly id: bigint }) => {
      const operation = operations.find((one) => one.id === id);
      if (operation === undefined) throw new Refusal("NOT_FOUND", `there is no operation ${id}`);
      return create(GetOperationResponseSchema, { operation });
    },
    GetNodeStatus: () =>
      create(GetNodeStatusResponseSchema, {
        ...{ mode: fake.mode, version: "1.2.3", publicAddress: "h:6651", startedAtMs: 1_790_000_000_000n },
        ...{ cpuMs: 1_500n, residentBytes: 100_000_000n, replicas: [] },
      }),
    GetConfiguration: () =>
      create(GetConfigurationResponseSchema, {
        settings: [
          { name: "wal-dir", value: "/srv/wal", origin: "flag", source: "--wal-dir", defaultValue: "./data/wal" },
          { name: "log-level", value: "info", origin: "default", defaultValue: "info" },
        ],
      }),
    GetHistory: () =>
      create(GetHistoryResponseSchema, {
        series: [
          { name: "writes", chart: "Operations", unit: "1/s", points: [0, 5, 1_234.5] },
          { name: "reads", chart: "Operations", unit: "1/s", points: [1, 2, 3] },
          { name: "resident", chart: "Memory", unit: "bytes", points: [1_048_576] },
        ],
        ...{ lastMs: 1_790_000_000_000n, intervalMs: 10_000, samplesMax: 360 },
      }),
    ListSessions: () => create(ListSessionsResponseSchema, { sessions: [SESSION] }),
    GetSession: (_, { session }: { readonly session: bigint }) => {
      if (session !== SESSION.session) throw new Refusal("NOT_FOUND", `there is no session ${session}`);
      return create(GetSessionResponseSchema, { session: SESSION, keys: ["/workers/7"] });
    },
    CloseSession: () => create(CloseSessionResponseSchema),
    ListNamespaces: () =>
      create(ListNamespacesResponseSchema, {
        namespaces: [
          {
            namespace: {
              ...{ name: "default", replicationFactor: 3, keySorting: "hierarchical" },
              antiAffinities: [{ labels: ["zone", "rack"], mode: "strict" }],
            },
          },
        ],
      }),
  };
  // each is the newest operation there is
  for (const name of CHANGES) answers[name] = (fake) => ({ operation: fake.operations[0] });
  const served = methods ?? Object.keys(answers);
  const audited: string[] = [];
  const fake: FakeInspect = {
    access: { needsToken: false, roleOf: () => undefined },
    ui: "on",
    masked: [],
    answer: () => undefined,
    mode: "coordinator",
    calls: {
      serves: ({ name }) => served.includes(name),
      async call({ name }, request) {
        fake.called.push(name);
        if (CHANGES.includes(name)) fake.asked.push({ name, request });
        if (!served.includes(name)) throw new Refusal("UNIMPLEMENTED", `${name} is not served here`);
        return answers[name]!(fake, request as never) as never;
      },
      stream: async () => {},
    },
    client: () => Promise.reject(new Error("no data server is available")),
    clientAddress: () => "s1:6648",
    adminAddress: () => "h:6651",
    audit: {
      changed: ({ what, note }) => void audited.push(`made: ${what}: ${note}`),
      refused: ({ what }, error) => void audited.push(`refused: ${what}: ${(error as Error).message}`),
      turnedAway: ({ what }, why) => void audited.push(`turned away: ${what}: ${why}`),
    },
    metricsContentType: "text/plain",
    readiness: () => [{ name: "working", ok: true, detail: "" }],
    metricsText: async () => "varia_up 1\n",
    cluster: clusterOf(4),
    events: [eventOf(1)],
    called: [],
    audited,
    asked: [],
    operations: [operationOf(7)],
    ...rest,
  };
  return fake;
}
