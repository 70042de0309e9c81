/** @jsxImportSource hono/jsx */
/** The form that writes a record, and where a record is among the others. */
import type { Asked } from "../page.ts";
import { AddressLink } from "./address-link.tsx";
import { query } from "./format.ts";
import { visible } from "./text.ts";

interface RecordFormProps {
  readonly asked: Asked;
  readonly namespace: string;
  readonly recordKey: string;
  readonly value: string;
  /** Of the record that is changed; empty: it is a new one. */
  readonly version: string;
  /** That the record was found by. */
  readonly partitionKey?: string;
  /** Holds the record that is changed. */
  readonly shard?: bigint;
  /** The record is not where its key leads: without its partition key a change would be another record. */
  readonly isElsewhere?: boolean;
}

/** Writes at once: what it does is what it says. */
export function RecordForm(props: RecordFormProps) {
  const { asked, namespace, recordKey, value, version, partitionKey = "", shard, isElsewhere = false } = props;
  return (
    <form method="post" action="/do/put-record">
      <input type="hidden" name="token" value={asked.visitor.formToken} />
      <input type="hidden" name="namespace" value={namespace} />
      <input type="hidden" name="version" value={version} />
      {shard === undefined ? null : <input type="hidden" name="shard" value={String(shard)} />}
      {version === "" ? (
        <label>
          New key
          <input name="key" value={recordKey} autocomplete="off" spellcheck={false} required />
        </label>
      ) : (
        <input type="hidden" name="key" value={recordKey} />
      )}
      <label>
        {isElsewhere ? "Partition key that it was written with" : "Partition key, if it has one"}
        <input
          name="partitionKey"
          value={partitionKey}
          autocomplete="off"
          spellcheck={false}
          required={isElsewhere && partitionKey === ""}
        />
      </label>
      <label>
        {version === "" ? "Value" : `Value, in place of version ${version}`}
        <textarea name="value" spellcheck={false}>
          {/* what reads HTML drops a line end that stands first */}
          {`\n${value}`}
        </textarea>
      </label>
      {version === "" ? null : (
        <p class="muted">Servers do not tell a record's secondary index entries: written here, it has none any more.</p>
      )}
      <button class="primary" type="submit">
        Write
      </button>
    </form>
  );
}

/** From the namespace to a place, each name with the slash that ends it. */
export function Trail({ namespace, place }: { namespace: string; place: string }) {
  const names = place === "" ? [] : place.slice(0, -1).split("/");
  return (
    <nav class="trail" aria-label="Place">
      <a href={`/keys${query({ namespace })}`}>{namespace}</a>
      {names.map((name, nth) => (
        <>
          {" › "}
          <AddressLink to={placePath(namespace, `${names.slice(0, nth + 1).join("/")}/`)} text={visible(`${name}/`)} />
        </>
      ))}
    </nav>
  );
}

export function placePath(namespace: string, place: string): string {
  return `/keys${query({ namespace, place })}`;
}
