/**
 * How often a client has sent each write. It sends what was in flight again when a stream breaks, so a write may be
 * carried out once for each time that it was sent. Values are unique, and a client has at most one delete of a key and
 * one range delete on a shard under way: so what is sent can be told apart.
 */
import { type Bytes, text } from "../../../src/lib/bytes.ts";
import { decodeWrite } from "../../../src/wire/requests.ts";
import type { TappedCall, TransportTap } from "./transport.ts";

export class Sends implements TransportTap {
  readonly #watched = new Map<string, { times: number; readonly again: () => void }>();

  /** A request of a WriteStream. */
  sent(_: TappedCall, message: Bytes): void {
    const { shard, puts, deletes, deleteRanges } = decodeWrite(message);
    for (const { value } of puts) this.#count(nameOf("put", text(value)));
    for (const { key } of deletes) this.#count(nameOf("delete", text(key)));
    for (let nth = 0; nth < deleteRanges.length; nth++) this.#count(nameOf("delete-range", String(shard)));
  }

  /**
   * From now on `again` is called each time that it is sent, but for the first one. The returned function ends that.
   * `name`: the value of a put, the key of a delete, the shard of a range delete.
   */
  watch(kind: "put" | "delete" | "delete-range", name: string, again: () => void): () => void {
    const watched = nameOf(kind, name);
    this.#watched.set(watched, { times: 0, again });
    return () => this.#watched.delete(watched);
  }

  #count(name: string): void {
    const watched = this.#watched.get(name);
    if (watched !== undefined && ++watched.times > 1) watched.again();
  }
}

function nameOf(kind: string, name: string): string {
  return `${kind} ${name}`;
}
