/**
 * How often a client has sent each write. It sends what was in flight again when a stream breaks, so a write may be
 * carried out once for each time that it was sent. Values are unique, and a client has at most one delete of a key and
 * one range delete on a shard under way: so what is sent can be told apart.
 */
import { type Bytes, text } from "../../../src/lib/bytes.ts";
import { decodeWrite } from "../../../src/wire/requests.ts";
import type { TappedCall, TransportTap } from "./transport.ts";

export class Sends implements TransportTap {
  readonly #times = new Map<string, number>();

  /** A request of a WriteStream. */
  sent(_: TappedCall, message: Bytes): void {
    const { shard, puts, deletes, deleteRanges } = decodeWrite(message);
    for (const { value } of puts) this.#count(nameOf("put", text(value)));
    for (const { key } of deletes) this.#count(nameOf("delete", text(key)));
    for (let nth = 0; nth < deleteRanges.length; nth++) this.#count(nameOf("delete-range", String(shard)));
  }

  /**
   * From now on; the function says how often it was sent but for the first time, and is called once. `name`: the value
   * of a put, the key of a delete, the shard of a range delete.
   */
  watch(kind: "put" | "delete" | "delete-range", name: string): () => number {
    const watched = nameOf(kind, name);
    this.#times.set(watched, 0);
    return () => {
      const times = this.#times.get(watched) ?? 0;
      this.#times.delete(watched);
      return Math.max(0, times - 1);
    };
  }

  #count(name: string): void {
    const times = this.#times.get(name);
    if (times !== undefined) this.#times.set(name, times + 1);
  }
}

function nameOf(kind: string, name: string): string {
  return `${kind} ${name}`;
}
