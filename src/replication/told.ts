/**
 * What a coordinator last told of a shard, kept as a text of its own (ports.ts, Documents): where the shard's state lies
 * and how it is applied, which a follower has to know after a restart, when a stream comes without a NewTerm before it.
 *
 * Of the options only two touch what apply does. The key order never changes in the life of a shard. Whether
 * notifications are kept may: a replica applies with the options of the last NewTerm that it has answered, also entries
 * of earlier terms, so that two replicas may differ in which notifications they still have; never in a record, a version
 * or the state's hash.
 */
import type { KeySorting } from "../model/keys.ts";
import type { ReadConsistency, TermOptions } from "../model/peer-messages.ts";

export interface Told {
  readonly namespace: string;
  readonly options: TermOptions;
}

const SORTINGS: readonly KeySorting[] = ["hierarchical", "natural"];
const CONSISTENCIES: readonly ReadConsistency[] = ["linearizable", "leader"];

export function encodeTold({ namespace, options }: Told): string {
  const { notificationsEnabled, keySorting, readConsistency } = options;
  return JSON.stringify({ namespace, notificationsEnabled, keySorting, readConsistency });
}

/** Undefined for a text that is not one of these: the replica waits for its next NewTerm then. */
export function decodeTold(text: string): Told | undefined {
  const fields = parsed(text);
  const { namespace, notificationsEnabled, keySorting, readConsistency } = fields;
  if (typeof namespace !== "string" || namespace === "" || typeof notificationsEnabled !== "boolean") return undefined;
  const sorting = SORTINGS.find((known) => known === keySorting);
  const consistency = CONSISTENCIES.find((known) => known === readConsistency);
  if (sorting === undefined || consistency === undefined) return undefined;
  return { namespace, options: { notificationsEnabled, keySorting: sorting, readConsistency: consistency } };
}

export function sameTold(a: Told | undefined, b: Told): boolean {
  return a !== undefined && encodeTold(a) === encodeTold(b);
}

function parsed(text: string): Partial<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    return {};
  }
}
