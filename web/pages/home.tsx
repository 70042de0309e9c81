/** @jsxImportSource hono/jsx */
/** The page at `/`: what this server is, how to talk to it, and how its shards stand. */
import type { Overview, ShardOverview } from "../inspect.ts";

export function HomePage({ overview }: { overview: Overview }) {
  const damaged = overview.shards.filter(({ status }) => status === "damaged").length;
  const total = overview.shards.length;
  const verdict =
    damaged === 0 ? `All ${total} shards serve.` : `${damaged} of ${total} shards are damaged and refuse to serve.`;
  return (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>Varia {overview.mode}</title>
        <link rel="stylesheet" href="/style.css" />
      </head>
      <body>
        <header>
          <h1>Varia</h1>
          <p>
            A metadata store and coordination service that speaks Oxia's protocol. This is a{" "}
            <strong>{overview.mode}</strong> server, version {overview.version}, up since{" "}
            <time dateTime={overview.startedAt.toISOString()}>{overview.startedAt.toUTCString()}</time>.
          </p>
          <p class={damaged === 0 ? "verdict good" : "verdict bad"} role="status">
            {verdict}
          </p>
        </header>
        <main>
          <section>
            <h2>Connect</h2>
            <p>
              Oxia clients, gRPC, gRPC-Web and Connect: <code>{overview.publicAddress}</code>
            </p>
            <pre>
              {`varia client -a ${overview.publicAddress} put greeting hello\nvaria client -a ${overview.publicAddress} get greeting`}
            </pre>
          </section>
          <section>
            <h2>Shards</h2>
            {overview.keySorting === undefined ? null : (
              <p>
                Keys are in <strong>{overview.keySorting}</strong> order.
              </p>
            )}
            <ShardTable shards={overview.shards} />
          </section>
          <section>
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
          </section>
        </main>
      </body>
    </html>
  );
}

function ShardTable({ shards }: { shards: readonly ShardOverview[] }) {
  return (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th scope="col">Namespace</th>
            <th scope="col">Shard</th>
            <th scope="col">Status</th>
            <th scope="col">Hash range</th>
            <th scope="col">Term</th>
            <th scope="col">Head</th>
            <th scope="col">Committed</th>
            <th scope="col">Applied</th>
            <th scope="col">Records</th>
          </tr>
        </thead>
        <tbody>
          {shards.map((shard) => (
            <tr>
              <td>{shard.namespace}</td>
              <td class="number">{shard.shard}</td>
              <td>{shard.reason === "" ? shard.status : `${shard.status}: ${shard.reason}`}</td>
              <td class="number">{shard.hashRange.map((bound) => bound.toString(16).padStart(8, "0")).join("–")}</td>
              <td class="number">{shard.term}</td>
              <td class="number">{shard.head}</td>
              <td class="number">{shard.committed}</td>
              <td class="number">{shard.applied}</td>
              <td class="number">{shard.records}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
