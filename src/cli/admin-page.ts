/** Lists that a coordinator tells page by page, the newest first, each item with an id that rises. */
import { type Command, Option } from "commander";
import type { AdminFlags } from "./admin-connection.ts";
import { integerFlag } from "./client-connection.ts";
import { onePage, printObject, printObjects, standardOutput } from "./output.ts";

export interface PageFlags extends AdminFlags {
  readonly limit: number;
  /** Id; undefined: from the newest on. */
  readonly before?: number;
}

interface Page {
  readonly rows: readonly (Readonly<Record<string, unknown>> & { readonly id: bigint })[];
  /** There are older ones. */
  readonly hasMore: boolean;
}

const LIMIT_DEFAULT = 50;

/** `limitMax`: of one page. */
export function addPageFlags(command: Command, limitMax: number): Command {
  return command
    .addOption(new Option("--limit <n>", "so many at most").default(LIMIT_DEFAULT).argParser(integerFlag(1, limitMax)))
    .addOption(new Option("--before <id>", "only those before this one").argParser(integerFlag(1)));
}

export function pageRequest({ limit, before = 0 }: PageFlags) {
  return { limit, beforeId: BigInt(before) };
}

/** As JSON and YAML an object, with the rows as its field `name`; where it is a table, standard error tells how to go on. */
export async function printPage({ output }: PageFlags, name: string, { rows, hasMore }: Page): Promise<void> {
  const write = standardOutput();
  if (output === "json" || output === "yaml") return printObject(output, { [name]: rows, has_more: hasMore }, write);
  await printObjects(output, onePage(rows), write);
  if (hasMore) console.error(`There are more: --before ${rows.at(-1)!.id} lists those before, --limit more at once.`);
}
