/**
 * `VariaAdmin`'s changes that take time, and the operations that they are: begun, looked at, cancelled.
 *
 * A caller waits for what is soon over; for the rest it is told the operation, and asks.
 */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { deleteDataServer, serverNamed } from "../coordination/administer.ts";
import type { Coordinator } from "../coordination/coordinator.ts";
import {
  CANCELLABLE,
  OPERATION_KINDS,
  OPERATION_STATES,
  type Operation,
  type OperationKind,
  type OperationState,
} from "../coordination/operation-list.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { SHARD_FREEZE_MS_MAX } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import { type AdminPorts, changeConfig, drainGoal, requireCoordinator } from "./admin-api.ts";
import { internalAddress, shardRef } from "./cluster-api.ts";
import type { Call, ServedMethod } from "./method.ts";
import { toNumber } from "./peer-fields.ts";
import { type MethodOf, servedUnary } from "./served.ts";

const PAGE_DEFAULT = 100;
const PAGE_MAX = 1_000;
/** Longest time for which a call waits for an operation to end. */
const WAIT_MS_MAX = 60_000;
/** What makes no sense is refused by then. */
const REFUSED_MS = 20;

export function operationMethods(ports: AdminPorts): ServedMethod[] {
  const { method } = VariaAdmin;
  const { operations } = ports;
  const unary = <I extends DescMessage, O extends DescMessage>(
    descriptor: MethodOf<I, O>,
    answer: (request: MessageShape<I>, coordinator: Coordinator, call: Call) => unknown,
  ) => servedUnary(descriptor, (request, call) => answer(request, requireCoordinator(ports), call));
  const named = (name: string, coordinator: Coordinator) => internalAddress(ports, name, coordinator);
  return [
    unary(method.swapReplica, async (request, coordinator, call) => {
      const [from, to] = [named(request.from, coordinator), named(request.to, coordinator)];
      const ref = shardRef(request);
      const { id } = operations.begin({ kind: "swap-replica", ...ref, from, to });
      if (request.detach) {
        await operations.endedWithin(id, REFUSED_MS);
        return { operation: protoOperation(operations.get(id)) };
      }
      call.onCancel(() => void operations.cancel(id).catch(() => {})); // it may have ended
      const ended = await operations.ended(id);
      return { reason: ended.reason, operation: protoOperation(ended) };
    }),
    unary(method.switchLeader, async (request, coordinator) => {
      const to = named(request.to, coordinator);
      const { id } = operations.begin({ kind: "switch-leader", ...shardRef(request), from: "", to });
      const ended = await operations.ended(id);
      return { reason: ended.reason, operation: protoOperation(ended) };
    }),
    unary(method.freezeShard, async (request) => {
      const { forMs } = request;
      if (forMs === 0 || forMs > SHARD_FREEZE_MS_MAX) {
        throw new Refusal("INVALID_ARGUMENT", `for_ms must be in [1, ${SHARD_FREEZE_MS_MAX}], and is ${forMs}`);
      }
      const ref = shardRef(request);
      if (frozen(ref) !== undefined) throw new Refusal("RESOURCE_CONFLICT", "the shard is frozen already");
      const begun = operations.begin({
        kind: "freeze-shard",
        ...ref,
        from: "",
        to: "",
        untilMs: ports.nowMs() + forMs,
      });
      const taken = await operations.taken(begun.id);
      if (taken.state === "failed") throw new Refusal("RESOURCE_UNAVAILABLE", taken.reason);
      return { operation: protoOperation(taken) };
    }),
    unary(method.thawShard, async (request) => {
      const freeze = frozen(shardRef(request));
      return freeze === undefined ? {} : { operation: protoOperation(await operations.cancel(freeze.id)) };
    }),
    unary(method.drainServer, async ({ server }) => ({ operation: protoOperation(await drainServer(ports, server)) })),
    unary(method.listOperations, ({ beforeId, limit, kind, state }) => {
      if (limit > PAGE_MAX) throw new Refusal("INVALID_ARGUMENT", `limit ${limit} is above ${PAGE_MAX}`);
      const filter = {
        kind: oneOf<OperationKind>("kind", kind, OPERATION_KINDS),
        state: oneOf<OperationState>("state", state, OPERATION_STATES),
      };
      const page = { beforeId: toNumber(beforeId, "before_id"), limit: limit === 0 ? PAGE_DEFAULT : limit };
      const found = operations.list.list(filter, page);
      return { operations: found.operations.map(protoOperation), hasMore: found.hasMore };
    }),
    unary(method.getOperation, async ({ id, waitMs }) => {
      if (waitMs > WAIT_MS_MAX) throw new Refusal("INVALID_ARGUMENT", `wait_ms ${waitMs} is above ${WAIT_MS_MAX}`);
      const { id: known } = operations.get(toNumber(id, "id"));
      return { operation: protoOperation(waitMs === 0 ? operations.get(known) : await operations.look(known, waitMs)) };
    }),
    unary(method.cancelOperation, async ({ id }) => ({
      operation: protoOperation(await operations.cancel(toNumber(id, "id"))),
    })),
  ];

  function frozen({ namespace, shard }: { readonly namespace: string; readonly shard: number }): Operation | undefined {
    const isIt = (one: Operation) => one.kind === "freeze-shard" && one.namespace === namespace && one.shard === shard;
    return operations.list.running.find(isIt);
  }
}

/** Takes a server from the configuration, and follows what it holds to the others. */
function drainServer(ports: AdminPorts, name: string): Promise<Operation> {
  const goal = drainGoal(ports, serverNamed(ports.file.config, name));
  return ports.operations.beginWith(goal, () =>
    changeConfig(ports, `delete data server "${name}"`, (config, status) => deleteDataServer(config, status, name)),
  );
}

function oneOf<T extends string>(field: string, text: string, all: readonly T[]): T | undefined {
  if (text === "") return undefined;
  if (!(all as readonly string[]).includes(text)) {
    throw new Refusal("INVALID_ARGUMENT", `${field} "${text}" is none of ${all.join(", ")}`);
  }
  return text as T;
}

function protoOperation(operation: Operation) {
  const { id, kind, state, phase, progress, reason, namespace, shard, from, to, startedMs, endedMs } = operation;
  return {
    ...{ id: BigInt(id), kind, state, phase, reason, namespace, from, to },
    ...(progress === undefined ? {} : { progress }),
    ...(shard === undefined ? {} : { shard: BigInt(shard) }),
    startedAtMs: BigInt(Math.round(startedMs)),
    endedAtMs: BigInt(Math.round(endedMs ?? 0)),
    cancellable: state === "running" && CANCELLABLE[kind],
  };
}
