/** What a change by way of a page is: what it says before, what it does, and what its kinds have in common. */
import { ListOperations } from "./admin.ts";
import type { Inspect, MethodOf } from "./inspect.ts";
import { PageError } from "./page.ts";
import { visible } from "./parts/text.ts";

type Fields = Readonly<Record<string, string>>;

export interface Preview {
  /** What will be, a sentence each. */
  readonly lines: readonly string[];
  /** The same as a command; undefined: there is none. */
  readonly command: string | undefined;
  /** To be typed before it is done; undefined: it can be taken back. */
  readonly typed?: string;
}

export interface Deed {
  readonly title: string;
  /** On the button. */
  readonly verb: string;
  /** Something is lost by it. */
  readonly isDestructive?: boolean;
  /** Names of its fields; more are not taken. */
  readonly fields: readonly string[];
  /** What it changes, for the events. */
  readonly about: (fields: Fields) => string;
  /** It is there where all of these are served. */
  readonly needs: readonly MethodOf<never, never>[];
  /** Throws PageError for what cannot be meant. */
  readonly preview: (inspect: Inspect, fields: Fields) => Promise<Preview>;
  /** Resolves to the address of the page that shows what has become of it. */
  readonly run: (inspect: Inspect, fields: Fields) => Promise<string>;
}

/** A deed whose fields are known by their names. */
export function deed<const Name extends string>(
  it: Omit<Deed, "fields" | "about" | "preview" | "run"> & {
    readonly fields: readonly Name[];
    readonly preview: (inspect: Inspect, fields: Readonly<Record<Name, string>>) => Promise<Preview>;
    readonly run: (inspect: Inspect, fields: Readonly<Record<Name, string>>) => Promise<string>;
  },
): Deed {
  return { ...(it as unknown as Deed), about: aboutOf };
}

/** The shard, the namespace and key, or the name that a form is about; never a value. */
function aboutOf({ namespace = "", shard = "", key = "", name = "", id = "", server = "" }: Fields): string {
  const where = [namespace, shard, visible(key)].filter((text) => text !== "").join("/");
  return [where, name, id, server].filter((text) => text !== "").join(" ");
}

export function needs(...methods: readonly unknown[]): readonly MethodOf<never, never>[] {
  return methods as readonly MethodOf<never, never>[];
}

/** The fields of a deed out of a form or an address; those that are missing are empty. */
export function fieldsOf({ fields }: Deed, given: URLSearchParams): Fields {
  return Object.fromEntries(fields.map((name) => [name, given.get(name) ?? ""]));
}

/** Throws PageError 400. */
export function wholeNumber(text: string): bigint {
  if (!/^\d{1,18}$/.test(text)) throw new PageError(400, `"${text}" is not a whole number.`);
  return BigInt(text);
}

export function operationAddress(operation: { readonly id: bigint } | undefined): string {
  return operation === undefined ? "/operations" : `/operations/${operation.id}`;
}

/** Oxia's methods do not say which operation they are; where none was recorded: `otherwise`. */
export async function newestOperation(calls: Inspect["calls"], kind: string, otherwise: string): Promise<string> {
  if (!calls.serves(ListOperations)) return otherwise;
  const [operation] = (await calls.call(ListOperations, { kind, limit: 1 })).operations;
  return operation === undefined ? otherwise : operationAddress(operation);
}
