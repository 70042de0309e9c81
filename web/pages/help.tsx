/** @jsxImportSource hono/jsx */
/** `/help`: keys, words, and what the states mean. */
import type { Page } from "../page.ts";
import { Badge, type Mood, Table } from "../parts/pieces.tsx";
import { MOOD_OF_SHARD, type ShardState } from "../view.ts";

const KEYS: readonly (readonly [string, string])[] = [
  ["/", "search, where there is something to search"],
  ["g o", "overview"],
  ["g n", "namespaces"],
  ["g s", "shards"],
  ["g d", "data servers"],
  ["g p", "operations"],
  ["g e", "events"],
  ["g k", "keys"],
  ["g i", "diagnosis"],
  ["g c", "sessions of clients"],
  ["g w", "notifications, as they come"],
  ["g f", "performance"],
  ["g t", "configuration"],
  ["↓ ↑", "the next row of a table, and the one before"],
  ["?", "this page"],
];

const STATES: Record<ShardState, string> = {
  serving: "It has a leader and all of its replicas.",
  changing: "A replica is being moved or refilled. It serves.",
  degraded: "It serves, and something is wrong: a replica is away, behind, or damaged.",
  "no leader": "It serves nobody until an election succeeds.",
  deleting: "Its namespace was removed.",
};

const WORDS: readonly (readonly [string, string])[] = [
  ["Shard", "a share of a namespace's keys, by the hash of the key; the unit of replication"],
  ["Replica", "one copy of a shard on one data server; it has an id, which ends when its disk is lost"],
  ["Term", "the number of a leadership; only the coordinator raises it"],
  [
    "Head, committed, applied",
    "the last entry on this disk; the last one on a majority of disks; the last one that reads see",
  ],
  ["Behind", "entries that the leader has committed and a replica does not hold"],
];

export function helpPage(): Page {
  const body = (
    <>
      <h1>Help</h1>
      <h2>Keys</h2>
      <Table caption="Keys" head={["Key", "Where it leads"]}>
        {KEYS.map(([key, what]) => (
          <tr>
            <th scope="row">
              <kbd>{key}</kbd>
            </th>
            <td>{what}</td>
          </tr>
        ))}
      </Table>
      <h2>States of a shard</h2>
      <Table caption="States of a shard" head={["State", "What it means"]}>
        {Object.entries(STATES).map(([state, what]) => (
          <tr>
            <th scope="row">
              <Badge mood={MOOD_OF_SHARD[state as ShardState] as Mood}>{state}</Badge>
            </th>
            <td>{what}</td>
          </tr>
        ))}
      </Table>
      <h2>Words</h2>
      <Table caption="Words" head={["Word", "What it means"]}>
        {WORDS.map(([word, what]) => (
          <tr>
            <th scope="row">{word}</th>
            <td>{what}</td>
          </tr>
        ))}
      </Table>
    </>
  );
  return { title: "Help", body };
}
