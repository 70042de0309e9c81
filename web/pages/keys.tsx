/** @jsxImportSource hono/jsx */
/** `/keys`: the records of a namespace, place by place. */
import { isMasked, namespacesOf, recordAddress, routesOf, shardIdOf } from "../key-space.ts";
import { type Position, readLevel, type TreeLevel } from "../key-tree.ts";
import type { Located } from "../merged-scan.ts";
import { type Asked, type Page, PageError } from "../page.ts";
import { Actions, mayDo } from "../parts/actions.tsx";
import { AddressLink } from "../parts/address-link.tsx";
import { bytes, count, query } from "../parts/format.ts";
import { Badge, CopyAs, Empty, Table, Time } from "../parts/pieces.tsx";
import { placePath, RecordForm, Trail } from "../parts/record-form.tsx";
import { shellWord, visible } from "../parts/text.ts";
import { preview } from "../parts/value.tsx";
import { leadsTo } from "../shard-routes.ts";
import { IndexForm } from "./index-lookup.tsx";

export async function keysPage(asked: Asked): Promise<Page> {
  const { query: given } = asked;
  const namespaces = await namespacesOf(asked);
  const namespace = given.get("namespace") ?? namespaces[0]?.name ?? "default";
  const place = given.get("place") ?? "";
  if (place !== "" && !place.endsWith("/")) throw new PageError(400, "A place ends with a slash.");
  const sorting = namespaces.find(({ name }) => name === namespace)?.keySorting;
  if (sorting === undefined) throw new PageError(404, `There is no namespace "${namespace}".`);
  const client = await asked.inspect.client(namespace);
  const after = positionOf(given);
  const routes = await routesOf(asked, namespace);
  const level = await readLevel(client, { place, after, natural: sorting === "natural", routes });
  const address = asked.inspect.clientAddress();
  const names = namespaces.map(({ name }) => name);
  const body = (
    <>
      <h1>Keys</h1>
      <Jump namespace={namespace} namespaces={names} />
      <details class="copy">
        <summary>Look up by secondary index</summary>
        <IndexForm wanted={{ namespace, index: "", match: "exactly", from: "", before: "" }} namespaces={names} />
      </details>
      <Trail namespace={namespace} place={place} />
      <Level asked={asked} namespace={namespace} place={place} level={level} />
      <CopyAs
        commands={
          address === undefined
            ? []
            : [
                `varia client -a ${address} -n ${shellWord(namespace)} list --key-min ${shellWord(place)} --key-max ${shellWord(`${place}/`)}`,
              ]
        }
      />
    </>
  );
  const still = mayDo(asked, "put-record") ? (
    <Actions>
      <RecordForm asked={asked} namespace={namespace} recordKey={place} value="" version="" />
    </Actions>
  ) : null;
  return { title: `Keys of ${namespace}`, body, still };
}

/** Behind which a page begins. */
function positionOf(given: URLSearchParams): Position | undefined {
  const key = given.get("after") ?? "";
  if (key === "") return undefined;
  // without a shard: behind all records with the key
  return { key, shard: shardIdOf(given.get("shard") ?? "") ?? BigInt(Number.MAX_SAFE_INTEGER) };
}

function Jump({ namespace, namespaces }: { namespace: string; namespaces: readonly string[] }) {
  return (
    <form class="filters" method="get" action="/keys/record">
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
      <label>
        Key
        <input name="key" data-search autocomplete="off" spellcheck={false} required />
      </label>
      <label>
        Partition key
        <input name="partitionKey" placeholder="any" autocomplete="off" spellcheck={false} />
      </label>
      <label>
        Find
        <select name="comparison">
          <option value="equal">this key</option>
          <option value="floor">it or the last before</option>
          <option value="ceiling">it or the first behind</option>
          <option value="lower">the last before</option>
          <option value="higher">the first behind</option>
        </select>
      </label>
      <button type="submit">Go</button>
    </form>
  );
}

function Level(props: { asked: Asked; namespace: string; place: string; level: TreeLevel }) {
  const { asked, namespace, place, level } = props;
  const { records, places, after, cut } = level;
  if (records.length === 0 && places.length === 0) return <Empty>There are no keys here.</Empty>;
  return (
    <>
      <Table caption="Keys" head={["Key", "Value", { number: "Size" }, { number: "Version" }, "Changed"]}>
        {places.map((name) => (
          <tr>
            <th scope="row" class="key" colspan={5}>
              <AddressLink to={placePath(namespace, `${place}${name}/`)} text={visible(`${name}/`)} />
            </th>
          </tr>
        ))}
        {records.map((located) => (
          <RecordRow asked={asked} namespace={namespace} place={place} located={located} />
        ))}
      </Table>
      <nav class="pages" aria-label="Pages of keys">
        <span>{`${count(places.length, "place")}, ${count(records.length, "record")}`}</span>
        {cut ? <span>There are more places than can be shown: jump to a key.</span> : null}
        {after === undefined ? null : (
          <AddressLink to={`/keys${query({ namespace, place, after: after.key, shard: after.shard })}`} text="More" />
        )}
      </nav>
    </>
  );
}

function RecordRow(props: { asked: Asked; namespace: string; place: string; located: Located }) {
  const { asked, namespace, place, located } = props;
  const { record, route } = located;
  const { key, value, version } = record;
  const isElsewhere = !leadsTo(route, key);
  return (
    <tr>
      <th scope="row" class="key">
        <AddressLink
          to={recordAddress({ namespace, key, ...(isElsewhere ? { shard: route.shard } : {}) })}
          text={visible(key.slice(place.length)) || "(the place itself)"}
        />
        {version.sessionId === undefined ? null : <Badge mood="quiet">ephemeral</Badge>}
        {isElsewhere ? <Badge mood="quiet">{`partition key, shard ${route.shard}`}</Badge> : null}
      </th>
      <td class="mono key">{isMasked(asked, key) ? <span class="muted">masked</span> : <bdi>{preview(value)}</bdi>}</td>
      <td class="n">{bytes(value.length)}</td>
      <td class="n">{String(version.versionId)}</td>
      <td>
        <Time ms={version.modifiedTimestamp} />
      </td>
    </tr>
  );
}
