/** @jsxImportSource hono/jsx */
/** `/servers` and `/servers/NAME`: the data servers, and what one of them holds. */
import { GetClusterStatus, GetNodeStatus } from "../admin.ts";
import { type Asked, type Page, PageError } from "../page.ts";
import { Actions, DeedForm, mayDo } from "../parts/actions.tsx";
import { amount } from "../parts/chart.tsx";
import { curl } from "../parts/commands.ts";
import { EventTable } from "../parts/event-table.tsx";
import { bytes } from "../parts/format.ts";
import { CopyAs, Empty, Table, Time } from "../parts/pieces.tsx";
import { ProcessLinks } from "../parts/process-trail.tsx";
import { ServerRow } from "../parts/server-row.tsx";
import { shellWord } from "../parts/text.ts";
import { clusterStatus, lastEvents, type ServerStatus, serverNames, serverState } from "../view.ts";
import { ShardTable } from "./shards.tsx";

const EVENTS_SHOWN = 20;
/** More stand on the page of shards. */
const SHARDS_SHOWN = 100;

export async function serversPage(asked: Asked): Promise<Page> {
  const { servers } = await clusterStatus(asked);
  const { inspect } = asked;
  const body = (
    <>
      <h1>Servers</h1>
      {servers.length === 0 ? <Empty>No data server is configured.</Empty> : <ServerTable servers={servers} />}
      <CopyAs
        commands={[
          `varia admin dataserver list --admin-address ${inspect.adminAddress()}`,
          curl(inspect, GetClusterStatus),
        ]}
      />
    </>
  );
  return { title: "Servers", body, live: true };
}

function ServerTable({ servers }: { servers: readonly ServerStatus[] }) {
  const numbers = ["Replicas", "Leaders", "CPU", "Memory", "Writes", "Reads"].map((number) => ({ number }));
  const head = ["Server", "State", "For clients", ...numbers, "Version", "Why"];
  return (
    <Table caption="Servers" head={head}>
      {servers.map((server) => (
        <ServerRow server={server} where={<td class="mono">{server.publicAddress}</td>}>
          {loadCells(server).map((cell) => (
            <td class="n">{cell}</td>
          ))}
          <td>{server.version || "–"}</td>
          <td class="key">{server.reason}</td>
        </ServerRow>
      ))}
    </Table>
  );
}

/** CPU, memory, writes, reads. */
function loadCells({ load }: ServerStatus): string[] {
  if (load === undefined) return ["–", "–", "–", "–"];
  const { cpuCores, residentBytes, writesPerS, readsPerS } = load;
  return [
    ...[amount(cpuCores, "cores"), bytes(Number(residentBytes))],
    ...[amount(writesPerS, "/s"), amount(readsPerS, "/s")],
  ];
}

/** What it says of itself. */
function Load({ server: { name, version, features, labels, load, httpAddress } }: { server: ServerStatus }) {
  const words = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
  return (
    <dl class="facts card">
      <dt>Version</dt>
      <dd>{version || "it has not said"}</dd>
      <dt>Its process</dt>
      <dd>
        <ProcessLinks server={name} />
      </dd>
      {httpAddress === "" ? null : (
        <>
          <dt>Its own pages</dt>
          <dd>
            <a href={`http://${httpAddress}/`}>{httpAddress}</a>
          </dd>
        </>
      )}
      <dt>Features</dt>
      <dd>{features.length === 0 ? "none" : features.join(", ")}</dd>
      <dt>Labels</dt>
      <dd>{words.length === 0 ? "none" : words.join(", ")}</dd>
      {load === undefined ? null : (
        <>
          <dt>CPU</dt>
          <dd>{`${amount(load.cpuCores, "cores")}; its event loop was up to ${amount(load.loopDelayP99Ms, "ms")} late (p99)`}</dd>
          <dt>Memory</dt>
          <dd>{bytes(Number(load.residentBytes))}</dd>
          <dt>Disk</dt>
          <dd>{`${bytes(Number(load.diskFreeBytes))} free of ${bytes(Number(load.diskTotalBytes))}; log ${bytes(Number(load.logBytes))}, states ${bytes(Number(load.stateBytes))}`}</dd>
          <dt>Load</dt>
          <dd>{`${amount(load.writesPerS, "writes/s")}, ${amount(load.readsPerS, "reads/s")}`}</dd>
          <dt>Started</dt>
          <dd>
            <Time ms={load.startedAtMs} />
          </dd>
          <dt>Last heard of</dt>
          <dd>
            <Time ms={load.observedAtMs} />
          </dd>
        </>
      )}
    </dl>
  );
}

function copied({ inspect }: Asked, name: string): string[] {
  const of = (what: string) => `varia admin ${what} --admin-address ${inspect.adminAddress()}`;
  return [
    ...[`${of("dataserver status")} ${shellWord(name)}`, `${of("event list")} --server ${shellWord(name)}`],
    curl(inspect, GetNodeStatus, { server: name }),
  ];
}

export async function serverPage(asked: Asked): Promise<Page> {
  const [name = ""] = asked.places;
  const status = await clusterStatus(asked);
  const server = status.servers.find((one) => one.name === name || one.internalAddress === name);
  if (server === undefined) throw new PageError(404, `There is no server "${name}".`);
  const events = await lastEvents(asked, { limit: EVENTS_SHOWN, server: server.internalAddress });
  const { word, mood } = serverState(server);
  const held = status.shards.filter(({ replicas }) => replicas.some((one) => one.server === server.internalAddress));
  const body = (
    <>
      <p class="trail">
        <a href="/servers">Servers</a>
      </p>
      <h1>{`Server ${server.name}`}</h1>
      <div class={`verdict ${mood}`} role="status">
        <strong>{word}</strong>
        <span>{server.reason}</span>
      </div>
      <h2>Where it is</h2>
      <dl class="facts card">
        <dt>For clients</dt>
        <dd class="mono">{server.publicAddress}</dd>
        <dt>For the coordinator</dt>
        <dd class="mono">{server.internalAddress}</dd>
        <dt>Replicas</dt>
        <dd>{`${server.replicas}, of which ${server.leaders} lead`}</dd>
      </dl>
      <h2>What it bears</h2>
      <Load server={server} />
      <h2>Shards that it holds</h2>
      {held.length === 0 ? (
        <Empty>It holds none.</Empty>
      ) : (
        <ShardTable shards={held.slice(0, SHARDS_SHOWN)} status={status} />
      )}
      {held.length <= SHARDS_SHOWN ? null : (
        <p>
          <a href={`/shards?server=${encodeURIComponent(server.name)}`}>{`All ${held.length}`}</a>
        </p>
      )}
      {events.length === 0 ? null : (
        <>
          <h2>What has happened to it</h2>
          <EventTable events={events} names={serverNames(status)} />
        </>
      )}
      <CopyAs commands={copied(asked, server.name)} />
    </>
  );
  const still =
    mayDo(asked, "drain-server") && !server.draining ? (
      <Actions>
        <DeedForm name="drain-server" label="Drain and remove" fixed={{ name: server.name }} />
      </Actions>
    ) : null;
  return { title: `Server ${server.name}`, body, live: true, still };
}
