/** @jsxImportSource hono/jsx */
/** `/shards/NAMESPACE/SHARD`: one shard: who leads it, what each replica holds, and what has happened to it. */
import { GetClusterStatus, SwapReplica } from "../admin.ts";
import { type Asked, type Page, PageError } from "../page.ts";
import { Actions, Choice, DeedForm, mayDo } from "../parts/actions.tsx";
import { amount } from "../parts/chart.tsx";
import { curl } from "../parts/commands.ts";
import { EventTable } from "../parts/event-table.tsx";
import { bytes, hash, offset, toleranceWords } from "../parts/format.ts";
import { Badge, CopyAs, Empty, type Mood, Table } from "../parts/pieces.tsx";
import { shellWord } from "../parts/text.ts";
import {
  type ClusterStatus,
  clusterStatus,
  lastEvents,
  MOOD_OF_SHARD,
  type ReplicaStatus,
  type ShardStatus,
  serverNames,
  shardState,
} from "../view.ts";

const EVENTS_SHOWN = 20;

export async function shardPage(asked: Asked): Promise<Page> {
  const [namespace = "", id = ""] = asked.places;
  const status = await clusterStatus(asked);
  const shard = status.shards.find((one) => one.namespace === namespace && String(one.shard) === id);
  if (shard === undefined) throw new PageError(404, `There is no shard ${namespace}/${id}.`);
  const events = await lastEvents(asked, { limit: EVENTS_SHOWN, shard: shard.shard, namespace });
  const { calls, mode } = asked.inspect;
  const state = shardState(shard);
  const title = `Shard ${namespace}/${id}`;
  const body = (
    <>
      <p class="trail">
        <a href="/shards">Shards</a> / {namespace}
      </p>
      <h1>{title}</h1>
      <div class={`verdict ${MOOD_OF_SHARD[state]}`} role="status">
        <strong>{state}</strong>
        {mode === "standalone" ? null : (
          <span>{shard.faultTolerance < 0 ? "It has stopped." : `${toleranceWords(shard.faultTolerance)}.`}</span>
        )}
        <Wrong shard={shard} />
      </div>
      <h2>Where it stands</h2>
      <Facts shard={shard} status={status} />
      <h2>Replicas</h2>
      <Replicas shard={shard} names={serverNames(status)} />
      {calls.serves(SwapReplica) ? (
        <CopyAs
          commands={[
            ...commandsFor(shard, status, asked.inspect.adminAddress()),
            curl(asked.inspect, GetClusterStatus),
          ]}
        />
      ) : null}
      {mode === "coordinator" ? (
        <>
          <h2>What has happened to it</h2>
          {events.length === 0 ? (
            <Empty>Nothing that is still known.</Empty>
          ) : (
            <EventTable events={events} names={serverNames(status)} />
          )}
        </>
      ) : null}
    </>
  );
  return { title, body, live: true, still: shardActions(asked, shard, status) };
}

function shardActions(asked: Asked, { namespace, shard, replicas, leader }: ShardStatus, status: ClusterStatus) {
  if (!mayDo(asked, "swap-replica")) return null;
  const fixed = { namespace, shard: String(shard) };
  const names = serverNames(status);
  const holders = new Set(replicas.map(({ server }) => server));
  const nameOf = (server: string) => names.get(server) ?? server;
  const members = replicas.filter(({ part }) => part === "member").map(({ server }) => server);
  const heirs = members.filter((server) => server !== leader);
  const others = status.servers.filter(({ internalAddress, draining }) => !holders.has(internalAddress) && !draining);
  return (
    <Actions>
      {others.length === 0 ? (
        <p class="muted">Every server holds a replica: there is none to move one to.</p>
      ) : (
        <DeedForm name="swap-replica" label="Move replica" fixed={fixed}>
          <Choice name="from" label="From" options={members.map(nameOf)} />
          <Choice name="to" label="To" options={others.map(({ name }) => name)} />
        </DeedForm>
      )}
      {heirs.length === 0 ? null : (
        <DeedForm name="switch-leader" label="Switch leader" fixed={fixed}>
          <Choice name="to" label="New leader" options={heirs.map(nameOf)} />
        </DeedForm>
      )}
      <DeedForm name="freeze-shard" label="Freeze" fixed={fixed}>
        <label>
          Seconds without writes
          <input name="seconds" inputmode="numeric" pattern="\d{1,4}" required value="60" />
        </label>
      </DeedForm>
    </Actions>
  );
}

