/**
 * `varia client …`: records from the command line, with the flags and the output of Oxia's client. Data goes to standard
 * output, everything else to standard error; how a command ended is its exit code (exit.ts).
 */
import { type Command, InvalidArgumentError as InvalidFlag, Option } from "commander";
import { hexDump } from "../../web/parts/text.ts";
import type { VariaClient } from "../client/client.ts";
import type { SecondaryIndex } from "../client/options.ts";
import type { Version } from "../client/records.ts";
import { Comparison, type ComparisonName } from "../client/requests.ts";
import { utf8 } from "../lib/bytes.ts";
import { addConnectionFlags, type ConnectionFlags } from "./client-connection.ts";
import { addFeedCommands } from "./client-feeds.ts";
import { aborted, type ClientHost, PROCESS_HOST } from "./client-host.ts";
import { examples } from "./examples.ts";
import { EXIT, ExitError } from "./exit.ts";
import {
  json,
  keyObject,
  OUTPUT_FORMS,
  type OutputForm,
  printObject,
  printObjects,
  recordObject,
  versionObject,
  type Write,
} from "./output.ts";

interface ClientFlags extends ConnectionFlags {
  readonly output?: Exclude<OutputForm, "oxia">;
  readonly partitionKey?: string;
}

interface PutFlags extends ClientFlags {
  readonly expectedVersion?: number | bigint;
  readonly createOnly?: boolean;
  readonly stdIn?: boolean;
  readonly sequenceKeysDeltas?: readonly (number | bigint)[];
  readonly ephemeral?: boolean;
  readonly index?: readonly SecondaryIndex[];
}

interface GetFlags extends ClientFlags {
  readonly comparisonType: ComparisonName;
  readonly includeVersion?: boolean;
  readonly hex?: boolean;
  readonly index?: string;
}

interface DeleteFlags extends ClientFlags {
  readonly expectedVersion?: number | bigint;
}

interface RangeFlags extends ClientFlags {
  readonly keyMin?: string;
  readonly keyMax?: string;
  readonly internalKeys?: boolean;
  readonly index?: string;
}

interface ScanFlags extends RangeFlags {
  readonly includeVersion?: boolean;
  readonly hex?: boolean;
}

const PARTITION_KEY = ["-p, --partition-key <key>", "key that decides about the shard in place of KEY"] as const;
const KEY_MIN = ["-s, --key-min <key>", "first key of the range; default: from the start"] as const;
const KEY_MAX = ["-e, --key-max <key>", "key before which the range ends; default: to the end"] as const;
const HEX = ["--hex", "print values as a hex dump"] as const;
const INCLUDE_VERSION = ["-v, --include-version", "print the version of each record too"] as const;
const INDEX = ["--index <name>", "by the keys of this secondary index"] as const;
const INTERNAL_KEYS = ["--internal-keys", "also the keys that the server keeps for itself"] as const;

/** Adds `client` and its commands. */
export function addClientCommands(program: Command): void {
  const client = addConnectionFlags(program.command("client").description("Read and write records."))
    .addOption(new Option("-o, --output <form>", "table, json or yaml; default: as Oxia prints").choices(OUTPUT_FORMS))
    .addHelpText(
      "after",
      examples(
        "varia client put greeting hello",
        "varia client get greeting -v",
        "varia client list -s /a/ -e /a//          direct children of /a",
        "varia client -a db.example:6648 -n orders range-scan -o json",
      ),
    );
  addRecordCommands(client, PROCESS_HOST);
}

/** Adds the commands themselves, to be run on `host`. */
export function addRecordCommands(parent: Command, host: ClientHost): void {
  addPut(parent, host);
  addGet(parent, host);
  addDelete(parent, host);
  addDeleteRange(parent, host);
  addList(parent, host);
  addRangeScan(parent, host);
  addFeedCommands(parent, host);
}

// --- commands -------------------------------------------------------------------------------------------------

function addPut(parent: Command, host: ClientHost): void {
  parent
    .command("put")
    .description("Store a record, or replace it.")
    .argument("<KEY>")
    .argument("[VALUE]")
    .addOption(
      new Option("-e, --expected-version <id>", "only if the record has this version; -1: whatever it has").argParser(
        versionFlag,
      ),
    )
    .option("--create-only", "only if there is no record")
    .option(...PARTITION_KEY)
    .addOption(
      // in a shell standard input is what it reads its lines from
      new Option("-c, --std-in", "read the value from standard input, byte for byte").hideHelp(host.interactive),
    )
    .addOption(
      new Option(
        "-d, --sequence-keys-deltas <n,…>",
        "let the server number the key: KEY is what it starts with; needs -p",
      ).argParser(deltasFlag),
    )
    .option(
      "--ephemeral",
      host.interactive
        ? "delete the record when the shell ends"
        : "keep the record until the command is interrupted, and delete it then",
    )
    .addOption(
      new Option("--index <name=key>", "find the record by this key of an index too; may be repeated").argParser(
        indexEntryFlag,
      ),
    )
    .addHelpText(
      "after",
      examples(
        "varia client put greeting hello",
        "varia client put greeting hullo -e 0       only over version 0",
        "varia client put lock/a me --create-only   only if nobody has it",
        "varia client put logo --std-in < logo.png",
        "varia client put orders x -p shop -d 1     orders-00000000000000000001, …2",
        "varia client put u/1 Ada --index name=ada  found by name, too",
      ),
    )
    .action((key: string, value: string | undefined, _flags, command: Command) => put(key, value, command, host));
}

