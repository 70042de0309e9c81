/** @jsxImportSource hono/jsx */
/** The hashes of one namespace as a band from 0 to 2³²−1, each shard in the colour of its leader. */
import { byHash, type ShardStatus } from "../view.ts";
import { hash } from "./format.ts";

const WIDTH = 1000;
const HASHES = 2 ** 32;
/** Colours that the sheet has; with more servers than these some share one, and the table tells them apart. */
const COLOURS = 8;

/** `servers`: internal addresses, in the order that decides about colours. */
export function Ring({
  shards,
  servers,
  names,
}: {
  shards: readonly ShardStatus[];
  servers: readonly string[];
  names: ReadonlyMap<string, string>;
}) {
  const colour = (leader: string) => (servers.includes(leader) ? `${servers.indexOf(leader) % COLOURS}` : "none");
  const label = `${shards.length} shards over the hashes from 0 to 2³²−1`;
  const leaders = servers.filter((server) => shards.some(({ leader }) => leader === server));
  return (
    <>
      <svg class="ring" viewBox={`0 0 ${WIDTH} 52`} preserveAspectRatio="none" role="img" aria-label={label}>
        {[...shards].sort(byHash).map(({ shard, minHashInclusive, maxHashInclusive, leader }) => (
          <rect
            class={`f${colour(leader)}`}
            x={((minHashInclusive / HASHES) * WIDTH).toFixed(3)}
            width={(((maxHashInclusive - minHashInclusive + 1) / HASHES) * WIDTH).toFixed(3)}
            y="0"
            height="52"
          >
            <title>{`shard ${shard}: ${hash(minHashInclusive)}–${hash(maxHashInclusive)}, ${leader === "" ? "no leader" : `led by ${names.get(leader) ?? leader}`}`}</title>
          </rect>
        ))}
      </svg>
      <ul class="legend" aria-label="Colours">
        {leaders.map((server) => (
          <li>
            <span class={`swatch b${colour(server)}`} />
            {names.get(server) ?? server}
          </li>
        ))}
        {shards.some(({ leader }) => !servers.includes(leader)) ? (
          <li>
            <span class="swatch bnone" />
            no leader
          </li>
        ) : null}
      </ul>
    </>
  );
}
