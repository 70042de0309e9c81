/** Changes of records, by the client that everybody may use. */
import { userKey } from "../src/client/arguments.ts";
import { UnexpectedVersionIdError } from "../src/client/errors.ts";
import { utf8 } from "../src/lib/bytes.ts";
import { deed, wholeNumber } from "./deed.ts";
import type { Inspect } from "./inspect.ts";
import { recordAddress, routesOf, shardIdOf } from "./key-space.ts";
import { ADDRESS_CHARACTERS_MAX, isTooLong, PageError } from "./page.ts";
import { query } from "./parts/format.ts";
import { shellWord, visible } from "./parts/text.ts";
import { leadsTo, type ShardRoute } from "./shard-routes.ts";

export const RECORD_DEEDS = {
  "delete-record": deed({
    title: "Delete record",
    isDestructive: true,
    verb: "Delete",
    fields: ["namespace", "key", "version", "partitionKey", "shard"],
    needs: [],
    async preview(inspect, { namespace, key, version, ...at }) {
      await requireRecord(inspect, { namespace, key, version });
      const { partitionKey = "" } = await leading(inspect, namespace, at);
      const lines = [
        `The record ${visible(key)} of ${namespace} will be deleted, if its version is still ${version}.`,
        ...(at.partitionKey === "" ? [] : [`Its partition key is ${visible(at.partitionKey)}.`]),
        ...(at.shard === "" ? [] : [`It is in shard ${namespace}/${at.shard}.`]),
      ];
      const flags = partitionKey === "" ? "" : ` -p ${shellWord(partitionKey)}`;
      const to = `-a ${inspect.clientAddress() ?? ""} -n ${shellWord(namespace)}`;
      return { lines, command: `varia client ${to} delete ${shellWord(key)} -e ${shellWord(version)}${flags}` };
    },
    async run(inspect, { namespace, key, version, ...at }) {
      const client = await inspect.client(namespace);
      const options = { expectedVersionId: wholeNumber(version), ...(await leading(inspect, namespace, at)) };
      await unlessChanged(() => client.delete(key, options));
      const address = `/keys${query({ namespace, place: key.slice(0, key.lastIndexOf("/") + 1) })}`;
      return isTooLong(address) ? `/keys${query({ namespace })}` : address;
    },
  }),
  "put-record": deed({
    title: "Write record",
    verb: "Write",
    fields: ["namespace", "key", "value", "version", "partitionKey", "shard"],
    needs: [],
    async preview(inspect, { namespace, key, version, partitionKey }) {
      await requireRecord(inspect, { namespace, key, version: version === "" ? "0" : version });
      if (isTooLong(recordAddress({ namespace, key, partitionKey }))) throw tooLong(key);
      const condition = version === "" ? "if there is none yet" : `if its version is still ${version}`;
      return {
        lines: [`The record ${visible(key)} of ${namespace} will be written, ${condition}.`],
        command: undefined,
      };
    },
    async run(inspect, { namespace, key, value, version, partitionKey, shard }) {
      const client = await inspect.client(namespace);
      if (shard !== "") await requireShard(inspect, { namespace, shard, key, partitionKey });
      const expected = version === "" ? { mustNotExist: true } : { expectedVersionId: wholeNumber(version) };
      const options = partitionKey === "" ? expected : { ...expected, partitionKey };
      // browsers send the ends of lines as two characters
      await unlessChanged(() => client.put(key, value.replaceAll("\r\n", "\n"), options));
      return recordAddress({ namespace, key, partitionKey });
    },
  }),
};

/** What is wrong with a record's name is told before anything is asked of its shard. */
async function requireRecord(
  inspect: Inspect,
  { namespace, key, version }: { readonly namespace: string; readonly key: string; readonly version: string },
): Promise<void> {
  if (key === "") throw new PageError(400, "A key is needed.");
  wholeNumber(version);
  // as the client itself refuses it
  userKey(key);
  await inspect.client(namespace);
}

/** It could be written, but the page that leads on from there could not be asked for. */
function tooLong(key: string): PageError {
  return new PageError(
    413,
    `The key has ${utf8(key).length} bytes, and the address of its page would have more than ${ADDRESS_CHARACTERS_MAX} characters: nothing was written. \`varia client put\` writes it.`,
  );
}

/** The partition key that was given, or one that leads to the shard that was; none where the key leads there by itself. */
async function leading(
  inspect: Inspect,
  namespace: string,
  { partitionKey, shard }: { readonly partitionKey: string; readonly shard: string },
): Promise<{ partitionKey?: string }> {
  if (partitionKey !== "") return { partitionKey };
  if (shard === "") return {};
  return { partitionKey: (await routeTo(inspect, namespace, shard)).partitionKey };
}

/**
 * A record is stored with the partition key of its last put, so that any one that leads to its shard would not do: the
 * one that it was written with is needed, and one that leads elsewhere is known to be wrong.
 */
async function requireShard(
  inspect: Inspect,
  fields: { readonly namespace: string; readonly shard: string; readonly key: string; readonly partitionKey: string },
): Promise<void> {
  const { namespace, shard, key, partitionKey } = fields;
  const route = await routeTo(inspect, namespace, shard);
  if (leadsTo(route, partitionKey === "" ? key : partitionKey)) return;
  const what = partitionKey === "" ? "The key alone" : `The partition key ${visible(partitionKey)}`;
  throw new PageError(
    400,
    `${what} does not lead to shard ${namespace}/${shard}, which holds the record: nothing was written. Give the partition key that it was written with.`,
  );
}

async function routeTo(inspect: Inspect, namespace: string, shard: string): Promise<ShardRoute> {
  const id = shardIdOf(shard);
  const route = (await routesOf({ inspect }, namespace)).find((one) => one.shard === id);
  if (route === undefined) throw new PageError(404, `There is no shard ${namespace}/${shard}.`);
  return route;
}

async function unlessChanged(write: () => Promise<unknown>): Promise<void> {
  try {
    await write();
  } catch (error) {
    if (!(error instanceof UnexpectedVersionIdError)) throw error;
    throw new PageError(409, "The record has changed since you saw it: nothing was written. Look at it again.");
  }
}