function addGet(parent: Command, host: ClientHost): void {
  parent
    .command("get")
    .description("Print a record's value.")
    .argument("<KEY>")
    .addOption(
      new Option("-t, --comparison-type <type>", "which record: at KEY, or the nearest one")
        .choices(Object.keys(Comparison))
        .default("equal"),
    )
    .option(...INCLUDE_VERSION)
    .option(...HEX)
    .option(...PARTITION_KEY)
    .option(...INDEX)
    .addHelpText(
      "after",
      examples(
        "varia client get greeting",
        "varia client get greeting -o json          key, value and version",
        "varia client get orders/99 -t floor -v     the last one up to orders/99",
      ),
    )
    .action((key: string, _flags, command: Command) =>
      run<GetFlags>(command, host, (it, flags, write) => get(it, key, flags, write)),
    );
}

function addDelete(parent: Command, host: ClientHost): void {
  parent
    .command("delete")
    .description("Delete a record.")
    .argument("<KEY>")
    .addOption(
      new Option("-e, --expected-version <id>", "only if the record has this version; -1: whatever it has").argParser(
        versionFlag,
      ),
    )
    .option(...PARTITION_KEY)
    .addHelpText(
      "after",
      examples("varia client delete greeting", "varia client delete greeting -e 7          only if it is version 7"),
    )
    .action((key: string, _flags, command: Command) =>
      run<DeleteFlags>(command, host, async (it, flags, write) => {
        const deleted = await it.delete(key, { ...expected(flags), ...routing(flags) });
        if (!deleted) throw new ExitError(EXIT.notFound, "key not found");
        if (flags.output !== undefined) await printObject(flags.output, { key, deleted }, write);
      }),
    );
}

function addDeleteRange(parent: Command, host: ClientHost): void {
  parent
    .command("delete-range")
    .description("Delete the records of a range of keys.")
    .option("-s, --key-min <key>", "first key of the range; default: from the start")
    .requiredOption("-e, --key-max <key>", "key before which the range ends")
    .option(...PARTITION_KEY)
    .addHelpText("after", examples("varia client delete-range -s /a/ -e /a//   the direct children of /a"))
    .action((_flags, command: Command) =>
      run<RangeFlags>(command, host, async (it, flags, write) => {
        const keyMin = flags.keyMin ?? "";
        const keyMax = flags.keyMax ?? "";
        await it.deleteRange(keyMin, keyMax, routing(flags));
        if (flags.output !== undefined) await printObject(flags.output, { key_min: keyMin, key_max: keyMax }, write);
      }),
    );
}

function addList(parent: Command, host: ClientHost): void {
  parent
    .command("list")
    .description("List the keys of a range.")
    .option(...KEY_MIN)
    .option(...KEY_MAX)
    .option(...INTERNAL_KEYS)
    .option(...PARTITION_KEY)
    .option(...INDEX)
    .addHelpText(
      "after",
      examples("varia client list", "varia client list -s /a/ -e /a//           direct children of /a"),
    )
    .action((_flags, command: Command) => run<RangeFlags>(command, host, list));
}

function addRangeScan(parent: Command, host: ClientHost): void {
  parent
    .command("range-scan")
    .description("Print the records of a range of keys.")
    .option(...KEY_MIN)
    .option(...KEY_MAX)
    .option(...INCLUDE_VERSION)
    .option(...HEX)
    .option(...INTERNAL_KEYS)
    .option(...PARTITION_KEY)
    .option(...INDEX)
    .addHelpText(
      "after",
      examples("varia client range-scan -s /a/ -e /a// -v", "varia client range-scan -o json > records.json"),
    )
    .action((_flags, command: Command) => run<ScanFlags>(command, host, rangeScan));
}

// --- what they do ---------------------------------------------------------------------------------------------

async function run<Flags extends ClientFlags>(
  command: Command,
  host: ClientHost,
  body: (client: VariaClient, flags: Flags, write: Write) => Promise<void>,
): Promise<void> {
  const flags = command.optsWithGlobals<Flags>();
  await host.run(flags, (client) => body(client, flags, host.output()));
}

