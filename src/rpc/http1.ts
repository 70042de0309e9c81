/**
 * HTTP/1.1 connections of the public port: hands their requests on, and ends those that are idle for too long or take
 * too long over a request. (A server that is given its sockets enforces none of node's own timeouts under Bun.)
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { HTTP1_IDLE_MS, HTTP1_REQUEST_MS_MAX } from "../model/limits.ts";
import type { Clock } from "../ports.ts";

interface State {
  /** Requests whose response is not out. Clients may send the next before. */
  active: number;
  /** Requests of which the body is not all in. */
  receiving: number;
  /** Since when the connection is idle, or receives its request. */
  sinceMs: number;
}

export class Http1Connections {
  readonly #server: Server;
  readonly #clock: Clock;
  readonly #states = new Map<Socket, State>();
  #closing = false;

  /** `headerBytesMax`: of one request; past it the answer is 431. */
  constructor(
    clock: Clock,
    headerBytesMax: number,
    serve: (request: IncomingMessage, response: ServerResponse) => void,
  ) {
    this.#clock = clock;
    this.#server = createServer({ maxHeaderSize: headerBytesMax, keepAliveTimeout: HTTP1_IDLE_MS });
    this.#server.on("request", (request: IncomingMessage, response: ServerResponse) => {
      this.#track(request, response);
      serve(request, response);
    });
    this.#server.on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => {
      const status = error.code === "HPE_HEADER_OVERFLOW" ? "431 Request Header Fields Too Large" : "400 Bad Request";
      if (socket.writable) socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      else socket.destroy();
    });
  }

  /** Takes over a socket; its first bytes were put back. */
  accept(socket: Socket): void {
    this.#states.set(socket, { active: 0, receiving: 0, sinceMs: this.#clock.monotonicMs() });
    socket.on("close", () => this.#states.delete(socket));
    this.#server.emit("connection", socket);
  }

  /** Ends what has been idle, or has been sending one request, for too long. */
  sweep(nowMs: number): void {
    for (const [socket, state] of this.#states) {
      const ms = nowMs - state.sinceMs;
      if ((state.active === 0 && ms > HTTP1_IDLE_MS) || (state.receiving > 0 && ms > HTTP1_REQUEST_MS_MAX)) {
        socket.destroy();
      }
    }
  }

  /** Ends idle connections, and the others once they are idle. */
  close(): void {
    this.#closing = true;
    for (const [socket, { active }] of this.#states) if (active === 0) socket.destroy();
  }

  #track(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    const state = this.#states.get(socket);
    if (state === undefined) return;
    state.active++;
    state.receiving++;
    state.sinceMs = this.#clock.monotonicMs();
    let receiving = true;
    const received = () => {
      if (receiving) state.receiving--;
      receiving = false;
    };
    request.on("end", received);
    request.on("error", received);
    if (this.#closing) response.setHeader("connection", "close");
    response.on("close", () => {
      received();
      state.active--;
      state.sinceMs = this.#clock.monotonicMs();
      if (this.#closing && state.active === 0) socket.end();
    });
  }
}
