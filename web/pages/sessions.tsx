/** @jsxImportSource hono/jsx */
/** `/sessions`: clients with records that end with them; and one of them, with those records. */
import { ListNamespaces } from "../admin.ts";
import { type Asked, type Page, PageError } from "../page.ts";
import { Actions, DeedForm, mayDo } from "../parts/actions.tsx";
import { count, duration, query } from "../parts/format.ts";
import { Empty, Table, Time } from "../parts/pieces.tsx";
import { visible } from "../parts/text.ts";
import { hexOf, type Route, readEphemerals, readSessions, type SessionLine } from "../sessions.ts";
import { partitionKeys } from "../shard-routes.ts";
import { clusterStatus, shardState } from "../view.ts";

/** Of all shards together. */
export const SESSIONS_SHOWN_MAX = 200;
const SHARDS_AT_ONCE = 16;

export async function sessionsPage(asked: Asked): Promise<Page> {
  const namespaces = await namespacesOf(asked);
  const namespace = asked.query.get("namespace") ?? namespaces[0] ?? "default";
  if (!namespaces.includes(namespace)) throw new PageError(404, `There is no namespace "${namespace}".`);
  const { sessions, more } = await allSessions(asked, namespace);
  const shown = sessions.slice(0, SESSIONS_SHOWN_MAX);
  const body = (
    <>
      <h1>Sessions</h1>
      <form class="filters" method="get" action="/sessions">
        <label>
          Namespace
          <select name="namespace">
            {namespaces.map((name) => (
              <option value={name} selected={name === namespace}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <button type="submit">Show</button>
      </form>
      {shown.length === 0 ? (
        <Empty>No client has a session: none holds a record that ends with it.</Empty>
      ) : (
        <SessionTable namespace={namespace} sessions={shown} />
      )}
      {more || sessions.length > shown.length ? (
        <p class="muted">{`The first ${shown.length}; there are more.`}</p>
      ) : null}
    </>
  );
  return { title: "Sessions", body };
}

function SessionTable({ namespace, sessions }: { namespace: string; sessions: readonly SessionLine[] }) {
  return (
    <Table caption="Sessions" head={["Session", "Client", "Shard", "Since", "Ends after silence of"]}>
      {sessions.map(({ shard, id, identity, createdMs, timeoutMs }) => (
        <tr>
          <th scope="row" class="mono">
            <a href={`/sessions/${encodeURIComponent(namespace)}/${shard}/${id}`}>{hexOf(id)}</a>
          </th>
          <td class="key">
            <bdi>{visible(identity) || "–"}</bdi>
          </td>
          <td>{`${namespace}/${shard}`}</td>
          <td>
            <Time ms={createdMs} />
          </td>
          <td>{duration(timeoutMs)}</td>
        </tr>
      ))}
    </Table>
  );
}

export async function sessionPage(asked: Asked): Promise<Page> {
  const [namespace = "", shardText = "", idText = ""] = asked.places;
  const route = (await routesOf(asked, namespace)).find(({ shard }) => String(shard) === shardText);
  const client = await asked.inspect.client(namespace);
  const sessions = route === undefined ? [] : (await readSessions(client, route)).sessions;
  const session = sessions.find(({ id }) => String(id) === idText);
  if (route === undefined || session === undefined) {
    throw new PageError(404, `There is no session ${idText} in shard ${namespace}/${shardText}, or not any more.`);
  }
  const { keys, more } = await readEphemerals(client, route, session.id);
  const body = (
    <>
      <p class="trail">
        <a href={`/sessions${query({ namespace })}`}>Sessions</a>
      </p>
      <h1>{`Session ${hexOf(session.id)}`}</h1>
      <dl class="facts card">
        <dt>Client</dt>
        <dd>
          <bdi>{visible(session.identity) || "–"}</bdi>
        </dd>
        <dt>Shard</dt>
        <dd>
          <a href={`/shards/${encodeURIComponent(namespace)}/${shardText}`}>{`${namespace}/${shardText}`}</a>
        </dd>
        <dt>Since</dt>
        <dd>
          <Time ms={session.createdMs} />
        </dd>
        <dt>Ends after silence of</dt>
        <dd>{duration(session.timeoutMs)}</dd>
      </dl>
      <h2>{`${count(keys.length, "record")} ${keys.length === 1 ? "ends" : "end"} with it${more ? ", and more" : ""}`}</h2>
      {keys.length === 0 ? null : (
        <Table caption="Records" head={["Key"]}>
          {keys.map((key) => (
            <tr>
              <th scope="row" class="key">
                <a href={`/keys/record${query({ namespace, key })}`}>
                  <bdi>{visible(key)}</bdi>
                </a>
              </th>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
  const still = mayDo(asked, "close-session") ? (
    <Actions>
      <DeedForm name="close-session" label="Close session" fixed={{ namespace, shard: shardText, session: idText }} />
    </Actions>
  ) : null;
  return { title: `Session ${hexOf(session.id)}`, body, still };
}

async function namespacesOf({ inspect }: Asked): Promise<string[]> {
  const { namespaces } = await inspect.calls.call(ListNamespaces, {});
  return namespaces.flatMap(({ namespace }) => (namespace === undefined ? [] : [namespace.name]));
}

async function routesOf(asked: Asked, namespace: string): Promise<Route[]> {
  const { shards } = await clusterStatus(asked);
  const own = shards.filter((shard) => shard.namespace === namespace && shardState(shard) !== "deleting");
  return partitionKeys(own).map((partitionKey, nth) => ({ shard: own[nth]!.shard, partitionKey }));
}

async function allSessions(asked: Asked, namespace: string) {
  const routes = await routesOf(asked, namespace);
  const client = await asked.inspect.client(namespace);
  const found = new Map<Route, Awaited<ReturnType<typeof readSessions>>>();
  const left = [...routes];
  const work = async () => {
    for (let route = left.pop(); route !== undefined; route = left.pop())
      found.set(route, await readSessions(client, route));
  };
  await Promise.all(Array.from({ length: Math.min(SHARDS_AT_ONCE, routes.length) }, work));
  const all = routes.map((route) => found.get(route)!);
  return { sessions: all.flatMap(({ sessions }) => sessions), more: all.some(({ more }) => more) };
}
