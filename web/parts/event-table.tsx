/** @jsxImportSource hono/jsx */
/** Events as rows, the newest first. */
import type { Event } from "../view.ts";
import { query } from "./format.ts";
import { Badge, type Mood, Table, Time } from "./pieces.tsx";

const MOODS: Readonly<Record<string, Mood>> = { info: "quiet", warn: "warn", error: "bad" };

/** `names`: of servers, by internal address. */
export function EventTable({ events, names }: { events: readonly Event[]; names: ReadonlyMap<string, string> }) {
  return (
    <Table caption="Events" head={["Time", "Kind", "What", "Why", "Shard", { number: "Term" }, "Server"]}>
      {events.map((event) => (
        <tr id={`event-${event.id}`}>
          <td>
            <Time ms={event.timeMs} />
          </td>
          <td>
            <Badge mood={MOODS[event.level] ?? "quiet"}>{event.kind}</Badge>
          </td>
          <td>
            <a href={`/events${query({ before: event.id + 1n, limit: 1 })}`}>{event.message}</a>
          </td>
          <td class="key">{event.why}</td>
          <td>
            {event.shard === undefined ? (
              ""
            ) : (
              <a
                href={`/shards/${encodeURIComponent(event.namespace)}/${event.shard}`}
              >{`${event.namespace}/${event.shard}`}</a>
            )}
          </td>
          <td class="n">{event.term < 0n ? "" : String(event.term)}</td>
          <td>{names.get(event.server) ?? event.server}</td>
        </tr>
      ))}
    </Table>
  );
}
