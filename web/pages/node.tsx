/** @jsxImportSource hono/jsx */
/** This process: what it is, what it costs, the replicas that it holds, and how to talk to it. */
import { GetClusterStatus, GetNodeStatus } from "../admin.ts";
import type { Asked, Page } from "../page.ts";
import { curl } from "../parts/commands.ts";
import { bytes, duration, offset } from "../parts/format.ts";
import { Badge, CopyAs, Empty, type Mood, Table, Tile, Time } from "../parts/pieces.tsx";
import { ProcessTrail } from "../parts/process-trail.tsx";
import { type NodeStatus, nodeStatus, processOf } from "../view.ts";

export const REPLICAS_SHOWN = 200;
const MOODS: Readonly<Record<string, Mood>> = {
  leader: "good",
  follower: "good",
  fenced: "warn",
  "not-member": "quiet",
  damaged: "bad",
};

export async function nodePage(asked: Asked): Promise<Page> {
  const node = await nodeStatus(asked);
  const { calls, clientAddress, adminAddress } = asked.inspect;
  const process = processOf(asked);
  const body = (
    <>
      <ProcessTrail process={process} />
      <h1>{process.server === undefined ? "This process" : "Process"}</h1>
      <Verdict node={node} />
      <Numbers node={node} />
      <h2>Connect</h2>
      {process.server === undefined ? (
        <Connect client={clientAddress()} admin={calls.serves(GetClusterStatus) ? adminAddress() : undefined} />
      ) : (
        <Connect client={node.publicAddress} admin={undefined} />
      )}
      {node.mode === "coordinator" ? null : (
        <>
          <h2>Replicas here</h2>
          <Replicas node={node} />
        </>
      )}
      {process.server === undefined ? <ForMachines /> : null}
      <CopyAs commands={[curl(asked.inspect, GetNodeStatus, process)]} />
    </>
  );
  return { title: process.server === undefined ? "This process" : `Process of ${process.server}`, body, live: true };
}

function ForMachines() {
  return (
    <>
      <h2>For machines</h2>
      <ul>
        <li>
          <a href="/metrics">/metrics</a>: Prometheus text
        </li>
        <li>
          <a href="/livez">/livez</a>: the process runs
        </li>
        <li>
          <a href="/readyz?verbose">/readyz?verbose</a>: it takes requests
        </li>
      </ul>
    </>
  );
}

function Verdict({ node }: { node: NodeStatus }) {
  const damaged = node.replicas.filter(({ status }) => status === "damaged");
  const leaders = node.replicas.filter(({ status }) => status === "leader").length;
  const what =
    node.mode === "coordinator"
      ? "It coordinates."
      : `It leads ${leaders} of the ${node.replicas.length} replicas here.`;
  return (
    <div class={`verdict ${damaged.length === 0 ? "good" : "bad"}`} role="status">
      <strong>{damaged.length === 0 ? "Running" : "Damaged"}</strong>
      <span>
        {damaged.length === 0 ? what : `${damaged.length} of ${node.replicas.length} replicas refuse to serve.`}
      </span>
    </div>
  );
}

function Numbers({ node }: { node: NodeStatus }) {
  const upMs = Date.now() - Number(node.startedAtMs);
  return (
    <dl class="tiles">
      <Tile name="Mode">{node.mode}</Tile>
      <Tile name="Version">{node.version}</Tile>
      <Tile name="Up since">
        <small>
          <Time ms={node.startedAtMs} />
        </small>
      </Tile>
      <Tile name="CPU since then">
        {((Number(node.cpuMs) / Math.max(1, upMs)) * 100).toFixed(0)} %{" "}
        <small>of a core, {duration(Number(node.cpuMs))}</small>
      </Tile>
      <Tile name="Resident memory">{bytes(Number(node.residentBytes))}</Tile>
    </dl>
  );
}

function Connect({ client, admin }: { client: string | undefined; admin: string | undefined }) {
  const commands = [
    ...(client === undefined
      ? []
      : [`varia client -a ${client} put greeting hello`, `varia client -a ${client} get greeting`]),
    ...(admin === undefined ? [] : [`varia status --admin-address ${admin}`]),
  ];
  return (
    <pre tabindex={0}>
      <code>{commands.join("\n")}</code>
    </pre>
  );
}

function Replicas({ node }: { node: NodeStatus }) {
  const { replicas } = node;
  if (replicas.length === 0) return <Empty>None lives here: a coordinator gives it some.</Empty>;
  const numbers = ["Promised term", "Head", "Committed", "Applied", "Records", "Sessions"].map((number) => ({
    number,
  }));
  return (
    <>
      <Table caption="Replicas here" head={["Shard", "Status", ...numbers, "Why"]}>
        {replicas.slice(0, REPLICAS_SHOWN).map((replica) => (
          <tr>
            <th scope="row">{`${replica.namespace}/${replica.shard}`}</th>
            <td>
              <Badge mood={MOODS[replica.status] ?? "quiet"}>{replica.status}</Badge>
            </td>
            <td class="n">{offset(replica.promise)}</td>
            <td class="n">{offset(replica.headOffset)}</td>
            <td class="n">{offset(replica.commitOffset)}</td>
            <td class="n">{offset(replica.appliedOffset)}</td>
            <td class="n">{String(replica.records)}</td>
            <td class="n">{String(replica.sessions)}</td>
            <td class="key">{replica.reason}</td>
          </tr>
        ))}
      </Table>
      {replicas.length <= REPLICAS_SHOWN ? null : <p class="muted">{`and ${replicas.length - REPLICAS_SHOWN} more`}</p>}
    </>
  );
}
