/** @jsxImportSource hono/jsx */
/** `/operations` and `/operations/ID`: what was asked for that takes time, and how far it is. */
import { OPERATION_KINDS, OPERATION_STATES } from "../../src/coordination/operation-list.ts";
import { GetOperation, ListOperations } from "../admin.ts";
import { type Asked, type Page, PageError } from "../page.ts";
import { Actions, Choice, DeedForm, mayDo } from "../parts/actions.tsx";
import { curl } from "../parts/commands.ts";
import { query } from "../parts/format.ts";
import { MOOD_OF_OPERATION, OperationTable, Progress, subjectOf, tookOf } from "../parts/operation-table.tsx";
import { CopyAs, Empty, Time } from "../parts/pieces.tsx";
import { clusterStatus, type Operation, serverNames } from "../view.ts";

const OPERATIONS_PER_PAGE = 100;
const ALL = "all";

export async function operationsPage(asked: Asked): Promise<Page> {
  const { inspect, query: given } = asked;
  const chosen = (name: string) => (given.get(name) === ALL ? "" : (given.get(name) ?? ""));
  const filter = { kind: chosen("kind"), state: chosen("state") };
  const request = { ...filter, beforeId: BigInt(numberOf(given, "before")), limit: OPERATIONS_PER_PAGE };
  const [{ operations, hasMore }, names] = await Promise.all([
    inspect.calls.call(ListOperations, request),
    namesOf(asked),
  ]);
  const body = (
    <>
      <h1>Operations</h1>
      <form class="filters" method="get" action="/operations">
        <Choice name="kind" label="Kind" options={[ALL, ...OPERATION_KINDS]} chosen={filter.kind} />
        <Choice name="state" label="State" options={[ALL, ...OPERATION_STATES]} chosen={filter.state} />
        <button type="submit">Show</button>
      </form>
      {operations.length === 0 ? (
        <Empty>Nothing that takes time has been asked for.</Empty>
      ) : (
        <OperationTable operations={operations} names={names} />
      )}
      <nav class="pages" aria-label="Pages of operations">
        {given.has("before") ? <a href={`/operations${query(filter)}`}>Newest</a> : null}
        {hasMore ? <a href={`/operations${query({ ...filter, before: operations.at(-1)!.id })}`}>Older</a> : null}
      </nav>
      <CopyAs
        commands={[
          `varia admin operation list --admin-address ${inspect.adminAddress()}`,
          curl(inspect, ListOperations),
        ]}
      />
    </>
  );
  return { title: "Operations", body, live: !given.has("before") };
}

export async function operationPage(asked: Asked): Promise<Page> {
  const [id = ""] = asked.places;
  const operation = await operationOf(asked, id);
  const names = await namesOf(asked);
  const { kind, state, phase, reason, startedAtMs, endedAtMs, cancellable } = operation;
  const title = `Operation ${id}`;
  const body = (
    <>
      <p class="trail">
        <a href="/operations">Operations</a>
      </p>
      <h1>{title}</h1>
      <div
        class={`verdict ${MOOD_OF_OPERATION[state] ?? "quiet"}`}
        role="status"
        data-ended={state === "running" ? undefined : ""}
      >
        <strong>{state}</strong>
        <span>{state === "running" ? phase : reason}</span>
        <Progress operation={operation} />
      </div>
      <h2>What was asked for</h2>
      <dl class="facts card">
        <dt>What</dt>
        <dd>{kind}</dd>
        <dt>About</dt>
        <dd>{subjectOf(operation, names)}</dd>
        <dt>Begun</dt>
        <dd>
          <Time ms={startedAtMs} />
        </dd>
        <dt>Ended</dt>
        <dd>{endedAtMs === 0n ? "it runs" : <Time ms={endedAtMs} />}</dd>
        <dt>Took</dt>
        <dd>{tookOf(operation)}</dd>
      </dl>
      <CopyAs
        commands={[
          `varia admin operation watch --admin-address ${asked.inspect.adminAddress()} ${id}`,
          curl(asked.inspect, GetOperation, { id: String(id) }),
        ]}
      />
    </>
  );
  const still =
    cancellable && mayDo(asked, "cancel-operation") ? (
      <div class="while-running">
        <Actions>
          <DeedForm name="cancel-operation" label="Cancel" fixed={{ id }} />
        </Actions>
      </div>
    ) : null;
  return { title, body, live: true, still };
}

async function operationOf({ inspect }: Asked, id: string): Promise<Operation> {
  if (!/^\d{1,15}$/.test(id)) throw new PageError(404, `There is no operation ${id}.`);
  const { operation } = await inspect.calls.call(GetOperation, { id: BigInt(id) });
  return operation!;
}

/** It is shown without names while the servers cannot be asked. */
async function namesOf(asked: Asked): Promise<ReadonlyMap<string, string>> {
  const status = await clusterStatus(asked).catch(() => undefined);
  return status === undefined ? new Map() : serverNames(status);
}

function numberOf(given: URLSearchParams, name: string): number {
  const text = given.get(name) ?? "0";
  if (!/^\d{1,15}$/.test(text)) throw new PageError(400, `"${text}" is not a number.`);
  return Number(text);
}
