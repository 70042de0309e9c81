/** @jsxImportSource hono/jsx */
/** `/keys/record`: one record, as text, JSON or bytes; or all that have its key, where there are several. */
import type { Child } from "hono/jsx";
import { findRecords } from "../find-record.ts";
import { isMasked, recordAddress, routesOf, shardIdOf, valueAddress } from "../key-space.ts";
import type { Located } from "../merged-scan.ts";
import { type Asked, type Page, PageError } from "../page.ts";
import { Actions, DeedForm, mayDo } from "../parts/actions.tsx";
import { bytes, sessionId } from "../parts/format.ts";
import { CopyAs, Table, Time } from "../parts/pieces.tsx";
import { RecordForm, Trail } from "../parts/record-form.tsx";
import { shellWord, visible } from "../parts/text.ts";
import { defaultForm, FORMS, isEditable, textOf, Value } from "../parts/value.tsx";
import { leadsTo } from "../shard-routes.ts";

/** Of the file that a value is downloaded as. */
const FILE_NAME_CHARACTERS_MAX = 100;

const COMPARISONS = ["equal", "floor", "ceiling", "lower", "higher"] as const;
type Comparison = (typeof COMPARISONS)[number];

/** A record, and how it was asked for. */
interface Shown extends Located {
  readonly asked: Asked;
  readonly namespace: string;
  /** As it was given; "": none was. */
  readonly partitionKey: string;
  /** It is not where its key leads: it has a partition key. */
  readonly isElsewhere: boolean;
}

export async function recordPage(asked: Asked): Promise<Page> {
  const { query: given } = asked;
  const { namespace, key, partitionKey, comparison, found } = await find(asked);
  const [first] = found;
  if (first === undefined) throw new PageError(404, notFound(key, comparison, partitionKey));
  if (found.length > 1) return choicePage(namespace, key, found);
  const { record, route } = first;
  const isElsewhere = !leadsTo(route, record.key);
  const shown: Shown = { asked, namespace, record, route, partitionKey, isElsewhere };
  const form = oneOf(FORMS, given.get("as") ?? defaultForm(record.value));
  const isAdmin = asked.visitor.role === "admin";
  const hidden = isHidden(asked, record.key);
  const unmasked = given.get("unmasked") ?? undefined;
  const address = (more: Record<string, string>) => recordAddress(placeOf(shown), { unmasked, ...more });
  const body = (
    <>
      <Trail namespace={namespace} place={record.key.slice(0, record.key.lastIndexOf("/") + 1)} />
      <h1 class="key">
        <bdi>{visible(record.key)}</bdi>
      </h1>
      <Facts shown={shown} />
      <h2>{`Value, ${bytes(record.value.length)}`}</h2>
      {hidden ? (
        <Masked href={isAdmin ? address({ unmasked: "1" }) : undefined} />
      ) : (
        <>
          <p>
            {FORMS.map((one) => (
              <>
                <a class="button" href={address({ as: one })} aria-current={one === form ? "true" : undefined}>
                  {one}
                </a>{" "}
              </>
            ))}
          </p>
          <Value value={record.value} form={form} whole={valueAddress(placeOf(shown), { unmasked })} />
        </>
      )}
      <CopyAs commands={commands(shown)} />
    </>
  );
  return { title: visible(record.key), body, still: recordActions(shown, hidden) };
}

/** All of a value. Throws PageError for a record that is not there, or whose value its reader may not see. */
export async function recordValue(asked: Asked): Promise<{ readonly name: string; readonly value: Uint8Array }> {
  const { key, comparison, partitionKey, found } = await find(asked);
  const [first] = found;
  if (first === undefined) throw new PageError(404, notFound(key, comparison, partitionKey));
  if (found.length > 1) throw new PageError(409, "Several records have this key: say which, by its shard.");
  const { record } = first;
  if (isHidden(asked, record.key)) throw new PageError(403, "The value of this key is masked.");
  // of text that any file system takes
  const name = record.key.slice(record.key.lastIndexOf("/") + 1).replace(/[^\w.-]/g, "_");
  return { name: /^\.*$/.test(name) ? "value" : name.slice(0, FILE_NAME_CHARACTERS_MAX), value: record.value };
}

/** An admin sees a masked value once it is asked for. */
function isHidden(asked: Asked, key: string): boolean {
  const isAdmin = asked.visitor.role === "admin";
  return isMasked(asked, key) && !(isAdmin && asked.query.get("unmasked") === "1");
}

/** What an address asks for. */
async function find(asked: Asked) {
  const { query: given } = asked;
  const namespace = given.get("namespace") ?? "default";
  const key = given.get("key") ?? "";
  if (key === "") throw new PageError(400, "A key is needed.");
  const comparison = oneOf(COMPARISONS, given.get("comparison") ?? "equal");
  const partitionKey = given.get("partitionKey") ?? "";
  const shard = shardIdOf(given.get("shard") ?? "");
  const [client, routes] = await Promise.all([asked.inspect.client(namespace), routesOf(asked, namespace)]);
  const found = await findRecords(client, { key, comparison, partitionKey, shard, routes });
  return { namespace, key, partitionKey, comparison, found };
}

