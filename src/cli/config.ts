/** `varia config …`: what a server would be started with, and whether it could be; nothing is started. */
import { type Command, Option } from "commander";
import { Access } from "../ops/access.ts";
import { type GivenSetting, SettingError, type SettingsTable } from "../ops/settings.ts";
import type { Logger } from "../ports.ts";
import { ClusterFile } from "./cluster-file.ts";
import { clusterSchema, settingsSchema } from "./config-schema.ts";
import { addCoordinatorFlags } from "./coordinator.ts";
import { COORDINATOR_SETTINGS, coordinatorFiles } from "./coordinator-settings.ts";
import type { ACCESS_SETTINGS } from "./data-settings.ts";
import { examples } from "./examples.ts";
import { OUTPUT_FORMS, type OutputForm, onePage, printObjects, standardOutput } from "./output.ts";
import { type ReadSettings, readSettings } from "./run-server.ts";
import { acceptedShards, addStandaloneFlags } from "./standalone.ts";
import { NAMESPACE } from "./standalone-options.ts";
import { STANDALONE_SETTINGS } from "./standalone-settings.ts";
import { addStorageFlags } from "./storage.ts";
import { STORAGE_SETTINGS } from "./storage-settings.ts";
import {
  refuseUnsupported,
  UNSUPPORTED_COORDINATOR,
  UNSUPPORTED_STANDALONE,
  UNSUPPORTED_STORAGE,
  type Unsupported,
} from "./unsupported.ts";

type Flags = Record<string, unknown>;
type ServerTable = SettingsTable & typeof ACCESS_SETTINGS;

/** A kind of server, with its settings and what else belongs to them. */
interface Kind {
  readonly table: ServerTable;
  readonly unsupported: readonly Unsupported[];
  readonly addFlags: (command: Command) => void;
  /** Throws SettingError for what cannot be used. */
  readonly read: (flags: Flags) => ReadSettings<ServerTable>;
  /** What is found in what is no setting, and in further files that settings name, a line each. Throws for what cannot be used. */
  readonly others: (flags: Flags) => string[];
}

const KINDS: Readonly<Record<string, Kind>> = {
  standalone: {
    table: STANDALONE_SETTINGS,
    unsupported: UNSUPPORTED_STANDALONE,
    addFlags: addStandaloneFlags,
    read: (flags) =>
      readSettings<ServerTable>(STANDALONE_SETTINGS, flags, (file) =>
        refuseUnsupported(UNSUPPORTED_STANDALONE, { flags, environment: process.env, file }),
      ),
    others: (flags) => acceptedLoss(flags),
  },
  storage: {
    table: STORAGE_SETTINGS,
    unsupported: UNSUPPORTED_STORAGE,
    addFlags: addStorageFlags,
    read: (flags) =>
      readSettings<ServerTable>(STORAGE_SETTINGS, flags, (file) =>
        refuseUnsupported(UNSUPPORTED_STORAGE, { flags, environment: process.env, file }),
      ),
    others: () => [],
  },
  coordinator: {
    table: COORDINATOR_SETTINGS,
    unsupported: UNSUPPORTED_COORDINATOR,
    addFlags: addCoordinatorFlags,
    read: (flags) => readCoordinator(flags) as unknown as ReadSettings<ServerTable>,
    others: (flags) => clusterFile(flags),
  },
};

export function addConfigCommands(program: Command): void {
  const config = program
    .command("config")
    .description("Show or check what a server would be started with.")
    .addHelpText(
      "after",
      examples("varia config show standalone --origin", "varia config check coordinator --cconfig cluster.yaml"),
    );
  const show = config
    .command("show")
    .description("Show the settings that flags, environment and file come to.")
    .addHelpText("after", examples("varia config show storage --origin"));
  const check = config
    .command("check")
    .description("Check settings, and the files that they name; exit code 2 if they cannot be used.")
    .addHelpText("after", examples("varia config check coordinator --cconfig cluster.yaml"));
  for (const [name, kind] of Object.entries(KINDS)) {
    addShow(show, name, kind);
    addCheck(check, name, kind);
  }
  addSchema(config);
}

