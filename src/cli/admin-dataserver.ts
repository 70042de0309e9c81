/** `varia admin dataserver …` */
import { type Command, InvalidArgumentError as InvalidFlag, Option } from "commander";
import { OxiaAdmin } from "../gen/io/oxia/proto/v1/admin_pb.ts";
import { type DataServer, DataServerState, type DataServerStatus } from "../gen/io/oxia/proto/v1/metadata_pb.ts";
import { type NodeReplica, VariaAdmin } from "../gen/varia/admin/v1/admin_pb.ts";
import { type AdminFlags, addDryRun, callAdmin, isDryRun } from "./admin-connection.ts";
import { operationRow, requireSuccess, watchOperation } from "./admin-operation.ts";
import { addYes, confirmed } from "./confirm.ts";
import { examples } from "./examples.ts";
import { EXIT, ExitError } from "./exit.ts";
import { onePage, printObject, printObjects, standardOutput } from "./output.ts";

interface DataServerFlags extends AdminFlags {
  readonly public?: string;
  readonly internal?: string;
  readonly label?: Readonly<Record<string, string>>;
}

interface DrainFlags extends AdminFlags {
  readonly detach?: boolean;
  readonly yes?: boolean;
}

const LABEL = new Option("--label <name=value>", "for anti-affinity rules; may be repeated").argParser(labelFlag);
const PUBLIC = ["--public <host:port>", "where clients connect"] as const;
const INTERNAL = ["--internal <host:port>", "where coordinators and other data servers connect"] as const;
const { method } = OxiaAdmin;

export function addDataServerCommands(admin: Command): void {
  const server = admin
    .command("dataserver")
    .alias("dataservers")
    .description("Data servers of the cluster.")
    .addHelpText("after", examples("varia admin dataserver list", "varia admin dataserver drain s1"));
  addDryRun(server.command("create"))
    .description("Add a data server; it gets its share of the replicas in a while.")
    .addHelpText("after", examples("varia admin dataserver create s4 --public h4:6648 --internal h4:6649"))
    .argument("<NAME>")
    .requiredOption(...PUBLIC)
    .requiredOption(...INTERNAL)
    .addOption(LABEL)
    .action(async (name: string, _, command: Command) => {
      const flags = command.optsWithGlobals<DataServerFlags>();
      if (flags.dryRun === true) {
        const { dataServers } = await callAdmin(flags, method.listDataServers, {});
        const exists = dataServers.some((view) => view.dataServer?.identity?.name === name);
        if (exists) throw new ExitError(EXIT.failure, `data server "${name}" already exists`);
      }
      if (isDryRun(flags, `Data server ${name} would be added: ${flags.public}, internally ${flags.internal}.`)) return;
      const { dataServer } = await callAdmin(flags, method.createDataServer, { dataServer: asked(name, flags) });
      await printObject(flags.output, row(flags, dataServer!), standardOutput());
    });
  server
    .command("get")
    .description("Show one data server, or all.")
    .addHelpText("after", examples("varia admin dataserver get s4"))
    .argument("[NAME]")
    .action(async (name: string | undefined, _, command: Command) => show(command.optsWithGlobals<AdminFlags>(), name));
  server
    .command("list")
    .description("Show all data servers.")
    .addHelpText("after", examples("varia admin dataserver list", "varia admin dataserver list -o json"))
    .action(async (_, command: Command) => show(command.optsWithGlobals<AdminFlags>(), undefined));
  addDryRun(server.command("patch"))
    .description("Change a data server's addresses or labels; labels that are given are all that it has then.")
    .addHelpText("after", examples("varia admin dataserver patch s4 --public h4.example:6648"))
    .argument("<NAME>")
    .option(...PUBLIC)
    .option(...INTERNAL)
    .addOption(LABEL)
    .action(async (name: string, _, command: Command) => {
      const flags = command.optsWithGlobals<DataServerFlags>();
      if (flags.dryRun === true && isDryRun(flags, ...(await changes(flags, name)))) return;
      const { dataServer } = await callAdmin(flags, method.patchDataServer, { dataServer: asked(name, flags) });
      await printObject(flags.output, row(flags, dataServer!), standardOutput());
    });
  addYes(addDryRun(server.command("delete")))
    .description("Remove a data server: what it holds moves to the others, which `varia status` shows.")
    .addHelpText("after", examples("varia admin dataserver delete s1"))
    .argument("<NAME>")
    .action(async (name: string, _, command: Command) => {
      const flags = command.optsWithGlobals<DataServerFlags & { readonly yes?: boolean }>();
      if (flags.dryRun === true && isDryRun(flags, await whatLeaves(flags, name))) return;
      const question = async () => `${await whatLeaves(flags, name)} Do it?`;
      await confirmed(flags, question, { withoutTerminal: "go on" });
      const { dataServer } = await callAdmin(flags, method.deleteDataServer, { dataServer: name });
      await printObject(flags.output, row(flags, dataServer!), standardOutput());
    });
  addProcess(server);
  addDrain(server);
}

