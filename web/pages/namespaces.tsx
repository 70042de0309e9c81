/** @jsxImportSource hono/jsx */
/** `/namespaces` and `/namespaces/NAME`: what each is set to, and the shards that it has. */
import { GetNamespace, ListNamespaces } from "../admin.ts";
import { seenOf } from "../namespace-deeds.ts";
import { type Asked, type Page, PageError } from "../page.ts";
import { Actions, Choice, DeedForm, mayDo } from "../parts/actions.tsx";
import { amount } from "../parts/chart.tsx";
import { curl } from "../parts/commands.ts";
import { bytes, query } from "../parts/format.ts";
import { Badge, CopyAs, Empty, Table } from "../parts/pieces.tsx";
import { Ring } from "../parts/ring.tsx";
import { shellWord } from "../parts/text.ts";
import { type ClusterStatus, clusterStatus, loadOf, type ShardStatus, serverNames, shardState } from "../view.ts";
import { ShardTable } from "./shards.tsx";

/** More stand on the page of shards. */
const SHARDS_SHOWN = 100;

interface NamespaceLine {
  readonly name: string;
  readonly shards: readonly ShardStatus[];
  /** Undefined where nobody says: a standalone server has one, and its flags. */
  readonly settings: readonly (readonly [name: string, value: string])[];
  readonly replicationFactor?: number;
  readonly notificationsEnabled?: boolean | undefined;
}

export async function namespacesPage(asked: Asked): Promise<Page> {
  const lines = await namespaceLines(asked, await clusterStatus(asked));
  const { inspect } = asked;
  const body = (
    <>
      <h1>Namespaces</h1>
      {lines.length === 0 ? <Empty>No namespace is configured.</Empty> : <NamespaceTable lines={lines} />}
      <CopyAs
        commands={[
          `varia admin namespace list --admin-address ${inspect.adminAddress()}`,
          curl(inspect, ListNamespaces),
        ]}
      />
    </>
  );
  return { title: "Namespaces", body, live: true, still: createForm(asked) };
}

const SWITCH = ["on", "off"];

function createForm(asked: Asked) {
  if (!mayDo(asked, "create-namespace")) return null;
  return (
    <Actions>
      <DeedForm name="create-namespace" label="Create namespace" fixed={{}}>
        <label>
          Name
          <input name="name" autocomplete="off" required />
        </label>
        <NumberField name="shards" label="Shards" value={4} max={10_000} />
        <NumberField name="replicas" label="Replicas" value={3} max={99} />
        <Choice name="sorting" label="Key sorting" options={["hierarchical", "natural"]} />
        <Choice name="notifications" label="Notifications" options={SWITCH} />
      </DeedForm>
    </Actions>
  );
}

function NumberField({ name, label, value, max }: { name: string; label: string; value: number; max: number }) {
  return (
    <label>
      {label}
      <input name={name} type="number" min={1} max={max} value={value} required />
    </label>
  );
}

function changeForms(asked: Asked, { name, replicationFactor = 1, notificationsEnabled }: NamespaceLine) {
  if (!mayDo(asked, "patch-namespace") || !mayDo(asked, "delete-namespace")) return null;
  const seen = seenOf({ replicationFactor, notificationsEnabled });
  return (
    <Actions>
      <DeedForm name="patch-namespace" label="Change" fixed={{ name, seen }}>
        <NumberField name="replicas" label="Replicas" value={replicationFactor} max={99} />
        <Choice
          name="notifications"
          label="Notifications"
          options={SWITCH}
          chosen={notificationsEnabled === false ? "off" : "on"}
        />
      </DeedForm>
      <DeedForm name="delete-namespace" label="Delete namespace" fixed={{ name }} />
    </Actions>
  );
}

