/**
 * What can be changed from a page: each is shown first, with what it will do, and carried out by a form that belongs to
 * its session. All of it goes through the methods that everybody has.
 *
 *     GET /do/NAME?fields ─> what will change ─> POST /do/NAME ─> done ─> the page that shows it
 */
import { UnexpectedVersionIdError } from "../src/client/errors.ts";
import { createNamespace } from "../src/coordination/administer.ts";
import { SHARD_FREEZE_MS_MAX } from "../src/model/limits.ts";
import { LOG_LEVELS } from "../src/ops/logger.ts";
import {
  CancelOperation,
  CloseSession,
  CreateNamespace,
  DeleteNamespace,
  DrainServer,
  FreezeShard,
  GetClusterStatus,
  GetOperation,
  GetSession,
  ListNamespaces,
  ListOperations,
  PatchNamespace,
  SetLogLevel,
  SwapReplica,
  SwitchLeader,
} from "./admin.ts";
import { configured, shardOf } from "./deed-checks.ts";
import type { Inspect, MethodOf } from "./inspect.ts";
import { PageError } from "./page.ts";
import { count, query, sessionId } from "./parts/format.ts";
import { shellWord, visible } from "./parts/text.ts";

type Fields = Readonly<Record<string, string>>;

export interface Preview {
  /** What will be, a sentence each. */
  readonly lines: readonly string[];
  /** The same as a command; undefined: there is none. */
  readonly command: string | undefined;
  /** To be typed before it is done; undefined: it can be taken back. */
  readonly typed?: string;
}

export interface Deed {
  readonly title: string;
  /** On the button. */
  readonly verb: string;
  /** Names of its fields; more are not taken. */
  readonly fields: readonly string[];
  /** What it changes, for the events. */
  readonly about: (fields: Fields) => string;
  /** It is there where all of these are served. */
  readonly needs: readonly MethodOf<never, never>[];
  /** Throws PageError for what cannot be meant. */
  readonly preview: (inspect: Inspect, fields: Fields) => Promise<Preview>;
  /** Resolves to the address of the page that shows what has become of it. */
  readonly run: (inspect: Inspect, fields: Fields) => Promise<string>;
}

/** By one request. */
const FREEZE_SECONDS_MAX = SHARD_FREEZE_MS_MAX / 1_000;

/** The shard, the namespace and key, or the name that a form is about; never a value. */
function aboutOf({ namespace = "", shard = "", key = "", name = "", id = "" }: Fields): string {
  const where = [namespace, shard, visible(key)].filter((text) => text !== "").join("/");
  return [where, name, id].filter((text) => text !== "").join(" ");
}

/** A deed whose fields are known by their names. */
function deed<const Name extends string>(
  it: Omit<Deed, "fields" | "about" | "preview" | "run"> & {
    readonly fields: readonly Name[];
    readonly preview: (inspect: Inspect, fields: Readonly<Record<Name, string>>) => Promise<Preview>;
    readonly run: (inspect: Inspect, fields: Readonly<Record<Name, string>>) => Promise<string>;
  },
): Deed {
  return { ...(it as unknown as Deed), about: aboutOf };
}

