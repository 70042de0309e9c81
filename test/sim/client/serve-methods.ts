/**
 * The serving side of rpc/ on the simulated network: calls of a table of methods, as rpc/call.ts serves them on HTTP/2.
 * What a handler says in one run of the program goes out as one chunk, or several if it is long; status and trailers
 * are made by rpc/status.ts.
 *
 * Every call is a stream of the network, the unary ones too: the first message is the request.
 *
 * A fault (anything but a Refusal or a StatusError) fails the run: a server that answers INTERNAL has a bug.
 */
import type { Bytes } from "../../../src/lib/bytes.ts";
import { STREAM_WRITE_BYTES } from "../../../src/model/limits.ts";
import { Refusal } from "../../../src/model/refusal.ts";
import type { Logger } from "../../../src/ports.ts";
import { Code, StatusError } from "../../../src/rpc/code.ts";
import type { BidiControls, BidiHandler, Call, Method, ServedMethod } from "../../../src/rpc/method.ts";
import { grpcTrailers, statusOf } from "../../../src/rpc/status.ts";
import { parseTimeout } from "../../../src/rpc/timeout.ts";
import { CallError } from "../call-error.ts";
import type { IncomingCall, Service } from "../network.ts";
import type { Life } from "../node.ts";
import type { DuplexStream } from "../stream-call.ts";
import { chunkOf, type Fields, headersFrame, messageFrame, trailersFrame } from "./chunk.ts";

const OK_TRAILERS = trailersFrame({ "grpc-status": "0" });
const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };

/** What answers at `authority`, the `host:port` that the process listens at. */
export function serveMethods(life: Life, authority: string, methods: readonly ServedMethod[]): Service {
  const byPath = new Map<string, Method>();
  for (const { paths, method } of methods) for (const path of paths) byPath.set(path, method);
  return {
    stream: (incoming, stream) => new ServerCall(life, authority, incoming, stream).run(byPath.get(incoming.method)),
  };
}

class ServerCall implements Call, BidiControls {
  readonly authority: string;
  readonly peer: string;
  cancelled = false;
  readonly #life: Life;
  readonly #incoming: IncomingCall;
  readonly #stream: DuplexStream;
  readonly #over = Promise.withResolvers<void>();
  #headers: Record<string, string> | undefined;
  #responded = false;
  /** Frames that this run of the program has made. */
  #frames: Bytes[] = [];
  #frameBytes = 0;
  #choked = false;
  #ended = false;
  #onCancel: (() => void)[] = [];
  #stopDeadline: (() => void) | undefined;
  #resumed: (() => void) | undefined;

  constructor(life: Life, authority: string, incoming: IncomingCall, stream: DuplexStream) {
    this.authority = authority;
    this.peer = incoming.from;
    this.#life = life;
    this.#incoming = incoming;
    this.#stream = stream;
  }

  /** Resolves when the call is over, on either side. */
  run(method: Method | undefined): Promise<void> {
    void this.#stream.ended.then((error) => {
      if (error !== undefined) this.#cancel();
    });
    const [timeout] = this.header("grpc-timeout");
    const timeoutMs = timeout === undefined ? undefined : parseTimeout(timeout);
    if (timeoutMs !== undefined) this.#stopDeadline = this.#life.clock.after(timeoutMs, () => this.#expire());
    if (method === undefined)
      this.fail(new StatusError(Code.UNIMPLEMENTED, `no such method: ${this.#incoming.method}`));
    else this.#serve(method).catch((error) => this.fail(error));
    return this.#over.promise;
  }

  // --- Call -----------------------------------------------------------------------------------------------------

  header(name: string): readonly string[] {
    const value = this.#incoming.headers[name];
    return value === undefined ? [] : [value];
  }

  onCancel(callback: () => void): void {
    if (this.cancelled) callback();
    else if (!this.#ended) this.#onCancel.push(callback);
  }

  setResponseHeader(name: string, value: string): void {
    if (this.#responded) return;
    this.#headers = { ...this.#headers, [name]: value };
  }

  // --- Sink -----------------------------------------------------------------------------------------------------

  send(message: Bytes): boolean {
    if (this.#ended) return false;
    if (this.#frames.length === 0) queueMicrotask(() => this.#flush());
    if (!this.#responded && this.#headers !== undefined) this.#frames.push(headersFrame(this.#headers));
    this.#responded = true;
    this.#frames.push(messageFrame(message));
    this.#frameBytes += message.length;
    if (this.#frameBytes >= STREAM_WRITE_BYTES) this.#flush();
    return !this.#choked;
  }

  async drained(): Promise<void> {
    this.#flush();
    if (!this.#ended) await this.#stream.drained();
    if (this.#ended) throw new Refusal("ABORTED", "oxia: operation was aborted");
  }

  // --- BidiControls ---------------------------------------------------------------------------------------------

  resume(): void {
    this.#resumed?.();
  }

  end(): void {
    this.#finish(OK_TRAILERS);
  }

  fail(error: unknown): void {
    if (!(error instanceof Refusal) && !(error instanceof StatusError)) this.#life.node.scheduler.fail(error);
    const trailers: Fields = grpcTrailers(statusOf(error, this.#incoming.method, silent));
    this.#finish(trailersFrame(trailers));
  }

  // --- inside ---------------------------------------------------------------------------------------------------

  async #serve(method: Method): Promise<void> {
    if (method.kind === "bidi") {
      await this.#take(method.open(this, this));
      return;
    }
    const request = (await this.#next()) as Bytes | undefined;
    if (this.#ended) return;
    if (request === undefined) throw new StatusError(Code.UNIMPLEMENTED, "no request message");
    if (method.kind === "unary") this.send(await method.handle(request, this));
    else {
      const handled = method.handle(request, this, this);
      if (handled !== undefined) await handled;
    }
    this.end();
  }

  async #take(handler: BidiHandler): Promise<void> {
    for (;;) {
      const request = (await this.#next()) as Bytes | undefined;
      if (this.#ended) return;
      if (request === undefined) {
        handler.end();
        return;
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#resumed = resolve; // before the handler runs, so that it can resume at once
      if (!handler.message(request)) await promise;
      if (this.#ended) return;
    }
  }

  /** The next request; undefined at the end, also when the call is cancelled. */
  async #next(): Promise<unknown> {
    try {
      return await this.#stream.next();
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      this.#cancel();
      return undefined;
    }
  }

  #flush(): void {
    if (this.#frames.length === 0) return;
    const chunk = chunkOf(this.#frames);
    this.#frames = [];
    this.#frameBytes = 0;
    if (this.#stream.send(chunk) || this.#choked) return;
    this.#choked = true;
    void this.#stream.drained().then(() => {
      this.#choked = false;
    });
  }

  #finish(trailers: Bytes): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#stopDeadline?.();
    this.#frames.push(trailers);
    this.#flush();
    this.#resumed?.();
    this.#over.resolve();
  }

  #expire(): void {
    if (this.#ended) return;
    this.cancelled = true;
    this.fail(new StatusError(Code.DEADLINE_EXCEEDED, "deadline exceeded"));
    this.#runCancelCallbacks();
  }

  #cancel(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.cancelled = true;
    this.#frames = [];
    this.#stopDeadline?.();
    this.#runCancelCallbacks();
    this.#resumed?.();
    this.#over.resolve();
  }

  #runCancelCallbacks(): void {
    const callbacks = this.#onCancel;
    this.#onCancel = [];
    for (const callback of callbacks) callback();
  }
}
