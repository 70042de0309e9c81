/** The data servers of the cluster: one link each, for those that are configured and those that hold a copy of a shard. */
import type { Feature, ShardAssignments } from "../model/peer-messages.ts";
import { type LinkHooks, type LinkPorts, ServerLink, type ServerState } from "./server-link.ts";

export interface ServersHooks extends LinkHooks {
  /** A link has ended with an error that is not of its server's making. */
  fault(error: unknown): void;
}

export interface ServerStatus {
  readonly server: string;
  readonly state: ServerState;
  /** Empty when it is available. */
  readonly why: string;
}

export class Servers {
  readonly #ports: LinkPorts;
  readonly #hooks: ServersHooks;
  readonly #links = new Map<string, ServerLink>();
  readonly #running = new Set<Promise<void>>();
  readonly #watchers = new Set<{ readonly server: string; readonly gone: () => void }>();
  #assignments: ShardAssignments | undefined;
  #stopped = false;

  constructor(ports: LinkPorts, hooks: ServersHooks) {
    this.#ports = ports;
    this.#hooks = {
      changed: (server, state) => {
        if (state === "unavailable") this.#gone(server);
        hooks.changed(server, state);
      },
      fault: (error) => hooks.fault(error),
    };
  }

  /** Holds on to these, and lets go of all others. */
  keep(servers: ReadonlySet<string>): void {
    if (this.#stopped) return;
    for (const [server, link] of this.#links) {
      if (servers.has(server)) continue;
      link.stop();
      this.#links.delete(server);
      this.#gone(server);
    }
    for (const server of servers) {
      if (this.#links.has(server)) continue;
      const link = new ServerLink(this.#ports, server, this.#hooks);
      this.#links.set(server, link);
      if (this.#assignments !== undefined) link.publish(this.#assignments);
      const running: Promise<void> = link.run().catch(this.#hooks.fault);
      this.#running.add(running);
      void running.finally(() => this.#running.delete(running));
    }
  }

  /** Resolves once each has been found available or not. */
  async tried(): Promise<void> {
    await Promise.all([...this.#links.values()].map(({ tried }) => tried));
  }

  /** Whether calls may be sent to it: it answers, and the process that does has been greeted. */
  isAvailable(server: string): boolean {
    const state = this.state(server);
    return state === "available" || state === "leaving";
  }

  /** Whether it is available, and not about to stop: a leader may be put there. */
  isStaying(server: string): boolean {
    return this.state(server) === "available";
  }

  state(server: string): ServerState {
    return this.#links.get(server)?.state ?? "unavailable";
  }

  why(server: string): string {
    return this.#links.get(server)?.why ?? "is not known";
  }

  features(server: string): readonly Feature[] | undefined {
    return this.#links.get(server)?.features;
  }

  list(): ServerStatus[] {
    return [...this.#links.values()].map(({ server, state, why }) => ({ server, state, why }));
  }

  publish(assignments: ShardAssignments): void {
    this.#assignments = assignments;
    for (const link of this.#links.values()) link.publish(assignments);
  }

  /** Calls `gone` when the server becomes unavailable; the returned function ends that. */
  watch(server: string, gone: () => void): () => void {
    const watcher = { server, gone };
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const link of this.#links.values()) link.stop();
    await Promise.all(this.#running);
  }

  #gone(server: string): void {
    for (const watcher of [...this.#watchers]) if (watcher.server === server) watcher.gone();
  }
}
