/** @jsxImportSource hono/jsx */
/** Operations as rows, the newest first. */
import type { Operation } from "../view.ts";
import { duration } from "./format.ts";
import { Badge, type Mood, Table, Time } from "./pieces.tsx";

export const MOOD_OF_OPERATION: Readonly<Record<string, Mood>> = {
  running: "quiet",
  succeeded: "good",
  failed: "bad",
  cancelled: "warn",
};

/** `names`: of servers, by internal address. */
export function OperationTable({
  operations,
  names,
}: {
  operations: readonly Operation[];
  names: ReadonlyMap<string, string>;
}) {
  return (
    <Table
      caption="Operations"
      head={[{ number: "Id" }, "State", "What", "About", "Progress", "Phase or reason", "Begun", "Took"]}
    >
      {operations.map((operation) => (
        <tr id={`operation-${operation.id}`}>
          <th scope="row" class="n">
            <a href={`/operations/${operation.id}`}>{String(operation.id)}</a>
          </th>
          <td>
            <Badge mood={MOOD_OF_OPERATION[operation.state] ?? "quiet"}>{operation.state}</Badge>
          </td>
          <td class="word">{operation.kind}</td>
          <td>{subjectOf(operation, names)}</td>
          <td>
            <Progress operation={operation} />
          </td>
          <td class="key">{operation.state === "running" ? operation.phase : operation.reason}</td>
          <td>
            <Time ms={operation.startedAtMs} />
          </td>
          <td>{tookOf(operation)}</td>
        </tr>
      ))}
    </Table>
  );
}

/** Until now, while it runs. */
export function tookOf({ startedAtMs, endedAtMs }: Operation): string {
  return duration(Number((endedAtMs === 0n ? BigInt(Date.now()) : endedAtMs) - startedAtMs));
}

/** Nothing where it cannot be told. */
export function Progress({ operation: { id, progress, state } }: { operation: Operation }) {
  if (progress === undefined || state !== "running") return null;
  const percent = Math.floor(progress * 100);
  return <progress max={100} value={percent} aria-label={`Operation ${id}: ${percent} %`} />;
}

/** `default/3, s1 to s2`. */
export function subjectOf({ namespace, shard, from, to }: Operation, names: ReadonlyMap<string, string>): string {
  const name = (address: string) => names.get(address) ?? address;
  const where = shard === undefined ? namespace : `${namespace}/${shard}`;
  const servers = from !== "" && to !== "" ? `${name(from)} to ${name(to)}` : name(from || to);
  return [where, servers].filter((text) => text !== "").join(", ");
}
