/** Changes of namespaces. */
import { createNamespace, patchNamespace } from "../src/coordination/administer.ts";
import { CreateNamespace, DeleteNamespace, GetClusterStatus, ListNamespaces, PatchNamespace } from "./admin.ts";
import { deed, needs, newestOperation, wholeNumber } from "./deed.ts";
import { configured } from "./deed-checks.ts";
import type { Inspect } from "./inspect.ts";
import { PageError } from "./page.ts";
import { count } from "./parts/format.ts";
import { shellWord } from "./parts/text.ts";

export const NAMESPACE_DEEDS = {
  "create-namespace": deed({
    title: "Create namespace",
    verb: "Create",
    fields: ["name", "shards", "replicas", "sorting", "notifications"],
    needs: needs(CreateNamespace, ListNamespaces),
    async preview(inspect, { name, shards, replicas, sorting, notifications }) {
      const request = {
        name,
        initialShardCount: Number(wholeNumber(shards)),
        replicationFactor: Number(wholeNumber(replicas)),
      };
      createNamespace(await configured(inspect), { ...UNSET, ...request, keySorting: sorting });
      const wanted = wholeNumber(replicas);
      const lines = [
        `The namespace ${name} will have ${count(wholeNumber(shards), "shard")} with ${count(wanted, "replica")} each.`,
        `Its keys are in the order ${sorting}, and its changes can${notifications === "on" ? "" : "not"} be followed.`,
        "The number of shards and the order of keys stay as they are.",
      ];
      const flags = `--initial-shards ${shards} --replication-factor ${replicas} --key-sorting ${shellWord(sorting)}`;
      return {
        lines,
        command: namespaceCommand(inspect, "create", name, `${flags} --notifications ${notifications === "on"}`),
      };
    },
    async run({ calls }, { name, shards, replicas, sorting, notifications }) {
      const namespace = {
        ...{ name, keySorting: sorting, notificationsEnabled: notifications === "on" },
        initialShardCount: Number(wholeNumber(shards)),
        replicationFactor: Number(wholeNumber(replicas)),
      };
      await calls.call(CreateNamespace, { namespace });
      return newestOperation(calls, "create-namespace", namespaceAddress(name));
    },
  }),
  "patch-namespace": deed({
    title: "Change namespace",
    verb: "Change",
    fields: ["name", "replicas", "notifications", "seen"],
    needs: needs(PatchNamespace, ListNamespaces),
    async preview(inspect, { name, replicas, notifications, seen }) {
      await requireSeen(inspect, name, seen);
      const replicationFactor = Number(wholeNumber(replicas));
      if (replicationFactor === 0) throw new PageError(400, "A shard has at least 1 replica.");
      patchNamespace(await configured(inspect), { ...UNSET, name, replicationFactor });
      const lines = [
        `The namespace ${name} will have ${count(wholeNumber(replicas), "replica")} of each shard that is made from now on.`,
        `Its changes can${notifications === "on" ? "" : "not"} be followed.`,
      ];
      const flags = `--replication-factor ${replicas} --notifications ${notifications === "on"}`;
      return { lines, command: namespaceCommand(inspect, "patch", name, flags) };
    },
    async run(inspect, { name, replicas, notifications, seen }) {
      await requireSeen(inspect, name, seen);
      const namespace = {
        ...{ name, notificationsEnabled: notifications === "on" },
        replicationFactor: Number(wholeNumber(replicas)),
      };
      await inspect.calls.call(PatchNamespace, { namespace });
      return namespaceAddress(name);
    },
  }),
  "delete-namespace": deed({
    title: "Delete namespace",
    isDestructive: true,
    verb: "Delete",
    fields: ["name"],
    needs: needs(DeleteNamespace, ListNamespaces),
    async preview(inspect, { name }) {
      await settingsOf(inspect, name);
      const { shards } = await inspect.calls.call(GetClusterStatus, {});
      const own = shards.filter((shard) => shard.namespace === name).length;
      const lines = [
        `The namespace ${name} and the data of its ${count(own, "shard")} will be deleted, on all servers.`,
      ];
      return { lines, command: namespaceCommand(inspect, "delete", name), typed: name };
    },
    async run({ calls }, { name }) {
      await calls.call(DeleteNamespace, { namespace: name });
      return newestOperation(calls, "delete-namespace", "/namespaces");
    },
  }),
};

/** Of a request that names none of them. */
const UNSET = { initialShardCount: 0, notificationsEnabled: undefined, keySorting: "", hasAntiAffinities: false };

/** What a namespace is set to, as a form says what its reader saw. */
export function seenOf({ replicationFactor, notificationsEnabled }: NamespaceSettings): string {
  return `${replicationFactor} ${notificationsEnabled === false ? "off" : "on"}`;
}

interface NamespaceSettings {
  readonly replicationFactor: number;
  readonly notificationsEnabled?: boolean | undefined;
}

async function requireSeen(inspect: Inspect, name: string, seen: string): Promise<void> {
  const now = seenOf(await settingsOf(inspect, name));
  if (now !== seen)
    throw new PageError(409, `Somebody has changed the namespace ${name} since you saw it: look at it again.`);
}

async function settingsOf({ calls }: Inspect, name: string): Promise<NamespaceSettings> {
  const { namespaces } = await calls.call(ListNamespaces, {});
  const found = namespaces.find(({ namespace }) => namespace?.name === name)?.namespace;
  if (found === undefined) throw new PageError(404, `There is no namespace "${name}".`);
  return found;
}

function namespaceCommand({ adminAddress }: Inspect, what: string, name: string, flags = ""): string {
  return `varia admin namespace ${what} --admin-address ${adminAddress()} ${shellWord(name)} ${flags}`.trim();
}

function namespaceAddress(name: string): string {
  return `/namespaces/${encodeURIComponent(name)}`;
}
