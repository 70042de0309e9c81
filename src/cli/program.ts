/** The command tree and how a command ends: with an exit code, and an error that says what failed. */
import { Command, CommanderError } from "commander";
import { ConfigInvalid } from "../coordination/parse-config.ts";
import { SettingError } from "../ops/settings.ts";
import { explainError } from "../storage/sqlite.ts";
import { addAdminCommands } from "./admin.ts";
import { addClientCommands } from "./client.ts";
import { addCompletionCommand } from "./completion.ts";
import { addConfigCommands } from "./config.ts";
import { addCoordinatorCommand } from "./coordinator.ts";
import { addDiagnoseCommand } from "./diagnose.ts";
import { examples } from "./examples.ts";
import { EXIT, ExitError } from "./exit.ts";
import { addHealthCommand } from "./health.ts";
import { addLockCommands } from "./lock.ts";
import { addPerfCommand } from "./perf.ts";
import { addShellCommand } from "./shell.ts";
import { addStandaloneCommand } from "./standalone.ts";
import { addStatusCommand } from "./status.ts";
import { addStorageCommand } from "./storage.ts";
import { VERSION } from "./version.ts";

const EXAMPLES = examples(
  "varia standalone                            start a server with one shard",
  "varia standalone -s 4 --data-dir /srv/db    four shards, data elsewhere",
  "varia client put greeting hello             write a record",
  "varia client get greeting                   read it back",
  "varia status                                whether the cluster is well",
  "varia lock nightly -- ./backup.sh           run it in one place at a time",
);
const EXIT_CODES = `
Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 version conflict,
5 unavailable or timeout, 6 not allowed, 130 interrupted.`;

/** The whole tree, for running and for tests that walk it. */
export function buildProgram(): Command {
  const program = new Command("varia")
    .description("A metadata store and coordination service that speaks Oxia's protocol.")
    .version(VERSION, "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .configureHelp({ helpWidth: 80, minWidthToWrap: 20, showGlobalOptions: true })
    .addHelpText("after", EXAMPLES)
    .addHelpText("after", EXIT_CODES)
    .showHelpAfterError("(run the command with --help for its usage)")
    .showSuggestionAfterError()
    .option("--debug", "print stack traces with errors");
  addStandaloneCommand(program.commandsGroup("Run:"));
  addStorageCommand(program.commandsGroup("Run:"));
  addCoordinatorCommand(program.commandsGroup("Run:"));
  addClientCommands(program.commandsGroup("Data:"));
  addShellCommand(program.commandsGroup("Data:"));
  addLockCommands(program.commandsGroup("Coordinate:"));
  addAdminCommands(program.commandsGroup("Admin:"));
  addStatusCommand(program.commandsGroup("Inspect:"));
  addDiagnoseCommand(program.commandsGroup("Inspect:"));
  addHealthCommand(program.commandsGroup("Inspect:"));
  addPerfCommand(program.commandsGroup("Inspect:"));
  addConfigCommands(program.commandsGroup("Inspect:"));
  addCompletionCommand(program.commandsGroup("Shell:"));
  return program;
}

/** Runs one command line, without the program's own name. Resolves with the exit code. */
export async function run(argv: readonly string[]): Promise<number> {
  const program = buildProgram();
  exitByThrowing(program);
  if (argv.length === 0) {
    program.outputHelp();
    return EXIT.ok;
  }
  try {
    await program.parseAsync(argv, { from: "user" });
    return process.exitCode === undefined ? EXIT.ok : Number(process.exitCode);
  } catch (error) {
    return report(error, program.opts<{ debug?: boolean }>().debug === true);
  }
}

function exitByThrowing(command: Command): void {
  command.exitOverride();
  for (const child of command.commands) exitByThrowing(child);
}

function report(error: unknown, debug: boolean): number {
  // commander has already written its own message, or the help that was asked for
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  console.error(`Error: ${explainError(error)}`);
  if (debug && error instanceof Error) console.error(error.stack);
  if (error instanceof ExitError) return error.code;
  return error instanceof SettingError || error instanceof ConfigInvalid ? EXIT.usage : EXIT.failure;
}
