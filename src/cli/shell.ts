/**
 * `varia shell`: the commands of `varia client` on one connection, typed line by line, with a history that is kept and
 * Tab for commands, flags and keys. Ephemeral records live until the shell ends.
 *
 * Without a terminal it reads its lines from a pipe, shows no prompt, and exits with 1 when a command failed.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { Command, CommanderError, Option } from "commander";
import type { VariaClient } from "../client/client.ts";
import { SHELL_HISTORY_LINES_MAX } from "../model/limits.ts";
import { addRecordCommands } from "./client.ts";
import { addConnectionFlags, type ConnectionFlags, exitErrorOf, withClient } from "./client-connection.ts";
import type { ClientHost } from "./client-host.ts";
import { examples } from "./examples.ts";
import { EXIT } from "./exit.ts";
import { OUTPUT_FORMS, standardOutput } from "./output.ts";
import { complete } from "./shell-completion.ts";
import { splitWords } from "./split-words.ts";

interface ShellFlags extends ConnectionFlags {
  readonly prompt: string;
  readonly output?: string;
}

export function addShellCommand(program: Command): void {
  addConnectionFlags(program.command("shell").aliases(["interactive", "terminal"]))
    .description("Type client commands, one after the other.")
    .option("--prompt <text>", "what stands before each line", "varia> ")
    .addOption(new Option("-o, --output <form>", "table, json or yaml; default: as Oxia prints").choices(OUTPUT_FORMS))
    .addHelpText(
      "after",
      `
Tab completes commands, flags and keys; the arrow keys go through earlier lines,
which are kept for the next time. Ctrl+C ends the command, Ctrl+D the shell.`,
    )
    .addHelpText("after", examples("varia shell -a db.example:6648", `echo 'put greeting "hello world"' | varia shell`))
    .action((_flags, command: Command) => runShell(command.optsWithGlobals<ShellFlags>()));
}

async function runShell(flags: ShellFlags): Promise<void> {
  await withClient(flags, { batchLingerMs: 0 }, async (client) => {
    const shell = new Shell(client, flags);
    await (process.stdin.isTTY ? shell.interact() : shell.readPipe());
  });
}

class Shell {
  readonly #client: VariaClient;
  readonly #flags: ShellFlags;
  readonly #host: ClientHost;
  /** Of the command that runs. */
  #interruption = new AbortController();

  constructor(client: VariaClient, flags: ShellFlags) {
    this.#client = client;
    this.#flags = flags;
    const write = standardOutput();
    this.#host = {
      interactive: true,
      run: async (_flags, body) => {
        try {
          return await body(client);
        } catch (error) {
          throw exitErrorOf(error, flags);
        }
      },
      output: () => write,
      interruption: () => this.#interruption.signal,
    };
  }

  async readPipe(): Promise<void> {
    const lines = createInterface({ input: process.stdin, terminal: false });
    for await (const line of lines) {
      if (isEnd(line)) break;
      if (!(await this.#runLine(line))) process.exitCode = EXIT.failure;
    }
    lines.close();
  }

  async interact(): Promise<void> {
    const history = readHistory();
    const lines = createInterface({
      input: process.stdin,
      output: process.stdout,
      terminal: true,
      prompt: this.#flags.prompt,
      history: [...history],
      historySize: SHELL_HISTORY_LINES_MAX,
      removeHistoryDuplicates: true,
      completer: (line: string, done: (error: Error | null, result: [string[], string]) => void) => {
        complete(line, this.#tree(), this.#client).then(
          ({ offers, word }) => done(null, [[...offers], word]),
          () => done(null, [[], line]),
        );
      },
    });
    console.log(`connected to ${this.#flags.serviceAddress}; "help" lists the commands`);
    lines.on("history", writeHistory);
    await this.#untilEnd(lines);
  }

  /** Takes lines one after the other; what is typed while a command runs waits. */
  async #untilEnd(lines: Interface): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    let running = Promise.resolve();
    let busy = false;
    lines.on("line", (line) => {
      running = running.then(async () => {
        if (isEnd(line)) return lines.close();
        busy = true;
        await this.#runLine(line);
        busy = false;
        lines.prompt();
      });
    });
    lines.on("SIGINT", () => {
      if (busy) this.#interruption.abort();
      else {
        // what was typed is thrown away, as in other shells
        lines.write(null, { ctrl: true, name: "e" });
        lines.write(null, { ctrl: true, name: "u" });
        process.stdout.write("\n");
        lines.prompt();
      }
    });
    lines.on("close", () => {
      this.#interruption.abort();
      running.then(resolve);
    });
    lines.prompt();
    await promise;
  }

  /** False when it failed; the reason has been written. */
  async #runLine(line: string): Promise<boolean> {
    const { words, open } = splitWords(line);
    if (open) {
      console.error("Error: a quote is not closed");
      return false;
    }
    if (words.length === 0 || words[0]!.startsWith("#")) return true;
    this.#interruption = new AbortController();
    try {
      // flags are kept in the tree: each line gets a new one
      await this.#tree().parseAsync([...words], { from: "user" });
      return true;
    } catch (error) {
      if (error instanceof CommanderError) return error.exitCode === 0;
      console.error(`Error: ${error instanceof Error ? error.message : String(error)}`);
      return false;
    }
  }

  #tree(): Command {
    const tree = new Command("")
      .configureHelp({
        helpWidth: 80,
        showGlobalOptions: true,
        commandUsage: (command) => (command.parent === null ? "<command>" : `${command.name()} ${command.usage()}`),
      })
      .showSuggestionAfterError()
      .exitOverride();
    const output = new Option("-o, --output <form>", "table, json or yaml; default: as Oxia prints");
    if (this.#flags.output !== undefined) output.default(this.#flags.output);
    tree.addOption(output.choices(OUTPUT_FORMS));
    addRecordCommands(tree, this.#host);
    tree.command("exit").alias("quit").description("End the shell.");
    for (const command of tree.commands) command.exitOverride();
    return tree;
  }
}

function isEnd(line: string): boolean {
  return /^\s*(exit|quit)\s*$/.test(line);
}

/** The user's state directory, by the XDG convention. */
function historyPath(): string {
  const state = process.env.XDG_STATE_HOME || join(homedir(), ".local/state");
  return join(state, "varia", "shell-history");
}

/** The newest first, as readline has it; empty when there is none. */
function readHistory(): string[] {
  try {
    const lines = readFileSync(historyPath(), "utf8").split("\n");
    return lines
      .filter((line) => line !== "")
      .slice(-SHELL_HISTORY_LINES_MAX)
      .reverse();
  } catch {
    // the first time there is none, and a history that cannot be read is not worth ending for
    return [];
  }
}

function writeHistory(newestFirst: readonly string[]): void {
  const path = historyPath();
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeFileSync(path, `${[...newestFirst].reverse().join("\n")}\n`, { mode: 0o600 });
  } catch {
    // as above: a shell without a history still works
  }
}
