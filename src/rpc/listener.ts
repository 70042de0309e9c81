/**
 * One public port for native gRPC (h2c), gRPC-Web and Connect over HTTP/1.1 and HTTP/2.
 *
 *     net server -> first bytes -> "PRI " -> http2 server -> stream -> application/grpc -> http2.ts
 *                                    |                                    `--- else ----> connect.ts
 *                                    `-- else -> http server -> request ---------------> connect.ts
 *
 * A socket's first bytes are read with `readable` and put back with `unshift` before the socket is handed over with
 * `connection`. Limits of HTTP/2 are set on purpose (model/limits.ts): Bun's defaults end the connections of clients
 * that cancel much or read large replies in parallel. `setLocalWindowSize` is never called: it stalls a stream for good.
 *
 * Source: architecture.md, Serving; protocol.md §1.2.
 */
import {
  constants,
  createServer as createHttp2Server,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import {
  CONNECTIONS_MAX,
  HANDSHAKE_MS_MAX,
  HEADER_BYTES_MAX,
  KEEPALIVE_MIN_INTERVAL_MS,
  MESSAGE_BYTES_DEFAULT,
  REQUEST_BYTES_IN_FLIGHT_DEFAULT,
  STREAMS_PER_CONNECTION_MAX,
  TCP_KEEPALIVE_MS,
} from "../model/limits.ts";
import type { Clock, Logger } from "../ports.ts";
import { RequestBudget } from "./budget.ts";
import { ConnectRoutes } from "./connect.ts";
import { Connection } from "./connection.ts";
import { Http1Connections } from "./http1.ts";
import { isNativeGrpc, type NativePorts, routesOf, serveNative } from "./http2.ts";
import { gatherWrites, http2Options } from "./http2-session.ts";
import { PingPolicy } from "./keepalive.ts";
import type { ServedMethod } from "./method.ts";
import { IncompleteRequests } from "./request.ts";
import type { RpcStats } from "./stats.ts";

export interface ListenerLimits {
  /** Bytes of one request message. */
  readonly messageBytesMax: number;
  readonly connectionsMax: number;
  readonly streamsPerConnectionMax: number;
  /** Bytes of the headers of one request. */
  readonly headerBytesMax: number;
  /** Time from accepting a connection to its first bytes, and to the client's SETTINGS. */
  readonly handshakeMsMax: number;
  readonly keepaliveMinIntervalMs: number;
}

export interface ListenerOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly methods: readonly ServedMethod[];
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits?: Partial<ListenerLimits>;
  /** Bytes of requests in flight on this node; pass one to all listeners. By default one of this listener's own. */
  readonly budget?: RequestBudget;
}

export interface Listener {
  readonly host: string;
  readonly port: number;
  /** Open connections. */
  connections(): number;
  stats(): RpcStats;
  /** Takes no more connections and calls, lets open calls end for up to `graceMs`, then cuts what is left. */
  close(options: { readonly graceMs: number }): Promise<void>;
}

/** A budget of request bytes; one message always fits. */
export function requestBudget(bytesMax: number, messageBytesMax: number): RequestBudget {
  return new RequestBudget(Math.max(bytesMax, messageBytesMax));
}

/** Time between two looks for requests that take too long. */
const SWEEP_MS = 5_000;
/** How the client's connection preface begins; no HTTP/1 request does. */
const HTTP2_PREFACE_START = "PRI ";

/** Starts to listen; rejects when the address cannot be had. */
export async function startListener(options: ListenerOptions): Promise<Listener> {
  const server = new RpcServer(options);
  await server.listen(options.host, options.port);
  return server;
}

interface Session extends ServerHttp2Session {
  connection: Connection;
}

class RpcServer implements Listener {
  host = "";
  port = 0;
  readonly #clock: Clock;
  readonly #limits: ListenerLimits;
  readonly #native: NativePorts;
  readonly #connect: ConnectRoutes;
  readonly #front: Server;
  readonly #http1: Http1Connections;
  readonly #http2: Http2Server;
  readonly #sockets = new Set<Socket>();
  readonly #sessions = new Set<ServerHttp2Session>();
  #stopSweep: () => void;
  #allClosed: (() => void) | undefined;

