/** `varia admin namespace …` */
import type { MessageShape } from "@bufbuild/protobuf";
import { type Command, Option } from "commander";
import { type NamespaceViewSchema, OxiaAdmin } from "../gen/io/oxia/proto/v1/admin_pb.ts";
import { type Namespace, ShardStatus } from "../gen/io/oxia/proto/v1/metadata_pb.ts";
import { type AdminFlags, addDryRun, callAdmin, isDryRun } from "./admin-connection.ts";
import { integerFlag } from "./client-connection.ts";
import { booleanFlag, confirmed } from "./confirm.ts";
import { examples } from "./examples.ts";
import { EXIT, ExitError } from "./exit.ts";
import { onePage, printObject, printObjects, standardOutput } from "./output.ts";

interface NamespaceFlags extends AdminFlags {
  readonly initialShards?: number;
  readonly replicationFactor?: number;
  readonly keySorting?: string;
  readonly notifications?: boolean;
  readonly yes?: boolean;
}

const SHARDS = new Option("--initial-shards <n>", "shards to begin with")
  .default(1)
  .argParser(integerFlag(0, 0xffff_ffff));
const FACTOR = ["--replication-factor <n>", "replicas of each shard", integerFlag(0, 0xffff_ffff)] as const;
const NOTIFICATIONS = new Option("--notifications [bool]", "whether changes can be followed").argParser(booleanFlag);
const { method } = OxiaAdmin;

export function addNamespaceCommands(admin: Command): void {
  const namespace = admin
    .command("namespace")
    .alias("namespaces")
    .description("Namespaces and their shards.")
    .addHelpText("after", examples("varia admin namespace list", "varia admin namespace get orders"));
  addDryRun(namespace.command("create"))
    .description("Add a namespace.")
    .addHelpText(
      "after",
      examples(
        "varia admin namespace create orders --initial-shards 4 --replication-factor 3",
        "varia admin namespace create logs --replication-factor 3 --key-sorting natural",
      ),
    )
    .argument("<NAMESPACE>")
    .addOption(SHARDS)
    .requiredOption(...FACTOR)
    .addOption(new Option("--key-sorting <order>", "natural or hierarchical; default: hierarchical"))
    .addOption(NOTIFICATIONS)
    .action(async (name: string, _, command: Command) => {
      const flags = command.optsWithGlobals<NamespaceFlags>();
      const { initialShards = 0, replicationFactor = 0, keySorting = "" } = flags;
      const asked = { name, initialShardCount: initialShards, replicationFactor, keySorting, ...notifications(flags) };
      if (flags.dryRun === true) {
        const { namespaces } = await callAdmin(flags, method.listNamespaces, {});
        const exists = namespaces.some((view) => view.namespace?.name === name);
        if (exists) throw new ExitError(EXIT.failure, `namespace "${name}" already exists`);
      }
      const what = `${initialShards} shards, ${replicationFactor} replicas of each, keys ${keySorting || "hierarchical"}`;
      if (isDryRun(flags, `Namespace ${name} would be made: ${what}.`)) return;
      const { namespace: made } = await callAdmin(flags, method.createNamespace, { namespace: asked });
      await print(flags, made!);
    });
  namespace
    .command("get")
    .description("Show one namespace, or all.")
    .addHelpText("after", examples("varia admin namespace get orders", "varia admin namespace get orders -o json"))
    .argument("[NAMESPACE]")
    .action(async (name: string | undefined, _, command: Command) => show(command.optsWithGlobals<AdminFlags>(), name));
  namespace
    .command("list")
    .description("Show all namespaces.")
    .addHelpText("after", examples("varia admin namespace list", "varia admin namespace list -o yaml"))
    .action(async (_, command: Command) => show(command.optsWithGlobals<AdminFlags>(), undefined));
  addDryRun(namespace.command("patch"))
    .description("Change a namespace; its shards keep the replicas that they have.")
    .addHelpText("after", examples("varia admin namespace patch orders --replication-factor 5"))
    .argument("<NAMESPACE>")
    .option(...FACTOR)
    .addOption(NOTIFICATIONS)
    .action(async (name: string, _, command: Command) => {
      const flags = command.optsWithGlobals<NamespaceFlags>();
      const asked = { name, replicationFactor: flags.replicationFactor ?? 0, ...notifications(flags) };
      if (flags.dryRun === true && isDryRun(flags, ...(await changes(flags, asked)))) return;
      const { namespace: patched } = await callAdmin(flags, method.patchNamespace, { namespace: asked });
      await print(flags, patched!);
    });
  addDryRun(namespace.command("delete"))
    .description("Remove a namespace and all its data.")
    .addHelpText("after", examples("varia admin namespace delete orders", "varia admin namespace delete orders --yes"))
    .argument("<NAMESPACE>")
    .option("-y, --yes", "do not ask")
    .action(async (name: string, _, command: Command) => {
      const flags = command.optsWithGlobals<NamespaceFlags>();
      if (flags.dryRun === true) {
        const { namespace: view } = await callAdmin(flags, method.getNamespace, { namespace: name });
        const shards = Object.keys(view?.namespaceStatus?.shards ?? {}).length;
        isDryRun(flags, `Namespace ${name} and the data of its ${shards} shards would be deleted.`);
        return;
      }
      await confirmed(flags, `Delete namespace ${name} and all its data?`, { withoutTerminal: "go on" });
      const { namespace: deleted } = await callAdmin(flags, method.deleteNamespace, { namespace: name });
      await print(flags, deleted!);
    });
}

