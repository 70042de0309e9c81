/**
 * `varia completion <shell>`: a script that completes commands, flags and their choices, made from the command tree, so
 * that it never says anything else than the help. It asks nobody while somebody types.
 */
import type { Command, Option } from "commander";
import { examples } from "./examples.ts";

/** One command, with the words that lead to it. */
interface Place {
  /** `varia`, then the commands on the way: `varia admin shard`. */
  readonly path: string;
  readonly command: Command;
}

interface Word {
  readonly word: string;
  readonly description: string;
}

const SHELLS = { bash, zsh, fish } as const;

export function addCompletionCommand(program: Command): void {
  const command = program
    .command("completion")
    .description("Print a script that completes commands and flags in a shell.")
    .addHelpText(
      "after",
      examples(
        "source <(varia completion bash)                          now, and in ~/.bashrc",
        `varia completion zsh > "\${fpath[1]}/_varia"`,
        "varia completion fish > ~/.config/fish/completions/varia.fish",
      ),
    );
  for (const [shell, script] of Object.entries(SHELLS)) {
    command
      .command(shell)
      .description(`The script for ${shell}.`)
      .addHelpText("after", examples(`varia completion ${shell} > varia.${shell}`))
      .action(() => {
        process.stdout.write(script(program));
      });
  }
}

/** Every command of the tree, the root first; one that has an alias stands there under each of its names. */
function placesOf(program: Command): Place[] {
  const places: Place[] = [];
  const visit = (path: string, command: Command): void => {
    places.push({ path, command });
    for (const child of command.commands) for (const name of namesOf(child)) visit(`${path} ${name}`, child);
  };
  visit(program.name(), program);
  return places;
}

function namesOf(command: Command): string[] {
  return [command.name(), ...command.aliases()];
}

function commandsOf({ command }: Place): Word[] {
  return command.commands.flatMap((child) =>
    namesOf(child).map((word) => ({ word, description: firstSentence(child.description()) })),
  );
}

function optionsOf({ command }: Place): Option[] {
  return command.createHelp().visibleOptions(command);
}

/** The ways to write an option: `--long`, `-s`, or both. */
function flagsOf({ long, short }: Option): string[] {
  return [long, short].filter((flag) => flag != null);
}

/** Flags that take one of a few words. */
function choicesOf(place: Place): { readonly flags: readonly string[]; readonly choices: readonly string[] }[] {
  return optionsOf(place).flatMap((option) =>
    option.argChoices === undefined ? [] : [{ flags: flagsOf(option), choices: option.argChoices }],
  );
}

function firstSentence(description: string): string {
  return description.replace(/[.:;].*$/s, "");
}

// --- bash and zsh -----------------------------------------------------------------------------------------------------

/** What both need: the words that lead to a command, what it takes next, and what its flags take. */
function casesOf(program: Command, assign: (words: readonly string[]) => string) {
  const places = placesOf(program);
  const arm = (key: string, words: readonly string[]) => `    "${key}") ${assign(words)} ;;`;
  return {
    deeper: places
      .slice(1)
      .map(({ path }) => `"${path}"`)
      .join(" | "),
    next: places
      .map((place) =>
        arm(place.path, [...commandsOf(place).map(({ word }) => word), ...optionsOf(place).flatMap(flagsOf)]),
      )
      .join("\n"),
    values: places
      .flatMap((place) =>
        choicesOf(place).flatMap(({ flags, choices }) => flags.map((flag) => arm(`${place.path} ${flag}`, choices))),
      )
      .join("\n"),
  };
}

function bash(program: Command): string {
  const name = program.name();
  const { deeper, next, values } = casesOf(program, (words) => `words="${words.join(" ")}"`);
  return `# Completion of ${name} for bash. Made by: ${name} completion bash
_${name}() {
  local current="\${COMP_WORDS[COMP_CWORD]}" path="${name}" words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$path \${COMP_WORDS[i]}" in
    ${deeper}) path="$path \${COMP_WORDS[i]}" ;;
    esac
  done
  case "$path" in
${next}
  esac
  case "$path \${COMP_WORDS[COMP_CWORD - 1]}" in
${values}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _${name} ${name}
`;
}

function zsh(program: Command): string {
  const name = program.name();
  const { deeper, next, values } = casesOf(program, (list) => `offers=(${list.join(" ")})`);
  return `#compdef ${name}
# Completion of ${name} for zsh. Made by: ${name} completion zsh
_${name}() {
  local at="${name}" i
  local -a offers
  for ((i = 2; i < CURRENT; i++)); do
    case "$at \${words[i]}" in
    ${deeper}) at="$at \${words[i]}" ;;
    esac
  done
  case "$at" in
${next}
  esac
  case "$at \${words[CURRENT - 1]}" in
${values}
  esac
  compadd -- $offers || _files
}
compdef _${name} ${name}
`;
}

// --- fish -----------------------------------------------------------------------------------------------------------

function fish(program: Command): string {
  const name = program.name();
  const places = placesOf(program);
  const deeper = places.slice(1).map(({ path }) => `'${path}'`);
  const lines = places.flatMap((place) => {
    const at = `complete -c ${name} -n '__${name}_at "${place.path}"'`;
    const commands = commandsOf(place).map(({ word, description }) => `${at} -f -a ${word} -d ${quoted(description)}`);
    return [...commands, ...optionsOf(place).map((option) => `${at} ${fishOption(option)}`)];
  });
  return `# Completion of ${name} for fish. Made by: ${name} completion fish
function __${name}_at
    set -l path ${name}
    for word in (commandline -opc)[2..-1]
        contains -- "$path $word" ${deeper.join(" ")}; and set path "$path $word"
    end
    test "$path" = "$argv[1]"
end
${lines.join("\n")}
`;
}

function fishOption(option: Option): string {
  const { required, optional, argChoices, description } = option;
  const names = flagsOf(option).map((flag) => (flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
  const values = argChoices === undefined ? (required || optional ? ["-r"] : []) : [`-x -a '${argChoices.join(" ")}'`];
  return [...names, ...values, `-d ${quoted(description)}`].join(" ");
}

function quoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
