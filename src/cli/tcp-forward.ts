/** Takes connections at one address and hands each to another one, byte by byte. */
import { connect, createServer, type Server, type Socket } from "node:net";
import { CONNECTIONS_MAX } from "../model/limits.ts";
import type { Address } from "../ops/settings.ts";

/** How long the other side has to take a connection, in milliseconds. */
const CONNECT_MS_MAX = 2_000;

export interface TcpForwardOptions {
  readonly address: Address;
  /** Where a connection of this peer goes; tried in order. */
  readonly targets: (peer: string) => readonly Address[];
}

export class TcpForward {
  readonly #targets: TcpForwardOptions["targets"];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  /** Rejects when the address cannot be had. */
  static start(options: TcpForwardOptions): Promise<TcpForward> {
    const forward = new TcpForward(options);
    const { host, port } = options.address;
    return new Promise((resolve, reject) => {
      forward.#server.once("error", reject);
      forward.#server.listen({ host, port }, () => resolve(forward));
    });
  }

  private constructor({ targets }: TcpForwardOptions) {
    this.#targets = targets;
    // bytes may come before there is anybody to take them
    this.#server = createServer({ noDelay: true, pauseOnConnect: true }, (socket) => this.#accept(socket));
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  /** Ends all connections: who connects again is led anew. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.cut();
    await closed;
  }

  #accept(socket: Socket): void {
    this.#keep(socket);
    this.#lead(socket, [...this.#targets(socket.remoteAddress ?? "")]);
  }

  #lead(socket: Socket, targets: Address[]): void {
    const target = targets.shift();
    if (target === undefined || socket.destroyed) {
      socket.destroy();
      return;
    }
    const other = connect({ ...target, noDelay: true });
    this.#keep(other);
    other.setTimeout(CONNECT_MS_MAX, () => other.destroy());
    const next = () => this.#lead(socket, targets);
    other.once("close", next);
    socket.once("close", () => other.destroy());
    other.once("connect", () => {
      other.setTimeout(0);
      other.off("close", next);
      other.once("close", () => socket.destroy());
      socket.pipe(other);
      other.pipe(socket);
    });
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => {}); // it closes
    socket.once("close", () => this.#sockets.delete(socket));
  }
}
