/** @jsxImportSource hono/jsx */
/** `/sessions`: clients with records that end with them; and one of them, with those records. */
import type { Session } from "../../src/gen/varia/admin/v1/admin_pb.ts";
import { GetSession, ListNamespaces, ListSessions } from "../admin.ts";
import { type Asked, type Page, PageError } from "../page.ts";
import { Actions, DeedForm, mayDo } from "../parts/actions.tsx";
import { curl } from "../parts/commands.ts";
import { count, duration, query, sessionId } from "../parts/format.ts";
import { CopyAs, Empty, Table, Time } from "../parts/pieces.tsx";
import { shellWord, visible } from "../parts/text.ts";

/** Of all shards together. */
export const SESSIONS_SHOWN_MAX = 200;

export async function sessionsPage(asked: Asked): Promise<Page> {
  const namespaces = await namespacesOf(asked);
  const namespace = asked.query.get("namespace") ?? namespaces[0] ?? "default";
  if (!namespaces.includes(namespace)) throw new PageError(404, `There is no namespace "${namespace}".`);
  const { sessions, hasMore } = await asked.inspect.calls.call(ListSessions, { namespace });
  const shown = sessions.slice(0, SESSIONS_SHOWN_MAX);
  const { inspect } = asked;
  const at = `--admin-address ${inspect.adminAddress()}`;
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
      {hasMore || sessions.length > shown.length ? (
        <p class="muted">{`The first ${shown.length}; there are more.`}</p>
      ) : null}
      <CopyAs
        commands={[
          `varia admin session list ${at} -n ${shellWord(namespace)}`,
          curl(inspect, ListSessions, { namespace }),
        ]}
      />
    </>
  );
  return { title: "Sessions", body };
}

function SessionTable({ namespace, sessions }: { namespace: string; sessions: readonly Session[] }) {
  return (
    <Table caption="Sessions" head={["Session", "Client", "Shard", { number: "Records" }, "Since", "Timeout"]}>
      {sessions.map(({ shard, session, clientIdentity, createdAtMs, timeoutMs, ephemerals }) => (
        <tr>
          <th scope="row" class="mono">
            <a href={`/sessions/${encodeURIComponent(namespace)}/${shard}/${session}`}>{sessionId(session)}</a>
          </th>
          <td class="key">
            <bdi>{visible(clientIdentity) || "–"}</bdi>
          </td>
          <td>{`${namespace}/${shard}`}</td>
          <td class="n">{ephemerals < 0n ? "–" : String(ephemerals)}</td>
          <td>
            <Time ms={createdAtMs} />
          </td>
          <td>{duration(timeoutMs)}</td>
        </tr>
      ))}
    </Table>
  );
}

export async function sessionPage(asked: Asked): Promise<Page> {
  const [namespace = "", shardText = "", idText = ""] = asked.places;
  if (!/^\d{1,15}$/.test(shardText) || !/^-?\d{1,19}$/.test(idText)) {
    throw new PageError(404, `There is no session ${idText} in shard ${namespace}/${shardText}.`);
  }
  const of = { namespace, shard: BigInt(shardText), session: BigInt(idText) };
  const { session: found, keys, hasMore } = await asked.inspect.calls.call(GetSession, of);
  const session = found!;
  const name = sessionId(of.session);
  const { inspect } = asked;
  const at = `--admin-address ${inspect.adminAddress()} -n ${shellWord(namespace)}`;
  const body = (
    <>
      <p class="trail">
        <a href={`/sessions${query({ namespace })}`}>Sessions</a>
      </p>
      <h1>{`Session ${name}`}</h1>
      <dl class="facts card">
        <dt>Client</dt>
        <dd>
          <bdi>{visible(session.clientIdentity) || "–"}</bdi>
        </dd>
        <dt>Shard</dt>
        <dd>
          <a href={`/shards/${encodeURIComponent(namespace)}/${shardText}`}>{`${namespace}/${shardText}`}</a>
        </dd>
        <dt>Since</dt>
        <dd>
          <Time ms={session.createdAtMs} />
        </dd>
        <dt>Timeout</dt>
        <dd>{duration(session.timeoutMs)}</dd>
      </dl>
      <h2>{`${count(keys.length, "record")} ${keys.length === 1 ? "ends" : "end"} with it${hasMore ? ", and more" : ""}`}</h2>
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
      <CopyAs
        commands={[
          `varia admin session close ${at} --shard ${shardText} --session ${name}`,
          curl(inspect, GetSession, { namespace, shard: shardText, session: idText }),
        ]}
      />
    </>
  );
  const still = mayDo(asked, "close-session") ? (
    <Actions>
      <DeedForm name="close-session" label="Close session" fixed={{ namespace, shard: shardText, session: idText }} />
    </Actions>
  ) : null;
  return { title: `Session ${name}`, body, still };
}

async function namespacesOf({ inspect }: Asked): Promise<string[]> {
  const { namespaces } = await inspect.calls.call(ListNamespaces, {});
  return namespaces.flatMap(({ namespace }) => (namespace === undefined ? [] : [namespace.name]));
}
