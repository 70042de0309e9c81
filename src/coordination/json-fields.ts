/**
 * Reads and writes JSON objects as protobuf's JSON mapping has them: an absent field is its default, 64-bit numbers are
 * decimal text or numbers, enum values are names or numbers. What a reader did not ask for is left over and goes back
 * where it was. Every complaint names the path: `namespaces.default.shards.0.term`.
 *
 * Source: the ProtoJSON format, which Oxia's status codec reads.
 */
import { type Json, type JsonObject, objectAt, StatusInvalid } from "../model/status-entries.ts";

/** One object's fields, read one by one. */
export class Fields {
  readonly path: string;
  readonly #object: JsonObject;
  readonly #read = new Set<string>();

  constructor(path: string, value: Json) {
    this.path = path;
    this.#object = objectAt(path, value);
  }

  has(name: string): boolean {
    return this.take(name) !== undefined;
  }

  text(name: string): string {
    return this.optionalText(name) ?? "";
  }

  optionalText(name: string): string | undefined {
    const value = this.take(name);
    if (value === undefined || typeof value === "string") return value;
    return this.fail(name, "is not text");
  }

  /** A whole number from `min` to `max`, both inclusive. */
  number(name: string, min: number, max = Number.MAX_SAFE_INTEGER): number {
    return wholeNumber(this.at(name), this.take(name) ?? 0, min, max);
  }

  optionalNumber(name: string, min: number): number | undefined {
    return this.has(name) ? this.number(name, min) : undefined;
  }

  /** Unsigned 63 bits. */
  bigint(name: string): bigint {
    const value = this.take(name);
    const sound = typeof value === "string" && /^\d{1,19}$/.test(value) && BigInt(value) < 1n << 63n;
    return sound ? BigInt(value) : this.fail(name, "is not a decimal number of 63 bits, as text");
  }

  /** One of `names`, or its position among them; absent: the first. */
  name<Name extends string>(name: string, names: readonly Name[]): Name {
    const value = this.take(name) ?? 0;
    const found = names.find((candidate, number) => candidate === value || number === value);
    return found ?? this.fail(name, `is not one of ${names.join(", ")}`);
  }

  /** Each element with its path. */
  list<Item>(name: string, read: (path: string, value: Json) => Item): Item[] {
    const value = this.take(name) ?? [];
    if (!Array.isArray(value)) return this.fail(name, "is not a list");
    return value.map((item: Json, index) => read(`${this.at(name)}.${index}`, item));
  }

  optionalList<Item>(name: string, read: (path: string, value: Json) => Item): Item[] | undefined {
    return this.has(name) ? this.list(name, read) : undefined;
  }

  /** Each value of an object with its key and path. */
  map<Key, Item>(name: string, read: (path: string, value: Json, key: string) => [Key, Item]): Map<Key, Item> {
    const object = objectAt(this.at(name), this.take(name) ?? {});
    return new Map(Object.entries(object).map(([key, value]) => read(`${this.at(name)}.${key}`, value, key)));
  }

  optional<Item>(name: string, read: (path: string, value: Json) => Item): Item | undefined {
    const value = this.take(name);
    return value === undefined ? undefined : read(this.at(name), value);
  }

  /** What nobody asked for. */
  rest(): JsonObject {
    return Object.fromEntries(Object.entries(this.#object).filter(([name]) => !this.#read.has(name)));
  }

  fail(name: string, what: string): never {
    throw new StatusInvalid(this.at(name), what);
  }

  /** Null counts as absent, as in ProtoJSON. */
  take(name: string): Json | undefined {
    this.#read.add(name);
    return (Object.hasOwn(this.#object, name) ? this.#object[name] : undefined) ?? undefined;
  }

  at(name: string): string {
    return this.path === "" ? name : `${this.path}.${name}`;
  }
}

/** A whole number, or decimal text of one, from `min` to `max`, both inclusive. */
export function wholeNumber(path: string, value: Json, min: number, max = Number.MAX_SAFE_INTEGER): number {
  const number = typeof value === "string" && /^-?\d{1,16}$/.test(value) ? Number(value) : value;
  if (typeof number !== "number" || !Number.isSafeInteger(number) || number < min || number > max) {
    throw new StatusInvalid(path, `is not a whole number from ${min} to ${max}`);
  }
  return number === 0 ? 0 : number;
}

/** An object of the fields that have a value; fields that were left over come last and never replace one. */
export function jsonObject(fields: Readonly<Record<string, Json | undefined>>, rest: JsonObject): JsonObject {
  const present = Object.entries(fields).filter((field): field is [string, Json] => field[1] !== undefined);
  const others = Object.entries(rest).filter(([name]) => !Object.hasOwn(fields, name));
  return Object.fromEntries([...present, ...others]);
}