function Wrong({ shard: { problems, change } }: { shard: ShardStatus }) {
  const all = [...problems, ...(change === "" ? [] : [change])];
  if (all.length === 0) return null;
  return (
    <ul>
      {all.map((text) => (
        <li>{text}</li>
      ))}
    </ul>
  );
}

function Facts({ shard, status }: { shard: ShardStatus; status: ClusterStatus }) {
  const { leader, term, minHashInclusive, maxHashInclusive, namespace, load } = shard;
  const name = serverNames(status).get(leader) ?? leader;
  return (
    <dl class="facts card">
      <dt>Namespace</dt>
      <dd>
        <a href={`/namespaces/${encodeURIComponent(namespace)}`}>{namespace}</a>
      </dd>
      <dt>Leader</dt>
      <dd>{leader === "" ? "none" : <a href={`/servers/${encodeURIComponent(name)}`}>{name}</a>}</dd>
      <dt>Term</dt>
      <dd>{offset(term)}</dd>
      <dt>Hashes</dt>
      <dd class="mono">{`${hash(minHashInclusive)}–${hash(maxHashInclusive)}, both inclusive`}</dd>
      {load === undefined ? null : (
        <>
          <dt>Records</dt>
          <dd>{String(load.records)}</dd>
          <dt>On disk</dt>
          <dd>{bytes(Number(load.stateBytes))}</dd>
          <dt>Load</dt>
          <dd>{`${amount(load.writesPerS, "writes/s")}, ${amount(load.readsPerS, "reads/s")}`}</dd>
        </>
      )}
    </dl>
  );
}

const MOODS: Readonly<Record<string, Mood>> = {
  leader: "good",
  follower: "good",
  fenced: "warn",
  "not-member": "bad",
  "": "bad",
};

function Replicas({ shard, names }: { shard: ShardStatus; names: ReadonlyMap<string, string> }) {
  const numbers = ["Promised term", "Head", "Acked", "Committed", "Applied", "Behind"].map((number) => ({ number }));
  return (
    <Table caption="Replicas" head={["Server", "Status", "Part", ...numbers, "Replica id", "Note"]}>
      {shard.replicas.map((replica) => (
        <tr>
          <th scope="row">{names.get(replica.server) ?? replica.server}</th>
          <td>
            <Badge mood={MOODS[replica.status] ?? "quiet"}>{replica.status === "" ? "silent" : replica.status}</Badge>
          </td>
          <td>{replica.part}</td>
          <td class="n">{offset(replica.promise)}</td>
          <td class="n">{offset(replica.headOffset)}</td>
          <td class="n">{offset(replica.ackOffset)}</td>
          <td class="n">{offset(replica.commitOffset)}</td>
          <td class="n">{offset(replica.appliedOffset)}</td>
          <td class="n">{behind(replica)}</td>
          <td class="mono">{replica.replicaId === 0n ? "none yet" : String(replica.replicaId)}</td>
          <td class="key">{noteOf(replica)}</td>
        </tr>
      ))}
    </Table>
  );
}

/** Entries, and for how long the leader has had the first of them. */
function behind({ lagEntries, lagSeconds }: ReplicaStatus): string {
  if (lagEntries <= 0n || lagSeconds === undefined) return offset(lagEntries);
  return `${lagEntries}, ${lagSeconds < 10 ? lagSeconds.toFixed(1) : lagSeconds.toFixed(0)} s`;
}

function noteOf({ reason, status, scanned }: ReplicaStatus): string {
  const unscanned = status !== "" && status !== "not-member" && !scanned ? "its files are still being scanned" : "";
  return [reason, unscanned].filter((text) => text !== "").join("; ");
}

/** What an operator may want to do with it, as commands. */
function commandsFor(
  { namespace, shard, replicas, leader }: ShardStatus,
  { servers }: ClusterStatus,
  admin: string,
): string[] {
  const at = `--admin-address ${admin} -n ${shellWord(namespace)} --shard ${shard}`;
  const nameOf = (address: string) =>
    shellWord(servers.find(({ internalAddress }) => internalAddress === address)?.name ?? address);
  const from = replicas.find(({ server }) => server !== leader)?.server;
  const to = servers.find(({ internalAddress }) => !replicas.some(({ server }) => server === internalAddress));
  if (from === undefined) return [`varia status --admin-address ${admin}`];
  return [
    `varia admin shard switch-leader ${at} --to ${nameOf(from)}`,
    `varia admin shard swap ${at} --from ${nameOf(from)} --to ${to === undefined ? nameOf(from) : shellWord(to.name)}`,
    `varia admin shard recover ${at} --servers ${nameOf(leader === "" ? from : leader)}`,
  ];
}
