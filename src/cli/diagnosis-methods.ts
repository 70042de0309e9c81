/** `VariaAdmin.GetDiagnosis`: rules of thumb over what the cluster says of itself, for pages, commands and programs alike. */
import { diagnose } from "../../web/diagnosis.ts";
import { VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { EVENTS_MAX } from "../ops/events.ts";
import { LocalCalls } from "../rpc/local-calls.ts";
import type { ServedMethod } from "../rpc/method.ts";
import { servedUnary } from "../rpc/served.ts";

/** `methods`: those that tell how the cluster stands and, where it is kept, what has happened. */
export function diagnosisMethods(methods: readonly ServedMethod[]): ServedMethod[] {
  const calls = new LocalCalls(methods);
  const { getClusterStatus, getDiagnosis, listEvents } = VariaAdmin.method;
  return [
    servedUnary(getDiagnosis, async ({ maxAgeMs, refreshAgeMs }) => {
      const [status, events] = await Promise.all([
        calls.call(getClusterStatus, { maxAgeMs, refreshAgeMs }),
        calls.serves(listEvents) ? calls.call(listEvents, { limit: EVENTS_MAX }).then((page) => page.events) : [],
      ]);
      const findings = diagnose({ status, events, nowMs: Date.now() });
      return { findings: findings.map(({ rule, outcome, what, next }) => ({ rule, outcome, seen: what, toDo: next })) };
    }),
  ];
}