function NamespaceTable({ lines }: { lines: readonly NamespaceLine[] }) {
  const settings = lines[0]!.settings.map(([name]) => name);
  return (
    <Table
      caption="Namespaces"
      head={["Namespace", ...["Shards", "With a leader", ...LOAD_HEADS].map((number) => ({ number })), ...settings]}
    >
      {lines.map(({ name, shards, settings: values }) => {
        const led = shards.filter(({ leader }) => leader !== "").length;
        return (
          <tr>
            <th scope="row">
              <a href={`/namespaces/${encodeURIComponent(name)}`}>{name}</a>
            </th>
            <td class="n">{shards.length}</td>
            <td class="n">
              <Badge mood={led === shards.length ? "good" : "bad"}>{led}</Badge>
            </td>
            {loadCells(shards).map((cell) => (
              <td class="n">{cell}</td>
            ))}
            {values.map(([, value]) => (
              <td>{value}</td>
            ))}
          </tr>
        );
      })}
    </Table>
  );
}

const LOAD_HEADS = ["Records", "On disk", "Writes", "Reads"];

/** In the order of LOAD_HEADS. */
function loadCells(shards: readonly ShardStatus[]): string[] {
  const load = loadOf(shards);
  if (load === undefined) return LOAD_HEADS.map(() => "–");
  return [
    String(load.records),
    bytes(Number(load.stateBytes)),
    amount(load.writesPerS, "/s"),
    amount(load.readsPerS, "/s"),
  ];
}

export async function namespacePage(asked: Asked): Promise<Page> {
  const [name = ""] = asked.places;
  const status = await clusterStatus(asked);
  const line = (await namespaceLines(asked, status)).find((one) => one.name === name);
  if (line === undefined) throw new PageError(404, `There is no namespace "${name}".`);
  const names = serverNames(status);
  const living = line.shards.filter((shard) => shardState(shard) !== "deleting");
  const { inspect } = asked;
  const body = (
    <>
      <p class="trail">
        <a href="/namespaces">Namespaces</a>
      </p>
      <h1>{`Namespace ${name}`}</h1>
      <dl class="facts card">
        <dt>Shards</dt>
        <dd>{line.shards.length}</dd>
        {loadCells(line.shards).map((cell, nth) => (
          <>
            <dt>{LOAD_HEADS[nth]}</dt>
            <dd>{cell}</dd>
          </>
        ))}
        {line.settings.map(([setting, value]) => (
          <>
            <dt>{setting}</dt>
            <dd>{value}</dd>
          </>
        ))}
        <dt>Keys</dt>
        <dd>
          <a href={`/keys${query({ namespace: name })}`}>Browse</a>
        </dd>
      </dl>
      <h2>Hashes</h2>
      <Ring shards={living} servers={[...names.keys()]} names={names} />
      <h2>Shards</h2>
      <ShardTable shards={line.shards.slice(0, SHARDS_SHOWN)} status={status} />
      {line.shards.length <= SHARDS_SHOWN ? null : (
        <p>
          <a href={`/shards${query({ namespace: name })}`}>{`All ${line.shards.length}`}</a>
        </p>
      )}
      <CopyAs
        commands={[
          `varia admin namespace get ${shellWord(name)} --admin-address ${inspect.adminAddress()}`,
          curl(inspect, GetNamespace, { namespace: name }),
        ]}
      />
    </>
  );
  return { title: `Namespace ${name}`, body, live: true, still: changeForms(asked, line) };
}

async function namespaceLines({ inspect }: Asked, { shards }: ClusterStatus): Promise<NamespaceLine[]> {
  const shardsOf = Map.groupBy(shards, ({ namespace }) => namespace);
  if (!inspect.calls.serves(ListNamespaces)) {
    return [...shardsOf].map(([name, own]) => ({ name, shards: own, settings: [] }));
  }
  const { namespaces } = await inspect.calls.call(ListNamespaces, {});
  return namespaces.map(({ namespace }) => {
    if (namespace === undefined) return { name: "", shards: [], settings: [] };
    const { name, replicationFactor, keySorting, notificationsEnabled, antiAffinities } = namespace;
    const apart = antiAffinities.map(({ labels, mode }) => `${labels.join(", ")} (${mode})`);
    const settings: NamespaceLine["settings"] = [
      ["Replication factor", String(replicationFactor)],
      ["Key sorting", keySorting],
      ["Notifications", notificationsEnabled === false ? "off" : "on"],
      ["Kept apart by", apart.length === 0 ? "nothing" : apart.join("; ")],
    ];
    return { name, shards: shardsOf.get(name) ?? [], settings, replicationFactor, notificationsEnabled };
  });
}
