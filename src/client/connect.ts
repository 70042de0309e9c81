/** Connects a program: the client over HTTP/2, the system's clock and the platform's hash. */
import { VariaClient } from "./client.ts";
import { Http2Transport } from "./http2-transport.ts";
import { type ClientOptions, resolveOptions } from "./options.ts";
import { loadKeyHash, platformClock } from "./platform.ts";

/**
 * A client of one namespace, once its shards are known. Rejects with NamespaceNotFoundError, with RequestTimeoutError
 * when no server answers within `requestTimeoutMs`, and with InvalidArgumentError. Close it when done: its connections
 * keep the program running.
 */
export async function connect(options: ClientOptions = {}): Promise<VariaClient> {
  const resolved = resolveOptions(options);
  const ports = {
    clock: platformClock,
    transport: new Http2Transport(resolved),
    hash: await loadKeyHash(),
    random: Math.random,
  };
  return VariaClient.open(ports, resolved);
}
