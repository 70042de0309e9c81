/** @jsxImportSource hono/jsx */
/** `/notifications`: what changes in a namespace, as it changes; the newest first. */
import type { Child } from "hono/jsx";
import { ListNamespaces } from "../admin.ts";
import { type Asked, type Page, PageError } from "../page.ts";
import { query } from "../parts/format.ts";
import { Badge, CopyAs, Empty, type Mood, Table, Time } from "../parts/pieces.tsx";
import { shellWord, visible } from "../parts/text.ts";
import type { TailLine, Tails } from "../tails.ts";

export const LINES_SHOWN_MAX = 100;
const MOODS: Record<TailLine["type"], Mood> = {
  created: "good",
  modified: "quiet",
  deleted: "warn",
  "range deleted": "warn",
  missed: "bad",
};

export async function notificationsPage(asked: Asked, tails: Tails): Promise<Page> {
  const { calls, clientAddress } = asked.inspect;
  const { namespaces } = await calls.call(ListNamespaces, {});
  const names = namespaces.flatMap(({ namespace }) => (namespace === undefined ? [] : [namespace]));
  const namespace = asked.query.get("namespace") ?? names[0]?.name ?? "default";
  const prefix = asked.query.get("prefix") ?? "";
  const settings = names.find(({ name }) => name === namespace);
  if (settings === undefined) throw new PageError(404, `There is no namespace "${namespace}".`);
  const address = clientAddress();
  const body = (
    <>
      <h1>Notifications</h1>
      <form class="filters" method="get" action="/notifications">
        <label>
          Namespace
          <select name="namespace">
            {names.map(({ name }) => (
              <option value={name} selected={name === namespace}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <label>
          Keys that begin with
          <input name="prefix" value={prefix} data-search autocomplete="off" spellcheck={false} />
        </label>
        <button type="submit">Show</button>
      </form>
      {settings.notificationsEnabled === false ? (
        <Empty>This namespace keeps no notifications.</Empty>
      ) : (
        await changes(tails, namespace, prefix)
      )}
      <CopyAs
        commands={address === undefined ? [] : [`varia client -a ${address} -n ${shellWord(namespace)} notifications`]}
      />
    </>
  );
  return { title: "Notifications", body, live: true };
}

async function changes(tails: Tails, namespace: string, prefix: string): Promise<Child> {
  const { lines, heard, sinceMs, ended } = await tails.of(namespace);
  const matching = lines.filter(({ type, key }) => type === "missed" || key.startsWith(prefix));
  const shown = matching.slice(-LINES_SHOWN_MAX).reverse();
  return (
    <>
      <p class="muted">
        {`${heard} heard since `}
        <Time ms={sinceMs} />
        {matching.length > shown.length || heard > lines.length ? `; the last ${shown.length} are shown` : ""}
        {ended === "" ? "" : `; ${ended}`}
      </p>
      {shown.length === 0 ? (
        <Empty>Nothing yet. What changes from now on is shown as it happens.</Empty>
      ) : (
        <Table caption="Changes" head={["Heard", "What", "Key", "Detail"]}>
          {shown.map(({ heardMs, type, key, detail }) => (
            <tr>
              <td>
                <Time ms={heardMs} />
              </td>
              <td>
                <Badge mood={MOODS[type]}>{type}</Badge>
              </td>
              <th scope="row" class="key">
                {type === "created" || type === "modified" ? (
                  <a href={`/keys/record${query({ namespace, key })}`}>
                    <bdi>{visible(key)}</bdi>
                  </a>
                ) : (
                  <bdi>{visible(key)}</bdi>
                )}
              </th>
              <td class="key">
                <bdi>{visible(detail)}</bdi>
              </td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}