export const DEEDS: Readonly<Record<string, Deed>> = {
  "swap-replica": deed({
    title: "Move replica",
    verb: "Move",
    fields: ["namespace", "shard", "from", "to"],
    needs: needs(SwapReplica),
    async preview(inspect, { namespace, shard, from, to }) {
      const { members, servers } = await shardOf(inspect, { namespace, shard });
      if (!members.includes(from)) throw new PageError(400, `${from} holds no replica of shard ${namespace}/${shard}.`);
      if (!servers.includes(to)) throw new PageError(404, `There is no data server ${to}.`);
      if (to !== from && members.includes(to))
        throw new PageError(400, `${to} holds a replica of shard ${namespace}/${shard} already.`);
      const what =
        from === to
          ? `The replica of shard ${namespace}/${shard} on ${from} will be filled anew, if its id has ended.`
          : `A replica of shard ${namespace}/${shard} will be filled on ${to}; then it takes the place of the one on ${from}, which is deleted.`;
      const lines = [what, "The shard serves meanwhile. How long it takes depends on how much it holds."];
      const flags = `--shard ${shard} --from ${shellWord(from)} --to ${shellWord(to)}`;
      return { lines, command: shardCommand(inspect, "swap", namespace, flags) };
    },
    async run({ calls }, { namespace, shard, from, to }) {
      const swap = { namespace, shard: wholeNumber(shard), from, to, detach: true };
      return operationAddress((await calls.call(SwapReplica, swap)).operation);
    },
  }),
  "switch-leader": deed({
    title: "Switch leader",
    verb: "Switch",
    fields: ["namespace", "shard", "to"],
    needs: needs(SwitchLeader),
    async preview(inspect, { namespace, shard, to }) {
      const { leader, members } = await shardOf(inspect, { namespace, shard });
      if (!members.includes(to)) throw new PageError(400, `${to} holds no replica of shard ${namespace}/${shard}.`);
      if (to === leader) throw new PageError(409, `${to} leads shard ${namespace}/${shard} already.`);
      const lines = [
        `Shard ${namespace}/${shard}, which ${leader} leads, will be led by ${to}.`,
        "Writes wait until that one holds all that the leader does: some milliseconds.",
      ];
      const flags = `--shard ${shard} --to ${shellWord(to)}`;
      return { lines, command: shardCommand(inspect, "switch-leader", namespace, flags) };
    },
    async run({ calls }, { namespace, shard, to }) {
      return operationAddress((await calls.call(SwitchLeader, { namespace, shard: wholeNumber(shard), to })).operation);
    },
  }),
  "freeze-shard": deed({
    title: "Freeze shard",
    verb: "Freeze",
    fields: ["namespace", "shard", "seconds"],
    needs: needs(FreezeShard),
    async preview(inspect, { namespace, shard, seconds }) {
      await shardOf(inspect, { namespace, shard });
      const lines = [
        `Shard ${namespace}/${shard} will take no writes for ${count(frozenSeconds(seconds), "second")}; clients wait, or give up.`,
        "Reads go on. It can be thawed before, on the page of the operation.",
      ];
      return { lines, command: shardCommand(inspect, "freeze", namespace, `--shard ${shard} --for ${seconds}s`) };
    },
    async run({ calls }, { namespace, shard, seconds }) {
      const freeze = { namespace, shard: wholeNumber(shard), forMs: frozenSeconds(seconds) * 1_000 };
      return operationAddress((await calls.call(FreezeShard, freeze)).operation);
    },
  }),
  "cancel-operation": deed({
    title: "Cancel operation",
    verb: "Cancel it",
    fields: ["id"],
    needs: needs(CancelOperation),
    async preview({ calls, adminAddress }, { id }) {
      const { operation } = await calls.call(GetOperation, { id: wholeNumber(id) });
      if (operation?.cancellable !== true) throw new PageError(409, `Operation ${id} cannot be cancelled any more.`);
      const command = `varia admin operation cancel --admin-address ${adminAddress()} ${id}`;
      return { lines: [WHAT_CANCELLING_DOES[operation.kind] ?? "It will end as soon as it can."], command };
    },
    async run({ calls }, { id }) {
      return operationAddress((await calls.call(CancelOperation, { id: wholeNumber(id) })).operation);
    },
  }),
  "create-namespace": deed({
    title: "Create namespace",
    verb: "Create",
    fields: ["name", "shards", "replicas", "sorting", "notifications"],
    needs: needs(CreateNamespace, ListNamespaces),
    async preview(inspect, { name, shards, replicas, sorting, notifications }) {
      const wanted = wholeNumber(replicas);
      createNamespace(await configured(inspect), {
        ...{ name, keySorting: sorting, notificationsEnabled: notifications === "on", hasAntiAffinities: false },
        initialShardCount: Number(wholeNumber(shards)),
        replicationFactor: Number(wanted),
      });
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
  "drain-server": deed({
    ...{ title: "Drain server", verb: "Drain", fields: ["name"], needs: needs(DrainServer) },
    async preview({ calls, adminAddress }, { name }) {
      const { servers } = await calls.call(GetClusterStatus, {});
      const server = servers.find((one) => one.name === name);
      if (server === undefined) throw new PageError(404, `There is no server "${name}".`);
      const lines = [
        `${name} will be emptied and leave the cluster: others lead what it leads, and its ${count(server.replicas, "replica")} will be filled on other servers.`,
        "It is needed until that is done. It is refused where too few servers would be left.",
      ];
      const command = `varia admin dataserver drain --admin-address ${adminAddress()} ${shellWord(name)}`;
      return { lines, command, typed: name };
    },
    async run({ calls }, { name }) {
      return operationAddress((await calls.call(DrainServer, { server: name })).operation);
    },
  }),
  "log-level": deed({
    ...{ title: "Change log level", verb: "Change", fields: ["level"], needs: needs(SetLogLevel) },
    async preview({ adminAddress, clientAddress }, { level }) {
      if (!LOG_LEVELS.some((one) => one === level)) {
        throw new PageError(400, `"${level}" is none of the levels ${LOG_LEVELS.join(", ")}.`);
      }
      const lines = [`This process will log at the level ${level}, until it ends or that is changed again.`];
      return {
        lines,
        command: `varia admin --admin-address ${adminAddress() ?? clientAddress() ?? ""} log-level ${shellWord(level)}`,
      };
    },
    async run({ calls }, { level }) {
      await calls.call(SetLogLevel, { level });
      return "/configuration";
    },
  }),
  "close-session": deed({
    title: "Close session",
    verb: "Close",
    fields: ["namespace", "shard", "session"],
    needs: needs(GetSession, CloseSession),
    async preview({ calls, adminAddress, clientAddress }, { namespace, shard, session }) {
      const of = { namespace, shard: wholeNumber(shard), session: wholeNumber(session) };
      const { keys, hasMore } = await calls.call(GetSession, of);
      const records = `${count(keys.length, "record")}${hasMore ? " and more" : ""}`;
      const id = sessionId(of.session);
      const lines = [
        `The session ${id} of shard ${namespace}/${shard} will end, and ${records} with it.`,
        "Its client is told at its next heartbeat.",
      ];
      const at = `--admin-address ${adminAddress() ?? clientAddress() ?? ""} -n ${shellWord(namespace ?? "")}`;
      return { lines, command: `varia admin session close ${at} --shard ${of.shard} --session ${id} --yes` };
    },
    async run({ calls }, { namespace, shard, session }) {
      await calls.call(CloseSession, { namespace, shard: wholeNumber(shard), session: wholeNumber(session) });
      return `/sessions${query({ namespace })}`;
    },
  }),
  "delete-record": deed({
    title: "Delete record",
    verb: "Delete",
    fields: ["namespace", "key", "version", "partition"],
    needs: [],
    async preview(inspect, { namespace, key, version, partition }) {
      const lines = [`The record ${visible(key)} of ${namespace} will be deleted, if its version is still ${version}.`];
      const at = `-a ${inspect.clientAddress() ?? ""} -n ${shellWord(namespace)}`;
      return {
        lines,
        command: `varia client ${at} delete ${shellWord(key)} -e ${shellWord(version)}${partition === "" ? "" : ` -p ${shellWord(partition)}`}`,
      };
    },
    async run(inspect, { namespace, key, version, partition }) {
      const client = await inspect.client(namespace);
      const options = { expectedVersionId: BigInt(wholeNumber(version)), ...partitioned(partition) };
      await unlessChanged(() => client.delete(key, options), partition);
      return `/keys${query({ namespace, place: key.slice(0, key.lastIndexOf("/") + 1) })}`;
    },
  }),
  "put-record": deed({
    title: "Write record",
    verb: "Write",
    fields: ["namespace", "key", "value", "version", "partition"],
    needs: [],
    async preview(_, { namespace, key, version }) {
      const condition = version === "" ? "if there is none yet" : `if its version is still ${version}`;
      return {
        lines: [`The record ${visible(key)} of ${namespace} will be written, ${condition}.`],
        command: undefined,
      };
    },
    async run(inspect, { namespace, key, value, version, partition }) {
      if (key === "") throw new PageError(400, "A key is needed.");
      const client = await inspect.client(namespace);
      const expected = version === "" ? { mustNotExist: true } : { expectedVersionId: BigInt(wholeNumber(version)) };
      // browsers send the ends of lines as two characters
      const options = { ...expected, ...partitioned(partition) };
      await unlessChanged(() => client.put(key, value.replaceAll("\r\n", "\n"), options), partition);
      return `/keys/record${query({ namespace, key })}`;
    },
  }),
};

/** Whether a deed can be done here. */
export function isServed({ needs: methods }: Deed, { calls, mode }: Inspect): boolean {
  // what needs no method of an admin works on the records of clients, which a data server has no page of
  return (methods.length > 0 || mode !== "storage") && methods.every((method) => calls.serves(method as never));
}

/** The fields of a deed out of a form or an address; those that are missing are empty. */
export function fieldsOf({ fields }: Deed, given: URLSearchParams): Fields {
  return Object.fromEntries(fields.map((name) => [name, given.get(name) ?? ""]));
}

/** What a namespace is set to, as a form says what its reader saw. */
export function seenOf({ replicationFactor, notificationsEnabled }: NamespaceSettings): string {
  return `${replicationFactor} ${notificationsEnabled === false ? "off" : "on"}`;
}

interface NamespaceSettings {
  readonly replicationFactor: number;
  readonly notificationsEnabled?: boolean | undefined;
}

function needs(...methods: readonly unknown[]): readonly MethodOf<never, never>[] {
  return methods as readonly MethodOf<never, never>[];
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

const WHAT_CANCELLING_DOES: Readonly<Record<string, string>> = {
  "create-namespace": "It will not be followed any more; the namespace is made all the same.",
  "delete-namespace": "It will not be followed any more; the namespace is deleted all the same.",
  "drain-server": "The server will stay in the cluster; what has moved already is not moved back at once.",
  "freeze-shard": "The shard will take writes again.",
  "swap-replica": "The new replica will be given up and deleted, unless it is a member already.",
};

function frozenSeconds(text: string): number {
  const seconds = Number(wholeNumber(text));
  if (seconds < 1 || seconds > FREEZE_SECONDS_MAX) {
    throw new PageError(400, `A shard is frozen for 1 to ${FREEZE_SECONDS_MAX} seconds.`);
  }
  return seconds;
}

function shardCommand({ adminAddress }: Inspect, what: string, namespace: string, flags: string): string {
  return `varia admin shard ${what} --admin-address ${adminAddress()} -n ${shellWord(namespace)} ${flags}`;
}

function namespaceCommand({ adminAddress }: Inspect, what: string, name: string, flags = ""): string {
  return `varia admin namespace ${what} --admin-address ${adminAddress()} ${shellWord(name)} ${flags}`.trim();
}

function operationAddress(operation: { readonly id: bigint } | undefined): string {
  return operation === undefined ? "/operations" : `/operations/${operation.id}`;
}

/** Oxia's methods do not say which operation they are; where none was recorded: `otherwise`. */
async function newestOperation(calls: Inspect["calls"], kind: string, otherwise: string): Promise<string> {
  if (!calls.serves(ListOperations)) return otherwise;
  const [operation] = (await calls.call(ListOperations, { kind, limit: 1 })).operations;
  return operation === undefined ? otherwise : operationAddress(operation);
}

function wholeNumber(text: string): bigint {
  if (!/^\d{1,18}$/.test(text)) throw new PageError(400, `"${text}" is not a whole number.`);
  return BigInt(text);
}

function namespaceAddress(name: string): string {
  return `/namespaces/${encodeURIComponent(name)}`;
}

function partitioned(partitionKey: string): { readonly partitionKey?: string } {
  return partitionKey === "" ? {} : { partitionKey };
}

async function unlessChanged(write: () => Promise<unknown>, partition: string): Promise<void> {
  try {
    await write();
  } catch (error) {
    if (!(error instanceof UnexpectedVersionIdError)) throw error;
    const or = partition === "" ? "" : ", or its partition key is another one";
    throw new PageError(409, `The record has changed since you saw it${or}: nothing was written. Look at it again.`);
  }
}
