/** A client was told, or was not told, what it must not have been; linearizability has an error of its own. */
export class BrokenPromise extends Error {
  override readonly name = "BrokenPromise";
}
