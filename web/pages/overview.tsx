/** @jsxImportSource hono/jsx */
/** `/`: whether the cluster is well, what is not, and who bears what. */
import { CLUSTER_CHARTS, OWN_CHARTS } from "../../src/ops/history.ts";
import { GetClusterStatus, GetHistory } from "../admin.ts";
import type { Asked, Page } from "../page.ts";
import { Chart, chartCapacity } from "../parts/chart.tsx";
import { curl } from "../parts/commands.ts";
import { EventTable } from "../parts/event-table.tsx";
import { count, query, toleranceWords } from "../parts/format.ts";
import { OperationTable } from "../parts/operation-table.tsx";
import { Badge, CopyAs, Empty, Table, Tile } from "../parts/pieces.tsx";
import { ServerRow } from "../parts/server-row.tsx";
import {
  type ClusterStatus,
  clusterStatus,
  lastEvents,
  MOOD_OF_SHARD,
  runningOperations,
  SHARD_STATES,
  serverNames,
  shardState,
  verdictOf,
  worstLag,
} from "../view.ts";

/** More problems stand in `varia status`. */
const PROBLEMS_SHOWN_MAX = 10;
const EVENTS_SHOWN = 10;
const OPERATIONS_SHOWN = 10;

export async function overviewPage(asked: Asked): Promise<Page> {
  const [status, events, operations, charts] = await Promise.all([
    clusterStatus(asked),
    lastEvents(asked, { limit: EVENTS_SHOWN }),
    runningOperations(asked, OPERATIONS_SHOWN),
    lastHour(asked),
  ]);
  const { inspect } = asked;
  const { mode } = inspect;
  const body = (
    <>
      <h1>Overview</h1>
      <Verdict status={status} alone={mode === "standalone"} />
      <Numbers status={status} />
      {charts}
      <h2>Shards by state</h2>
      <States status={status} />
      <h2>Servers</h2>
      <Leaders status={status} />
      <CopyAs commands={[`varia status --admin-address ${inspect.adminAddress()}`, curl(inspect, GetClusterStatus)]} />
      {operations.length === 0 ? null : (
        <>
          <h2>Operations that run</h2>
          <OperationTable operations={operations} names={serverNames(status)} />
        </>
      )}
      {mode === "coordinator" ? (
        <>
          <h2>Last events</h2>
          {events.length === 0 ? (
            <Empty>Nothing has happened yet.</Empty>
          ) : (
            <EventTable events={events} names={serverNames(status)} />
          )}
        </>
      ) : null}
    </>
  );
  return { title: "Overview", body, live: true };
}

function Verdict({ status, alone }: { status: ClusterStatus; alone: boolean }) {
  const { word, mood } = verdictOf(status);
  const { problems, faultTolerance } = status;
  return (
    <div class={`verdict ${mood}`} role="status">
      <strong>{word}</strong>
      <span>{alone ? "One server, without replicas." : `${toleranceWords(faultTolerance)}.`}</span>
      {problems.length === 0 ? null : (
        <ul>
          {problems.slice(0, PROBLEMS_SHOWN_MAX).map((problem) => (
            <li>{problem}</li>
          ))}
          {problems.length > PROBLEMS_SHOWN_MAX ? <li>and {problems.length - PROBLEMS_SHOWN_MAX} more</li> : null}
        </ul>
      )}
    </div>
  );
}

/** How much is asked of the cluster, and how soon it answers. */
async function lastHour({ inspect }: Asked) {
  if (!inspect.calls.serves(GetHistory)) return null;
  const { series, samplesMax } = await inspect.calls.call(GetHistory, {});
  const { operations, latency } = inspect.mode === "coordinator" ? CLUSTER_CHARTS : OWN_CHARTS;
  const lines = [operations, latency].map((title) => ({ title, own: series.filter(({ chart }) => chart === title) }));
  if (lines.every(({ own }) => (own[0]?.points.length ?? 0) === 0)) return null;
  return (
    <div class="columns">
      {lines.map(({ title, own }) => (
        <Chart title={title} series={own} capacity={chartCapacity(own, samplesMax)} />
      ))}
    </div>
  );
}

function Numbers({ status }: { status: ClusterStatus }) {
  const { servers, shards, instanceId } = status;
  const lag = worstLag(shards);
  const led = shards.filter(({ leader }) => leader !== "").length;
  return (
    <dl class="tiles">
      <Tile name="Servers available">
        {servers.filter(({ available }) => available).length} <small>of {servers.length}</small>
      </Tile>
      <Tile name="Namespaces">{new Set(shards.map(({ namespace }) => namespace)).size}</Tile>
      <Tile name="Shards with a leader">
        {led} <small>of {shards.length}</small>
      </Tile>
      <Tile name="Most a replica is behind">
        {lag === undefined ? "–" : String(lag)} <small>{lag === 1n ? "entry" : "entries"}</small>
      </Tile>
      <Tile name="Cluster">
        <small class="mono">{instanceId.slice(0, 13)}</small>
      </Tile>
    </dl>
  );
}

function States({ status }: { status: ClusterStatus }) {
  const counts = new Map(SHARD_STATES.map((state) => [state, 0]));
  for (const shard of status.shards) counts.set(shardState(shard), counts.get(shardState(shard))! + 1);
  return (
    <p>
      {SHARD_STATES.filter((state) => counts.get(state)! > 0).map((state) => (
        <>
          <a href={`/shards${query({ state })}`}>
            <Badge mood={MOOD_OF_SHARD[state]}>{`${counts.get(state)} ${state}`}</Badge>
          </a>{" "}
        </>
      ))}
    </p>
  );
}

function Leaders({ status }: { status: ClusterStatus }) {
  const { servers } = status;
  if (servers.length === 0) return <Empty>No data server is configured.</Empty>;
  const led = Math.max(
    1,
    servers.reduce((sum, { leaders }) => sum + leaders, 0),
  );
  return (
    <Table
      caption="Servers"
      head={["Server", "State", { number: "Replicas" }, { number: "Leaders" }, "Share of leaders"]}
    >
      {servers.map((server) => (
        <ServerRow server={server}>
          <td>
            <meter
              min={0}
              max={led}
              value={server.leaders}
              aria-label={`${server.name}: ${count(server.leaders, "leader")}`}
            />
          </td>
        </ServerRow>
      ))}
    </Table>
  );
}
