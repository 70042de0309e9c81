/** What a page shows, as commands of a terminal. */
import type { Inspect } from "../inspect.ts";
import { shellWord } from "./text.ts";

/** A method of a service, as descriptors name it. */
interface Named {
  readonly parent: { readonly typeName: string };
  readonly name: string;
}

/** Asks a method by its JSON; 64-bit numbers in `request` are texts. A token comes from where `varia` takes it, too. */
export function curl(
  { adminAddress, access }: Pick<Inspect, "adminAddress" | "access">,
  { parent, name }: Named,
  request: Readonly<Record<string, unknown>> = {},
): string {
  const token = access.needsToken ? ' -H "authorization: Bearer $VARIA_AUTH_TOKEN"' : "";
  const body = shellWord(JSON.stringify(request));
  return `curl -s http://${adminAddress()}/${parent.typeName}/${name} -H 'content-type: application/json'${token} -d ${body}`;
}
