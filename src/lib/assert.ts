/**
 * Assertions: always on, also in production. They guard what our own code promises; what comes from outside is
 * checked and refused instead (model/refusal.ts).
 */

/** A promise of our own code was broken. Whoever owns the replica or stream stops it; nobody carries on. */
export class AssertionError extends Error {
  override readonly name = "AssertionError";
  readonly values: readonly unknown[];

  constructor(message: string, values: readonly unknown[]) {
    super(values.length === 0 ? message : `${message}: ${values.map(String).join(", ")}`);
    this.values = values;
  }
}

/** Throws AssertionError unless `condition` holds. `message` is constant: values go beside it, so that nothing is built on success. */
export function assert(condition: boolean, message: string, ...values: unknown[]): asserts condition {
  if (!condition) throw new AssertionError(message, values);
}

/** Ends a `switch` over a union: does not compile while a member is missing. */
export function unreachable(value: never): never {
  throw new AssertionError("unreachable value", [value]);
}
