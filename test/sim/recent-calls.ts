/** The last calls that a data server has heard, over all its processes, so that any of them can come once more. */
import { Refusal, Unreachable } from "../../src/model/refusal.ts";
import type { PeerServer } from "./peer-service.ts";
import type { SimRandom } from "./random.ts";

const METHODS = [
  "newTerm",
  "becomeLeader",
  "addFollower",
  "freezeShard",
  "removeObserver",
  "deleteShard",
  "truncate",
] as const;
export type RepeatedMethod = (typeof METHODS)[number];
type RequestOf<Name extends RepeatedMethod> = Parameters<PeerServer[Name]>[0];

const KEPT_MAX = 4;

export class RecentCalls {
  /** Requests that come once more. */
  readonly #onTheirWay = new Set<object>();
  readonly #calls = new Map<RepeatedMethod, ((server: PeerServer) => Promise<unknown>)[]>();

  /** Whether it comes once more: then nobody waits for its answer. */
  heard<Name extends RepeatedMethod>(method: Name, request: RequestOf<Name>): boolean {
    if (this.#onTheirWay.delete(request)) return true;
    const calls = this.#calls.get(method) ?? [];
    calls.push((server) => {
      this.#onTheirWay.add(request);
      // biome-ignore lint/suspicious/noExplicitAny: the request is this method's
      return server[method](request as any);
    });
    if (calls.length > KEPT_MAX) calls.shift();
    this.#calls.set(method, calls);
    return false;
  }

  /** Makes the last call of a method once more. Rejects with what it is refused. */
  async again(server: PeerServer, method: RepeatedMethod): Promise<void> {
    await this.#calls.get(method)?.at(-1)?.(server);
  }

  /** Calls `server` as it was called before; each method is as likely as any other. */
  async repeat(server: PeerServer, random: SimRandom): Promise<void> {
    const methods = [...this.#calls.keys()].sort();
    if (methods.length === 0) return;
    const call = random.pick(this.#calls.get(random.pick(methods))!);
    try {
      await call(server);
    } catch (error) {
      if (!(error instanceof Refusal) && !(error instanceof Unreachable)) throw error;
    }
  }
}
