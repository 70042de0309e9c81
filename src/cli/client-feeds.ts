/** `varia client notifications` and `sequence-updates`: a line for each change, until interrupted. */
import type { Command } from "commander";
import { stringify } from "yaml";
import type { NotificationItem } from "../client/changes.ts";
import { utf8 } from "../lib/bytes.ts";
import type { ConnectionFlags } from "./client-connection.ts";
import type { ClientHost } from "./client-host.ts";
import { examples } from "./examples.ts";
import { bytesField, json, keyObject, type OutputForm, printObjects, type Write } from "./output.ts";

interface FeedFlags extends ConnectionFlags {
  readonly output?: Exclude<OutputForm, "oxia">;
  readonly partitionKey: string;
}

type Row = Readonly<Record<string, unknown>>;

export function addFeedCommands(parent: Command, host: ClientHost): void {
  parent
    .command("notifications")
    .description("Print all changes of records, as they happen.")
    .addHelpText(
      "after",
      `
One JSON object a line, until interrupted. Changes of one shard come in order.`,
    )
    .addHelpText("after", examples("varia client notifications", `varia client notifications | grep '"deleted"'`))
    .action((_flags, command: Command) => notifications(command.optsWithGlobals<FeedFlags>(), host));
  parent
    .command("sequence-updates")
    .description("Print the highest key of a sequence, now and whenever it grows.")
    .argument("<KEY>", "what the keys of the sequence start with")
    .requiredOption("-p, --partition-key <key>", "partition key of the sequence")
    .addHelpText("after", examples("varia client sequence-updates orders -p shop"))
    .action((key: string, _flags, command: Command) =>
      sequenceUpdates(key, command.optsWithGlobals<FeedFlags>(), host),
    );
}

async function notifications(flags: FeedFlags, host: ClientHost): Promise<void> {
  const signal = host.interruption();
  await host.run(flags, async (client) => {
    const changes = await client.notifications({ signal });
    console.error(`listening to ${client.shardCount} shards; interrupt to stop`);
    await printRows(flags.output, mapped(changes, changeObject), host.output());
  });
}

async function sequenceUpdates(key: string, flags: FeedFlags, host: ClientHost): Promise<void> {
  const signal = host.interruption();
  await host.run(flags, async (client) => {
    const keys = client.sequenceUpdates(key, { partitionKey: flags.partitionKey, signal });
    const write = host.output();
    if (flags.output === undefined) for await (const highest of keys) await write(`${highest}\n`);
    else
      await printRows(
        flags.output,
        mapped(keys, (highest) => keyObject(utf8(highest))),
        write,
      );
  });
}

function changeObject(item: NotificationItem): Row {
  if (item.type === "missed") return { type: item.type, shard: item.shard, writes_max: item.writesMax };
  return {
    type: item.type,
    ...keyObject(item.keyBytes),
    ...(item.versionId === undefined ? {} : { version_id: item.versionId }),
    ...(item.keyRangeLastBytes === undefined ? {} : bytesField("key_range_last", item.keyRangeLastBytes)),
  };
}

/** A stream without an end, each row as it comes: lines of JSON, documents of YAML, lines of a table. */
export async function printRows(form: FeedFlags["output"], rows: AsyncIterable<Row>, write: Write): Promise<void> {
  if (form === "table") return printObjects(form, pagesOfOne(rows), write);
  for await (const row of rows) await write(form === "yaml" ? `---\n${stringify(row)}` : `${json(row)}\n`);
}

async function* mapped<T, U>(items: AsyncIterable<T>, convert: (item: T) => U): AsyncGenerator<U> {
  for await (const item of items) yield convert(item);
}

async function* pagesOfOne(rows: AsyncIterable<Row>): AsyncGenerator<readonly Row[]> {
  for await (const row of rows) yield [row];
}