  constructor(options: ListenerOptions) {
    const { clock, logger } = options;
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    const { messageBytesMax } = limits;
    this.#clock = clock;
    this.#limits = limits;
    this.#native = {
      clock,
      logger,
      routes: routesOf(options.methods),
      budget: options.budget ?? requestBudget(REQUEST_BYTES_IN_FLIGHT_DEFAULT, messageBytesMax),
      messageBytesMax,
      incomplete: new IncompleteRequests(clock.monotonicMs()),
    };
    this.#connect = new ConnectRoutes(this.#native);
    this.#http1 = new Http1Connections(clock, limits.headerBytesMax, (request, response) => {
      this.#connect.http1(request, response);
    });
    this.#http2 = createHttp2Server(http2Options(limits));
    this.#http2.on("session", (session) => this.#onSession(session as Session));
    this.#http2.on("stream", onStream.bind(undefined, this.#native, this.#connect));
    this.#http2.on("sessionError", ignore); // it ends with its connection; its calls are cancelled
    this.#front = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: TCP_KEEPALIVE_MS });
    this.#front.on("connection", (socket) => this.#accept(socket));
    this.#stopSweep = this.#sweepLater();
  }

  listen(host: string, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#front.once("error", reject);
      this.#front.listen({ host, port }, () => {
        this.#front.off("error", reject);
        this.#front.on("error", (error) => {
          this.#native.logger.warn({ component: "rpc", err: error }, "accepting a connection failed");
        });
        const address = this.#front.address() as AddressInfo;
        this.host = address.address;
        this.port = address.port;
        resolve();
      });
    });
  }

  connections(): number {
    return this.#sockets.size;
  }

  stats(): RpcStats {
    return {
      methods: [...this.#native.routes.values()].map(({ stats }) => stats),
      connections: this.#sockets.size,
      requestBytesInFlight: this.#native.budget.used,
    };
  }

  async close({ graceMs }: { readonly graceMs: number }): Promise<void> {
    this.#front.close();
    this.#stopSweep();
    for (const session of this.#sessions) session.close();
    this.#http1.close();
    if (this.#sockets.size > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#allClosed = resolve;
      const stopGrace = this.#clock.after(graceMs, () => this.#cut());
      await promise;
      stopGrace();
    }
  }

  #cut(): void {
    for (const session of this.#sessions) session.destroy();
    for (const socket of this.#sockets) socket.destroy();
  }

  #accept(socket: Socket): void {
    if (this.#sockets.size >= this.#limits.connectionsMax) {
      socket.destroy();
      return;
    }
    this.#sockets.add(socket);
    socket.on("error", ignore); // it is closed as well
    const stopHandshake = this.#clock.after(this.#limits.handshakeMsMax, () => socket.destroy());
    socket.on("close", () => {
      stopHandshake();
      this.#sockets.delete(socket);
      if (this.#sockets.size === 0) this.#allClosed?.();
    });
    sniff(socket, (isHttp2) => {
      if (!isHttp2) {
        stopHandshake();
        this.#http1.accept(socket);
        return;
      }
      this.#http2.once("session", (session) => session.once("remoteSettings", stopHandshake));
      this.#http2.emit("connection", socket);
    });
  }

  #onSession(session: Session): void {
    const pings = new PingPolicy(this.#limits.keepaliveMinIntervalMs);
    const connection = new Connection(session.socket.remoteAddress ?? "", pings);
    session.connection = connection;
    gatherWrites(session);
    this.#sessions.add(session);
    session.on("close", () => this.#sessions.delete(session));
    session.on("ping", () => {
      if (pings.ping(this.#clock.monotonicMs(), connection.unsent > 0) || session.destroyed) return;
      session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM, 0, TOO_MANY_PINGS);
      session.destroy();
    });
    if (this.#allClosed !== undefined) session.close();
  }

  #sweepLater(): () => void {
    return this.#clock.after(SWEEP_MS, () => {
      const nowMs = this.#clock.monotonicMs();
      this.#native.incomplete.sweep(nowMs);
      this.#http1.sweep(nowMs);
      this.#stopSweep = this.#sweepLater();
    });
  }
}

/** Looks at the first bytes of a socket, puts them back, and says once whether they begin HTTP/2. */
function sniff(socket: Socket, decided: (isHttp2: boolean) => void): void {
  let held: Buffer | undefined;
  const look = () => {
    const bytes: Buffer | null = socket.read();
    if (bytes === null) return;
    // what does not decide yet is held here: put back at once, it would be `readable` again at once
    held = held === undefined ? bytes : Buffer.concat([held, bytes]);
    const start = held.toString("latin1", 0, HTTP2_PREFACE_START.length);
    if (start.length < HTTP2_PREFACE_START.length && HTTP2_PREFACE_START.startsWith(start)) return;
    socket.off("readable", look);
    socket.unshift(held);
    decided(start === HTTP2_PREFACE_START);
  };
  socket.on("readable", look);
}

function onStream(
  native: NativePorts,
  connect: ConnectRoutes,
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  _flags: number,
  raw: readonly string[],
): void {
  const session = stream.session as Session | undefined;
  if (session === undefined) return; // destroyed while its frames were read
  const { connection } = session;
  if (isNativeGrpc(headers["content-type"])) serveNative(native, connection, stream, headers, raw);
  else connect.http2(stream, headers, raw, connection);
}

const DEFAULT_LIMITS: ListenerLimits = {
  messageBytesMax: MESSAGE_BYTES_DEFAULT,
  connectionsMax: CONNECTIONS_MAX,
  streamsPerConnectionMax: STREAMS_PER_CONNECTION_MAX,
  headerBytesMax: HEADER_BYTES_MAX,
  handshakeMsMax: HANDSHAKE_MS_MAX,
  keepaliveMinIntervalMs: KEEPALIVE_MIN_INTERVAL_MS,
};
const TOO_MANY_PINGS = Buffer.from("too_many_pings");

function ignore(): void {}
