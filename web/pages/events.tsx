/** @jsxImportSource hono/jsx */
/** `/events`: what has happened, and why; with a filter, older pages, and the same as JSON. */
import { EVENT_KINDS } from "../../src/ops/events.ts";
import { ListEvents } from "../admin.ts";
import { type Asked, type Page, PageError } from "../page.ts";
import { curl } from "../parts/commands.ts";
import { EventTable } from "../parts/event-table.tsx";
import { query } from "../parts/format.ts";
import { CopyAs, Empty } from "../parts/pieces.tsx";
import { clusterStatus, type Event, serverNames } from "../view.ts";

const EVENTS_PER_PAGE = 100;

export async function eventsPage(asked: Asked): Promise<Page> {
  const filter = eventFilter(asked.query);
  const [{ events, hasMore }, status] = await Promise.all([
    asked.inspect.calls.call(ListEvents, filter),
    clusterStatus(asked).catch(() => undefined),
  ]);
  const names = status === undefined ? new Map<string, string>() : serverNames(status);
  const kept = { kind: filter.kind, server: filter.server, namespace: filter.namespace };
  const body = (
    <>
      <h1>Events</h1>
      <form class="filters" method="get" action="/events">
        <label>
          Kind
          <select name="kind">
            <option value="">all</option>
            {EVENT_KINDS.map((kind) => (
              <option value={kind} selected={filter.kind === kind}>
                {kind}
              </option>
            ))}
          </select>
        </label>
        <label>
          Server
          <select name="server">
            <option value="">all</option>
            {[...names].map(([address, name]) => (
              <option value={address} selected={filter.server === address}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <button type="submit">Show</button>
        <a class="button" href={`/events.json${query({ ...kept, limit: 1000 })}`}>
          As JSON
        </a>
      </form>
      {events.length === 0 ? <Empty>Nothing matches.</Empty> : <EventTable events={events} names={names} />}
      <nav class="pages" aria-label="Pages of events">
        {asked.query.has("before") ? <a href={`/events${query(kept)}`}>Newest</a> : null}
        {hasMore ? <a href={`/events${query({ ...kept, before: events.at(-1)!.id })}`}>Older</a> : null}
      </nav>
      <CopyAs
        commands={[
          `varia admin event list --admin-address ${asked.inspect.adminAddress()}`,
          curl(asked.inspect, ListEvents),
        ]}
      />
    </>
  );
  return { title: "Events", body, live: !asked.query.has("before") };
}

/** As JSON, for programs: the newest first. */
export async function eventsJson({ inspect, query: given }: Asked): Promise<string> {
  const { events } = await inspect.calls.call(ListEvents, eventFilter(given));
  return `${JSON.stringify(events.map(eventObject), null, 2)}\n`;
}

function eventObject({ $typeName: _, $unknown: __, ...event }: Event) {
  return {
    ...event,
    id: Number(event.id),
    timeMs: Number(event.timeMs),
    time: new Date(Number(event.timeMs)).toISOString(),
    shard: event.shard === undefined ? undefined : Number(event.shard),
    term: Number(event.term),
  };
}

function eventFilter(given: URLSearchParams) {
  const text = (name: string) => given.get(name) ?? "";
  const number = (name: string, otherwise: number) => {
    if (text(name) === "") return otherwise;
    if (!/^\d{1,15}$/.test(text(name))) throw new PageError(400, `"${text(name)}" is not a number.`);
    return Number(text(name));
  };
  const shard = text("shard") === "" ? {} : { shard: BigInt(number("shard", 0)) };
  return {
    ...{ kind: text("kind"), namespace: text("namespace"), server: text("server"), ...shard },
    beforeId: BigInt(number("before", 0)),
    limit: number("limit", EVENTS_PER_PAGE),
  };
}
