/** @jsxImportSource hono/jsx */
/** `/keys`: the records of a namespace, place by place; and one of them, as text, JSON or bytes. */
import type { Child } from "hono/jsx";
import { NamespaceNotFoundError } from "../../src/client/errors.ts";
import type { GetResult } from "../../src/client/records.ts";
import { ListNamespaces } from "../admin.ts";
import { type FoundRecord, findRecord } from "../find-record.ts";
import { readLevel, type TreeLevel } from "../key-tree.ts";
import { type Asked, type Page, PageError } from "../page.ts";
import { Actions, DeedForm, mayDo } from "../parts/actions.tsx";
import { bytes, count, query } from "../parts/format.ts";
import { Badge, CopyAs, Empty, Table, Time } from "../parts/pieces.tsx";
import { hexDump, shellWord, visible } from "../parts/text.ts";
import { partitionKeys } from "../shard-routes.ts";
import { clusterStatus, shardState } from "../view.ts";

/** A longer one is cut, and can be downloaded whole. */
export const VALUE_SHOWN_BYTES_MAX = 64 * 1024;
/** Of a value, in the table. */
const PREVIEW_CHARACTERS = 80;

/** Ranges of shards change when a shard is split, and never otherwise. */
const RANGES_AGE_MS_MAX = 10_000;

const FORMS = ["text", "json", "hex", "base64"] as const;
type Form = (typeof FORMS)[number];

const COMPARISONS = ["equal", "floor", "ceiling", "lower", "higher"] as const;
type Comparison = (typeof COMPARISONS)[number];

export async function keysPage(asked: Asked): Promise<Page> {
  const { query: given } = asked;
  const namespaces = await namespacesOf(asked);
  const namespace = given.get("namespace") ?? namespaces[0]?.name ?? "default";
  const place = given.get("place") ?? "";
  if (place !== "" && !place.endsWith("/")) throw new PageError(400, "A place ends with a slash.");
  const sorting = namespaces.find(({ name }) => name === namespace)?.keySorting;
  if (sorting === undefined) throw new PageError(404, `There is no namespace "${namespace}".`);
  const client = await clientOf(asked, namespace);
  const after = given.get("after") ?? "";
  const routes = await routesOf(asked, namespace);
  const level = await readLevel(client, { place, after, natural: sorting === "natural", routes });
  const address = asked.inspect.clientAddress();
  const body = (
    <>
      <h1>Keys</h1>
      <Jump namespace={namespace} namespaces={namespaces.map(({ name }) => name)} />
      <Trail namespace={namespace} place={place} />
      <Level asked={asked} namespace={namespace} place={place} level={level} />
      <CopyAs
        commands={
          address === undefined
            ? []
            : [
                `varia client -a ${address} -n ${shellWord(namespace)} list --key-min ${shellWord(place)} --key-max ${shellWord(`${place}/`)}`,
              ]
        }
      />
    </>
  );
  const still = mayDo(asked, "put-record") ? (
    <Actions>
      <RecordForm asked={asked} namespace={namespace} recordKey={place} value="" version="" />
    </Actions>
  ) : null;
  return { title: `Keys of ${namespace}`, body, still };
}

async function namespacesOf({ inspect }: Asked) {
  const { namespaces } = await inspect.calls.call(ListNamespaces, {});
  return namespaces.flatMap(({ namespace }) => (namespace === undefined ? [] : [namespace]));
}

async function routesOf(asked: Asked, namespace: string) {
  const { shards } = await clusterStatus({ ...asked, maxAgeMs: RANGES_AGE_MS_MAX });
  return partitionKeys(shards.filter((shard) => shard.namespace === namespace && shardState(shard) !== "deleting"));
}

async function clientOf({ inspect }: Asked, namespace: string) {
  try {
    return await inspect.client(namespace);
  } catch (error) {
    if (error instanceof NamespaceNotFoundError) throw new PageError(404, `There is no namespace "${namespace}".`);
    throw error;
  }
}

