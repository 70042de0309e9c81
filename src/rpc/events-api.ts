/** `VariaAdmin.ListEvents` and `WatchEvents`: what has happened, page by page, and as it happens. */
import { create } from "@bufbuild/protobuf";
import { VariaAdmin, WatchEventsResponseSchema } from "../gen/varia/admin/v1/admin_pb.ts";
import { Refusal } from "../model/refusal.ts";
import { EVENT_KINDS, EVENTS_MAX, type Events, type RecordedEvent } from "../ops/events.ts";
import type { ServedMethod } from "./method.ts";
import { toNumber } from "./peer-fields.ts";
import { servedStream, servedUnary } from "./served.ts";

const PAGE_DEFAULT = 100;

/** Both methods over one process's events. */
export function eventMethods(events: Events): ServedMethod[] {
  const { method } = VariaAdmin;
  return [
    servedUnary(method.listEvents, ({ beforeId, limit, kind, namespace, shard, server }) => {
      if (kind !== "" && !(EVENT_KINDS as readonly string[]).includes(kind)) {
        throw new Refusal("INVALID_ARGUMENT", `kind "${kind}" is none of ${EVENT_KINDS.join(", ")}`);
      }
      if (limit > EVENTS_MAX) throw new Refusal("INVALID_ARGUMENT", `limit ${limit} is above ${EVENTS_MAX}`);
      const filter = {
        ...{ kind: kind || undefined, namespace: namespace || undefined, server: server || undefined },
        shard: shard === undefined ? undefined : toNumber(shard, "shard"),
      };
      const page = { beforeId: toNumber(beforeId, "before_id"), limit: limit === 0 ? PAGE_DEFAULT : limit };
      const found = events.list(filter, page);
      return { events: found.events.map(protoEvent), hasMore: found.hasMore };
    }),
    servedStream(method.watchEvents, async ({ afterId }, call, sink) => {
      const after = toNumber(afterId, "after_id");
      // an id past the last one is of another life of this process, whose events are gone
      let sent = after === 0 ? events.lastId : after > events.lastId ? 0 : after;
      const { promise: cancelled, resolve: cancel } = Promise.withResolvers<void>();
      let wake = () => {};
      const stop = events.watch(() => wake());
      call.onCancel(() => cancel());
      try {
        while (!call.cancelled) {
          const { promise: more, resolve } = Promise.withResolvers<void>();
          wake = resolve;
          for (const event of events.since(sent)) {
            const hasRoom = sink.send(create(WatchEventsResponseSchema, { event: protoEvent(event) as never }));
            sent = event.id;
            if (!hasRoom) await sink.drained();
          }
          if (events.lastId === sent) await Promise.race([more, cancelled]);
        }
      } finally {
        stop();
      }
    }),
  ];
}

function protoEvent({ id, timeMs, shard, term, ...event }: RecordedEvent) {
  const optional = shard === undefined ? {} : { shard: BigInt(shard) };
  return { ...event, ...optional, id: BigInt(id), timeMs: BigInt(Math.round(timeMs)), term: BigInt(term) };
}
