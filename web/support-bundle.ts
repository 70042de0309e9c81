/**
 * Everything that this server says of itself and of its cluster, in one document for whoever helps: how it stands, what
 * was found, what has happened, settings, the last hour, and the metrics. Nothing that clients have stored is in it, no
 * token, and no address beyond those of servers: events of callers are left out.
 */
import { toJson } from "@bufbuild/protobuf";
import {
  GetClusterStatus,
  GetConfiguration,
  GetDiagnosis,
  GetHistory,
  GetNodeStatus,
  ListEvents,
  ListNamespaces,
  ListOperations,
} from "./admin.ts";
import type { MethodOf } from "./inspect.ts";
import type { Asked } from "./page.ts";
import { clusterStatus } from "./view.ts";

const EVENTS_TOLD = 1_000;
const OPERATIONS_TOLD = 500;
const SERVERS_TOLD = 100;
/** Who has changed what is nobody's but the operator's. */
const KIND_LEFT_OUT = "audit";

/** As JSON. What cannot be had now is in it as the reason why. */
export async function supportBundle(asked: Asked, nowMs: number): Promise<string> {
  const { calls, mode, readiness, metricsText } = asked.inspect;
  const answer = async (method: MethodOf<never, never>, request: object = {}) => {
    if (!calls.serves(method as never)) return undefined;
    try {
      const message = await calls.call(method, request as never);
      return toJson((method as { readonly output: never }).output, message as never) as Record<string, unknown>;
    } catch (error) {
      return { error: error instanceof Error ? error.message : String(error) };
    }
  };
  const events = await answer(ListEvents as never, { limit: EVENTS_TOLD });
  const diagnosis = await answer(GetDiagnosis as never);
  const found = events?.events as readonly { readonly kind: string }[] | undefined;
  const bundle = {
    made: new Date(nowMs).toISOString(),
    mode,
    readiness: readiness(),
    node: await answer(GetNodeStatus as never),
    cluster: await answer(GetClusterStatus as never),
    findings: diagnosis?.findings ?? diagnosis,
    namespaces: await answer(ListNamespaces as never),
    operations: await answer(ListOperations as never, { limit: OPERATIONS_TOLD }),
    events: found === undefined ? events : { ...events, events: found.filter(({ kind }) => kind !== KIND_LEFT_OUT) },
    configuration: await answer(GetConfiguration as never),
    history: await answer(GetHistory as never),
    servers: await processes(asked, answer),
    metrics: (await metricsText()).split("\n"),
  };
  return `${JSON.stringify(bundle, null, 1)}\n`;
}

/** What each data server says of itself, as the coordinator has it told; all at once, so that one that is away costs one wait. */
async function processes(
  asked: Asked,
  answer: (method: MethodOf<never, never>, request: object) => Promise<unknown>,
): Promise<unknown> {
  if (asked.inspect.mode !== "coordinator" || !asked.inspect.calls.serves(GetClusterStatus)) return undefined;
  try {
    const { servers } = await clusterStatus(asked);
    const told = servers.slice(0, SERVERS_TOLD).map(async ({ name }) => {
      const [node, configuration, history] = await Promise.all(
        [GetNodeStatus, GetConfiguration, GetHistory].map((method) => answer(method as never, { server: name })),
      );
      return [name, { node, configuration, history }] as const;
    });
    return Object.fromEntries(await Promise.all(told));
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}
