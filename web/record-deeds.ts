/** Changes of records, by the client that everybody may use. */
import { UnexpectedVersionIdError } from "../src/client/errors.ts";
import { deed, wholeNumber } from "./deed.ts";
import { PageError } from "./page.ts";
import { query } from "./parts/format.ts";
import { shellWord, visible } from "./parts/text.ts";

export const RECORD_DEEDS = {
  "delete-record": deed({
    title: "Delete record",
    verb: "Delete",
    fields: ["namespace", "key", "version"],
    needs: [],
    async preview(inspect, { namespace, key, version }) {
      const lines = [`The record ${visible(key)} of ${namespace} will be deleted, if its version is still ${version}.`];
      const at = `-a ${inspect.clientAddress() ?? ""} -n ${shellWord(namespace)}`;
      return { lines, command: `varia client ${at} delete ${shellWord(key)} -e ${shellWord(version)}` };
    },
    async run(inspect, { namespace, key, version }) {
      const client = await inspect.client(namespace);
      await unlessChanged(() => client.delete(key, { expectedVersionId: BigInt(wholeNumber(version)) }));
      return `/keys${query({ namespace, place: key.slice(0, key.lastIndexOf("/") + 1) })}`;
    },
  }),
  "put-record": deed({
    title: "Write record",
    verb: "Write",
    fields: ["namespace", "key", "value", "version"],
    needs: [],
    async preview(_, { namespace, key, version }) {
      const condition = version === "" ? "if there is none yet" : `if its version is still ${version}`;
      return {
        lines: [`The record ${visible(key)} of ${namespace} will be written, ${condition}.`],
        command: undefined,
      };
    },
    async run(inspect, { namespace, key, value, version }) {
      if (key === "") throw new PageError(400, "A key is needed.");
      const client = await inspect.client(namespace);
      const expected = version === "" ? { mustNotExist: true } : { expectedVersionId: BigInt(wholeNumber(version)) };
      // browsers send the ends of lines as two characters
      await unlessChanged(() => client.put(key, value.replaceAll("\r\n", "\n"), expected));
      return `/keys/record${query({ namespace, key })}`;
    },
  }),
};

async function unlessChanged(write: () => Promise<unknown>): Promise<void> {
  try {
    await write();
  } catch (error) {
    if (!(error instanceof UnexpectedVersionIdError)) throw error;
    throw new PageError(409, "The record has changed since you saw it: nothing was written. Look at it again.");
  }
}
