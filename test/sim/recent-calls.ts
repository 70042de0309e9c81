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
  readonly #calls = new Map<RepeatedMethod, ((server: PeerServer) => Promise<unknown>)[]>();

  heard<Name extends RepeatedMethod>(method: Name, request: RequestOf<Name>): void {
    const calls = this.#calls.get(method) ?? [];
    // biome-ignore lint/suspicious/noExplicitAny: the request is this method's
    calls.push((server) => server[method](request as any));
    if (calls.length > KEPT_MAX) calls.shift();
    this.#calls.set(method, calls);
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
