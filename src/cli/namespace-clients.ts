/** Clients of this cluster that a server itself uses, one a namespace: for pages, and for what is asked of sessions. */
import type { VariaClient } from "../client/client.ts";
import { connect } from "../client/connect.ts";

const CLIENT_IDENTITY = "varia-dashboard";
const CLIENTS_MAX = 20;
export const CLIENT_TIMEOUT_MS = 5_000;

export class NamespaceClients {
  readonly #address: () => string | undefined;
  readonly #clients = new Map<string, Promise<VariaClient>>();

  /** `address`: `host:port` of a server that takes clients; undefined: none does now. */
  constructor(address: () => string | undefined) {
    this.#address = address;
  }

  /** The one that has not been asked for longest goes when there are too many. */
  of(namespace: string): Promise<VariaClient> {
    const known = this.#clients.get(namespace);
    this.#clients.delete(namespace);
    const client = known ?? this.#connect(namespace);
    this.#clients.set(namespace, client);
    if (this.#clients.size > CLIENTS_MAX) this.#drop(this.#clients.keys().next().value!);
    return client;
  }

  async close(): Promise<void> {
    const clients = [...this.#clients.values()];
    this.#clients.clear();
    await Promise.allSettled(clients.map(async (client) => (await client).close()));
  }

  #connect(namespace: string): Promise<VariaClient> {
    const serviceAddress = this.#address();
    if (serviceAddress === undefined) return Promise.reject(new Error("no data server is available"));
    const options = { serviceAddress, namespace, clientIdentity: CLIENT_IDENTITY, requestTimeoutMs: CLIENT_TIMEOUT_MS };
    const client = connect(options);
    // one that never came to be is tried anew
    client.catch(() => this.#clients.delete(namespace));
    return client;
  }

  #drop(namespace: string): void {
    const client = this.#clients.get(namespace);
    this.#clients.delete(namespace);
    client?.then((one) => one.close()).catch(() => {});
  }
}
