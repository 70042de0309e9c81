/** `VariaAdmin.GetNodeStatus`: what one process is, what it costs, and the replicas that it holds. */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { NO_OFFSET } from "../model/ids.ts";
import { Refusal } from "../model/refusal.ts";
import { HISTORY_INTERVAL_MS, HISTORY_SAMPLES_MAX, type History } from "../ops/history.ts";
import { LOG_LEVELS, type ServerLogger } from "../ops/logger.ts";
import type { GivenSetting } from "../ops/settings.ts";
import { NO_REPLICA } from "../protocol/replica-state.ts";
import type { Replica } from "../replication/replica.ts";
import type { Shards } from "../replication/shards.ts";
import type { ServedMethod } from "./method.ts";
import { type MethodOf, servedUnary } from "./served.ts";

/** What a process knows of itself. */
export interface AboutNode {
  readonly mode: "standalone" | "storage" | "coordinator";
  /** By which callers may call it; absent: its coordinator knows it. */
  readonly name?: string;
  readonly version: string;
  readonly publicAddress: () => string;
  readonly startedAtMs: number;
  readonly given: readonly GivenSetting[];
  /** The cluster's configuration; absent where there is none. */
  readonly cluster?: () => readonly GivenSetting[];
  readonly history: History;
  /** Whose level can be changed. */
  readonly logger: Pick<ServerLogger, "level" | "info">;
}

/** Asks another process. Rejects with a Refusal or Unreachable. */
export type AskElsewhere = <I extends DescMessage, O extends DescMessage>(
  method: MethodOf<I, O>,
  request: MessageShape<I> & { readonly server: string },
) => Promise<MessageShape<O>>;

/** Of a process that knows no other one. */
const askNobody: AskElsewhere = (_, { server }) =>
  Promise.reject(new Refusal("NOT_FOUND", `this process answers for itself alone: ask a coordinator of "${server}"`));

function protoSetting({ byDefault, ...setting }: GivenSetting) {
  return { ...setting, defaultValue: byDefault };
}

/** `replicas`: undefined where none live. `elsewhere`: asks the server that a request names. */
export function nodeMethods(
  about: AboutNode,
  replicas: Shards | undefined,
  elsewhere: AskElsewhere = askNobody,
): ServedMethod[] {
  const { method } = VariaAdmin;
  const unary = <I extends DescMessage, O extends DescMessage>(
    descriptor: MethodOf<I, O>,
    answer: (request: MessageShape<I>) => unknown,
  ) =>
    servedUnary(descriptor, (request) => {
      const named = request as MessageShape<I> & { readonly server: string };
      return named.server === "" || named.server === about.name ? answer(request) : elsewhere(descriptor, named);
    });
  return [
    unary(method.getNodeStatus, () => {
      const { user, system } = process.cpuUsage();
      return {
        ...{ mode: about.mode, version: about.version, publicAddress: about.publicAddress() },
        startedAtMs: BigInt(Math.round(about.startedAtMs)),
        cpuMs: BigInt(Math.round((user + system) / 1000)),
        residentBytes: BigInt(process.memoryUsage.rss()),
        replicas: (replicas?.all() ?? []).map(protoReplica),
        logLevel: about.logger.level,
      };
    }),
    unary(method.getConfiguration, () => ({
      settings: about.given.map(protoSetting),
      cluster: (about.cluster?.() ?? []).map(protoSetting),
    })),
    unary(method.getHistory, () => {
      const { history } = about;
      const limits = { intervalMs: HISTORY_INTERVAL_MS, samplesMax: HISTORY_SAMPLES_MAX };
      return { series: history.series(), lastMs: BigInt(Math.round(history.lastMs)), ...limits };
    }),
    unary(method.setLogLevel, ({ level }) => {
      const known = LOG_LEVELS.find((one) => one === level);
      if (known === undefined) throw new Refusal("INVALID_ARGUMENT", `"${level}" is none of ${LOG_LEVELS.join(", ")}`);
      const { logger } = about;
      const before = logger.level;
      logger.level = "info"; // it is said whatever was logged before, and will be
      logger.info({ component: "log", before, level: known }, "log level changed");
      logger.level = known;
      return { before };
    }),
  ];
}

function protoReplica(replica: Replica) {
  const { shard, told, state, serving, kv } = replica;
  return {
    ...{ namespace: told?.namespace ?? "", shard: BigInt(shard), replicaId: state.id },
    ...statusOf(replica),
    promise: BigInt(state.promise),
    headOffset: BigInt(serving?.head.offset ?? state.head.offset),
    commitOffset: BigInt(serving?.committed ?? state.applied),
    appliedOffset: BigInt(kv?.applied.offset ?? (state.id === NO_REPLICA ? NO_OFFSET : state.applied)),
    records: BigInt(kv?.rowCount ?? 0),
    sessions: BigInt(serving?.sessionCount ?? 0),
  };
}

/** What it is, in the words of GetClusterStatus, and why where that needs a reason. */
export function statusOf({ damage, stopped, state }: Replica): { readonly status: string; readonly reason: string } {
  if (damage !== undefined) return { status: "damaged", reason: `${damage.file}: ${damage.where}: ${damage.what}` };
  if (stopped !== undefined) return { status: "damaged", reason: stopped.message };
  const { status, ended } = state;
  switch (status) {
    case "leader":
      return { status: "leader", reason: "" };
    case "becoming-leader":
      return { status: "leader", reason: "it becomes leader" };
    case "frozen":
      return { status: "leader", reason: "it is frozen for a split" };
    case "follower":
    case "following":
      return { status: "follower", reason: "" };
    case "fenced":
      return { status, reason: "" };
    case "not-member":
      return { status, reason: ended };
  }
}
