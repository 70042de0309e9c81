/** `varia admin dataserver …` */
import { type Command, InvalidArgumentError as InvalidFlag, Option } from "commander";
import { OxiaAdmin } from "../gen/io/oxia/proto/v1/admin_pb.ts";
import { type DataServer, DataServerState, type DataServerStatus } from "../gen/io/oxia/proto/v1/metadata_pb.ts";
import { type AdminFlags, callAdmin } from "./admin-connection.ts";
import { examples } from "./examples.ts";
import { onePage, printObject, printObjects, standardOutput } from "./output.ts";

interface DataServerFlags extends AdminFlags {
  readonly public?: string;
  readonly internal?: string;
  readonly label?: Readonly<Record<string, string>>;
}

const LABEL = new Option("--label <name=value>", "for anti-affinity rules; may be repeated").argParser(labelFlag);
const PUBLIC = ["--public <host:port>", "where clients connect"] as const;
const INTERNAL = ["--internal <host:port>", "where coordinators and other data servers connect"] as const;
const { method } = OxiaAdmin;

export function addDataServerCommands(admin: Command): void {
  const server = admin.command("dataserver").alias("dataservers").description("Data servers of the cluster.");
  server
    .command("create")
    .description("Add a data server; it gets its share of the replicas in a while.")
    .addHelpText("after", examples("varia admin dataserver create s4 --public h4:6648 --internal h4:6649"))
    .argument("<NAME>")
    .requiredOption(...PUBLIC)
    .requiredOption(...INTERNAL)
    .addOption(LABEL)
    .action(async (name: string, _, command: Command) => {
      const flags = command.optsWithGlobals<DataServerFlags>();
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
  server
    .command("patch")
    .description("Change a data server's addresses or labels; labels that are given are all that it has then.")
    .addHelpText("after", examples("varia admin dataserver patch s4 --public h4.example:6648"))
    .argument("<NAME>")
    .option(...PUBLIC)
    .option(...INTERNAL)
    .addOption(LABEL)
    .action(async (name: string, _, command: Command) => {
      const flags = command.optsWithGlobals<DataServerFlags>();
      const { dataServer } = await callAdmin(flags, method.patchDataServer, { dataServer: asked(name, flags) });
      await printObject(flags.output, row(flags, dataServer!), standardOutput());
    });
  server
    .command("delete")
    .description("Remove a data server: what it holds moves to the others, which `varia status` shows.")
    .addHelpText("after", examples("varia admin dataserver delete s1"))
    .argument("<NAME>")
    .action(async (name: string, _, command: Command) => {
      const flags = command.optsWithGlobals<DataServerFlags>();
      const { dataServer } = await callAdmin(flags, method.deleteDataServer, { dataServer: name });
      await printObject(flags.output, row(flags, dataServer!), standardOutput());
    });
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
