/**
 * Edits of the document with the cluster's configuration: what the operator has written beside what changes stays as it
 * is, comments too. A document in JSON stays JSON.
 */
import { type Document, isAlias, isMap, isScalar, isSeq, parseDocument, type YAMLMap, type YAMLSeq } from "yaml";
import type { ConfigEdit } from "../coordination/administer.ts";
import { unreachable } from "../lib/assert.ts";

/** The text with the edit made. Names of the edit that are not there are passed over. */
export function editedDocument(text: string, edit: ConfigEdit): string {
  const document = parseDocument(text);
  apply(document, edit);
  return isJson(text) ? `${JSON.stringify(document.toJS(), undefined, 2)}\n` : document.toString({ lineWidth: 0 });
}

function apply(document: Document, edit: ConfigEdit): void {
  switch (edit.kind) {
    case "add-namespace": {
      const { name, initialShardCount, replicationFactor, notificationsEnabled, keySorting } = edit;
      const fields = { name, initialShardCount, replicationFactor, notificationsEnabled, keySorting };
      add(document, "namespaces", fields);
      return;
    }
    case "set-namespace": {
      const { replicationFactor, notificationsEnabled } = edit;
      set(document, entryOf(document, "namespaces", edit.name), { replicationFactor, notificationsEnabled });
      return;
    }
    case "remove-namespace":
      remove(document, "namespaces", edit.name);
      return;
    case "add-server": {
      const { name, public: address, internal, labels } = edit;
      add(document, "servers", { name, public: address, internal });
      setLabels(document, name, labels);
      return;
    }
    case "set-server": {
      const { public: address, internal, labels } = edit;
      const entry = entryOf(document, "servers", edit.name);
      // a server without a name is called by its internal address, also from now on
      const name = internal === undefined || entry?.has("name") === true ? undefined : edit.name;
      set(document, entry, { name, public: address, internal });
      setLabels(document, edit.name, labels);
      return;
    }
    case "remove-server":
      remove(document, "servers", edit.name);
      drop(document, ["serverMetadata", edit.name]);
      return;
    default:
      unreachable(edit);
  }
}

type Row = Readonly<Record<string, unknown>>;

function add(document: Document, list: string, fields: Row): void {
  let entries = document.get(list, true);
  if (!isSeq(entries)) {
    document.set(list, document.createNode([]));
    entries = document.get(list, true);
  }
  (entries as YAMLSeq).add(document.createNode(present(fields)));
}

function set(document: Document, entry: YAMLMap | undefined, fields: Row): void {
  for (const [name, value] of Object.entries(present(fields))) entry?.set(name, document.createNode(value));
}

function remove(document: Document, list: string, name: string): void {
  const entries = document.get(list, true);
  if (isSeq(entries)) entries.items = entries.items.filter((item) => nameOf(document, item) !== name);
}

function setLabels(document: Document, name: string, labels: ReadonlyMap<string, string> | undefined): void {
  if (labels === undefined) return;
  const path = ["serverMetadata", name, "labels"];
  if (!isMap(document.get("serverMetadata", true))) document.set("serverMetadata", document.createNode({}));
  if (labels.size === 0) drop(document, path);
  else document.setIn(path, document.createNode(Object.fromEntries(labels)));
}

function drop(document: Document, path: readonly string[]): void {
  if (document.hasIn(path)) document.deleteIn(path);
}

function entryOf(document: Document, list: string, name: string): YAMLMap | undefined {
  const entries = document.get(list, true);
  const found = isSeq(entries) ? entries.items.find((item) => nameOf(document, item) === name) : undefined;
  return found === undefined ? undefined : mapOf(document, found);
}

function nameOf(document: Document, item: unknown): string | undefined {
  const map = mapOf(document, item);
  const name = map?.get("name") ?? map?.get("internal");
  return name === undefined || name === null ? undefined : String(isScalar(name) ? name.value : name);
}

function mapOf(document: Document, item: unknown): YAMLMap | undefined {
  const node = isAlias(item) ? item.resolve(document) : item;
  return isMap(node) ? node : undefined;
}

function present(fields: Row): Row {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
