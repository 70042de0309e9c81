/** @jsxImportSource hono/jsx */
/** `/shards`: where the hashes of each namespace are, who leads them, and a table of all shards, page by page. */
import { GetClusterStatus } from "../admin.ts";
import { type Asked, type Page, PageError } from "../page.ts";
import { curl } from "../parts/commands.ts";
import { hash, offset, query } from "../parts/format.ts";
import { Badge, CopyAs, Empty, Table } from "../parts/pieces.tsx";
import { Ring } from "../parts/ring.tsx";
import {
  type ClusterStatus,
  clusterStatus,
  coverage,
  MOOD_OF_SHARD,
  SHARD_STATES,
  type ShardStatus,
  serverNames,
  shardState,
  worstLag,
} from "../view.ts";

export const SHARDS_PER_PAGE = 100;

interface Filter {
  readonly namespace: string;
  readonly server: string;
  readonly state: string;
}

export async function shardsPage(asked: Asked): Promise<Page> {
  const { query: given } = asked;
  const filter = { namespace: of(given, "namespace"), server: of(given, "server"), state: of(given, "state") };
  const page = pageOf(of(given, "page"));
  if (filter.state !== "" && !(SHARD_STATES as readonly string[]).includes(filter.state)) {
    throw new PageError(400, `There is no state "${filter.state}".`);
  }
  const status = await clusterStatus(asked);
  const shards = status.shards.filter((shard) => matches(shard, filter, status));
  const pages = Math.max(1, Math.ceil(shards.length / SHARDS_PER_PAGE));
  if (page > pages) throw new PageError(404, `There is no page ${page}: these shards fill ${pages}.`);
  const shown = shards.slice((page - 1) * SHARDS_PER_PAGE, page * SHARDS_PER_PAGE);
  const { inspect } = asked;
  const body = (
    <>
      <h1>Shards</h1>
      <Filters filter={filter} status={status} />
      <Rings status={status} namespace={filter.namespace} />
      <h2>{`${shards.length} of ${status.shards.length} shards`}</h2>
      <ShardTable shards={shown} status={status} />
      <Pages filter={filter} page={page} pages={pages} />
      <CopyAs
        commands={[`varia status --admin-address ${inspect.adminAddress()} -o json`, curl(inspect, GetClusterStatus)]}
      />
    </>
  );
  return { title: "Shards", body, live: true };
}

function of(query: URLSearchParams, name: string): string {
  return query.get(name) ?? "";
}

function pageOf(text: string): number {
  if (text === "") return 1;
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new PageError(400, `"${text}" is not the number of a page.`);
  return Number(text);
}

function matches(shard: ShardStatus, { namespace, server, state }: Filter, { servers }: ClusterStatus): boolean {
  const address = servers.find(({ name }) => name === server)?.internalAddress ?? server;
  return (
    (namespace === "" || shard.namespace === namespace) &&
    (server === "" || shard.replicas.some((replica) => replica.server === address)) &&
    (state === "" || shardState(shard) === state)
  );
}

function Filters({ filter, status }: { filter: Filter; status: ClusterStatus }) {
  const namespaces = [...new Set(status.shards.map(({ namespace }) => namespace))];
  const choices = [
    ["namespace", "Namespace", namespaces],
    ["server", "Server", status.servers.map(({ name }) => name)],
    ["state", "State", SHARD_STATES],
  ] as const;
  return (
    <form class="filters" method="get" action="/shards">
      {choices.map(([name, label, options]) => (
        <label>
          {label}
          <select name={name}>
            <option value="">all</option>
            {options.map((option) => (
              <option value={option} selected={filter[name] === option}>
                {option}
              </option>
            ))}
          </select>
        </label>
      ))}
      <button type="submit">Show</button>
    </form>
  );
}

function Rings({ status, namespace }: { status: ClusterStatus; namespace: string }) {
  const names = serverNames(status);
  const byNamespace = Map.groupBy(status.shards, (shard) => shard.namespace);
  return (
    <>
      {[...byNamespace]
        .filter(([name]) => namespace === "" || name === namespace)
        .map(([name, shards]) => {
          const living = shards.filter((shard) => shardState(shard) !== "deleting");
          const gaps = coverage(living);
          return (
            <section aria-label={`Hashes of ${name}`}>
              <h2>{name}</h2>
              <Ring shards={living} servers={[...names.keys()]} names={names} />
              {gaps.length === 0 || living.length === 0 ? null : <p class="notice bad">{gaps.join("; ")}</p>}
            </section>
          );
        })}
    </>
  );
}

export function ShardTable({ shards, status }: { shards: readonly ShardStatus[]; status: ClusterStatus }) {
  if (shards.length === 0) return <Empty>No shard matches.</Empty>;
  const names = serverNames(status);
  const head = [
    ...["Shard", "State", "Leader"],
    { number: "Term" },
    ...["Replicas", "Hashes"],
    { number: "Committed" },
    { number: "Behind" },
    "What is wrong",
  ];
  return (
    <Table caption="Shards" head={head}>
      {shards.map((shard) => {
        const state = shardState(shard);
        const leader = shard.replicas.find(({ server }) => server === shard.leader);
        const lag = worstLag([shard]);
        return (
          <tr>
            <th scope="row">
              <a href={shardPath(shard)}>{`${shard.namespace}/${shard.shard}`}</a>
            </th>
            <td>
              <Badge mood={MOOD_OF_SHARD[state]}>{state}</Badge>
            </td>
            <td>{names.get(shard.leader) ?? shard.leader}</td>
            <td class="n">{offset(shard.term)}</td>
            <td>{shard.replicas.map(({ server }) => names.get(server) ?? server).join(", ")}</td>
            <td class="mono">{`${hash(shard.minHashInclusive)}–${hash(shard.maxHashInclusive)}`}</td>
            <td class="n">{offset(leader?.commitOffset ?? -1n)}</td>
            <td class="n">{lag === undefined ? "–" : String(lag)}</td>
            <td class="key">{[...shard.problems, shard.change].filter((text) => text !== "").join("; ")}</td>
          </tr>
        );
      })}
    </Table>
  );
}

export function shardPath({ namespace, shard }: Pick<ShardStatus, "namespace" | "shard">): string {
  return `/shards/${encodeURIComponent(namespace)}/${shard}`;
}

function Pages({ filter, page, pages }: { filter: Filter; page: number; pages: number }) {
  if (pages === 1) return null;
  const to = (number: number) => `/shards${query({ ...filter, page: number })}`;
  return (
    <nav class="pages" aria-label="Pages of shards">
      {page > 1 ? <a href={to(page - 1)}>Before</a> : null}
      <span>{`Page ${page} of ${pages}`}</span>
      {page < pages ? <a href={to(page + 1)}>After</a> : null}
    </nav>
  );
}