function Jump({ namespace, namespaces }: { namespace: string; namespaces: readonly string[] }) {
  return (
    <form class="filters" method="get" action="/keys/record">
      <label>
        Namespace
        <select name="namespace">
          {namespaces.map((name) => (
            <option value={name} selected={name === namespace}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label>
        Key
        <input name="key" data-search autocomplete="off" spellcheck={false} required />
      </label>
      <label>
        Find
        <select name="comparison">
          <option value="equal">this key</option>
          <option value="floor">it or the last before</option>
          <option value="ceiling">it or the first behind</option>
          <option value="lower">the last before</option>
          <option value="higher">the first behind</option>
        </select>
      </label>
      <button type="submit">Go</button>
    </form>
  );
}

function Trail({ namespace, place }: { namespace: string; place: string }) {
  const names = place === "" ? [] : place.slice(0, -1).split("/");
  return (
    <nav class="trail" aria-label="Place">
      <a href={`/keys${query({ namespace })}`}>{namespace}</a>
      {names.map((name, nth) => (
        <>
          {" / "}
          <a href={placePath(namespace, `${names.slice(0, nth + 1).join("/")}/`)}>{name === "" ? "(empty)" : name}</a>
        </>
      ))}
    </nav>
  );
}

function placePath(namespace: string, place: string): string {
  return `/keys${query({ namespace, place })}`;
}

function recordPath(namespace: string, key: string): string {
  return `/keys/record${query({ namespace, key })}`;
}

function Level(props: { asked: Asked; namespace: string; place: string; level: TreeLevel }) {
  const { asked, namespace, place, level } = props;
  const { records, places, after, cut } = level;
  if (records.length === 0 && places.length === 0) return <Empty>There are no keys here.</Empty>;
  return (
    <>
      <Table caption="Keys" head={["Key", "Value", { number: "Size" }, { number: "Version" }, "Changed"]}>
        {places.map((name) => (
          <tr>
            <th scope="row" class="key" colspan={5}>
              <a href={placePath(namespace, `${place}${name}/`)}>
                <bdi>{`${name}/`}</bdi>
              </a>
            </th>
          </tr>
        ))}
        {records.map((record) => (
          <tr>
            <th scope="row" class="key">
              <a href={recordPath(namespace, record.key)}>
                <bdi>{visible(record.key.slice(place.length)) || "(the place itself)"}</bdi>
              </a>
              {record.version.sessionId === undefined ? null : <Badge mood="quiet">ephemeral</Badge>}
            </th>
            <td class="mono key">
              {isMasked(asked, record.key) ? <span class="muted">masked</span> : <bdi>{preview(record.value)}</bdi>}
            </td>
            <td class="n">{bytes(record.value.length)}</td>
            <td class="n">{String(record.version.versionId)}</td>
            <td>
              <Time ms={record.version.modifiedTimestamp} />
            </td>
          </tr>
        ))}
      </Table>
      <nav class="pages" aria-label="Pages of keys">
        <span>{`${count(places.length, "place")}, ${count(records.length, "record")}`}</span>
        {cut ? <span>There are more places than can be shown: jump to a key.</span> : null}
        {after === undefined ? null : <a href={`/keys${query({ namespace, place, after })}`}>More</a>}
      </nav>
    </>
  );
}

function isMasked({ inspect }: Asked, key: string): boolean {
  return inspect.masked.some((prefix) => key.startsWith(prefix));
}

// --- one record -------------------------------------------------------------------------------------------------------

export async function recordPage(asked: Asked): Promise<Page> {
  const { query: given } = asked;
  const namespace = given.get("namespace") ?? "default";
  const key = given.get("key") ?? "";
  if (key === "") throw new PageError(400, "A key is needed.");
  const comparison = oneOf(COMPARISONS, given.get("comparison") ?? "equal");
  const [client, routes] = await Promise.all([clientOf(asked, namespace), routesOf(asked, namespace)]);
  const found = await findRecord(client, { key, comparison, routes });
  if (found === undefined) throw new PageError(404, notFound(key, comparison));
  const { record, route } = found;
  const form = oneOf(FORMS, given.get("as") ?? defaultForm(record.value));
  const isAdmin = asked.visitor.role === "admin";
  const isHidden = isMasked(asked, record.key) && !(isAdmin && given.get("unmasked") === "1");
  const shownAs = { namespace, key: record.key, unmasked: given.get("unmasked") ?? undefined };
  const address = asked.inspect.clientAddress();
  const body = (
    <>
      <Trail namespace={namespace} place={record.key.slice(0, record.key.lastIndexOf("/") + 1)} />
      <h1 class="key">
        <bdi>{visible(record.key)}</bdi>
      </h1>
      <Facts namespace={namespace} record={record} route={route} />
      <h2>{`Value, ${bytes(record.value.length)}`}</h2>
      {isHidden ? (
        <Masked href={isAdmin ? `/keys/record${query({ ...shownAs, unmasked: 1 })}` : undefined} />
      ) : (
        <>
          <p>
            {FORMS.map((one) => (
              <>
                <a
                  class="button"
                  href={`/keys/record${query({ ...shownAs, as: one })}`}
                  aria-current={one === form ? "true" : undefined}
                >
                  {one}
                </a>{" "}
              </>
            ))}
          </p>
          <Value value={record.value} form={form} />
        </>
      )}
      <CopyAs
        commands={
          address === undefined
            ? []
            : [
                `varia client -a ${address} -n ${shellWord(namespace)} get ${shellWord(record.key)}${route === undefined ? "" : ` -p ${route}`} -v`,
              ]
        }
      />
    </>
  );
  return { title: visible(record.key), body, still: recordActions(asked, namespace, found, isHidden) };
}

/** `href`: where an admin sees it. */
function Masked({ href }: { href: string | undefined }) {
  return (
    <p class="card empty">
      {"The value of this key is masked. "}
      {href === undefined ? "An admin may see it." : <a href={href}>Show it</a>}
    </p>
  );
}

/** What is no text, is not whole, is hidden, or ends with its session is not edited here. */
function recordActions(asked: Asked, namespace: string, { record, route }: FoundRecord, isHidden: boolean) {
  const { key, value, version } = record;
  if (!mayDo(asked, "put-record")) return null;
  const text = !isHidden && value.length <= VALUE_SHOWN_BYTES_MAX ? textOf(value) : undefined;
  const editable = text !== undefined && !text.includes("\r") && version.sessionId === undefined;
  const shown = String(version.versionId);
  return (
    <Actions>
      {editable ? (
        <RecordForm
          asked={asked}
          namespace={namespace}
          recordKey={key}
          value={text}
          version={shown}
          needsPartition={route !== undefined}
        />
      ) : null}
      <DeedForm
        name="delete-record"
        label="Delete"
        fixed={{ namespace, key, version: shown, ...(route === undefined ? {} : { partition: route }) }}
      />
    </Actions>
  );
}

/** Writes at once: what it does is what it says. `version`: of the record that is changed; empty: a new one. */
function RecordForm(props: {
  asked: Asked;
  namespace: string;
  recordKey: string;
  value: string;
  version: string;
  needsPartition?: boolean;
}) {
  const { asked, namespace, recordKey, value, version, needsPartition = false } = props;
  return (
    <form method="post" action="/do/put-record">
      <input type="hidden" name="token" value={asked.visitor.formToken} />
      <input type="hidden" name="namespace" value={namespace} />
      <input type="hidden" name="version" value={version} />
      {version === "" ? (
        <label>
          New key
          <input name="key" value={recordKey} autocomplete="off" spellcheck={false} required />
        </label>
      ) : (
        <input type="hidden" name="key" value={recordKey} />
      )}
      <label>
        {version === "" ? "Value" : `Value, in place of version ${version}`}
        <textarea name="value" spellcheck={false}>
          {value}
        </textarea>
      </label>
      <label>
        {needsPartition ? "Partition key, which the server does not tell" : "Partition key, if it has one"}
        <input name="partition" autocomplete="off" spellcheck={false} required={needsPartition} />
      </label>
      {version === "" ? null : (
        <p class="muted">
          Secondary indexes are not told by the server either: a record that is written here has none.
        </p>
      )}
      <button class="primary" type="submit">
        Write
      </button>
    </form>
  );
}

function notFound(key: string, comparison: Comparison): string {
  if (comparison === "equal") return `There is no record with the key "${visible(key)}".`;
  return `No record is found by "${comparison}" from "${visible(key)}".`;
}

function oneOf<T extends string>(all: readonly T[], text: string): T {
  const found = all.find((one) => one === text);
  if (found === undefined) throw new PageError(400, `"${text}" is none of ${all.join(", ")}.`);
  return found;
}

function Facts({ namespace, record, route }: { namespace: string; record: GetResult; route: string | undefined }) {
  const { version } = record;
  const facts: readonly (readonly [string, Child])[] = [
    ["Namespace", namespace],
    ...(route === undefined ? [] : [["Partition key", "it has one, which the server does not tell"] as const]),
    ["Version", String(version.versionId)],
    ["Modifications", String(version.modificationsCount)],
    ["Created", <Time ms={version.createdTimestamp} />],
    ["Changed", <Time ms={version.modifiedTimestamp} />],
    ["Session", version.sessionId === undefined ? "none: it outlives clients" : String(version.sessionId)],
    ["Client", version.clientIdentity ?? "–"],
  ];
  return (
    <dl class="facts card">
      {facts.map(([name, value]) => (
        <>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </>
      ))}
    </dl>
  );
}

function Value({ value, form }: { value: Uint8Array; form: Form }) {
  if (value.length === 0) return <Empty>It is empty.</Empty>;
  const shown = value.subarray(0, VALUE_SHOWN_BYTES_MAX);
  return (
    <>
      <pre class="value" tabindex={0}>
        <bdi>{valueText(shown, form)}</bdi>
      </pre>
      {shown.length === value.length ? null : (
        <p class="muted">{`The first ${bytes(shown.length)} of ${bytes(value.length)}.`}</p>
      )}
    </>
  );
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function textOf(value: Uint8Array): string | undefined {
  try {
    return strictUtf8.decode(value);
  } catch {
    return undefined;
  }
}

function jsonOf(value: Uint8Array): string | undefined {
  const text = textOf(value);
  if (text === undefined || !/^\s*[[{]/.test(text)) return undefined;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return undefined;
  }
}

function defaultForm(value: Uint8Array): Form {
  if (value.length <= VALUE_SHOWN_BYTES_MAX && jsonOf(value) !== undefined) return "json";
  return textOf(value) === undefined ? "hex" : "text";
}

function valueText(value: Uint8Array, form: Form): string {
  switch (form) {
    case "text":
      return visible(new TextDecoder().decode(value), true);
    case "json":
      return visible(jsonOf(value) ?? "It is not JSON.", true);
    case "base64":
      return Buffer.from(value).toString("base64");
    case "hex":
      return hexDump(value);
  }
}

function preview(value: Uint8Array): string {
  const text =
    textOf(value.subarray(0, PREVIEW_CHARACTERS)) ?? new TextDecoder().decode(value.subarray(0, PREVIEW_CHARACTERS));
  return visible(text) + (value.length > PREVIEW_CHARACTERS ? "…" : "");
}