async function put(key: string, given: string | undefined, command: Command, host: ClientHost): Promise<void> {
  const flags = command.optsWithGlobals<PutFlags>();
  if ((given === undefined) !== (flags.stdIn === true)) {
    throw new ExitError(EXIT.usage, "give the value either as VALUE or on standard input with --std-in");
  }
  if (flags.createOnly === true && flags.expectedVersion !== undefined) {
    throw new ExitError(EXIT.usage, "--create-only contradicts --expected-version");
  }
  if (given === undefined && host.interactive) throw new ExitError(EXIT.usage, "a shell has no input of its own");
  const value = given === undefined ? await Bun.stdin.bytes() : utf8(given);
  const only = flags.createOnly === true ? { mustNotExist: true } : expected(flags);
  const options = {
    ...only,
    ...routing(flags),
    ephemeral: flags.ephemeral === true,
    sequenceKeysDeltas: flags.sequenceKeysDeltas ?? [],
    secondaryIndexes: flags.index ?? [],
  };
  await run<PutFlags>(command, host, async (client, _flags, write) => {
    const interruption = flags.ephemeral === true && !host.interactive ? host.interruption() : undefined;
    const { keyBytes, version } = await client.put(key, value, options);
    const object = versionObject(keyBytes, version);
    if (flags.output === undefined) await write(`${json(object)}\n`);
    else await printObject(flags.output, object, write);
    if (interruption !== undefined) await aborted(interruption);
  });
}

async function get(client: VariaClient, key: string, flags: GetFlags, write: Write): Promise<void> {
  const record = await client.get(key, {
    comparison: flags.comparisonType,
    ...routing(flags),
    ...indexOf(flags),
  });
  if (record === undefined) throw new ExitError(EXIT.notFound, "key not found");
  const { keyBytes, value, version } = record;
  if (flags.output !== undefined)
    return printObject(flags.output, recordObject({ key: keyBytes, value, version }), write);
  await printValue(value, flags.hex === true, write);
  if (flags.includeVersion === true) await printVersion(keyBytes, version, write);
}

async function list(client: VariaClient, flags: RangeFlags, write: Write): Promise<void> {
  const pages = client.listBytes(rangeOf(flags)).pages();
  if (flags.output !== undefined) return printObjects(flags.output, mapPages(pages, keyObject), write);
  const lineEnd = utf8("\n");
  for await (const page of pages) await write(Buffer.concat(page.flatMap((key) => [key, lineEnd])));
}

async function rangeScan(client: VariaClient, flags: ScanFlags, write: Write): Promise<void> {
  const pages = client.rangeScan(rangeOf(flags)).pages();
  if (flags.output !== undefined) {
    const rows = mapPages(pages, ({ keyBytes, value, version }) => recordObject({ key: keyBytes, value, version }));
    return printObjects(flags.output, rows, write);
  }
  for await (const page of pages) {
    for (const { keyBytes, value, version } of page) {
      await printValue(value, flags.hex === true, write);
      if (flags.includeVersion === true) await printVersion(keyBytes, version, write);
    }
  }
}

async function printValue(value: Uint8Array, hex: boolean, write: Write): Promise<void> {
  if (hex) return write(hexDump(value));
  await write(Buffer.concat([value, utf8("\n")]));
}

async function printVersion(key: Uint8Array, version: Version, write: Write): Promise<void> {
  await write(`---\n${json(versionObject(key, version))}\n`);
}

async function* mapPages<T, U>(pages: AsyncIterable<readonly T[]>, convert: (item: T) => U): AsyncGenerator<U[]> {
  for await (const page of pages) yield page.map(convert);
}

// --- flags ----------------------------------------------------------------------------------------------------

function versionFlag(text: string): number | bigint {
  if (!/^-?\d{1,19}$/.test(text)) throw new InvalidFlag("A version id is a whole number.");
  return Number.isSafeInteger(Number(text)) ? Number(text) : BigInt(text);
}

/** Oxia's -1 says that the version does not matter. */
function expected({ expectedVersion }: DeleteFlags): { expectedVersionId?: number | bigint } {
  return expectedVersion === undefined || expectedVersion === -1 ? {} : { expectedVersionId: expectedVersion };
}

function routing({ partitionKey }: ClientFlags): { partitionKey?: string } {
  return partitionKey === undefined ? {} : { partitionKey };
}

function rangeOf(flags: RangeFlags) {
  return {
    startInclusive: flags.keyMin ?? "",
    endExclusive: flags.keyMax ?? "",
    includeInternalKeys: flags.internalKeys === true,
    ...routing(flags),
    ...indexOf(flags),
  };
}

function indexOf({ index }: { readonly index?: string }): { useIndex?: string } {
  return index === undefined ? {} : { useIndex: index };
}

function deltasFlag(text: string): (number | bigint)[] {
  const deltas = text.split(",");
  if (!deltas.every((delta) => /^\d{1,20}$/.test(delta))) throw new InvalidFlag("Deltas are whole numbers from 0: 1,5");
  return deltas.map((delta) => (Number.isSafeInteger(Number(delta)) ? Number(delta) : BigInt(delta)));
}

function indexEntryFlag(text: string, others: readonly SecondaryIndex[] = []): SecondaryIndex[] {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidFlag("An index entry is NAME=KEY.");
  return [...others, { name: text.slice(0, at), key: text.slice(at + 1) }];
}