/** What would be other than it is. */
async function changes(
  flags: AdminFlags,
  asked: Pick<Namespace, "name" | "replicationFactor"> & { notificationsEnabled?: boolean },
) {
  const { namespace: view } = await callAdmin(flags, method.getNamespace, { namespace: asked.name });
  const { replicationFactor, notificationsEnabled = true } = view!.namespace!;
  const to = {
    replicas: asked.replicationFactor || replicationFactor,
    notifications: asked.notificationsEnabled ?? notificationsEnabled,
  };
  return [
    ...(to.replicas === replicationFactor
      ? []
      : [`Replicas of new shards: ${replicationFactor}, would be ${to.replicas}.`]),
    ...(to.notifications === notificationsEnabled
      ? []
      : [`Notifications: ${notificationsEnabled}, would be ${to.notifications}.`]),
  ];
}

function notifications({ notifications }: NamespaceFlags) {
  return notifications === undefined ? {} : { notificationsEnabled: notifications };
}

async function show(flags: AdminFlags, name: string | undefined): Promise<void> {
  if (name !== undefined) {
    const { namespace } = await callAdmin(flags, method.getNamespace, { namespace: name });
    const row = flags.output === "table" ? tableRow(namespace!.namespace!) : viewObject(namespace!);
    return printObject(flags.output, row, standardOutput());
  }
  const { namespaces } = await callAdmin(flags, method.listNamespaces, {});
  const rows = namespaces.map((view) => (flags.output === "table" ? tableRow(view.namespace!) : viewObject(view)));
  await printObjects(flags.output, onePage(rows), standardOutput());
}

async function print(flags: AdminFlags, namespace: Namespace): Promise<void> {
  const row = flags.output === "table" ? tableRow(namespace) : namespaceObject(namespace);
  await printObject(flags.output, row, standardOutput());
}

/** Oxia's columns. */
function tableRow({ name, initialShardCount, replicationFactor }: Namespace) {
  return { name, initial_shards: initialShardCount, replication_factor: replicationFactor };
}

function namespaceObject(namespace: Namespace) {
  const { notificationsEnabled = true, keySorting, antiAffinities } = namespace;
  return {
    ...tableRow(namespace),
    notifications_enabled: notificationsEnabled,
    key_sorting: keySorting,
    anti_affinities: antiAffinities.map(({ labels, mode }) => ({ labels, mode })),
  };
}

function viewObject({ namespace, namespaceStatus }: MessageShape<typeof NamespaceViewSchema>) {
  const shards = Object.entries(namespaceStatus?.shards ?? {}).map(([id, shard]) => ({
    shard: Number(id),
    status: Object.entries(ShardStatus).find(([, number]) => number === shard.status)?.[0] ?? "",
    term: shard.term,
    leader: shard.leader?.internal ?? "",
    ensemble: shard.ensemble.map(({ internal }) => internal),
  }));
  return { ...namespaceObject(namespace!), shards };
}