/** What the coordinator asks a data server's process for its caller. */
function addProcess(server: Command): void {
  server
    .command("status")
    .description("Show a data server's process: what it costs, and the replicas that it holds.")
    .addHelpText("after", examples("varia admin dataserver status s1", "varia admin dataserver status s1 -o json"))
    .argument("<NAME>")
    .action(async (name: string, _, command: Command) => {
      const flags = command.optsWithGlobals<AdminFlags>();
      const status = await callAdmin(flags, VariaAdmin.method.getNodeStatus, { server: name });
      const { mode, version, publicAddress, startedAtMs, cpuMs, residentBytes, logLevel, replicas } = status;
      await printObject(
        flags.output,
        {
          ...{ name, mode, version, public: publicAddress, started: new Date(Number(startedAtMs)).toISOString() },
          ...{ cpu_ms: cpuMs, resident_bytes: residentBytes, log_level: logLevel },
          ...(flags.output === "table"
            ? {
                replicas: replicas.length,
                leaders: replicas.filter(({ status: is }) => is === "leader").length,
                damaged: replicas.filter(({ status: is }) => is === "damaged").length,
              }
            : { replicas: replicas.map(replicaRow) }),
        },
        standardOutput(),
      );
    });
  server
    .command("config")
    .description("Show a data server's settings, and what gave each value.")
    .addHelpText("after", examples("varia admin dataserver config s1", "varia admin dataserver config s1 -o yaml"))
    .argument("<NAME>")
    .action(async (name: string, _, command: Command) => {
      const flags = command.optsWithGlobals<AdminFlags>();
      const { settings } = await callAdmin(flags, VariaAdmin.method.getConfiguration, { server: name });
      const rows = settings.map(({ name: setting, value, origin, source }) => ({
        name: setting,
        value,
        origin,
        source,
      }));
      await printObjects(flags.output, onePage(rows), standardOutput());
    });
}

function replicaRow(replica: NodeReplica) {
  const { namespace, shard, replicaId, status, reason, promise, headOffset, commitOffset, appliedOffset } = replica;
  return {
    ...{ namespace, shard, replica_id: String(replicaId), status, reason, term: promise, head_offset: headOffset },
    ...{ commit_offset: commitOffset, applied_offset: appliedOffset },
    ...{ records: replica.records, sessions: replica.sessions },
  };
}

function addDrain(server: Command): void {
  addYes(addDryRun(server.command("drain")))
    .description("Move all that a data server holds to the others and remove it; ends when nothing is left on it.")
    .option("--detach", "end as soon as it has begun; `varia admin operation watch` follows it")
    .addHelpText("after", examples("varia admin dataserver drain s1", "varia admin dataserver drain s1 --detach --yes"))
    .argument("<NAME>")
    .action(async (name: string, _, command: Command) => {
      const flags = command.optsWithGlobals<DrainFlags>();
      if (flags.dryRun === true && isDryRun(flags, await whatLeaves(flags, name))) return;
      await confirmed(flags, `${await whatLeaves(flags, name)} Do it?`, { withoutTerminal: "refuse" });
      const { operation } = await callAdmin(flags, VariaAdmin.method.drainServer, { server: name });
      if (flags.detach === true) return printObject(flags.output, operationRow(operation!), standardOutput());
      const ended = await watchOperation(flags, operation!.id);
      await printObject(flags.output, operationRow(ended), standardOutput());
      requireSuccess(ended);
    });
}

/** What it means that a server leaves. Throws an ExitError when there is none. */
async function whatLeaves(flags: AdminFlags, name: string): Promise<string> {
  const { servers } = await callAdmin(flags, VariaAdmin.method.getClusterStatus, {});
  const found = servers.find((one) => one.name === name);
  if (found === undefined) throw new ExitError(EXIT.notFound, `data server "${name}" not found`);
  return `Data server ${name} would leave: its ${found.replicas} replicas would be filled on others.`;
}

/** What would be other than it is. */
async function changes(flags: DataServerFlags, name: string): Promise<string[]> {
  const { dataServer: view } = await callAdmin(flags, method.getDataServer, { dataServer: name });
  const now = row({ ...flags, output: "table" }, view!.dataServer!);
  const words = Object.entries(flags.label ?? {}).map(([label, value]) => `${label}=${value}`);
  const to = {
    public: flags.public,
    internal: flags.internal,
    labels: flags.label === undefined ? undefined : words.join(","),
  };
  return (["public", "internal", "labels"] as const).flatMap((field) =>
    to[field] === undefined || to[field] === now[field] ? [] : [`${field}: ${now[field]}, would be ${to[field]}.`],
  );
}

function asked(name: string, { public: address = "", internal = "", label }: DataServerFlags) {
  const metadata = label === undefined ? {} : { metadata: { labels: label } };
  return { identity: { name, public: address, internal }, ...metadata };
}

async function show(flags: AdminFlags, name: string | undefined): Promise<void> {
  if (name !== undefined) {
    const { dataServer: view } = await callAdmin(flags, method.getDataServer, { dataServer: name });
    return printObject(flags.output, row(flags, view!.dataServer!, view!.dataServerStatus), standardOutput());
  }
  const { dataServers } = await callAdmin(flags, method.listDataServers, {});
  const rows = dataServers.map((view) => row(flags, view.dataServer!, view.dataServerStatus));
  await printObjects(flags.output, onePage(rows), standardOutput());
}

function row({ output }: AdminFlags, { identity, metadata }: DataServer, status?: DataServerStatus) {
  const labels = metadata?.labels ?? {};
  const words = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
  const state = Object.entries(DataServerState)
    .find(([, number]) => number === status?.state)?.[0]
    .toLowerCase();
  return {
    name: identity?.name ?? "",
    public: identity?.public ?? "",
    internal: identity?.internal ?? "",
    ...(state === undefined ? {} : { state }),
    labels: output === "table" ? words.join(",") : labels,
  };
}

function labelFlag(text: string, before: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidFlag("A label is NAME=VALUE.");
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}