/** Schemas are JSON, whoever reads them. */
function addSchema(config: Command): void {
  const schema = config
    .command("schema")
    .description("Print a JSON Schema of a file, for editors.")
    .addHelpText("after", examples("varia config schema cluster > cluster.schema.json"));
  const add = (name: string, description: string, make: () => unknown) => {
    schema
      .command(name)
      .description(description)
      .addHelpText("after", examples(`varia config schema ${name} > ${name}.schema.json`))
      .action(() => standardOutput()(`${JSON.stringify(make(), null, 2)}\n`));
  };
  add("cluster", "Of the cluster's configuration, the file of --cconfig.", clusterSchema);
  for (const [name, { table, unsupported }] of Object.entries(KINDS)) {
    const description = `Of the settings of varia ${name}, the file of --sconfig.`;
    add(name, description, () => settingsSchema(`varia ${name}`, table, unsupported));
  }
}

function addShow(show: Command, name: string, kind: Kind): void {
  const command = show
    .command(name)
    .description(`The settings of varia ${name}.`)
    .option("--origin", "show what gave each value, and the default")
    .addOption(new Option("-o, --output <form>", "table, json or yaml").choices(OUTPUT_FORMS).default("table"))
    .addHelpText(
      "after",
      examples(`varia config show ${name} --origin`, `varia config show ${name} --sconfig server.yaml -o json`),
    );
  kind.addFlags(command);
  command.action(async ({ origin, output, ...flags }: Flags & { readonly output: Exclude<OutputForm, "oxia"> }) => {
    const rows = kind.read(flags).given.map((setting) => rowOf(setting, origin === true));
    await printObjects(output, onePage(rows), standardOutput());
  });
}

function addCheck(check: Command, name: string, kind: Kind): void {
  const command = check
    .command(name)
    .description(`Whether varia ${name} could be started with these settings.`)
    .addHelpText("after", examples(`varia config check ${name} --sconfig server.yaml`));
  kind.addFlags(command);
  command.action(async (flags: Flags) => {
    const { given, settings } = kind.read(flags);
    Access.open(settings.adminTokenFile);
    const changed = given.filter(({ origin }) => origin !== "default").length;
    const lines = [`${name}: ${given.length} settings, ${changed} of them given`, ...kind.others(flags)];
    await standardOutput()(`${lines.join("\n")}\n`);
  });
}

function rowOf({ name, value, origin, source, byDefault }: GivenSetting, withOrigin: boolean) {
  if (!withOrigin) return { setting: name, value };
  return { setting: name, value, origin: source === "" ? origin : `${origin} ${source}`, default: byDefault };
}

function acceptedLoss(flags: Flags): string[] {
  const shards = acceptedShards(flags, readSettings(STANDALONE_SETTINGS, flags).settings);
  return [...shards].map((shard) => `${NAMESPACE}/${shard}: if it is damaged, what can still be read of it is served`);
}

function readCoordinator(flags: Flags): ReadSettings<typeof COORDINATOR_SETTINGS> {
  return readSettings(COORDINATOR_SETTINGS, flags, (file) =>
    refuseUnsupported(UNSUPPORTED_COORDINATOR, { flags, environment: process.env, file }),
  );
}

/** The cluster's configuration, if a file of it is named: what is in it, and what of it nobody knows. Throws SettingError. */
function clusterFile(flags: Flags): string[] {
  const { clusterConfig } = coordinatorFiles({ values: readCoordinator(flags).settings });
  if (clusterConfig === undefined) return ["no cluster configuration is named: one is made beside the metadata store"];
  const notes: string[] = [];
  const note = (_: unknown, message: string) => void notes.push(`${clusterConfig}: ${message}`);
  const logger: Logger = { debug() {}, info() {}, warn: note, error: note };
  try {
    const { servers, namespaces } = ClusterFile.open(clusterConfig, logger, { create: false }).config;
    return [`${clusterConfig}: ${servers.length} data servers, ${namespaces.length} namespaces`, ...notes];
  } catch (cause) {
    throw new SettingError((cause as Error).message, { cause }); // it names the file
  }
}
