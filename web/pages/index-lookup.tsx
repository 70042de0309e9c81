/** @jsxImportSource hono/jsx */
/** `/keys/index`: records by the keys of a secondary index. */
import { type IndexPage, type IndexPosition, type IndexRequest, readIndex } from "../index-lookup.ts";
import { isMasked, namespacesOf, recordAddress, routesOf, shardIdOf } from "../key-space.ts";
import type { Located } from "../merged-scan.ts";
import { type Asked, type Page, PageError } from "../page.ts";
import { AddressLink } from "../parts/address-link.tsx";
import { bytes, count, query } from "../parts/format.ts";
import { CopyAs, Empty, Table, Time } from "../parts/pieces.tsx";
import { shellWord, visible } from "../parts/text.ts";
import { preview } from "../parts/value.tsx";
import { leadsTo } from "../shard-routes.ts";

/** What a form of an index look-up asks for. */
interface IndexQuery {
  readonly namespace: string;
  readonly index: string;
  readonly match: "exactly" | "range";
  readonly from: string;
  readonly before: string;
}

export async function indexPage(asked: Asked): Promise<Page> {
  const { query: given } = asked;
  const namespaces = await namespacesOf(asked);
  const wanted = queryOf(given, namespaces[0]?.name ?? "default");
  const { namespace, index, match, from, before } = wanted;
  const sorting = namespaces.find(({ name }) => name === namespace)?.keySorting;
  if (sorting === undefined) throw new PageError(404, `There is no namespace "${namespace}".`);
  if (index === "") throw new PageError(400, "The name of an index is needed.");
  const [client, routes] = await Promise.all([asked.inspect.client(namespace), routesOf(asked, namespace)]);
  const range: IndexRequest["range"] = match === "exactly" ? { exactly: from } : { from, before };
  const request = { index, range, after: positionOf(given), routes } as const;
  const page = await readIndex(client, { ...request, sorting: sorting === "natural" ? "natural" : "hierarchical" });
  const body = (
    <>
      <p class="trail">
        <a href={`/keys${query({ namespace })}`}>{namespace}</a>
      </p>
      <h1 class="key">
        Index <bdi>{visible(index)}</bdi>
      </h1>
      <IndexForm wanted={wanted} namespaces={namespaces.map(({ name }) => name)} />
      <Entries asked={asked} wanted={wanted} page={page} />
      <CopyAs commands={command(asked, wanted)} />
    </>
  );
  return { title: `Index ${visible(index)}`, body };
}

function queryOf(given: URLSearchParams, otherwise: string): IndexQuery {
  const text = (name: string) => given.get(name) ?? "";
  const match = given.get("match") ?? "exactly";
  if (match !== "exactly" && match !== "range") throw new PageError(400, `"${match}" is neither exactly nor range.`);
  return {
    namespace: given.get("namespace") ?? otherwise,
    ...{ index: text("index"), match, from: text("from"), before: match === "range" ? text("before") : "" },
  };
}

/** Behind which a page begins. */
function positionOf(given: URLSearchParams): IndexPosition | undefined {
  const shard = shardIdOf(given.get("shard") ?? "");
  if (shard === undefined) return undefined;
  return { indexKey: given.get("after") ?? "", key: given.get("key") ?? "", shard };
}

export function IndexForm({ wanted, namespaces }: { wanted: IndexQuery; namespaces: readonly string[] }) {
  const { namespace, index, match, from, before } = wanted;
  return (
    <form class="filters" method="get" action="/keys/index">
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
        Secondary index
        <input name="index" value={index} autocomplete="off" spellcheck={false} required />
      </label>
      <label>
        Look up
        <select name="match">
          <option value="exactly" selected={match === "exactly"}>
            this index key
          </option>
          <option value="range" selected={match === "range"}>
            from this index key on
          </option>
        </select>
      </label>
      <label>
        Index key
        <input name="from" value={from} autocomplete="off" spellcheck={false} />
      </label>
      <label>
        Before, for a range
        <input name="before" value={before} placeholder="the end" autocomplete="off" spellcheck={false} />
      </label>
      <button type="submit">Look up</button>
    </form>
  );
}

function Entries({ asked, wanted, page }: { asked: Asked; wanted: IndexQuery; page: IndexPage }) {
  const { records, after, cut } = page;
  if (cut)
    return <Empty>More records have this index key than can be read up to here: look up a narrower range.</Empty>;
  if (records.length === 0) return <Empty>The index has no records there.</Empty>;
  const { indexKey, key, shard } = after ?? {};
  return (
    <>
      <Table
        caption="Records"
        head={["Index key", "Key", "Value", { number: "Size" }, { number: "Version" }, "Changed"]}
      >
        {records.map((located) => (
          <EntryRow asked={asked} namespace={wanted.namespace} located={located} />
        ))}
      </Table>
      <nav class="pages" aria-label="Pages of records">
        <span>{count(records.length, "record")}</span>
        {after === undefined ? null : (
          <AddressLink to={`/keys/index${query({ ...wanted, after: indexKey, key, shard })}`} text="More" />
        )}
      </nav>
    </>
  );
}

function EntryRow({ asked, namespace, located }: { asked: Asked; namespace: string; located: Located }) {
  const { record, route } = located;
  const { key, value, version, secondaryIndexKey = "" } = record;
  return (
    <tr>
      <td class="mono key">
        <bdi>{visible(secondaryIndexKey) || "(empty)"}</bdi>
      </td>
      <th scope="row" class="key">
        <AddressLink
          to={recordAddress({ namespace, key, ...(leadsTo(route, key) ? {} : { shard: route.shard }) })}
          text={visible(key)}
        />
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

/** A command gets the first record of an index key; a range all of its. */
function command({ inspect }: Asked, { namespace, index, match, from, before }: IndexQuery): string[] {
  const address = inspect.clientAddress();
  if (address === undefined) return [];
  const client = `varia client -a ${address} -n ${shellWord(namespace)}`;
  const by = `--index ${shellWord(index)}`;
  if (match === "exactly") return [`${client} get ${shellWord(from)} ${by} -v`];
  const ends = [["-s", from] as const, ["-e", before] as const].filter(([, key]) => key !== "");
  return [[`${client} range-scan`, by, ...ends.map(([flag, key]) => `${flag} ${shellWord(key)}`), "-v"].join(" ")];
}