/** Several shards have a record with the key. */
function choicePage(namespace: string, key: string, found: readonly Located[]): Page {
  const body = (
    <>
      <Trail namespace={namespace} place={key.slice(0, key.lastIndexOf("/") + 1)} />
      <h1 class="key">
        <bdi>{visible(key)}</bdi>
      </h1>
      <p>Several records have this key, each with another partition key.</p>
      <Table caption="Records" head={["Shard", { number: "Size" }, { number: "Version" }, "Changed"]}>
        {found.map(({ record, route }) => (
          <tr>
            <th scope="row">
              <a href={recordAddress({ namespace, key, shard: route.shard })}>{`${namespace}/${route.shard}`}</a>
            </th>
            <td class="n">{bytes(record.value.length)}</td>
            <td class="n">{String(record.version.versionId)}</td>
            <td>
              <Time ms={record.version.modifiedTimestamp} />
            </td>
          </tr>
        ))}
      </Table>
    </>
  );
  return { title: visible(key), body };
}

/** The same record again: its shard is named where nothing else leads there. */
function placeOf({ namespace, record, route, partitionKey, isElsewhere }: Shown) {
  const at = partitionKey !== "" ? { partitionKey } : isElsewhere ? { shard: route.shard } : {};
  return { namespace, key: record.key, ...at };
}

/** With a partition key that leads to the shard, where the record's own is not known. */
function commands({ asked, namespace, record, route, partitionKey, isElsewhere }: Shown): string[] {
  const address = asked.inspect.clientAddress();
  if (address === undefined) return [];
  const leading = partitionKey !== "" ? partitionKey : isElsewhere ? route.partitionKey : "";
  const flag = leading === "" ? "" : ` -p ${shellWord(leading)}`;
  return [`varia client -a ${address} -n ${shellWord(namespace)} get ${shellWord(record.key)} -v${flag}`];
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
function recordActions(shown: Shown, hidden: boolean) {
  const { asked, namespace, partitionKey, isElsewhere } = shown;
  if (!mayDo(asked, "put-record")) return null;
  const { key, value, version } = shown.record;
  const editable = !hidden && isEditable(value) && version.sessionId === undefined;
  const { shard } = shown.route;
  const versionText = String(version.versionId);
  const at = partitionKey !== "" ? { partitionKey } : isElsewhere ? { shard: String(shard) } : {};
  return (
    <Actions>
      {editable ? (
        <RecordForm
          {...{ asked, namespace, shard, partitionKey, isElsewhere }}
          recordKey={key}
          value={textOf(value)!}
          version={versionText}
        />
      ) : null}
      <DeedForm name="delete-record" label="Delete" fixed={{ namespace, key, version: versionText, ...at }} />
    </Actions>
  );
}

function notFound(key: string, comparison: Comparison, partitionKey: string): string {
  const where = partitionKey === "" ? "" : ` where the partition key "${visible(partitionKey)}" leads`;
  if (comparison === "equal") return `There is no record with the key "${visible(key)}"${where}.`;
  return `No record is found by "${comparison}" from "${visible(key)}"${where}.`;
}

function oneOf<T extends string>(all: readonly T[], text: string): T {
  const found = all.find((one) => one === text);
  if (found === undefined) throw new PageError(400, `"${text}" is none of ${all.join(", ")}.`);
  return found;
}

function Facts({ shown }: { shown: Shown }) {
  const { namespace, record, route } = shown;
  const { version } = record;
  const facts: readonly (readonly [string, Child])[] = [
    ["Namespace", namespace],
    ["Shard", <a href={`/shards/${encodeURIComponent(namespace)}/${route.shard}`}>{`${namespace}/${route.shard}`}</a>],
    ["Partition key", partitionKeyWords(shown)],
    ["Version", String(version.versionId)],
    ["Modifications", String(version.modificationsCount)],
    ["Created", <Time ms={version.createdTimestamp} />],
    ["Changed", <Time ms={version.modifiedTimestamp} />],
    ["Session", sessionWords(shown)],
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

function sessionWords({ namespace, record, route }: Shown): Child {
  const { sessionId: id } = record.version;
  if (id === undefined) return "none: it outlives clients";
  return <a href={`/sessions/${encodeURIComponent(namespace)}/${route.shard}/${id}`}>{sessionId(BigInt(id))}</a>;
}

function partitionKeyWords({ partitionKey, isElsewhere }: Shown): Child {
  if (partitionKey !== "") return <bdi>{visible(partitionKey)}</bdi>;
  if (isElsewhere) return "one that servers do not tell: its key alone leads to another shard";
  return "none, or one that leads to the same shard as its key";
}
